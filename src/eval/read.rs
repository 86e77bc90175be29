//! Reading recorded answers: plain or zstd, bounded, and with errors that say where and what is allowed.

mod frames;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::record::{Recorded, Reply};
use frames::{Frames, MAGIC};

/// The most a file unpacks to, in bytes; a packed file is no larger either.
pub const MAX_FILE: u64 = 1 << 30;
/// The longest line, in bytes.
pub const MAX_LINE: usize = 4 << 20;
/// The most records of a file.
pub const MAX_RECORDS: usize = 1_000_000;
/// The most options of a question: one for each letter.
pub const MAX_OPTIONS: usize = 26;
/// The most models that answered one question.
pub const MAX_MODELS: usize = 256;
/// The longest id, task or name of a model, in bytes.
pub const MAX_NAME: usize = 512;

/// Why recorded answers could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file could not be read on, or unpacked.
    #[error("{}, after line {line}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The last line that was read whole; 0 before the first.
        line: usize,
        /// Why.
        source: io::Error,
    },
    /// The file as a whole is not allowed.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// A line is not allowed.
    #[error("{}, line {line}: {reason}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// A field is not allowed.
    #[error("{}, line {line}, field {field}: {reason}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The field, as in `answers.small.score`.
        field: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
}

/// How much is allowed.
#[derive(Clone, Copy)]
struct Limits {
    file: u64,
    line: usize,
    records: usize,
}

/// Reads a file of recorded answers, one JSON object a line, plain or packed with zstd; which of them, its
/// first bytes tell and not its name. Empty lines are passed over.
///
/// # Errors
///
/// Names the file, the line, the field and what is allowed: at most [`MAX_FILE`] bytes unpacked,
/// [`MAX_LINE`] a line, [`MAX_RECORDS`] records; ids that do not repeat; scores 0..=1.
pub fn read(path: &Path) -> Result<Vec<Recorded>, ReadError> {
    let limits = Limits {
        file: MAX_FILE,
        line: MAX_LINE,
        records: MAX_RECORDS,
    };
    let file = File::open(path).map_err(|source| ReadError::Open {
        path: path.to_owned(),
        source,
    })?;
    read_from(path, BufReader::with_capacity(1 << 16, file), limits)
}

fn read_from(
    path: &Path,
    mut source: impl BufRead,
    limits: Limits,
) -> Result<Vec<Recorded>, ReadError> {
    let io = |line| {
        move |source| ReadError::Io {
            path: path.to_owned(),
            line,
            source,
        }
    };
    // Four bytes may come in more than one piece (a pipe): read them, then put them in front again.
    let mut magic = Vec::with_capacity(MAGIC.len());
    source
        .by_ref()
        .take(MAGIC.len() as u64)
        .read_to_end(&mut magic)
        .map_err(io(0))?;
    let packed = magic == MAGIC;
    let whole = io::Cursor::new(magic).chain(source).take(limits.file + 1);
    if packed {
        lines(path, BufReader::new(Frames::new(whole)), limits)
    } else {
        lines(path, whole, limits)
    }
}

fn lines(path: &Path, source: impl BufRead, limits: Limits) -> Result<Vec<Recorded>, ReadError> {
    let file = |reason| ReadError::File {
        path: path.to_owned(),
        reason,
    };
    let mut source = source.take(limits.file + 1);
    let mut records = Vec::new();
    let mut ids = HashSet::new();
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let most = limits.line as u64 + 1;
        let read = source.by_ref().take(most).read_until(b'\n', &mut bytes);
        let read = read.map_err(|source| ReadError::Io {
            path: path.to_owned(),
            line: number - 1,
            source,
        })?;
        if source.limit() == 0 {
            return Err(file(format!(
                "larger than the {} bytes allowed, unpacked",
                limits.file
            )));
        }
        if read == 0 {
            break;
        }
        let line = |reason: String| ReadError::Line {
            path: path.to_owned(),
            line: number,
            reason,
        };
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        } else if read > limits.line {
            return Err(line(format!(
                "longer than the {} bytes allowed",
                limits.line
            )));
        }
        let text =
            std::str::from_utf8(&bytes).map_err(|error| line(format!("is not UTF-8: {error}")))?;
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            continue;
        }
        if records.len() >= limits.records {
            return Err(file(format!(
                "more than the {} records allowed",
                limits.records
            )));
        }
        let value: Value =
            serde_json::from_str(text).map_err(|error| line(format!("is not JSON: {error}")))?;
        let Value::Object(object) = value else {
            return Err(line("must be one JSON object".into()));
        };
        let field = |(field, reason)| ReadError::Field {
            path: path.to_owned(),
            line: number,
            field,
            reason,
        };
        let record = recorded(object).map_err(field)?;
        if !ids.insert(record.id.clone()) {
            return Err(field((
                "id".into(),
                format!(
                    "{:?} is taken by an earlier line; ids do not repeat",
                    record.id
                ),
            )));
        }
        records.push(record);
    }
    Ok(records)
}

