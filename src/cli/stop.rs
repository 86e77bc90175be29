//! `quorate stop`: the daemon finishes what is running and ends.

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
    /// Seconds to wait
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
}

impl Stop {
    /// Asks for it and waits.
    pub async fn run(self, global: &Global, out: Output) -> Result<(), Failure> {
        let path = client::door(global)?;
        let unreachable = |error| client::unreachable(&path, &error);
        let mut client = Client::connect(&path).await.map_err(unreachable)?;
        let socket = identity(&path).map_err(unreachable)?;
        client.call("shutdown", json!({})).await?;
        // A connection that stays would be waited for.
        drop(client);
        let until = Instant::now() + Duration::from_secs(self.timeout);
        while !is_gone(&path, socket).await {
            if Instant::now() > until {
                let waited = self.timeout;
                let cause = "it was asked to, and lets running queries finish first";
                return Err(Failure::query(format!(
                    "still running after {waited} s: {cause}"
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

/// Whether the socket has been removed, is nobody's any more, or is another daemon's already.
async fn is_gone(path: &Path, socket: (u64, u64)) -> bool {
    if identity(path).ok() != Some(socket) {
        return true;
    }
    Client::connect(path)
        .await
        .is_err_and(|error| client::is_absent(&error))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;

    let found = path.metadata()?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn a_daemon_is_gone_once_its_socket_is_removed_deserted_or_anothers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("q.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let socket = identity(&path).unwrap();
        assert!(!is_gone(&path, socket).await);
        assert!(is_gone(&path, (socket.0, socket.1 + 1)).await, "another's");
        drop(listener);
        assert!(is_gone(&path, socket).await, "deserted");
        std::fs::remove_file(&path).unwrap();
        assert!(is_gone(&path, socket).await, "removed");
    }
}
