//! The answer with most evidence, each vote counting by its member's learned quality.
//!
//! Among independent voters who choose one of K answers and are right with probability p, the optimal rule
//! weighs each vote `ln(p (K - 1) / (1 - p))`: Nitzan and Paroush, "Optimal decision rules in uncertain
//! dichotomous choice situations", 1982, for K = 2; errors spread evenly over the rest for more.

use super::compare::{self, Form, Similarity};
use super::{Group, Merged, Vote, leading, summed_quality};
use crate::ensembler::confidence;

/// No member is trusted beyond this, or one alone could outvote any number.
const MOST_TRUST: f64 = 0.99;

/// How far above a guess the least trusted member counts, so that its vote still breaks a tie.
const ABOVE_GUESS: f64 = 1e-6;

/// Chooses the group of highest weight; of several, the one of higher summed quality, then the earliest.
/// Its text is the one that most of it gave. The confidence is the posterior of the group among
/// all that were given. `None` without votes.
pub fn merge(votes: &[Vote<'_>], form: &Form) -> Option<Merged> {
    let mut groups = compare::group(votes, form, Similarity::between(votes).as_ref());
    let answers = groups
        .iter()
        .filter(|group| group.weight > 0.0)
        .count()
        .max(2);
    // Who declined to answer weighs nothing already.
    for group in groups.iter_mut().filter(|group| group.weight > 0.0) {
        group.weight = group
            .members
            .iter()
            .map(|&member| weight(votes[member].quality(), answers) / relatives(votes, member))
            .sum();
    }
    let leader = leading(&groups, |group| {
        (group.weight, summed_quality(votes, group))
    })?;
    groups[..=leader].rotate_right(1);
    let winner = compare::spokesman(votes, &groups[0].members)?;
    let agreement = groups[0].members.len() as f64 / votes.len() as f64;
    let confidence = confidence::posterior(&weights(&groups), answers);
    Some(Merged {
        winner,
        groups,
        agreement,
        confidence,
    })
}

/// The evidence of one vote among `answers` (at least 2) plausible ones, at least 0: who is no better than
/// a guess is not held to be an oracle of the opposite.
pub fn weight(quality: f64, answers: usize) -> f64 {
    let k = answers.max(2) as f64;
    let p = quality.max(1.0 / k + ABOVE_GUESS).min(MOST_TRUST);
    (p * (k - 1.0) / (1.0 - p)).ln().max(0.0)
}

/// How much the errors of one family are taken to go together.
const KINSHIP: f64 = 0.5;

/// By what a vote's weight is divided: `1 + ρ (m - 1)` for one of `m` voters of a family whose errors
/// correlate by ρ, the design effect of cluster samples (Kish, "Survey Sampling", 1965).
fn relatives(votes: &[Vote<'_>], member: usize) -> f64 {
    let Some(family) = votes[member].family else {
        return 1.0;
    };
    let kin = votes
        .iter()
        .filter(|vote| vote.family == Some(family))
        .count();
    1.0 + KINSHIP * (kin as f64 - 1.0)
}

fn weights(groups: &[Group]) -> Vec<f64> {
    groups.iter().map(|group| group.weight).collect()
}
