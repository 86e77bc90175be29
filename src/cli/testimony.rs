//! Evidence from elsewhere, a JSON object a line: read as a whole before the first goes out, then sent in batches.

use indicatif::{ProgressBar, ProgressStyle};
use quorate::orchestrator::Evidence;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::failure::Failure;
use super::output::Output;

/// The most entries of a batch.
const BATCH: usize = 1000;
/// About the most bytes of a batch, well below what a door takes in one line.
const BATCH_BYTES: usize = 4_000_000;

/// What a file testifies.
#[derive(Debug)]
pub struct Testimony {
    /// Where it is from, for people.
    name: String,
    entries: Vec<Entry>,
}

/// One line.
#[derive(Debug)]
struct Entry {
    /// Counted from 1.
    line: u64,
    bytes: usize,
    evidence: Value,
}

impl Testimony {
    /// Reads the lines from `from` on, counted from 1; blank ones say nothing. One that is no evidence is refused
    /// before anything is sent, so that nothing is learned twice when it was mended.
    pub fn read(bytes: &[u8], from: u64, name: &str) -> Result<Self, Failure> {
        let mut entries = Vec::new();
        for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            if line < from || text.trim_ascii().is_empty() {
                continue;
            }
            let refused = |error: serde_json::Error| refusal(name, line, &error.to_string(), 0);
            // Of an array, serde would take the entries for the fields in their order.
            let evidence: Map<String, Value> = serde_json::from_slice(text).map_err(refused)?;
            let evidence = Value::Object(evidence);
            serde_json::from_value::<Evidence>(evidence.clone()).map_err(refused)?;
            let bytes = text.len();
            entries.push(Entry {
                line,
                bytes,
                evidence,
            });
        }
        if entries.is_empty() {
            let lines = bytes.trim_ascii_end().split(|byte| *byte == b'\n').count() as u64;
            return Err(Failure::query(if from > lines {
                format!("{name} has {lines} lines: there is no line {from} to begin with")
            } else {
                format!("{name} holds neither a state nor evidence")
            }));
        }
        Ok(Self {
            name: name.to_owned(),
            entries,
        })
    }

    /// Tells the daemon all of it, in order, up to the first refusal.
    pub async fn give(self, client: &mut Client, method: &str, out: Output) -> Result<(), Failure> {
        let total = self.entries.len() as u64;
        // Drawn on standard error, and only if that is a terminal.
        let bar = if out.watched {
            ProgressBar::new(total)
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len}, {eta} left") {
            bar.set_style(style);
        }
        let mut taken = 0;
        for batch in batches(&self.entries) {
            let evidence: Vec<&Value> = batch.iter().map(|entry| &entry.evidence).collect();
            let params = json!({ "action": "evidence", "evidence": evidence });
            let answer = client.call(method, params).await.map_err(|failure| {
                bar.finish_and_clear();
                self.refused(batch, failure, taken)
            })?;
            taken += answer["taken"].as_u64().unwrap_or(batch.len() as u64);
            bar.set_position(taken);
        }
        bar.finish_and_clear();
        if out.json {
            return Ok(out.value(&json!({ "taken": taken }))?);
        }
        let pieces = if taken == 1 { "piece" } else { "pieces" };
        Ok(out.line(format_args!("{taken} {pieces} of evidence taken"))?)
    }

    /// What to tell if a batch was not taken: the line, how many were, and where to go on.
    fn refused(&self, batch: &[Entry], failure: Failure, taken: u64) -> Failure {
        let place = failure.details.get("param").and_then(Value::as_str);
        // Of one entry alone the daemon names the field and no index.
        let alone = place.filter(|_| batch.len() == 1).map(|_| 0);
        let index = place
            .and_then(index)
            .or_else(|| index(&failure.message))
            .or(alone)
            .filter(|_| failure.details.contains_key("rpc_code"));
        let of_batch = failure
            .details
            .get("taken")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        let taken = taken + of_batch;
        let next = usize::try_from(of_batch)
            .ok()
            .and_then(|count| batch.get(count));
        let next = next.map_or(0, |entry| entry.line);
        let told = match index.and_then(|index| batch.get(index)) {
            Some(entry) => {
                let field =
                    place.map(|place| place.split_once("].").map_or(place, |(_, field)| field));
                let field = field.map(|field| format!("{field}: ")).unwrap_or_default();
                refusal(
                    &self.name,
                    entry.line,
                    &format!("{field}{}", failure.message),
                    taken,
                )
            }
            None => Failure::new(
                failure.exit,
                format!("{} ({taken} taken before)", failure.message),
            ),
        };
        let mut details = failure.details;
        details.extend(told.details);
        details.insert("taken".into(), taken.into());
        details.insert("next_line".into(), next.into());
        Failure {
            exit: failure.exit,
            message: format!("{}; go on with --from-line {next}", told.message),
            details,
        }
    }
}

