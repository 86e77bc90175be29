//! `quorate explain`: who would answer, and why; or why an earlier decision fell as it did, made again.

use serde_json::{Value, json};

use super::client::Client;
use super::connection::Connection;
use super::explain;
use super::failure::{Exit, Failure};
use super::global::Global;
use super::output::Output;
use super::request::{self, Manner};
use super::table::{Cell, table};

/// The method that makes a decision again.
const METHOD: &str = "replay";

/// Tell who would be asked, and why, without asking; or make an earlier choice again.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// The question; its words are joined by spaces
    prompt: Vec<String>,
    /// Make the choice of this decision again from the state it was made with, and compare
    #[arg(
        long,
        value_name = "DECISION",
        conflicts_with_all = ["prompt", "model", "system", "lane", "deadline", "max_tokens", "temperature"]
    )]
    replay: Option<String>,
    #[command(flatten)]
    manner: Manner,
}

impl Explain {
    /// Explains. Ends with 1 if a choice made again is not the same.
    pub async fn run(self, global: &Global, out: Output) -> Result<(), Failure> {
        if let Some(decision) = self.replay {
            let mut client = Client::dial(global).await?;
            let replay = client.call(METHOD, json!({ "decision": decision })).await;
            let replay = replay.map_err(|failure| failure.of_decision(&decision))?;
            if out.json {
                out.value(&replay)?;
            } else {
                out.text(&again(&replay))?;
            }
            return if replay["same"] == true {
                Ok(())
            } else {
                Err(Failure::silent(Exit::Query))
            };
        }
        let prompt = request::prompt(&self.prompt, request::piped(out).await?.as_deref())?;
        let body = self.manner.body(&[request::turn(&prompt, &[])]);
        let mut connection = Connection::open(global, out).await?;
        let plan = explain::ask(&mut connection.client, body, !out.json).await;
        connection.close().await;
        let plan = plan?;
        if out.json {
            Ok(out.value(&plan)?)
        } else {
            Ok(out.text(&explain::plan(&plan))?)
        }
    }
}

/// A choice that was made again: whether it is the same, and what it was made of.
fn again(replay: &Value) -> String {
    let text = |key: &str| replay[key].as_str();
    let decision = text("decision").unwrap_or("?");
    let [then, now] = ["chosen_then", "chosen_again"].map(|key| text(key).unwrap_or("nobody"));
    let verdict = if replay["same"] == true {
        format!("the same choice again, {then}")
    } else if then == now {
        format!("{then} again, but not in the same way")
    } else {
        format!("{now} now, {then} then")
    };
    let why = text("why")
        .map(|why| format!(" ({why})"))
        .unwrap_or_default();
    let [state, current] = ["state", "state_now"].map(|key| text(key).unwrap_or("?"));
    let learned = if state == current {
        format!("state {state}, still in force")
    } else {
        format!("state {state}; in force now: {current}")
    };
    let note = text("note")
        .map(|note| format!("{note}\n"))
        .unwrap_or_default();
    let rows: Vec<[Cell; 7]> = replay["candidates"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| candidate(one, then, now))
        .collect();
    let heads = [
        "DEPLOYMENT",
        "CHOSEN",
        "SCORE",
        "SAMPLED",
        "QUALITY",
        "INTERVAL",
        "EVIDENCE",
    ];
    format!(
        "decision {decision}: {verdict}{why}\n{learned}\n{note}{}",
        table(heads, &rows)
    )
}

fn candidate(candidate: &Value, then: &str, now: &str) -> [Cell; 7] {
    let number = |key: &str, digits: usize| match candidate[key].as_f64() {
        Some(number) => format!("{number:.digits$}"),
        None => "–".into(),
    };
    let id = candidate["deployment"].as_str().unwrap_or("?");
    let chosen = match (id == then, id == now) {
        (true, true) => "then and again",
        (true, false) => "then",
        (false, true) => "again",
        (false, false) => "",
    };
    let interval = match (candidate["low"].as_f64(), candidate["high"].as_f64()) {
        (Some(low), Some(high)) => format!("{low:.3} to {high:.3}"),
        _ => "–".into(),
    };
    [
        id,
        chosen,
        &number("score", 4),
        &number("sampled", 4),
        &number("quality", 3),
        &interval,
        &number("evidence", 1),
    ]
    .map(Cell::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        _explain: Explain,
    }

    fn told(same: bool, now: &str, state_now: &str) -> Vec<String> {
        let replay = json!({
            "decision": "0192", "same": same, "state": "ab12", "state_now": state_now,
            "chosen_then": "a/x", "chosen_again": now, "why": "explored",
            "candidates": [
                { "deployment": "a/x", "score": 0.51239, "sampled": 0.7, "low": 0.2, "high": 0.9, "evidence": 12.25, "quality": 0.6 },
                { "deployment": "b/y", "score": 0.4 },
            ],
        });
        let told = anstream::adapter::strip_str(&again(&replay)).to_string();
        told.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_choice_made_again_shows_what_it_was_made_of() {
        let lines = told(true, "a/x", "ab12");
        assert_eq!(
            lines[0],
            "decision 0192: the same choice again, a/x (explored)"
        );
        assert_eq!(lines[1], "state ab12, still in force");
        let fields: Vec<&str> = lines[3]
            .split("  ")
            .map(str::trim)
            .filter(|f| !f.is_empty())
            .collect();
        let row = [
            "a/x",
            "then and again",
            "0.5124",
            "0.7000",
            "0.600",
            "0.200 to 0.900",
            "12.2",
        ];
        assert_eq!(fields, row);
        assert!(
            lines[4].starts_with("b/y") && lines[4].ends_with('–'),
            "{}",
            lines[4]
        );
    }

    #[test]
    fn another_choice_is_told_as_one() {
        let lines = told(false, "b/y", "cd34");
        assert_eq!(lines[0], "decision 0192: b/y now, a/x then (explored)");
        assert_eq!(lines[1], "state ab12; in force now: cd34");
        assert!(lines[4].contains("again"));
        assert!(told(false, "a/x", "cd34")[0].contains("not in the same way"));
    }

    #[test]
    fn a_replay_takes_no_question() {
        let taken = |line: &str| Line::try_parse_from(line.split(' ')).is_ok();
        assert!(taken("explain --replay 0192"));
        assert!(taken("explain --model a/x why is the sky blue"));
        assert!(!taken("explain --replay 0192 why"));
        assert!(!taken("explain --replay 0192 --model a/x"));
    }
}
