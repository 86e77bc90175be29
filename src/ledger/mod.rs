//! The ledger: one row per decision, and the learned state. Durable, and never on the way of an answer.
//!
//! - [`Ledger`]: the handle; rows go in and are written soon.
//! - `actor`: gathers rows into batches and decides when to write.
//! - `awaited`: a file that cannot be used yet.
//! - [`store`]: the tables in SQLite.
//! - [`state`]: all of learned state as one document.
//! - [`learned`]: learned state to cells and back, each cell checked on its own.
//!
//! A ledger that cannot write costs its function only: rows are kept as long as memory is bounded, then
//! dropped and counted, and queries go on.

mod actor;
mod awaited;
pub mod learned;
pub mod row;
pub mod state;
pub mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::id::DecisionId;
use crate::supervisor::{Address, ChildSpec};
use crate::telemetry;

pub use actor::Settings;
pub use awaited::{Awaited, claim};
pub use row::{Cell, DecisionRow, FeedbackOutcome, Quarantined};
pub use state::State;
pub use store::{Saved, Store};

use actor::Message;
use store::StoreError;

/// This many rows are written without waiting for the interval.
const BATCH: usize = 512;
/// Rows that may wait for the disk.
const PENDING: usize = 20_000;

/// The handle to the ledger. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    address: Address<Message>,
    shared: Arc<Shared>,
}

/// What outlives an incarnation of the actor.
struct Shared {
    store: Mutex<Store>,
    /// Rows to be written, the oldest first: gathered here and not in a mailbox, so that a row wakes nobody.
    rows: Mutex<Vec<DecisionRow>>,
    /// So many are gathered or being written.
    pending: AtomicUsize,
    failure: Mutex<Option<String>>,
    /// The file that the store stands in for, or stood in for.
    awaited: Mutex<Option<Awaited>>,
}

impl Shared {
    /// Why the store is in memory although a file was asked for.
    fn in_memory(&self) -> Option<String> {
        let awaited = self.awaited.lock();
        awaited.as_ref().and_then(|file| file.trouble().cloned())
    }

    /// The row of a decision that waits to be written. Who has the store finds each row there or here.
    fn waiting(&self, id: &DecisionId) -> Option<DecisionRow> {
        let rows = self.rows.lock();
        rows.iter().rev().find(|row| row.id == *id).cloned()
    }

    /// Why what is recorded does not come to the disk.
    fn trouble(&self) -> Option<String> {
        let failure = self.failure.lock().clone();
        failure.or_else(|| self.in_memory())
    }
}

