//! What everybody holds of a deployment: how to reach its actor, and what the actor last published.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::actor::{Ended, Judgement, Knock, Message, Report};
use super::{Deployment, Health, Provider, Schooling, Snapshot};
use crate::error::{Error, ErrorKind, Result};
use crate::query::Query;
use crate::resilience::{BreakerConfig, Ticket};
use crate::supervisor::Address;
use crate::telemetry;

/// One deployment as the router and the executor see it. It outlives its actor's incarnations.
pub struct Cell {
    /// The configuration; replaced by a reload.
    pub deployment: ArcSwap<Deployment>,
    /// The breaker's configuration; replaced by a reload.
    pub breaker: ArcSwap<BreakerConfig>,
    /// Who makes the calls; replaced by a reload.
    pub provider: ArcSwap<Arc<dyn Provider>>,
    /// What the actor last published.
    pub snapshot: ArcSwap<Snapshot>,
    /// What the learning of all deployments shares.
    pub schooling: Arc<Schooling>,
    /// Where the actor is.
    pub(super) address: Address<Message>,
    /// Its metrics.
    pub(super) meters: telemetry::DeploymentMeters,
    places: Places,
    /// Calls whose answers come whole, and streams.
    silences: [Silence; 2],
    epoch: Instant,
}

/// Calls from which on a latency counts as known.
const KNOWN: f64 = 20.0;
/// So many calls without a sign of life are not one long answer.
const QUIET_CALLS: u32 = 3;
/// … after at least so long.
pub(super) const QUIET: Duration = Duration::from_secs(2);

/// Calls of one kind that have given no sign of life yet.
#[derive(Default)]
struct Silence {
    calls: AtomicU32,
    /// When one last gave a sign, or began where there was none; milliseconds since the epoch.
    sign: AtomicU64,
}

impl Silence {
    fn give_sign(&self, now: Duration) {
        self.sign.store(now.as_millis() as u64, Ordering::Relaxed);
    }

    fn begin(&self, now: Duration) {
        if self.calls.load(Ordering::Relaxed) == 0 {
            self.give_sign(now);
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// How long several have been silent; `None` for fewer.
    fn of(&self, now: Duration) -> Option<Duration> {
        let sign = Duration::from_millis(self.sign.load(Ordering::Relaxed));
        (self.calls.load(Ordering::Relaxed) >= QUIET_CALLS).then(|| now.saturating_sub(sign))
    }
}

/// Who may call at once. Taken without asking the actor while there is room and nobody waits.
struct Places {
    taken: AtomicU32,
    /// `u32::MAX` for none.
    limit: AtomicU32,
    /// Callers that wait at the actor, and are to be served first.
    waiting: AtomicUsize,
}

impl Places {
    fn take(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let more = |taken| (taken < limit).then_some(taken + 1);
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, more)
            .is_ok()
    }
}

impl Cell {
    /// A deployment about to be started, with what was learned of it before.
    pub fn new(
        deployment: Deployment,
        breaker: BreakerConfig,
        provider: Arc<dyn Provider>,
        learned: Snapshot,
        schooling: Arc<Schooling>,
        epoch: Instant,
    ) -> Arc<Self> {
        let places = Places {
            taken: AtomicU32::new(0),
            limit: AtomicU32::new(deployment.limits.max_in_flight.unwrap_or(u32::MAX)),
            waiting: AtomicUsize::new(0),
        };
        Arc::new(Self {
            meters: telemetry::DeploymentMeters::new(&deployment),
            deployment: ArcSwap::from_pointee(deployment),
            breaker: ArcSwap::from_pointee(breaker),
            provider: ArcSwap::from_pointee(provider),
            snapshot: ArcSwap::from_pointee(learned),
            schooling,
            address: Address::vacant(),
            places,
            silences: Default::default(),
            epoch,
        })
    }

