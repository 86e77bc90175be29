//! When two texts cannot both be right, as far as their letters tell.
//!
//! Similar words are no agreement: "it rose by 5 %" and "it fell by 5 %" share nearly all of theirs, and their
//! sentence vectors lie close. What is found here is never joined, whatever else speaks for it. A contradiction
//! seen where there is none only costs an agreement.

use super::signature::Signature;

/// Whether the texts differ in a fact: numbers, units, dates, names, negations or opposite words.
pub(super) fn contradicts(a: &Signature, b: &Signature) -> bool {
    differ(&a.numbers, &b.numbers)
        || excludes(u128::from(a.dates), u128::from(b.dates))
        || opposite(a, b)
        || negation(a, b)
        || opposed(a, b)
        || opposed(b, a)
        || names(a, b)
}

/// Each has what the other has not.
fn excludes(a: u128, b: u128) -> bool {
    a & !b != 0 && b & !a != 0
}

/// Each has a fact that the other has not, or they come in another order: "from 3 to 5", "from 5 to 3".
fn differ(a: &[u64], b: &[u64]) -> bool {
    let shared: Vec<u64> = a.iter().copied().filter(|fact| b.contains(fact)).collect();
    (shared.len() < a.len() && shared.len() < b.len())
        || !b.iter().filter(|fact| a.contains(fact)).eq(shared.iter())
}

/// One uses a word and not its opposite, the other its opposite and not the word.
fn opposite(a: &Signature, b: &Signature) -> bool {
    let only = |signature: &Signature| {
        let [first, second] = signature.poles;
        (first & !second, second & !first)
    };
    let ((a1, a2), (b1, b2)) = (only(a), only(b));
    a1 & b2 != 0 || a2 & b1 != 0
}

/// One denies something, the other nothing; or one denies what the other says.
fn negation(a: &Signature, b: &Signature) -> bool {
    let denies = |x: &Signature, y: &Signature| {
        x.negated.iter().any(|stem| {
            *stem != 0 && !y.negated.contains(stem) && y.stems.binary_search(stem).is_ok()
        })
    };
    a.negated.is_empty() != b.negated.is_empty() || denies(a, b) || denies(b, a)
}

/// `a` has `unstable` and not `stable`, `b` has `stable` and not `unstable`.
pub(super) fn opposed(a: &Signature, b: &Signature) -> bool {
    a.prefixed
        .iter()
        .any(|&(whole, rest)| b.knows(rest) && !b.knows(whole) && !a.knows(rest))
}

/// Each has a name that the other has not, or they come in another order: who beat whom. A word that begins
/// a sentence counts unless the other text has it in any case.
fn names(a: &Signature, b: &Signature) -> bool {
    let own = |x: &Signature, y: &Signature| {
        x.names
            .iter()
            .any(|(name, _)| y.stems.binary_search(name).is_err())
    };
    let firm = |x: &Signature, y: &Signature| -> Vec<u64> {
        let named = x.names.iter().map(|(name, _)| *name);
        named
            .filter(|name| y.names.iter().any(|(other, _)| other == name))
            .collect()
    };
    (own(a, b) && own(b, a)) || firm(a, b) != firm(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contradict(a: &str, b: &str) -> bool {
        let (a, b) = (Signature::of(a), Signature::of(b));
        assert_eq!(contradicts(&a, &b), contradicts(&b, &a));
        contradicts(&a, &b)
    }

    #[test]
    fn contradictions_are_seen() {
        for (a, b) in [
            ("Revenue rose by 5 %.", "Revenue fell by 5 %."),
            ("Revenue rose by 5 %.", "Revenue rose by 6 %."),
            ("Prices increase in winter.", "Prices decrease in winter."),
            ("It is safe to eat.", "It is not safe to eat."),
            ("It is safe to eat.", "It is unsafe to eat."),
            ("You can do that.", "You can't do that."),
            ("Paris is the capital.", "Rome is the capital."),
            ("The capital is Paris.", "The capital is Rome."),
            (
                "Alice beat Bob in the final.",
                "Bob beat Alice in the final.",
            ),
            ("It takes 5 km.", "It takes 5 miles."),
            ("It takes five days.", "It takes six days."),
            ("It opened in March.", "It opened in April."),
            ("It was on 3 May 1990.", "It was on 3 May 1991."),
            ("Yes, it does.", "No, it does."),
            ("The claim is true.", "The claim is false."),
            (
                "The reaction is reversible.",
                "The reaction is irreversible.",
            ),
            ("The range is from 3 to 5.", "The range is from 5 to 3."),
            ("All of them passed.", "None of them passed."),
            (
                "The temperature is -5 degrees.",
                "The temperature is 5 degrees.",
            ),
            ("Use version 1.2.3 here.", "Use version 1.2.4 here."),
            ("Turn left at the church.", "Turn right at the church."),
            ("It always works.", "It never works."),
            ("It costs $1,200.", "It costs \u{20ac}1,200."),
            (
                "Drug A is better than drug B.",
                "Drug B is better than drug A.",
            ),
        ] {
            assert!(contradict(a, b), "{a} | {b}");
        }
    }

    #[test]
    fn the_same_in_other_words_is_no_contradiction() {
        for (a, b) in [
            ("Revenue rose by 5 %.", "Revenue has risen by 5 percent."),
            (
                "It takes 5 km to get there.",
                "It takes 5,000 meters to get there.",
            ),
            ("It takes five days.", "That takes 5 days."),
            ("The capital is Paris.", "Paris is the capital city."),
            ("It is not safe to eat.", "It isn't safe to eat."),
            ("The sky is blue.", "Sky: blue."),
            ("", "The sky is blue."),
        ] {
            assert!(!contradict(a, b), "{a} | {b}");
        }
    }
}
