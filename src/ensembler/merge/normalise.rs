//! When two answers say the same, as far as their letters tell.
//!
//! This is lexical: it sees through layout, quotes, notation of numbers and the sentence round a final
//! answer, but not through other words for the same thing. Prefer to tell two equal answers apart
//! than to take two different ones for one: a group too many costs confidence, a false one costs truth.

use std::collections::HashMap;

use serde_json::Value;

/// Free text longer than this, in normalised characters, is compared by its words.
const LONG: usize = 200;

/// How much of the words two long texts must share, as F1, to say the same.
const SAME_WORDS: f64 = 0.8;

/// An answer in comparable form.
#[derive(Clone, Debug)]
pub struct Normal {
    key: String,
    /// How often each word occurs, of long free text only.
    words: Option<HashMap<String, usize>>,
}

impl Normal {
    /// The comparable form of `text`.
    pub fn of(text: &str) -> Self {
        let (key, free) = reduce(text);
        let words = (free && key.chars().count() > LONG).then(|| words(&key));
        Self { key, words }
    }

    /// Whether both say the same: their normalised texts are equal, or both are long free text and share
    /// their words (token F1, as in SQuAD's evaluation, at least 0.8). Not transitive for long texts.
    pub fn matches(&self, other: &Self) -> bool {
        if self.key == other.key {
            return true;
        }
        match (&self.words, &other.words) {
            (Some(a), Some(b)) => f1(a, b) >= SAME_WORDS,
            _ => false,
        }
    }
}

/// The text reduced to what it says: its final answer if it marks one, else all of it.
///
/// - A final answer is the last `\boxed{…}`, or what follows "the answer is" or "Answer:" on the last line.
/// - An option's letter stands for itself: `(B)`, `B.` and `B)` are `b`.
/// - Numbers: `1,000`, `$1000` and `1000.0` are `1000`; `50 percent` is `50%`.
/// - JSON objects and arrays are written in one way, whatever their layout and order of keys.
/// - Otherwise case, white space, code fences, surrounding quotes and emphasis, and closing punctuation go.
pub fn normalise(text: &str) -> String {
    reduce(text).0
}

/// The normalised text, and whether it is free text rather than a value or a marked answer.
fn reduce(text: &str) -> (String, bool) {
    let text = without_fences(text);
    if let Some(json) = json(&text) {
        return (json, false);
    }
    if let Some(answer) = final_answer(&text) {
        return (value(answer).unwrap_or_else(|| fold(answer)), false);
    }
    match value(&text) {
        Some(value) => (value, false),
        None => (fold(&text), true),
    }
}

fn without_fences(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("```"))
        .collect();
    lines.join("\n")
}

/// Lower case, single spaces, nothing round it.
fn fold(text: &str) -> String {
    let words: Vec<String> = bare(text)
        .split_whitespace()
        .map(str::to_lowercase)
        .collect();
    words.join(" ")
}

/// Takes off white space, quotes, emphasis and closing punctuation, as long as something is left.
fn bare(text: &str) -> &str {
    const PAIRS: [(&str, &str); 11] = [
        ("**", "**"),
        ("__", "__"),
        ("*", "*"),
        ("_", "_"),
        ("`", "`"),
        ("\"", "\""),
        ("'", "'"),
        ("\u{201c}", "\u{201d}"),
        ("\u{2018}", "\u{2019}"),
        ("\u{ab}", "\u{bb}"),
        ("\\(", "\\)"),
    ];
    let mut rest = text.trim();
    loop {
        let mut shorter = without_closing(rest);
        for (open, close) in PAIRS {
            let inner = shorter
                .strip_prefix(open)
                .and_then(|inner| inner.strip_suffix(close));
            // A second mark inside means that the outer two are no pair: `"a" or "b"`.
            if let Some(inner) = inner
                && !inner.contains(open)
                && !inner.contains(close)
            {
                shorter = inner;
            }
        }
        let shorter = shorter.trim();
        if shorter.is_empty() || shorter.len() == rest.len() {
            return rest;
        }
        rest = shorter;
    }
}

fn without_closing(text: &str) -> &str {
    let rest = text.trim_end_matches(['.', '?', ';', ':', ',', '\u{2026}', ' ']);
    match rest.strip_suffix('!') {
        // `5!` is a number of its own.
        Some(said) if !said.ends_with(|c: char| c.is_ascii_digit()) => said,
        _ => rest,
    }
}

