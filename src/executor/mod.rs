//! The executor: walks a plan's candidates until one answers. The only layer that retries.
//!
//! Candidates are asked in their order, each failure falling back to the next. When all have failed in ways
//! that may pass, another round begins after a backoff, at most [`Policy::retries`] times, each extra attempt
//! paid from the retry budget. Nothing is retried once the first semantic delta is out.
//!
//! - [`attempt`]: one call to one deployment, up to its first semantic delta.
//! - [`live`]: a stream past that point.

mod attempt;
mod live;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::answer::Answer;
use crate::error::{Attempt, Error, ErrorKind, Result};
use crate::provider::Cell;
use crate::query::Query;
use crate::resilience::{Backoff, Budget, HedgeConfig};
use crate::telemetry;

pub use attempt::Committed;
pub(crate) use live::collect;

/// How persistent the executor is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Rounds after the first, 0..=10.
    pub retries: u32,
    /// The pause before each of them.
    pub backoff: Backoff,
    /// Retries per call that the budget allows, 0..=1.
    pub retry_ratio: f64,
    /// When to send a second call because the first is slow.
    pub hedge: HedgeConfig,
    /// Hedges per call that the budget allows, 0..=1.
    pub hedge_ratio: f64,
}

/// The executor. One per orchestrator: its budgets count all calls.
pub struct Executor {
    policy: ArcSwap<Policy>,
    retries: Mutex<Budget>,
    hedges: Mutex<Budget>,
    epoch: Instant,
}

/// What came of a plan.
pub struct Executed {
    /// The answer, or its stream.
    pub committed: Committed,
    /// Who gave it.
    pub cell: Arc<Cell>,
    /// Every call made, the last one included.
    pub attempts: Vec<Attempt>,
    /// Time spent waiting for upstreams and between rounds, which is not our overhead.
    pub elsewhere: Duration,
}

impl Executed {
    /// The whole answer, its stream read to the end.
    pub async fn whole(self) -> Result<(Answer, Arc<Cell>, Vec<Attempt>)> {
        match self.committed {
            Committed::Whole(answer) => Ok((answer, self.cell, self.attempts)),
            Committed::Stream(deltas) => {
                let answer = live::collect(deltas).await?;
                Ok((answer, self.cell, self.attempts))
            }
        }
    }
}

/// The attempts and failures so far.
#[derive(Default)]
struct Trail {
    attempts: Vec<Attempt>,
    errors: Vec<Error>,
    elsewhere: Duration,
}

impl Trail {
    fn note(&mut self, cell: &Cell, started: Instant, error: Option<&Error>) {
        let took = started.elapsed();
        self.elsewhere += took;
        self.attempts.push(Attempt {
            deployment: cell.deployment.load().id.clone(),
            outcome: error.map_or("ok", |error| error.kind().name()),
            ms: took.as_secs_f64() * 1e3,
            status: error
                .and_then(Error::upstream)
                .map(|upstream| upstream.status),
            error: error.map(|error| error.message().to_owned()),
        });
    }

    fn into_error(self) -> Error {
        Error::most_useful(self.errors)
            .unwrap_or_else(|| Error::new(ErrorKind::NoCandidate, "no deployment is left to ask"))
            .with_attempts(self.attempts)
    }
}

impl Executor {
    /// An executor that has made no calls; `epoch` is the zero of the budgets' clocks.
    pub fn new(policy: Policy, epoch: Instant) -> Self {
        Self {
            retries: Mutex::new(Budget::new(policy.retry_ratio, RETRY_FLOOR)),
            hedges: Mutex::new(Budget::new(policy.hedge_ratio, HEDGE_FLOOR)),
            policy: ArcSwap::from_pointee(policy),
            epoch,
        }
    }

    /// Applies a new policy; the budgets start anew.
    pub fn configure(&self, policy: Policy) {
        *self.retries.lock() = Budget::new(policy.retry_ratio, RETRY_FLOOR);
        *self.hedges.lock() = Budget::new(policy.hedge_ratio, HEDGE_FLOOR);
        self.policy.store(Arc::new(policy));
    }

