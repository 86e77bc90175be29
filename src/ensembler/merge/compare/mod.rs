//! When several answers say the same.
//!
//! Each answer is read in the [`Form`] its question asks for: the letter of a choice, a number by value, JSON by
//! structure, a program by its tokens. Free prose that is not equal so far may still say the same if it shares most
//! of its words, or if the caller's sentence vectors are near; but never if the two differ in a fact (numbers, names,
//! negations, dates, units, opposite words). Prefer to tell two equal answers apart than to take two different ones
//! for one: a group too many costs confidence, a false one costs truth.
//!
//! Refusals and abstentions are no votes for an answer: they weigh nothing as long as anyone answers.

pub mod checks;
mod choice;
mod cluster;
pub mod code;
mod contradiction;
mod exact;
mod form;
pub mod json;
mod latex;
mod layout;
mod literal;
mod marked;
mod number_words;
mod quantity;
mod reading;
mod refusal;
pub mod schema;
mod signature;
mod stated;
mod units;
mod vocabulary;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use choice::Options;
pub use cluster::Similarity;
pub use form::Form;
pub use refusal::Declined;
pub use units::Unit;

use super::{Group, Vote};
use reading::{Key, Reading};
use signature::Signature;

/// Shorter prose, in bytes, has too few words to be compared by them.
const PROSE: usize = 100;

/// Whether two answers say the same, without vectors.
///
/// Reflexive and symmetric; an equivalence for all but long prose, which is compared by likeness.
pub fn same(a: &str, b: &str, form: &Form) -> bool {
    let (x, y) = (Reading::of(a, form), Reading::of(b, form));
    if x.key == y.key {
        return true;
    }
    let long = |reading: &Reading, text: &str| reading.prose && text.len() >= PROSE;
    long(&x, a) && long(&y, b) && cluster::same_words(&Signature::of(a), &Signature::of(b))
}

/// Whether an answer is the reference: the same letters, or the same in this form. Prose must be equal but for
/// layout. What declines matches only its own letters.
pub fn matches(reference: &str, answer: &str, form: &Form) -> bool {
    if reference.trim() == answer.trim() && *form != Form::Literal || reference == answer {
        return true;
    }
    let said = Reading::of(answer, form).key;
    !matches!(said, Key::Declined(_)) && said == Reading::of(reference, form).key
}

/// How an answer declines, if it gives none in this form.
pub fn declined(answer: &str, form: &Form) -> Option<Declined> {
    // Most answers do not even begin like it, and need no reading.
    refusal::declined(answer)?;
    match Reading::of(answer, form).key {
        Key::Declined(how) => Some(how),
        _ => None,
    }
}

/// Whether an answer is prose, which other prose may say in other words.
pub fn is_prose(answer: &str, form: &Form) -> bool {
    Reading::of(answer, form).prose
}

/// Whether the answer keeps to the form: a letter for a choice, a number for a number. Free answers always do.
pub fn in_form(answer: &str, form: &Form) -> bool {
    let key = Reading::of(answer, form).key;
    match form {
        Form::Letter(_) => matches!(key, Key::Letter(_)),
        Form::Number(_) => matches!(key, Key::Number(_)),
        Form::YesNo => matches!(key, Key::Truth(_)),
        Form::Json => matches!(key, Key::Json(_)),
        Form::Code => matches!(key, Key::Code(_)),
        Form::Free(_) | Form::Literal => true,
    }
}

/// The letter an answer chooses, in lower case; `None` if it chooses none or another form was asked for.
pub fn letter(answer: &str, form: &Form) -> Option<char> {
    match Reading::of(answer, form).key {
        Key::Letter(letter) => Some(letter),
        _ => None,
    }
}

/// The votes that give one and the same key.
struct Same {
    key: Key,
    /// Indices into the votes.
    members: Vec<usize>,
    /// May be joined with other prose.
    prose: bool,
}

