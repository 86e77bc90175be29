//! Multiple choice: the options a question offers, and which letter an answer chooses.

use super::layout::{bare, fold};
use super::marked;

/// The options of a multiple choice, the first is A.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    count: u8,
    /// Folded texts, as far as the question shows them; as many as there are options, or none.
    texts: Vec<String>,
}

impl Options {
    /// `count` options (at most 26) whose texts are not known.
    pub fn lettered(count: u8) -> Self {
        Self {
            count: count.min(26),
            texts: Vec::new(),
        }
    }

    /// Options with these texts; what is beyond the 26th is left out.
    pub fn of_texts<S: AsRef<str>>(texts: &[S]) -> Self {
        let texts: Vec<String> = texts
            .iter()
            .take(26)
            .map(|text| fold(text.as_ref()))
            .collect();
        Self {
            count: u8::try_from(texts.len()).unwrap_or(26),
            texts,
        }
    }

    /// How many there are.
    pub fn count(&self) -> u8 {
        self.count
    }

    /// The options a question lists as `A) …`, `(A) …`, `A. …` or `A: …`, a line each or, in brackets, in one
    /// line; at least A and B.
    pub fn listed(question: &str) -> Option<Self> {
        let by_line = listed_by(question.lines().map(str::trim_start));
        by_line.or_else(|| {
            let starts: Vec<usize> = question
                .match_indices('(')
                .map(|(at, _)| at)
                .filter(|at| {
                    // `P(A)` is no option.
                    if question[..*at].ends_with(char::is_alphanumeric) {
                        return false;
                    }
                    let mut inner = question[at + 1..].chars();
                    inner.next().is_some_and(|c| c.is_ascii_uppercase())
                        && inner.next() == Some(')')
                })
                .collect();
            let ends = starts.iter().skip(1).copied().chain([question.len()]);
            listed_by(
                starts
                    .iter()
                    .zip(ends)
                    .map(|(&start, end)| &question[start..end]),
            )
        })
    }

    /// The letter an answer chooses: in what it marks as its answer, at its beginning, as the only one it names,
    /// or by an option's text.
    pub(super) fn chosen(&self, text: &str) -> Option<char> {
        let valid = |c: char| (c as u32) < u32::from(b'a') + u32::from(self.count);
        if let Some(marked) = marked::anywhere(text) {
            let letter = leading(marked).or_else(|| self.by_text(marked));
            return letter.filter(|c| valid(*c));
        }
        let letter = leading(text)
            .or_else(|| self.by_text(text))
            .or_else(|| only(text));
        letter.filter(|c| valid(*c))
    }

    fn by_text(&self, text: &str) -> Option<char> {
        let text = fold(text);
        let mut fitting = self
            .texts
            .iter()
            .zip('a'..='z')
            .filter(|(option, _)| **option == text);
        match (fitting.next(), fitting.next()) {
            (Some((_, letter)), None) => Some(letter),
            _ => None,
        }
    }
}

fn listed_by<'a>(pieces: impl Iterator<Item = &'a str>) -> Option<Options> {
    let mut texts: Vec<String> = Vec::new();
    for piece in pieces {
        let piece = piece.trim_start_matches(['*', '-', ' ']);
        let (open, rest) = match piece.strip_prefix('(') {
            Some(rest) => (true, rest),
            None => (false, piece),
        };
        let mut chars = rest.chars();
        let Some(letter) = chars.next().filter(char::is_ascii_alphabetic) else {
            continue;
        };
        let ended = match chars.next() {
            Some(')') => true,
            Some('.' | ':') => !open && chars.clone().next().is_none_or(char::is_whitespace),
            _ => false,
        };
        let letter = letter.to_ascii_lowercase() as usize - 'a' as usize;
        if !ended {
            continue;
        }
        // A list begins anew at A: the examples of a prompt come before its question.
        if letter == 0 {
            texts.clear();
        }
        if letter == texts.len() {
            texts.push(fold(chars.as_str()));
        }
    }
    (texts.len() >= 2).then(|| Options {
        count: u8::try_from(texts.len()).unwrap_or(26),
        texts,
    })
}

/// The letter with which a text begins, if what follows lets it be one.
pub(super) fn leading(text: &str) -> Option<char> {
    let text = bare(text).trim_start_matches(['*', '_', '"', '`', '$', ' ']);
    let text = ["option ", "choice ", "answer ", "letter "]
        .iter()
        .find(|word| {
            text.get(..word.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(word))
        })
        .map_or(text, |word| &text[word.len()..]);
    let inner = text.trim_start_matches(['(', '[', '*', '{', ' ']);
    let bracketed = inner.len() < text.len();
    let letter = inner.chars().next().filter(char::is_ascii_alphabetic)?;
    let after = &inner[1..];
    let closed = after.trim_start_matches([')', ']', '*', '}', '_', '`', '"', '$']);
    let rest = closed.trim_start_matches(['.', ':', ',', ' ', '\n', '-', '\u{2013}', '\u{2014}']);
    let apart = closed.len() < after.len()
        || closed.is_empty()
        || closed.starts_with(['.', ':', ',', '\n', '\u{2013}', '\u{2014}'])
        || closed.starts_with(" -")
        || closed.starts_with(" \u{2014}")
        || closed.starts_with(" \u{2013}")
        || closed.starts_with(" (")
        // A and I are words.
        || (closed.starts_with(' ') && (letter.is_ascii_uppercase() && !['A', 'I'].contains(&letter)
            || closed.starts_with(" because") || closed.starts_with(" is ")));
    // One of several chosen is no choice of one; "e.g." is no E.
    let several = rest
        .trim_start_matches(['&', '/', '+'])
        .split(|c: char| !c.is_alphanumeric())
        .find(|word| !word.is_empty())
        .is_some_and(|word| {
            let lone =
                word.len() == 1 && word != "a" && word.bytes().all(|b| b.is_ascii_alphabetic());
            lone || ["and", "or", "nor"].contains(&word)
        });
    let lower =
        letter.is_ascii_lowercase() && !bracketed && !rest.is_empty() && !after.starts_with(')');
    (apart && !several && !lower).then(|| letter.to_ascii_lowercase())
}

