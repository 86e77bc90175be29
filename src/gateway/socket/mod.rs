//! The Unix socket: JSON-RPC 2.0, one object a line; or HTTP, when the first byte is not `{`.
//!
//! - [`Bound`]: the socket's file, its permissions, and the lock that says whose it is.
//! - `connection`: one peer speaking JSON-RPC.
//! - `rpc`: the methods; `state`: the one that holds what is learned.

mod connection;
mod rpc;
mod state;

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::auth::Caller;
use super::http::{self, Origin, accept_failed};
use super::listener::{Loop, Slot};
use super::{Doors, Entry};
use crate::config::uid;
use crate::error::{Error, ErrorKind, Result};
use crate::supervisor::task;

/// A bound socket.
pub struct Bound {
    listener: Slot<UnixListener>,
    path: PathBuf,
    /// Held while we live: only who holds it may remove a stale socket.
    _lock: File,
}

impl Bound {
    /// Binds `path` with mode 0600, in a directory made with mode 0700 if there was none. A socket that another
    /// process left behind is removed, one that another process serves is not.
    pub(super) fn new(path: &Path) -> Result<Self> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            let path = path.display();
            Error::new(
                ErrorKind::Invalid,
                format!("server.socket: {what} {path}: {error}"),
            )
        };
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.map_err(|error| failed("cannot make the directory of", &error))?;
            owned(parent).map_err(|error| failed("will not use the directory of", &error))?;
        }
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path);
        let lock = lock.map_err(|error| failed("cannot open the lock of", &error))?;
        if lock.try_lock().is_err() {
            return Err(failed(
                "another daemon serves",
                &"stop it, or choose another path",
            ));
        }
        match fs::symlink_metadata(path) {
            Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
                fs::remove_file(path).map_err(|error| failed("cannot remove the stale", &error))?;
            }
            Ok(_) => {
                return Err(failed(
                    "there is something that is no socket at",
                    &"choose another path",
                ));
            }
            Err(_) => {}
        }
        // Bound under a name of its own and renamed once its mode is set: nobody can connect in between.
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let _ = fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh).map_err(|error| failed("cannot bind", &error))?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o600))
            .and_then(|()| fs::rename(&fresh, path))
            .map_err(|error| failed("cannot set the mode of", &error))?;
        Ok(Self {
            listener: Slot::new(listener),
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Anybody may make a directory in `/tmp` before we do, and then replace what is in it.
fn owned(directory: &Path) -> Result<(), String> {
    let found = fs::metadata(directory).map_err(|error| error.to_string())?;
    let (owner, shared) = (
        found.uid(),
        found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0,
    );
    if owner != uid() && owner != 0 {
        return Err(format!("it belongs to the user {owner}"));
    }
    if shared {
        return Err("others may write to it".into());
    }
    Ok(())
}

pub(super) fn accept_loop(bound: &Bound, doors: Arc<Doors>) -> Loop {
    let slot = bound.listener.clone();
    Arc::new(move || {
        let (slot, doors) = (slot.clone(), Arc::clone(&doors));
        Box::pin(async move {
            let Some(listener) = slot.get() else {
                return std::future::pending().await;
            };
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = doors.closed() => {
                        slot.close();
                        drop(listener);
                        return std::future::pending().await;
                    }
                };
                match accepted {
                    Ok((stream, _)) => {
                        let Some(entry) = doors.enter("socket") else {
                            continue;
                        };
                        task::spawn(serve(stream, entry));
                    }
                    Err(error) => accept_failed("socket", &error).await,
                }
            }
        })
    })
}

/// Finds out what the peer speaks, then serves it. See [`http::serve`] for whose task this is.
async fn serve(mut stream: UnixStream, entry: Entry) {
    let Ok(peer) = stream.peer_cred() else { return };
    let caller = Caller::peer(peer.uid());
    let mut first = BytesMut::with_capacity(4096);
    // Not yet a request: who waits for a person's first word is as patient as between two.
    let read = tokio::select! {
        read = timeout(connection::IDLE, stream.read_buf(&mut first)) => read,
        () = entry.doors.closed() => return,
    };
    match read {
        Ok(Ok(1..)) => {}
        // Nothing was said in time, or the peer left.
        _ => return,
    }
    if first.starts_with(b"{") {
        connection::serve(stream, first, caller, entry).await;
    } else {
        let first: Bytes = first.freeze();
        http::serve(stream, first, Origin::Socket(caller), entry).await;
    }
}
