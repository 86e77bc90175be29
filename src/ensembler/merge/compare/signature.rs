//! What a free text says, bounded: its words, and the facts that a text of the same meaning cannot change.

use super::number_words::is_number_word;
use super::quantity;
use super::vocabulary::{KNOWN, PREFIXES};

/// So much of a text's head and of its tail is read, in bytes each.
const HALF: usize = 8 * 1024;
/// So many facts of a sort are kept.
const FACTS: usize = 256;

/// Words come as 64-bit hashes (FNV-1a), which are compared and never stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Signature {
    /// Stems of the words that say something, sorted.
    pub(super) stems: Vec<u64>,
    /// Neighbouring stems, sorted.
    pub(super) pairs: Vec<u64>,
    /// Quantities in base units, by first occurrence.
    pub(super) numbers: Vec<u64>,
    /// Words with a capital letter, by first occurrence, and whether the sentence began with it.
    pub(super) names: Vec<(u64, bool)>,
    /// Stems that a negation precedes, sorted. An end of the sentence counts as a stem.
    pub(super) negated: Vec<u64>,
    /// Which first and which second words of the [opposites](super::vocabulary) occur.
    pub(super) poles: [u128; 2],
    /// Which months and days of the week.
    pub(super) dates: u32,
    /// All words in lower case, sorted and unique: what [`opposed`](super::contradiction::opposed) looks up.
    pub(super) words: Vec<u64>,
    /// Words with a negating prefix: the whole, and the rest.
    pub(super) prefixed: Vec<(u64, u64)>,
}

pub(super) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Signature {
    /// Reads the head and the tail of a text.
    pub(super) fn of(text: &str) -> Self {
        let mut out = Self::default();
        let (head, tail) = ends(text);
        let mut previous = 0;
        for part in [head, tail] {
            out.read(part, &mut previous);
        }
        out.stems.sort_unstable();
        out.pairs.sort_unstable();
        out.negated.sort_unstable();
        out.negated.dedup();
        out.words.sort_unstable();
        out.words.dedup();
        out
    }

    fn read(&mut self, text: &str, previous: &mut u64) {
        let (mut negation, mut begins) = (false, true);
        // Bytes that a quantity has taken.
        let mut taken = 0;
        for (at, raw) in words(text) {
            if at < taken {
                continue;
            }
            let mut lower = if raw.is_ascii() {
                raw.to_ascii_lowercase()
            } else {
                raw.to_lowercase()
            };
            lower.retain(|c| !['\'', '\u{2019}'].contains(&c));
            if let Some((fact, length)) = number(text, at, raw, &lower) {
                taken = at + length;
                let fact = hash(&fact);
                if self.numbers.len() < FACTS && !self.numbers.contains(&fact) {
                    self.numbers.push(fact);
                }
                self.count(fact, previous);
            } else {
                self.word(raw, &lower, begins, &mut negation, previous);
            }
            let end = taken.max(at + raw.len());
            begins = text[end..].starts_with(['.', '!', '?', '\n', ':', '"']);
            if begins && std::mem::take(&mut negation) {
                self.negated.push(0);
            }
        }
        if negation {
            self.negated.push(0);
        }
    }

    fn word(
        &mut self,
        raw: &str,
        lower: &str,
        begins: bool,
        negation: &mut bool,
        previous: &mut u64,
    ) {
        let whole = hash(lower);
        self.words.push(whole);
        let known = KNOWN.get(lower).copied().unwrap_or_default();
        self.poles[0] |= known.poles[0];
        self.poles[1] |= known.poles[1];
        let capital = raw.starts_with(char::is_uppercase);
        if capital {
            self.dates |= known.date;
        }
        for prefix in PREFIXES {
            if let Some(rest) = lower.strip_prefix(prefix)
                && rest.len() >= 4
                && self.prefixed.len() < FACTS
            {
                self.prefixed.push((whole, hash(rest)));
            }
        }
        if known.negates || lower.ends_with("nt") && raw.contains(['\'', '\u{2019}']) {
            *negation = true;
            return;
        }
        // "Drug A" names one.
        let named = raw == "A" && !begins;
        if known.silent && !named {
            return;
        }
        let stem = hash(stem(lower));
        if capital && self.names.len() < FACTS && !self.names.iter().any(|(name, _)| *name == stem)
        {
            self.names.push((stem, begins));
        }
        if std::mem::take(negation) {
            self.negated.push(stem);
        }
        self.count(stem, previous);
    }

    fn count(&mut self, stem: u64, previous: &mut u64) {
        self.stems.push(stem);
        self.pairs.push(previous.rotate_left(17) ^ stem);
        *previous = stem;
    }

    pub(super) fn knows(&self, word: u64) -> bool {
        self.words.binary_search(&word).is_ok()
    }
}

