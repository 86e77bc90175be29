//! Past ensembles, bounded: what the model of votes is fitted from.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{MAX_KINDS, MAX_MEMBERS, Round, Truth, UNKNOWN};

/// The most rounds kept.
pub const MAX_ROUNDS: usize = 8_192;
/// The longest name of a member or a kind, in bytes.
pub const MAX_NAME: usize = 256;

/// The last rounds of one ensemble, with the names its members and kinds of task are known by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    members: Vec<String>,
    kinds: Vec<String>,
    rounds: VecDeque<Round>,
    /// Rounds ever taken in.
    total: u64,
}

impl History {
    /// The index of a member, which is given one if there is room; else [`UNKNOWN`].
    pub fn member(&mut self, name: &str) -> u16 {
        intern(&mut self.members, name, MAX_MEMBERS)
    }

    /// The index of a kind of task, which is given one if there is room; else [`UNKNOWN`].
    pub fn kind(&mut self, name: &str) -> u16 {
        intern(&mut self.kinds, name, MAX_KINDS)
    }

    /// Takes a round in, forgetting the oldest beyond [`MAX_ROUNDS`]. Returns its number, by which its
    /// truth may follow later.
    pub fn push(&mut self, round: Round) -> Result<u64, String> {
        round.validate()?;
        self.known(&round)?;
        if self.rounds.len() >= MAX_ROUNDS {
            self.rounds.pop_front();
        }
        self.rounds.push_back(round);
        self.total += 1;
        Ok(self.total - 1)
    }

    /// Says what the right answer of a round was. `false` if the round is forgotten.
    pub fn mark(&mut self, number: u64, truth: Truth) -> bool {
        let first = self.total - self.rounds.len() as u64;
        let place = number
            .checked_sub(first)
            .and_then(|i| usize::try_from(i).ok());
        match place.and_then(|i| self.rounds.get_mut(i)) {
            Some(round) => {
                round.truth = truth;
                true
            }
            None => false,
        }
    }

    /// The rounds kept, oldest first.
    pub fn rounds(&self) -> impl Iterator<Item = &Round> {
        self.rounds.iter()
    }

    /// How many rounds are kept.
    pub fn len(&self) -> usize {
        self.rounds.len()
    }

    /// Whether there is no round.
    pub fn is_empty(&self) -> bool {
        self.rounds.is_empty()
    }

    /// The names of the members, by index.
    pub fn members(&self) -> &[String] {
        &self.members
    }

    /// The names of the kinds of task, by index.
    pub fn kinds(&self) -> &[String] {
        &self.kinds
    }

    /// Whether this can have come from rounds taken in.
    pub fn validate(&self) -> Result<(), String> {
        names("members", &self.members, MAX_MEMBERS)?;
        names("kinds", &self.kinds, MAX_KINDS)?;
        if self.rounds.len() > MAX_ROUNDS || (self.rounds.len() as u64) > self.total {
            return Err(format!("{} rounds", self.rounds.len()));
        }
        for round in &self.rounds {
            round.validate()?;
            self.known(round)?;
        }
        Ok(())
    }

    fn known(&self, round: &Round) -> Result<(), String> {
        let named =
            |index: u16, names: &[String]| index == UNKNOWN || usize::from(index) < names.len();
        let voters = round.ballots.iter().all(|b| named(b.member, &self.members));
        if voters && round.kind.is_none_or(|kind| named(kind, &self.kinds)) {
            Ok(())
        } else {
            Err("a round of members or of a kind that have no name".to_owned())
        }
    }
}

fn intern(names: &mut Vec<String>, name: &str, most: usize) -> u16 {
    let place = names.iter().position(|n| n == name).or_else(|| {
        let room = names.len() < most && name.len() <= MAX_NAME;
        room.then(|| {
            names.push(name.to_owned());
            names.len() - 1
        })
    });
    place.and_then(|i| u16::try_from(i).ok()).unwrap_or(UNKNOWN)
}

pub(super) fn names(what: &str, names: &[String], most: usize) -> Result<(), String> {
    if names.len() > most || names.iter().any(|name| name.len() > MAX_NAME) {
        return Err(format!("too many or too long names of {what}"));
    }
    for (i, name) in names.iter().enumerate() {
        if names.iter().take(i).any(|other| other == name) {
            return Err(format!("{what}: '{name}' twice"));
        }
    }
    Ok(())
}
