//! The gateway: the doors to the orchestrator.
//!
//! - [`http`]: the OpenAI wire, health, metrics, on TCP; the same on the Unix socket.
//! - [`socket`]: JSON-RPC 2.0 on the Unix socket.
//! - [`auth`]: who is it?
//! - `listener`: the actors that hold the doors open.
//! - `io`: slow peers and peeked bytes; `calm`: connections that wake themselves.
//!
//! The gateway parses, authenticates and bounds. It knows wire formats and nothing of models.

pub mod auth;
mod calm;
pub mod http;
mod io;
mod listener;
pub mod socket;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Server;
use crate::error::{Error, ErrorKind, Result};
use crate::orchestrator::Orchestrator;
use crate::supervisor::{
    self, Address, ChildSpec, Exhausted, Intensity, Settings, Strategy, Supervisor,
};
use crate::telemetry;

use http::body::Bodies;
use listener::Slot;

/// What the host lends to the doors.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Renders the metrics for `GET /metrics`; without it that answers 404.
    pub metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    /// Reads the configuration again and puts it in force, for the socket's `reload`.
    pub reload: Option<Reload>,
}

/// Reads the configuration again and puts it in force: what changed, or why it could not be.
pub type Reload = Arc<dyn Fn() -> BoxFuture<'static, Result<Value, String>> + Send + Sync>;

/// What every connection shares.
pub(crate) struct Doors {
    pub orchestrator: Orchestrator,
    pub hooks: Hooks,
    /// True once the doors close; connections finish what they have.
    pub closing: watch::Sender<bool>,
    /// True once somebody asked for the end over the socket.
    pub asked_to_stop: watch::Sender<bool>,
    /// Connections at the HTTP door, and at the socket: each counts for itself, so that no crowd at the one keeps the
    /// operator out of the other.
    open: [AtomicUsize; 2],
    /// Bodies of requests in memory.
    bodies: Arc<Mutex<Bodies>>,
    /// When the log was last told that somebody could not come in.
    complained: Mutex<Option<Instant>>,
}

/// A flood of connections fills no log: of those that cannot come in, it is told this often.
const COMPLAINTS: Duration = Duration::from_secs(10);

impl Doors {
    /// Whether the log may be told that somebody could not come in.
    fn may_complain(&self) -> bool {
        let mut complained = self.complained.lock();
        let due = complained.is_none_or(|at| at.elapsed() >= COMPLAINTS);
        if due {
            *complained = Some(Instant::now());
        }
        due
    }

    /// The limits in force.
    pub fn server(&self) -> Server {
        self.orchestrator.config().server.clone()
    }

    /// Returns when the doors close.
    pub async fn closed(&self) {
        let mut closing = self.closing.subscribe();
        // The sender lives in `self`, so the only way to return is the change.
        let _ = closing.wait_for(|closing| *closing).await;
    }

    /// So many connections are open at this door.
    fn open(&self, listener: &str) -> &AtomicUsize {
        &self.open[usize::from(listener == "socket")]
    }

    /// Counts a connection; `None` if there are too many.
    fn enter(self: &Arc<Self>, listener: &'static str) -> Option<Entry> {
        let limit = self.orchestrator.config().server.max_connections;
        let open = self.open(listener);
        if open.fetch_add(1, Ordering::Relaxed) >= limit {
            open.fetch_sub(1, Ordering::Relaxed);
            if self.may_complain() {
                tracing::warn!(listener, limit, "too many connections, some are refused");
            }
            return None;
        }
        telemetry::connections(listener, 1.0);
        Some(Entry {
            doors: Arc::clone(self),
            listener,
        })
    }
}

/// A counted connection.
struct Entry {
    doors: Arc<Doors>,
    listener: &'static str,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.doors
            .open(self.listener)
            .fetch_sub(1, Ordering::Relaxed);
        telemetry::connections(self.listener, -1.0);
    }
}

/// Bound doors, not yet open.
pub struct Gateway {
    doors: Arc<Doors>,
    http: Option<(SocketAddr, Slot<TcpListener>)>,
    socket: Option<socket::Bound>,
}

