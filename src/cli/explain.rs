//! A plan, for people.

use serde_json::Value;

use super::table::{Cell, table};

/// Who would be asked in which order, who would not, and why.
pub fn plan(plan: &Value) -> String {
    let asked = plan["asked"].as_str().unwrap_or("?");
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
            "{asked}: an ensemble of {count}, merge {merge}, quorum {quorum}\n{members}{judge}"
        );
    }
    let order = plan["order"].as_str().unwrap_or("?");
    let heads = [
        "DEPLOYMENT",
        "STATE",
        "SCORE",
        "QUALITY",
        "SECONDS",
        "DOLLARS",
        "WHY",
    ];
    let candidates: Vec<[Cell; 7]> = list(&plan["candidates"]).map(candidate).collect();
    let excluded: Vec<[Cell; 7]> = list(&plan["excluded"]).map(excluded).collect();
    let rows = [candidates, excluded].concat();
    format!("{asked}: in {order} order\n{}", table(heads, &rows))
}

fn candidate(candidate: &Value) -> [Cell; 7] {
    let text = |key: &str| candidate[key].as_str().unwrap_or_default();
    let number = |key: &str, digits: usize| match candidate[key].as_f64() {
        Some(number) => Cell::from(format!("{number:.digits$}")),
        None => Cell::from("–"),
    };
    [
        text("deployment").into(),
        Cell::rated(text("state")),
        number("score", 3),
        number("quality", 2),
        number("seconds", 2),
        number("dollars", 5),
        text("reason").into(),
    ]
}

fn excluded(excluded: &Value) -> [Cell; 7] {
    let text = |key: &str| excluded[key].as_str().unwrap_or_default();
    let mut row = ["", "left out", "–", "–", "–", "–", ""].map(Cell::from);
    row[0] = text("deployment").into();
    row[6] = text("reason").into();
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
            "candidates": [{ "deployment": "a/x", "score": 0.5, "state": "ready", "reason": "best" }],
            "excluded": [{ "deployment": "b/y", "reason": "cannot do vision" }],
        });
        let told = anstream::adapter::strip_str(&plan(&one)).to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[0], "auto: in scored order");
        assert!(
            lines[2].starts_with("a/x") && lines[2].ends_with("best"),
            "{told}"
        );
        assert!(
            lines[3].starts_with("b/y") && lines[3].ends_with("cannot do vision"),
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
