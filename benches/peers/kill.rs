//! `kill`: the daemon is killed with SIGKILL every few seconds under steady load, and started again at once. How long is
//! nobody served, and what is forgotten?

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::chart::{Line, Scale, Sheet};
use crate::figures::{Figures, median, short};
use crate::load::{Job, Outcome, Sample};
use crate::mocks::Mocks;
use crate::open::{self, Open};
use crate::process::Tree;
use crate::{Result, daemon, door, machine};

/// Rows are gathered for 250 ms before they are written, which is what a crash may cost; and a margin for the write.
const UNWRITTEN: f64 = 0.5;

#[derive(clap::Args)]
pub struct Kill {
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Seconds between two kills
    #[arg(long, default_value_t = 5.0)]
    every: f64,
    /// Requests a second
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Where kill.json and kill.svg are written
    #[arg(long, default_value = "target/peers")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Death {
    /// Seconds since the start of the load.
    at: f64,
    /// To the first good answer to a request sent after the death.
    recovery_ms: Option<f64>,
    /// Recent samples of latency that the deployment's estimate stood on.
    evidence_before: f64,
    evidence_after: f64,
    p50_before_ms: f64,
    p50_after_ms: f64,
}

fn learned(status: &Value) -> (f64, f64) {
    let total = &status["deployments"][0]["total"];
    (
        total["evidence"].as_f64().unwrap_or(0.0),
        total["p50"].as_f64().unwrap_or(0.0) * 1e3,
    )
}

