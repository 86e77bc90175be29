//! `quorate serve`: the daemon.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::interval;

use super::failure::{Exit, Failure};
use super::global::Global;
use super::host::Host;
use super::output::Output;
use super::{log, metrics};

/// How often the recorder of metrics folds what has gathered into its histograms: until then it keeps every sample.
const UPKEEP: Duration = Duration::from_secs(1);

/// Run the daemon until it is told to stop.
///
/// SIGTERM and Ctrl-C close the doors and let running queries finish within server.shutdown_timeout; a
/// second one ends at once. SIGHUP reads the configuration again.
#[derive(Debug, clap::Args)]
pub struct Serve {}

impl Serve {
    /// Runs the daemon.
    pub async fn run(self, mut global: Global, out: Output) -> Result<(), Failure> {
        // A file that is gone when it is to be read again is a mistake, and not another file's turn.
        global.config = global.file();
        let config = global.configuration(out).await?;
        log::install(&config.log, out)?;
        let recorder = metrics::install()?;
        // Not before: until here a signal may simply end the process.
        let mut signals = Signals::listen()
            .map_err(|error| Failure::query(format!("signals cannot be received: {error}")))?;

        let deployments = config.deployments().count();
        let render = recorder.clone();
        let render = Arc::new(move || render.render());
        let again = move || {
            let global = global.clone();
            async move { global.configuration(out).await }
        };
        let mut host = Host::start(config, Some(render), again).await?;
        host.warm();
        let http = host.http.map(|address| format!("http://{address}"));
        let socket = host.socket.as_ref().map(|path| path.display().to_string());
        tracing::info!(http, socket, deployments, "ready");
        tell(&[NotifyState::Ready]);

        let mut upkeep = interval(UPKEEP);
        loop {
            tokio::select! {
                ended = host.ended() => {
                    tell(&[NotifyState::Stopping]);
                    return ended;
                }
                _ = upkeep.tick() => recorder.run_upkeep(),
                wish = signals.next() => match wish {
                    Wish::Reload => reload(&host).await,
                    Wish::End(_) => break,
                },
            }
        }

        tell(&[NotifyState::Stopping]);
        tracing::info!("closing: running queries may finish, a second signal ends at once");
        host.stop();
        loop {
            tokio::select! {
                ended = host.ended() => return ended,
                wish = signals.next() => if let Wish::End(exit) = wish {
                    tracing::warn!("ended at once, by a second signal");
                    return Err(Failure::silent(exit));
                },
            }
        }
    }
}

async fn reload(host: &Host) {
    let clock = NotifyState::monotonic_usec_now();
    tell(
        &std::iter::once(NotifyState::Reloading)
            .chain(clock)
            .collect::<Vec<_>>(),
    );
    if let Err(error) = host.reload().await {
        tracing::error!(error, "the old configuration stays in force");
    }
    tell(&[NotifyState::Ready]);
}

/// Tells the service manager, if there is one.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

/// What a signal asks for.
enum Wish {
    Reload,
    End(Exit),
}

struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.hangup.recv() => Wish::Reload,
            _ = self.interrupt.recv() => Wish::End(Exit::Interrupted),
            _ = self.terminate.recv() => Wish::End(Exit::Terminated),
        }
    }
}
