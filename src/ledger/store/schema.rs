//! The tables, and how an older file comes to have them.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// What takes a database from each version to the next; `user_version` counts those applied. A step that
/// was released is never edited.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE decisions (
        id TEXT NOT NULL UNIQUE,
        at INTEGER NOT NULL,
        user TEXT NOT NULL,
        lane TEXT NOT NULL,
        task TEXT,
        asked TEXT NOT NULL,
        chosen TEXT,
        candidates TEXT NOT NULL,
        attempts TEXT NOT NULL,
        members TEXT,
        outcome TEXT NOT NULL,
        ttft_ms REAL,
        total_ms REAL NOT NULL,
        queue_ms REAL NOT NULL,
        input_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        cached_tokens INTEGER,
        cost REAL,
        prompt TEXT,
        answer TEXT,
        checksum BLOB NOT NULL
    ) STRICT;
    CREATE INDEX decisions_by_age ON decisions (at);

    CREATE TABLE feedback (
        decision TEXT NOT NULL,
        source TEXT NOT NULL,
        score REAL NOT NULL,
        at INTEGER NOT NULL,
        PRIMARY KEY (decision, source)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER feedback_goes_with_its_decision AFTER DELETE ON decisions BEGIN
        DELETE FROM feedback WHERE decision = old.id;
    END;

    CREATE TABLE cells (
        key TEXT NOT NULL PRIMARY KEY,
        version INTEGER NOT NULL,
        payload TEXT NOT NULL,
        checksum BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE quarantine (
        at INTEGER NOT NULL,
        key TEXT NOT NULL,
        version TEXT NOT NULL,
        payload TEXT NOT NULL,
        reason TEXT NOT NULL
    ) STRICT;
",
    "
    ALTER TABLE feedback ADD COLUMN truth INTEGER;
    CREATE TABLE states (
        digest TEXT NOT NULL PRIMARY KEY,
        at INTEGER NOT NULL,
        why TEXT NOT NULL,
        document TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX decisions_of_ensembles ON decisions (at) WHERE members IS NOT NULL;
",
    "
    ALTER TABLE feedback ADD COLUMN learned INTEGER NOT NULL DEFAULT 1;
",
];

/// Brings the database to the schema after the first `target` migrations, all or nothing.
pub(super) fn migrate(conn: &mut Connection, target: usize) -> rusqlite::Result<()> {
    // Immediate, so that of two processes at a new file one waits and then finds the work done.
    let tx = Transaction::new(conn, TransactionBehavior::Immediate)?;
    let done = version(&tx)?;
    for (index, step) in MIGRATIONS.iter().enumerate().take(target) {
        if index as i64 >= done {
            tx.execute_batch(step)?;
            tx.pragma_update(None, "user_version", index as i64 + 1)?;
        }
    }
    tx.commit()
}

/// How many migrations the database has seen.
pub(super) fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Why the database is none of ours, if it is none: its tables are not what its version says. What an
/// operator added (indices, views, statistics) does no harm.
pub(super) fn foreign(conn: &Connection) -> rusqlite::Result<Option<String>> {
    let version = version(conn)?;
    let objects = objects(conn)?;
    let Some(target) = usize::try_from(version)
        .ok()
        .filter(|version| *version <= MIGRATIONS.len())
    else {
        let known = MIGRATIONS.len();
        return Ok(Some(format!(
            "its schema has version {version}, this program knows 1 to {known}"
        )));
    };
    if target == 0 && !objects.is_empty() {
        return Ok(Some("it is the database of another program".into()));
    }
    let mut model = Connection::open_in_memory()?;
    migrate(&mut model, target)?;
    let missing = self::objects(&model)?
        .into_iter()
        .find(|object| !objects.contains(object));
    Ok(missing.map(|(name, _)| format!("'{name}' of its schema is missing or is not ours")))
}

fn objects(conn: &Connection) -> rusqlite::Result<Vec<(String, Option<String>)>> {
    let mut select = conn.prepare("SELECT name, sql FROM sqlite_schema")?;
    let objects = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    objects.collect()
}
