//! Quorate beside its upstream alone and beside other gateways, on this machine, under the same load:
//! `cargo bench --bench peers -- run`. With a subcommand for what nobody else measures: `fairness`, `kill`, `soak`.
//!
//! Read ratios and what is added, not absolutes: load, gateway and upstream share the same processors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench may stop, and its numbers are small"
)]

mod cells;
mod chart;
mod closed;
mod daemon;
mod door;
mod extras;
mod fairness;
mod figures;
mod gateways;
mod kill;

mod load;
mod machine;
mod mocks;
mod open;
mod process;
mod report;
mod run;
mod single;
mod soak;
#[path = "../../tests/support/upstream/mod.rs"]
mod upstream;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
#[command(
    name = "peers",
    about = "Quorate beside its peers, under load and under fault"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// What cargo adds
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Command {
    /// The table: direct, nginx, Quorate, LiteLLM and Portkey
    Run(run::Run),
    /// How a greedy user slows polite ones
    Fairness(fairness::Fairness),
    /// Killed every few seconds under load
    Kill(kill::Kill),
    /// Half load for long, with failing upstreams: does anything grow?
    Soak(soak::Soak),
    /// The load generator by itself
    Load(single::Load),
    /// Mock upstreams at these addresses, until killed
    Upstream { addrs: Vec<String> },
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let Some(command) = Cli::parse().command else {
        // 'cargo bench' without further words runs every bench, and this one is not for in between.
        anstream::eprintln!("say what to run: cargo bench --bench peers -- run");
        return ExitCode::SUCCESS;
    };
    let done = tokio::select! {
        done = obey(command) => done,
        // What runs is dropped, and with it every process that was started.
        () = interrupted() => Err("interrupted".into()),
    };
    let _ = std::fs::remove_dir_all(daemon::sockets());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn obey(command: Command) -> Result<()> {
    match command {
        Command::Run(run) => run::run(run).await,
        Command::Fairness(fairness) => fairness::run(fairness).await,
        Command::Kill(kill) => kill::run(kill).await,
        Command::Soak(soak) => soak::run(soak).await,
        Command::Load(load) => single::run(load).await,
        Command::Upstream { addrs } => mocks::serve(&addrs).await,
    }
}

async fn interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => terminated.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}

/// Cargo's target directory.
pub fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let found = program
        .ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").exists());
    Ok(found
        .ok_or("this program is not in a target directory")?
        .to_owned())
}
