//! The ledger actor.
//!
//! Started by the root supervisor, first of all and so stopped last. Owns the timers, and decides when the rows that
//! were gathered are written. Writing happens on a blocking thread, one batch at a time; rows of a failed batch are
//! tried again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::store::PRUNE_ROWS;
use super::{Awaited, Cell, DecisionRow, PENDING, Shared, Store, awaited};
use crate::supervisor::{Address, ChildSpec, Heartbeat};
use crate::telemetry;

/// When to write, and how much to keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Rows wait at most this long.
    pub flush: Duration,
    /// Learned state is written this often.
    pub checkpoint: Duration,
    /// Rows older than this are deleted.
    pub max_age: Duration,
    /// Rows beyond this many are deleted, the oldest first.
    pub max_rows: u64,
}

pub(super) enum Message {
    /// A batch of rows has gathered.
    Batch,
    /// The flush interval is over.
    Tick,
    /// Write all rows now, and learned state with them if that is wanted, and tell when done.
    Flush(oneshot::Sender<()>, bool),
    /// A write ended.
    Written(Result<(), String>),
    /// New settings.
    Configure(Settings),
    /// See [`Heartbeat`].
    Ping(Instant),
}

impl Heartbeat for Message {
    fn ping(at: Instant) -> Self {
        Self::Ping(at)
    }
}

/// Old rows are looked for this often.
const PRUNE: Duration = Duration::from_secs(60);

pub(super) struct LedgerActor {
    path: String,
    shared: Arc<Shared>,
    cells: Arc<dyn Fn() -> Vec<Cell> + Send + Sync>,
}

pub(super) fn child(
    path: &str,
    address: Address<Message>,
    shared: Arc<Shared>,
    settings: Settings,
    cells: Arc<dyn Fn() -> Vec<Cell> + Send + Sync>,
) -> ChildSpec {
    let path = path.to_owned();
    ChildSpec::new("ledger", address, move || {
        let actor = LedgerActor {
            path: path.clone(),
            shared: Arc::clone(&shared),
            cells: Arc::clone(&cells),
        };
        (actor, settings)
    })
    .shutdown(Duration::from_secs(10))
}

pub(super) struct State {
    settings: Settings,
    writing: bool,
    started: Instant,
    saved: Instant,
    pruned: Instant,
    saved_cells: Vec<Cell>,
    /// Who waits for rows that the write under way does not hold.
    waiting: Vec<oneshot::Sender<()>>,
    /// Who waits for the write under way.
    served: Vec<oneshot::Sender<()>>,
    /// Whether one of those who wait wants learned state written too.
    learned_too: bool,
}

impl State {
    /// The learned state, if it is time to write it and it changed.
    fn due_cells(&mut self, cells: &dyn Fn() -> Vec<Cell>, now: Instant, force: bool) -> Vec<Cell> {
        // Often at first, so that who lives a few seconds at a time learns all the same.
        let interval = self.settings.checkpoint.min((now - self.started) / 4);
        if !force && now - self.saved < interval {
            return Vec::new();
        }
        self.saved = now;
        let cells = cells();
        let changed = cells
            .iter()
            .filter(|cell| !self.saved_cells.contains(cell))
            .cloned()
            .collect();
        self.saved_cells = cells;
        changed
    }
}

fn write(store: &mut Store, rows: &[DecisionRow], cells: &[Cell]) -> Result<(), String> {
    let said = |error: &dyn std::fmt::Display| error.to_string();
    store.in_place().map_err(|error| said(&error))?;
    if !rows.is_empty() {
        store.append(rows).map_err(|error| said(&error))?;
    }
    if !cells.is_empty() {
        store.save_cells(cells).map_err(|error| said(&error))?;
    }
    Ok(())
}

/// Deletes what is too old or too much, a bounded part of it; the rest goes next time.
fn forget_old(store: &mut Store, settings: &Settings) {
    for _ in 0..10 {
        match store.prune(settings.max_age, settings.max_rows, unix_ms()) {
            Ok(PRUNE_ROWS) => {}
            Ok(_) => return,
            Err(error) => return tracing::warn!(%error, "old decisions could not be deleted"),
        }
    }
}

fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_millis() as i64)
}

