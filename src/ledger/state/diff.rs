//! What sets two learned states apart: cells that came and went, and in those that stayed the numbers that moved
//! most.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

use super::Cell;

/// At most so many numbers of a cell are named.
const NAMED: usize = 8;

/// What sets two states apart, each list in the order of keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Diff {
    /// Keys of the cells that only the second state has.
    pub added: Vec<String>,
    /// Keys of the cells that only the first has.
    pub removed: Vec<String>,
    /// Cells that say something else.
    pub changed: Vec<Change>,
}

/// A cell that says something else.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Its key.
    pub key: String,
    /// The versions of its payload before and after, if they are not the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<[u32; 2]>,
    /// How many leaves of the payload (numbers, texts, truth values, empty lists) are not the same, those that only
    /// one side has included. None of two payloads that differ in spacing alone; one if a payload is no JSON.
    pub leaves: usize,
    /// The numbers on both sides that moved most, measured by the larger of the two; at most 8.
    pub most: Vec<Moved>,
}

/// A number that moved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    /// Where in the payload: a JSON pointer (RFC 6901).
    pub path: String,
    /// What it was.
    pub before: f64,
    /// What it is.
    pub after: f64,
}

impl Diff {
    /// Whether nothing sets the states apart.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// Compares two lists of cells, each in the order of keys.
pub(super) fn diff(before: &[Cell], after: &[Cell]) -> Diff {
    let mut diff = Diff::default();
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return diff,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.key.cmp(&new.key),
        };
        match order {
            Ordering::Less => diff.removed.extend(old.next().map(|cell| cell.key.clone())),
            Ordering::Greater => diff.added.extend(new.next().map(|cell| cell.key.clone())),
            Ordering::Equal => {
                if let (Some(old), Some(new)) = (old.next(), new.next())
                    && old != new
                {
                    diff.changed.push(change(old, new));
                }
            }
        }
    }
}

fn change(before: &Cell, after: &Cell) -> Change {
    let mut walk = Walk::default();
    match (
        serde_json::from_str(&before.payload),
        serde_json::from_str(&after.payload),
    ) {
        (Ok(old), Ok(new)) => walk.both(&old, &new),
        _ => walk.leaves = usize::from(before.payload != after.payload),
    }
    Change {
        key: before.key.clone(),
        version: (before.version != after.version).then_some([before.version, after.version]),
        leaves: walk.leaves,
        most: walk.most.into_iter().map(|(_, moved)| moved).collect(),
    }
}

/// Two payloads, walked side by side. JSON nests no deeper than its parser allows, so recursion ends.
#[derive(Default)]
struct Walk {
    path: String,
    leaves: usize,
    /// The largest relative differences so far, the largest first.
    most: Vec<(f64, Moved)>,
}

impl Walk {
    fn both(&mut self, old: &Value, new: &Value) {
        match (old, new) {
            (Value::Object(old), Value::Object(new)) if !(old.is_empty() || new.is_empty()) => {
                let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
                for key in keys {
                    let name = key.replace('~', "~0").replace('/', "~1");
                    self.step(&name, old.get(key), new.get(key));
                }
            }
            (Value::Array(old), Value::Array(new)) if !(old.is_empty() || new.is_empty()) => {
                for index in 0..old.len().max(new.len()) {
                    self.step(&index.to_string(), old.get(index), new.get(index));
                }
            }
            (old, new) if old == new => {}
            (Value::Number(old), Value::Number(new)) => {
                self.leaves += 1;
                if let (Some(before), Some(after)) = (old.as_f64(), new.as_f64()) {
                    self.moved(before, after);
                }
            }
            // Something has become something else: what is gone and what has come.
            (old, new) => self.leaves += leaves(old).max(leaves(new)),
        }
    }

    fn step(&mut self, name: &str, old: Option<&Value>, new: Option<&Value>) {
        let parent = self.path.len();
        // Writing to a string cannot fail.
        let _ = write!(self.path, "/{name}");
        match (old, new) {
            (Some(old), Some(new)) => self.both(old, new),
            (Some(only), None) | (None, Some(only)) => self.leaves += leaves(only),
            (None, None) => {}
        }
        self.path.truncate(parent);
    }

    fn moved(&mut self, before: f64, after: f64) {
        let by = relative(before, after);
        let rank = self.most.partition_point(|(other, _)| *other >= by);
        if rank < NAMED {
            let moved = Moved {
                path: self.path.clone(),
                before,
                after,
            };
            self.most.insert(rank, (by, moved));
            self.most.truncate(NAMED);
        }
    }
}

/// How far two numbers are apart, measured by the larger: 0 for the same, 2 for opposite ones.
fn relative(before: f64, after: f64) -> f64 {
    let scale = before.abs().max(after.abs());
    if scale == 0.0 {
        return 0.0;
    }
    // Each by itself, since the difference of two huge numbers may be none.
    (before / scale - after / scale).abs()
}

fn leaves(value: &Value) -> usize {
    match value {
        Value::Array(entries) if !entries.is_empty() => entries.iter().map(leaves).sum(),
        Value::Object(entries) if !entries.is_empty() => entries.values().map(leaves).sum(),
        _ => 1,
    }
}
