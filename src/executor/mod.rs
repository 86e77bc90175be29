//! The executor: walks a plan's candidates until one answers. The only layer that retries.
//!
//! Candidates are asked in their order, each failure falling back to the next. When all have failed in ways
//! that may pass, another round begins after a backoff, at most [`Policy::retries`] times, each extra attempt
//! paid from its deployment's retry budget. Nothing is retried once the first semantic delta is out.
//!
//! - `rounds`: what comes after a round that nobody answered, pure.
//! - `attempt`: one call to one deployment, up to its first semantic delta.
//! - `live`: a stream past that point.
//! - `contained`: a provider that panics while it is dropped.

mod attempt;
mod contained;
mod live;
mod rounds;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::time::{Instant, sleep};

use crate::answer::Answer;
use crate::error::{Attempt, Error, ErrorKind, Result};
use crate::id::DeploymentId;
use crate::provider::{Cell, Want};
use crate::query::Query;
use crate::resilience::{Backoff, Budget, HedgeConfig};
use crate::telemetry;

use rounds::{Next, Pause, Round, Rounds};

pub use attempt::Committed;
pub(crate) use attempt::panicked;
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

/// The executor. One per orchestrator: its budgets count all calls of a deployment.
pub struct Executor {
    policy: ArcSwap<Policy>,
    retries: Budgets,
    hedges: Budgets,
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
    /// This round called somebody, and did not only ask for leave.
    called: bool,
    /// Whom calling again is to be paid for. Not one that said it has too many calls: its pause and its limit hold the
    /// next back.
    owed: Vec<Arc<Cell>>,
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

    /// A call has failed.
    fn lose(&mut self, cell: &Arc<Cell>, error: Error) {
        if !held_back(&error) {
            self.called = true;
            if error.kind() != ErrorKind::RateLimited {
                self.owed.push(Arc::clone(cell));
            }
        }
        self.errors.push(error);
    }

    /// How far it goes by now.
    fn mark(&self) -> (usize, usize) {
        (self.attempts.len(), self.errors.len())
    }

    /// What came after `mark` is asked again at once, and told of only then.
    fn forget(&mut self, (attempts, errors): (usize, usize)) {
        self.attempts.truncate(attempts);
        self.errors.truncate(errors);
    }

