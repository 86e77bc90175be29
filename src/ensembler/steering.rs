//! Whom an ensemble asks next, and when it stops: pure decisions over the votes so far.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::merge::compare::{self, Form, Similarity};
use super::merge::{Group, Strategy, Vote};
use crate::answer::Usage;
use crate::config::Aim;
use crate::learner::{Course, Seen, Setup};
use crate::learning::votes::{
    Ballot, Candidate, Model, Next, Plan, Posterior, Round, Said, Stop, Target, Truth,
};
use crate::provider::Price;
use crate::query::Query;
use crate::router::EnsemblePlan;

/// Calls that one more right answer is worth, at the members' mean price, where nobody said.
const WORTH_IN_CALLS: f64 = 100.0;
/// How many votes are looked ahead.
const DEPTH: usize = 2;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask these members, by their places in the plan.
    Ask(Vec<usize>),
    /// Wait for those who were asked.
    Wait,
    /// Ask no more, wait no more.
    Stop(Why),
}

/// Why an ensemble stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Everybody has been heard.
    Everybody,
    /// What is to come cannot change the outcome.
    Decided,
    /// The answer is sure enough.
    Confident,
    /// No further vote is worth its price.
    NotWorth,
}

impl Why {
    /// In words for the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Everybody => "everybody",
            Self::Decided => "decided",
            Self::Confident => "confident",
            Self::NotWorth => "not_worth_it",
        }
    }
}

/// A member's answer as far as steering sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard<'a> {
    /// Its place in the plan.
    pub place: usize,
    /// What it said; `None` for nothing that could be counted.
    pub text: Option<&'a str>,
    /// Output tokens, if counted.
    pub tokens: Option<u32>,
    /// Input tokens, likewise.
    pub input: Option<u32>,
    /// The sentence vector of the text, if there is one.
    pub vector: Option<&'a [f32]>,
}

/// How one ensemble is steered.
pub(super) struct Steering<'a> {
    plan: &'a EnsemblePlan,
    model: Cow<'a, Model>,
    is_learned: bool,
    course: Option<&'a Course>,
    label: Option<&'a str>,
    /// The form that the question asks for.
    pub form: Form,
    prompt_tokens: f32,
    setup: Setup,
}

impl<'a> Steering<'a> {
    /// Over a plan, with what was learned of its members.
    pub fn new(plan: &'a EnsemblePlan, query: &'a Query, course: Option<&'a Arc<Course>>) -> Self {
        let question = query.question().unwrap_or_default();
        let setup = setup(plan, course.and_then(|course| course.tuned));
        let model = match course {
            Some(course) => Cow::Borrowed(&course.model),
            None => {
                let declared: Vec<(&str, f64)> = (0..plan.members.len())
                    .map(|place| (name(plan, place), quality(plan, place)))
                    .collect();
                Cow::Owned(Model::prior(&declared))
            }
        };
        let mut steering = Self {
            form: Form::of(&question, query.response_format.as_ref()),
            prompt_tokens: plan.prompt_tokens as f32,
            label: query.label(),
            is_learned: course.is_some(),
            course: course.map(|course| &**course),
            plan,
            model,
            setup,
        };
        if steering.setup.plan.worth.is_nan() {
            let members = plan.members.len();
            let mean =
                (0..members).map(|at| steering.price(at)).sum::<f64>() / members.max(1) as f64;
            steering.setup.plan.worth = WORTH_IN_CALLS * mean;
        }
        steering
    }

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

