//! Learned state, for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quorate::ledger::state::{self, Diff};
use serde_json::Value;

use crate::cli::footer;
use crate::cli::table::{Cell, table};

/// What is in force, and what is saved.
pub fn show(shown: &Value) -> String {
    let digest = shown["digest"].as_str().unwrap_or("?");
    let count = cells(shown["cells"].as_u64().unwrap_or(0));
    let pinned = if shown["pinned"] == true {
        "pinned: nothing is learned"
    } else {
        "learning"
    };
    let saved = match saved(shown) {
        none if none.is_empty() => none,
        saved => format!("\n{saved}"),
    };
    format!("state {digest}\n{count}, {pinned}\n{saved}")
}

/// The saved states; nothing if there are none.
pub fn saved(shown: &Value) -> String {
    let row = |saved: &Value| {
        let digest = saved["digest"].as_str().unwrap_or("?");
        let when = saved["at"].as_i64().map_or_else(|| "?".into(), ago);
        let why = saved["why"].as_str().unwrap_or_default();
        [state::short(digest), &when, why].map(Cell::from)
    };
    let rows: Vec<[Cell; 3]> = list(&shown["saved"]).map(row).collect();
    table(["SAVED", "WHEN", "WHY"], &rows)
}

/// What was restored, and what was not.
pub fn restored(answer: &Value) -> String {
    let digest = state::short(answer["digest"].as_str().unwrap_or("?"));
    let count = cells(answer["restored"].as_u64().unwrap_or(0));
    let row = |refused: &Value| {
        ["key", "reason"].map(|key| Cell::from(refused[key].as_str().unwrap_or("?")))
    };
    let refused: Vec<[Cell; 2]> = list(&answer["refused"]).map(row).collect();
    let refused = table(["REFUSED", "WHY"], &refused);
    let unknown = list(&answer["unknown"]).filter_map(Value::as_str);
    let unknown: Vec<[Cell; 1]> = unknown.map(|key| [Cell::from(key)]).collect();
    let unknown = table(["IGNORED, UNKNOWN HERE"], &unknown);
    let more = match answer["unnamed"].as_u64().unwrap_or(0) {
        0 => String::new(),
        more => format!("and {} more left out\n", cells(more)),
    };
    format!("state {digest}: {count} restored\n{refused}{unknown}{more}")
}

/// What sets two states apart, cell by cell.
pub fn differences(diff: &Diff) -> String {
    let row = |cell: &str, what: &str| [cell, what, "", "", ""].map(Cell::from);
    let mut rows: Vec<[Cell; 5]> = Vec::new();
    rows.extend(diff.removed.iter().map(|key| row(key, "removed")));
    rows.extend(diff.added.iter().map(|key| row(key, "added")));
    for change in &diff.changed {
        let version = change
            .version
            .map(|[before, after]| format!("version {before} to {after}, "))
            .unwrap_or_default();
        let values = if change.leaves == 1 {
            "value"
        } else {
            "values"
        };
        let mut key = change.key.as_str();
        let mut what = format!("{version}{} {values}", change.leaves);
        for moved in &change.most {
            let [before, after] = [moved.before, moved.after].map(number);
            let path = if moved.path.is_empty() {
                "/"
            } else {
                &moved.path
            };
            rows.push([key, &what, path, &before, &after].map(Cell::from));
            // Told once.
            key = "";
            what.clear();
        }
        if change.most.is_empty() {
            rows.push(row(key, &what));
        }
    }
    let counts = [
        (diff.removed.len(), "removed"),
        (diff.added.len(), "added"),
        (diff.changed.len(), "changed"),
    ];
    let counts: Vec<String> = counts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{} {what}", cells(count as u64)))
        .collect();
    let table = table(["CELL", "DIFFERENCE", "WHERE", "BEFORE", "AFTER"], &rows);
    format!("{table}{}\n", counts.join(", "))
}

/// A number with as many digits as one compares at a glance.
fn number(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 || (1e-3..1e7).contains(&size) {
        let digits = if size >= 1000.0 { 1 } else { 4 };
        let text = format!("{number:.digits$}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{number:.3e}")
    }
}

/// So many cells.
pub fn cells(count: u64) -> String {
    let cells = if count == 1 { "cell" } else { "cells" };
    format!("{count} {cells}")
}

/// How long ago a Unix millisecond was.
fn ago(at: i64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let then = Duration::from_millis(u64::try_from(at).unwrap_or(0));
    format!("{} ago", footer::time(now.saturating_sub(then)))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate::ledger::State;
    use serde_json::json;

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn what_is_in_force_and_what_is_saved_is_shown() {
        let digest = "ab".repeat(32);
        let shown = json!({ "digest": digest, "pinned": true, "cells": 1,
                            "saved": [{ "digest": digest, "at": 0, "why": "import" }] });
        let told = plain(&show(&shown));
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[0], format!("state {digest}"));
        assert_eq!(lines[1], "1 cell, pinned: nothing is learned");
        assert!(
            lines[4].starts_with("abababababababab  ") && lines[4].ends_with("import"),
            "{told}"
        );
        let none = json!({ "digest": digest, "pinned": false, "cells": 0, "saved": [] });
        assert!(show(&none).ends_with("0 cells, learning\n"));
    }

    #[test]
    fn what_was_not_restored_is_told_with_its_reason() {
        let answer = json!({ "digest": "ab".repeat(32), "restored": 2,
                             "refused": [{ "key": "topics", "reason": "too many" }] });
        let told = plain(&restored(&answer));
        assert!(
            told.starts_with("state abababababababab: 2 cells restored\n"),
            "{told}"
        );
        assert!(told.ends_with("topics   too many\n"), "{told}");
        let answer = json!({ "digest": "ab".repeat(32), "restored": 2, "refused": [], "unnamed": 1,
                             "unknown": ["experiment:gone"] });
        let told = plain(&restored(&answer));
        let lines: Vec<&str> = told.lines().skip(1).collect();
        let wanted = [
            "IGNORED, UNKNOWN HERE",
            "experiment:gone",
            "and 1 cell more left out",
        ];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn differences_are_told_cell_by_cell() {
        let cell = |key: &str, payload: &str| quorate::ledger::Cell {
            key: key.into(),
            version: 1,
            payload: payload.into(),
        };
        let before = State::new(vec![cell("a", r#"{"m":0.5,"n":1}"#), cell("b", "1")]);
        let after = State::new(vec![
            cell("a", r#"{"m":0.25,"n":12345678}"#),
            cell("c", "1"),
        ]);
        let told = plain(&differences(&before.diff(&after)));
        let lines: Vec<Vec<&str>> = told
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[1], ["b", "removed"]);
        assert_eq!(lines[2], ["c", "added"]);
        assert_eq!(lines[3], ["a", "2", "values", "/n", "1", "1.235e7"]);
        assert_eq!(lines[4], ["/m", "0.5", "0.25"]);
        assert!(
            told.ends_with("1 cell removed, 1 cell added, 1 cell changed\n"),
            "{told}"
        );
    }

    #[test]
    fn numbers_have_the_digits_one_compares() {
        let shown = [0.0, 1.0, -0.25, 100.0, 1234.56, 1e-5].map(number);
        assert_eq!(shown, ["0", "1", "-0.25", "100", "1234.6", "1.000e-5"]);
    }
}