impl LedgerActor {
    /// Starts a write of all that is due, unless one is under way.
    fn start_write(&self, myself: &ActorRef<Message>, state: &mut State, force: bool) {
        if state.writing {
            return;
        }
        let now = Instant::now();
        let cells = state.due_cells(&*self.cells, now, force);
        let prune = now - state.pruned >= PRUNE;
        let awaits = self.shared.in_memory().is_some();
        let file = self.shared.awaited.lock();
        let again = file.as_ref().is_some_and(Awaited::is_due);
        drop(file);
        let no_rows = self.shared.rows.lock().is_empty();
        if no_rows && cells.is_empty() && !prune && !again {
            for waiting in state.waiting.drain(..) {
                let _ = waiting.send(());
            }
            return;
        }
        if prune {
            state.pruned = now;
        }
        state.writing = true;
        state.served.append(&mut state.waiting);
        state.learned_too = false;
        let mut settings = state.settings;
        if awaits {
            // As many as may wait for a disk that is there.
            settings.max_rows = settings.max_rows.min(PENDING as u64);
        }
        let (shared, myself) = (Arc::clone(&self.shared), myself.clone());
        tokio::task::spawn_blocking(move || {
            if again {
                let trying = || awaited::try_again(&shared.awaited, &shared.store);
                let _ = catch_unwind(AssertUnwindSafe(trying));
            }
            let mut store = shared.store.lock();
            // Taken only now, so that who has the store instead sees those that wait.
            let rows = std::mem::take(&mut *shared.rows.lock());
            let writing = AssertUnwindSafe(|| write(&mut store, &rows, &cells));
            let written = catch_unwind(writing).unwrap_or_else(|_| Err("it panicked".into()));
            if prune && written.is_ok() {
                forget_old(&mut store, &settings);
            }
            if written.is_ok() {
                shared.pending.fetch_sub(rows.len(), Ordering::Relaxed);
            } else {
                // Tried again with the next batch.
                shared.rows.lock().splice(0..0, rows);
            }
            drop(store);
            let _ = myself.send_message(Message::Written(written));
        });
    }

    fn written(&self, outcome: Result<(), String>, state: &mut State) {
        state.writing = false;
        for served in state.served.drain(..) {
            let _ = served.send(());
        }
        telemetry::ledger_wrote(outcome.is_ok(), self.shared.in_memory().is_none());
        telemetry::ledger_pending(self.shared.pending.load(Ordering::Relaxed));
        let mut failure = self.shared.failure.lock();
        match outcome {
            Ok(()) => *failure = None,
            Err(error) => {
                if failure.is_none() {
                    tracing::warn!(%error, "the ledger cannot be written; queries go on without it");
                }
                *failure = Some(error);
                // Nothing of the learned state counts as saved.
                state.saved_cells.clear();
                for waiting in state.waiting.drain(..) {
                    let _ = waiting.send(());
                }
            }
        }
    }
}

impl Actor for LedgerActor {
    type Msg = Message;
    type State = State;
    type Arguments = Settings;

    async fn pre_start(
        &self,
        _: ActorRef<Message>,
        settings: Settings,
    ) -> Result<State, ActorProcessingErr> {
        telemetry::ledger_wrote(true, self.shared.in_memory().is_none());
        let now = Instant::now();
        Ok(State {
            settings,
            writing: false,
            started: now,
            saved: now,
            pruned: now,
            saved_cells: Vec::new(),
            waiting: Vec::new(),
            served: Vec::new(),
            learned_too: false,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Message>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        myself.send_after(state.settings.flush, || Message::Tick);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            // While the disk refuses only the timer tries again, and not every batch.
            Message::Batch if self.shared.failure.lock().is_some() => {}
            Message::Batch => self.start_write(&myself, state, false),
            Message::Tick => {
                self.start_write(&myself, state, false);
                myself.send_after(state.settings.flush, || Message::Tick);
            }
            Message::Flush(done, learned) => {
                state.waiting.push(done);
                state.learned_too |= learned;
                self.start_write(&myself, state, state.learned_too);
            }
            Message::Written(outcome) => {
                self.written(outcome, state);
                if !state.waiting.is_empty() {
                    // Somebody waits for rows that came while the last batch was written.
                    self.start_write(&myself, state, state.learned_too);
                }
            }
            Message::Configure(settings) => state.settings = settings,
            Message::Ping(at) => telemetry::mailbox_delay(&self.path, at.elapsed()),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _: ActorRef<Message>,
        _: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let cells = (self.cells)();
        let shared = Arc::clone(&self.shared);
        let last = tokio::task::spawn_blocking(move || {
            let waited_for = shared
                .awaited
                .lock()
                .as_ref()
                .is_some_and(Awaited::is_waited_for);
            if waited_for {
                awaited::try_again(&shared.awaited, &shared.store);
            }
            // The lock waits for a batch under way, whose rows may come back.
            let mut store = shared.store.lock();
            let rows = std::mem::take(&mut *shared.rows.lock());
            write(&mut store, &rows, &cells)
        })
        .await;
        if let Ok(Err(error)) = last {
            tracing::error!(%error, "the last batch of the ledger could not be written");
        }
        Ok(())
    }
}
