//! What form the answer to a question has to take.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use serde_json::Value;

use super::choice::Options;
use super::layout::fold;
use super::units::Unit;

/// The form in which answers are compared. It comes from the question alone, never from the answers, so that
/// further answers do not change how earlier ones compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Anything. With the subject of a question such as "What is the capital of France?", folded, so that "The
    /// capital of France is Paris" says "Paris".
    Free(Option<String>),
    /// A letter of a multiple choice.
    Letter(Options),
    /// A number, in this unit if it is given without one.
    Number(Option<Unit>),
    /// Yes or no, true or false.
    YesNo,
    /// What a program yields: every letter counts.
    Literal,
    /// A JSON value.
    Json,
    /// A program.
    Code,
}

impl Default for Form {
    fn default() -> Self {
        Self::FREE
    }
}

/// So much of the end of a question is looked at, in bytes.
const LOOKED_AT: usize = 8 * 1024;
/// Of that, so much is where a number is asked for.
const LAST: usize = 600;

impl Form {
    /// Anything, about nothing known.
    pub const FREE: Self = Self::Free(None);

    /// The form that a question and its response format (as the OpenAI wire writes it) ask for; [`Form::Free`]
    /// unless they are clear about it.
    pub fn of(question: &str, response_format: Option<&Value>) -> Self {
        let kind = response_format
            .and_then(|format| format.get("type"))
            .and_then(Value::as_str);
        if kind.is_some_and(|kind| kind.starts_with("json")) {
            return Self::Json;
        }
        let question = end(question, LOOKED_AT);
        if let Some(options) = Options::listed(question) {
            return Self::Letter(options);
        }
        let lower = question.to_ascii_lowercase();
        let last = lower.len() - end(&lower, LAST).len();
        let (mut literal, mut json, mut yes_no, mut writes) = (false, false, false, false);
        let mut number = None;
        for found in PHRASES.0.find_overlapping_iter(&lower) {
            let (asks, phrase) = PHRASES.1[found.pattern().as_usize()];
            match asks {
                Asks::Literal => literal = true,
                Asks::Json => json = true,
                Asks::YesNo => yes_no = true,
                Asks::Code => writes = true,
                Asks::Number if found.start() < last => {}
                Asks::Number => number = number.max(Some((found.start(), phrase))),
            }
        }
        if literal {
            return Self::Literal;
        }
        if json {
            return Self::Json;
        }
        if writes && writes_code(&lower) {
            return Self::Code;
        }
        if yes_no {
            return Self::YesNo;
        }
        match number {
            Some((at, phrase)) => Self::Number(unit(&lower[at + phrase.len()..], phrase)),
            None => Self::Free(subject(question)),
        }
    }

    /// Its name in explanations.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Free(_) => "free",
            Self::Letter(_) => "letter",
            Self::Number(_) => "number",
            Self::YesNo => "yes_no",
            Self::Literal => "literal",
            Self::Json => "json",
            Self::Code => "code",
        }
    }
}

const LITERAL: [&str; 9] = [
    "complete the assertion",
    "what is the output",
    "what does this print",
    "what does this code print",
    "what does the code print",
    "what will be printed",
    "what does this program print",
    "predict the output",
    "what does the function return",
];

const JSON: [&str; 5] = [
    "in json",
    "as json",
    "json object",
    "json array",
    "valid json",
];

const YES_NO: [&str; 4] = ["yes or no", "yes/no", "true or false", "true/false"];

const NUMBER: [&str; 11] = [
    "how many ",
    "how much ",
    "what percent",
    "find the value",
    "find the number",
    "what is the value",
    "what is the sum",
    "what is the product",
    "what is the probability",
    "compute ",
    "calculate ",
];

/// What a phrase is a sign of.
#[derive(Clone, Copy)]
enum Asks {
    Literal,
    Json,
    YesNo,
    Number,
    Code,
}