    /// What to do, when of the members `open` may be asked, `asked` were, and `heard` answered; `failed` is how many
    /// of the asked failed.
    pub fn step(
        &self,
        open: &[usize],
        asked: &[usize],
        heard: &[Heard<'_>],
        failed: usize,
    ) -> Step {
        let outstanding = asked.len() - heard.len() - failed;
        let left: Vec<usize> = open
            .iter()
            .copied()
            .filter(|at| !asked.contains(at))
            .collect();
        if asked.is_empty() {
            return Step::Ask(self.first_wave(&left));
        }
        let enough = heard.len() >= self.plan.quorum && !self.plan.everyone;
        if enough && self.is_decided(open, asked, heard, outstanding + left.len()) {
            return Step::Stop(Why::Decided);
        }
        if outstanding > 0 {
            return Step::Wait;
        }
        if left.is_empty() {
            return Step::Stop(Why::Everybody);
        }
        if !self.setup.stepwise || !enough {
            // Without weights that say who, the next in the plan's order.
            return Step::Ask(vec![left[0]]);
        }
        let left = self.in_reach(&left, asked);
        match self.next(&left, heard) {
            Next::Ask { candidate, .. } => left
                .get(candidate)
                .map_or(Step::Stop(Why::Everybody), |at| Step::Ask(vec![*at])),
            Next::Stop(Stop::Confident) => Step::Stop(Why::Confident),
            Next::Stop(Stop::NotWorth) => Step::Stop(Why::NotWorth),
            Next::Stop(Stop::NobodyLeft) => Step::Stop(Why::Everybody),
        }
    }

    fn first_wave(&self, open: &[usize]) -> Vec<usize> {
        if self.plan.everyone {
            return open.to_vec();
        }
        let wave = self.plan.wave.clamp(1, open.len().max(1));
        if !self.setup.stepwise {
            return open[..wave.min(open.len())].to_vec();
        }
        let mut open = open.to_vec();
        if self.plan.merge == Strategy::Cascade {
            open.sort_by(|a, b| self.price(*a).total_cmp(&self.price(*b)));
            open.truncate(wave);
            return open;
        }
        let first = match self.next(&open, &[]) {
            Next::Ask { candidate, .. } => candidate.min(open.len().saturating_sub(1)),
            // Somebody must answer, whatever that is worth: the best.
            Next::Stop(_) => (0..open.len())
                .max_by(|a, b| {
                    let of = |at: usize| quality(self.plan, open[at]);
                    of(*a).total_cmp(&of(*b)).then(b.cmp(a))
                })
                .unwrap_or(0),
        };
        open[..=first].rotate_right(1);
        open[1..].sort_by(|a, b| quality(self.plan, *b).total_cmp(&quality(self.plan, *a)));
        open.truncate(wave);
        open
    }

    /// A cascade climbs: it asks nobody cheaper than whom it asked, before it is at the top.
    fn in_reach(&self, left: &[usize], asked: &[usize]) -> Vec<usize> {
        if self.plan.merge != Strategy::Cascade {
            return left.to_vec();
        }
        let dearest = asked.iter().map(|at| self.price(*at)).fold(0.0, f64::max);
        let mut above: Vec<usize> = left
            .iter()
            .copied()
            .filter(|at| self.price(*at) >= dearest)
            .collect();
        if above.is_empty() {
            // At the top: whom it skipped may still help.
            above = left.to_vec();
        }
        above.sort_by(|a, b| self.price(*a).total_cmp(&self.price(*b)));
        above
    }

    fn next(&self, left: &[usize], heard: &[Heard<'_>]) -> Next {
        let (round, _) = self.round(heard);
        let candidates: Vec<Candidate> = left
            .iter()
            .map(|at| Candidate {
                member: self.model.member(name(self.plan, *at)),
                price: self.price(*at),
            })
            .collect();
        self.model.next(&round, &candidates, &self.setup.plan)
    }

    /// What asking a member costs, in dollars, or in calls where nobody has a price.
    fn price(&self, place: usize) -> f64 {
        if !self.setup.has_prices() {
            return 1.0;
        }
        let (member, _, price) = &self.setup.members[place];
        let learned = self
            .course
            .and_then(|course| course.output(member, self.label));
        match (price, learned) {
            (Some(price), Some(output)) => price.of(Usage {
                input: self.input_tokens(),
                output: output as u32,
                ..Usage::default()
            }),
            _ => self.plan.members[place]
                .candidates
                .first()
                .and_then(|first| first.expected.dollars)
                .unwrap_or(0.0),
        }
    }

    /// Input tokens as the providers will count them.
    fn input_tokens(&self) -> u32 {
        let framing = self.course.map_or(0.0, |course| course.framing);
        (f64::from(self.prompt_tokens) + framing).max(0.0) as u32
    }

    /// Whether what is still to come cannot change the outcome.
    fn is_decided(
        &self,
        open: &[usize],
        asked: &[usize],
        heard: &[Heard<'_>],
        to_come: usize,
    ) -> bool {
        match self.plan.merge {
            Strategy::First => true,
            Strategy::Plurality => {
                let (votes, _) = self.votes(heard);
                to_come > 0 && compare::decided(&votes, &self.form, self.plan.vectors, to_come)
            }
            Strategy::Best => {
                let heard_of = |at: &usize| heard.iter().any(|one| one.place == *at);
                let best = heard
                    .iter()
                    .map(|one| quality(self.plan, one.place))
                    .fold(0.0, f64::max);
                let coming = open.iter().chain(asked).filter(|at| !heard_of(at));
                to_come > 0 && coming.into_iter().all(|at| quality(self.plan, *at) < best)
            }
            _ => false,
        }
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

/// The member's name: that of the deployment it begins with.
fn name(plan: &EnsemblePlan, place: usize) -> &str {
    let member = &plan.members[place];
    member
        .candidates
        .first()
        .map_or(member.asked.as_str(), |first| first.deployment.as_str())
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

fn quality(plan: &EnsemblePlan, place: usize) -> f64 {
    let first = plan.members[place].candidates.first();
    first.map_or(0.5, |candidate| candidate.expected.quality)
}

fn setup(plan: &EnsemblePlan, tuned: Option<f64>) -> Setup {
    let price = |place: usize| -> Option<Price> { plan.members[place].candidates.first()?.price() };
    let members: Vec<(String, f64, Option<Price>)> = (0..plan.members.len())
        .map(|place| {
            (
                name(plan, place).to_owned(),
                quality(plan, place),
                price(place),
            )
        })
        .collect();
    let (worth, target) = match plan.aim {
        None => (None, None),
        Some(Aim::Worth(worth)) => (Some(worth), None),
        Some(Aim::Cost(dollars)) => (None, Some(Target::Cost(dollars))),
        Some(Aim::Accuracy(share)) => (None, Some(Target::Accuracy(share))),
    };
    Setup {
        plan: Plan {
            // Not said: to be taken from the prices.
            worth: tuned.or(worth).unwrap_or(f64::NAN),
            enough: if plan.stop >= 1.0 { 2.0 } else { plan.stop },
            depth: DEPTH,
        },
        members,
        target,
        stepwise: matches!(plan.merge, Strategy::Adaptive | Strategy::Cascade),
    }
}
