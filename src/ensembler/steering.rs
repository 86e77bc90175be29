//! Whom an ensemble asks next, and when it stops: pure decisions over the votes so far.

mod round;
mod stream;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::merge::Strategy;
use super::merge::compare::{self, Form};
use crate::answer::Usage;
use crate::config::Aim;
use crate::learner::{Course, Setup};
use crate::learning::votes::{Candidate, Model, Next, Plan, Stop, Target, in_reach};
use crate::provider::Price;
use crate::query::Query;
use crate::router::EnsemblePlan;

/// Calls a member that one more right answer is worth, at the members' mean price, where nobody said: who has more of
/// them looks for more.
const WORTH_A_MEMBER: f64 = 20.0;
/// The fewest members that counts for.
const LEAST_MEMBERS: usize = 5;
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
    /// Whoever has not been heard has been silent for longer than is waited for.
    Late,
}

impl Why {
    /// In words for the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Everybody => "everybody",
            Self::Decided => "decided",
            Self::Confident => "confident",
            Self::NotWorth => "not_worth_it",
            Self::Late => "late",
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
    /// Whether it answers anything at all: in words, by a tool, or by refusing.
    pub speaks: bool,
    /// Output tokens, if counted.
    pub tokens: Option<u32>,
    /// Input tokens, likewise.
    pub input: Option<u32>,
    /// The sentence vector of the text, if there is one.
    pub vector: Option<&'a [f32]>,
}

/// How far an ensemble has come. Members are named by their places in the plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress<'a> {
    /// Who may be asked.
    pub open: &'a [usize],
    /// Who was asked, in order.
    pub asked: &'a [usize],
    /// Who answered.
    pub heard: &'a [Heard<'a>],
    /// How many of those asked failed.
    pub failed: usize,
    /// How many of those asked have been silent for longer than their patience. They may still answer.
    pub late: usize,
}

impl Progress<'_> {
    /// Those asked who have neither answered nor failed.
    fn outstanding(&self) -> usize {
        self.asked.len() - self.heard.len() - self.failed
    }

    fn unasked(&self) -> Vec<usize> {
        let unasked = |at: &usize| !self.asked.contains(at);
        self.open.iter().copied().filter(unasked).collect()
    }
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
            steering.setup.plan.worth = WORTH_A_MEMBER * members.max(LEAST_MEMBERS) as f64 * mean;
        }
        steering
    }

    /// What to do next. Who is late is not waited for while anybody else can be asked, or once the quorum is there.
    pub fn step(&self, progress: &Progress<'_>) -> Step {
        let Progress { asked, heard, .. } = *progress;
        let outstanding = progress.outstanding();
        let left = progress.unasked();
        if asked.is_empty() {
            return Step::Ask(self.first_wave(&left));
        }
        let speaks = heard.iter().any(|one| one.speaks);
        let enough = speaks && heard.len() >= self.plan.quorum && !self.plan.everyone;
        if enough && self.is_decided(progress, outstanding + left.len()) {
            return Step::Stop(Why::Decided);
        }
        if outstanding > progress.late {
            return Step::Wait;
        }
        if left.is_empty() {
            return match (outstanding, enough) {
                (0, _) => Step::Stop(Why::Everybody),
                (_, true) => Step::Stop(Why::Late),
                (_, false) => Step::Wait,
            };
        }
        if !self.setup.stepwise {
            // Without weights that say who, the next in the plan's order.
            return Step::Ask(vec![left[0]]);
        }
        let left = self.in_reach(&left, asked);
        match self.next(&left, heard) {
            Next::Ask { candidate, .. } => left
                .get(candidate)
                .map_or(Step::Stop(Why::Everybody), |at| Step::Ask(vec![*at])),
            // Somebody must answer, whatever that is worth.
            Next::Stop(_) if !enough => Step::Ask(vec![self.obvious(&left)]),
            Next::Stop(Stop::Confident) => Step::Stop(Why::Confident),
            Next::Stop(Stop::NotWorth) => Step::Stop(Why::NotWorth),
            Next::Stop(Stop::NobodyLeft) => Step::Stop(Why::Everybody),
        }
    }

    /// How long a member that is asked now may be silent before it counts as late. `own` is what its deployment is
    /// given for an answer, `left` the time to the deadline, `unasked` who can still be asked. Those, or who is to
    /// judge when there is nobody, must have time to answer after it: twice what they are expected to take, at least a
    /// quarter and at most half of what is left, and half where nothing is known of them.
    pub fn patience(&self, own: Duration, left: Duration, unasked: &[usize]) -> Duration {
        let judge = self.plan.judge.as_deref();
        let after: Vec<&crate::router::Plan> = match unasked {
            [] => judge.into_iter().collect(),
            places => places.iter().map(|at| &self.plan.members[*at]).collect(),
        };
        if after.is_empty() {
            return own;
        }
        let expected = after
            .iter()
            .filter_map(|plan| plan.candidates.first()?.expected.seconds)
            .reduce(f64::max);
        fair(own, left, expected)
    }

    /// Whom to ask where no vote is worth its price: the cheapest of a cascade, else the best.
    fn obvious(&self, left: &[usize]) -> usize {
        if self.plan.merge == Strategy::Cascade {
            return left[0];
        }
        let better = |a: usize, b: usize| {
            if quality(self.plan, b) > quality(self.plan, a) {
                b
            } else {
                a
            }
        };
        left.iter().copied().reduce(better).unwrap_or_default()
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
            open = self.in_reach(&open, &[]);
            open.truncate(wave);
            return open;
        }
        let first = match self.next(&open, &[]) {
            Next::Ask { candidate, .. } => candidate.min(open.len().saturating_sub(1)),
            Next::Stop(_) => {
                let best = self.obvious(&open);
                open.iter().position(|at| *at == best).unwrap_or(0)
            }
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
        in_reach(left, dearest, |at| self.price(at))
    }

    fn next(&self, left: &[usize], heard: &[Heard<'_>]) -> Next {
        let (round, _) = self.round(heard);
        self.model
            .next(&round, &self.candidates(left), &self.setup.plan)
    }

    fn candidates(&self, places: &[usize]) -> Vec<Candidate> {
        let candidate = |at: &usize| Candidate {
            member: self.model.member(name(self.plan, *at)),
            price: self.price(*at),
        };
        places.iter().map(candidate).collect()
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
    fn is_decided(&self, progress: &Progress<'_>, to_come: usize) -> bool {
        let Progress {
            open, asked, heard, ..
        } = *progress;
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

/// A patience that leaves `left` enough for those who come after, who are expected to take so many seconds.
fn fair(own: Duration, left: Duration, expected: Option<f64>) -> Duration {
    let seconds = left.as_secs_f64();
    let reserve = expected.map_or(seconds / 2.0, |expected| {
        (2.0 * expected).max(seconds / 4.0).min(seconds / 2.0)
    });
    own.min(Duration::from_secs_f64(seconds - reserve))
}

/// The member's name: that of the deployment it begins with.
fn name(plan: &EnsemblePlan, place: usize) -> &str {
    let member = &plan.members[place];
    member
        .candidates
        .first()
        .map_or(member.asked.as_str(), |first| first.deployment.as_str())
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
            climbs: plan.merge == Strategy::Cascade,
        },
        members,
        target,
        stepwise: matches!(plan.merge, Strategy::Adaptive | Strategy::Cascade),
    }
}
