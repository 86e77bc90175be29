//! Recorded sets and drawings in files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate::eval::read;
use quorate::eval::record::{self, Recorded};

use super::super::failure::Failure;

/// A recorded set, shared by every query that asks about it.
pub(super) type Records = Vec<Arc<Recorded>>;

pub(super) fn load(path: &Path) -> Result<Records, Failure> {
    let records = read::read(path).map_err(|error| Failure::query(error.to_string()))?;
    Ok(records.into_iter().map(Arc::new).collect())
}

pub(super) fn load_or_none(path: Option<&PathBuf>) -> Result<Records, Failure> {
    path.map_or(Ok(Vec::new()), |path| load(path))
}

/// Writes a file.
pub(super) fn save(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|error| Failure::query(format!("{}: {error}", path.display())))
}

/// Writes a recorded set.
pub(super) fn write_records(path: &Path, records: &[Recorded]) -> Result<(), Failure> {
    let mut text = Vec::new();
    record::write(records, &mut text)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| Failure::query(format!("{}: {error}", path.display())))
}
