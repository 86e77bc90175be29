//! Several answers become one: pure functions from votes to a choice.
//!
//! - [`compare`]: when two answers say the same.
//! - [`first`], [`plurality`], [`weighted`], [`best`]: choose one of the answers.
//! - [`judge`], [`synthesize`]: the prompts with which a further model chooses or writes the answer.

pub mod best;
pub mod compare;
pub mod first;
pub mod judge;
pub mod plurality;
pub mod synthesize;
pub mod weighted;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::confidence;
use compare::{Form, Similarity};

/// How several answers become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// Whoever answers first.
    First,
    /// The answer most members gave.
    #[default]
    Plurality,
    /// The answer with most evidence, a member's vote counting by its learned quality.
    Weighted,
    /// The likeliest answer by weights fitted to what was learned of the members' votes.
    Fitted,
    /// As `fitted`, but members are asked one after the other, and only while the next is worth its price.
    Adaptive,
    /// As `adaptive`, from the cheapest member up.
    Cascade,
    /// The answer of the member with the highest learned quality.
    Best,
    /// A further model chooses.
    Judge,
    /// A further model writes one answer out of all.
    Synthesize,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Self; 9] = [
        Self::First,
        Self::Plurality,
        Self::Weighted,
        Self::Fitted,
        Self::Adaptive,
        Self::Cascade,
        Self::Best,
        Self::Judge,
        Self::Synthesize,
    ];

    /// How many of `members` must have answered, unless somebody says otherwise.
    pub fn quorum(self, members: usize) -> usize {
        match self {
            Self::First | Self::Adaptive | Self::Cascade => 1,
            _ => members / 2 + 1,
        }
    }

    /// How many of `members` are asked at first, unless somebody says otherwise.
    pub fn wave(self, members: usize) -> usize {
        match self {
            Self::Adaptive | Self::Cascade => 1,
            _ => members,
        }
    }

    /// Whether the weights learned of past votes decide.
    pub fn is_fitted(self) -> bool {
        matches!(self, Self::Fitted | Self::Adaptive | Self::Cascade)
    }

    /// Its name in configuration, on the wire and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Plurality => "plurality",
            Self::Weighted => "weighted",
            Self::Fitted => "fitted",
            Self::Adaptive => "adaptive",
            Self::Cascade => "cascade",
            Self::Best => "best",
            Self::Judge => "judge",
            Self::Synthesize => "synthesize",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Strategy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|strategy| strategy.name() == text)
            .ok_or_else(|| {
                let names = Self::ALL.map(Self::name);
                format!("'{text}' is no merge strategy: {}", names.join(", "))
            })
    }
}

/// One member's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vote<'a> {
    /// What it says.
    pub text: &'a str,
    /// Learned mean quality of the member, 0..=1; what is not a number counts as 0.
    pub quality: f64,
    /// Models of one family make the same mistakes, so their votes count less together. `None`: a family of
    /// its own.
    pub family: Option<&'a str>,
    /// Its sentence vector, of length one, where there are any.
    pub vector: Option<&'a [f32]>,
    /// Its place in the order of arrival; distinct among the votes of one question.
    pub order: usize,
}

impl Vote<'_> {
    fn quality(&self) -> f64 {
        if self.quality.is_nan() {
            0.0
        } else {
            self.quality.clamp(0.0, 1.0)
        }
    }
}

/// Votes that say the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Indices into the votes, in order of arrival; never empty.
    pub members: Vec<usize>,
    /// What they weigh together: their number, or what the strategy says. At least 0.
    pub weight: f64,
}

/// What the votes come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// Index of the vote whose text is the answer.
    pub winner: usize,
    /// Votes that say the same, the group of the winner first, the others in order of arrival.
    pub groups: Vec<Group>,
    /// Share of the votes in the winner's group, in (0, 1].
    pub agreement: f64,
    /// How sure we may be that the answer is right, in (0, 1).
    pub confidence: f64,
}

/// Merges what has arrived, answers to a question that asks for this form. `None` without votes, for the strategies
/// that need what was learned of the members, and for those that ask a further model.
pub fn merge(strategy: Strategy, votes: &[Vote<'_>], form: &Form) -> Option<Merged> {
    match strategy {
        Strategy::First => first::merge(votes, form),
        Strategy::Plurality => plurality::merge(votes, form),
        Strategy::Weighted => weighted::merge(votes, form),
        Strategy::Best => best::merge(votes, form),
        Strategy::Fitted
        | Strategy::Adaptive
        | Strategy::Cascade
        | Strategy::Judge
        | Strategy::Synthesize => None,
    }
}

/// The member of highest quality, of several the earliest. `members` are in order of arrival.
fn best_of(votes: &[Vote<'_>], members: &[usize]) -> Option<usize> {
    members.iter().copied().reduce(|best, next| {
        if votes[next].quality() > votes[best].quality() {
            next
        } else {
            best
        }
    })
}

/// The group whose key is greatest, of several the earliest.
fn leading(groups: &[Group], key: impl Fn(&Group) -> (f64, f64)) -> Option<usize> {
    (0..groups.len()).reduce(|best, next| {
        let (a, b) = (key(&groups[next]), key(&groups[best]));
        // Sums of the same numbers in another order differ in their last bits; those are no lead.
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + a.abs().max(b.abs()));
        let ahead = if close(a.0, b.0) {
            a.1 > b.1 && !close(a.1, b.1)
        } else {
            a.0 > b.0
        };
        if ahead { next } else { best }
    })
}

fn summed_quality(votes: &[Vote<'_>], group: &Group) -> f64 {
    group
        .members
        .iter()
        .map(|&member| votes[member].quality())
        .sum()
}

/// A choice made by other means than counting, a judge's for one: the votes only agree with it or not.
/// `winner` is an index into `votes`; `None` if there is no such vote.
pub fn chosen(votes: &[Vote<'_>], winner: usize, form: &Form) -> Option<Merged> {
    let mut groups = compare::group(votes, form, Similarity::between(votes).as_ref());
    let at = groups
        .iter()
        .position(|group| group.members.contains(&winner))?;
    groups[..=at].rotate_right(1);
    let count = groups[0].members.len();
    Some(Merged {
        winner,
        agreement: count as f64 / votes.len() as f64,
        confidence: confidence::of_agreement(count, votes.len()),
        groups,
    })
}