/// All of the above in one pass, since every answer's question is looked at.
#[allow(clippy::expect_used, reason = "the phrases are fixed, and few")]
static PHRASES: LazyLock<(AhoCorasick, Vec<(Asks, &str)>)> = LazyLock::new(|| {
    let phrases: Vec<(Asks, &str)> = [
        (Asks::Literal, &LITERAL[..]),
        (Asks::Json, &JSON),
        (Asks::YesNo, &YES_NO),
        (Asks::Number, &NUMBER),
        (Asks::Code, &VERBS),
    ]
    .into_iter()
    .flat_map(|(asks, phrases)| phrases.iter().map(move |phrase| (asks, *phrase)))
    .collect();
    let automaton = AhoCorasick::builder()
        .kind(Some(AhoCorasickKind::DFA))
        .build(phrases.iter().map(|(_, phrase)| phrase))
        .expect("an automaton of a few phrases");
    (automaton, phrases)
});

const VERBS: [&str; 6] = ["write", "implement", "code", "fix", "refactor", "complete"];

/// "Write a function", with up to three words between.
fn writes_code(lower: &str) -> bool {
    const THINGS: [&str; 11] = [
        "function",
        "program",
        "script",
        "class",
        "method",
        "regex",
        "query",
        "algorithm",
        "code",
        "decorator",
        "struct",
    ];
    let words: Vec<&str> = lower
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    words.iter().enumerate().any(|(at, word)| {
        VERBS.contains(word)
            && words
                .iter()
                .skip(at + 1)
                .take(4)
                .any(|thing| THINGS.contains(thing))
    })
}

/// The unit of the number that is asked for by `phrase`, before the words `after`.
fn unit(after: &str, phrase: &str) -> Option<Unit> {
    if phrase.starts_with("what percent")
        || after.contains("as a percent")
        || after.starts_with("percent")
    {
        return Some(super::units::PERCENT);
    }
    if phrase.starts_with("how many") {
        let noun = after
            .split(|c: char| !c.is_alphanumeric() && c != '/')
            .next()?;
        let named = Unit::leading(after).map(|(unit, _)| unit);
        return named.or_else(|| Unit::named(noun));
    }
    // "in meters", "in how many …".
    after.match_indices(" in ").find_map(|(at, mark)| {
        let unit = after[at + mark.len()..].trim_end_matches(['?', '.', '!']);
        let unit = unit.split(['?', ',', '.']).next()?;
        Unit::leading(unit.trim()).map(|(unit, _)| unit)
    })
}

/// The subject of "What is SUBJECT?", folded.
fn subject(question: &str) -> Option<String> {
    let asked = question.trim().strip_suffix('?')?;
    let start = asked
        .rfind(['.', '!', '?', '\n', ':'])
        .map_or(0, |at| at + 1);
    let asked = fold(&asked[start..]);
    let (asker, rest) = asked.split_once(' ')?;
    let asker = ["what", "who", "where", "when", "which"].contains(&asker);
    let (verb, subject) = rest.split_once(' ')?;
    let verb = ["is", "was", "are", "were"].contains(&verb);
    (asker && verb && subject.len() <= 200).then(|| fold(subject))
}

/// At most the last `most` bytes.
fn end(text: &str, most: usize) -> &str {
    let mut start = text.len().saturating_sub(most);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_form_is_what_the_question_asks_for() {
        for (question, name) in [
            (
                "What is the capital of France?\nA) Paris\nB) Rome",
                "letter",
            ),
            ("How many apples are left?", "number"),
            ("What percentage of them passed?", "number"),
            ("Is it safe? Answer yes or no.", "yes_no"),
            (
                "Complete the assertion with a literal. assert f(1) == ??",
                "literal",
            ),
            ("Write a Python function that adds two numbers.", "code"),
            ("List the cities as JSON.", "json"),
            ("What is the capital of France?", "free"),
            ("Tell me a story.", "free"),
            ("", "free"),
        ] {
            assert_eq!(Form::of(question, None).name(), name, "{question}");
        }
        let format = json!({"type": "json_schema", "json_schema": {}});
        assert_eq!(Form::of("How many?", Some(&format)), Form::Json);
        assert_eq!(
            Form::of("How many are there?", Some(&json!({"type": "text"}))).name(),
            "number"
        );
        assert_eq!(
            Form::of("What is the capital of France?", None),
            Form::Free(Some("capital of france".into()))
        );
        assert_eq!(
            Form::of("How many km is it?", None),
            Form::Number(Unit::named("km"))
        );
    }

    proptest! {
        #[test]
        fn any_question_is_borne(text in ".*|(what |is |how many |in |\u{e9}|\\?|A\\)|\n){0,30}") {
            Form::of(&text, None);
        }
    }
}