/// How the ledger fares.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// Rows not yet written.
    pub pending: usize,
    /// Why the last write failed, if it did, or why what is learned is kept in memory only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Ledger {
    /// A ledger over an open store, and the child to be supervised. `cells` yields the learned state whenever it
    /// is to be written; `awaited` is the file that the store stands in for, if it does.
    pub fn new(
        path: &str,
        store: Store,
        awaited: Option<Awaited>,
        settings: Settings,
        cells: Arc<dyn Fn() -> Vec<Cell> + Send + Sync>,
    ) -> (Self, ChildSpec) {
        let address = Address::vacant();
        let shared = Arc::new(Shared {
            store: Mutex::new(store),
            rows: Mutex::default(),
            pending: AtomicUsize::new(0),
            failure: Mutex::new(None),
            awaited: Mutex::new(awaited),
        });
        let child = actor::child(path, address.clone(), Arc::clone(&shared), settings, cells);
        (Self { address, shared }, child)
    }

    /// Takes a row down. It is written within the flush interval.
    pub fn record(&self, row: DecisionRow) {
        if self.shared.pending.fetch_add(1, Ordering::Relaxed) >= PENDING {
            self.shared.pending.fetch_sub(1, Ordering::Relaxed);
            telemetry::ledger_dropped(1);
            return;
        }
        let batch = {
            let mut rows = self.shared.rows.lock();
            rows.push(row);
            rows.len().is_multiple_of(BATCH)
        };
        if batch {
            let _ = self.address.send(Message::Batch);
        }
    }

    /// The row of a decision, waiting rows included.
    ///
    /// # Errors
    /// [`Overloaded`](ErrorKind::Overloaded) where it cannot be known, as long as the ledger cannot be written.
    pub async fn find(&self, id: DecisionId) -> Result<Option<DecisionRow>> {
        // While the disk refuses only the timer tries again.
        if self.shared.failure.lock().is_none() {
            self.write(false).await;
        }
        let shared = Arc::clone(&self.shared);
        let found = self.with_store(move |store| match shared.waiting(&id) {
            None => store.find(&id),
            waiting => Ok(waiting),
        });
        let found = found.await?;
        if found.is_none() && self.shared.trouble().is_some() {
            // It may be in the file that cannot be used, or have been dropped.
            return Err(not_now("the decision may be where it cannot be read"));
        }
        Ok(found)
    }

    /// Takes a judgement of a decision that is known down; says whether it is new. `learning`: whether a new one will be
    /// learned from.
    pub async fn feedback(
        &self,
        id: DecisionId,
        score: f64,
        truth: Option<i64>,
        source: String,
        at: i64,
        learning: bool,
    ) -> Result<FeedbackOutcome> {
        let shared = Arc::clone(&self.shared);
        let judged = self.with_store(move |store| match shared.waiting(&id) {
            None => store.record_feedback(&id, score, truth, &source, at, learning),
            // Without a try, which may take as long as a lock is waited for.
            Some(_) => Ok(FeedbackOutcome::Unknown),
        });
        match judged.await? {
            FeedbackOutcome::Unknown => Err(not_now("the decision waits to be written")),
            judged => Ok(judged),
        }
    }

    /// The ensembles decided last, after this Unix millisecond, the oldest first, with the group of answers known to
    /// be right.
    pub async fn ensembles(&self, n: usize, after: i64) -> Result<Vec<(DecisionRow, Option<i64>)>> {
        self.with_store(move |store| store.ensembles(n, after))
            .await
    }

    /// Saves a learned state, to go back to; `why` is for people.
    pub async fn save_state(
        &self,
        digest: String,
        at: i64,
        why: String,
        document: String,
    ) -> Result<()> {
        self.with_store(move |store| store.save_state(&digest, at, &why, &document))
            .await
    }

    /// Writes cells of learned state at once, and removes those of the keys that are `gone`.
    pub async fn replace_cells(&self, cells: Vec<Cell>, gone: Vec<String>) -> Result<()> {
        self.with_store(move |store| store.replace_cells(&cells, &gone))
            .await
    }

    /// The saved states, the latest first.
    pub async fn states(&self) -> Result<Vec<Saved>> {
        self.with_store(|store| store.states()).await
    }

    /// The saved state whose digest begins so, as a document.
    pub async fn state(&self, prefix: String) -> Result<Option<String>> {
        self.with_store(move |store| store.state(&prefix)).await
    }

    /// Writes everything that waits, learned state included, and returns when it is written or has failed.
    pub async fn flush(&self) {
        self.write(true).await;
    }

    async fn write(&self, learned: bool) {
        let (reply, done) = oneshot::channel();
        if self.address.send(Message::Flush(reply, learned)).is_ok() {
            // Closed without an answer: the actor is being restarted.
            let _ = done.await;
        }
    }

    /// How it fares.
    pub fn health(&self) -> Health {
        Health {
            pending: self.shared.pending.load(Ordering::Relaxed),
            failure: self.shared.trouble(),
        }
    }

    /// Applies new settings.
    pub fn configure(&self, settings: Settings) {
        let _ = self.address.send(Message::Configure(settings));
    }

    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        let failed = |why: String| {
            Error::new(
                ErrorKind::Internal,
                format!("the ledger cannot be read: {why}"),
            )
        };
        tokio::task::spawn_blocking(move || work(&mut shared.store.lock()))
            .await
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| {
                if error.may_pass() {
                    not_now(&error.to_string())
                } else {
                    failed(error.to_string())
                }
            })
    }
}

/// That the ledger cannot be asked or told at the moment.
fn not_now(why: &str) -> Error {
    let message = format!("the ledger cannot do it now, try again later: {why}");
    Error::new(ErrorKind::Overloaded, message).with_retry_after(Some(Duration::from_secs(1)))
}