    /// Notes how a call ended.
    fn settle(
        &mut self,
        cell: &Arc<Cell>,
        started: Instant,
        result: Result<Committed>,
    ) -> Result<(Committed, Arc<Cell>)> {
        self.note(cell, started, result.as_ref().err());
        result.map(|committed| (committed, Arc::clone(cell)))
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
            retries: Budgets::default(),
            hedges: Budgets::default(),
            policy: ArcSwap::from_pointee(policy),
            epoch,
        }
    }

    /// Applies a new policy; the budgets start anew.
    pub fn configure(&self, policy: Policy) {
        self.retries.0.clear();
        self.hedges.0.clear();
        self.policy.store(Arc::new(policy));
    }

    /// Walks `candidates` until one answers. `stream` says that the caller takes deltas, and so that an answer
    /// counts as begun with its first one; otherwise the answer is whole when this returns. `sole` says that nobody but
    /// these can serve the query: if breakers hold all of them back, one may be a probe before its time.
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
        sole: bool,
        deadline: Instant,
    ) -> Result<Executed> {
        let policy = **self.policy.load();
        let mut trail = Trail::default();
        let mut alive: Vec<Arc<Cell>> = candidates.to_vec();
        let mut rounds = Rounds::new(policy.retries, sole);
        loop {
            let owed = std::mem::take(&mut trail.owed);
            trail.called = false;
            let mark = trail.mark();
            let mut again = Vec::new();
            let mut round = Round::default();
            for (index, cell) in alive.iter().enumerate() {
                if rounds.is_first() {
                    self.retries.deposit(
                        cell,
                        policy.retry_ratio,
                        RETRY_FLOOR,
                        self.epoch.elapsed(),
                    );
                } else if is_among(&owed, cell) {
                    // Paid for when it is made: most retries end with the first candidate.
                    let now = self.epoch.elapsed();
                    if !self
                        .retries
                        .withdraw(cell, policy.retry_ratio, RETRY_FLOOR, now)
                    {
                        continue;
                    }
                    telemetry::retried();
                }
                let last = !rounds.is_first() || index + 1 == alive.len();
                let turn = Turn {
                    cell,
                    backup: alive.get(index + 1),
                    query,
                    stream,
                    // Only who has nobody else to ask waits for a place.
                    want: Want {
                        wait: last,
                        alone: rounds.is_alone(),
                    },
                    last,
                    deadline,
                };
                match self.try_one(turn, &policy, &mut trail).await {
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
                        let barred = kind == ErrorKind::BreakerOpen;
                        if kind.retryable() || barred {
                            again.push(Arc::clone(cell));
                            // The cool-down that the same answer started is up to a tenth longer.
                            let after = error.retry_after().unwrap_or(Duration::ZERO).mul_f64(1.1);
                            let soonest = if barred {
                                &mut round.unbarred
                            } else {
                                &mut round.soonest
                            };
                            *soonest = Some(soonest.map_or(after, |soonest| soonest.min(after)));
                        }
                        trail.lose(cell, error);
                        if !kind.fallbackable() {
                            return Err(last_first(trail));
                        }
                    }
                }
            }
            round.called = trail.called;
            alive = again;
            match rounds.after(round) {
                Next::Alone => {
                    if !round.called {
                        trail.forget(mark);
                    }
                }
                Next::After(pause) => {
                    let now = self.epoch.elapsed();
                    alive.retain(|cell| {
                        !is_among(&trail.owed, cell)
                            || self.retries.is_affordable(
                                cell,
                                policy.retry_ratio,
                                RETRY_FLOOR,
                                now,
                            )
                    });
                    if alive.is_empty() || !self.pause(pause, deadline, &policy, &mut trail).await {
                        return Err(trail.into_error());
                    }
                }
                Next::End => return Err(trail.into_error()),
            }
        }
    }

    /// Waits before a round; false if the deadline would come first.
    async fn pause(
        &self,
        pause: Pause,
        deadline: Instant,
        policy: &Policy,
        trail: &mut Trail,
    ) -> bool {
        let backoff = |asked| {
            policy
                .backoff
                .delay(pause.rounds - 1, rand::random(), asked)
        };
        let delay = if pause.apart {
            pause.asked.unwrap_or_default() + backoff(None)
        } else {
            backoff(pause.asked)
        };
        if Instant::now() + delay >= deadline {
            return false;
        }
        trail.elsewhere += delay;
        sleep(delay).await;
        true
    }

    /// One attempt, and a hedge beside it if that is allowed and the first is slow.
    async fn try_one(
        &self,
        turn: Turn<'_>,
        policy: &Policy,
        trail: &mut Trail,
    ) -> Result<(Committed, Arc<Cell>)> {
        let started = Instant::now();
        let first = turn.ask(turn.cell, turn.want);
        tokio::pin!(first);
        let hedge = async {
            sleep(self.hedge_after(&turn, policy)?).await;
            let backup = turn.backup?;
            let now = self.epoch.elapsed();
            self.hedges
                .withdraw(backup, policy.hedge_ratio, HEDGE_FLOOR, now)
                .then_some(backup)
        };
        // Without a hedge the first call is all there is.
        let hedge = async {
            match hedge.await {
                Some(backup) => backup,
                None => std::future::pending().await,
            }
        };
        let backup = tokio::select! {
            biased;
            result = &mut first => return trail.settle(turn.cell, started, result),
            backup = hedge => backup,
        };
        telemetry::hedged();
        let hedged = Instant::now();
        // Seldom needed, and as large as the first.
        let mut second = Box::pin(turn.ask(backup, Want::default()));
        // The first to succeed wins and the other is dropped; a failure leaves the field to the other.
        tokio::select! {
            result = &mut first => match trail.settle(turn.cell, started, result) {
                Ok(won) => {
                    trail.note(backup, hedged, Some(&lost()));
                    Ok(won)
                }
                Err(error) => {
                    trail.lose(turn.cell, error);
                    trail.settle(backup, hedged, second.await)
                }
            },
            result = &mut second => match trail.settle(backup, hedged, result) {
                Ok(won) => {
                    trail.note(turn.cell, started, Some(&lost()));
                    Ok(won)
                }
                Err(error) => {
                    trail.lose(backup, error);
                    trail.settle(turn.cell, started, first.await)
                }
            },
        }
    }

    /// How long the first call may be silent before a second is sent; `None` for never.
    fn hedge_after(&self, turn: &Turn<'_>, policy: &Policy) -> Option<Duration> {
        let backup = turn.backup.filter(|_| policy.hedge.enabled)?;
        self.hedges.deposit(
            backup,
            policy.hedge_ratio,
            HEDGE_FLOOR,
            self.epoch.elapsed(),
        );
        let ttft = turn.cell.snapshot.load().latency.ttft;
        let p95 = ttft.quantile(0.95).map(Duration::from_secs_f64);
        policy.hedge.delay(p95, ttft.evidence() as u32)
    }
}

