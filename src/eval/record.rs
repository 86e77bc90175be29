//! Recorded answers of several models to the same questions: one JSON object a line.
//!
//! ```text
//! {"id":"q1","task":"sums","prompt":"What is 2 + 2?","options":["3","4"],"reference":"B",
//!  "answers":{"small":{"answer":"A","output_chars":120},"large":{"answer":"B","output_chars":80},
//!             "shy":{"answer":null},"judged":{"score":0.5}}}
//! ```
//!
//! `id`, `prompt` and `answers` are required. Fields not named here are passed over.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// Tokens counted on top of a prompt's own text: what a usual system message and chat template add.
pub const PROMPT_OVERHEAD_TOKENS: u32 = 110;
/// Characters a token is counted as.
pub const CHARS_PER_TOKEN: u64 = 4;

/// One question, and what each model answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Recorded {
    /// Names the question; unique within a file.
    pub id: String,
    /// What kind of work it is, as the recorder called it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// The question, without its options.
    pub prompt: String,
    /// What to choose from, if it is a question of choice; the first is `A`. At most 26.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The right answer, a letter where there are options. `None` where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// The answer of each model, by its name.
    pub answers: BTreeMap<String, Reply>,
}

/// What one model answered to one question.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// The answer as extracted. `None`: nothing could be extracted, the model abstained; or, where there is a
    /// score, the answer was not kept.
    pub answer: Option<String>,
    /// Characters of the whole answer as the model wrote it, reasoning included.
    pub output_chars: Option<u64>,
    /// How good the answer was, 0..=1, where the source judged it.
    pub score: Option<f64>,
}

impl Recorded {
    /// The prompt as it is asked: its text, then the options, one a line, as `A) …`.
    pub fn rendered(&self) -> String {
        let mut text = self.prompt.clone();
        for (letter, option) in ('A'..='Z').zip(&self.options) {
            text.push('\n');
            text.push(letter);
            text.push_str(") ");
            text.push_str(option);
        }
        text
    }

    /// Tokens of the prompt: the characters of what is asked ([`rendered`](Self::rendered), so with its
    /// options) / 4, rounded to the nearest, a half upwards, + 110 for what a chat adds.
    pub fn prompt_tokens(&self) -> u32 {
        tokens(count(&self.rendered())).saturating_add(PROMPT_OVERHEAD_TOKENS)
    }
}

impl Reply {
    /// Tokens of the answer: its characters / 4, rounded to the nearest, a half upwards. Where the length was
    /// not recorded, those of the extracted answer; 0 where neither was.
    pub fn output_tokens(&self) -> u32 {
        let extracted = || self.answer.as_deref().map_or(0, count);
        tokens(self.output_chars.unwrap_or_else(extracted))
    }

    /// Whether the model gave nothing that can be counted: neither an answer nor a score.
    pub fn abstained(&self) -> bool {
        self.answer.is_none() && self.score.is_none()
    }
}

impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        // An abstention is said aloud; beside a score, no answer only means that none was kept.
        if self.answer.is_some() || self.score.is_none() {
            map.serialize_entry("answer", &self.answer)?;
        }
        if let Some(chars) = self.output_chars {
            map.serialize_entry("output_chars", &chars)?;
        }
        if let Some(score) = self.score {
            map.serialize_entry("score", &score)?;
        }
        map.end()
    }
}

fn count(text: &str) -> u64 {
    text.chars().count() as u64
}

fn tokens(chars: u64) -> u32 {
    let rounded = chars.saturating_add(CHARS_PER_TOKEN / 2) / CHARS_PER_TOKEN;
    u32::try_from(rounded).unwrap_or(u32::MAX)
}

/// Every model that answered anything, in order of first appearance; those that first appear with the same
/// question are in order of their names.
pub fn models(records: &[impl Borrow<Recorded>]) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut models = Vec::new();
    for name in records
        .iter()
        .flat_map(|record| record.borrow().answers.keys())
    {
        if seen.insert(name.as_str()) {
            models.push(name.clone());
        }
    }
    models
}

/// Whether each of these models answered anything.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid), of `field`, for one that did not; it names those who did.
pub fn answered(
    records: &[impl Borrow<Recorded>],
    field: &'static str,
    names: &[String],
) -> Result<()> {
    let mut known = models(records);
    let Some(unknown) = names.iter().find(|name| !known.contains(name)) else {
        return Ok(());
    };
    known.sort();
    let there = if known.is_empty() {
        "no answer of any model".to_owned()
    } else {
        known.join(", ")
    };
    let message = format!("nothing of '{unknown}' is recorded; there is {there}");
    Err(Error::invalid(field, message))
}

/// Writes records as [`read`](super::read::read) reads them, one a line.
///
/// # Errors
///
/// What `into` reports; a score that is not finite cannot be written, and becomes `null`.
pub fn write(records: &[Recorded], mut into: impl Write) -> io::Result<()> {
    for record in records {
        serde_json::to_writer(&mut into, record)?;
        into.write_all(b"\n")?;
    }
    into.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(answer: Option<&str>, chars: Option<u64>) -> Reply {
        Reply {
            answer: answer.map(str::to_owned),
            output_chars: chars,
            score: None,
        }
    }

    #[test]
    fn options_are_lettered_one_a_line() {
        let mut record = Recorded {
            prompt: "Which?".into(),
            ..Recorded::default()
        };
        assert_eq!(record.rendered(), "Which?");
        record.options = vec!["this".into(), "that".into()];
        assert_eq!(record.rendered(), "Which?\nA) this\nB) that");
    }

    #[test]
    fn tokens_are_a_quarter_of_the_characters_rounded_to_the_nearest() {
        for (chars, tokens) in [(0, 0), (1, 0), (2, 1), (5, 1), (6, 2), (400, 100)] {
            assert_eq!(reply(None, Some(chars)).output_tokens(), tokens, "{chars}");
        }
        assert_eq!(reply(Some("ééééé"), None).output_tokens(), 1);
        assert_eq!(reply(None, None).output_tokens(), 0);
        assert_eq!(reply(None, Some(u64::MAX)).output_tokens(), u32::MAX);
    }

    #[test]
    fn the_options_are_part_of_what_is_paid_for() {
        let record = Recorded {
            prompt: "12345678".into(),
            options: vec!["abcd".into()],
            ..Recorded::default()
        };
        assert_eq!(record.prompt_tokens(), 4 + 110);
    }

    #[test]
    fn models_come_in_order_of_first_appearance() {
        let with = |names: &[&str]| Recorded {
            answers: names
                .iter()
                .map(|name| ((*name).to_owned(), Reply::default()))
                .collect(),
            ..Recorded::default()
        };
        assert_eq!(
            models(&[with(&["m", "c"]), with(&["a", "c"])]),
            ["c", "m", "a"]
        );
    }

    #[test]
    fn an_abstention_is_written_and_what_is_absent_is_not() {
        let record = Recorded {
            id: "q".into(),
            prompt: "p".into(),
            answers: BTreeMap::from([
                (
                    "judged".to_owned(),
                    Reply {
                        score: Some(0.5),
                        ..Reply::default()
                    },
                ),
                ("shy".to_owned(), reply(None, Some(3))),
            ]),
            ..Recorded::default()
        };
        let mut out = Vec::new();
        write(&[record], &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"id\":\"q\",\"prompt\":\"p\",\"answers\":{\"judged\":{\"score\":0.5},\
             \"shy\":{\"answer\":null,\"output_chars\":3}}}\n"
        );
    }
}
