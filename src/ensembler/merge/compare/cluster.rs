//! Free texts that say the same, found without regard to their order.
//!
//! Complete linkage (T. Sørensen, "A method of establishing groups of equal amplitude in plant sociology", 1948):
//! a text joins a cluster only if it says the same as each of its members, so no chain of small differences ends
//! in a contradiction.

use super::contradiction::contradicts;
use super::signature::Signature;
use crate::ensembler::merge::Vote;

/// How much of their words two texts must share to say the same, as F1 of their bags of stems.
const SAME_WORDS: f64 = 0.8;
/// How much of their neighbouring words: the same words in another order say something else.
const SAME_PAIRS: f64 = 0.5;
/// Texts of fewer stems have too few words to be judged by sharing most of them.
const JUDGEABLE: usize = 24;
/// Vectors of very short texts are near for being short; those must share a word.
const SHORT: usize = 4;
/// Vectors join only what is said in other words, as shares of stems and of neighbouring stems. Who repeats the
/// other's words says something else where he does not: one word exchanged, or two that changed places, leave the
/// vectors nearly where they are (0.99 for "the man bit the dog").
const OTHER_WORDS: f64 = 0.65;
const OTHER_PAIRS: f64 = 0.25;
/// The cosine of sentence vectors from which texts are joined. Of 89 paraphrases and 154 contradictions written to
/// choose it, 15 and none are; from 0.85 on it would be 24 and 1, from 0.8 on 37 and 4.
const NEAR: f64 = 0.88;
/// More texts are not clustered; the rest stay by themselves.
const MOST: usize = 64;

/// How near the vectors of the votes' texts are.
#[derive(Clone, Debug, PartialEq)]
pub struct Similarity {
    count: usize,
    cosines: Vec<f64>,
    least: f64,
}

impl Similarity {
    /// By the votes' own vectors, which are of length one; `None` unless two have one.
    pub fn between(votes: &[Vote<'_>]) -> Option<Self> {
        let with = votes.iter().filter(|vote| vote.vector.is_some());
        let cosine = |a: usize, b: usize| match (votes[a].vector, votes[b].vector) {
            (Some(a), Some(b)) => a
                .iter()
                .zip(b)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum(),
            _ => 0.0,
        };
        (with.count() > 1).then(|| Self::of(votes.len(), NEAR, cosine))
    }

    /// `cosine(a, b)` for each pair of `count` votes, by their index; of the two orders, the lower counts. What is
    /// not a number counts as 0. At or above `least`, two texts say the same if their letters do not contradict.
    pub fn of(count: usize, least: f64, cosine: impl Fn(usize, usize) -> f64) -> Self {
        let mut cosines = vec![0.0; count * count];
        for a in 0..count {
            for b in 0..count {
                let both = [cosine(a, b), cosine(b, a)].map(|c| if c.is_nan() { 0.0 } else { c });
                cosines[a * count + b] = both[0].min(both[1]);
            }
        }
        Self {
            count,
            cosines,
            least,
        }
    }

    /// How far the pair is beyond the least, from 0; `None` below it or for an unknown vote.
    fn joins(&self, a: usize, b: usize) -> Option<f64> {
        if a >= self.count || b >= self.count {
            return None;
        }
        let cosine = self.cosines.get(a * self.count + b)?;
        (*cosine >= self.least).then_some(cosine - self.least)
    }
}

/// Whether two texts say the same by their words alone.
pub(super) fn same_words(a: &Signature, b: &Signature) -> bool {
    lexical(a, b).is_some()
}

/// How alike two texts are that say the same, 0..=1; `None` if they do not.
fn lexical(a: &Signature, b: &Signature) -> Option<f64> {
    if a.stems.len().min(b.stems.len()) < JUDGEABLE {
        return None;
    }
    // Nearly the same text with a number more or less says something else.
    if a.numbers != b.numbers {
        return None;
    }
    let words = f1(&a.stems, &b.stems);
    if words < SAME_WORDS || f1(&a.pairs, &b.pairs) < SAME_PAIRS || contradicts(a, b) {
        return None;
    }
    Some(words)
}

/// Clusters of the texts, as indices; each text is in one. `votes` are those that gave it, for the vectors.
pub(super) fn clusters(
    texts: &[(&Signature, &[usize])],
    vectors: Option<&Similarity>,
) -> Vec<Vec<usize>> {
    let count = texts.len().min(MOST);
    let mut near = vec![None; count * count];
    for a in 0..count {
        for b in 0..a {
            let how = linked(texts[a], texts[b], vectors);
            (near[a * count + b], near[b * count + a]) = (how, how);
        }
    }
    let mut clusters: Vec<Vec<usize>> = (0..texts.len()).map(|text| vec![text]).collect();
    loop {
        let mut best: Option<(f64, usize, usize)> = None;
        for a in 0..clusters.len() {
            for b in a + 1..clusters.len() {
                let how = farthest(&clusters[a], &clusters[b], count, &near);
                if let Some(how) = how
                    && best.is_none_or(|(most, ..)| how > most)
                {
                    best = Some((how, a, b));
                }
            }
        }
        let Some((_, a, b)) = best else {
            return clusters;
        };
        let joined = clusters.remove(b);
        clusters[a].extend(joined);
    }
}

fn farthest(a: &[usize], b: &[usize], count: usize, near: &[Option<f64>]) -> Option<f64> {
    let mut least = f64::INFINITY;
    for x in a {
        for y in b {
            if *x >= count || *y >= count {
                return None;
            }
            least = least.min(near[x * count + y]?);
        }
    }
    Some(least)
}

fn linked(
    (a, voters_a): (&Signature, &[usize]),
    (b, voters_b): (&Signature, &[usize]),
    vectors: Option<&Similarity>,
) -> Option<f64> {
    if let Some(words) = lexical(a, b) {
        return Some(1.0 + words);
    }
    let pairs = voters_a
        .iter()
        .flat_map(|a| voters_b.iter().map(move |b| (*a, *b)));
    let near = pairs
        .filter_map(|(a, b)| vectors?.joins(a, b))
        .reduce(f64::max)?;
    if f1(&a.stems, &b.stems) >= OTHER_WORDS || f1(&a.pairs, &b.pairs) > OTHER_PAIRS {
        return None;
    }
    let short = a.stems.len().min(b.stems.len()) < SHORT;
    if short && shared(&a.stems, &b.stems) == 0 || contradicts(a, b) {
        return None;
    }
    Some(near.min(1.0))
}

/// How many elements two sorted bags share.
fn shared(a: &[u64], b: &[u64]) -> usize {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut count = 0;
    while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
        match x.cmp(y) {
            std::cmp::Ordering::Less => {
                a.next();
            }
            std::cmp::Ordering::Greater => {
                b.next();
            }
            std::cmp::Ordering::Equal => {
                count += 1;
                a.next();
                b.next();
            }
        }
    }
    count
}

