//! Where to reach an actor across its restarts.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use ractor::{ActorRef, ActorStatus, MessagingErr};
use tokio::time::Instant;

/// A message that measures how long the mailbox is: the actor notes the age of it when it gets to it.
pub trait Heartbeat: Sized {
    /// A ping sent at `at`.
    fn ping(at: Instant) -> Self;
}

/// The current incarnation of a supervised actor. Cheap to clone; a read costs an atomic load.
pub struct Address<M: ractor::Message>(Arc<ArcSwapOption<ActorRef<M>>>);

impl<M: ractor::Message> Address<M> {
    /// An address nobody lives at yet.
    pub fn vacant() -> Self {
        Self(Arc::new(ArcSwapOption::empty()))
    }

    /// Moves the address to a new incarnation; called by the supervisor's start function.
    pub(crate) fn occupy(&self, actor: ActorRef<M>) {
        self.0.store(Some(Arc::new(actor)));
    }

    /// Whether an incarnation lives here that takes messages.
    pub fn is_occupied(&self) -> bool {
        let takes = |status| status <= ActorStatus::Upgrading;
        self.0
            .load()
            .as_ref()
            .is_some_and(|actor| takes(actor.get_status()))
    }

    /// Sends `message`, or gives it back when nobody is there: the actor is being restarted or has stopped.
    pub fn send(&self, message: M) -> Result<(), M> {
        let guard = self.0.load();
        let Some(actor) = guard.as_ref() else {
            return Err(message);
        };
        match actor.send_message(message) {
            Err(MessagingErr::SendErr(message)) => Err(message),
            // The type is right by construction, and a send never reports a closed channel.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl<M: ractor::Message> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: ractor::Message> std::fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let actor = self.0.load();
        f.debug_tuple("Address")
            .field(&actor.as_ref().map(|actor| actor.get_id()))
            .finish()
    }
}