/// How long a deployment may be silent before a whole answer of it is given up.
pub(crate) fn patience(cell: &Cell) -> Duration {
    let timeouts = cell.deployment.load().timeouts;
    attempt::patience(&timeouts, &cell.snapshot.load().latency, false, false)
}

fn is_among(cells: &[Arc<Cell>], cell: &Arc<Cell>) -> bool {
    cells.iter().any(|one| Arc::ptr_eq(one, cell))
}

/// Whether it was our own limit or breaker that spoke, and nobody was called.
fn held_back(error: &Error) -> bool {
    let ours = matches!(
        error.kind(),
        ErrorKind::RateLimited | ErrorKind::BreakerOpen
    );
    ours && error.upstream().is_none()
}

fn lost() -> Error {
    Error::new(ErrorKind::Cancelled, "another call answered first")
}

/// One candidate's turn.
struct Turn<'a> {
    cell: &'a Arc<Cell>,
    /// Who may be hedged to.
    backup: Option<&'a Arc<Cell>>,
    query: &'a Arc<Query>,
    stream: bool,
    want: Want,
    /// Nobody else is left, or everybody was asked before.
    last: bool,
    deadline: Instant,
}

impl Turn<'_> {
    async fn ask(&self, cell: &Arc<Cell>, want: Want) -> Result<Committed> {
        let (stream, last) = (self.stream, self.last);
        attempt::attempt(cell, self.query, stream, want, last, self.deadline).await
    }
}

/// A budget per deployment: a storm of retries on one must not use up another's.
#[derive(Default)]
struct Budgets(DashMap<DeploymentId, Budget>);

impl Budgets {
    fn with<T>(
        &self,
        cell: &Cell,
        ratio: f64,
        floor: u32,
        act: impl FnOnce(&mut Budget) -> T,
    ) -> T {
        let deployment = cell.deployment.load();
        if let Some(mut budget) = self.0.get_mut(&deployment.id) {
            return act(&mut budget);
        }
        act(&mut self
            .0
            .entry(deployment.id.clone())
            .or_insert_with(|| Budget::new(ratio, floor)))
    }

    fn deposit(&self, cell: &Cell, ratio: f64, floor: u32, now: Duration) {
        self.with(cell, ratio, floor, |budget| budget.deposit(now));
    }

    fn is_affordable(&self, cell: &Cell, ratio: f64, floor: u32, now: Duration) -> bool {
        self.with(cell, ratio, floor, |budget| budget.left(now) > 0)
    }

    fn withdraw(&self, cell: &Cell, ratio: f64, floor: u32, now: Duration) -> bool {
        self.with(cell, ratio, floor, |budget| budget.try_withdraw(now))
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
