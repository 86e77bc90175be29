//! What is compared: how each gateway is configured, started and asked.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::load::{Connection, Job};
use crate::mocks::{free_port, runs};
use crate::process::Tree;
use crate::{Result, daemon};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    Direct,
    Nginx,
    Quorate,
    Litellm,
    Portkey,
}

/// A gateway that runs.
pub struct Gateway {
    pub tree: Tree,
    /// How it is asked.
    pub job: Job,
    /// From the start of the process to the first good answer.
    pub started: Duration,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Quorate => "Quorate",
            Self::Litellm => "LiteLLM",
            Self::Portkey => "Portkey",
        }
    }

    /// Why it cannot run, and what to do about that.
    pub fn missing(self, installed: &Path) -> Option<String> {
        let program = match self {
            Self::Direct => return None,
            Self::Nginx => runs(&nginx(), "-v"),
            Self::Quorate => daemon::program().exists(),
            Self::Litellm => litellm(installed).exists(),
            Self::Portkey => portkey(installed).exists() && runs(Path::new("node"), "-v"),
        };
        let remedy = match self {
            Self::Nginx => "apt-get install nginx-light",
            Self::Quorate => "cargo build --release",
            Self::Litellm => "run this with --install (needs python3 with venv)",
            _ => "run this with --install (needs node and npm)",
        };
        (!program).then(|| format!("{} is not installed and left out: {remedy}", self.name()))
    }

    /// Installs it below `installed`.
    pub fn install(self, installed: &Path) -> Result<()> {
        let at = |part: &str| installed.join(part).display().to_string();
        let commands = match self {
            Self::Litellm => vec![
                vec![
                    "python3".to_owned(),
                    "-m".into(),
                    "venv".into(),
                    at("litellm"),
                ],
                vec![
                    at("litellm/bin/pip"),
                    "install".into(),
                    "-q".into(),
                    "litellm[proxy]".into(),
                ],
            ],
            Self::Portkey => vec![vec![
                "npm".to_owned(),
                "install".into(),
                "--silent".into(),
                "--no-audit".into(),
                "--no-fund".into(),
                "--prefix".into(),
                at("portkey"),
            ]],
            _ => Vec::new(),
        };
        fs::create_dir_all(installed.join("portkey"))?;
        // With later adapters than this every stream of Portkey 1.15 ends in "TypeError: immutable".
        let package = json!({"dependencies": {"@portkey-ai/gateway": "^1.15"},
            "overrides": {"@hono/node-server": "1.13.8"}});
        fs::write(installed.join("portkey/package.json"), package.to_string())?;
        for command in commands {
            anstream::eprintln!("{}", command.join(" "));
            if !Command::new(&command[0])
                .args(&command[1..])
                .status()?
                .success()
            {
                return Err(format!("failed: {}", command.join(" ")).into());
            }
        }
        Ok(())
    }

    pub fn version(self, installed: &Path) -> Option<String> {
        let say = |program: &Path, argument: &str| {
            let out = Command::new(program).arg(argument).output().ok()?;
            let text = [out.stdout, out.stderr].concat();
            Some(
                String::from_utf8_lossy(&text)
                    .lines()
                    .next()?
                    .trim()
                    .to_owned(),
            )
        };
        match self {
            Self::Direct => None,
            Self::Nginx => say(&nginx(), "-v"),
            Self::Quorate => say(&daemon::program(), "--version"),
            Self::Litellm => {
                let site = fs::read_dir(installed.join("litellm/lib"))
                    .ok()?
                    .flatten()
                    .next()?;
                let packages = fs::read_dir(site.path().join("site-packages"))
                    .ok()?
                    .flatten();
                let names = packages.filter_map(|entry| entry.file_name().into_string().ok());
                let mut found = names
                    .filter(|name| name.starts_with("litellm-") && name.ends_with(".dist-info"));
                found.next().map(|name| name.replace(".dist-info", ""))
            }
            Self::Portkey => {
                let package =
                    installed.join("portkey/node_modules/@portkey-ai/gateway/package.json");
                let package: Value = serde_json::from_slice(&fs::read(package).ok()?).ok()?;
                Some(format!("portkey gateway {}", package["version"].as_str()?))
            }
        }
    }

    /// Starts it in front of `upstream`, with its files in `dir`, and waits for its first good answer.
    pub async fn start(
        self,
        upstream: SocketAddr,
        dir: &Path,
        installed: &Path,
    ) -> Result<Gateway> {
        fs::create_dir_all(dir)?;
        let addr: SocketAddr = ([127, 0, 0, 1], free_port()?).into();
        let (mut command, job) = match self {
            Self::Direct => return Err("nothing to start".into()),
            Self::Nginx => nginx_command(addr, upstream, dir)?,
            Self::Quorate => {
                let config = daemon::config(dir, addr, &[("up", upstream)], daemon::OPEN)?;
                (daemon::command(&config), Job::new(addr, "up/mock-1"))
            }
            Self::Litellm => litellm_command(addr, upstream, dir, installed)?,
            Self::Portkey => {
                let mut command = Command::new("node");
                command
                    .arg(portkey(installed))
                    .arg(format!("--port={}", addr.port()))
                    .arg("--headless");
                let job = Job::new(addr, "mock-1")
                    .bearer("none")
                    .header("x-portkey-provider", "openai");
                (
                    command,
                    job.header("x-portkey-custom-host", &format!("http://{upstream}/v1")),
                )
            }
        };
        let begun = Instant::now();
        let mut tree = Tree::start(&mut command, &dir.join("log"))?;
        let started = first_answer(&mut tree, &job, begun).await;
        let started =
            started.map_err(|error| format!("{}: {error}; see {}", self.name(), dir.display()))?;
        Ok(Gateway { tree, job, started })
    }
}

