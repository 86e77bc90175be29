//! `fairness`: one user with many connections beside seven with one each, all wanting the same 20 places.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::cells::Raw;
use crate::chart::{Bar, Scale, Sheet};
use crate::figures::{Figures, median, short};
use crate::gateways::Peer;
use crate::load::{Job, Sample};
use crate::mocks::Mocks;
use crate::{Result, closed, daemon, machine, target};

const POLITE: usize = 7;
const GREEDY: usize = 64;
const PLACES: usize = 20;
/// Between rounds, what is still waiting is answered.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(clap::Args)]
pub struct Fairness {
    /// Seconds of each run
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where fairness.json and fairness.svg are written
    #[arg(long, default_value = "target/peers")]
    out: PathBuf,
}

/// A number of a run.
type Of = fn(&Raw) -> f64;

/// Of the polite users, and of the greedy one if there is one.
async fn contest(job: &Job, greedy: bool, during: Duration) -> (Figures, Figures) {
    let mut users = JoinSet::new();
    for user in 0..=POLITE {
        let (name, connections) = match user {
            0 if greedy => ("greedy".to_owned(), GREEDY),
            0 => continue,
            _ => (format!("polite-{user}"), 1),
        };
        let job = job.clone().user(&name);
        users.spawn(async move { (user, closed::run(&job, connections, during).await) });
    }
    let (mut polite, mut others): (Vec<Sample>, Vec<Sample>) = (Vec::new(), Vec::new());
    for (user, samples) in users.join_all().await {
        if user == 0 {
            others.extend(samples)
        } else {
            polite.extend(samples)
        }
    }
    let seconds = during.as_secs_f64();
    (
        Figures::new(&polite, seconds),
        Figures::new(&others, seconds),
    )
}

pub async fn run(fairness: Fairness) -> Result<()> {
    let installed = target()?.join("peers");
    let work = fairness.out.join("work-fairness");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work)?;
    let mocks = Mocks::start(2, &work).await?;
    // Quorate keeps to 20 itself; for the others the upstream takes no more, first come, first served.
    let slow = json!({"delay_ms": 50});
    let capped = json!({"delay_ms": 50, "at_once": PLACES});
    mocks.behave(0, &json!({})).await?;
    let limits = format!("[admission]\ntotal = {PLACES}\n");
    let upstreams = [("up", mocks.addr(0))];
    let (quorate, _) = daemon::start(&work.join("quorate"), &upstreams, &limits).await?;
    let nginx = match Peer::Nginx.missing(&installed) {
        None => Some(
            Peer::Nginx
                .start(mocks.addr(1), &work.join("nginx"), &installed)
                .await?,
        ),
        Some(why) => {
            anstream::eprintln!("{why}");
            None
        }
    };
    mocks.behave(0, &slow).await?;
    mocks.behave(1, &capped).await?;
    let mut contestants = vec![("Quorate", quorate.job.clone())];
    contestants.extend(nginx.as_ref().map(|nginx| ("nginx", nginx.job.clone())));
    contestants.push(("direct", Job::new(mocks.addr(1), "mock-1")));
    let during = Duration::from_secs_f64(fairness.seconds);
    let mut cells = Vec::new();
    for round in 1..=fairness.rounds {
        for (peer, job) in &contestants {
            for (greedy, cell) in [(false, "without"), (true, "with")] {
                anstream::eprintln!("round {round}: {peer} {cell} the greedy user");
                let (polite, others) = contest(job, greedy, during).await;
                cells.push(Raw {
                    peer,
                    round,
                    cell,
                    direct: others,
                    through: polite,
                });
                tokio::time::sleep(PAUSE).await;
            }
        }
        contestants.rotate_left(1);
    }
    contestants.sort_by_key(|(peer, _)| *peer != "Quorate");
    let peers: Vec<&str> = contestants.iter().map(|(peer, _)| *peer).collect();
    write(&fairness.out, &peers, &cells)
}

fn write(out: &std::path::Path, peers: &[&'static str], cells: &[Raw]) -> Result<()> {
    let over_rounds = |peer: &str, cell: &str, of: Of| {
        let of = cells
            .iter()
            .filter(|raw| raw.peer == peer && raw.cell == cell)
            .map(of);
        let values: Vec<f64> = of.collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        (
            low,
            median(&values),
            values.iter().copied().fold(0.0, f64::max),
        )
    };
    let note = format!(
        "{POLITE} users with 1 connection, one with {GREEDY}; {PLACES} places; the upstream takes 50 ms"
    );
    let mut sheet = Sheet::new("How long polite users wait beside a greedy one", &note);
    let mut rows = Vec::new();
    let panels: [(&str, &str, Of); 3] = [
        ("Latency of the polite users, median", "ms", |raw| {
            raw.through.latency_ms.p50
        }),
        (
            "Latency of the polite users, 99th percentile",
            "ms",
            |raw| raw.through.latency_ms.p99,
        ),
        ("Answers a second to the greedy user", "/s", |raw| {
            raw.direct.rate
        }),
    ];
    for (title, unit, of) in panels {
        let mut bars = Vec::new();
        for peer in peers {
            for cell in ["without", "with"] {
                let (low, mid, high) = over_rounds(peer, cell, of);
                if high == 0.0 {
                    continue;
                }
                anstream::println!(
                    "{title:50} {:28} {:>9} {unit}",
                    format!("{peer}, {cell}"),
                    short(mid)
                );
                rows.push(
                    json!({"what": title, "unit": unit, "peer": peer, "greedy": cell,
                    "low": low, "median": mid, "high": high}),
                );
                bars.push(Bar {
                    label: format!("{peer}, {cell} greedy"),
                    low,
                    mid,
                    high,
                    ours: *peer == "Quorate",
                });
            }
        }
        sheet.bars(title, unit, Scale::Linear, &bars);
    }
    let cells: Vec<_> = cells
        .iter()
        .map(|raw| {
            json!({"peer": raw.peer, "round": raw.round, "greedy": raw.cell, "polite_user": raw.through,
                "greedy_user": raw.direct})
        })
        .collect();
    let whole = json!({"machine": machine::describe(), "summary": rows, "runs": cells});
    fs::write(
        out.join("fairness.json"),
        serde_json::to_vec_pretty(&whole)?,
    )?;
    fs::write(out.join("fairness.svg"), sheet.svg())?;
    anstream::println!("written: fairness.json, fairness.svg in {}", out.display());
    Ok(())
}
