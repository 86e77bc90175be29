//! `quorate stop`: the daemon finishes what is running and ends.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::client::{self, Client};
use super::failure::Failure;
use super::global::Global;
use super::output::Output;

/// How often to look whether it is gone.
const PACE: Duration = Duration::from_millis(50);

/// Have the daemon finish what is running and end, and wait until it is gone.
#[derive(Debug, clap::Args)]
pub struct Stop {
    /// Seconds to wait; the daemon drains on if they are over, for server.shutdown_timeout at most
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

impl Stop {
    /// Asks for it and waits.
    pub async fn run(self, global: &Global, out: Output) -> Result<(), Failure> {
        let path = client::door(global)?;
        let unreachable = |error| client::unreachable(&path, &error);
        let socket = identity(&path).map_err(unreachable)?;
        match Client::connect(&path).await {
            Ok(mut client) => {
                global.leave_to(&path)?;
                client.call("shutdown", json!({})).await?;
            }
            // Its doors are closed, as somebody else has asked for it before.
            Err(error) if client::is_absent(&error) && !is_gone(&path, socket) => {}
            Err(error) => return Err(unreachable(error)),
        }
        let until = Instant::now() + Duration::from_secs(self.timeout);
        while !is_gone(&path, socket) {
            if Instant::now() > until {
                let waited = self.timeout;
                let cause = "its doors are closed, and running queries may finish first";
                return Err(Failure::query(format!(
                    "still draining after {waited} s: {cause}"
                )));
            }
            sleep(PACE).await;
        }
        if out.json {
            out.value(&json!({ "stopped": true }))?
        } else {
            out.line("stopped")?
        }
        Ok(())
    }
}

/// Whether the socket has been removed, is another daemon's already, or was left behind by a process that no longer
/// holds its lock. Connections tell nothing: they are refused from the beginning of the end.
fn is_gone(path: &Path, socket: (u64, u64)) -> bool {
    if identity(path).ok() != Some(socket) {
        return true;
    }
    let mut lock = path.as_os_str().to_owned();
    lock.push(".lock");
    match File::open(lock) {
        // Shared, and let go at once, so as to be in nobody's way.
        Ok(lock) => lock.try_lock_shared().is_ok(),
        // Made before the socket, it was removed by hand: it tells nothing.
        Err(_) => false,
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;

    let found = path.metadata()?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_gone_once_its_socket_is_removed_anothers_or_its_lock_is_let_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("q.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let socket = identity(&path).unwrap();
        let lock = File::create(directory.path().join("q.sock.lock")).unwrap();
        lock.try_lock().unwrap();
        drop(listener);
        assert!(
            !is_gone(&path, socket),
            "its doors are closed, and it drains"
        );
        assert!(is_gone(&path, (socket.0, socket.1 + 1)), "another's");
        drop(lock);
        assert!(is_gone(&path, socket), "deserted");
        std::fs::remove_file(&path).unwrap();
        assert!(is_gone(&path, socket), "removed");
    }
}
