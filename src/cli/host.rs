//! The inside of a daemon: an orchestrator and the doors to it, for `serve`, and for a command that
//! finds no daemon.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate::config::Config;
use quorate::gateway::{Gateway, Hooks};
use quorate::{ErrorKind, Orchestrator};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::failure::{Exit, Failure};

/// A running orchestrator behind open doors.
pub struct Host {
    orchestrator: Orchestrator,
    /// The address of the HTTP door.
    pub http: Option<SocketAddr>,
    /// The path of the socket.
    pub socket: Option<PathBuf>,
    hooks: Hooks,
    stop: CancellationToken,
    serving: JoinSet<quorate::Result<()>>,
}

impl Host {
    /// Starts what `config` says. `metrics` renders what `GET /metrics` answers; `again` reads the
    /// configuration once more when a reload is asked for.
    pub async fn start<F, R>(
        config: Config,
        metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
        again: F,
    ) -> Result<Self, Failure>
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<Config, Failure>> + Send + 'static,
    {
        let started = Orchestrator::builder(config).start().await;
        let orchestrator = started.map_err(|error| match error.kind() {
            ErrorKind::Invalid => Failure::new(Exit::Config, error.message()),
            _ => Failure::from(error),
        })?;
        let reloaded = orchestrator.clone();
        let hooks = Hooks {
            metrics,
            reload: Some(Arc::new(move || {
                let (orchestrator, config) = (reloaded.clone(), again());
                Box::pin(async move {
                    let config = config.await.map_err(|failure| failure.message)?;
                    let changes = orchestrator.reload(config).await;
                    let changes = changes.map_err(|error| error.message().to_owned())?;
                    serde_json::to_value(changes).map_err(|error| error.to_string())
                })
            })),
        };
        let gateway = match Gateway::bind(orchestrator.clone(), hooks.clone()).await {
            Ok(gateway) => gateway,
            Err(error) => {
                orchestrator.shutdown(Duration::ZERO).await;
                return Err(Failure::unavailable(error.message()));
            }
        };
        let (http, socket) = (gateway.http(), gateway.socket().map(Into::into));
        let stop = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(gateway.serve(stop.clone().cancelled_owned()));
        Ok(Self {
            orchestrator,
            http,
            socket,
            hooks,
            stop,
            serving,
        })
    }

    /// See [`Orchestrator::warm`].
    pub fn warm(&self) {
        self.orchestrator.warm();
    }

    /// Reads the configuration again and says what changed; an error leaves the old one in force.
    pub async fn reload(&self) -> Result<Value, String> {
        match &self.hooks.reload {
            Some(reload) => reload().await,
            None => Err("nothing to reload".into()),
        }
    }

    /// Closes the doors; what is running finishes within the configured time. [`Host::ended`] tells
    /// when it has.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for the end: after [`Host::stop`], because a client asked for it, or because of a failure.
    pub async fn ended(&mut self) -> Result<(), Failure> {
        match self.serving.join_next().await {
            Some(Ok(ended)) => Ok(ended?),
            Some(Err(panic)) => Err(Failure::query(format!("the gateway failed: {panic}"))),
            None => Ok(()),
        }
    }
}
