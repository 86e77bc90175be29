//! Admission: who may go now.
//!
//! - [`Dispatcher`]: the handle a query knocks at; it yields a [`Permit`], or says at once why not.
//! - `actor`: the actor that serves those who must wait.
//! - [`fair_queue`]: the automaton that decides, pure, and a room of its own.
//! - `permit`: the guard that returns its place however the query ends, and the desk that gives it out.

mod actor;
mod permit;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, ErrorKind, Result};
use crate::fair_queue;
use crate::id::UserId;
use crate::query::Lane;
use crate::supervisor::{Address, ChildSpec};
use crate::telemetry;

pub use crate::fair_queue::Limits;
pub use actor::Occupancy;
pub use permit::Permit;

use actor::{Message, Waiter};
use permit::Desk;

/// Knocks that may be on their way to the actor beyond what its queue holds. Mailboxes are unbounded, so the
/// bound stands in front of it.
const KNOCKING: usize = 4096;

/// The handle to admission. Cheap to clone.
#[derive(Clone)]
pub struct Dispatcher {
    address: Address<Message>,
    desk: Desk,
    knocks: Arc<AtomicU64>,
    pending: Arc<AtomicUsize>,
    meters: Arc<telemetry::AdmissionMeters>,
}

impl Dispatcher {
    /// A dispatcher and the child to be supervised.
    pub fn new(path: &str, limits: Limits) -> (Self, ChildSpec) {
        let address = Address::vacant();
        let desk = Desk::new(address.clone(), limits);
        let child = actor::child(path, address.clone(), desk.clone());
        let knocks = Arc::default();
        let pending = Arc::default();
        (
            Self {
                address,
                desk,
                knocks,
                pending,
                meters: Arc::new(telemetry::AdmissionMeters::new()),
            },
            child,
        )
    }

    /// Waits for a permit.
    ///
    /// # Errors
    /// [`Overloaded`](ErrorKind::Overloaded) at once when the queue is full or closed, or later when a user
    /// with a smaller share took the place; [`Deadline`](ErrorKind::Deadline) when that comes first.
    /// Dropping the future leaves the queue at once.
    pub async fn admit(&self, user: &UserId, lane: Lane, deadline: Instant) -> Result<Permit> {
        if deadline <= Instant::now() {
            return Err(Error::deadline("waiting for a permit"));
        }
        if let Some(permit) = self.desk.enter(user) {
            self.meters.admitted(lane, Duration::ZERO);
            return Ok(permit);
        }
        Box::pin(self.knock(user, lane, deadline)).await
    }

    /// Has the actor decide whose turn it is.
    async fn knock(&self, user: &UserId, lane: Lane, deadline: Instant) -> Result<Permit> {
        let knocked = Instant::now();
        let _pending = Pending::enter(&self.pending)?;
        let (reply, answer) = oneshot::channel();
        let knock = self.knocks.fetch_add(1, Ordering::Relaxed);
        let waiter = Waiter {
            knock,
            user: user.clone(),
            lane,
            deadline,
            reply,
        };
        if self.address.send(Message::Admit(waiter)).is_err() {
            return Err(restarting());
        }
        let leave = Leave {
            knock: Some(knock),
            address: &self.address,
        };
        let outcome = timeout_at(deadline, answer).await;
        let permit = match outcome {
            Ok(Ok(permit)) => permit?,
            Ok(Err(_)) => return Err(restarting()),
            Err(_) => return Err(Error::deadline("waiting for a permit")),
        };
        leave.stay();
        self.meters.admitted(lane, knocked.elapsed());
        Ok(permit)
    }

    /// Applies new limits; who waits keeps waiting.
    pub fn configure(&self, limits: Limits) {
        let _ = self.address.send(Message::Configure(limits));
    }

    /// Answers everybody who waits with [`Overloaded`](ErrorKind::Overloaded) and admits nobody from now on.
    pub fn close(&self) {
        self.desk.close();
        let _ = self.address.send(Message::Close);
    }

    /// Who is in and who waits, as of the last change.
    pub fn occupancy(&self) -> Occupancy {
        self.desk.occupancy()
    }

    #[doc(hidden)]
    pub fn poison(&self) {
        let _ = self.address.send(Message::Poison);
    }
}

fn restarting() -> Error {
    Error::new(
        ErrorKind::Overloaded,
        "admission is being restarted, try again",
    )
    .with_retry_after(Some(Duration::from_secs(1)))
}

/// Counts a knock until it is answered or given up.
struct Pending<'a>(&'a AtomicUsize);

impl<'a> Pending<'a> {
    fn enter(pending: &'a AtomicUsize) -> Result<Self> {
        let this = Self(pending);
        if pending.fetch_add(1, Ordering::Relaxed) >= KNOCKING + fair_queue::MAX_QUEUE {
            return Err(
                Error::new(ErrorKind::Overloaded, "too many queries at the door")
                    .with_retry_after(Some(Duration::from_secs(1))),
            );
        }
        Ok(this)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Leaves the queue unless told to stay. A permit granted in the same moment returns by its own guard.
struct Leave<'a> {
    knock: Option<u64>,
    address: &'a Address<Message>,
}

impl Leave<'_> {
    fn stay(mut self) {
        self.knock = None;
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if let Some(knock) = self.knock {
            let _ = self.address.send(Message::Leave(knock));
        }
    }
}
