//! The dispatcher actor.
//!
//! Started by the root supervisor. Owns the fair queue and the reply ports of who waits; what is out is kept
//! in the register, which outlives it. Messages: a knock, a leave, a permit's return, new limits, the closing
//! of the doors. Tokens and answers never pass here.

use std::collections::HashMap;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::fair_queue::{FairQueue, LANES, Limits, Submitted};
use super::permit::{Permit, Register};
use crate::error::{Error, ErrorKind, Result};
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
    /// A permit is back.
    Release {
        /// Which.
        id: u64,
        /// How long it was out.
        held: Duration,
    },
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
    register: Register,
}

pub(super) fn child(path: &str, address: Address<Message>, register: Register) -> ChildSpec {
    let path = path.to_owned();
    ChildSpec::new("dispatcher", address.clone(), move || {
        let actor = DispatcherActor {
            path: path.clone(),
            address: address.clone(),
            register: register.clone(),
        };
        (actor, ())
    })
}

pub(super) struct State {
    epoch: Instant,
    queue: FairQueue<UserId, Waiter>,
    /// Knocks that wait, by the queue's ticket.
    tickets: HashMap<u64, u64>,
    /// Permits that are out, as far as this incarnation knows.
    out: HashMap<u64, UserId>,
    /// Decayed mean of how long a permit is held, seconds: what a refused caller is told to wait is made of it.
    held: f64,
}

impl DispatcherActor {
    fn admit(&self, waiter: Waiter, state: &mut State) {
        if self.register.is_closed() {
            return refuse(waiter, "shutting down", Duration::from_secs(1));
        }
        let (user, lane, knock) = (waiter.user.clone(), waiter.lane as usize, waiter.knock);
        match state
            .queue
            .submit(user, lane, state.epoch.elapsed(), waiter)
        {
            Submitted::Started(waiter) => self.grant(waiter, state),
            Submitted::Queued { ticket, displaced } => {
                state.tickets.insert(knock, ticket);
                if let Some((_, waiter)) = displaced {
                    state.tickets.remove(&waiter.knock);
                    refuse(
                        waiter,
                        "the queue is full and you have the most waiting in it",
                        state.wait(),
                    );
                }
            }
            Submitted::Refused(waiter) => refuse(waiter, "the queue is full", state.wait()),
        }
    }

    /// Hands out a permit. If its receiver has gone, the permit drops and comes back as a message.
    fn grant(&self, waiter: Waiter, state: &mut State) {
        if waiter.deadline <= Instant::now() {
            state.queue.release(&waiter.user);
            let _ = waiter
                .reply
                .send(Err(Error::deadline("waiting for a permit")));
            return;
        }
        let (id, permit) = self.register.grant(waiter.user.clone());
        state.out.insert(id, waiter.user);
        let _ = waiter.reply.send(Ok(permit));
    }

    fn start_waiting(&self, state: &mut State) {
        while let Some(started) = state.queue.next(state.epoch.elapsed()) {
            state.tickets.remove(&started.item.knock);
            self.grant(started.item, state);
        }
    }
}

impl State {
    /// How long until a place is free, roughly.
    fn wait(&self) -> Duration {
        let places = self.queue.limits().total.max(1);
        let turns = self.queue.waiting() as f64 / f64::from(places);
        Duration::from_secs_f64((turns * self.held).clamp(1.0, 60.0))
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
        // Reachable before the register is read: a permit that returns meanwhile is either not registered any
        // more, or its message waits in the new mailbox. Both orders end in the same count.
        self.address.occupy(myself);
        let mut queue = FairQueue::new(self.register.limits());
        let mut out = HashMap::new();
        for (id, user) in self.register.out() {
            queue.restore(user.clone(), 1);
            out.insert(id, user);
        }
        Ok(State {
            epoch: Instant::now(),
            queue,
            tickets: HashMap::new(),
            out,
            held: 1.0,
        })
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
                if let Some(ticket) = state.tickets.remove(&knock) {
                    state.queue.cancel(ticket);
                }
            }
            Message::Release { id, held } => {
                if let Some(user) = state.out.remove(&id) {
                    state.queue.release(&user);
                    state.held += 0.05 * (held.as_secs_f64() - state.held);
                }
            }
            Message::Configure(limits) => state.queue.reconfigure(limits),
            Message::Close => {
                for waiter in state.queue.drain() {
                    refuse(waiter, "shutting down", Duration::from_secs(1));
                }
                state.tickets.clear();
            }
            Message::Ping(at) => telemetry::mailbox_delay(&self.path, at.elapsed()),
            #[allow(clippy::panic, reason = "the purpose of this message")]
            Message::Poison => panic!("poisoned"),
        }
        self.start_waiting(state);
        let depths = std::array::from_fn(|lane| state.queue.depth(lane));
        let occupancy = Occupancy {
            in_use: state.queue.in_use() as usize,
            waiting: depths,
        };
        if self.register.occupancy() != occupancy {
            self.register.publish(occupancy);
            telemetry::admission(occupancy.in_use, depths);
        }
        Ok(())
    }
}
