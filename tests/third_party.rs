//! Programs that are not ours, against the daemon: the official OpenAI clients in front of it, a
//! real llama.cpp server and a fault injector behind it.
//!
//! `tests/clients/` holds the scripts; this file prepares what they need in `target/testbed`,
//! starts the processes, and fails with their output. `QUORATE_SKIP_THIRD_PARTY=1` passes all of
//! it by, for a machine without Python or without a network.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test may fail loudly, wait on a real clock and sleep: there is no executor here"
)]

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const SCRIPTED: &str = r#"
[[providers]]
name = "upstream"
kind = "scripted"
models = ["m1"]
"#;

const LOCAL: &str = r#"
[[providers]]
name = "upstream"
kind = "local"
models = ["smollm2-135m"]
"#;

/// A provider that speaks OpenAI's wire on a port of this machine.
fn openai(name: &str, port: u16, models: &[&str]) -> String {
    format!(
        "\n[[providers]]\nname = \"{name}\"\nkind = \"openai\"\n\
         base_url = \"http://127.0.0.1:{port}/v1\"\napi_key = \"unused\"\nmodels = {models:?}\n"
    )
}

const SAFE: &str = r#"
[models.safe]
use = ["mock/safe-first", "mock/safe-second"]
"#;

const STARTS_WITHIN: Duration = Duration::from_mins(2);
const SCRIPT_ENDS_WITHIN: Duration = Duration::from_mins(10);

#[test]
fn the_official_clients_are_served_by_the_scripted_provider() {
    let Some(bed) = Bed::lend() else { return };
    let daemon = bed.daemon("scripted", SCRIPTED);
    bed.clients(&daemon, "upstream/m1", &["--deterministic", "--quorate"]);
}

#[test]
fn the_official_clients_are_served_by_the_local_model() {
    let Some(bed) = Bed::lend() else { return };
    bed.weights();
    let daemon = bed.daemon("local", LOCAL);
    let flags = ["--deterministic", "--real-model", "--quorate"];
    bed.clients(&daemon, "upstream/smollm2-135m", &flags);
}

#[test]
fn the_official_clients_are_served_by_llama_cpp_with_and_without_the_daemon() {
    let Some(bed) = Bed::lend() else { return };
    let llama = bed.llama_server();
    let daemon = bed.daemon("llama", &openai("upstream", llama.port, &["smollm2"]));
    // Without the daemon first: what fails there is a mistake in the scripts.
    bed.clients(&llama, "smollm2", &["--deterministic", "--real-model"]);
    let flags = ["--deterministic", "--real-model", "--quorate"];
    bed.clients(&daemon, "upstream/smollm2", &flags);
}

#[test]
fn a_fault_injecting_upstream_finds_no_fault_with_our_client() {
    let Some(bed) = Bed::lend() else { return };
    let script = script("llmock_faults.py");
    let models = run(
        "llmock-models",
        bed.python("openai-3").arg(&script).arg("--models"),
    );
    let models: Vec<&str> = models.lines().collect();
    let llmock = bed.llmock();
    let daemon = bed.daemon("faults", &(openai("mock", llmock.port, &models) + SAFE));
    let mut faults = bed.python("openai-3");
    faults
        .arg(script)
        .arg(daemon.url("/v1"))
        .arg(llmock.url(""));
    check(&daemon, "llmock-faults", &mut faults);
}

static TURN: Mutex<()> = Mutex::new(());
static PREPARED: LazyLock<PathBuf> = LazyLock::new(prepare);

/// The folder with everything that is not ours, lent to one test at a time: on two cores a model
/// and a fault injector with deadlines disturb each other.
struct Bed {
    root: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Bed {
    /// Nothing when the third-party tests are to be skipped.
    fn lend() -> Option<Self> {
        if std::env::var("QUORATE_SKIP_THIRD_PARTY").is_ok_and(|value| value == "1") {
            eprintln!("skipped, because QUORATE_SKIP_THIRD_PARTY=1");
            return None;
        }
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Self {
            root: PREPARED.clone(),
            _turn: turn,
        })
    }

    fn python(&self, venv: &str) -> Command {
        Command::new(self.root.join(venv).join("bin/python"))
    }

    fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// The file that the daemon's own `models fetch` has put into the cache.
    fn weights(&self) -> PathBuf {
        let mut fetch = Command::new(env!("CARGO_BIN_EXE_quorate"));
        fetch
            .args(["models", "fetch"])
            .env("QUORATE_CACHE_DIR", self.cache());
        run("models-fetch", &mut fetch);
        find(&self.cache(), "gguf").expect("`quorate models fetch` left no .gguf in the cache")
    }

    /// A daemon with these providers, on a free port, that touches no file of the user's.
    fn daemon(&self, name: &str, providers: &str) -> Server {
        let port = free_port();
        let home = Home::new(name);
        let mut config = format!("[server]\nhttp = \"127.0.0.1:{port}\"\n");
        writeln!(
            config,
            "socket = \"{}\"",
            home.0.join("quorate.sock").display()
        )
        .unwrap();
        config.push_str(providers);
        let file = home.0.join("quorate.toml");
        fs::write(&file, config).unwrap();

        let mut serve = Command::new(env!("CARGO_BIN_EXE_quorate"));
        serve
            .arg("serve")
            .arg("--config")
            .arg(file)
            .env("QUORATE_CACHE_DIR", self.cache());
        for variable in [
            "XDG_RUNTIME_DIR",
            "XDG_STATE_HOME",
            "XDG_DATA_HOME",
            "XDG_CONFIG_HOME",
        ] {
            serve.env(variable, &home.0);
        }
        Server::start(name, port, &mut serve, Some(home)).wait_for("/readyz")
    }

