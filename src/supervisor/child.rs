//! How to start a child, when to restart it, how long it may take to stop.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ractor::{Actor, ActorCell, SpawnErr};
use tokio::time::Instant;

use super::{Address, ExitReason, Heartbeat};

/// When a child that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    Permanent,
    /// When it ended by a fault.
    Transient,
    /// Never.
    Temporary,
}

impl Restart {
    /// Whether a child that ended for `reason` is started again.
    pub fn applies(self, reason: &ExitReason) -> bool {
        match self {
            Self::Permanent => true,
            Self::Transient => reason.is_fault(),
            Self::Temporary => false,
        }
    }
}

pub(super) type Start =
    Arc<dyn Fn(String, ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync>;

/// A child of a supervisor.
#[derive(Clone)]
pub struct ChildSpec {
    pub(super) name: String,
    pub(super) restart: Restart,
    pub(super) shutdown: Duration,
    pub(super) start: Start,
    pub(super) ping: Arc<dyn Fn(Instant) + Send + Sync>,
}

impl ChildSpec {
    /// A permanent child with five seconds to stop. `name` is unique among its siblings; `make` yields the
    /// actor and its arguments anew for each incarnation. Its `pre_start` runs inside the supervisor, so it
    /// must be quick and wait for nobody.
    pub fn new<A, F>(name: impl Into<String>, address: Address<A::Msg>, make: F) -> Self
    where
        A: Actor,
        A::Msg: Heartbeat,
        F: Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    {
        let pinged = address.clone();
        let make = Arc::new(make);
        Self {
            name: name.into(),
            restart: Restart::Permanent,
            shutdown: Duration::from_secs(5),
            start: Arc::new(move |name, supervisor| {
                let make = Arc::clone(&make);
                let address = address.clone();
                Box::pin(async move {
                    let (actor, arguments) = make();
                    let (actor, _) =
                        Actor::spawn_linked(Some(name), actor, arguments, supervisor).await?;
                    address.occupy(actor.clone());
                    Ok(actor.get_cell())
                })
            }),
            ping: Arc::new(move |at| {
                // A child that is down cannot be late.
                let _ = pinged.send(A::Msg::ping(at));
            }),
        }
    }

    /// When to restart it.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// How long it may take to stop before it is killed.
    pub fn shutdown(mut self, within: Duration) -> Self {
        self.shutdown = within;
        self
    }
}
