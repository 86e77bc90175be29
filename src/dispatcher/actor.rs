//! The dispatcher actor.
//!
//! Started by the root supervisor. Serves those who must wait: it has the fair queue decide whose turn it is, and
//! answers them. The queue itself lies at the desk, which outlives it; who need not wait is let in there. Messages: a
//! knock, a leave, a place that became free, new limits, the closing of the doors. Tokens and answers never pass
//! here.

use std::collections::HashMap;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::permit::{Desk, Permit};
use crate::error::{Error, ErrorKind, Result};
use crate::fair_queue::{LANES, Limits, Submitted};
use crate::id::UserId;
use crate::query::Lane;
use crate::supervisor::{Address, ChildSpec, Heartbeat};
use crate::telemetry;

/// What the dispatcher is told.
pub enum Message {
    /// Somebody knocks.
    Admit(Waiter),
    /// Who knocked with this number has left.
    Leave(u64),
    /// A permit is back, and somebody waits.
    Serve,
    /// New limits.
    Configure(Limits),
    /// Close the doors.
    Close,
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

/// Somebody who knocks.
pub struct Waiter {
    pub knock: u64,
    pub user: UserId,
    pub lane: Lane,
    pub deadline: Instant,
    pub reply: oneshot::Sender<Result<Permit>>,
}

/// Who is in and who waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Occupancy {
    /// Queries admitted and not yet ended.
    pub in_use: usize,
    /// Queries waiting, per lane: urgent, normal, batch.
    pub waiting: [usize; LANES],
}

pub(super) struct DispatcherActor {
    path: String,
    address: Address<Message>,
    desk: Desk,
}

pub(super) fn child(path: &str, address: Address<Message>, desk: Desk) -> ChildSpec {
    let path = path.to_owned();
    ChildSpec::new("dispatcher", address.clone(), move || {
        let actor = DispatcherActor {
            path: path.clone(),
            address: address.clone(),
            desk: desk.clone(),
        };
        (actor, ())
    })
}

#[derive(Default)]
pub(super) struct State {
    /// Knocks that wait, by the queue's ticket.
    tickets: HashMap<u64, u64>,
}

impl DispatcherActor {
    fn admit(&self, waiter: Waiter, state: &mut State) {
        if self.desk.is_closed() {
            return refuse(waiter, "shutting down", Duration::from_secs(1));
        }
        let (user, lane, knock) = (waiter.user.clone(), waiter.lane as usize, waiter.knock);
        let (of, deadline) = (user.clone(), waiter.deadline);
        let submitted = self
            .desk
            .queue()
            .submit(user, lane, self.desk.now(), waiter);
        match submitted {
            Submitted::Started(waiter) => self.grant(waiter),
            Submitted::Queued { ticket, displaced } => {
                if let Some(wait) = self.hopeless(&of, lane, deadline) {
                    let left = self.desk.queue().cancel(ticket);
                    if let Some(waiter) = left {
                        let why = "it would not be started before its deadline";
                        refuse(waiter, why, wait);
                    }
                } else {
                    state.tickets.insert(knock, ticket);
                    self.set_lateness(ticket, deadline);
                }
                if let Some((_, waiter)) = displaced {
                    state.tickets.remove(&waiter.knock);
                    let why = "the queue is full and you have the most waiting in it";
                    refuse(waiter, why, self.wait());
                }
            }
            Submitted::Refused(waiter) => refuse(waiter, "the queue is full", self.wait()),
        }
    }

    /// Hands out a permit that the queue has counted. If its receiver has gone, it drops and comes back.
    fn grant(&self, waiter: Waiter) {
        let permit = self.desk.permit(waiter.user);
        let late = waiter.deadline <= Instant::now();
        let _ = waiter.reply.send(if late {
            Err(Error::deadline("waiting for a permit"))
        } else {
            Ok(permit)
        });
    }

    fn serve(&self, state: &mut State) {
        loop {
            // The lock is let go before a permit can drop.
            let started = self.desk.queue().next(self.desk.now());
            let Some(started) = started else { return };
            state.tickets.remove(&started.item.knock);
            self.grant(started.item);
        }
    }

    /// How long the last entry of `user` waits at least, if that is past its deadline: it is told at once, and does
    /// not take the turn of one that can make it.
    fn hopeless(&self, user: &UserId, lane: usize, deadline: Instant) -> Option<Duration> {
        let held = Duration::from_secs_f64(self.desk.usually_held()?);
        let wait = self.desk.queue().least_wait(user, lane, held);
        (wait > deadline.saturating_duration_since(Instant::now()))
            .then(|| wait.clamp(Duration::from_secs(1), Duration::from_secs(60)))
    }

    /// Has an entry go last once less time is left to it than twice what queries usually take, though never before half
    /// its own time is over: it may be a short one.
    fn set_lateness(&self, ticket: u64, deadline: Instant) {
        let Some(held) = self.desk.usually_held() else {
            return;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let late = left.saturating_sub(Duration::from_secs_f64(2.0 * held));
        let at = self.desk.now() + late.max(left / 2);
        self.desk.queue().late_from(ticket, at);
    }

    /// How long until a place is free, roughly.
    fn wait(&self) -> Duration {
        let (places, waiting) = {
            let queue = self.desk.queue();
            (queue.limits().total.max(1), queue.waiting())
        };
        let turns = waiting as f64 / f64::from(places);
        Duration::from_secs_f64((turns * self.desk.held()).clamp(1.0, 60.0))
    }
}

fn refuse(waiter: Waiter, why: &str, after: Duration) {
    let error = Error::new(ErrorKind::Overloaded, why).with_retry_after(Some(after));
    let _ = waiter.reply.send(Err(error));
}

impl Actor for DispatcherActor {
    type Msg = Message;
    type State = State;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        (): (),
    ) -> Result<State, ActorProcessingErr> {
        self.address.occupy(myself);
        // Who waited at an earlier incarnation was told so when its knocks went with it.
        drop(self.desk.queue().drain());
        Ok(State::default())
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Admit(waiter) => self.admit(waiter, state),
            Message::Leave(knock) => {
                let ticket = state.tickets.remove(&knock);
                let left = ticket.and_then(|ticket| self.desk.queue().cancel(ticket));
                drop(left);
            }
            Message::Serve => {}
            Message::Configure(limits) => self.desk.queue().reconfigure(limits),
            Message::Close => {
                let waiting = self.desk.queue().drain();
                for waiter in waiting {
                    refuse(waiter, "shutting down", Duration::from_secs(1));
                }
                state.tickets.clear();
            }
            Message::Ping(at) => telemetry::mailbox_delay(&self.path, at.elapsed()),
            #[allow(clippy::panic, reason = "the purpose of this message")]
            Message::Poison => panic!("poisoned"),
        }
        self.serve(state);
        let Occupancy { in_use, waiting } = self.desk.occupancy();
        telemetry::admission(in_use, waiting);
        Ok(())
    }
}
