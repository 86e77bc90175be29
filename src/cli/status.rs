//! `quorate status`: what the daemon is doing.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::signal::ctrl_c;
use tokio::time::{MissedTickBehavior, interval};

use super::client::Client;
use super::failure::{Exit, Failure};
use super::footer::time;
use super::global::Global;
use super::output::Output;
use super::table::{Cell, table};

/// Moves the cursor home and clears what is below (ECMA-48: CUP, ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Show what the daemon is doing: its actors, its deployments and what it has learned of them.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// Show it again and again, every second or as many
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "1",
        value_parser = clap::value_parser!(u64).range(1..=86_400)
    )]
    watch: Option<u64>,
}

impl Status {
    /// Shows it.
    pub async fn run(self, global: &Global, out: Output) -> Result<(), Failure> {
        let status = fetch(global).await?;
        let Some(seconds) = self.watch else {
            return show(&status, out);
        };
        let mut clock = interval(Duration::from_secs(seconds));
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = clock.tick() => {}
                _ = ctrl_c() => return Err(Failure::silent(Exit::Interrupted)),
            }
            if out.terminal && !out.json {
                out.control(CLEAR)?;
            }
            // A daemon may be restarted while somebody watches.
            match fetch(global).await {
                Ok(status) => show(&status, out)?,
                Err(failure) => drop(out.failed(&failure)),
            }
        }
    }
}

async fn fetch(global: &Global) -> Result<Value, Failure> {
    Client::dial(global).await?.call("status", json!({})).await
}

fn show(status: &Value, out: Output) -> Result<(), Failure> {
    if out.json {
        Ok(out.value(status)?)
    } else {
        Ok(out.text(&text(status))?)
    }
}

fn text(status: &Value) -> String {
    let deployments = [
        "DEPLOYMENT",
        "STATE",
        "BREAKER",
        "RUNNING",
        "OK",
        "FAILED",
        "LIMITED",
        "FIRST WORD",
        "ANSWER",
        "QUALITY",
        "WHY",
    ];
    let actors = ["ACTOR", "STATE", "RESTARTS", "UP", "LAST EXIT"];
    let mut tree: Vec<&Value> = list(&status["actors"]).collect();
    tree.sort_by_key(|actor| actor["path"].as_str());
    let sections = [
        head(status),
        table(
            deployments,
            &list(&status["deployments"])
                .map(deployment)
                .collect::<Vec<_>>(),
        ),
        table(actors, &tree.into_iter().map(actor).collect::<Vec<_>>()),
        names("alias", &status["aliases"]) + &names("ensemble", &status["ensembles"]),
    ];
    let said: Vec<String> = sections
        .into_iter()
        .filter(|section| !section.is_empty())
        .collect();
    said.join("\n")
}

fn head(status: &Value) -> String {
    let version = status["version"].as_str().unwrap_or("?");
    let not_ready = if status["ready"] == false {
        ", not ready"
    } else {
        ""
    };
    let admission = &status["admission"];
    let waiting = |lane: usize| admission["waiting"][lane].as_u64().unwrap_or_default();
    let failure = status["ledger"]["failure"].as_str();
    let ledger = failure
        .map(|why| format!("ledger: {why}\n"))
        .unwrap_or_default();
    format!(
        "quorate {version}, up {}{not_ready}\nrunning: {}; waiting: {} urgent, {} normal, {} batch\n{ledger}",
        span(&status["uptime_seconds"]),
        admission["in_use"].as_u64().unwrap_or_default(),
        waiting(0),
        waiting(1),
        waiting(2),
    )
}