/// A field, and what is wrong with it.
type Refused = (String, String);

fn recorded(mut object: Map<String, Value>) -> Result<Recorded, Refused> {
    let answers = match object.remove("answers") {
        Some(Value::Object(answers)) => answers,
        other => {
            return Err(wrong(
                "answers",
                other.as_ref(),
                "an object: model → answer",
            ));
        }
    };
    if answers.len() > MAX_MODELS {
        let reason = format!("has {} models; allowed are {MAX_MODELS}", answers.len());
        return Err(("answers".into(), reason));
    }
    let record = Recorded {
        id: required(&mut object, "id", MAX_NAME)?,
        task: text(&mut object, "task", "task", MAX_NAME)?,
        prompt: required(&mut object, "prompt", MAX_LINE)?,
        options: options(object.remove("options"))?,
        reference: text(&mut object, "reference", "reference", MAX_LINE)?,
        answers: answers
            .into_iter()
            .map(|(model, value)| {
                if model.is_empty() || model.len() > MAX_NAME {
                    let reason = format!("a model's name has 1 to {MAX_NAME} bytes");
                    return Err(("answers".into(), reason));
                }
                let reply = reply(&model, value)?;
                Ok((model, reply))
            })
            .collect::<Result<BTreeMap<_, _>, Refused>>()?,
    };
    Ok(record)
}

fn reply(model: &str, value: Value) -> Result<Reply, Refused> {
    let path = format!("answers.{model}");
    let Value::Object(mut object) = value else {
        return Err(wrong(&path, Some(&value), "an object with answer or score"));
    };
    let chars = match object.remove("output_chars") {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_u64().ok_or_else(|| {
            let field = format!("{path}.output_chars");
            wrong(&field, Some(&value), "a whole number, 0 or more")
        })?),
    };
    let score = match object.remove("score") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let score = value.as_f64().filter(|score| (0.0..=1.0).contains(score));
            let field = format!("{path}.score");
            Some(score.ok_or_else(|| wrong(&field, Some(&value), "a number from 0 to 1"))?)
        }
    };
    Ok(Reply {
        answer: text(&mut object, "answer", &format!("{path}.answer"), MAX_LINE)?,
        output_chars: chars,
        score,
    })
}

fn options(value: Option<Value>) -> Result<Vec<String>, Refused> {
    let items = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        other => return Err(wrong("options", other.as_ref(), "a list of texts")),
    };
    if items.len() > MAX_OPTIONS {
        let reason = format!("has {} texts; allowed are {MAX_OPTIONS}", items.len());
        return Err(("options".into(), reason));
    }
    let texts = items.into_iter().enumerate().map(|(at, item)| match item {
        Value::String(text) => Ok(text),
        other => Err(wrong(&format!("options[{at}]"), Some(&other), "a text")),
    });
    texts.collect()
}

fn required(object: &mut Map<String, Value>, key: &str, longest: usize) -> Result<String, Refused> {
    text(object, key, key, longest)?
        .filter(|text| !text.is_empty())
        .ok_or_else(|| {
            (
                key.to_owned(),
                "is missing or empty; it must be a text".into(),
            )
        })
}

fn text(
    object: &mut Map<String, Value>,
    key: &str,
    path: &str,
    longest: usize,
) -> Result<Option<String>, Refused> {
    match object.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= longest => Ok(Some(text)),
        Some(Value::String(text)) => {
            let reason = format!("has {} bytes; allowed are {longest}", text.len());
            Err((path.to_owned(), reason))
        }
        other => Err(wrong(path, other.as_ref(), "a text")),
    }
}

fn wrong(field: &str, found: Option<&Value>, allowed: &str) -> Refused {
    let found = match found {
        None => "is missing".to_owned(),
        Some(Value::Array(_)) => "is a list".to_owned(),
        Some(Value::Object(_)) => "is an object".to_owned(),
        Some(Value::String(_)) => "is a text".to_owned(),
        Some(value) => format!("is {value}"),
    };
    (field.to_owned(), format!("{found}; it must be {allowed}"))
}
