//! How the database is opened, and what happens to one that cannot be used.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::{Cell, StoreError, cells, schema, unix_ms};

/// How long to wait for another process that writes.
pub(super) const BUSY: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 5000 });
/// A write-ahead log that once grew is cut back to this, in bytes.
const WAL_LIMIT: i64 = 16 << 20;
/// The files that SQLite keeps beside a database.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Which file it is, whatever its name: device and inode.
pub(super) type FileId = (u64, u64);

/// The file at `path`, if there is one.
pub(super) fn id(path: &Path) -> Option<FileId> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// Removes what a database that is gone has left behind: a new one would take it for its own.
pub(super) fn without_companions(path: &Path) -> Result<(), StoreError> {
    let left = if path.exists() { &[] } else { &COMPANIONS[..] };
    for suffix in left {
        match fs::remove_file(with_suffix(path, suffix)) {
            Err(source)
                if !matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                let path = path.into();
                return Err(StoreError::File { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Why a database was not opened.
enum Unfit {
    /// Its content is at fault: another file will do.
    Content(String),
    /// Its surroundings are: another file would fail as well, and this one may be whole.
    Surroundings(rusqlite::Error),
}

impl From<rusqlite::Error> for Unfit {
    fn from(error: rusqlite::Error) -> Self {
        if may_pass(&error) {
            Self::Surroundings(error)
        } else {
            Self::Content(error.to_string())
        }
    }
}

/// Whether the surroundings are at fault, and not what the file holds.
pub(super) fn may_pass(error: &rusqlite::Error) -> bool {
    use ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory, PermissionDenied,
        ReadOnly, SystemIoFailure,
    };
    matches!(
        error.sqlite_error_code(),
        Some(
            DatabaseBusy
                | DatabaseLocked
                | OutOfMemory
                | DiskFull
                | CannotOpen
                | PermissionDenied
                | ReadOnly
                | SystemIoFailure
        )
    )
}

/// Opens the database at `path`, or a new one where that cannot be used. The warnings say what was lost.
pub(super) fn open(path: &Path) -> Result<(Connection, Vec<String>), StoreError> {
    create(path)?;
    let reason = match connect(path) {
        Ok(conn) => return Ok((conn, Vec::new())),
        Err(Unfit::Surroundings(error)) => return Err(error.into()),
        Err(Unfit::Content(reason)) => reason,
    };
    let aside = with_suffix(path, &format!(".damaged-{}", unix_ms()));
    rename(path, &aside)?;
    let (conn, saved) = begin(path, &aside).inspect_err(|_| {
        // As it was, to be tried again: what can be read of it is not yet in a new one.
        for suffix in COMPANIONS {
            let _ = fs::remove_file(with_suffix(path, suffix));
        }
        if let Err(error) = rename(&aside, path) {
            tracing::error!(%error, aside = %aside.display(), "a damaged ledger could not be put back");
        }
    })?;
    let warning = format!(
        "ledger {} cannot be used ({reason}); it was set aside as {} and a new one begun with {saved} \
         learned cells from the old",
        path.display(),
        aside.display(),
    );
    Ok((conn, vec![warning]))
}

/// Begins a database with the cells that can be read of the one that was set aside. How many they are.
fn begin(path: &Path, aside: &Path) -> Result<(Connection, usize), StoreError> {
    create(path)?;
    let mut conn = connect(path).map_err(|unfit| match unfit {
        Unfit::Content(reason) => StoreError::Unusable {
            path: path.into(),
            reason,
        },
        Unfit::Surroundings(error) => error.into(),
    })?;
    let good = cells_of(aside, "mode=ro").map_or_else(|_| Vec::new(), |found| found.good);
    cells::save(&mut conn, &good)?;
    Ok((conn, good.len()))
}

/// Makes sure of a file that only its owner reads, in a directory that is as private if it is new.
fn create(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::File {
        path: path.into(),
        source,
    };
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed)?;
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .and_then(|file| file.set_permissions(Permissions::from_mode(0o600)))
        .map_err(failed)
}

fn connect(path: &Path) -> Result<Connection, Unfit> {
    // Without the URI flag, so that a path that begins with `file:` is a path.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(BUSY)?;
    // Everything is looked at in one read transaction before anything is written: the file may be
    // another program's, or another process of ours may be creating it.
    let look = conn.transaction_with_behavior(TransactionBehavior::Deferred)?;
    if let Some(reason) = schema::foreign(&look)? {
        return Err(Unfit::Content(reason));
    }
    let verdict: String = look.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Unfit::Content(verdict));
    }
    look.finish()?;
    // Takes effect only before the first table is made.
    conn.pragma_update(None, "auto_vacuum", "incremental")?;
    // Answers with the mode, which is another one where the file system has no shared memory: slower,
    // and as safe.
    conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "normal")?;
    // Rows are written in the order of their keys and seldom read: a quarter of SQLite's usual cache, in KiB, does.
    conn.pragma_update(None, "cache_size", -512)?;
    conn.pragma_update_and_check(None, "journal_size_limit", WAL_LIMIT, |_| Ok(()))?;
    // A transaction that begins by reading must not lose its place to another process's write.
    conn.set_transaction_behavior(TransactionBehavior::Immediate);
    schema::migrate(&mut conn, schema::MIGRATIONS.len())?;
    Ok(conn)
}

