//! Learned cells: each is believed only with its checksum.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};

use super::super::row::{Cell, Quarantined};
use super::{Store, StoreError, unix_ms};

/// At most this many cells are kept in quarantine, the latest.
const QUARANTINE_ROWS: i64 = 1000;

impl Store {
    /// Writes the cells, each in place of the one with its key, all or none.
    pub fn save_cells(&mut self, cells: &[Cell]) -> Result<(), StoreError> {
        Ok(save(&mut self.conn, cells)?)
    }

    /// Writes the cells as [`save_cells`](Self::save_cells) does, and removes those of the keys that are `gone`: all of
    /// it or nothing.
    pub fn replace_cells(&mut self, cells: &[Cell], gone: &[String]) -> Result<(), StoreError> {
        let tx = self.conn.transaction()?;
        for key in gone {
            tx.execute("DELETE FROM cells WHERE key = ?1", [key])?;
        }
        insert(&tx, cells)?;
        Ok(tx.commit()?)
    }

    /// Every cell whose checksum holds, by key. The others are moved to quarantine and named.
    ///
    /// An error means that the file was damaged since it was opened; opening it again sets it aside and
    /// saves the cells that can still be read.
    pub fn load_cells(&mut self) -> Result<(Vec<Cell>, Vec<Quarantined>), StoreError> {
        let tx = self.conn.transaction()?;
        let Scan { good, bad, error } = scan(&tx);
        if let Some(error) = error {
            return Err(error.into());
        }
        if !bad.is_empty() {
            let now = unix_ms();
            for Bad {
                key,
                version,
                payload,
                reason,
            } in &bad
            {
                let values = params![now, key, version, payload, reason];
                tx.execute("INSERT INTO quarantine VALUES (?1, ?2, ?3, ?4, ?5)", values)?;
            }
            // All anew, since a damaged key cannot be named in a condition.
            tx.execute("DELETE FROM cells", [])?;
            insert(&tx, &good)?;
            trim(&tx)?;
        }
        tx.commit()?;
        let named = |bad: Bad| Quarantined {
            key: bad.key,
            reason: bad.reason,
        };
        Ok((good, bad.into_iter().map(named).collect()))
    }

    /// Moves the cell with this key to quarantine, for one that is whole but says what cannot be.
    pub fn quarantine(&mut self, key: &str, reason: &str) -> Result<(), StoreError> {
        let tx = self.conn.transaction()?;
        tx.execute(
            "INSERT INTO quarantine SELECT ?1, key, version, payload, ?3 FROM cells WHERE key = ?2",
            params![unix_ms(), key, reason],
        )?;
        tx.execute("DELETE FROM cells WHERE key = ?1", [key])?;
        trim(&tx)?;
        Ok(tx.commit()?)
    }
}

/// What a walk over the cells found.
pub(super) struct Scan {
    pub good: Vec<Cell>,
    bad: Vec<Bad>,
    /// What ended the walk early.
    error: Option<rusqlite::Error>,
}

impl Scan {
    /// Whether the walk came to its end.
    pub fn is_whole(&self) -> bool {
        self.error.is_none()
    }
}

/// A cell that is not to be believed, as far as it can be read.
struct Bad {
    key: String,
    version: String,
    payload: String,
    reason: String,
}

/// Walks over the cells as far as the file can be read.
pub(super) fn scan(conn: &Connection) -> Scan {
    let mut scan = Scan {
        good: Vec::new(),
        bad: Vec::new(),
        error: None,
    };
    scan.error = walk(conn, &mut scan).err();
    scan
}

fn walk(conn: &Connection, scan: &mut Scan) -> rusqlite::Result<()> {
    let mut select = conn.prepare("SELECT key, version, payload, checksum FROM cells")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok(cell) => scan.good.push(cell),
            Err(reason) => scan.bad.push(Bad {
                key: legible(row.get_ref(0)?),
                version: legible(row.get_ref(1)?),
                payload: legible(row.get_ref(2)?),
                reason,
            }),
        }
    }
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Cell, String> {
    let convert = || -> rusqlite::Result<_> {
        let cell = Cell {
            key: row.get(0)?,
            version: row.get(1)?,
            payload: row.get(2)?,
        };
        Ok((cell, row.get::<_, Vec<u8>>(3)?))
    };
    let (cell, stored) = convert().map_err(|error| error.to_string())?;
    if stored != cell.checksum() {
        return Err("checksum does not match".into());
    }
    Ok(cell)
}

fn legible(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
    }
}

/// Writes the cells in one transaction.
pub(super) fn save(conn: &mut Connection, cells: &[Cell]) -> rusqlite::Result<()> {
    let tx = conn.transaction()?;
    insert(&tx, cells)?;
    tx.commit()
}

fn insert(conn: &Connection, cells: &[Cell]) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached("INSERT OR REPLACE INTO cells VALUES (?1, ?2, ?3, ?4)")?;
    for cell in cells {
        insert.execute(params![
            cell.key,
            cell.version,
            cell.payload,
            cell.checksum()
        ])?;
    }
    Ok(())
}

fn trim(conn: &Connection) -> rusqlite::Result<()> {
    let newest = "SELECT max(rowid) FROM quarantine";
    let delete = format!("DELETE FROM quarantine WHERE rowid <= ({newest}) - ?1");
    conn.execute(&delete, [QUARANTINE_ROWS]).map(drop)
}
