//! The ensembler actor.
//!
//! Started by the root supervisor. Owns the tasks of the running ensembles: they end when it does. Messages: an
//! ensemble to run. Members' calls and answers stay in the tasks; a caller that leaves ends its task.

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use super::vectors::Vectors;
use super::{Job, Merged, fan_out};
use crate::error::Result;
use crate::supervisor::{Address, ChildSpec, Heartbeat};
use crate::telemetry;

pub(super) enum Message {
    /// Run an ensemble.
    Run(Box<Job>, oneshot::Sender<Result<Merged>>),
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

pub(super) struct EnsemblerActor {
    path: String,
    vectors: Vectors,
}

pub(super) fn child(path: &str, address: Address<Message>) -> ChildSpec {
    let path = path.to_owned();
    // A restarted actor goes on with what is loaded.
    let vectors = Vectors::default();
    ChildSpec::new("ensembler", address, move || {
        let actor = EnsemblerActor {
            path: path.clone(),
            vectors: vectors.clone(),
        };
        (actor, ())
    })
}

/// Runs one ensemble until it ends or nobody waits for it any more.
async fn serve(job: Job, vectors: Vectors, mut reply: oneshot::Sender<Result<Merged>>) {
    let merged = tokio::select! {
        merged = fan_out::run(job, &vectors) => merged,
        () = reply.closed() => return,
    };
    // Who left in this moment cancels a stream by dropping it.
    let _ = reply.send(merged);
}

impl Actor for EnsemblerActor {
    type Msg = Message;
    type State = JoinSet<()>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        (): (),
    ) -> Result<JoinSet<()>, ActorProcessingErr> {
        Ok(JoinSet::new())
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        running: &mut JoinSet<()>,
    ) -> Result<(), ActorProcessingErr> {
        while running.try_join_next().is_some() {}
        match message {
            Message::Run(job, reply) => {
                let vectors = self.vectors.clone();
                running.spawn(serve(*job, vectors, reply).in_current_span());
            }
            Message::Ping(at) => telemetry::mailbox_delay(&self.path, at.elapsed()),
            #[allow(clippy::panic, reason = "the purpose of this message")]
            Message::Poison => panic!("poisoned"),
        }
        Ok(())
    }
}
