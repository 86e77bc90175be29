//! A file that is not whole yet, hashed as it grows.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::failed;
use crate::error::{Error, ErrorKind, Result};
use crate::models::Model;

/// Bytes copied between two reports at most.
const PIECE: usize = 1 << 20;

/// `<file>.partial`, open for more.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    hash: Sha256,
    written: u64,
}

impl Partial {
    /// An empty one, whatever was there.
    pub(super) fn create(model: &Model, path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|error| failed(model, path, &error))?;
        Ok(Self {
            path: path.into(),
            file,
            hash: Sha256::new(),
            written: 0,
        })
    }

    /// The one that an earlier try left, or an empty one.
    pub(super) fn resume(model: &Model, path: &Path, report: &dyn Fn(u64) -> bool) -> Result<Self> {
        let length = fs::metadata(path).map_or(0, |found| found.len());
        if length == 0 || length > model.bytes {
            return Self::create(model, path);
        }
        let open = File::options().read(true).append(true).open(path);
        let file = open.map_err(|error| failed(model, path, &error))?;
        let mut reader = file
            .try_clone()
            .map_err(|error| failed(model, path, &error))?;
        let mut partial = Self {
            path: path.into(),
            file,
            hash: Sha256::new(),
            written: 0,
        };
        partial.pump(model, &mut reader, report, |_, _| Ok(()))?;
        Ok(partial)
    }

    /// Bytes that are here.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Adds `bytes`.
    pub(super) fn write(&mut self, model: &Model, mut bytes: &[u8]) -> Result<()> {
        self.copy(model, &mut bytes, &|_| true)
    }

    /// Adds everything that `from` yields, and reports after each piece how much is here; ends when the report
    /// finds nobody.
    pub(super) fn copy(
        &mut self,
        model: &Model,
        from: &mut dyn Read,
        report: &dyn Fn(u64) -> bool,
    ) -> Result<()> {
        self.pump(model, from, report, |file, bytes| file.write_all(bytes))
    }

    fn pump(
        &mut self,
        model: &Model,
        from: &mut dyn Read,
        report: &dyn Fn(u64) -> bool,
        keep: impl Fn(&mut File, &[u8]) -> io::Result<()>,
    ) -> Result<()> {
        let mut piece = vec![0; PIECE];
        loop {
            let length = from
                .read(&mut piece)
                .map_err(|error| failed(model, &self.path, &error))?;
            if length == 0 {
                return Ok(());
            }
            let bytes = &piece[..length];
            self.written += length as u64;
            if self.written > model.bytes {
                let text = format!(
                    "cannot fetch {}: the source has more than {} bytes",
                    model.name, model.bytes
                );
                return Err(self.discard(text));
            }
            keep(&mut self.file, bytes).map_err(|error| failed(model, &self.path, &error))?;
            self.hash.update(bytes);
            if !report(self.written) {
                return Err(Error::new(
                    ErrorKind::Cancelled,
                    format!("fetching {} was cancelled", model.name),
                ));
            }
        }
    }

    /// Moves it to `path` if its hash is right; deletes it if not.
    pub(super) fn become_whole(mut self, model: &Model, path: &Path) -> Result<()> {
        let mut actual = String::with_capacity(64);
        for byte in self.hash.finalize_reset() {
            // Writing into a string cannot fail.
            let _ = write!(actual, "{byte:02x}");
        }
        if actual != model.sha256 {
            let text = format!(
                "cannot fetch {}: the file's sha256 is {actual}, expected {}; it was deleted",
                model.name, model.sha256
            );
            return Err(self.discard(text));
        }
        let whole = self
            .file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, path));
        whole.map_err(|error| failed(model, path, &error))
    }

    fn discard(&self, text: String) -> Error {
        // If it stays, the next try finds it wrong again and says so.
        let _ = fs::remove_file(&self.path);
        Error::new(ErrorKind::Malformed, text)
    }
}
