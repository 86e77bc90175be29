//! The ledger's database: decisions, feedback and learned cells in one SQLite file.
//!
//! Synchronous, and owned by one thread at a time: the ledger's actor wraps it. The file is in WAL mode with
//! `synchronous = normal`: a killed process loses no committed transaction, a power cut at most the latest
//! ones, and neither leaves half a transaction behind. Decisions and cells carry a checksum of their own,
//! since SQLite's pages have none.

mod cells;
mod open;
mod schema;
mod states;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::row::{COLUMNS, Cell, DecisionRow, FeedbackOutcome, row_checksum};
use crate::id::DecisionId;

/// At most this many decisions are removed by one [`Store::prune`].
pub const PRUNE_ROWS: usize = 10_000;
/// So many are removed in one transaction.
const PRUNE_CHUNK: usize = 1000;
/// At most this many free pages go back to the file system in one [`Store::prune`]: of 4 KiB each, about
/// what [`PRUNE_ROWS`] leave behind.
const VACUUM_PAGES: u32 = 4096;

pub use states::Saved;

/// What the store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be made, opened or renamed.
    #[error("ledger file {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not even a new file works.
    #[error("ledger file {}: {reason}", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The decision's row cannot be believed.
    #[error("decision {id} is damaged: {reason}")]
    Damaged {
        /// Which decision.
        id: DecisionId,
        /// What is wrong with its row.
        reason: String,
    },
    /// The file is not at its path any more; a new one was begun there.
    #[error("the ledger's file {} was removed or replaced: a new one is begun", .0.display())]
    Moved(PathBuf),
    /// A judgement out of range.
    #[error("score must be a number from 0 to 1, not {0}")]
    Score(f64),
    /// The beginning of a digest that several saved states have.
    #[error("several saved states begin with '{prefix}': {}", candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// The digests that begin so.
        candidates: Vec<String>,
    },
    /// A state too large to be saved.
    #[error("the learned state has {bytes} bytes; at most {most} are saved")]
    StateSize {
        /// The size of its document.
        bytes: usize,
        /// The largest that is saved.
        most: usize,
    },
    /// The database failed.
    #[error("ledger: {0}")]
    Database(#[from] rusqlite::Error),
}

impl StoreError {
    /// Whether the surroundings are at fault, a lock or the disk: later it may go well.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::File { .. } | Self::Moved(_) => true,
            Self::Database(error) => open::may_pass(error),
            _ => false,
        }
    }
}

/// An open ledger.
#[derive(Debug)]
pub struct Store {
    conn: Connection,
    /// Where its file is, and which one it is.
    file: Option<(PathBuf, open::FileId)>,
}

impl Store {
    /// Opens the ledger at `path`, or begins one: its file is readable by its owner alone, and so are
    /// directories made for it.
    ///
    /// A file that is damaged, written by a newer version or another program's is renamed to
    /// `<path>.damaged-<unix ms>` and a new one begun with the learned cells that can still be read; the
    /// warnings say so. The whole file is read to find out.
    pub fn open(path: &Path) -> Result<(Self, Vec<String>), StoreError> {
        let (conn, warnings) = open::open(path)?;
        let file = open::id(path).map(|id| (path.to_owned(), id));
        Ok((Self { conn, file }, warnings))
    }

    /// Makes sure that what is written can be found again: SQLite goes on writing to a file that was removed.
    ///
    /// # Errors
    /// [`Moved`](StoreError::Moved) once for a file that is gone, with a new and empty one open in its place, or why
    /// there cannot be one.
    pub fn in_place(&mut self) -> Result<(), StoreError> {
        match self.file.take_if(|(path, id)| open::id(path) != Some(*id)) {
            None => Ok(()),
            Some((path, lost)) => {
                let begun = open::without_companions(&path).and_then(|()| Self::open(&path));
                // As it was, to be tried again: the old file may come back.
                self.file = Some((path.clone(), lost));
                *self = begun?.0;
                Err(StoreError::Moved(path))
            }
        }
    }

