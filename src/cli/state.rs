//! `quorate state`: what the daemon has learned, as something one can hold.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use quorate::ledger::state::{self, Diff, State};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;

use super::client::Client;
use super::failure::Failure;
use super::footer;
use super::global::Global;
use super::output::Output;
use super::table::{Cell, table};
use super::testimony::Testimony;

/// The method of the daemon.
const METHOD: &str = "state";
/// Fewer digits of a digest are more likely a slip than a choice.
const SHORTEST_PREFIX: usize = 4;

/// Show, move, compare, pin and restore what the daemon has learned.
#[derive(Debug, clap::Args)]
pub struct States {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the digest of what is learned, whether it is pinned, and the saved states
    Show,
    /// Write what is learned to a file
    Export {
        /// The file; it takes the old one's place whole or not at all [default: standard output]
        #[arg(default_value = "-", hide_default_value = true)]
        file: String,
    },
    /// Replace what is learned by a state file's, or learn from evidence
    ///
    /// Evidence is one JSON object a line: {"deployment", "score": 0 to 1, "weight": default 1, "source", and
    /// optionally "task", "topic", "prompt"}. What it replaces is saved before: see rollback.
    Import {
        /// The state or the evidence; - reads standard input
        file: String,
        /// Of evidence, take this line first, to go on after a refusal
        #[arg(long, value_name = "LINE", default_value_t = 1, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
        from_line: u64,
    },
    /// Compare two states: files, or 'now' for what the daemon has learned by now
    Diff {
        /// The earlier one; 'now' or - for the daemon's
        before: String,
        /// The later one
        #[arg(default_value = "now")]
        after: String,
    },
    /// Pin what is learned: it serves, and nothing is learned any more
    Pin {
        /// Learn again
        #[arg(long)]
        off: bool,
    },
    /// Go back to a saved state; without DIGEST, list them
    Rollback {
        /// The digest, or its beginning
        #[arg(value_parser = prefix)]
        digest: Option<String>,
    },
}

