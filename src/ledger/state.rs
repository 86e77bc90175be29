//! Learned state as something one can hold: a value with a digest, a file, and what sets two apart.
//!
//! The file is one JSON document:
//!
//! ```json
//! {"format":"quorate-state","version":1,"crate":"0.1.0","at":1700000000000,"digest":"<64 hex>",
//!  "cells":[{"key":"topics","version":1,"payload":"{}"}]}
//! ```
//!
//! Payloads stand in it as text, exactly as the cells hold them, so that a number keeps every bit on its way
//! through a file. The digest is BLAKE3 over the cells in the order of their keys: of each the key, the version as
//! four bytes and the payload, little-endian, and each after its length in eight bytes. It depends on nothing else:
//! not on when the state was written, nor by whom.

mod diff;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Cell;

pub use diff::{Change, Diff, Moved};

/// What the document calls itself.
pub const FORMAT: &str = "quorate-state";
/// The version of the document's shape; another is not read.
pub const VERSION: u64 = 1;
/// The largest document that is read, in bytes.
pub const MOST_BYTES: usize = 256 << 20;
/// The most cells a document may hold.
pub const MOST_CELLS: usize = 100_000;
/// The longest key of a cell, in bytes.
pub const LONGEST_KEY: usize = 512;
/// Hexadecimal digits of a digest where a person reads it.
const SHORT: usize = 16;

/// Why a document is not taken for learned state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It is too large to be read.
    #[error("the document has {0} bytes, more than {MOST_BYTES}")]
    Large(usize),
    /// It is no JSON document of this shape.
    #[error("the document is no learned state: {0}")]
    Shape(String),
    /// It is something else.
    #[error("the document's format is '{0}', not '{FORMAT}'")]
    Format(String),
    /// Another version wrote it.
    #[error("the document has version {0}, this program reads {VERSION}")]
    Version(u64),
    /// A cell's key is empty or too long.
    #[error("cell {index}: the key has {bytes} bytes; it must have 1 to {LONGEST_KEY}")]
    Key {
        /// Which cell, from 0.
        index: usize,
        /// How long its key is.
        bytes: usize,
    },
    /// Two cells have the same key.
    #[error("two cells have the key '{0}'")]
    Duplicate(String),
    /// The cells are not those that were written.
    #[error("the cells were changed: their digest is {found}, the document says {said}")]
    Digest {
        /// What the document says, at most 64 characters of it.
        said: String,
        /// What its cells amount to.
        found: String,
    },
}

/// Learned state: cells in the order of their keys, each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    cells: Vec<Cell>,
}

impl State {
    /// The state that these cells amount to, in whatever order they come. Of several with one key the last counts,
    /// as it does where cells are written.
    pub fn new(cells: Vec<Cell>) -> Self {
        let by_key: BTreeMap<String, Cell> = cells
            .into_iter()
            .map(|cell| (cell.key.clone(), cell))
            .collect();
        Self {
            cells: by_key.into_values().collect(),
        }
    }

    /// The cells, in the order of their keys.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// The cells alone.
    pub fn into_cells(self) -> Vec<Cell> {
        self.cells
    }

