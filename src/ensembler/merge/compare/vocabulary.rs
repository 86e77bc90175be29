//! English words whose meaning the comparison of prose must know.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Words of which one excludes the other.
const OPPOSITES: [(&str, &str); 93] = [
    ("yes", "no"),
    ("true", "false"),
    ("increase", "decrease"),
    ("increases", "decreases"),
    ("increased", "decreased"),
    ("increasing", "decreasing"),
    ("rise", "fall"),
    ("rises", "falls"),
    ("rose", "fell"),
    ("higher", "lower"),
    ("high", "low"),
    ("highest", "lowest"),
    ("more", "less"),
    ("more", "fewer"),
    ("most", "least"),
    ("greater", "smaller"),
    ("larger", "smaller"),
    ("large", "small"),
    ("largest", "smallest"),
    ("bigger", "smaller"),
    ("before", "after"),
    ("above", "below"),
    ("left", "right"),
    ("up", "down"),
    ("always", "never"),
    ("all", "none"),
    ("everyone", "nobody"),
    ("possible", "impossible"),
    ("accept", "reject"),
    ("accepted", "rejected"),
    ("pass", "fail"),
    ("passes", "fails"),
    ("win", "lose"),
    ("won", "lost"),
    ("first", "last"),
    ("north", "south"),
    ("east", "west"),
    ("hot", "cold"),
    ("positive", "negative"),
    ("buy", "sell"),
    ("open", "closed"),
    ("enable", "disable"),
    ("enabled", "disabled"),
    ("male", "female"),
    ("good", "bad"),
    ("best", "worst"),
    ("maximum", "minimum"),
    ("faster", "slower"),
    ("fast", "slow"),
    ("safe", "dangerous"),
    ("allowed", "forbidden"),
    ("allowed", "prohibited"),
    ("with", "without"),
    ("earlier", "later"),
    ("early", "late"),
    ("longer", "shorter"),
    ("stronger", "weaker"),
    ("odd", "even"),
    ("alive", "dead"),
    ("guilty", "innocent"),
    ("toward", "away"),
    ("towards", "away"),
    ("import", "export"),
    ("imports", "exports"),
    ("cause", "prevent"),
    ("causes", "prevents"),
    ("caused", "prevented"),
    ("older", "younger"),
    ("oldest", "newest"),
    ("deep", "shallow"),
    ("hired", "fired"),
    ("support", "oppose"),
    ("supports", "opposes"),
    ("attack", "defend"),
    ("attacked", "defended"),
    ("expand", "contract"),
    ("expands", "contracts"),
    ("start", "end"),
    ("started", "ended"),
    ("begins", "ends"),
    ("often", "rarely"),
    ("helped", "harmed"),
    ("active", "passive"),
    ("admits", "denies"),
    ("admitted", "denied"),
    ("if", "unless"),
    ("enter", "leave"),
    ("push", "pull"),
    ("raise", "reduce"),
    ("raises", "reduces"),
    ("gain", "loss"),
    ("strengthens", "weakens"),
    ("includes", "excludes"),
];

const DATES: [&str; 19] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];

/// Words that carry no content of their own.
const SILENT: [&str; 58] = [
    "a", "also", "am", "an", "and", "are", "as", "at", "be", "been", "being", "but", "by", "can",
    "could", "did", "do", "does", "for", "from", "had", "has", "have", "he", "her", "his", "i",
    "if", "in", "into", "is", "it", "its", "of", "on", "or", "our", "she", "so", "that", "the",
    "their", "them", "then", "there", "these", "they", "this", "those", "to", "was", "we", "were",
    "which", "who", "will", "would", "you",
];

const NEGATIONS: [&str; 13] = [
    "not", "no", "never", "none", "nobody", "nothing", "neither", "nor", "cannot", "without",
    "hardly", "isnt", "dont",
];

/// Prefixes that turn a word into its opposite.
pub(super) const PREFIXES: [&str; 7] = ["un", "in", "im", "il", "ir", "dis", "non"];

/// What a word is known for.
#[derive(Clone, Copy, Default)]
pub(super) struct Known {
    pub(super) poles: [u128; 2],
    pub(super) date: u32,
    pub(super) silent: bool,
    pub(super) negates: bool,
}

pub(super) static KNOWN: LazyLock<HashMap<&'static str, Known>> = LazyLock::new(|| {
    let mut known: HashMap<&str, Known> = HashMap::new();
    for (at, (first, second)) in OPPOSITES.iter().enumerate() {
        known.entry(first).or_default().poles[0] |= 1 << at;
        known.entry(second).or_default().poles[1] |= 1 << at;
    }
    for (at, date) in DATES.iter().enumerate() {
        known.entry(date).or_default().date = 1 << at;
    }
    for word in SILENT {
        known.entry(word).or_default().silent = true;
    }
    for word in NEGATIONS {
        known.entry(word).or_default().negates = true;
    }
    known
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_opposites_has_its_bit() {
        for (at, (first, second)) in OPPOSITES.iter().enumerate() {
            assert_ne!(KNOWN[first].poles[0] & 1 << at, 0, "{first}");
            assert_ne!(KNOWN[second].poles[1] & 1 << at, 0, "{second}");
        }
        assert!(KNOWN["not"].negates && KNOWN["of"].silent && KNOWN["may"].date > 0);
    }
}
