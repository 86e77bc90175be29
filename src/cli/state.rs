//! `quorate state`: what the daemon has learned, as something one can hold.

mod shown;

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::Path;

use clap::Subcommand;
use quorate::ledger::state::{self, State};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;

use super::client::Client;
use super::failure::Failure;
use super::global::Global;
use super::output::Output;
use super::testimony::Testimony;
use shown::{cells, differences, restored, saved, show};

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
        /// The file; it takes the old one's place whole or not at all, and a device or a pipe is written to
        /// [default: standard output]
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
/// A symlink stays one, and what is no regular file (a device, a pipe) is written to.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if path.exists() && !path.is_file() {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let target = if path.is_symlink() {
        std::fs::canonicalize(path)?
    } else {
        path.to_owned()
    };
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Made with mode 0600, and removed unless it gets its name.
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(target)?;
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
    fn what_is_no_regular_file_is_written_to_and_stays_what_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link] = ["state.json", "latest"].map(|name| directory.path().join(name));
        std::fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink("state.json", &link).unwrap();
        replace(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");

        let device = directory.path().join("device");
        std::os::unix::fs::symlink("/dev/null", &device).unwrap();
        replace(&device, b"lost").unwrap();
        assert!(device.is_symlink() && !Path::new("/dev/null").is_file());
        assert!(replace(directory.path(), b"").is_err(), "a directory");
    }
}
