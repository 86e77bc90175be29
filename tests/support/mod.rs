//! The harness of the black-box tests: an orchestrator with its doors open, in this process ([`World`]) or as the
//! real daemon ([`Daemon`]), and small clients that speak over real sockets.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use quorate::gateway::{Gateway, Hooks};
use quorate::id::DeploymentId;
use quorate::provider::adapter::scripted::ScriptedProvider;
use quorate::provider::{Capabilities, Deployment, Limits, Timeouts};
use quorate::{Config, Orchestrator, Provider};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

/// Long enough for a busy machine; reaching it is a failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A deployment with defaults, to be served by the test itself.
pub fn deployment(id: &str) -> Deployment {
    let (_, model) = id.split_once('/').unwrap();
    Deployment {
        id: DeploymentId::from(id),
        model: model.into(),
        vendor: "test".into(),
        capabilities: Capabilities::default(),
        price: None,
        limits: Limits::default(),
        timeouts: Timeouts::default(),
        quality: None,
        family: None,
    }
}

/// A scripted provider that the test can watch and change.
pub fn scripted(script: Value) -> Arc<ScriptedProvider> {
    Arc::new(ScriptedProvider::new(script).unwrap())
}

/// An orchestrator in this process, its doors on an ephemeral port and a socket in a temporary directory.
pub struct World {
    pub orchestrator: Orchestrator,
    pub http: SocketAddr,
    pub socket: PathBuf,
    pub dir: TempDir,
    stop: Option<oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<quorate::Result<()>>>,
}

impl World {
    /// `toml` is added to a configuration that closes over the temporary directory; it may not hold `[server]` or
    /// `[ledger]`.
    pub async fn start(toml: &str, host: Vec<(Deployment, Arc<dyn Provider>)>) -> Self {
        let dir = TempDir::new().unwrap();
        let config =
            Config::parse(&config(dir.path(), toml), "test.toml", Vec::new(), &[]).unwrap();
        let mut builder = Orchestrator::builder(config);
        for (deployment, provider) in host {
            builder = builder.provider(deployment, provider);
        }
        let orchestrator = builder.start().await.unwrap();
        let gateway = Gateway::bind(orchestrator.clone(), Hooks::default())
            .await
            .unwrap();
        let http = gateway.http().unwrap();
        let socket = gateway.socket().unwrap().to_owned();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(gateway.serve(async {
            let _ = stopped.await;
        }));
        let world = Self {
            orchestrator,
            http,
            socket,
            dir,
            stop: Some(stop),
            served: Some(served),
        };
        world
            .until("the doors are open", async |w| {
                w.try_get("/healthz").await.is_some()
            })
            .await;
        world
    }

    /// One scripted deployment per `(id, script)`.
    pub async fn scripted(
        toml: &str,
        scripts: &[(&str, Value)],
    ) -> (Self, Vec<Arc<ScriptedProvider>>) {
        let providers: Vec<Arc<ScriptedProvider>> = scripts
            .iter()
            .map(|(_, script)| scripted(script.clone()))
            .collect();
        let host = scripts.iter().zip(&providers);
        let host = host
            .map(|((id, _), provider)| (deployment(id), Arc::clone(provider) as Arc<dyn Provider>));
        let world = Self::start(toml, host.collect()).await;
        (world, providers)
    }

    /// Closes the doors and waits for the end.
    pub async fn stop(mut self) -> quorate::Result<()> {
        drop(self.stop.take());
        timeout(PATIENCE, self.served.take().unwrap())
            .await
            .unwrap()
            .unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        let request = hyper::Request::post(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::from(body.to_string()))
            .unwrap();
        self.send(request).await.unwrap()
    }

    pub async fn chat(&self, model: &str, text: &str) -> Reply {
        self.post("/v1/chat/completions", &chat(model, text)).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.try_get(path).await.unwrap()
    }