    /// What identifies the state: 64 lower-case hexadecimal digits. Reads every byte of it.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for cell in &self.cells {
            add(cell.key.as_bytes());
            add(&cell.version.to_le_bytes());
            add(cell.payload.as_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The digest's first 16 digits, for people and for a decision's row.
    pub fn short(&self) -> String {
        short(&self.digest()).to_owned()
    }

    /// The document of the state as it was at the Unix millisecond `at`, on one line.
    pub fn to_json(&self, at: i64) -> String {
        let document = Writing {
            format: FORMAT,
            version: VERSION,
            written_by: env!("CARGO_PKG_VERSION"),
            at,
            digest: self.digest(),
            cells: &self.cells,
        };
        // Text and whole numbers under fixed names: nothing here can fail to be written.
        serde_json::to_string(&document).unwrap_or_default()
    }

    /// Reads a document: the state, and the Unix millisecond it is of. Fields may stand in any order, and JSON may
    /// be spaced as one likes; what the cells say is borne out by the digest. Whether a payload makes sense is for
    /// its owner to say.
    ///
    /// # Errors
    /// Whatever is wrong first: see [`StateError`].
    pub fn parse(document: &[u8]) -> Result<(Self, i64), StateError> {
        if document.len() > MOST_BYTES {
            return Err(StateError::Large(document.len()));
        }
        let shape = |error: serde_json::Error| StateError::Shape(error.to_string());
        // Of an array, serde would take the entries for the fields in their order.
        if !document.trim_ascii_start().starts_with(b"{") {
            return Err(StateError::Shape("it is no JSON object".into()));
        }
        // What it is comes before what it says: another version may have other fields.
        let head: Head = serde_json::from_slice(document).map_err(shape)?;
        match head.format {
            Some(format) if format == FORMAT => {}
            Some(format) => return Err(StateError::Format(format.chars().take(64).collect())),
            None => return Err(StateError::Shape("it has no text 'format'".into())),
        }
        match head.version {
            Some(VERSION) => {}
            Some(version) => return Err(StateError::Version(version)),
            None => return Err(StateError::Shape("it has no 'version'".into())),
        }
        let read: Reading = serde_json::from_slice(document).map_err(shape)?;
        let Cells(cells) = read.cells;
        for (index, cell) in cells.iter().enumerate() {
            let bytes = cell.key.len();
            if !(1..=LONGEST_KEY).contains(&bytes) {
                return Err(StateError::Key { index, bytes });
            }
        }
        let mut state = Self { cells };
        state.cells.sort_by(|a, b| a.key.cmp(&b.key));
        let twice = state.cells.windows(2).find_map(|pair| match pair {
            [a, b] if a.key == b.key => Some(a.key.clone()),
            _ => None,
        });
        if let Some(key) = twice {
            return Err(StateError::Duplicate(key));
        }
        let found = state.digest();
        if read.digest != found {
            let said = read.digest.chars().take(found.len()).collect();
            return Err(StateError::Digest { said, found });
        }
        Ok((state, read.at))
    }

    /// What must happen to `self` for it to become `other`.
    pub fn diff(&self, other: &Self) -> Diff {
        diff::diff(&self.cells, &other.cells)
    }
}

/// A digest as people read it: its first 16 digits.
pub fn short(digest: &str) -> &str {
    digest.get(..SHORT).unwrap_or(digest)
}

#[derive(Serialize)]
struct Writing<'a> {
    format: &'static str,
    version: u64,
    #[serde(rename = "crate")]
    written_by: &'static str,
    at: i64,
    digest: String,
    cells: &'a [Cell],
}

/// What a document says it is, whatever else it holds.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    version: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reading {
    #[serde(rename = "format")]
    _format: IgnoredAny,
    #[serde(rename = "version")]
    _version: IgnoredAny,
    /// For whoever looks for the cause of a difference; it decides nothing.
    #[serde(rename = "crate", default)]
    _written_by: IgnoredAny,
    at: i64,
    digest: String,
    cells: Cells,
}

/// Cells whose number is bounded while they are read: short ones take more memory than their text.
struct Cells(Vec<Cell>);

impl<'de> Deserialize<'de> for Cells {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Counting)
    }
}

struct Counting;

impl<'de> Visitor<'de> for Counting {
    type Value = Cells;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "at most {MOST_CELLS} cells")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Cells, A::Error> {
        let mut cells = Vec::new();
        while let Some(cell) = entries.next_element()? {
            if cells.len() == MOST_CELLS {
                return Err(A::Error::custom(format!("more than {MOST_CELLS} cells")));
            }
            cells.push(cell);
        }
        Ok(Cells(cells))
    }
}
