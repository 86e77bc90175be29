//! `load`: the load generator by itself, against any server of the wire.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::figures::Figures;
use crate::load::Job;
use crate::open::{self, Open};
use crate::{Result, closed};

#[derive(clap::Args)]
pub struct Load {
    /// Address and port
    addr: SocketAddr,
    #[arg(long, default_value = "mock-1")]
    model: String,
    /// Connections; with --rate, at most
    #[arg(long, short, default_value_t = 32)]
    connections: usize,
    /// Open loop: requests a second, whether or not answers come
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(long)]
    stream: bool,
    /// Sent as a bearer token
    #[arg(long)]
    key: Option<String>,
    /// OpenAI's user field
    #[arg(long)]
    user: Option<String>,
    /// Further header, as NAME:VALUE
    #[arg(long)]
    header: Vec<String>,
    /// Seconds to the end of an answer
    #[arg(long, default_value_t = 30.0)]
    timeout: f64,
    /// Ask something new every time and look for it in the answer; the upstream has to echo
    #[arg(long)]
    verify: bool,
    /// Write each request as a line of JSON; times in nanoseconds
    #[arg(long)]
    log: Option<PathBuf>,
}

pub async fn run(load: Load) -> Result<()> {
    let mut job = Job::new(load.addr, &load.model).stream(load.stream);
    job = job.timeout(Duration::from_secs_f64(load.timeout));
    if let Some(user) = &load.user {
        job = job.user(user);
    }
    if let Some(key) = &load.key {
        job = job.bearer(key);
    }
    for header in &load.header {
        let (name, value) = header.split_once(':').ok_or("--header wants NAME:VALUE")?;
        job = job.header(name.trim(), value.trim());
    }
    if load.verify {
        job = job.verified();
    }
    let during = Duration::from_secs_f64(load.seconds);
    let samples = match load.rate {
        None => closed::run(&job, load.connections, during).await,
        Some(rate) => {
            let open = Open {
                rate,
                cap: load.connections,
                during,
            };
            open::run(&open, &[job], Instant::now(), 1, None).await
        }
    };
    if let Some(path) = load.log {
        let mut text = String::new();
        for sample in &samples {
            text += &serde_json::to_string(sample)?;
            text.push('\n');
        }
        fs::write(path, text)?;
    }
    anstream::println!(
        "{}",
        serde_json::to_string_pretty(&Figures::new(&samples, load.seconds))?
    );
    Ok(())
}