/// The answer the text marks as its last word.
fn final_answer(text: &str) -> Option<&str> {
    if let Some(boxed) = boxed(text) {
        return Some(boxed);
    }
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    let line = bare(line).trim_start_matches(['#', '*', '_', ' ']);
    // ASCII lower case keeps every byte in its place.
    let lower = line.to_ascii_lowercase();
    let labels = ["answer", "final answer"].into_iter().filter_map(|label| {
        let after = lower
            .strip_prefix(label)?
            .trim_start_matches(['*', '_', ' ']);
        let after = after
            .strip_prefix(':')
            .or_else(|| after.strip_prefix("is "))?;
        Some(lower.len() - after.len())
    });
    let phrases = ["the answer is", "final answer is"].into_iter();
    let phrases = phrases.filter_map(|phrase| Some(lower.rfind(phrase)? + phrase.len()));
    let rest = line[labels.chain(phrases).next()?..].trim_start_matches([':', ' ']);
    // What closes the emphasis of the words before: `**Answer:** 42`.
    let closed = rest.trim_start_matches(['*', '_']);
    let rest = bare(if closed.starts_with(' ') {
        closed
    } else {
        rest
    });
    if !rest.contains(char::is_alphanumeric) {
        return None;
    }
    // "42. I hope this helps": the first sentence will do if it is a value.
    let first = rest.split_once(". ").map_or(rest, |(first, _)| first);
    Some(if value(first).is_some() { first } else { rest })
}

/// What the last `\boxed{…}` holds.
fn boxed(text: &str) -> Option<&str> {
    const OPEN: &str = "\\boxed{";
    let inner = &text[text.rfind(OPEN)? + OPEN.len()..];
    let mut depth = 1;
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(inner[..at].trim()).filter(|inner| !inner.is_empty());
        }
    }
    None
}

/// The one way to write an option's letter or a number, if the whole text is one.
fn value(text: &str) -> Option<String> {
    let text = bare(text);
    option_letter(text).or_else(|| number(text))
}

/// `(B)`, `[B]`, `B)` or `B`, with or without "option".
fn option_letter(text: &str) -> Option<String> {
    let letter = match text.split_once(' ') {
        Some((word, rest))
            if ["option", "choice"].contains(&word.to_ascii_lowercase().as_str()) =>
        {
            rest
        }
        _ => text,
    };
    let letter = letter.trim_matches(['(', ')', '[', ']']);
    let mut chars = letter.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) if c.is_ascii_alphabetic() => Some(c.to_ascii_lowercase().into()),
        _ => None,
    }
}