    async fn try_get(&self, path: &str) -> Option<Reply> {
        let request = hyper::Request::get(path).header("host", "localhost");
        self.send(request.body(Full::default()).unwrap()).await
    }

    pub async fn send(&self, request: hyper::Request<Full<bytes::Bytes>>) -> Option<Reply> {
        send(TcpStream::connect(self.http).await.ok()?, request).await
    }

    pub async fn rpc(&self) -> Rpc {
        Rpc::connect(&self.socket).await
    }

    /// The deployment's part of the status.
    pub fn deployment(&self, id: &str) -> Value {
        let status = serde_json::to_value(self.orchestrator.status()).unwrap();
        let all = status["deployments"].as_array().unwrap();
        all.iter().find(|one| one["id"] == id).cloned().unwrap()
    }

    pub fn in_use(&self) -> usize {
        self.orchestrator.status().admission.in_use
    }

    /// Waits until `holds`, and fails naming `what` if it never does.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds(self).await {
            assert!(Instant::now() < until, "never came true: {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Everything that is lent out has come back: permits, waiting places, calls in flight, probe slots.
    pub async fn until_all_returned(&self) {
        self.until("everything returned", async |world| {
            let status = world.orchestrator.status();
            status.admission.in_use == 0
                && status.admission.waiting == [0; 3]
                && status
                    .deployments
                    .iter()
                    .all(|one| one.in_flight == 0 && one.probes_out == 0)
        })
        .await;
    }
}

fn config(dir: &Path, toml: &str) -> String {
    format!(
        "[server]\nhttp = \"127.0.0.1:0\"\nsocket = \"{0}/q.sock\"\n[ledger]\npath = \"{0}/ledger.db\"\nflush = \"20ms\"\ncheckpoint = \"100ms\"\n{toml}",
        dir.display()
    )
}

/// A chat request of one message.
pub fn chat(model: &str, text: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": text }] })
}

/// The same, streamed.
pub fn chat_stream(model: &str, text: &str) -> Value {
    let mut request = chat(model, text);
    request["stream"] = true.into();
    request
}

/// An HTTP response, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The first choice's text.
    pub fn content(&self) -> String {
        self.json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The error's kind.
    pub fn kind(&self) -> String {
        self.json()["error"]["quorate"]["kind"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The data of every server-sent event.
    pub fn events(&self) -> Vec<String> {
        self.body
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .map(str::to_owned)
            .collect()
    }

    /// The chunks of a stream, `[DONE]` left out.
    pub fn chunks(&self) -> Vec<Value> {
        let events = self.events();
        events
            .iter()
            .filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }

    /// The text of a stream's first choice.
    pub fn streamed(&self) -> String {
        let chunks = self.chunks();
        chunks
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
            .collect()
    }
}

/// One request on a connection of its own.
pub async fn send<S>(stream: S, request: hyper::Request<Full<bytes::Bytes>>) -> Option<Reply>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .ok()?;
    let connection = tokio::spawn(connection);
    let response = timeout(PATIENCE, sender.send_request(request))
        .await
        .expect("an answer in time")
        .ok()?;
    let (parts, body) = response.into_parts();
    let body = timeout(PATIENCE, body.collect())
        .await
        .expect("a whole body in time")
        .ok()?
        .to_bytes();
    connection.abort();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Some(Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
    })
}

/// A peer on the Unix socket that speaks JSON-RPC.
pub struct Rpc {
    lines: tokio::io::Lines<BufReader<OwnedReadHalf>>,
    write: Option<OwnedWriteHalf>,
}

impl Rpc {
    pub async fn connect(socket: &Path) -> Self {
        let (read, write) = UnixStream::connect(socket).await.unwrap().into_split();
        Self {
            lines: BufReader::new(read).lines(),
            write: Some(write),
        }
    }

    pub async fn send(&mut self, line: &str) {
        let sending = self.send_aside(line);
        self.take_back(sending).await;
    }

