//! The guard of an admitted query, and the desk where it is given out and taken back.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::actor::{Message, Occupancy, Waiter};
use crate::fair_queue::{FairQueue, Limits};
use crate::id::UserId;
use crate::supervisor::Address;

/// The right of one query to run. It returns when dropped, on every way a query can end.
pub struct Permit {
    user: UserId,
    since: Instant,
    desk: Desk,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let held = self.since.elapsed();
        let someone_waits = {
            let mut queue = self.desk.queue();
            queue.release_after(&self.user, held);
            queue.waiting() > 0
        };
        let held = held.as_secs_f64();
        let before = self.desk.held();
        let mean = before + 0.05 * (held - before);
        self.desk.0.held.store(mean.to_bits(), Ordering::Relaxed);
        self.desk.0.returned.fetch_add(1, Ordering::Relaxed);
        if someone_waits {
            let _ = self.desk.0.address.send(Message::Serve);
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.user).finish()
    }
}

/// What admission stands on: who is in, and who waits. It outlives the dispatcher actor, so that a crash neither
/// frees nor loses a place. Who need not wait takes a permit here and never meets the actor.
#[derive(Clone)]
pub(super) struct Desk(Arc<Inner>);

struct Inner {
    queue: Mutex<FairQueue<UserId, Waiter>>,
    /// Decayed mean of how long a permit is held, the bits of seconds: what a refused caller is told to wait is
    /// made of it. Two that return at once may count as one.
    held: AtomicU64,
    /// Permits that have come back.
    returned: AtomicU64,
    closed: AtomicBool,
    epoch: Instant,
    address: Address<Message>,
}

impl Desk {
    pub fn new(address: Address<Message>, limits: Limits) -> Self {
        Self(Arc::new(Inner {
            queue: Mutex::new(FairQueue::new(limits)),
            held: AtomicU64::new(1f64.to_bits()),
            returned: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            epoch: Instant::now(),
            address,
        }))
    }

    /// The queue, locked: for a few steps that wait for nobody.
    pub fn queue(&self) -> MutexGuard<'_, FairQueue<UserId, Waiter>> {
        self.0.queue.lock()
    }

    /// The time that the queue goes by.
    pub fn now(&self) -> Duration {
        self.0.epoch.elapsed()
    }

    /// A permit for a user who need not wait for it.
    pub fn enter(&self, user: &UserId) -> Option<Permit> {
        let enters = !self.is_closed() && self.queue().start(user);
        enters.then(|| self.permit(user.clone()))
    }

    /// The permit of a user for whom the queue has counted one.
    pub fn permit(&self, user: UserId) -> Permit {
        Permit {
            user,
            since: Instant::now(),
            desk: self.clone(),
        }
    }

    /// The same, once enough of them have come back to know.
    pub fn usually_held(&self) -> Option<f64> {
        const KNOWN: u64 = 50;
        (self.0.returned.load(Ordering::Relaxed) >= KNOWN).then(|| self.held())
    }

    /// How long a permit is held on average, in seconds.
    pub fn held(&self) -> f64 {
        f64::from_bits(self.0.held.load(Ordering::Relaxed))
    }

    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }

    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    pub fn occupancy(&self) -> Occupancy {
        let queue = self.queue();
        Occupancy {
            in_use: queue.in_use() as usize,
            waiting: std::array::from_fn(|lane| queue.depth(lane)),
        }
    }
}
