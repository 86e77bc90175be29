//! The ensembler actor.
//!
//! Started by the root supervisor. Owns the lives of the running ensembles: they end when it does. An ensemble runs in
//! the task of its query, so that a caller that leaves ends it, and members' answers wake nobody else.

use std::sync::Arc;

use arc_swap::ArcSwap;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::supervisor::{Address, ChildSpec, Heartbeat};
use crate::telemetry;

pub(super) enum Message {
    /// See [`Heartbeat`].
    Ping(Instant),
    /// Panic, to test what happens then.
    Poison,
}

impl Heartbeat for Message {
    fn ping(at: Instant) -> Self {
        Self::Ping(at)
    }
}

/// The life of the actor's current incarnation; cancelled when that ends.
#[derive(Clone)]
pub(super) struct Life(Arc<ArcSwap<CancellationToken>>);

impl Life {
    /// Nobody lives yet.
    pub fn unborn() -> Self {
        let token = CancellationToken::new();
        token.cancel();
        Self(Arc::new(ArcSwap::from_pointee(token)))
    }

    /// The one of now.
    pub fn current(&self) -> Arc<CancellationToken> {
        self.0.load_full()
    }
}

pub(super) struct EnsemblerActor {
    path: String,
    life: Life,
}

pub(super) fn child(path: &str, address: Address<Message>, life: Life) -> ChildSpec {
    let path = path.to_owned();
    ChildSpec::new("ensembler", address, move || {
        let actor = EnsemblerActor {
            path: path.clone(),
            life: life.clone(),
        };
        (actor, ())
    })
}

impl Actor for EnsemblerActor {
    type Msg = Message;
    type State = DropGuard;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        (): (),
    ) -> Result<DropGuard, ActorProcessingErr> {
        let token = CancellationToken::new();
        self.life.0.store(Arc::new(token.clone()));
        Ok(token.drop_guard())
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        _: &mut DropGuard,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Ping(at) => telemetry::mailbox_delay(&self.path, at.elapsed()),
            #[allow(clippy::panic, reason = "the purpose of this message")]
            Message::Poison => panic!("poisoned"),
        }
        Ok(())
    }
}