    /// Goes on under a new configuration. A credential that was refused may be a new one now.
    pub(super) fn configure(
        &self,
        deployment: Deployment,
        breaker: BreakerConfig,
        provider: Arc<dyn Provider>,
    ) {
        self.deployment.store(Arc::new(deployment));
        self.breaker.store(Arc::new(breaker));
        self.provider.store(Arc::new(provider));
        let _ = self.address.send(Message::Configured);
    }

    /// Calls under way.
    pub fn in_flight(&self) -> u32 {
        self.places.taken.load(Ordering::Relaxed)
    }

    /// Takes a place for one more call, if there is one.
    pub(super) fn occupy(self: &Arc<Self>) -> Option<Place> {
        self.places.take().then(|| Place(Arc::clone(self)))
    }

    /// Whether it can be asked now. Besides what its actor knows, this sees at once that several calls are under way
    /// and none has given a sign of life for far longer than usual.
    pub fn health(&self) -> Health {
        let snapshot = self.snapshot.load();
        let health = snapshot.health(self.now());
        if health != Health::Ready {
            return health;
        }
        let latency = &snapshot.latency;
        let quiet = [&latency.total, &latency.ttft]
            .into_iter()
            .zip(&self.silences)
            .find_map(|(usual, silence)| {
                // Nothing is unusual of a stranger.
                let usual = usual.quantile(0.99).filter(|_| usual.evidence() >= KNOWN)?;
                let longest = Duration::from_secs_f64(3.0 * usual).max(QUIET);
                silence.of(self.now()).filter(|quiet| *quiet >= longest)
            });
        let Some(quiet) = quiet else { return health };
        let why = format!("no sign of life for {:.1} s", quiet.as_secs_f64());
        Health::Resting { why, rest: QUIET }
    }

    /// So many calls may run at once from now on, and so many callers wait for a place.
    pub(super) fn limit(&self, calls: Option<u32>, waiting: usize) {
        let limit = calls.unwrap_or(u32::MAX);
        self.places.limit.store(limit, Ordering::Relaxed);
        self.places.waiting.store(waiting, Ordering::Relaxed);
    }

    /// Leave to call at once, where the actor could not say anything else: it lives, the deployment is well, nothing is
    /// counted by the minute, there is room and nobody waits for it.
    fn walk_in(self: &Arc<Self>, tokens: u32) -> Option<Guard> {
        let limits = self.deployment.load().limits;
        let metered = limits.requests_per_minute.is_some() || limits.tokens_per_minute.is_some();
        if metered || !self.address.is_occupied() || self.places.waiting.load(Ordering::Relaxed) > 0
        {
            return None;
        }
        let ticket = self.snapshot.load().pass(self.now())?;
        Some(Guard::new(self.occupy()?, ticket, tokens))
    }

    /// Brings its gauge of calls under way up to date.
    pub(crate) fn gauge(&self) {
        self.meters.in_flight(self.in_flight());
    }

    /// Time since the orchestrator's start, as the automata count it.
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Asks for leave to make a call of about `tokens` tokens for `query`. The actor is asked where its answer is in
    /// doubt; who has to wait for a place does so by lane and user.
    ///
    /// # Errors
    /// [`BreakerOpen`](ErrorKind::BreakerOpen), [`RateLimited`](ErrorKind::RateLimited),
    /// [`Auth`](ErrorKind::Auth) while disabled, [`Deadline`](ErrorKind::Deadline).
    pub async fn admit(
        self: &Arc<Self>,
        query: &Query,
        tokens: u32,
        want: Want,
        deadline: Instant,
    ) -> Result<Guard> {
        if let Some(guard) = self.walk_in(tokens) {
            return Ok(guard);
        }
        Box::pin(self.knock(query, tokens, want, deadline)).await
    }