fn prefix(text: &str) -> Result<String, String> {
    let is_digest =
        (SHORTEST_PREFIX..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if is_digest {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("must be 4 to 64 hexadecimal digits".into())
    }
}

impl States {
    /// Does it.
    pub async fn run(self, global: &Global, out: Output) -> Result<(), Failure> {
        match self.action.unwrap_or(Action::Show) {
            Action::Show => {
                let shown = call(global, json!({ "action": "show" })).await?;
                tell(&shown, out, show)
            }
            Action::Export { file } => export(global, &file, out).await,
            Action::Import { file, from_line } => import(global, file, from_line, out).await,
            Action::Diff { before, after } => diff(global, before, after, out).await,
            Action::Pin { off } => {
                let shown = call(global, json!({ "action": "pin", "pinned": !off })).await?;
                tell(&shown, out, show)
            }
            Action::Rollback { digest: None } => {
                let shown = call(global, json!({ "action": "show" })).await?;
                tell(&shown, out, |shown| match saved(shown) {
                    none if none.is_empty() => "no state is saved\n".into(),
                    saved => saved,
                })
            }
            Action::Rollback {
                digest: Some(digest),
            } => {
                let params = json!({ "action": "rollback", "digest": digest });
                tell(&call(global, params).await?, out, restored)
            }
        }
    }
}

async fn call(global: &Global, params: Value) -> Result<Value, Failure> {
    Client::dial(global).await?.call(METHOD, params).await
}

fn tell(answer: &Value, out: Output, people: impl FnOnce(&Value) -> String) -> Result<(), Failure> {
    if out.json {
        Ok(out.value(answer)?)
    } else {
        Ok(out.text(&people(answer))?)
    }
}

/// What the daemon has learned, and as of when.
async fn current(client: &mut Client) -> Result<(State, i64), Failure> {
    let document = client.call(METHOD, json!({ "action": "export" })).await?;
    let read = State::parse(document.to_string().as_bytes());
    read.map_err(|error| Failure::query(format!("what the daemon exported: {error}")))
}

async fn export(global: &Global, file: &str, out: Output) -> Result<(), Failure> {
    let (state, at) = current(&mut Client::dial(global).await?).await?;
    let document = state.to_json(at) + "\n";
    if file == "-" {
        return Ok(out.piece(&document)?);
    }
    let path = file.to_owned();
    let written = spawn_blocking(move || replace(Path::new(&path), document.as_bytes())).await;
    written
        .map_err(io::Error::from)
        .flatten()
        .map_err(|error| Failure::query(format!("{file} cannot be written: {error}")))?;
    let done = json!({ "file": file, "digest": state.digest(), "cells": state.cells().len() });
    tell(&done, out, |_| {
        let count = cells(state.cells().len() as u64);
        format!("{file}: state {}, {count}\n", state.short())
    })
}

/// Writes a file that only its owner reads, in place of what was there; after a crash it is the old one or the new.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Made with mode 0600, and removed unless it gets its name.
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

async fn import(global: &Global, file: String, from_line: u64, out: Output) -> Result<(), Failure> {
    let name = if file == "-" {
        "standard input".into()
    } else {
        file.clone()
    };
    let bytes = read(file).await?;
    if !is_state(&bytes) {
        let testimony = Testimony::read(&bytes, from_line, &name)?;
        let mut client = Client::dial(global).await?;
        return testimony.give(&mut client, METHOD, out).await;
    }
    let (state, at) =
        State::parse(&bytes).map_err(|error| Failure::query(format!("{name}: {error}")))?;
    drop(bytes);
    // Written anew, so that how the file was spaced does not matter.
    let document: Value = serde_json::from_str(&state.to_json(at))
        .map_err(|error| Failure::query(format!("{name}: {error}")))?;
    let params = json!({ "action": "import", "state": document });
    tell(&call(global, params).await?, out, restored)
}

async fn diff(global: &Global, before: String, after: String, out: Output) -> Result<(), Failure> {
    let is_now = |name: &str| matches!(name, "now" | "-");
    let now = if is_now(&before) || is_now(&after) {
        Some(current(&mut Client::dial(global).await?).await?.0)
    } else {
        None
    };
    let mut states = Vec::new();
    for name in [before, after] {
        states.push(match &now {
            Some(now) if is_now(&name) => now.clone(),
            _ => {
                let state = State::parse(&read(name.clone()).await?);
                state
                    .map_err(|error| Failure::query(format!("{name}: {error}")))?
                    .0
            }
        });
    }
    let [before, after] = states.as_slice() else {
        return Err(Failure::query("there are not two states to compare"));
    };
    let diff = before.diff(after);
    if out.json {
        let mut value = serde_json::to_value(&diff)
            .map_err(|error| Failure::query(format!("the difference: {error}")))?;
        value["before"] = before.digest().into();
        value["after"] = after.digest().into();
        return Ok(out.value(&value)?);
    }
    if diff.is_empty() {
        return Ok(out.line(format_args!("no difference: both are {}", before.short()))?);
    }
    Ok(out.text(&differences(&diff))?)
}

/// A file or, for `-`, standard input, as far as a state may be long.
async fn read(file: String) -> Result<Vec<u8>, Failure> {
    let most = state::MOST_BYTES as u64;
    let name = file.clone();
    let reading = spawn_blocking(move || {
        let mut bytes = Vec::new();
        // One byte more shows that there is more.
        if file == "-" {
            io::stdin().lock().take(most + 1).read_to_end(&mut bytes)?;
        } else {
            std::fs::File::open(&file)?
                .take(most + 1)
                .read_to_end(&mut bytes)?;
        }
        io::Result::Ok(bytes)
    });
    let bytes = reading
        .await
        .map_err(io::Error::from)
        .flatten()
        .map_err(|error| Failure::query(format!("{name} cannot be read: {error}")))?;
    if bytes.len() as u64 > most {
        let why = format!("{name} is larger than {} MB", most / 1_000_000);
        return Err(Failure::query(why));
    }
    Ok(bytes)
}

/// Whether this is meant to be a state and not evidence: one document that says its format, or the beginning of
/// one that broke off.
fn is_state(bytes: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Head {
        #[serde(rename = "format")]
        _format: serde::de::IgnoredAny,
    }
    let inside = bytes
        .trim_ascii_start()
        .strip_prefix(b"{")
        .unwrap_or_default();
    inside.trim_ascii_start().starts_with(b"\"format\"")
        || serde_json::from_slice::<Head>(bytes).is_ok()
}

/// What is in force, and what is saved.
fn show(shown: &Value) -> String {
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

fn saved(shown: &Value) -> String {
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
fn restored(answer: &Value) -> String {
    let digest = state::short(answer["digest"].as_str().unwrap_or("?"));
    let count = cells(answer["restored"].as_u64().unwrap_or(0));
    let row = |refused: &Value| {
        ["key", "reason"].map(|key| Cell::from(refused[key].as_str().unwrap_or("?")))
    };
    let refused: Vec<[Cell; 2]> = list(&answer["refused"]).map(row).collect();
    let refused = table(["REFUSED", "WHY"], &refused);
    format!("state {digest}: {count} restored\n{refused}")
}

fn differences(diff: &Diff) -> String {
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
    let changed: BTreeSet<&str> = diff.changed.iter().map(|one| one.key.as_str()).collect();
    let counts = [
        (diff.removed.len(), "removed"),
        (diff.added.len(), "added"),
        (changed.len(), "changed"),
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

fn cells(count: u64) -> String {
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
    use clap::Parser;
    use std::os::unix::fs::PermissionsExt;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        states: States,
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_digest_is_told_from_a_slip() {
        let taken = |line: &str| Line::try_parse_from(line.split(' ')).is_ok();
        for right in [
            "state",
            "state rollback",
            "state rollback ABCD",
            "state diff a",
            "state pin --off",
        ] {
            assert!(taken(right), "{right}");
        }
        for wrong in [
            "state rollback abc",
            "state rollback help",
            "state diff",
            "state import",
        ] {
            assert!(!taken(wrong), "{wrong}");
        }
        assert_eq!(prefix("ABCD"), Ok("abcd".into()));
    }

    #[test]
    fn a_state_is_told_from_evidence() {
        let document = State::default().to_json(0);
        let sorted: Value = serde_json::from_str(&document).unwrap();
        assert!(is_state(document.as_bytes()));
        assert!(is_state(format!("{sorted:#}").as_bytes()));
        assert!(is_state(&document.as_bytes()[..40]));
        let line = "{\"deployment\":\"a/x\",\"score\":1,\"source\":\"s\"}\n";
        assert!(!is_state(line.as_bytes()));
        assert!(!is_state(line.repeat(2).as_bytes()));
        assert!(!is_state(b""));
    }

    #[test]
    fn a_file_is_replaced_whole_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        std::fs::write(&path, "a longer text that was there before").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(replace(&directory.path().join("none/state.json"), b"").is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
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