    /// Sends in a task of its own, so that one can read meanwhile.
    pub fn send_aside(&mut self, line: &str) -> tokio::task::JoinHandle<OwnedWriteHalf> {
        let mut write = self.write.take().unwrap();
        let line = format!("{line}\n");
        tokio::spawn(async move {
            write.write_all(line.as_bytes()).await.unwrap();
            write
        })
    }

    pub async fn take_back(&mut self, sending: tokio::task::JoinHandle<OwnedWriteHalf>) {
        self.write = Some(sending.await.unwrap());
    }

    pub async fn request(&mut self, id: u64, method: &str, params: &Value) {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.send(&request.to_string()).await;
    }

    /// The next line; `None` when the daemon has closed the connection.
    pub async fn next(&mut self) -> Option<Value> {
        let line = timeout(PATIENCE, self.lines.next_line())
            .await
            .expect("a line in time")
            .ok()??;
        Some(serde_json::from_str(&line).unwrap())
    }

    /// One request and its reply.
    pub async fn call(&mut self, method: &str, params: &Value) -> Value {
        self.request(7, method, params).await;
        self.next().await.unwrap()
    }

    /// Ends our side; the daemon may still answer.
    pub async fn end_input(&mut self) {
        self.write.as_mut().unwrap().shutdown().await.unwrap();
    }
}

/// The daemon itself, as a process.
pub struct Daemon {
    pub child: Child,
    pub http: SocketAddr,
    pub socket: PathBuf,
    pub config: PathBuf,
}

impl Daemon {
    /// Starts it on `dir`, with `toml` added as in [`World::start`], and waits until it is ready.
    pub async fn start(dir: &Path, toml: &str) -> Self {
        Self::start_with(dir, toml, &[]).await
    }

    /// The same with more in its environment.
    pub async fn start_with(dir: &Path, toml: &str, environment: &[(&str, &Path)]) -> Self {
        // A port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let http = free.local_addr().unwrap();
        drop(free);
        let path = dir.join("quorate.toml");
        let text = config(dir, toml).replace("127.0.0.1:0", &http.to_string());
        std::fs::write(&path, text).unwrap();
        let mut child = quorate()
            .arg("serve")
            .arg("--config")
            .arg(&path)
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = std::fs::File::create(dir.join("daemon.log")).unwrap();
        std::thread::spawn(move || {
            let (mut stderr, mut log) = (stderr, log);
            let _ = std::io::copy(&mut stderr, &mut log);
        });
        let mut daemon = Self {
            child,
            http,
            socket: dir.join("q.sock"),
            config: path,
        };
        let until = Instant::now() + PATIENCE;
        while daemon
            .get("/readyz")
            .await
            .is_none_or(|reply| reply.status != 200)
        {
            let ended = daemon.child.try_wait().unwrap();
            let log = || std::fs::read_to_string(dir.join("daemon.log")).unwrap_or_default();
            assert!(
                ended.is_none() && Instant::now() < until,
                "the daemon is not ready: {ended:?}\n{}",
                log()
            );
            sleep(Duration::from_millis(5)).await;
        }
        daemon
    }

    pub async fn get(&self, path: &str) -> Option<Reply> {
        let request = hyper::Request::get(path)
            .header("host", "localhost")
            .body(Full::default())
            .unwrap();
        send(TcpStream::connect(self.http).await.ok()?, request).await
    }

    pub async fn chat(&self, model: &str, text: &str) -> Option<Reply> {
        let request = hyper::Request::post("/v1/chat/completions").header("host", "localhost");
        let request = request
            .body(Full::from(chat(model, text).to_string()))
            .unwrap();
        send(TcpStream::connect(self.http).await.ok()?, request).await
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for its end and returns the exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "the daemon does not end");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The sum of all samples of a metric.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.unwrap().body;
        let samples = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
        });
        samples
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, free of the caller's environment.
pub fn quorate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}
