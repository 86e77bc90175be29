//! The guard of an admitted query, and the register of all that are out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use tokio::time::Instant;

use super::actor::{Message, Occupancy};
use super::fair_queue::Limits;
use crate::id::UserId;
use crate::supervisor::Address;

/// The right of one query to run. It returns when dropped, on every way a query can end.
pub struct Permit {
    id: u64,
    since: Instant,
    register: Register,
}

impl Drop for Permit {
    fn drop(&mut self) {
        // The register first: a dispatcher that restarts between the two lines counts what is registered.
        self.register.0.out.remove(&self.id);
        let _ = self.register.0.address.send(Message::Release {
            id: self.id,
            held: self.since.elapsed(),
        });
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.id).finish()
    }
}

/// Which permits are out. It outlives the dispatcher actor, which starts from it after a crash, so that a
/// crash neither frees nor loses a place.
#[derive(Clone)]
pub(super) struct Register(Arc<Inner>);

struct Inner {
    out: DashMap<u64, UserId>,
    next: AtomicU64,
    closed: AtomicBool,
    limits: ArcSwap<Limits>,
    occupancy: ArcSwap<Occupancy>,
    address: Address<Message>,
}

impl Register {
    pub fn new(address: Address<Message>, limits: Limits) -> Self {
        Self(Arc::new(Inner {
            out: DashMap::new(),
            next: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            limits: ArcSwap::from_pointee(limits),
            occupancy: ArcSwap::default(),
            address,
        }))
    }

    pub fn grant(&self, user: UserId) -> (u64, Permit) {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.out.insert(id, user);
        (
            id,
            Permit {
                id,
                since: Instant::now(),
                register: self.clone(),
            },
        )
    }

    /// Every permit that is out, with its user.
    pub fn out(&self) -> Vec<(u64, UserId)> {
        self.0
            .out
            .iter()
            .map(|entry| (*entry.key(), entry.value().clone()))
            .collect()
    }

    pub fn limits(&self) -> Limits {
        **self.0.limits.load()
    }

    pub fn set_limits(&self, limits: Limits) {
        self.0.limits.store(Arc::new(limits));
    }

    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }

    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    pub fn publish(&self, occupancy: Occupancy) {
        self.0.occupancy.store(Arc::new(occupancy));
    }

    pub fn occupancy(&self) -> Occupancy {
        **self.0.occupancy.load()
    }
}