pub async fn run(kill: Kill) -> Result<()> {
    let work = kill.out.join("work-kill");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let mocks = Mocks::start(1, &work).await?;
    mocks
        .behave(0, &json!({"delay_ms": 5, "echo": true}))
        .await?;
    let (gateway, addr) = daemon::start(&work, &[("up", mocks.addr(0))], daemon::OPEN).await?;
    let (mut tree, config) = (gateway.tree, work.join("quorate.toml"));
    let job = Job::new(addr, "up/mock-1")
        .verified()
        .timeout(Duration::from_secs(10));

    let start = Instant::now();
    let load = Open {
        rate: kill.rate,
        cap: 1000,
        during: Duration::from_secs_f64(kill.seconds),
    };
    let jobs = [job.clone(), job.clone().stream(true)];
    let load = tokio::spawn(async move { open::run(&load, &jobs, start, 1, None).await });
    let mut deaths = Vec::new();
    for number in 1.. {
        let at = kill.every * f64::from(number);
        if at + 1.0 > kill.seconds {
            break;
        }
        tokio::time::sleep(
            (start + Duration::from_secs_f64(at)).saturating_duration_since(Instant::now()),
        )
        .await;
        let before = learned(&daemon::status(addr).await.unwrap_or_default());
        tree.kill();
        let at = start.elapsed().as_secs_f64();
        tree = Tree::start(&mut daemon::command(&config), &work.join("log"))?;
        anstream::eprintln!("{at:5.1} s: killed and started again");
        let after = loop {
            match daemon::status(addr).await {
                Some(status) => break learned(&status),
                None if start.elapsed().as_secs_f64() > at + 30.0 => {
                    return Err("it does not come back".into());
                }
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        deaths.push(Death {
            at,
            recovery_ms: None,
            evidence_before: before.0,
            evidence_after: after.0,
            p50_before_ms: before.1,
            p50_after_ms: after.1,
        });
    }
    let samples = load.await?;
    for death in &mut deaths {
        let after = samples
            .iter()
            .filter(|s| s.outcome.good() && s.at as f64 / 1e9 >= death.at);
        let first = after
            .map(|s| (s.at + s.latency) as f64 / 1e9)
            .reduce(f64::min);
        death.recovery_ms = first.map(|first| (first - death.at) * 1e3);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let missing = missing_rows(addr, &samples).await;
    let excused = |sample: &&Sample| {
        let ended = (sample.at + sample.latency) as f64 / 1e9;
        deaths
            .iter()
            .any(|death| ended <= death.at + 0.05 && ended >= death.at - UNWRITTEN)
    };
    let lost = missing.iter().filter(|sample| !excused(sample)).count();
    let wrong = samples
        .iter()
        .filter(|sample| sample.outcome == Outcome::Wrong)
        .count();
    write(&kill, &samples, &deaths, missing.len(), lost)?;
    if lost > 0 || wrong > 0 {
        return Err(format!(
            "{lost} rows lost beyond what a crash may cost, {wrong} wrong answers"
        )
        .into());
    }
    Ok(())
}

/// The good answers that the ledger does not have: it takes no judgement of what it does not know.
async fn missing_rows(addr: SocketAddr, samples: &[Sample]) -> Vec<Sample> {
    let places = Arc::new(Semaphore::new(8));
    let mut tasks = JoinSet::new();
    for sample in samples
        .iter()
        .copied()
        .filter(|sample| sample.outcome.good())
    {
        let places = Arc::clone(&places);
        tasks.spawn(async move {
            let _place = places.acquire().await;
            let decision = format!("{:032x}", sample.decision.unwrap_or(0));
            let judgement = json!({"decision": decision, "score": 1.0}).to_string();
            let reply = door::send(addr, Method::POST, "/v1/feedback", judgement).await;
            (!matches!(reply, Some((200, _)))).then_some(sample)
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

fn write(
    kill: &Kill,
    samples: &[Sample],
    deaths: &[Death],
    missing: usize,
    lost: usize,
) -> Result<()> {
    let mut good = BTreeMap::new();
    let mut bad = BTreeMap::new();
    for sample in samples {
        let ended = (sample.at + sample.latency) / 100_000_000;
        let line = if sample.outcome.good() {
            &mut good
        } else {
            &mut bad
        };
        *line.entry(ended).or_insert(0u32) += 1;
    }
    let slots = (kill.seconds * 10.0) as u64;
    let line = |label: &str, counts: &BTreeMap<u64, u32>| Line {
        label: label.into(),
        points: (0..slots)
            .map(|slot| {
                (
                    slot as f64 / 10.0,
                    f64::from(counts.get(&slot).copied().unwrap_or(0)),
                )
            })
            .collect(),
    };
    let lines = [line("answered", &good), line("failed", &bad)];
    let recoveries: Vec<f64> = deaths
        .iter()
        .filter_map(|death| death.recovery_ms)
        .collect();
    let figures = Figures::new(samples, kill.seconds);
    let note = format!(
        "{} requests a second; nobody is served for {} ms (median of {}, at most {}); {} of {} failed",
        short(kill.rate),
        short(median(&recoveries)),
        recoveries.len(),
        short(recoveries.iter().copied().fold(0.0, f64::max)),
        figures.sent - figures.good,
        figures.sent
    );
    let mut sheet = Sheet::new(
        &format!("Killed with SIGKILL every {} s", kill.every),
        &note,
    );
    let marks: Vec<f64> = deaths.iter().map(|death| death.at).collect();
    sheet.lines(
        "Requests ended in each 100 ms",
        "s",
        Scale::Linear,
        &lines,
        &marks,
    );
    let evidence: Vec<(f64, f64)> = deaths
        .iter()
        .map(|d| (d.evidence_before, d.evidence_after))
        .collect();
    let kept = evidence
        .iter()
        .map(|(before, after)| after / before.max(1.0))
        .collect::<Vec<_>>();
    anstream::println!("{note}\noutcomes: {:?}", figures.outcomes);
    anstream::println!(
        "learned latency kept over a death: {} of its evidence (median; {evidence:.0?})\n\
         rows of good answers missing from the ledger: {missing}, of them outside the last {UNWRITTEN} s before a \
         death: {lost}",
        short(median(&kept))
    );
    let timeline: Vec<_> = lines
        .iter()
        .map(|line| json!({"what": line.label, "per_100_ms": line.points}))
        .collect();
    let whole = json!({"machine": machine::describe(), "rate": kill.rate, "every": kill.every, "figures": figures,
        "deaths": deaths, "rows_missing": missing, "rows_lost": lost, "timeline": timeline});
    fs::write(
        kill.out.join("kill.json"),
        serde_json::to_vec_pretty(&whole)?,
    )?;
    fs::write(kill.out.join("kill.svg"), sheet.svg())?;
    anstream::println!("written: kill.json, kill.svg in {}", kill.out.display());
    Ok(())
}