/// How long connections may take to close once their answers are out.
const LINGER: Duration = Duration::from_secs(2);

impl Gateway {
    /// Binds the doors that the orchestrator's configuration names.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the address or path and what is wrong with it.
    pub async fn bind(orchestrator: Orchestrator, hooks: Hooks) -> Result<Self> {
        let server = orchestrator.config().server.clone();
        let http = match server.http {
            Some(address) => {
                let bound = listen(address);
                let bound = bound.map_err(|error| {
                    Error::new(
                        ErrorKind::Invalid,
                        format!("server.http: {address} cannot be bound: {error}"),
                    )
                })?;
                let address = bound.local_addr().unwrap_or(address);
                Some((address, Slot::new(bound)))
            }
            None => None,
        };
        let socket = match &server.socket {
            Some(path) => Some(socket::Bound::new(path)?),
            None => None,
        };
        let doors = Doors {
            orchestrator,
            hooks,
            closing: watch::Sender::new(false),
            asked_to_stop: watch::Sender::new(false),
            open: Default::default(),
            bodies: Arc::default(),
            complained: Mutex::default(),
        };
        Ok(Self {
            doors: Arc::new(doors),
            http,
            socket,
        })
    }

    /// The address of the HTTP door, its port resolved.
    pub fn http(&self) -> Option<SocketAddr> {
        Some(self.http.as_ref()?.0)
    }

    /// The path of the socket.
    pub fn socket(&self) -> Option<&Path> {
        Some(self.socket.as_ref()?.path())
    }

    /// Opens the doors until `shutdown` is ready or somebody asks for the end over the socket; then closes them,
    /// lets running queries end within the configured time, and shuts the orchestrator down.
    ///
    /// # Errors
    /// If the orchestrator ends by itself.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
        let Self {
            doors,
            http,
            socket,
        } = self;
        let mut children = Vec::new();
        if let Some((_, http)) = http {
            children.push(listener::child(
                "http",
                http::accept_loop(http, Arc::clone(&doors)),
            ));
        }
        if let Some(socket) = &socket {
            let accept = socket::accept_loop(socket, Arc::clone(&doors));
            children.push(listener::child("socket", accept));
        }
        doors
            .orchestrator
            .supervise(listeners(&doors.orchestrator, children))
            .await?;
        let mut asked = doors.asked_to_stop.subscribe();
        let ended = doors.orchestrator.closed();
        let by_itself = tokio::select! {
            () = shutdown => false,
            _ = asked.wait_for(|asked| *asked) => false,
            () = ended => true,
        };
        if by_itself {
            return Err(Error::new(
                ErrorKind::Internal,
                "the root supervisor gave up; see the log",
            ));
        }
        doors.closing.send_replace(true);
        let patience = doors.server().shutdown_timeout;
        doors.orchestrator.shutdown(patience).await;
        let until = Instant::now() + LINGER;
        let open = || {
            doors
                .open
                .iter()
                .any(|open| open.load(Ordering::Relaxed) > 0)
        };
        while open() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if let Some(socket) = socket {
            // Removed last, and before its lock is let go: a client that finds no socket knows that we are gone.
            let _ = std::fs::remove_file(socket.path());
        }
        Ok(())
    }
}

/// Connections that may wait to be accepted; the system's own limit, if that is less.
const BACKLOG: u32 = 4096;

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Left over from a process before, a port may be taken again at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The supervisor of the accept loops.
fn listeners(orchestrator: &Orchestrator, children: Vec<ChildSpec>) -> ChildSpec {
    let settings = Settings {
        instance: orchestrator.instance().to_owned(),
        path: "root/listeners".into(),
        strategy: Strategy::OneForOne,
        intensity: Intensity {
            max_restarts: 10,
            window: Duration::from_secs(60),
        },
        exhausted: Exhausted::Escalate,
        tree: orchestrator.tree().clone(),
    };
    let address: Address<supervisor::Message> = Address::vacant();
    ChildSpec::new("listeners", address, move || {
        (Supervisor, (settings.clone(), children.clone()))
    })
}
