//! The quantity that a whole answer states, prose and all.

use super::latex;
use super::layout::{bare, last_sentence};
use super::marked;
use super::quantity::{read, scan};
use super::units::Unit;

/// The quantity that answers a question for one: what the text marks, all of it, or the only one that its last
/// sentence names. Nouns may follow. `None` where it could be another.
pub(super) fn find(text: &str, expected: Option<Unit>) -> Option<String> {
    if let Some(marked) = marked::anywhere(text) {
        let first = marked.split_once(". ").map_or(marked, |(first, _)| first);
        return read(bare(first), expected, true).or_else(|| only(first, expected));
    }
    let text = text.trim();
    read(bare(text), expected, true).or_else(|| only(last_sentence(text), expected))
}

/// The only quantity of a sentence, or the one after its last "is" or "=".
fn only(sentence: &str, expected: Option<Unit>) -> Option<String> {
    /// Words that make of a number a bound, a guess or a denial.
    const HEDGE: [&str; 14] = [
        "not", "least", "most", "than", "between", "or", "if", "cannot", "up", "under", "over",
        "without", "from", "step",
    ];
    if sentence.len() > 600 {
        return None;
    }
    let plain = latex::plain(sentence)
        .to_lowercase()
        .replace(['*', '`'], "");
    let mut words = plain.split(|c: char| !c.is_alphanumeric() && c != '\'');
    if words.any(|word| HEDGE.contains(&word) || word.ends_with("n't")) {
        return None;
    }
    let after = [" is ", "=", " are ", " equals ", ": "]
        .iter()
        .filter_map(|mark| plain.rfind(mark).map(|at| at + mark.len()))
        .max();
    if let Some(value) = after.and_then(|after| read(bare(&plain[after..]), expected, true)) {
        return Some(value);
    }
    let mut found: Option<String> = None;
    let mut at = 0;
    while let Some(start) = plain[at..]
        .find(|c: char| c.is_ascii_digit())
        .map(|start| at + start)
    {
        let from = plain[..start]
            .trim_end_matches(['-', '$', '\u{20ac}', '\u{a3}', '\u{a5}', '.'])
            .len();
        if plain[..from].ends_with(|c: char| c.is_alphanumeric()) {
            return None;
        }
        let (quantity, rest) = scan(&plain[from..])?;
        let value = quantity.write(expected);
        if found.as_ref().is_some_and(|found| *found != value) {
            return None;
        }
        found = Some(value);
        at = plain.len() - rest.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_answer_is_found_in_the_prose() {
        for text in [
            "12",
            "12 apples",
            "So he has 12 apples left.",
            "First 3 + 4 = 7.\nThen 7 + 5 = 12.",
            "**12**",
            "Adding up: 3 and 4 and 5.\nThe answer is 12.",
            "The answer is 12 because 3 + 4 + 5 = 12.",
            "\\boxed{12}",
            "She needs $12 in total.",
            "Therefore, the total is 12 apples.",
            "Thoughts 1 2 3\n#### 12",
            "$3 \\cdot 4 = 12$",
            "It takes **12** days.\n"
                .trim_end_matches("\n")
                .trim_end_matches("days.")
                .trim_end(),
        ] {
            assert_eq!(find(text, None).as_deref(), Some("12"), "{text}");
        }
        for text in [
            "3 apples and 5 pears",
            "at least 12",
            "12 or 13",
            "it is not 12",
            "more than 12",
            "none",
            "",
            "a12",
            "12 to 15",
        ] {
            assert_eq!(find(text, None), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_borne(text in "[-+$0-9.,/^*e% a-d()=:]{0,40}|.*|(is |are |-|5 |\u{20ac}|=|\\. ){0,15}") {
            find(&text, None);
        }
    }
}
