//! A file that cannot be used yet: full, read-only, in use, in the way. What was learned before is read of it as far as
//! that goes, what comes gathers in memory, and the ledger's timer has it tried again. Once it can be used, all that has
//! gathered goes there.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Cell, Store, store::StoreError};

/// It is tried again after this, and after ten times as long as a try took: each reads the whole file.
const PAUSE: Duration = Duration::from_secs(1);

/// A file that could not be used when it was wanted.
pub struct Awaited {
    path: PathBuf,
    /// The cells that were read of it: those in memory have grown from these and no others.
    found: Vec<Cell>,
    /// Why it cannot be used; `None` once it is.
    trouble: Option<String>,
    /// When it is tried again, if it is.
    next: Option<Instant>,
    /// Keeps others from it, once it is ours.
    lock: Option<File>,
}

/// Opens the ledger at `path` for this process alone: the store, what is to be told of it, and the lock, to be held as long
/// as the store is open.
///
/// # Errors
/// Why it cannot be used.
pub fn claim(path: &Path) -> Result<(Store, Vec<String>, File), String> {
    let lock = lock(path)?;
    let (store, warnings) = Store::open(path).map_err(|error| error.to_string())?;
    Ok((store, warnings, lock))
}

/// Two processes that wrote one file would overwrite each other's learned state.
fn lock(path: &Path) -> Result<File, String> {
    let lock = path.with_extension("lock");
    if let Some(parent) = lock.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(|error| format!("{}: {error}", parent.display()))?;
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock);
    let file = file.map_err(|error| format!("{}: {error}", lock.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err("another process uses it".into()),
    }
}

impl Awaited {
    /// A store in memory that stands in for the file at `path`, which cannot be used for this `reason`.
    ///
    /// # Errors
    /// If there is not even a store in memory.
    pub fn stand_in(path: &Path, reason: &str) -> Result<(Store, Self), StoreError> {
        let (store, found) = Store::stand_in(path)?;
        let mut awaited = Self {
            path: path.to_owned(),
            found,
            trouble: None,
            next: None,
            lock: None,
        };
        awaited.wait(reason, PAUSE);
        Ok((store, awaited))
    }

    fn wait(&mut self, reason: &str, pause: Duration) {
        let path = self.path.display();
        self.trouble = Some(format!(
            "kept in memory only until {path} can be used: {reason}"
        ));
        self.next = Some(Instant::now() + pause);
    }

    /// Why it cannot be used, unless it is.
    pub(super) fn trouble(&self) -> Option<&String> {
        self.trouble.as_ref()
    }

    /// Whether it is tried again at all.
    pub(super) fn is_waited_for(&self) -> bool {
        self.next.is_some()
    }

    /// Whether it is to be tried again now.
    pub(super) fn is_due(&self) -> bool {
        self.next.is_some_and(|next| next <= Instant::now())
    }
}

/// Tries to use the file, and to bring there what has gathered in its stand-in, whose place the open file then takes.
pub(super) fn try_again(awaited: &Mutex<Option<Awaited>>, stand_in: &Mutex<Store>) {
    let known = awaited.lock();
    let Some((path, found)) = known
        .as_ref()
        .map(|one| (one.path.clone(), one.found.clone()))
    else {
        return;
    };
    // Not held meanwhile: a status must not wait for a disk.
    drop(known);
    let began = Instant::now();
    let tried = claim(&path).and_then(|(mut file, warnings, lock)| {
        let said = |error: StoreError| error.to_string();
        for warning in warnings {
            tracing::warn!(path = %path.display(), "{warning}");
        }
        // Who wrote there since we looked knows something that we do not.
        if file.load_cells().map_err(said)?.0 != found {
            return Ok(None);
        }
        let mut store = stand_in.lock();
        store.move_to(&path).map_err(said)?;
        *store = file;
        Ok(Some(lock))
    });
    let path = path.display();
    let mut awaited = awaited.lock();
    let Some(awaited) = awaited.as_mut() else {
        return;
    };
    match tried {
        Ok(Some(lock)) => {
            (awaited.trouble, awaited.next) = (None, None);
            awaited.found = Vec::new();
            awaited.lock = Some(lock);
            tracing::info!(%path, "the ledger's file can be used again, and has all that was kept in memory");
        }
        Ok(None) => {
            let why = "it holds learned state that could not be read at the start, and is left as it is; the next start goes on from it";
            tracing::warn!(%path, "the ledger's file could be used again, but {why}");
            awaited.wait(why, PAUSE);
            awaited.next = None;
        }
        Err(error) => awaited.wait(&error, PAUSE.max(began.elapsed() * 10)),
    }
}
