//! What everybody holds of a deployment: how to reach its actor, and what the actor last published.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::actor::{Judgement, Message, Report};
use super::{Deployment, Provider, Schooling, Snapshot};
use crate::error::{Error, ErrorKind, Result};
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
    in_flight: AtomicU32,
    epoch: Instant,
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
        Arc::new(Self {
            deployment: ArcSwap::from_pointee(deployment),
            breaker: ArcSwap::from_pointee(breaker),
            provider: ArcSwap::from_pointee(provider),
            snapshot: ArcSwap::from_pointee(learned),
            schooling,
            address: Address::vacant(),
            in_flight: AtomicU32::new(0),
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
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Time since the orchestrator's start, as the automata count it.
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Asks the actor for leave to make a call of about `tokens` tokens.
    ///
    /// With `wait`, a deployment whose calls in flight are at their limit lets the caller wait its turn until
    /// `deadline`; without, it refuses.
    ///
    /// # Errors
    /// [`BreakerOpen`](ErrorKind::BreakerOpen), [`RateLimited`](ErrorKind::RateLimited),
    /// [`Auth`](ErrorKind::Auth) while disabled, [`Deadline`](ErrorKind::Deadline).
    pub async fn admit(
        self: &Arc<Self>,
        tokens: u32,
        wait: bool,
        deadline: Instant,
    ) -> Result<Guard> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Admit {
            tokens,
            wait,
            reply,
        };
        self.address.send(message).map_err(|_| restarting())?;
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

fn restarting() -> Error {
    Error::new(
        ErrorKind::Internal,
        "the deployment's actor is being restarted",
    )
}

/// The leave to make one call. What [`Guard::report`] was told, or nothing, reaches the actor when it drops.
pub struct Guard {
    cell: Arc<Cell>,
    ticket: Ticket,
    tokens: u32,
    report: Report,
}

impl Guard {
    pub(super) fn new(cell: Arc<Cell>, ticket: Ticket, tokens: u32) -> Self {
        let calls = cell.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        telemetry::in_flight(cell.deployment.load().id.as_str(), calls);
        Self {
            cell,
            ticket,
            tokens,
            report: Report::Neutral,
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
        let calls = self.cell.in_flight.fetch_sub(1, Ordering::Relaxed) - 1;
        telemetry::in_flight(self.cell.deployment.load().id.as_str(), calls);
        let report = std::mem::replace(&mut self.report, Report::Neutral);
        let outcome = match &report {
            Report::Success { .. } => "ok",
            Report::Failure(error) => error.kind().name(),
            Report::Neutral => ErrorKind::Cancelled.name(),
        };
        telemetry::attempt_ended(self.cell.deployment.load().id.as_str(), outcome);
        let _ = self.cell.address.send(Message::Ended {
            ticket: self.ticket,
            tokens: self.tokens,
            report,
        });
    }
}
