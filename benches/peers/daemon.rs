//! Quorate's daemon: its configuration, and what it says of itself.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::gateways::{Gateway, first_answer};
use crate::load::Job;
use crate::mocks::free_port;
use crate::process::Tree;
use crate::{Result, door};

/// Everybody is let in: what is measured is the way, not the queue.
pub const OPEN: &str = "[admission]\nper_user = 100000\ntotal = 100000\n";

pub fn program() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_quorate").unwrap_or("quorate");
    std::env::var_os("QUORATE_BIN").map_or_else(|| built.into(), PathBuf::from)
}

/// Writes a configuration with every feature on and these providers, whose one model is `mock-1`. `extra` may hold any
/// section but `[server]`, `[ledger]` and `[log]`.
pub fn config(
    dir: &Path,
    addr: SocketAddr,
    upstreams: &[(&str, SocketAddr)],
    extra: &str,
) -> Result<PathBuf> {
    fs::create_dir_all(dir)?;
    // The path of a socket has little room, so it is not below `dir`.
    let sockets = sockets();
    fs::create_dir_all(&sockets)?;
    let socket = sockets.join(format!("{}.sock", addr.port()));
    let mut text = format!(
        "[server]\nhttp = \"{addr}\"\nsocket = \"{}\"\nmax_connections = 100000\n\
         [ledger]\npath = \"ledger.db\"\n[log]\nlevel = \"warn\"\n{extra}\n",
        socket.display()
    );
    for (name, upstream) in upstreams {
        write!(
            text,
            "[[providers]]\nname = \"{name}\"\nkind = \"openai\"\nbase_url = \"http://{upstream}/v1\"\n\
             models = [\"mock-1\"]\n"
        )?;
    }
    let path = dir.join("quorate.toml");
    fs::write(&path, text)?;
    Ok(path)
}

/// Where the Unix sockets of this run are.
pub fn sockets() -> PathBuf {
    std::env::temp_dir().join(format!("quorate-bench-{}", std::process::id()))
}

pub fn command(config: &Path) -> Command {
    let mut command = Command::new(program());
    command
        .arg("serve")
        .arg("--config")
        .arg(config)
        .env_clear()
        .env("NO_COLOR", "1");
    command
}

/// A daemon with a further configuration, and where it listens.
pub async fn start(
    dir: &Path,
    upstreams: &[(&str, SocketAddr)],
    extra: &str,
) -> Result<(Gateway, SocketAddr)> {
    let addr: SocketAddr = ([127, 0, 0, 1], free_port()?).into();
    let config = config(dir, addr, upstreams, extra)?;
    let begun = Instant::now();
    let mut tree = Tree::start(&mut command(&config), &dir.join("log"))?;
    let job = Job::new(addr, &format!("{}/mock-1", upstreams[0].0));
    let started = first_answer(&mut tree, &job, begun).await?;
    Ok((Gateway { tree, job, started }, addr))
}

/// `/v1/status`.
pub async fn status(addr: SocketAddr) -> Option<Value> {
    door::get_json(addr, "/v1/status").await
}

/// The sum of all samples of a metric.
pub async fn metric(addr: SocketAddr, name: &str) -> Option<f64> {
    let text = door::get(addr, "/metrics").await?;
    let samples = text.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(' ') || rest.starts_with('{'))
    });
    Some(
        samples
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum(),
    )
}