    /// Walks `candidates` until one answers. `stream` says that the caller takes deltas, and so that an answer
    /// counts as begun with its first one; otherwise the answer is whole when this returns.
    ///
    /// Dropping the future cancels the call under way.
    ///
    /// # Errors
    /// The most useful of the failures, with all attempts in it.
    pub async fn run(
        &self,
        candidates: &[Arc<Cell>],
        query: &Arc<Query>,
        stream: bool,
        deadline: Instant,
    ) -> Result<Executed> {
        let policy = **self.policy.load();
        self.retries.lock().deposit(self.epoch.elapsed());
        let mut trail = Trail::default();
        let mut alive: Vec<Arc<Cell>> = candidates.to_vec();
        let mut pause = None;
        for round in 0..=policy.retries {
            if round > 0
                && !self
                    .pause(round, pause, deadline, &policy, &mut trail)
                    .await
            {
                break;
            }
            let mut again = Vec::new();
            let mut soonest: Option<Duration> = None;
            for (index, cell) in alive.iter().enumerate() {
                if round > 0 {
                    if !self.retries.lock().try_withdraw(self.epoch.elapsed()) {
                        break;
                    }
                    telemetry::retried();
                }
                // Only who has nobody else to ask waits for a place.
                let wait = round > 0 || index + 1 == alive.len();
                let others = &alive[index + 1..];
                match self
                    .try_one(
                        cell, others, query, stream, wait, deadline, &policy, &mut trail,
                    )
                    .await
                {
                    Ok((committed, cell)) => {
                        let Trail {
                            attempts,
                            elsewhere,
                            ..
                        } = trail;
                        return Ok(Executed {
                            committed,
                            cell,
                            attempts,
                            elsewhere,
                        });
                    }
                    Err(error) => {
                        let kind = error.kind();
                        if kind.retryable() {
                            again.push(Arc::clone(cell));
                            let after = error.retry_after().unwrap_or(Duration::ZERO);
                            soonest = Some(soonest.map_or(after, |soonest| soonest.min(after)));
                        }
                        trail.errors.push(error);
                        if !kind.fallbackable() {
                            return Err(last_first(trail));
                        }
                    }
                }
            }
            alive = again;
            pause = soonest;
            if alive.is_empty() {
                break;
            }
        }
        Err(trail.into_error())
    }

    /// Sleeps before round `round`; false if the deadline would come first.
    async fn pause(
        &self,
        round: u32,
        retry_after: Option<Duration>,
        deadline: Instant,
        policy: &Policy,
        trail: &mut Trail,
    ) -> bool {
        let delay = policy.backoff.delay(round - 1, rand::random(), retry_after);
        if Instant::now() + delay >= deadline {
            return false;
        }
        trail.elsewhere += delay;
        sleep(delay).await;
        true
    }

    /// One attempt, and a hedge beside it if that is allowed and the first is slow.
    #[allow(
        clippy::too_many_arguments,
        reason = "one caller; a struct would only rename them"
    )]
    async fn try_one(
        &self,
        cell: &Arc<Cell>,
        others: &[Arc<Cell>],
        query: &Arc<Query>,
        stream: bool,
        wait: bool,
        deadline: Instant,
        policy: &Policy,
        trail: &mut Trail,
    ) -> Result<(Committed, Arc<Cell>)> {
        let started = Instant::now();
        let first = attempt::attempt(cell, query, stream, wait, deadline);
        let backup = others.first().filter(|_| policy.hedge.enabled);
        let Some(backup) = backup else {
            let result = first.await;
            trail.note(cell, started, result.as_ref().err());
            return result.map(|committed| (committed, Arc::clone(cell)));
        };
        self.hedges.lock().deposit(self.epoch.elapsed());
        let ttft = cell.snapshot.load().latency.ttft;
        let p95 = ttft.quantile(0.95).map(Duration::from_secs_f64);
        let Some(delay) = policy.hedge.delay(p95, ttft.evidence() as u32) else {
            let result = first.await;
            trail.note(cell, started, result.as_ref().err());
            return result.map(|committed| (committed, Arc::clone(cell)));
        };
        tokio::pin!(first);
        tokio::select! {
            result = &mut first => {
                trail.note(cell, started, result.as_ref().err());
                return result.map(|committed| (committed, Arc::clone(cell)));
            }
            () = sleep(delay) => {}
        }
        if !self.hedges.lock().try_withdraw(self.epoch.elapsed()) {
            let result = first.await;
            trail.note(cell, started, result.as_ref().err());
            return result.map(|committed| (committed, Arc::clone(cell)));
        }
        telemetry::hedged();
        let hedged = Instant::now();
        let second = attempt::attempt(backup, query, stream, false, deadline);
        tokio::pin!(second);
        // The first to succeed wins and the other is dropped; a failure leaves the field to the other.
        tokio::select! {
            result = &mut first => {
                trail.note(cell, started, result.as_ref().err());
                if let Ok(committed) = result {
                    trail.note(backup, hedged, Some(&Error::new(ErrorKind::Cancelled, "the first call answered")));
                    return Ok((committed, Arc::clone(cell)));
                }
                let result = second.await;
                trail.note(backup, hedged, result.as_ref().err());
                result.map(|committed| (committed, Arc::clone(backup)))
            }
            result = &mut second => {
                trail.note(backup, hedged, result.as_ref().err());
                if let Ok(committed) = result {
                    trail.note(cell, started, Some(&Error::new(ErrorKind::Cancelled, "the hedge answered")));
                    return Ok((committed, Arc::clone(backup)));
                }
                let result = first.await;
                trail.note(cell, started, result.as_ref().err());
                result.map(|committed| (committed, Arc::clone(cell)))
            }
        }
    }
}

/// Retries a window allows to traffic too thin for its share to be one.
const RETRY_FLOOR: u32 = 10;
/// The same for hedges.
const HEDGE_FLOOR: u32 = 1;

/// The error that ended the walk, whatever others came before it.
fn last_first(mut trail: Trail) -> Error {
    match trail.errors.pop() {
        Some(error) => error.with_attempts(trail.attempts),
        None => trail.into_error(),
    }
}
