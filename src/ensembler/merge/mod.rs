//! Several answers become one: pure functions from votes to a choice.
//!
//! - [`normalise`]: when two answers say the same.
//! - [`first`], [`plurality`], [`weighted`], [`best`]: choose one of the answers.
//! - [`judge`], [`synthesize`]: the prompts with which a further model chooses or writes the answer.

pub mod best;
pub mod first;
pub mod judge;
pub mod normalise;
pub mod plurality;
pub mod synthesize;
pub mod weighted;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::confidence;
use normalise::Normal;

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
    /// The answer of the member with the highest learned quality.
    Best,
    /// A further model chooses.
    Judge,
    /// A further model writes one answer out of all.
    Synthesize,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Self; 6] = [
        Self::First,
        Self::Plurality,
        Self::Weighted,
        Self::Best,
        Self::Judge,
        Self::Synthesize,
    ];

    /// Its name in configuration, on the wire and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Plurality => "plurality",
            Self::Weighted => "weighted",
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

/// Merges what has arrived. `None` without votes, and for the strategies that ask a further model.
pub fn merge(strategy: Strategy, votes: &[Vote<'_>]) -> Option<Merged> {
    match strategy {
        Strategy::First => first::merge(votes),
        Strategy::Plurality => plurality::merge(votes),
        Strategy::Weighted => weighted::merge(votes),
        Strategy::Best => best::merge(votes),
        Strategy::Judge | Strategy::Synthesize => None,
    }
}

/// Groups votes that say the same, each weighing its number; groups and members in order of arrival.
///
/// A later vote joins the first group whose earliest member it [matches](Normal::matches), so that
/// more votes never regroup earlier ones.
pub fn group(votes: &[Vote<'_>]) -> Vec<Group> {
    let mut arrival: Vec<usize> = (0..votes.len()).collect();
    arrival.sort_by_key(|&index| votes[index].order);
    let mut groups: Vec<(Normal, Group)> = Vec::new();
    for index in arrival {
        let normal = Normal::of(votes[index].text);
        match groups.iter_mut().find(|(first, _)| first.matches(&normal)) {
            Some((_, group)) => {
                group.members.push(index);
                group.weight += 1.0;
            }
            None => groups.push((
                normal,
                Group {
                    members: vec![index],
                    weight: 1.0,
                },
            )),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
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
pub fn chosen(votes: &[Vote<'_>], winner: usize) -> Option<Merged> {
    let mut groups = group(votes);
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