/// Harmonic mean of precision and recall of one bag against another, as in SQuAD's evaluation, 0..=1.
fn f1(a: &[u64], b: &[u64]) -> f64 {
    let total = a.len() + b.len();
    if total == 0 {
        0.0
    } else {
        2.0 * shared(a, b) as f64 / total as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAIN: &str = "Rain forms when moist air rises and cools, so that the water vapour in it condenses around tiny \
        particles of dust into droplets, which grow by collision until they are heavy enough to fall to the ground; \
        where the air below is dry, many of them evaporate on their way and never arrive.";

    #[test]
    fn long_texts_match_by_their_words_and_short_ones_do_not() {
        let same = |a: &str, b: &str| same_words(&Signature::of(a), &Signature::of(b));
        let other = RAIN.replace("moist", "humid").replace("until", "till");
        assert!(same(RAIN, &other));
        assert!(!same(RAIN, &RAIN.replace("rises", "falls")));
        assert!(!same(RAIN, &RAIN.replace("heavy", "not heavy")));
        assert!(!same("Moist air rises", "Moist air rises."));
        let mut words: Vec<&str> = RAIN.split(' ').collect();
        words.reverse();
        assert!(!same(RAIN, &words.join(" ")));
    }

    #[test]
    fn vectors_join_what_does_not_contradict() {
        let texts = [
            "The shop opens at nine.",
            "Customers are let in from 9.",
            "The shop opens at ten.",
            "Shop's shut",
        ];
        let signatures = texts.map(Signature::of);
        let votes = [[0], [1], [2], [3]];
        let given: Vec<(&Signature, &[usize])> = signatures
            .iter()
            .zip(votes.iter().map(|v| v.as_slice()))
            .collect();
        let near = Similarity::of(4, 0.7, |_, _| 0.9);
        let clusters = clusters(&given, Some(&near));
        assert!(
            clusters.contains(&vec![0, 1]) || clusters.contains(&vec![0, 1, 3]),
            "{clusters:?}"
        );
        assert!(
            !clusters
                .iter()
                .any(|c| c.contains(&2) && (c.contains(&0) || c.contains(&1)))
        );
        assert_eq!(super::clusters(&given, None).len(), 4);
    }

    #[test]
    fn vectors_join_no_copy_in_which_a_word_was_exchanged_or_two_changed_places() {
        let joined = |a: &str, b: &str| {
            let (x, y) = (Signature::of(a), Signature::of(b));
            let near = Similarity::of(2, 0.7, |_, _| 0.99);
            linked((&x, &[0]), (&y, &[1]), Some(&near)).is_some()
        };
        assert!(!joined("The dog bit the man.", "The man bit the dog."));
        assert!(!joined("The whale is a mammal.", "The whale is a fish."));
        assert!(!joined(
            "The king was killed by his brother.",
            "His brother was killed by the king."
        ));
        assert!(joined(
            "The meeting was postponed because the manager was ill.",
            "Since the manager was sick, the meeting was put off.",
        ));
    }

    #[test]
    fn votes_are_near_by_their_own_vectors() {
        let (east, north) = ([1.0_f32, 0.0], [0.0, 1.0]);
        let vote = |order, vector| Vote {
            text: "",
            quality: 0.5,
            family: None,
            vector,
            order,
        };
        let votes = [
            vote(0, Some(&east[..])),
            vote(1, None),
            vote(2, Some(&east)),
            vote(3, Some(&north)),
        ];
        let near = Similarity::between(&votes).unwrap();
        assert!(near.joins(0, 2).is_some());
        for (a, b) in [(0, 1), (0, 3), (1, 2)] {
            assert_eq!(near.joins(a, b), None);
        }
        assert_eq!(Similarity::between(&votes[..2]), None);
    }
}
