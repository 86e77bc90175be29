//! What a right answer must be thought worth for the decisions to meet a target: past rounds are played
//! again, one vote after the other, under different worths.

use super::calibration::{Calibration, Outcome};
use super::climb::in_reach;
use super::fit::NARROWEST;
use super::gain::{Candidate, Next, Plan};
use super::history::History;
use super::logit::Logit;
use super::model::Model;
use super::{Ballot, Round, Truth, UNKNOWN};

/// About how many rounds are played again, evenly over the history: neighbours are often alike.
const REPLAYED: usize = 800;
/// About how many marked rounds a plan's confidence is learned from, likewise.
const LEARNED: usize = 4_000;
/// Fewer marked rounds teach nothing of a plan.
pub const LEAST_MARKED: usize = 100;
/// Halvings of the range of worths.
const HALVINGS: usize = 12;

/// What is to be met over past rounds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// At most this much a round on average, in the unit of the prices.
    Cost(f64),
    /// At least this share right, 0 to 1; of rounds nobody marked the confidence counts.
    Accuracy(f64),
}

/// What a vote of a past round costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// As expected before it was asked for: that decides.
    pub expected: f64,
    /// As it came to. Hard questions have long answers, and of them more votes are asked for.
    pub real: f64,
}

/// What playing past rounds again came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Replay {
    /// The share that was right, 0 to 1, or is believed to have been.
    pub accuracy: f64,
    /// Price of a round, mean.
    pub cost: f64,
    /// Votes of a round, mean.
    pub calls: f64,
}

/// Every how many of `n` to take so that about `wanted` are taken.
fn stride(n: usize, wanted: usize) -> usize {
    n.div_ceil(wanted).max(1)
}

impl Model {
    /// Plays rounds of a history again under a plan; `price` is what a ballot of a round costs.
    pub fn replay(
        &self,
        history: &History,
        plan: &Plan,
        price: impl Fn(&Round, &Ballot) -> Price,
    ) -> Replay {
        let judges = self.unseeing();
        let mut sum = Replay::default();
        let mut rounds = 0.0;
        let places = history.rounds().enumerate();
        for (place, past) in places.step_by(stride(history.len(), REPLAYED)) {
            let judge = judges.get(place % judges.len().max(1)).unwrap_or(self);
            let (now, cost) = judge.play(past, history, plan, &price);
            sum.cost += cost;
            sum.calls += now.ballots.len() as f64;
            let winner = judge.posterior_when_asked(&now).winner();
            sum.accuracy += match (past.truth, winner) {
                (_, None) | (Truth::NoneOfThem, _) => 0.0,
                (Truth::Unknown, Some((_, confidence))) => confidence,
                (Truth::Cluster(right), Some((answer, _))) => f64::from(answer == right),
            };
            rounds += 1.0;
        }
        if rounds > 0.0 {
            sum.accuracy /= rounds;
            sum.cost /= rounds;
            sum.calls /= rounds;
        }
        sum
    }

    /// This with weights that have not seen every so many-th round, while there are such.
    fn unseeing(&self) -> Vec<Self> {
        let with = |logit: &Logit| Self {
            logit: logit.clone(),
            judges: Vec::new(),
            ..self.clone()
        };
        self.judges.iter().map(with).collect()
    }