fn collapse(votes: &[Vote<'_>], form: &Form, vectors: bool) -> Vec<Same> {
    let mut same: BTreeMap<Key, (Vec<usize>, bool)> = BTreeMap::new();
    for (index, vote) in votes.iter().enumerate() {
        let reading = Reading::of(vote.text, form);
        let prose = reading.prose && (vectors || vote.text.len() >= PROSE);
        let entry = same.entry(reading.key).or_default();
        entry.0.push(index);
        entry.1 |= prose;
    }
    let same = same.into_iter();
    same.map(|(key, (members, prose))| Same {
        key,
        members,
        prose,
    })
    .collect()
}

/// Groups votes that say the same, each weighing its number; groups and members in order of arrival.
///
/// Which votes are together does not depend on the order of the votes. Those that declined are in a group for
/// each way of declining, which weighs 0 unless nobody answered. `vectors` are indexed as the votes are.
pub fn group(votes: &[Vote<'_>], form: &Form, vectors: Option<&Similarity>) -> Vec<Group> {
    let same = collapse(votes, form, vectors.is_some());
    let answered = same
        .iter()
        .any(|same| !matches!(same.key, Key::Declined(_)));
    let prose: Vec<&Same> = same.iter().filter(|same| same.prose).collect();
    let mut groups: Vec<Group> = Vec::new();
    if prose.len() > 1 {
        let signatures: Vec<Signature> = prose
            .iter()
            .map(|same| {
                // Of the texts with one key, the first in order of letters speaks for all.
                let texts = same.members.iter().map(|&member| votes[member].text);
                Signature::of(texts.min().unwrap_or_default())
            })
            .collect();
        let texts: Vec<(&Signature, &[usize])> = signatures
            .iter()
            .zip(&prose)
            .map(|(signature, same)| (signature, same.members.as_slice()))
            .collect();
        for cluster in cluster::clusters(&texts, vectors) {
            let members = cluster
                .iter()
                .flat_map(|&text| prose[text].members.iter().copied());
            groups.push(group_of(members.collect(), true));
        }
    }
    for same in same.iter().filter(|same| !same.prose || prose.len() < 2) {
        let counts = !answered || !matches!(same.key, Key::Declined(_));
        groups.push(group_of(same.members.clone(), counts));
    }
    for group in &mut groups {
        group.members.sort_by_key(|&member| votes[member].order);
    }
    groups.sort_by_key(|group| group.members.first().map(|&member| votes[member].order));
    groups
}

fn group_of(members: Vec<usize>, counts: bool) -> Group {
    let weight = if counts { members.len() as f64 } else { 0.0 };
    Group { members, weight }
}

/// Who speaks for a group: of its members, one whose very letters most of them gave; of several, the one of highest
/// quality, then the earliest. The notation that most chose is the one that the question is likeliest to want.
/// `None` for a group without members.
pub fn spokesman(votes: &[Vote<'_>], members: &[usize]) -> Option<usize> {
    let given = |text: &str| members.iter().filter(|&&m| votes[m].text == text).count();
    members.iter().copied().max_by(|&a, &b| {
        let (x, y) = (&votes[a], &votes[b]);
        given(x.text)
            .cmp(&given(y.text))
            .then(x.quality().total_cmp(&y.quality()))
            .then(y.order.cmp(&x.order))
    })
}

/// Whether no further `outstanding` votes can change which group is the largest. A tie does not decide. Never true
/// without an answer.
///
/// Votes with one key stay together whatever comes; prose may be joined or parted by what comes, so all other
/// prose counts as one rival. `vectors`: whether they will be used to group.
pub fn decided(votes: &[Vote<'_>], form: &Form, vectors: bool, outstanding: usize) -> bool {
    let mut same = collapse(votes, form, vectors);
    same.retain(|same| !matches!(same.key, Key::Declined(_)));
    let Some(leader) = (0..same.len()).max_by_key(|&at| same[at].members.len()) else {
        return false;
    };
    let leader = same.swap_remove(leader);
    let loose: usize = same
        .iter()
        .filter(|same| same.prose)
        .map(|same| same.members.len())
        .sum();
    let firm = same
        .iter()
        .filter(|same| !same.prose)
        .map(|same| same.members.len())
        .max();
    leader.members.len() > loose.max(firm.unwrap_or(0)) + outstanding
}
