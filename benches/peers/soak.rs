//! `soak`: half of what the daemon can take, for a long time, while its upstreams fail in changing ways. Nothing may
//! grow, and nobody may be left without an answer.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch::channel;

use crate::chart::{Line, Scale, Sheet};
use crate::figures::{Figures, Slope, short};
use crate::load::{Job, Outcome, Sample};
use crate::mocks::Mocks;
use crate::open::{self, Open};
use crate::watch::{self, Moment, WATCHED};
use crate::{Result, closed, daemon, machine};

const CHANGE: Duration = Duration::from_secs(15);
/// Longer than the daemon waits for anything.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(clap::Args)]
pub struct Soak {
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// Requests a second; default: half of what was found at the start
    #[arg(long)]
    rate: Option<f64>,
    /// Where soak.json and soak.svg are written
    #[arg(long, default_value = "target/peers")]
    out: PathBuf,
}

/// What one upstream does in its turn; the other does the same half a turn later.
fn faults() -> Vec<(&'static str, Value)> {
    vec![
        ("healthy", json!({})),
        ("30 % errors", json!({"error_share": 0.3, "status": 500})),
        ("slow", json!({"delay_ms": 200, "chunk_ms": 20})),
        ("5 % hang", json!({"hang_share": 0.05})),
        (
            "half of the streams end early",
            json!({"fault": {"end_after": 3}, "fault_share": 0.5}),
        ),
        (
            "10 % rate limited",
            json!({"error_share": 0.1, "status": 429, "retry_after": "1"}),
        ),
        (
            "connections cut",
            json!({"fault": {"reset_at": 200}, "fault_share": 0.2}),
        ),
        ("refuses", json!({"accept": "refuse"})),
    ]
}

pub async fn run(soak: Soak) -> Result<()> {
    let work = soak.out.join("work-soak");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let mocks = Mocks::start(2, &work).await?;
    let usual = |change: &Value| {
        let mut all = json!({"echo": true, "delay_ms": 5});
        change
            .as_object()
            .into_iter()
            .flatten()
            .for_each(|(key, value)| all[key] = value.clone());
        all
    };
    mocks.behave_all(&usual(&json!({}))).await?;
    let extra = format!(
        "{}[models.both]\nuse = [\"a/mock-1\", \"b/mock-1\"]\norder = \"scored\"\n",
        daemon::OPEN
    );
    let upstreams = [("a", mocks.addr(0)), ("b", mocks.addr(1))];
    let (mut gateway, addr) = daemon::start(&work, &upstreams, &extra).await?;
    let job = Job::new(addr, "both").verified().timeout(PATIENCE);
    let rate = if let Some(rate) = soak.rate {
        rate
    } else {
        let found = closed::run(&job, 32, Duration::from_secs(5)).await;
        Figures::new(&found, 5.0).rate / 2.0
    };
    anstream::eprintln!(
        "{} requests a second for {} minutes",
        short(rate),
        soak.minutes
    );

    let during = Duration::from_secs_f64(soak.minutes * 60.0);
    let start = Instant::now();
    let (stop, stopped) = channel(false);
    let jobs = [job.clone(), job.clone().stream(true)];
    let load = Open {
        rate,
        cap: 4000,
        during,
    };
    let load = tokio::spawn(async move { open::run(&load, &jobs, start, 1, Some(stopped)).await });
    let faults = faults();
    let (mut moments, mut changes) = (Vec::new(), Vec::new());
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut turn = usize::MAX;
    while start.elapsed() < during {
        second.tick().await;
        let now = start.elapsed().as_secs() as usize / CHANGE.as_secs() as usize;
        if now != turn {
            turn = now;
            // One after the other, so that mostly one is healthy; every eighth turn both are as they should be.
            let (failing, healthy) = (turn % 2, 1 - turn % 2);
            let (name, fault) = &faults[turn / 2 % faults.len()];
            mocks.behave(healthy, &usual(&json!({}))).await?;
            mocks.behave(failing, &usual(fault)).await?;
            anstream::eprintln!(
                "{:5} s: {} is {name}",
                turn * CHANGE.as_secs() as usize,
                ["a", "b"][failing]
            );
            changes.push((
                start.elapsed().as_secs_f64(),
                format!("{}: {name}", ["a", "b"][failing]),
            ));
        }
        if let Some(status) = gateway.tree.ended() {
            let _ = stop.send(true);
            return Err(format!(
                "the daemon ended: {status}; see {}",
                work.join("log").display()
            )
            .into());
        }
        moments.extend(watch::moment(&gateway.tree, addr, start).await);
    }
    mocks.behave_all(&usual(&json!({}))).await?;
    let samples = load.await?;
    let at_rest = watch::at_rest(addr, &mocks).await;
    write(&soak, rate, &samples, &moments, &changes, at_rest)
}

