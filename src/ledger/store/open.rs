//! How the database is opened, and what happens to one that cannot be used.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::{StoreError, cells, schema, unix_ms};

/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 5000 });
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
        use ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory, PermissionDenied,
            SystemIoFailure,
        };
        match error.sqlite_error_code() {
            Some(
                DatabaseBusy | DatabaseLocked | OutOfMemory | DiskFull | CannotOpen
                | PermissionDenied | SystemIoFailure,
            ) => Self::Surroundings(error),
            _ => Self::Content(error.to_string()),
        }
    }
}

/// Opens the database at `path`, or a new one where that cannot be used. The warnings say what was lost.
pub(super) fn open(path: &Path) -> Result<(Connection, Vec<String>), StoreError> {
    create(path)?;
    let reason = match connect(path) {
        Ok(conn) => return Ok((conn, Vec::new())),
        Err(Unfit::Surroundings(error)) => return Err(error.into()),
        Err(Unfit::Content(reason)) => reason,
    };
    let aside = set_aside(path)?;
    create(path)?;
    let mut conn = connect(path).map_err(|unfit| match unfit {
        Unfit::Content(reason) => StoreError::Unusable {
            path: path.into(),
            reason,
        },
        Unfit::Surroundings(error) => error.into(),
    })?;
    let saved = salvage(&aside, &mut conn);
    let warning = format!(
        "ledger {} cannot be used ({reason}); it was set aside as {} and a new one begun with {saved} \
         learned cells from the old",
        path.display(),
        aside.display(),
    );
    Ok((conn, vec![warning]))
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

/// Renames the database and its companions, so that SQLite's own tools can still open them together.
fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let aside = with_suffix(path, &format!(".damaged-{}", unix_ms()));
    // Companions first: a new database must never meet the journal of an old one.
    for suffix in COMPANIONS.into_iter().chain([""]) {
        match fs::rename(with_suffix(path, suffix), with_suffix(&aside, suffix)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::File {
                    path: path.into(),
                    source,
                });
            }
            _ => {}
        }
    }
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Copies the cells that can still be read and whose checksums hold. How many they are.
fn salvage(aside: &Path, into: &mut Connection) -> usize {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(conn) = Connection::open_with_flags(aside, flags) else {
        return 0;
    };
    let good = cells::scan(&conn).good;
    match cells::save(into, &good) {
        Ok(()) => good.len(),
        Err(_) => 0,
    }
}
