//! Numbers in English words: `five`, `twenty-five`, `two hundred and seven`, `three quarters`.

use super::exact::{Number, Ratio};

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = [
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];
pub(super) const SCALES: [(&str, i128); 5] = [
    ("hundred", 100),
    ("thousand", 1_000),
    ("million", 1_000_000),
    ("billion", 1_000_000_000),
    ("trillion", 1_000_000_000_000),
];
const PARTS: [(&str, i128); 8] = [
    ("half", 2),
    ("halves", 2),
    ("third", 3),
    ("thirds", 3),
    ("quarter", 4),
    ("quarters", 4),
    ("fifth", 5),
    ("fifths", 5),
];

/// The value of a word, and whether it multiplies.
pub(super) fn word_value(word: &str) -> Option<(i128, bool)> {
    if let Some(at) = SMALL.iter().position(|small| *small == word) {
        return Some((at as i128, false));
    }
    if let Some(at) = TENS.iter().position(|ten| *ten == word) {
        return Some((at as i128 * 10 + 20, false));
    }
    let scale = SCALES.iter().find(|(name, _)| *name == word)?;
    Some((scale.1, true))
}

/// Whether a number in words may begin with this one.
pub(super) fn is_number_word(word: &str) -> bool {
    word_value(word).is_some_and(|(_, multiplies)| !multiplies)
}

/// A number in English words, up to the trillions, or a simple fraction.
pub(super) fn spelt(text: &str) -> Option<(Number, &str)> {
    if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let (mut total, mut part, mut any) = (0i128, 0i128, false);
    // The smallest part that may still be added: `twenty five`, never `five twenty`.
    let mut room = i128::MAX;
    let mut rest = text;
    loop {
        let next = rest.trim_start_matches([' ', '-']);
        let joined = if any {
            next.strip_prefix("and ").unwrap_or(next)
        } else {
            next
        };
        let end = joined
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(joined.len());
        let (word, after) = joined.split_at(end);
        if let Some((_, parts)) = PARTS.iter().find(|(name, _)| *name == word) {
            let count = if any { total + part } else { 1 };
            return Some((Number::Ratio(Ratio::new(count, *parts)?), after));
        }
        let Some((value, multiplies)) = word_value(word) else {
            break;
        };
        if multiplies {
            if !any {
                return None;
            }
            part = part.max(1).checked_mul(value)?;
            if value > 100 {
                total = total.checked_add(part)?;
                part = 0;
            }
            room = i128::MAX;
        } else {
            if any && (value >= room || value == 0) {
                break;
            }
            part += value;
            room = if value >= 20 { 10 } else { 0 };
        }
        any = true;
        rest = after;
    }
    any.then(|| Some((Number::Ratio(Ratio::new(total + part, 1)?), rest)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_numbers() {
        let of = |text| spelt(text).map(|(number, rest)| (number.write(), rest));
        for (text, value) in [
            ("five", "5"),
            ("twenty-five", "25"),
            ("one hundred and five", "105"),
            ("two million three hundred thousand", "2300000"),
            ("half", "0.5"),
            ("two thirds", "2/3"),
        ] {
            assert_eq!(of(text), Some((value.to_owned(), "")), "{text}");
        }
        assert_eq!(of("five twenty"), Some(("5".to_owned(), " twenty")));
        assert_eq!(of("hundred"), None);
        assert_eq!(of("often"), None);
    }
}