/// A decimal number without thousands separators, superfluous zeros or dollar sign. Other currencies and
/// per cent stay, since they say more than the number.
fn number(text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    let mut rest = lower.trim_matches(['$', ' ']);
    let mut unit = "";
    for suffix in ["\\%", "%", "percent", "per cent"] {
        if let Some(value) = rest.strip_suffix(suffix) {
            (rest, unit) = (value.trim_end(), "%");
            break;
        }
    }
    let negative = rest.strip_prefix(['-', '\u{2212}']);
    rest = negative
        .or_else(|| rest.strip_prefix('+'))
        .unwrap_or(rest)
        .trim_start_matches('$');
    let currency = rest
        .chars()
        .next()
        .filter(|c| ['\u{20ac}', '\u{a3}', '\u{a5}'].contains(c));
    rest = currency.map_or(rest, |c| rest[c.len_utf8()..].trim_start());

    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let whole = match whole.split_once(',') {
        None => whole.to_owned(),
        Some((head, tail)) => {
            let threes = tail.split(',').all(|three| three.len() == 3);
            if !threes || !(1..=3).contains(&head.len()) {
                return None;
            }
            whole.replace(',', "")
        }
    };
    // A leading zero makes it a code: 007 is not 7.
    let code = whole.len() > 1 && whole.starts_with('0');
    if code || !digits(&whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole = if whole.is_empty() { "0" } else { &whole };
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    let zero = whole == "0" && fraction.is_empty();
    let sign = if negative.is_some() && !zero { "-" } else { "" };
    let currency = currency.map(String::from).unwrap_or_default();
    Some(format!("{sign}{currency}{whole}{point}{fraction}{unit}"))
}

/// An object or array written with sorted keys and without layout. Strings keep their case.
fn json(text: &str) -> Option<String> {
    let text = text.trim();
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let mut out = String::new();
    write_json(&serde_json::from_str(text).ok()?, &mut out);
    Some(out)
}

fn write_json(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (key, value) in entries {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_json(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(values) => {
            out.push('[');
            for value in values {
                write_json(value, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Number(given) => {
            let text = given.to_string();
            out.push_str(&number(&text).unwrap_or(text));
        }
        Value::Null | Value::Bool(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}

fn words(text: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for word in text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        *counts.entry(word.to_owned()).or_default() += 1;
    }
    counts
}

/// Harmonic mean of precision and recall of one bag of words against another, 0..=1.
fn f1(a: &HashMap<String, usize>, b: &HashMap<String, usize>) -> f64 {
    let shared: usize = a
        .iter()
        .map(|(word, count)| b.get(word).map_or(0, |other| *count.min(other)))
        .sum();
    let total = a.values().sum::<usize>() + b.values().sum::<usize>();
    if total == 0 {
        0.0
    } else {
        2.0 * shared as f64 / total as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn same(texts: &[&str], expected: &str) {
        for text in texts {
            assert_eq!(normalise(text), expected, "{text:?}");
        }
    }

    #[test]
    fn layout_case_quotes_emphasis_and_closing_punctuation_say_nothing() {
        same(
            &[
                "Paris",
                " paris. ",
                "\"Paris\"",
                "**Paris**.",
                "*`paris`*!",
                "```\nParis\n```",
            ],
            "paris",
        );
        same(&["New\n  York", "**_new york_**"], "new york");
        same(&["\"a\" or \"b\""], "\"a\" or \"b\"");
    }

    #[test]
    fn marked_answers_count_alone() {
        same(
            &[
                "Long thoughts.\nThe answer is 42.",
                "Two lines.\n\n**Answer:** 42",
                "**Answer: 42**",
                "**Answer**: **42**",
                "**Answer:** **42**",
                "### Final answer: 42",
                "So the answer is: $42$",
                "Thus \\boxed{41}, no, \\(\\boxed{42}\\).",
                "I think the answer is 42. I hope this helps!",
                "The final answer is **42**.",
            ],
            "42",
        );
        same(&["\\boxed{\\frac{1}{2}}"], "\\frac{1}{2}");
        same(&["The answer is not Paris"], "not paris");
        same(&["The answer is: "], "the answer is");
    }

    #[test]
    fn option_letters_stand_for_themselves() {
        same(
            &[
                "B",
                "(B)",
                "b.",
                "B)",
                "**B**",
                "[b]",
                "Answer: (B)",
                "The answer is B.",
                "Option B",
            ],
            "b",
        );
        same(&["Paris (B)"], "paris (b)");
    }

    #[test]
    fn numbers_are_written_in_one_way() {
        same(
            &["1,000", "1000", "1000.0", "$1,000.00", "+1000", "1000."],
            "1000",
        );
        same(
            &["50%", "50 %", "50 percent", "50.0 per cent", "50\\%"],
            "50%",
        );
        same(&["-0.50", "\u{2212}.5"], "-0.5");
        same(&["-0", "0.0"], "0");
        same(&["\u{20ac}1,000"], "\u{20ac}1000");
        same(&["5!"], "5!");
        same(&["007"], "007");
        same(&["1,00"], "1,00");
        assert_ne!(normalise("50"), normalise("50%"));
    }

    #[test]
    fn json_is_compared_by_structure() {
        same(
            &[
                "{\"b\": 1.0, \"a\": [true, \"X\"]}",
                "```json\n{\"a\":[true,\"X\"],\n\"b\":1}\n```",
            ],
            "{\"a\":[true,\"X\",],\"b\":1,}",
        );
        assert_ne!(normalise("[1,2]"), normalise("[2,1]"));
        assert_ne!(normalise("{\"a\":\"x\"}"), normalise("{\"a\":\"X\"}"));
    }

    #[test]
    fn long_texts_match_by_their_words_and_short_ones_do_not() {
        let text = |n: usize| (0..n).map(|i| format!("word{i} ")).collect::<String>();
        let matches = |a: &str, b: &str| Normal::of(a).matches(&Normal::of(b));
        assert!(matches(&text(50), &text(60)));
        assert!(!matches(&text(50), &text(90)));
        assert!(!matches(&text(10), &text(11)));
        assert!(!matches(
            &format!("{}\nAnswer: 1", text(50)),
            &format!("{}\nAnswer: 2", text(50))
        ));
    }

    proptest! {
        #[test]
        fn any_text_is_borne_and_matches_itself(text in "\\PC{0,60}|[-*_`\"'$.,!\\\\{}boxed (0-9)B\\n]{0,60}|.*") {
            let normal = Normal::of(&text);
            prop_assert!(normal.matches(&normal.clone()));
            prop_assert_eq!(normalise(&format!("  {text}\n")), normalise(&text));
        }

        #[test]
        fn numbers_are_equal_when_their_values_are(a in -20_000i32..20_000, b in -20_000i32..20_000) {
            let (plain, padded) = (normalise(&a.to_string()), normalise(&format!("${b}.00")));
            prop_assert_eq!(plain == padded, a == b);
        }
    }
}
