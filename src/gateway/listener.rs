//! The actor that holds a door open.
//!
//! Started by the supervisor of the listeners. Owns the task of the accept loop, nothing else: connections are
//! tasks of their own and outlive it. If the loop ends or panics, the actor fails and is restarted.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use crate::supervisor::task::{self, AbortOnDrop};
use crate::supervisor::{Address, ChildSpec, Heartbeat};
use crate::telemetry;

/// Makes an accept loop anew for each incarnation.
pub(super) type Loop = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// A listening socket that survives its accept loop's restarts, until the doors close.
pub(super) struct Slot<T>(Arc<Mutex<Option<Arc<T>>>>);

impl<T> Slot<T> {
    pub fn new(listener: T) -> Self {
        Self(Arc::new(Mutex::new(Some(Arc::new(listener)))))
    }

    pub fn get(&self) -> Option<Arc<T>> {
        self.0.lock().clone()
    }

    /// Closes it as soon as its loop has let go.
    pub fn close(&self) {
        self.0.lock().take();
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

pub(super) enum Message {
    /// The loop is over.
    Ended,
    /// See [`Heartbeat`].
    Ping(Instant),
}

impl Heartbeat for Message {
    fn ping(at: Instant) -> Self {
        Self::Ping(at)
    }
}

struct ListenerActor {
    path: String,
    accept: Loop,
}

pub(super) fn child(name: &'static str, accept: Loop) -> ChildSpec {
    ChildSpec::new(name, Address::vacant(), move || {
        let accept = Arc::clone(&accept);
        (
            ListenerActor {
                path: format!("root/listeners/{name}"),
                accept,
            },
            (),
        )
    })
}

/// Tells the actor when the loop is over, a panic included.
struct Tell(ActorRef<Message>);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.send_message(Message::Ended);
    }
}

impl Actor for ListenerActor {
    type Msg = Message;
    type State = AbortOnDrop;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        (): (),
    ) -> Result<AbortOnDrop, ActorProcessingErr> {
        let accept = (self.accept)();
        Ok(AbortOnDrop(task::spawn(async move {
            let _tell = Tell(myself);
            accept.await;
        })))
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        _: &mut AbortOnDrop,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Ended => Err("the accept loop ended".into()),
            Message::Ping(at) => {
                telemetry::mailbox_delay(&self.path, at.elapsed());
                Ok(())
            }
        }
    }
}
