//! A client, and a host in this process if nobody else is one.

use std::time::Duration;

use tempfile::TempDir;

use super::client::{self, Client};
use super::failure::Failure;
use super::global::Global;
use super::host::Host;
use super::log;
use super::output::Output;

/// How long what is left of a command's own orchestrator may take to end.
const PATIENCE: Duration = Duration::from_secs(2);

/// A client of a daemon, or of an orchestrator in this process.
pub struct Connection {
    /// The way to it.
    pub client: Client,
    own: Option<(Host, TempDir)>,
}

impl Connection {
    /// Connects to the daemon, or else starts an orchestrator here, behind a socket that only this
    /// process knows.
    pub async fn open(global: &Global, out: Output) -> Result<Self, Failure> {
        if let Some(path) = global.door()? {
            match Client::connect(&path).await {
                Ok(client) => {
                    global.leave_to(&path)?;
                    return Ok(Self { client, own: None });
                }
                Err(error) if client::is_absent(&error) => {}
                Err(error) => return Err(client::unreachable(&path, &error)),
            }
        }
        out.note("no daemon is running: answering in this process");
        let mut config = global.configuration(out).await?;
        if global.log.is_none() {
            config.log.level = "error".into();
        }
        log::install(&config.log, out)?;

        let private = || tempfile::Builder::new().prefix("quorate-").tempdir();
        let directory = private()
            .map_err(|error| Failure::query(format!("no directory for a socket: {error}")))?;
        let path = directory.path().join("quorate.sock");
        config.server.http = None;
        config.server.socket = Some(path.clone());
        config.server.shutdown_timeout = PATIENCE;
        let fixed = || async {
            Err(Failure::query(
                "only a daemon reads its configuration again",
            ))
        };
        let host = Host::start(config, None, fixed).await?;
        let connected = Client::connect(&path).await;
        let client = connected.map_err(|error| client::unreachable(&path, &error))?;
        Ok(Self {
            client,
            own: Some((host, directory)),
        })
    }

    /// Ends what was started here, so that what it learned is written.
    pub async fn close(self) {
        drop(self.client);
        if let Some((mut host, _directory)) = self.own {
            host.stop();
            if let Err(failure) = host.ended().await {
                tracing::error!(error = failure.message, "the end was not orderly");
            }
        }
    }
}