    /// Learns from marked rounds played again what confidence means under a plan; best right after the fit
    /// and from the same history, while it can still be judged by weights that have not seen the round.
    /// With fewer than [`LEAST_MARKED`] of them nothing is learned.
    pub fn learn_plan(
        &mut self,
        history: &History,
        plan: &Plan,
        price: impl Fn(&Round, &Ballot) -> Price,
    ) {
        let judges = self.unseeing();
        let marked: Vec<(usize, &Round)> = history
            .rounds()
            .enumerate()
            .filter(|(_, round)| round.truth != Truth::Unknown)
            .collect();
        let mut outcomes = Vec::new();
        for (place, past) in marked.iter().step_by(stride(marked.len(), LEARNED)) {
            let judge = judges.get(place % judges.len().max(1)).unwrap_or(self);
            let (now, _) = judge.play(past, history, plan, &price);
            let (case, names) = judge.lengths.case(&now);
            let beliefs = judge.beliefs(&case);
            let answers = names.iter().zip(&beliefs);
            let Some((answer, stated)) = answers.reduce(|a, b| if b.1 > a.1 { b } else { a })
            else {
                continue;
            };
            outcomes.push(Outcome {
                votes: case.votes.len(),
                stated: *stated,
                right: f64::from(past.truth == Truth::Cluster(*answer)),
                weight: 1.0,
            });
        }
        self.judges.clear();
        if outcomes.len() >= LEAST_MARKED {
            self.asked = Some(Calibration::fit(&outcomes, NARROWEST));
        }
    }

    /// A past round played again: the votes a plan asks for, and their price.
    fn play(
        &self,
        past: &Round,
        history: &History,
        plan: &Plan,
        price: impl Fn(&Round, &Ballot) -> Price,
    ) -> (Round, f64) {
        let resolve = |index: u16, names: &[String]| names.get(usize::from(index)).cloned();
        let kind = past.kind.and_then(|k| resolve(k, history.kinds()));
        let mut now = Round {
            kind: kind.map(|name| self.kind(&name)),
            ballots: Vec::new(),
            truth: Truth::Unknown,
            ..past.clone()
        };
        let mut cost = 0.0;
        let mut left: Vec<(Candidate, f64, Ballot)> = past
            .ballots
            .iter()
            .map(|ballot| {
                let name = resolve(ballot.member, history.members());
                let member = name.map_or(UNKNOWN, |name| self.member(&name));
                let Price {
                    expected: price,
                    real,
                } = price(past, ballot);
                let ballot = Ballot { member, ..*ballot };
                (Candidate { member, price }, real, ballot)
            })
            .collect();
        let mut dearest: f64 = 0.0;
        while !left.is_empty() {
            let mut reach: Vec<usize> = (0..left.len()).collect();
            if plan.climbs {
                reach = in_reach(&reach, dearest, |at| left[at].0.price);
            }
            // A cascade's first is the cheapest, whatever he may be worth.
            let next = if plan.climbs && now.ballots.is_empty() {
                0
            } else {
                let candidates: Vec<Candidate> = reach.iter().map(|at| left[*at].0).collect();
                match self.next(&now, &candidates, plan) {
                    Next::Ask { candidate, .. } => candidate,
                    Next::Stop(_) => break,
                }
            };
            let Some(place) = reach.get(next) else {
                break;
            };
            let (asked, real, ballot) = left.remove(*place);
            dearest = dearest.max(asked.price);
            cost += real;
            now.ballots.push(ballot);
        }
        (now, cost)
    }

    /// The worth with which past rounds meet the target: the highest within the cost, or the lowest that
    /// is accurate enough, between `low` and `high`; the nearer end where the target is out of reach.
    pub fn worth_for(
        &self,
        history: &History,
        target: Target,
        plan: &Plan,
        (low, high): (f64, f64),
        price: impl Fn(&Round, &Ballot) -> Price,
    ) -> f64 {
        let (mut low, mut high) = (low.max(1e-9).ln(), high.max(1e-9).ln());
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            let plan = Plan {
                worth: middle.exp(),
                ..*plan
            };
            let replay = self.replay(history, &plan, &price);
            let too_much = match target {
                Target::Cost(most) => replay.cost > most,
                Target::Accuracy(least) => replay.accuracy >= least,
            };
            if too_much {
                high = middle;
            } else {
                low = middle;
            }
        }
        match target {
            Target::Cost(_) => low.exp(),
            Target::Accuracy(_) => high.exp(),
        }
    }
}