    /// Has the actor decide.
    async fn knock(
        &self,
        query: &Query,
        tokens: u32,
        want: Want,
        deadline: Instant,
    ) -> Result<Guard> {
        let (reply, answer) = oneshot::channel();
        let knock = Knock {
            user: query.user.clone(),
            lane: query.lane,
            tokens,
            want,
            reply,
        };
        self.address
            .send(Message::Admit(knock))
            .map_err(|_| restarting())?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(granted)) => granted,
            Ok(Err(_)) => Err(restarting()),
            Err(_) => Err(Error::deadline("waiting for a place at the deployment")),
        }
    }

    /// A judgement of an earlier answer.
    pub fn judge(&self, judgement: Judgement) {
        let _ = self.address.send(Message::Judged(judgement));
    }

    /// Takes over learned state from elsewhere, in place of its own, and returns when it is published.
    pub async fn restore(&self, learned: Snapshot) {
        let (reply, done) = oneshot::channel();
        let message = Message::Restored(Box::new(learned.clone()), reply);
        if self.address.send(message).is_err() || done.await.is_err() {
            // Nobody is there; the next actor begins with what is published.
            let known = self.snapshot.load().with_learned(learned);
            self.snapshot.store(Arc::new(known));
            self.schooling.changed();
        }
    }

    #[doc(hidden)]
    pub fn poison(&self) {
        let _ = self.address.send(Message::Poison);
    }
}

/// How much somebody wants to call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// A deployment whose calls in flight are at their limit lets the caller wait its turn until the deadline, and does
    /// not refuse.
    pub wait: bool,
    /// Nobody else can serve the query: a breaker that lets nobody through lets such a one through now and then.
    pub alone: bool,
}

fn restarting() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the deployment's actor is being restarted",
    )
}

/// One place among the calls of a deployment. It is free again when this drops.
pub(super) struct Place(Arc<Cell>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.places.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The leave to make one call. What [`Guard::report`] was told, or nothing, reaches the actor when it drops.
pub struct Guard {
    /// Given back before the actor hears of it, so that it finds the place free.
    place: Option<Place>,
    cell: Arc<Cell>,
    ticket: Ticket,
    tokens: u32,
    began: Duration,
    /// Which of the silences it is part of, until it gives a sign of life.
    silent: Option<usize>,
    report: Report,
}

impl Guard {
    pub(super) fn new(place: Place, ticket: Ticket, tokens: u32) -> Self {
        let cell = Arc::clone(&place.0);
        Self {
            place: Some(place),
            ticket,
            tokens,
            began: cell.now(),
            silent: None,
            report: Report::Neutral,
            cell,
        }
    }

    /// The call is made: a sign of life is waited for.
    pub(crate) fn listen(&mut self, stream: bool) {
        let kind = usize::from(stream);
        self.cell.silences[kind].begin(self.cell.now());
        self.silent = Some(kind);
    }

    /// It is waited for no longer; `sign` says that it came.
    pub(crate) fn heard(&mut self, sign: bool) {
        if let Some(kind) = self.silent.take() {
            let silence = &self.cell.silences[kind];
            silence.calls.fetch_sub(1, Ordering::Relaxed);
            if sign {
                silence.give_sign(self.cell.now());
            }
        }
    }

    /// Says how the call ended. The last word counts; silence is neutral.
    pub fn report(&mut self, report: Report) {
        self.report = report;
    }

    /// The deployment it is for.
    pub fn cell(&self) -> &Arc<Cell> {
        &self.cell
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let in_flight = self.cell.in_flight();
        drop(self.place.take());
        let silent = |kind| {
            matches!(
                kind,
                ErrorKind::Timeout
                    | ErrorKind::Connect
                    | ErrorKind::Deadline
                    | ErrorKind::Cancelled
            )
        };
        self.heard(match &self.report {
            Report::Success { .. } => true,
            Report::Failure(error) => !silent(error.kind()),
            Report::Neutral => false,
        });
        let report = std::mem::replace(&mut self.report, Report::Neutral);
        self.cell.meters.attempt_ended(match &report {
            Report::Success { .. } => None,
            Report::Failure(error) => Some(error.kind()),
            Report::Neutral => Some(ErrorKind::Cancelled),
        });
        let _ = self.cell.address.send(Message::Ended(Ended {
            ticket: self.ticket,
            tokens: self.tokens,
            began: self.began,
            in_flight,
            report,
        }));
    }
}
