//! One answer read in the form its question asks for.

use serde_json::Value;

use super::form::Form;
use super::layout::{bare, fold, without_fences};
use super::refusal::{self, Declined};
use super::{choice, code, json, latex, literal, marked, quantity, stated};

/// What an answer says, in the one way to say it. Equal keys say the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    Letter(char),
    Number(String),
    Truth(bool),
    Json(String),
    Code(String),
    Literal(String),
    Text(String),
    Declined(Declined),
}

/// An answer as it is compared.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) key: Key,
    /// It is prose that marks no answer, which other prose may say in other words.
    pub(super) prose: bool,
}

impl Reading {
    pub(super) fn of(text: &str, form: &Form) -> Self {
        let value = |key| Self { key, prose: false };
        if *form == Form::Literal {
            return value(Key::Literal(literal::canonical(text)));
        }
        // White space round an answer says nothing, however its parts are read.
        let text = text.trim();
        if let Some(key) = in_form(text, form) {
            return value(key);
        }
        if let Some(how) = refusal::declined(text)
            && marked::answer(text).is_none()
        {
            return value(Key::Declined(how));
        }
        match form {
            Form::Code => value(Key::Code(code::canonical(text))),
            Form::Free(subject) => free(text, subject.as_deref()),
            _ => free(text, None),
        }
    }
}

/// The answer in its form, if it keeps to it.
fn in_form(text: &str, form: &Form) -> Option<Key> {
    match form {
        Form::Letter(options) => options.chosen(text).map(Key::Letter),
        Form::Number(unit) => stated::find(text, *unit).map(Key::Number),
        Form::YesNo => truth(text).map(Key::Truth),
        Form::Json => json::value(text).map(|value| Key::Json(json::canonical(&value))),
        Form::Code => code::fenced(text).then(|| Key::Code(code::canonical(text))),
        Form::Literal | Form::Free(_) => None,
    }
}

/// The yes or no that the marked answer, or the text, begins with.
fn truth(text: &str) -> Option<bool> {
    let said = fold(marked::anywhere(text).unwrap_or(text));
    let said = said.trim_start_matches(['*', '_', '"', '`', ' ']);
    let (word, rest) = match said.find(|c: char| !c.is_alphabetic()) {
        Some(end) => said.split_at(end),
        None => (said, ""),
    };
    // "No doubt", "yes and no", "true or false".
    let open = ["doubt", "and ", "or ", "way to"];
    let tail = rest.trim_start_matches([' ', '*', ',', '/']);
    if open.iter().any(|open| tail.starts_with(open)) {
        return None;
    }
    match word {
        "yes" | "true" | "correct" => Some(true),
        "no" | "false" | "incorrect" => Some(false),
        _ => None,
    }
}

fn free(text: &str, subject: Option<&str>) -> Reading {
    let value = |key| Reading { key, prose: false };
    let program = text.trim();
    if program.starts_with("```") && program.ends_with("```") && program.lines().count() > 3 {
        return value(match json::value(text) {
            Some(value @ (Value::Object(_) | Value::Array(_))) => {
                Key::Json(json::canonical(&value))
            }
            _ => Key::Code(code::canonical(text)),
        });
    }
    let unfenced;
    let text = if text.contains("```") {
        unfenced = without_fences(text);
        unfenced.as_str()
    } else {
        text
    };
    let trimmed = text.trim();
    if trimmed.starts_with(['{', '[']) {
        if let Ok(value) = serde_json::from_str::<Value>(trimmed) {
            return Reading {
                key: Key::Json(json::canonical(&value)),
                prose: false,
            };
        }
        if let Some(list) = literal::container(trimmed) {
            return Reading {
                key: Key::Literal(list),
                prose: false,
            };
        }
    }
    if let Some(answer) = marked::answer(text) {
        // "42. I hope this helps": the first sentence will do if it is a value.
        let first = answer.split_once(". ").map_or(answer, |(first, _)| first);
        let key = short(first).unwrap_or_else(|| Key::Text(folded(answer)));
        return value(key);
    }
    if let Some(key) = short(text) {
        return value(key);
    }
    let said = folded(text);
    if let Some(rest) = subject.and_then(|subject| without_subject(&said, subject)) {
        return value(short(rest).unwrap_or_else(|| Key::Text(folded(rest))));
    }
    Reading {
        key: Key::Text(said),
        prose: true,
    }
}

/// A number or a lone letter.
fn short(text: &str) -> Option<Key> {
    let text = bare(text);
    if text.len() <= 12
        && let Some(letter) = lone_letter(text)
    {
        return Some(Key::Text(letter.to_string()));
    }
    quantity::read(text, None, false).map(Key::Number)
}

/// `(B)`, `[B]`, `B)` or `B`, with or without "option".
fn lone_letter(text: &str) -> Option<char> {
    let words = text.split_whitespace().count();
    let marks = text.chars().filter(|c| c.is_alphabetic()).count();
    let named = words == 2
        && ["option ", "choice "]
            .iter()
            .any(|name| fold(text).starts_with(name));
    (named
        || marks == 1
            && words == 1
            && text
                .chars()
                .all(|c| c.is_alphabetic() || "()[]*.".contains(c)))
    .then(|| choice::leading(text))
    .flatten()
}

/// "The capital of France is Paris" and "It is Paris" say "Paris", if the capital of France was asked for.
fn without_subject<'a>(said: &'a str, subject: &str) -> Option<&'a str> {
    let rest = said
        .strip_prefix(subject)
        .or_else(|| ["it", "that"].iter().find_map(|it| said.strip_prefix(it)))?;
    let verbs = [" is ", " was ", " are ", " were ", "'s ", " = ", ": "];
    let rest = verbs.iter().find_map(|verb| rest.strip_prefix(verb))?;
    (!rest.contains(['.', '\n']) || quantity::read(rest, None, false).is_some()).then_some(rest)
}

/// Folded; mathematics as one would type it, without spaces round its signs.
fn folded(text: &str) -> String {
    /// Formulas longer than this stay as they are.
    const LONGEST: usize = 1000;
    const SIGNS: &str = "=+*/^<>()[],|\u{221a}-";
    if text.len() > LONGEST {
        return fold(text);
    }
    let plain = if text.contains('\\') {
        latex::plain(text)
    } else {
        text.into()
    };
    let said = fold(&plain);
    if !text.contains(['\\', '^', '=', '$']) {
        return said;
    }
    let mut out = String::with_capacity(said.len());
    let mut chars = said.chars().peekable();
    while let Some(c) = chars.next() {
        let beside = |c: Option<char>| c.is_some_and(|c| SIGNS.contains(c));
        if c != ' ' || !beside(out.chars().next_back()) && !beside(chars.peek().copied()) {
            out.push(c);
        }
    }
    out
}