fn write(
    soak: &Soak,
    rate: f64,
    samples: &[Sample],
    moments: &[Moment],
    changes: &[(f64, String)],
    at_rest: [f64; 3],
) -> Result<()> {
    let seconds = soak.minutes * 60.0;
    let figures = Figures::new(samples, seconds);
    let marks: Vec<f64> = changes.iter().map(|(at, _)| *at).collect();
    let turns = changes.iter().enumerate().map(|(turn, (at, fault))| {
        let end = marks.get(turn + 1).copied().unwrap_or(seconds);
        let within = |sample: &&Sample| (*at..end).contains(&(sample.at as f64 / 1e9));
        let within: Vec<Sample> = samples.iter().filter(within).copied().collect();
        let Figures {
            latency_ms,
            outcomes,
            ..
        } = Figures::new(&within, end - at);
        json!({"at": at, "fault": fault, "outcomes": outcomes, "latency_ms": latency_ms})
    });
    let turns: Vec<Value> = turns.collect();
    let lost = samples.iter().filter(|sample| {
        matches!(
            sample.outcome,
            Outcome::Timeout | Outcome::Closed | Outcome::Truncated | Outcome::NoConnection
        )
    });
    let lost = lost.count();
    let wrong = samples
        .iter()
        .filter(|sample| sample.outcome == Outcome::Wrong)
        .count();
    let mut decisions: Vec<u128> = samples
        .iter()
        .filter_map(|sample| sample.decision)
        .collect();
    let with_decision = decisions.len();
    decisions.sort_unstable();
    decisions.dedup();
    let doubled = with_decision - decisions.len();

    let warm = (seconds / 4.0).min(120.0);
    let note = format!(
        "{} requests a second, {:.2} % answered well; faults change every {} s (red)",
        short(rate),
        figures.success() * 100.0,
        CHANGE.as_secs()
    );
    let mut sheet = Sheet::new(
        &format!(
            "{} minutes at half load with failing upstreams",
            soak.minutes
        ),
        &note,
    );
    anstream::println!("{note}\noutcomes: {:?}", figures.outcomes);
    let mut slopes = Vec::new();
    for (name, of) in WATCHED {
        let points: Vec<(f64, f64)> = moments.iter().map(|m| (m.at / 60.0, of(m))).collect();
        let after: Vec<_> = points
            .iter()
            .copied()
            .filter(|p| p.0 * 60.0 >= warm)
            .collect();
        let slope = Slope::of(&after);
        anstream::println!(
            "{name:15} mean {:>8}, slope {:>9} ± {} a minute",
            short(slope.mean),
            short(slope.slope),
            short(slope.error)
        );
        slopes.push(json!({"what": name, "per_minute": slope}));
        let in_seconds = points.iter().map(|(x, y)| (x * 60.0, *y)).collect();
        let line = Line {
            label: name.into(),
            points: in_seconds,
        };
        sheet.lines(name, "s", Scale::Linear, &[line], &marks);
    }
    let mut answered = vec![0u32; seconds as usize + 1];
    for sample in samples.iter().filter(|sample| sample.outcome.good()) {
        if let Some(slot) =
            answered.get_mut(((sample.at + sample.latency) / 1_000_000_000) as usize)
        {
            *slot += 1;
        }
    }
    let points = answered
        .iter()
        .enumerate()
        .map(|(at, n)| (at as f64, f64::from(*n)))
        .collect();
    let line = Line {
        label: "good".into(),
        points,
    };
    sheet.lines(
        "good answers in each second",
        "s",
        Scale::Linear,
        &[line],
        &marks,
    );
    let whole = json!({"machine": machine::describe(), "rate": rate, "figures": figures, "lost": lost, "wrong": wrong,
        "doubled": doubled, "at_rest": at_rest, "warm_up_seconds": warm, "slopes": slopes, "turns": turns, "moments": moments});
    fs::write(
        soak.out.join("soak.json"),
        serde_json::to_vec_pretty(&whole)?,
    )?;
    fs::write(soak.out.join("soak.svg"), sheet.svg())?;
    anstream::println!("written: soak.json, soak.svg in {}", soak.out.display());
    if lost + wrong + doubled > 0 || at_rest != [0.0; 3] {
        let [permits, calls, upstream] = at_rest;
        return Err(format!(
            "{lost} without an answer, {wrong} wrong, {doubled} doubled; at rest {permits} permits, {calls} calls, \
             {upstream} at the upstreams"
        )
        .into());
    }
    Ok(())
}
