//! What was heard, as votes and as a round to learn from.

use std::collections::HashMap;

use super::{Heard, Steering, name, quality};
use crate::ensembler::merge::compare::{self, Form, Similarity};
use crate::ensembler::merge::{Group, Vote};
use crate::learner::{Seen, Setup};
use crate::learning::votes::{Ballot, Posterior, Round, Said, Truth};
use crate::query::Query;
use crate::router::EnsemblePlan;

impl Steering<'_> {
    /// The votes that count, with their places among those heard.
    pub fn votes<'b>(&'b self, heard: &[Heard<'b>]) -> (Vec<Vote<'b>>, Vec<usize>) {
        let counted = heard.iter().enumerate().filter_map(|(order, heard)| {
            let text = heard.text?;
            compare::declined(text, &self.form)
                .is_none()
                .then_some((order, heard, text))
        });
        let mut votes: Vec<(Vote<'b>, usize)> = counted
            .map(|(order, heard, text)| (vote(self.plan, heard, text, order), order))
            .collect();
        if votes.is_empty() {
            // Nobody gave an answer: then what they said instead is all there is.
            votes = heard
                .iter()
                .enumerate()
                .filter(|(_, heard)| heard.speaks)
                .map(|(order, heard)| {
                    let text = heard.text.unwrap_or_default();
                    (vote(self.plan, heard, text, order), order)
                })
                .collect();
        }
        votes.into_iter().unzip()
    }

    /// Whether the sentence vector of an answer is of use: for prose, in an ensemble that wants them.
    pub fn wants_vector(&self, text: &str) -> bool {
        self.plan.vectors && compare::is_prose(text, &self.form)
    }

    /// Votes that say the same.
    pub fn group(&self, votes: &[Vote<'_>]) -> Vec<Group> {
        compare::group(votes, &self.form, Similarity::between(votes).as_ref())
    }

    /// What was heard as a round of votes; the group of each that counts.
    pub fn round(&self, heard: &[Heard<'_>]) -> (Round, HashMap<usize, u8>) {
        let (votes, orders) = self.votes(heard);
        let counted = votes
            .iter()
            .any(|vote| compare::declined(vote.text, &self.form).is_none());
        let mut groups = HashMap::new();
        if counted {
            for (number, group) in (0u8..=254).zip(self.group(&votes)) {
                for vote in group.members {
                    groups.insert(heard[orders[vote]].place, number);
                }
            }
        }
        let ballots = heard
            .iter()
            .map(|one| Ballot {
                member: self.model.member(name(self.plan, one.place)),
                said: said(groups.get(&one.place).copied(), one.tokens),
            })
            .collect();
        let round = Round {
            kind: self.label.map(|label| self.model.kind(label)),
            ballots,
            options: self.options(),
            prompt_tokens: Some(self.prompt_tokens),
            truth: Truth::Unknown,
        };
        (round, groups)
    }

    fn options(&self) -> Option<u8> {
        match &self.form {
            Form::Letter(options) => Some(options.count()),
            _ => None,
        }
    }

    /// How likely each group is right, by what was learned.
    pub fn posterior(&self, round: &Round) -> Posterior {
        if self.setup.stepwise {
            self.model.posterior_when_asked(round)
        } else {
            self.model.posterior(round)
        }
    }

    /// Whether the posterior rests on experience.
    pub fn is_learned(&self) -> bool {
        self.is_learned
    }

    /// What is to be learned from.
    pub fn seen(&self, query: &Query, heard: &[Heard<'_>], groups: &HashMap<usize, u8>) -> Seen {
        Seen {
            ensemble: self.plan.key.clone(),
            decision: query.id.clone(),
            kind: self.label.map(str::to_owned),
            ballots: heard
                .iter()
                .map(|one| {
                    let said = said(groups.get(&one.place).copied(), one.tokens);
                    (name(self.plan, one.place).to_owned(), said)
                })
                .collect(),
            options: self.options(),
            prompt_tokens: self.prompt_tokens,
            input_tokens: mean(heard.iter().filter_map(|one| one.input)),
            truth: Truth::Unknown,
        }
    }

    /// How the ensemble is set up, for the learner.
    pub fn setup(&self) -> Setup {
        self.setup.clone()
    }
}

fn mean(counts: impl Iterator<Item = u32>) -> Option<f32> {
    let (sum, n) = counts.fold((0.0, 0.0), |(sum, n), count| (sum + count as f32, n + 1.0));
    (n > 0.0).then_some(sum / n)
}

fn said(group: Option<u8>, tokens: Option<u32>) -> Said {
    match group {
        Some(cluster) => Said::Answer {
            cluster,
            tokens: tokens.map(|tokens| tokens as f32),
        },
        None => Said::Nothing,
    }
}

fn vote<'b>(plan: &'b EnsemblePlan, heard: &Heard<'b>, text: &'b str, order: usize) -> Vote<'b> {
    let candidate = plan.members[heard.place].candidates.first();
    Vote {
        text,
        quality: quality(plan, heard.place),
        vector: heard.vector,
        family: candidate.and_then(|candidate| candidate.family.as_deref()),
        order,
    }
}