fn deployment(deployment: &Value) -> [Cell; 11] {
    let text = |key: &str| deployment[key].as_str();
    let calls = |key: &str| {
        Cell::from(
            deployment["calls"][key]
                .as_u64()
                .unwrap_or_default()
                .to_string(),
        )
    };
    let quality = &deployment["quality"];
    let quality = match (
        quality["mean"].as_f64(),
        quality["low"].as_f64(),
        quality["high"].as_f64(),
    ) {
        (Some(mean), Some(low), Some(high)) => format!("{mean:.2} ({low:.2}–{high:.2})"),
        _ => "–".into(),
    };
    [
        text("id").unwrap_or("?").into(),
        Cell::rated(text("state").unwrap_or("?")),
        Cell::rated(text("breaker").unwrap_or("?")),
        deployment["in_flight"]
            .as_u64()
            .unwrap_or_default()
            .to_string()
            .into(),
        calls("ok"),
        calls("failed"),
        calls("rate_limited"),
        quantiles(&deployment["ttft"]).into(),
        quantiles(&deployment["total"]).into(),
        quality.into(),
        text("why")
            .or(text("last_error"))
            .unwrap_or_default()
            .into(),
    ]
}

fn actor(actor: &Value) -> [Cell; 5] {
    let text = |key: &str| actor[key].as_str().unwrap_or_default();
    [
        text("path").into(),
        Cell::rated(text("state")),
        actor["restarts"]
            .as_u64()
            .unwrap_or_default()
            .to_string()
            .into(),
        span(&actor["up_seconds"]).into(),
        text("last_exit").into(),
    ]
}

/// The median and the 95th percentile.
fn quantiles(learned: &Value) -> String {
    match (learned["p50"].as_f64(), learned["p95"].as_f64()) {
        (Some(_), Some(_)) => format!("{} / {}", span(&learned["p50"]), span(&learned["p95"])),
        _ => "–".into(),
    }
}

fn span(seconds: &Value) -> String {
    let duration = seconds
        .as_f64()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.map_or_else(|| "–".into(), time)
}

fn names(kind: &str, map: &Value) -> String {
    let line = |(name, members): (&String, &Value)| {
        // An ensemble says more of itself than its members.
        let members = members.get("members").unwrap_or(members);
        let members: Vec<&str> = list(members).filter_map(Value::as_str).collect();
        format!("{kind} {name}: {}\n", members.join(", "))
    };
    map.as_object().into_iter().flatten().map(line).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_known_is_shown() {
        let status = json!({
            "version": "1.2.3", "uptime_seconds": 3725.0,
            "admission": { "in_use": 2, "waiting": [0, 1, 9] },
            "actors": [
                { "path": "root/ledger", "state": "running", "restarts": 3, "up_seconds": 5.0, "last_exit": "panicked" },
                { "path": "root/dispatcher", "state": "running", "restarts": 0, "up_seconds": 5.0 },
            ],
            "deployments": [{
                "id": "a/x", "state": "resting", "breaker": "open", "why": "tripped", "in_flight": 1,
                "calls": { "ok": 10, "failed": 15, "rate_limited": 4 },
                "ttft": { "p50": 0.12, "p95": 0.5 }, "total": { "p50": null },
                "quality": { "mean": 0.61, "low": 0.5, "high": 0.7 },
            }],
            "aliases": { "fast": ["a/x", "b/y"] }, "ledger": { "failure": "disk full" },
        });
        let told = anstream::adapter::strip_str(&text(&status)).to_string();
        for part in [
            "quorate 1.2.3, up 1 h 2 min\n",
            "running: 2; waiting: 0 urgent, 1 normal, 9 batch\n",
            "ledger: disk full\n",
            "120 ms / 500 ms",
            "0.61 (0.50–0.70)",
            "tripped\n",
            "alias fast: a/x, b/y\n",
        ] {
            assert!(told.contains(part), "{part} is missing from\n{told}");
        }
        assert!(
            told.find("root/dispatcher") < told.find("root/ledger"),
            "by path\n{told}"
        );
    }

    #[test]
    fn a_status_of_another_version_breaks_nothing() {
        for odd in [
            json!(null),
            json!({ "deployments": [null], "actors": [7], "aliases": [] }),
        ] {
            assert!(text(&odd).starts_with("quorate ?"), "{odd}");
        }
    }
}