    /// Opens the ledger at `path` to read it, whoever else has it open.
    pub fn look(path: &Path) -> Result<Self, StoreError> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let conn = Connection::open_with_flags(path, flags)?;
        Ok(Self { conn, file: None })
    }

    /// The `n` decisions written last, the oldest first, each with the mean of what was said of it. Damaged rows are
    /// left out.
    pub fn judged(&self, n: usize) -> Result<Vec<(DecisionRow, Option<f64>)>, StoreError> {
        let select = format!(
            "SELECT {}, checksum, (SELECT avg(score) FROM feedback WHERE decision = decisions.id) FROM decisions \
             ORDER BY rowid DESC LIMIT ?1",
            columns()
        );
        let mut select = self.conn.prepare_cached(&select)?;
        let mut rows = select.query([clamp(n)])?;
        let mut judged = Vec::new();
        while let Some(row) = rows.next()? {
            let score = row.get(COLUMNS.len() + 1)?;
            if let Ok(row) = DecisionRow::read(row) {
                judged.push((row, score));
            }
        }
        judged.reverse();
        Ok(judged)
    }

    /// A ledger in memory that begins with what can be read of the file at `path`, which is not written to: the learned
    /// cells, and the latest ensembles with what was said of them. The cells too.
    pub(super) fn stand_in(path: &Path) -> Result<(Self, Vec<Cell>), StoreError> {
        let mut store = Self::in_memory()?;
        let mut cells = open::read(path, &store.conn);
        cells.sort_by(|a, b| a.key.cmp(&b.key));
        store.save_cells(&cells)?;
        Ok((store, cells))
    }

    /// Adds everything in this ledger, which is in memory, to the one in the file at `path`, in place of the cells there: all
    /// of it or nothing.
    pub(super) fn move_to(&self, path: &Path) -> Result<(), StoreError> {
        self.conn.busy_timeout(open::BUSY)?;
        open::attach(&self.conn, path, "mode=rw")?;
        let moved = self.conn.execute_batch(
            "BEGIN IMMEDIATE;
             INSERT OR IGNORE INTO file.decisions SELECT * FROM main.decisions ORDER BY rowid;
             INSERT OR REPLACE INTO file.feedback SELECT * FROM main.feedback;
             INSERT OR REPLACE INTO file.states SELECT * FROM main.states;
             INSERT INTO file.quarantine SELECT * FROM main.quarantine;
             DELETE FROM file.cells;
             INSERT INTO file.cells SELECT * FROM main.cells;
             COMMIT",
        );
        if moved.is_err() && !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK")?;
        }
        self.conn.execute_batch("DETACH file")?;
        Ok(moved?)
    }

    /// A ledger that forgets everything when it is dropped.
    pub fn in_memory() -> Result<Self, StoreError> {
        let mut conn = Connection::open_in_memory()?;
        conn.pragma_update(None, "auto_vacuum", "incremental")?;
        schema::migrate(&mut conn, schema::MIGRATIONS.len())?;
        Ok(Self { conn, file: None })
    }

    /// Writes the decisions, all or none. One whose id is known already takes the old one's place.
    pub fn append(&mut self, rows: &[DecisionRow]) -> Result<(), StoreError> {
        let tx = self.conn.transaction()?;
        {
            let marks = vec!["?"; COLUMNS.len() + 1].join(", ");
            let insert = format!(
                "INSERT OR REPLACE INTO decisions ({}, checksum) VALUES ({marks})",
                columns()
            );
            let mut insert = tx.prepare_cached(&insert)?;
            for row in rows {
                let values = row.values();
                let sum = row_checksum(&values);
                let values = values.into_iter().chain([ValueRef::Blob(&sum)]);
                insert.execute(params_from_iter(values.map(ToSqlOutput::Borrowed)))?;
            }
        }
        Ok(tx.commit()?)
    }

    /// The decision with this id, if it is kept. One that was appended is found at once.
    pub fn find(&self, id: &DecisionId) -> Result<Option<DecisionRow>, StoreError> {
        let select = format!(
            "SELECT {}, checksum FROM decisions WHERE id = ?1",
            columns()
        );
        let mut select = self.conn.prepare_cached(&select)?;
        let row = select
            .query_row([id.as_str()], |row| Ok(DecisionRow::read(row)))
            .optional()?;
        row.transpose().map_err(|reason| StoreError::Damaged {
            id: id.clone(),
            reason,
        })
    }

    /// The `n` decisions written last, newest first, and how many of those were left out as damaged.
    pub fn recent(&self, n: usize) -> Result<(Vec<DecisionRow>, usize), StoreError> {
        let select = format!(
            "SELECT {}, checksum FROM decisions ORDER BY rowid DESC LIMIT ?1",
            columns()
        );
        let mut select = self.conn.prepare_cached(&select)?;
        let mut rows = select.query([clamp(n)])?;
        let mut whole = Vec::new();
        let mut damaged = 0;
        while let Some(row) = rows.next()? {
            match DecisionRow::read(row) {
                Ok(row) => whole.push(row),
                Err(_) => damaged += 1,
            }
        }
        Ok((whole, damaged))
    }

    /// The `n` ensembles decided last, those after the Unix millisecond `after`, the oldest first, each with the
    /// group of answers that is known to be right (−1 for none of them), if any source said so and was learned from.
    /// Damaged rows are left out.
    pub fn ensembles(
        &self,
        n: usize,
        after: i64,
    ) -> Result<Vec<(DecisionRow, Option<i64>)>, StoreError> {
        let select = format!(
            "SELECT {}, checksum, (SELECT truth FROM feedback WHERE decision = decisions.id AND truth IS NOT NULL \
             AND learned ORDER BY feedback.at DESC LIMIT 1) FROM decisions WHERE members IS NOT NULL AND at > ?2 \
             ORDER BY at DESC LIMIT ?1",
            columns()
        );
        let mut select = self.conn.prepare_cached(&select)?;
        let mut rows = select.query([clamp(n), after])?;
        let mut ensembles = Vec::new();
        while let Some(row) = rows.next()? {
            let truth = row.get(COLUMNS.len() + 1)?;
            if let Ok(row) = DecisionRow::read(row) {
                ensembles.push((row, truth));
            }
        }
        ensembles.reverse();
        Ok(ensembles)
    }

    /// Keeps what `source` thinks of a decision, 0..=1, at the Unix millisecond `at`, and which group of an
    /// ensemble's answers that makes right (−1 for none), if it does. Each source has one
    /// judgement of a decision, and saying it again changes nothing. `learning` says that it will be learned from if
    /// it is recorded; one that was kept without counts as none before the first that is.
    pub fn record_feedback(
        &mut self,
        decision: &DecisionId,
        score: f64,
        truth: Option<i64>,
        source: &str,
        at: i64,
        learning: bool,
    ) -> Result<FeedbackOutcome, StoreError> {
        if !(0.0..=1.0).contains(&score) {
            return Err(StoreError::Score(score));
        }
        let id = decision.as_str();
        let tx = self.conn.transaction()?;
        let known: bool = tx.query_row(
            "SELECT EXISTS (SELECT 1 FROM decisions WHERE id = ?1)",
            [id],
            |row| row.get(0),
        )?;
        if !known {
            return Ok(FeedbackOutcome::Unknown);
        }
        let previous: Option<(f64, bool)> = tx
            .query_row(
                "SELECT score, learned FROM feedback WHERE decision = ?1 AND source = ?2",
                [id, source],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?
            // What is out of range was never recorded: the file is at fault.
            .filter(|(score, _)| (0.0..=1.0).contains(score));
        let outcome = match previous {
            None => FeedbackOutcome::Recorded,
            Some((_, false)) if learning => FeedbackOutcome::Recorded,
            Some((previous, _)) if previous == score => return Ok(FeedbackOutcome::Repeated),
            Some((previous, _)) => FeedbackOutcome::Changed { previous },
        };
        let learned = learning || previous.is_some_and(|(_, learned)| learned);
        tx.execute(
            "INSERT OR REPLACE INTO feedback (decision, source, score, at, truth, learned) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![id, source, score, at, truth, learned],
        )?;
        tx.commit()?;
        Ok(outcome)
    }

    /// Removes decisions older than `max_age`, and the oldest of more than `max_rows`, with their feedback;
    /// gives the space back to the file system. One call does a bounded amount of work: call again while
    /// it answers [`PRUNE_ROWS`].
    pub fn prune(
        &mut self,
        max_age: Duration,
        max_rows: u64,
        now_ms: i64,
    ) -> Result<usize, StoreError> {
        let age = i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
        let expired: i64 = self.conn.query_row(
            "SELECT count(*) FROM (SELECT 1 FROM decisions WHERE at < ?1 LIMIT ?2)",
            params![now_ms.saturating_sub(age), clamp(PRUNE_ROWS)],
            |row| row.get(0),
        )?;
        let rows: i64 = self
            .conn
            .query_row("SELECT count(*) FROM decisions", [], |row| row.get(0))?;
        let excess = rows.saturating_sub(i64::try_from(max_rows).unwrap_or(i64::MAX));
        let too_many = usize::try_from(expired.max(excess))
            .unwrap_or(0)
            .min(PRUNE_ROWS);

        let mut removed = 0;
        while removed < too_many {
            let oldest = "SELECT rowid FROM decisions ORDER BY at LIMIT ?1";
            let delete = format!("DELETE FROM decisions WHERE rowid IN ({oldest})");
            let chunk = PRUNE_CHUNK.min(too_many - removed);
            match self.conn.prepare_cached(&delete)?.execute([clamp(chunk)])? {
                0 => break,
                gone => removed += gone,
            }
        }
        self.vacuum()?;
        Ok(removed)
    }

    /// Cuts free pages off the end of the file.
    fn vacuum(&self) -> Result<(), StoreError> {
        let free: u32 = self
            .conn
            .pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        if free == 0 {
            return Ok(());
        }
        {
            let mut vacuum = self
                .conn
                .prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
            // Each step frees one page.
            let mut steps = vacuum.query([])?;
            while steps.next()?.is_some() {}
        }
        // Only a checkpoint shortens the file itself; a passive one waits for no reader.
        Ok(self
            .conn
            .query_row("PRAGMA wal_checkpoint(passive)", [], |_| Ok(()))?)
    }

    /// Bytes on disk, what is still in the write-ahead log included; those in memory for a ledger there.
    pub fn size_bytes(&self) -> Result<u64, StoreError> {
        let pages: u32 = self
            .conn
            .pragma_query_value(None, "page_count", |row| row.get(0))?;
        let page: u32 = self
            .conn
            .pragma_query_value(None, "page_size", |row| row.get(0))?;
        let path = self.conn.path().filter(|path| !path.is_empty());
        let log = path.and_then(|path| fs::metadata(format!("{path}-wal")).ok());
        Ok(u64::from(pages) * u64::from(page) + log.map_or(0, |log| log.len()))
    }
}

fn columns() -> String {
    COLUMNS.join(", ")
}

fn clamp(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// The wall clock, in milliseconds since 1970.
fn unix_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
