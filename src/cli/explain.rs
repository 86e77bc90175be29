//! A plan, for people.

use serde_json::Value;

use super::client::Client;
use super::failure::Failure;
use super::reply::cannot_stream;
use super::table::{Cell, table};

/// The plan for `body` as `ask` would send it: as a stream, which leaves out who cannot, unless nobody can.
pub async fn ask(client: &mut Client, mut body: Value, stream: bool) -> Result<Value, Failure> {
    body["stream"] = stream.into();
    match client.call("explain", body.clone()).await {
        Err(failure) if stream && cannot_stream(&failure) => {
            body["stream"] = false.into();
            client.call("explain", body).await
        }
        plan => plan,
    }
}

/// Who would be asked in which order, who would not, and why.
pub fn plan(plan: &Value) -> String {
    let asked = plan["asked"].as_str().unwrap_or("?");
    let trial = trial(&plan["trial"]);
    let ensemble = &plan["ensemble"];
    if ensemble.is_object() {
        let count = list(&ensemble["members"]).count();
        let merge = ensemble["merge"].as_str().unwrap_or("?");
        let quorum = &ensemble["quorum"];
        let members: String = list(&ensemble["members"]).map(self::plan).collect();
        let judge = &ensemble["judge"];
        let judge = if judge.is_object() {
            format!("judge:\n{}", self::plan(judge))
        } else {
            String::new()
        };
        return format!(
            "{asked}: an ensemble of {count}, merge {merge}, quorum {quorum}\n{trial}{members}{judge}"
        );
    }
    let order = match plan["order"].as_str().unwrap_or("?") {
        // By expected quality, while whom to ask first is chosen by the quality that was drawn.
        "scored" => "the chosen first, then by score; who rests last".to_owned(),
        order => format!("in {order} order"),
    };
    let chosen = chosen(plan);
    let heads = [
        "DEPLOYMENT",
        "STATE",
        "SCORE",
        "SAMPLED",
        "QUALITY",
        "SECONDS",
        "DOLLARS",
        "WHY",
    ];
    let candidates: Vec<[Cell; 8]> = list(&plan["candidates"]).map(candidate).collect();
    let excluded: Vec<[Cell; 8]> = list(&plan["excluded"]).map(excluded).collect();
    let rows = [candidates, excluded].concat();
    format!("{asked}: {order}\n{trial}{chosen}{}", table(heads, &rows))
}

fn trial(trial: &Value) -> String {
    match (trial["experiment"].as_str(), trial["variant"].as_str()) {
        (Some(experiment), Some(variant)) => {
            format!("experiment {experiment}, variant {variant}\n")
        }
        _ => String::new(),
    }
}

/// Whom the scores and the draw chose, and why.
fn chosen(plan: &Value) -> String {
    let Some(choice) = plan["choice"].as_str() else {
        return String::new();
    };
    let why = match plan["why"].as_str().unwrap_or("?") {
        "greedy" => "greedy: the best known",
        "explored" => "explored: it may be better than the best known",
        "bounded" => "bounded: the best known; another would have been explored, but for a bound",
        other => other,
    };
    format!("chosen: {choice} ({why})\n")
}

fn candidate(candidate: &Value) -> [Cell; 8] {
    let text = |key: &str| candidate[key].as_str().unwrap_or_default();
    let number = |key: &str, digits: usize| match candidate[key].as_f64() {
        Some(number) => Cell::from(format!("{number:.digits$}")),
        None => Cell::from("–"),
    };
    [
        text("deployment").into(),
        Cell::rated(text("state")),
        number("score", 3),
        number("sampled", 2),
        number("quality", 2),
        number("seconds", 2),
        number("dollars", 5),
        text("reason").into(),
    ]
}

fn excluded(excluded: &Value) -> [Cell; 8] {
    let text = |key: &str| excluded[key].as_str().unwrap_or_default();
    let mut row = ["", "left out", "–", "–", "–", "–", "–", ""].map(Cell::from);
    row[0] = text("deployment").into();
    row[7] = text("reason").into();
    row
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_candidate_is_there_with_its_reason() {
        let one = json!({
            "asked": "auto",
            "order": "scored",
            "choice": "a/x",
            "why": "explored",
            "trial": { "experiment": "e", "variant": "new" },
            "candidates": [{ "deployment": "a/x", "score": 0.5, "sampled": 0.87, "state": "ready", "reason": "best" }],
            "excluded": [{ "deployment": "b/y", "reason": "cannot do vision" }],
        });
        let told = anstream::adapter::strip_str(&plan(&one)).to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "auto: the chosen first, then by score; who rests last",
                "experiment e, variant new",
                "chosen: a/x (explored: it may be better than the best known)",
            ]
        );
        assert!(
            lines[4].starts_with("a/x") && lines[4].contains("0.87") && lines[4].ends_with("best"),
            "{told}"
        );
        assert!(
            lines[5].starts_with("b/y") && lines[5].ends_with("cannot do vision"),
            "{told}"
        );

        let several = json!({
            "asked": "ensemble/p",
            "ensemble": { "members": [one, one], "merge": "plurality", "quorum": 2 },
        });
        let told = plan(&several);
        assert!(told.starts_with("ensemble/p: an ensemble of 2, merge plurality, quorum 2\nauto:"));
        assert_eq!(told.matches("cannot do vision").count(), 2);
    }
}
