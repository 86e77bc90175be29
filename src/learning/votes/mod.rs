//! What the votes of several models are worth together: a winner, how likely it is right, and what one
//! more vote would add.
//!
//! - [`history`]: past ensembles, bounded.
//! - [`model`]: what is learned from them ([`fit::fit`]) or assumed without any ([`Model::prior`]).
//! - [`one_coin`]: the truth behind votes nobody has marked.
//! - [`logit`]: the score of each answer; [`calibration`]: what a score has meant.
//! - [`gain`]: whom to ask next, and when to stop.
//! - [`in_reach`]: the order of a cascade.
//! - [`target`]: what an answer must be worth to meet a cost or a quality.

pub mod calibration;
mod climb;
mod descent;
pub mod fit;
pub mod gain;
pub mod history;
pub mod logit;
pub mod model;
pub mod one_coin;
pub mod target;

#[cfg(test)]
mod tests;

pub use climb::in_reach;
pub use fit::Settings;
pub use fit::fit;
pub use gain::{Candidate, Next, Plan, Stop};
pub use history::History;
pub use model::{Model, Posterior};
pub use target::{Price, Replay, Target};

use serde::{Deserialize, Serialize};

/// The most members of one ensemble that are told apart.
pub const MAX_MEMBERS: usize = 32;
/// The most kinds of task that are told apart.
pub const MAX_KINDS: usize = 64;
/// The most ballots of one round.
pub const MAX_BALLOTS: usize = 32;
/// A member or a kind that has no index: a vote of its own, of assumed quality.
pub const UNKNOWN: u16 = u16::MAX;

/// What a member said.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Said {
    /// An answer.
    Answer {
        /// Which of the distinct answers of this round; the numbers mean nothing else.
        cluster: u8,
        /// How long it was, in output tokens.
        tokens: Option<f32>,
    },
    /// It answered, but nothing that could be counted.
    Nothing,
}

/// One member's vote.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ballot {
    /// The member's index in the history or the model that reads this, or [`UNKNOWN`].
    pub member: u16,
    /// What it said.
    pub said: Said,
}

/// What is known of the right answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Truth {
    /// Nothing.
    #[default]
    Unknown,
    /// It is this cluster.
    Cluster(u8),
    /// No member found it.
    NoneOfThem,
}

/// One question put to several members: a past one, or the one at hand with the votes so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// The kind of task: an index in the history or the model that reads this, if known.
    pub kind: Option<u16>,
    /// The votes in order of arrival; a member appears once.
    pub ballots: Vec<Ballot>,
    /// How many answers were offered, of a multiple choice.
    pub options: Option<u8>,
    /// How long the question was, in tokens.
    pub prompt_tokens: Option<f32>,
    /// The right answer.
    pub truth: Truth,
}

impl Round {
    /// Whether this is a round at all: sizes within bounds, lengths finite and not negative, no member
    /// twice.
    pub fn validate(&self) -> Result<(), String> {
        if self.ballots.len() > MAX_BALLOTS {
            return Err(format!("{} ballots in a round", self.ballots.len()));
        }
        let mut seen = 0u64;
        for ballot in &self.ballots {
            if ballot.member != UNKNOWN {
                if usize::from(ballot.member) >= MAX_MEMBERS {
                    return Err(format!("member {} is out of range", ballot.member));
                }
                let bit = 1u64 << ballot.member;
                if seen & bit != 0 {
                    return Err(format!("member {} votes twice", ballot.member));
                }
                seen |= bit;
            }
            if let Said::Answer { tokens, .. } = ballot.said {
                length(tokens)?;
            }
        }
        if self
            .kind
            .is_some_and(|kind| kind != UNKNOWN && usize::from(kind) >= MAX_KINDS)
        {
            return Err("a kind of task out of range".to_owned());
        }
        length(self.prompt_tokens)
    }
}

fn length(tokens: Option<f32>) -> Result<(), String> {
    match tokens {
        Some(tokens) if !(tokens.is_finite() && tokens >= 0.0) => {
            Err(format!("a length of {tokens} tokens"))
        }
        _ => Ok(()),
    }
}

/// A vote as the arithmetic sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vote {
    /// Index of the member, `None` when unknown.
    member: Option<usize>,
    /// Index among the distinct answers, in order of their first vote.
    cluster: usize,
    /// The answer's length against the member's usual one for the kind, in standard deviations.
    length: Option<f64>,
}

/// A round as the arithmetic sees it: answers numbered in order of their first vote.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    kind: Option<usize>,
    votes: Vec<Vote>,
    /// Members who said nothing.
    silent: Vec<Option<usize>>,
    /// How many distinct answers there are.
    answers: usize,
    /// Mean of the known lengths, in standard deviations.
    length: f64,
    /// The question's length, in standard deviations.
    prompt: f64,
}

impl Case {
    /// The case as it was when only these of its ballots were in: votes first, then the silent.
    fn part(&self, keep: impl Fn(usize) -> bool) -> Self {
        let mut part = Self {
            kind: self.kind,
            prompt: self.prompt,
            ..Self::default()
        };
        let mut numbers = [usize::MAX; MAX_BALLOTS];
        for (_, vote) in self.votes.iter().enumerate().filter(|(i, _)| keep(*i)) {
            if let Some(number) = numbers.get_mut(vote.cluster) {
                if *number == usize::MAX {
                    *number = part.answers;
                    part.answers += 1;
                }
                part.votes.push(Vote {
                    cluster: *number,
                    ..*vote
                });
            }
        }
        let votes = self.votes.len();
        let silent = self
            .silent
            .iter()
            .enumerate()
            .filter(|(i, _)| keep(votes + i));
        part.silent.extend(silent.map(|(_, member)| *member));
        part.measure();
        part
    }

    /// Where each answer of a part of this is found in this.
    fn places(&self, part: &Self) -> Vec<usize> {
        let mut places = vec![usize::MAX; part.answers];
        for vote in &part.votes {
            let own = self.votes.iter().find(|v| v.member == vote.member);
            if let (Some(place), Some(own)) = (places.get_mut(vote.cluster), own) {
                *place = own.cluster;
            }
        }
        places
    }

    fn measure(&mut self) {
        let known = self.votes.iter().filter_map(|vote| vote.length);
        let (sum, n) = known.fold((0.0, 0.0), |(sum, n), z| (sum + z, n + 1.0));
        self.length = if n > 0.0 { sum / n } else { 0.0 };
    }
}