/// The only letter that a text names as an option, if it excludes none.
fn only(text: &str) -> Option<char> {
    const EXCLUDE: [&str; 10] = [
        "not ",
        "n't",
        "rule",
        "incorrect",
        "wrong",
        "eliminat",
        "except",
        "false",
        "neither",
        "unlike",
    ];
    let lower = text.to_ascii_lowercase();
    if text.len() > 20_000 || EXCLUDE.iter().any(|word| lower.contains(word)) {
        return None;
    }
    let bytes = text.as_bytes();
    let mut found = None;
    for (at, _) in text.match_indices(|c: char| c.is_ascii_uppercase()) {
        let lone = (at == 0 || !bytes[at - 1].is_ascii_alphanumeric() && bytes[at - 1].is_ascii())
            && bytes
                .get(at + 1)
                .is_none_or(|b| b.is_ascii() && !b.is_ascii_alphanumeric() && *b != b'\'');
        let bracketed = at > 0 && bytes[at - 1] == b'(' && bytes.get(at + 1) == Some(&b')');
        let named = [
            "option ", "choice ", "choose ", "select ", "pick ", "answer ",
        ]
        .iter()
        .any(|word| {
            lower[..at]
                .trim_end_matches(['(', '*', '"'])
                .ends_with(word)
        });
        if lone && (bracketed || named) {
            let letter = bytes[at].to_ascii_lowercase() as char;
            if found.is_some_and(|found| found != letter) {
                return None;
            }
            found = Some(letter);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn options_are_found_in_the_question() {
        for question in [
            "Which?\nA) Paris\nB) Rome\nC) Oslo",
            "Which?\nA. Paris\nB. Rome\nC. Oslo",
            "Which?\n(A) Paris\n(B) Rome\n(C) Oslo",
            "Which? (A) Paris (B) Rome (C) Oslo",
            "Example:\nA) 1\nB) 2\nAnswer: A\n\nWhich?\n- A: Paris\n- B: Rome\n- C: Oslo",
            "Which?\na) Paris\nb) Rome\nc) Oslo",
        ] {
            let options = Options::listed(question).unwrap();
            assert_eq!(options.count(), 3, "{question}");
            assert_eq!(options.by_text("Rome."), Some('b'), "{question}");
        }
        for question in [
            "Who was A. Einstein?",
            "f(A) = 3",
            "P(A) = 1, P(B) = 2",
            "A good one.",
            "(A) alone",
            "",
        ] {
            assert_eq!(Options::listed(question), None, "{question}");
        }
    }

    #[test]
    fn the_chosen_letter_is_read_out_of_prose() {
        let options = Options::of_texts(&["Paris", "Rome", "Oslo", "Bonn"]);
        for text in [
            "B",
            "(B)",
            "b.",
            "B)",
            "**B**",
            "[b]",
            "Answer: (B)",
            "The answer is B.",
            "Option B",
            "b",
            "B) Rome",
            "B. Rome",
            "B: Rome",
            "**B** - Rome",
            "Rome",
            "rome.",
            "The answer is (B) because it is old.",
            "\\boxed{B}",
            "\\boxed{\\text{B}}",
            "**Answer: B**",
            "B because it is old",
            "B, since it is old",
            "I would choose B.",
            "It was founded early, so (B).",
            "**Answer:** B. Rome\n\nIt is old and large.",
            "The correct option is **B**.",
            "The answer is Rome.",
            "B\n\nRome is the capital.",
            "(B) Rome",
        ] {
            let text = text.replace("\\text{B}", "B");
            assert_eq!(options.chosen(&text), Some('b'), "{text}");
        }
        for text in [
            "A and C",
            "A or B",
            "A good question",
            "I think so",
            "Not B",
            "The answer is not B",
            "E",
            "Z",
            "Both (A) and (C)",
            "I would rule out (B)",
            "",
            "Bonn and Rome",
            "The answer is A, C",
            "A/B",
            "banana",
        ] {
            assert_eq!(options.chosen(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_borne(text in "[A-D() .*:\\na-c\u{e9}]{0,30}|.*") {
            Options::lettered(4).chosen(&text);
            Options::listed(&text);
        }
    }
}
