//! Where a daemon lives: its directory, its port and its log outlast it, so that it can be started again; and what
//! the kernel tells of it from outside.

use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::support::{Daemon, PATIENCE, Reply, quorate};

pub struct Place {
    pub dir: TempDir,
    /// Holds the ledger and nothing else.
    pub state: PathBuf,
    pub ledger: PathBuf,
    pub config: PathBuf,
    pub http: SocketAddr,
}

impl Place {
    /// `server` is added to that section, `toml` to the whole.
    pub fn new(server: &str, toml: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let state = dir.path().join("state");
        let ledger = state.join("ledger.db");
        // A port that was free a moment ago.
        let http = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let place = Self {
            config: dir.path().join("quorate.toml"),
            dir,
            state,
            ledger,
            http,
        };
        place.configure(server, toml);
        place
    }

    /// Writes another configuration.
    pub fn configure(&self, server: &str, toml: &str) {
        let (dir, ledger) = (self.dir.path().display(), self.ledger.display());
        let text = format!(
            "[server]\nhttp = \"{}\"\nsocket = \"{dir}/q.sock\"\n{server}\n[ledger]\npath = \"{ledger}\"\n\
             flush = \"20ms\"\ncheckpoint = \"100ms\"\n{toml}",
            self.http
        );
        std::fs::write(&self.config, text).unwrap();
    }

    /// Starts the daemon and waits until it is ready.
    pub async fn start(&self) -> Daemon {
        self.start_in(&["sh", "-c"], "").await
    }

    /// The same after `prelude`, lines of shell that may limit what it can do, in a shell that `run` starts.
    pub async fn start_in(&self, run: &[&str], prelude: &str) -> Daemon {
        let program = quorate();
        let mut command = Command::new(run[0]);
        command.args(&run[1..]);
        command.arg(format!("{prelude}\nexec \"$0\" serve --config \"$1\""));
        command.arg(program.get_program()).arg(&self.config);
        command
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap());
        command.env("NO_COLOR", "1").stdin(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        // Through a pipe: the limits of the daemon's files are not those of its log.
        let mut stderr = child.stderr.take().unwrap();
        let mut log = self.open_log();
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut log));
        let mut daemon = Daemon {
            child,
            http: self.http,
            socket: self.dir.path().join("q.sock"),
            config: self.config.clone(),
        };
        let until = Instant::now() + PATIENCE;
        while daemon
            .get("/readyz")
            .await
            .is_none_or(|reply| reply.status != 200)
        {
            let ended = daemon.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < until,
                "the daemon is not ready: {ended:?}\n{}",
                self.log()
            );
            sleep(Duration::from_millis(5)).await;
        }
        daemon
    }

    fn open_log(&self) -> File {
        let path = self.dir.path().join("daemon.log");
        let mut options = OpenOptions::new();
        options.create(true).append(true).open(path).unwrap()
    }

    /// Everything that every daemon here has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("daemon.log")).unwrap_or_default()
    }

    /// How many lines of the log say so.
    pub fn said(&self, what: &str) -> usize {
        self.log()
            .lines()
            .filter(|line| line.contains(what))
            .count()
    }

    /// Nothing is lent out, nothing panicked, and the next query is answered.
    pub async fn assert_well(&self, daemon: &Daemon, model: &str) {
        until("everything returned", async || {
            at_rest(&status(daemon).await)
        })
        .await;
        let reply = daemon.chat(model, "well?").await.expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.body);
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// Permits, waiting places, calls in flight and probe slots are all back.
fn at_rest(status: &Value) -> bool {
    let zero = |value: &Value| value.as_u64() == Some(0);
    let admission = &status["admission"];
    let waiting = admission["waiting"].as_array().unwrap();
    let mut deployments = status["deployments"].as_array().unwrap().iter();
    zero(&admission["in_use"])
        && waiting.iter().all(zero)
        && deployments.all(|one| zero(&one["in_flight"]) && zero(&one["probes_out"]))
}

pub async fn status(daemon: &Daemon) -> Value {
    daemon.get("/v1/status").await.expect("a status").json()
}

/// Waits until it `holds`, and fails naming `what` if it never does.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "never came true: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A `POST` on a connection of its own; `None` if there was no answer.
pub async fn post(http: SocketAddr, path: &str, body: impl Into<bytes::Bytes>) -> Option<Reply> {
    let stream = tokio::net::TcpStream::connect(http).await.ok()?;
    let request = hyper::Request::post(path).header("host", "localhost");
    let body = http_body_util::Full::new(body.into());
    super::support::send(stream, request.body(body).unwrap()).await
}

/// What the kernel says of a process.
pub struct Watched(u32);

impl Watched {
    pub fn new(daemon: &Daemon) -> Self {
        Self(daemon.child.id())
    }

    fn entries(&self, what: &str) -> usize {
        let path = format!("/proc/{}/{what}", self.0);
        std::fs::read_dir(path).unwrap().count()
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        self.entries("fd")
    }

    pub fn threads(&self) -> usize {
        self.entries("task")
    }

    /// Resident memory in MB.
    pub fn megabytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<usize>().unwrap() / 1024
    }

    /// Processor time so far; the kernel counts hundredths of a second.
    pub fn processor(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap();
        // The name, in parentheses, may hold blanks; of what follows, the 12th and the 13th.
        let (_, rest) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<u64> = rest
            .split(' ')
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        Duration::from_millis((fields[11] + fields[12]) * 10)
    }

    /// Waits until its descriptors are as few as they were.
    pub async fn until_descriptors_are_back(&self, before: usize) {
        // The connection that is closing just now, and one that asks for the status.
        until("descriptors are back", async || {
            self.descriptors() <= before + 2
        })
        .await;
    }
}