fn refusal(name: &str, line: u64, why: &str, taken: u64) -> Failure {
    let mut failure = Failure::query(format!("{name}:{line}: {why} ({taken} taken before)"));
    failure.details.insert("line".into(), line.into());
    failure.details.insert("taken".into(), taken.into());
    failure
}

/// Batches bounded in entries and bytes; an entry longer than that goes alone.
fn batches(entries: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    let mut rest = entries;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.bytes;
            bytes <= BATCH_BYTES
        };
        let count = rest.iter().take(BATCH).take_while(fits).count().max(1);
        let (batch, others) = rest.split_at_checked(count)?;
        rest = others;
        Some(batch)
    })
}

/// The first index in brackets, as in `evidence[12].score`.
fn index(text: &str) -> Option<usize> {
    let (_, after) = text.split_once('[')?;
    after.split_once(']')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Exit;

    fn lines(count: usize) -> String {
        let line = |n| format!("{{\"deployment\":\"a/m{n}\",\"score\":0.5,\"source\":\"test\"}}\n");
        (0..count).map(line).collect()
    }

    fn read(text: &str, from: u64) -> Result<Testimony, Failure> {
        Testimony::read(text.as_bytes(), from, "f.jsonl")
    }

    #[test]
    fn a_line_that_is_no_evidence_is_refused_before_anything_is_sent() {
        for (bad, why) in [
            ("{", "EOF"),
            ("[\"a/x\",1,1,\"s\"]", "map"),
            ("{\"deployment\":\"a/x\",\"score\":1}", "source"),
            (
                "{\"deployment\":\"a/x\",\"score\":1,\"source\":\"s\",\"judge\":1}",
                "judge",
            ),
            (
                "{\"deployment\":\"a/x\",\"score\":\"good\",\"source\":\"s\"}",
                "f64",
            ),
        ] {
            let failure = read(&format!("{}\n{bad}\n", lines(1)), 1).unwrap_err();
            assert!(
                failure.message.starts_with("f.jsonl:3: "),
                "{}",
                failure.message
            );
            assert!(failure.message.contains(why), "{}", failure.message);
            assert_eq!(failure.details["line"], 3);
            assert_eq!(failure.exit, Exit::Query);
        }
        assert!(read("\n \n", 1).unwrap_err().message.contains("neither"));
    }

    #[test]
    fn blank_lines_are_passed_over_and_still_counted() {
        let text = format!("\n{}\r\n{}", lines(1), lines(1));
        let all: Vec<u64> = read(&text, 1)
            .unwrap()
            .entries
            .iter()
            .map(|entry| entry.line)
            .collect();
        assert_eq!(all, [2, 4]);
        assert_eq!(read(&text, 3).unwrap().entries.len(), 1);
    }

    #[test]
    fn batches_hold_every_entry_once_and_are_bounded() {
        let entry = |(line, bytes)| Entry {
            line,
            bytes,
            evidence: Value::Null,
        };
        let sizes = [10, BATCH_BYTES, BATCH_BYTES + 1, 10]
            .into_iter()
            .chain([1; 2500]);
        let entries: Vec<Entry> = (1..).zip(sizes).map(entry).collect();
        let counts: Vec<usize> = batches(&entries).map(<[Entry]>::len).collect();
        assert_eq!(counts, [1, 1, 1, 1000, 1000, 501]);
        assert_eq!(batches(&[]).count(), 0);
    }

    #[test]
    fn a_refusal_names_the_line_and_where_to_go_on() {
        let testimony = read(&format!("\n{}", lines(5)), 1).unwrap();
        let batch = &testimony.entries[2..];
        let refused = |data: Value| {
            let error = json!({ "code": -32602, "message": "no deployment is called 'a/m3'", "data": data });
            testimony.refused(batch, Failure::from_rpc(&error), 2)
        };
        let failure = refused(json!({ "param": "evidence[1].deployment" }));
        assert_eq!(
            failure.message,
            "f.jsonl:5: deployment: no deployment is called 'a/m3' (2 taken before); go on with --from-line 4"
        );
        assert_eq!(
            (&failure.details["line"], &failure.details["taken"]),
            (&json!(5), &json!(2))
        );

        let partly = refused(json!({ "param": "evidence[1].score", "taken": 1 }));
        assert!(
            partly
                .message
                .ends_with("(3 taken before); go on with --from-line 5"),
            "{}",
            partly.message
        );
        let elsewhere = refused(json!({ "param": "state" }));
        assert!(
            elsewhere.message.starts_with("no deployment"),
            "{}",
            elsewhere.message
        );

        let gone = testimony.refused(batch, Failure::unavailable("gone"), 2);
        assert_eq!(gone.exit, Exit::Unavailable);
        assert_eq!(
            gone.message,
            "gone (2 taken before); go on with --from-line 4"
        );
    }
}