    fn llama_server(&self) -> Server {
        let port = free_port();
        let mut llama = self.python("servers");
        llama
            .arg(script("llama_server.py"))
            .arg(port.to_string())
            .arg(self.weights());
        Server::start("llama-server", port, &mut llama, None).wait_for("/health")
    }

    fn llmock(&self) -> Server {
        let port = free_port();
        let mut llmock = Command::new(self.root.join("servers/bin/llmock"));
        llmock.args([
            "serve",
            "--log-level",
            "warning",
            "--stream-chunk-delay-ms",
            "40",
            "--port",
        ]);
        Server::start("llmock", port, llmock.arg(port.to_string()), None).wait_for("/health")
    }

    /// Runs the chat checks with both majors of the Python client and with the Node client.
    fn clients(&self, server: &Server, model: &str, flags: &[&str]) {
        for venv in ["openai-2", "openai-3"] {
            let mut client = self.python(venv);
            client
                .arg(script("openai_chat.py"))
                .arg(server.url("/v1"))
                .arg(model)
                .args(flags);
            check(server, venv, &mut client);
        }
        let mut client = Command::new(self.root.join("node/node"));
        client.current_dir(self.root.join("node"));
        client
            .arg(script("openai_chat.mjs"))
            .arg(server.url("/v1"))
            .arg(model)
            .args(flags);
        check(server, "openai-node", &mut client);
    }
}

/// Runs a script of checks; when one fails, what the server logged is part of the message.
fn check(server: &Server, name: &str, script: &mut Command) {
    let name = format!("{}-{name}", server.name);
    match try_run(&name, script) {
        Ok(output) => eprint!("{output}"),
        Err(error) => panic!("{error}\n{} logged:\n{}", server.name, tail(&server.log)),
    }
}

/// A child process that listens on a port; killed when dropped.
struct Server {
    name: String,
    port: u16,
    child: Child,
    log: PathBuf,
    /// Removed after the child has gone.
    _home: Option<Home>,
}

impl Server {
    fn start(name: &str, port: u16, command: &mut Command, home: Option<Home>) -> Self {
        let log = log_file(name);
        let output = File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        Self {
            name: name.to_owned(),
            port,
            child,
            log,
            _home: home,
        }
    }

    /// Waits until `path` answers 200.
    fn wait_for(mut self, path: &str) -> Self {
        let began = Instant::now();
        while !answers(self.port, path) {
            let ended = self.child.try_wait().unwrap();
            if ended.is_some() || began.elapsed() > STARTS_WITHIN {
                let end = ended.map_or("is not ready in time".into(), |code| code.to_string());
                panic!("{} {end}; it logged:\n{}", self.name, tail(&self.log));
            }
            thread::sleep(Duration::from_millis(50));
        }
        self
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A private folder with a short name: the path of a Unix socket has about a hundred bytes.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("quorate-{name}-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

/// `target/testbed`, wherever `target` is.
fn testbed() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .unwrap()
        .join("testbed")
}

fn prepare() -> PathBuf {
    let root = testbed();
    let mut prepare = Command::new("python3");
    prepare.arg(script("prepare.py")).arg(&root);
    match try_run("prepare", &mut prepare) {
        Ok(output) => eprint!("{output}"),
        Err(error) => panic!(
            "the third-party tests cannot be prepared: {error}\nthey need python3 (3.10 or newer, \
             with venv) and the network on their first run; QUORATE_SKIP_THIRD_PARTY=1 skips them"
        ),
    }
    root
}

fn log_file(name: &str) -> PathBuf {
    let folder = testbed().join("logs");
    fs::create_dir_all(&folder).unwrap();
    folder.join(format!("{name}.log"))
}

/// The standard output of a command that must succeed.
fn run(name: &str, command: &mut Command) -> String {
    try_run(name, command).unwrap_or_else(|error| panic!("{error}"))
}

fn try_run(name: &str, command: &mut Command) -> Result<String, String> {
    // Files, not pipes: a full pipe that nobody reads would stop the child.
    let (output, errors) = (
        log_file(&format!("{name}.out")),
        log_file(&format!("{name}.err")),
    );
    let mut child = command
        .stdin(Stdio::null())
        .stdout(File::create(&output).unwrap())
        .stderr(File::create(&errors).unwrap())
        .spawn()
        .map_err(|error| format!("{command:?} does not start: {error}"))?;
    let began = Instant::now();
    let end = loop {
        match child.try_wait().unwrap() {
            Some(status) if status.success() => return Ok(fs::read_to_string(output).unwrap()),
            Some(status) => break status.to_string(),
            None if began.elapsed() > SCRIPT_ENDS_WITHIN => {
                let _ = child.kill();
                let _ = child.wait();
                break format!("no end after {SCRIPT_ENDS_WITHIN:?}");
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    };
    Err(format!("{name}: {end}\n{}{}", tail(&output), tail(&errors)))
}

/// The last lines of a log, enough to see why.
fn tail(file: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let mut tail = lines[lines.len().saturating_sub(60)..].join("\n");
    tail.push('\n');
    tail
}

fn find(folder: &Path, extension: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()));
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let found = files
        .into_iter()
        .find(|path| path.extension().is_some_and(|it| it == extension));
    found.or_else(|| folders.iter().find_map(|inner| find(inner, extension)))
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn answers(port: u16, path: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return false;
    };
    let limit = Some(Duration::from_secs(2));
    let mut reply = [0; 12];
    stream.set_read_timeout(limit).is_ok()
        && write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        .is_ok()
        && stream.read_exact(&mut reply).is_ok()
        && &reply == b"HTTP/1.1 200"
}