/// Time from `begun` to the first good answer.
pub async fn first_answer(tree: &mut Tree, job: &Job, begun: Instant) -> Result<Duration> {
    loop {
        let sample = Connection::default()
            .ask(job, begun, Instant::now(), 0)
            .await;
        if sample.outcome.good() {
            return Ok(begun.elapsed());
        }
        if let Some(status) = tree.ended() {
            return Err(format!("it ended: {status}").into());
        }
        if begun.elapsed() > Duration::from_secs(120) {
            return Err(format!("no good answer within two minutes: {}", sample.outcome).into());
        }
        // Often at first, when a fast one comes up; seldom later, so as not to slow a slow one.
        let pause =
            (begun.elapsed() / 20).clamp(Duration::from_millis(1), Duration::from_millis(50));
        tokio::time::sleep(pause).await;
    }
}

fn nginx() -> PathBuf {
    let usual = Path::new("/usr/sbin/nginx");
    if usual.exists() {
        usual.into()
    } else {
        "nginx".into()
    }
}

fn litellm(installed: &Path) -> PathBuf {
    installed.join("litellm/bin/litellm")
}

fn portkey(installed: &Path) -> PathBuf {
    installed.join("portkey/node_modules/@portkey-ai/gateway/build/start-server.js")
}

pub fn nginx_command(addr: SocketAddr, upstream: SocketAddr, dir: &Path) -> Result<(Command, Job)> {
    let dir = dir.canonicalize()?;
    let at = dir.display();
    let mut text = format!(
        "daemon off;\nworker_processes 2;\npid {at}/pid;\nerror_log {at}/error.log warn;\n\
         events {{ worker_connections 8192; }}\nhttp {{\naccess_log off;\ntcp_nodelay on;\n\
         keepalive_requests 1000000000;\n"
    );
    for part in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(text, "{part}_temp_path {at}/{part};")?;
    }
    write!(
        text,
        "upstream up {{ server {upstream}; keepalive 512; keepalive_requests 1000000000; }}\n\
         server {{ listen {addr};\nlocation / {{ proxy_pass http://up; proxy_http_version 1.1; \
         proxy_set_header Connection \"\"; proxy_buffering off; }} }}\n}}\n"
    )?;
    fs::write(dir.join("nginx.conf"), text)?;
    let mut command = Command::new(nginx());
    command
        .arg("-p")
        .arg(&dir)
        .arg("-c")
        .arg(dir.join("nginx.conf"))
        .arg("-e")
        .arg(dir.join("error.log"));
    Ok((command, Job::new(addr, "mock-1")))
}

fn litellm_command(
    addr: SocketAddr,
    upstream: SocketAddr,
    dir: &Path,
    installed: &Path,
) -> Result<(Command, Job)> {
    // It insists on a key that looks random.
    let key = format!(
        "sk-{:016x}{:016x}",
        std::process::id(),
        u64::from(addr.port()).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    );
    let text = format!(
        "model_list:\n  - model_name: mock-1\n    litellm_params:\n      model: openai/mock-1\n      \
         api_base: http://{upstream}/v1\n      api_key: none\n\
         general_settings:\n  master_key: {key}\n"
    );
    let config = dir.join("config.yaml");
    fs::write(&config, text)?;
    let mut command = Command::new(litellm(installed));
    command
        .arg("--config")
        .arg(config)
        .arg("--host")
        .arg("127.0.0.1");
    command
        .args(["--num_workers", "1", "--port"])
        .arg(addr.port().to_string());
    command.envs([
        ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
        ("LITELLM_LOG", "ERROR"),
        ("NO_PROXY", "127.0.0.1"),
    ]);
    Ok((command, Job::new(addr, "mock-1").bearer(&key)))
}