/// The bounded head and tail; all of a short text is its head.
fn ends(text: &str) -> (&str, &str) {
    if text.len() <= 2 * HALF {
        return (text, "");
    }
    let (mut head, mut tail) = (HALF, text.len() - HALF);
    while !text.is_char_boundary(head) {
        head -= 1;
    }
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    (&text[..head], &text[tail..])
}

/// Runs of letters and digits with apostrophes inside, and where they begin.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let start = text.as_ptr() as usize;
    text.split(|c: char| !(c.is_alphanumeric() || ['\'', '\u{2019}'].contains(&c)))
        .map(|word| word.trim_matches(['\'', '\u{2019}']))
        .filter(|word| !word.is_empty())
        .map(move |word| (word.as_ptr() as usize - start, word))
}

/// The quantity that begins with this word, and its length.
fn number(text: &str, at: usize, raw: &str, lower: &str) -> Option<(String, usize)> {
    const LONGEST: usize = 48;
    let digit = lower.starts_with(|c: char| c.is_ascii_digit());
    if !digit && !is_number_word(lower) {
        return None;
    }
    let before = &text[..at];
    let from = before
        .strip_suffix(['$', '\u{20ac}', '\u{a3}', '\u{a5}'])
        .unwrap_or(before);
    let signed = from
        .strip_suffix(['-', '\u{2212}'])
        .filter(|left| digit && (left.is_empty() || left.ends_with([' ', '(', '\n'])));
    let mut end = (at + LONGEST).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    // ASCII lower case keeps every byte in its place.
    let piece = text[from.len()..end].to_ascii_lowercase();
    match quantity::scan(&piece) {
        Some((quantity, rest)) => {
            let used = from.len() + piece.len() - rest.len();
            let sign = if signed.is_some() { "-" } else { "" };
            let fact = format!("{sign}{}", quantity.write(None));
            Some((fact, used.saturating_sub(at).max(raw.len())))
        }
        // A version, a time or an ordinal is a fact as it stands.
        None => digit.then(|| (lower.to_owned(), raw.len())),
    }
}

/// The word without the commonest endings of English.
fn stem(word: &str) -> &str {
    let cut = |word: &str, end: &str, least: usize| {
        word.len()
            .checked_sub(end.len())
            .is_some_and(|left| left >= least)
            && word.ends_with(end)
    };
    if word.is_ascii() {
        for (end, least) in [
            ("ing", 4),
            ("edly", 4),
            ("ies", 3),
            ("ed", 3),
            ("es", 4),
            ("ly", 4),
            ("s", 3),
        ] {
            if cut(word, end, least) && !word.ends_with("ss") {
                return &word[..word.len() - end.len()];
            }
        }
    }
    word
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_numbers_and_names_are_found() {
        let signature = Signature::of("In March, Alice paid $1,200 for five km. It wasn't dear.");
        assert_eq!(signature.numbers, [hash("1200"), hash("5000 m")]);
        assert_eq!(signature.negated, [hash("dear")]);
        assert_eq!(signature.dates, 1 << 2);
        assert!(signature.names.contains(&(hash("alice"), false)));
    }

    #[test]
    fn a_long_text_is_read_at_both_ends() {
        let text = format!("start {} end", "filler ".repeat(10_000));
        let signature = Signature::of(&text);
        assert!(signature.knows(hash("start")) && signature.knows(hash("end")));
        assert!(signature.stems.len() < 4000);
    }

    proptest! {
        #[test]
        fn any_text_is_borne(text in ".*|([-$\u{20ac}0-9., '\u{2019}a-c\u{130}]|five|n't ){0,40}") {
            Signature::of(&text);
        }
    }
}