/// Renames a database and its companions, so that SQLite's own tools can still open them together.
fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    // Companions first: a new database must never meet the journal of an old one.
    for suffix in COMPANIONS.into_iter().chain([""]) {
        match fs::rename(with_suffix(from, suffix), with_suffix(to, suffix)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                let path = from.into();
                return Err(StoreError::File { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The cells of the database at `path`, which is opened as `how` says, as far as they can be read.
fn cells_of(path: &Path, how: &str) -> rusqlite::Result<cells::Scan> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    Ok(cells::scan(&Connection::open_with_flags(
        uri(path, how),
        flags,
    )?))
}

/// Ensembles that are read of a file that cannot be written: as many as the votes' models go on from.
const ENSEMBLES: i64 = 4096;

/// Reads a database that cannot be written: its cells are returned as far as they can be read, its latest ensembles, with
/// what was said of them, copied to `into`.
pub(super) fn read(path: &Path, into: &Connection) -> Vec<Cell> {
    let mut best = Vec::new();
    // The first needs a file beside it, which a disk that takes nothing may not have. The second does without, and sees
    // nothing of a write-ahead log.
    for how in ["mode=ro", "immutable=1"] {
        let Ok(found) = cells_of(path, how) else {
            continue;
        };
        if !found.is_whole() {
            if best.len() < found.good.len() {
                best = found.good;
            }
            continue;
        }
        if attach(into, path, how).is_ok() {
            let copied = into.execute_batch(&format!(
                "BEGIN;
                 INSERT INTO main.decisions SELECT * FROM file.decisions WHERE rowid IN
                   (SELECT rowid FROM file.decisions WHERE members IS NOT NULL ORDER BY at DESC LIMIT {ENSEMBLES});
                 INSERT INTO main.feedback SELECT * FROM file.feedback
                   WHERE decision IN (SELECT id FROM main.decisions);
                 COMMIT"
            ));
            if let Err(error) = copied {
                // Of an older version, or damaged: it is begun without them.
                tracing::debug!(%error, "past ensembles cannot be read");
                let _ = into.execute_batch("ROLLBACK");
            }
            let _ = into.execute_batch("DETACH file");
        }
        return found.good;
    }
    best
}

/// Makes the database at `path`, opened as `how` says, part of `conn`, as `file`.
pub(super) fn attach(conn: &Connection, path: &Path, how: &str) -> rusqlite::Result<()> {
    conn.execute("ATTACH ?1 AS file", [uri(path, how)])?;
    Ok(())
}

/// A path as SQLite takes it together with the manner of opening.
fn uri(path: &Path, how: &str) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte));
            }
            _ => uri.push_str(&format!("%{byte:02x}")),
        }
    }
    uri + "?" + how
}
