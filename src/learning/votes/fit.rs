//! From past ensembles to a model: from marked rounds, from few, or from none.
//!
//! Every round has a belief about its right answer: the mark, or what [`one_coin`](super::one_coin)
//! infers, made modest. The logit learns to reproduce the beliefs from all votes and from parts of them,
//! so that it means what it says after one, two or three votes as well. Inferred beliefs count less the
//! more marks there are.

use super::calibration::{Calibration, Outcome};
use super::descent::minimise;
use super::gain::{Replies, ReplyCounts};
use super::history::History;
use super::logit::{Logit, claim, softmax};
use super::model::{ASSUMED_QUALITY, Lengths, Model};
use super::one_coin::{Question, estimate};
use super::{Case, Truth};
use crate::learning::chance::unit;

/// How to fit. The defaults are for serving; others are for experiments.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Inferred beliefs: a power below 1 flattens them.
    pub temper: f64,
    /// How many marks halve the weight of inferred beliefs.
    pub halving: f64,
    /// How strongly a kind's weights are held at the overall ones.
    pub hold: f64,
    /// The narrowest step of the calibration, as a share of all marked rounds.
    pub narrowest: f64,
    /// How many partial copies of each round.
    pub parts: usize,
    /// Weight of the copy with all votes, against one for all parts together.
    pub whole: f64,
    /// Steps of the descent.
    pub steps: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            temper: 0.75,
            halving: 200.0,
            hold: 4.0,
            narrowest: NARROWEST,
            parts: 5,
            whole: 0.25,
            steps: 50,
        }
    }
}

/// How many times the fit is made anew without a share of the rounds, to be judged by those. More of them come
/// nearer to the weights that serve, which have seen all.
const FOLDS: usize = 5;
/// How far from the order of strength the order of a part may be, in log-odds.
const DISORDER: f64 = 0.5;

/// One case to learn from.
struct Example {
    case: Case,
    /// How likely each answer is right; last: none.
    belief: Vec<f64>,
    weight: f64,
    /// Number of its round.
    round: usize,
    marked: bool,
}

/// Fits a model to a history. Deterministic. `declared` are qualities (0 to 1) of members by name, the
/// prior of their weights; the members of the history and the declared ones are the members of the model.
pub fn fit(history: &History, declared: &[(&str, f64)], settings: &Settings) -> Model {
    let members = history.members().to_vec();
    let kinds = history.kinds().len();
    let quality = |name: &String| {
        let own = declared.iter().find(|(other, _)| *other == name);
        own.map_or(ASSUMED_QUALITY, |(_, quality)| *quality)
    };
    let qualities: Vec<f64> = members.iter().map(quality).collect();
    let lengths = Lengths::learn(history.rounds(), members.len(), kinds);
    let (cases, truths): (Vec<Case>, Vec<(Truth, Option<u8>)>) = history
        .rounds()
        .map(|round| {
            let (case, names) = lengths.case(round);
            let truth = match round.truth {
                Truth::Cluster(c) => names
                    .iter()
                    .position(|name| *name == c)
                    .and_then(|i| u8::try_from(i).ok())
                    .map_or(Truth::NoneOfThem, Truth::Cluster),
                other => other,
            };
            (case, (truth, round.options))
        })
        .unzip();
    let questions: Vec<Question<'_>> = cases
        .iter()
        .zip(&truths)
        .map(|(case, (truth, options))| Question {
            case,
            options: *options,
            truth: *truth,
        })
        .collect();
    let prior: Vec<f64> = qualities.iter().map(|q| claim(*q) + 0.5).collect();
    let found = estimate(&questions, kinds, &prior);
    let marked = truths
        .iter()
        .filter(|(truth, _)| *truth != Truth::Unknown)
        .count();
    let inferred = 1.0 / (1.0 + marked as f64 / settings.halving);
    let mut examples = Vec::with_capacity(cases.len() * (settings.parts + 1));
    let mut replies = ReplyCounts::new(members.len(), kinds);
    for (round, ((case, (truth, _)), inner)) in
        cases.iter().zip(&truths).zip(&found.beliefs).enumerate()
    {
        let belief = match truth {
            Truth::Unknown => tempered(inner, settings.temper),
            mark => certain(*mark, case.answers),
        };
        let weight = if *truth == Truth::Unknown {
            inferred
        } else {
            1.0
        };
        let row = case.kind.unwrap_or(kinds);
        let strength = found.ability.get(row).map_or(&[][..], Vec::as_slice);
        parts(
            Example {
                case: case.clone(),
                belief,
                weight,
                round,
                marked: *truth != Truth::Unknown,
            },
            strength,
            settings,
            &mut examples,
        );
    }
    let start = Logit::prior(&qualities, kinds);
    let logit = descend(&start, &examples, settings, |_| true);
    for example in &examples {
        count(example, &cases, &logit, &mut replies);
    }
    let mut model = Model {
        replies: {
            let mut shares = Replies::prior(&qualities, kinds);
            shares.learn(&replies);
            shares
        },
        members,
        kinds: history.kinds().to_vec(),
        lengths,
        calibration: Calibration::identity(blind(cases.len())),
        asked: None,
        judges: Vec::new(),
        logit,
        rounds: cases.len() as u64,
        marked: marked as u64,
    };
    if marked >= 30 {
        // Each share is judged by the weights learned from the others.
        let mut outcomes = Vec::new();
        for fold in 0..FOLDS {
            let logit = descend(&start, &examples, settings, |e| e.round % FOLDS != fold);
            let judged = examples
                .iter()
                .filter(|e| e.marked && e.round % FOLDS == fold);
            outcomes.extend(judged.filter_map(|e| outcome(e, &logit)));
            model.judges.push(logit);
        }
        model.calibration = Calibration::fit(&outcomes, settings.narrowest);
    }
    model
}

/// Rounds nobody marked say how often members agree, not how often they are right: never sure.
fn blind(rounds: usize) -> f64 {
    0.95 + 0.03 * (rounds as f64 / (rounds as f64 + 200.0))
}

fn tempered(belief: &[f64], power: f64) -> Vec<f64> {
    let mut out: Vec<f64> = belief.iter().map(|p| power * p.max(1e-9).ln()).collect();
    softmax(&mut out);
    out
}

fn certain(truth: Truth, answers: usize) -> Vec<f64> {
    let mut belief = vec![0.0; answers + 1];
    let place = match truth {
        Truth::Cluster(c) => usize::from(c).min(answers),
        _ => answers,
    };
    if let Some(b) = belief.get_mut(place) {
        *b = 1.0;
    }
    belief
}

/// The whole example and parts of it, strong members sooner in them, as they will be asked.
fn parts(whole: Example, strength: &[f64], settings: &Settings, into: &mut Vec<Example>) {
    let votes = whole.case.votes.len();
    let all = votes + whole.case.silent.len();
    if all == 0 {
        return;
    }
    let own = |i: usize| {
        let member = match whole.case.votes.get(i) {
            Some(vote) => vote.member,
            None => whole.case.silent.get(i - votes).copied().flatten(),
        };
        member.and_then(|m| strength.get(m)).copied().unwrap_or(0.5)
    };
    let copies = if all > 1 { settings.parts } else { 0 };
    for copy in 0..copies {
        let mut noise = Noise((whole.round as u64) << 8 | copy as u64);
        let size = 1 + (noise.next().powf(1.5) * (all - 1) as f64) as usize;
        let keen = if copy % 2 == 0 { 1.0 } else { 0.0 };
        let mut order: Vec<(f64, usize)> = (0..all)
            .map(|i| (keen * own(i) + DISORDER * noise.normal(), i))
            .collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let kept: u64 = order
            .iter()
            .take(size)
            .fold(0, |bits, (_, i)| bits | 1 << i);
        let case = whole.case.part(|i| kept >> i & 1 == 1);
        let belief = narrowed(&whole, &case);
        into.push(Example {
            belief,
            case,
            weight: whole.weight * (1.0 - settings.whole) / copies as f64,
            ..whole
        });
    }
    let weight = if copies == 0 { 1.0 } else { settings.whole };
    into.push(Example {
        weight: whole.weight * weight,
        ..whole
    });
}

/// The belief of the whole, over the answers of a part.
fn narrowed(whole: &Example, part: &Case) -> Vec<f64> {
    let mut belief: Vec<f64> = whole
        .case
        .places(part)
        .into_iter()
        .map(|place| whole.belief.get(place).copied().unwrap_or(0.0))
        .collect();
    let none = 1.0 - belief.iter().sum::<f64>();
    belief.push(none.max(0.0));
    belief
}

fn descend(
    start: &Logit,
    examples: &[Example],
    settings: &Settings,
    keep: impl Fn(&Example) -> bool,
) -> Logit {
    let unknown = claim(ASSUMED_QUALITY);
    let used: Vec<&Example> = examples
        .iter()
        .filter(|e| e.case.answers > 0 && keep(e))
        .collect();
    let hold = start.hold(settings.hold);
    let prior = start.theta().to_vec();
    let mut scores = Vec::new();
    let theta = minimise(prior.clone(), settings.steps, |theta, gradient| {
        let logit = start.with(theta.to_vec());
        let mut loss = 0.0;
        for (((g, t), p), h) in gradient.iter_mut().zip(theta).zip(&prior).zip(&hold) {
            *g = h * (t - p);
            loss += 0.5 * h * (t - p) * (t - p);
        }
        for example in &used {
            logit.scores(&example.case, unknown, &mut scores);
            let said: f64 = scores.iter().zip(&example.belief).map(|(s, b)| s * b).sum();
            let sum = softmax(&mut scores);
            loss += example.weight * (sum - said);
            for (p, b) in scores.iter_mut().zip(&example.belief) {
                *p = example.weight * (*p - b);
            }
            logit.blame(&example.case, &scores, unknown, gradient);
        }
        loss
    });
    start.with(theta)
}

/// The narrowest step where the votes of a plan are calibrated.
pub(super) const NARROWEST: f64 = 0.1;

fn outcome(example: &Example, logit: &Logit) -> Option<Outcome> {
    let mut beliefs = Vec::new();
    logit.scores(&example.case, claim(ASSUMED_QUALITY), &mut beliefs);
    softmax(&mut beliefs);
    let answers = beliefs.iter().take(example.case.answers).enumerate();
    let (winner, stated) = answers.reduce(|a, b| if b.1 > a.1 { b } else { a })?;
    Some(Outcome {
        votes: example.case.votes.len(),
        stated: *stated,
        right: example.belief.get(winner).copied().unwrap_or(0.0),
        weight: example.weight,
    })
}

/// Counts what the members left out of a part would have replied to it.
fn count(example: &Example, cases: &[Case], logit: &Logit, replies: &mut ReplyCounts) {
    let part = &example.case;
    let Some(whole) = cases.get(example.round) else {
        return;
    };
    let mut beliefs = Vec::new();
    logit.scores(part, claim(ASSUMED_QUALITY), &mut beliefs);
    let answers = beliefs.iter().take(part.answers).enumerate();
    let leader = answers
        .reduce(|a, b| if b.1 > a.1 { b } else { a })
        .map(|(i, _)| i);
    let Some(leader) = leader else { return };
    let places = whole.places(part);
    let weighed: Vec<f64> = example
        .belief
        .iter()
        .map(|b| b * if example.marked { 1.0 } else { example.weight })
        .collect();
    let absent = |member: Option<usize>| {
        member.is_some()
            && part.votes.iter().all(|v| v.member != member)
            && !part.silent.contains(&member)
    };
    for vote in whole.votes.iter().filter(|v| absent(v.member)) {
        let reply = places.iter().position(|place| *place == vote.cluster);
        if let Some(member) = vote.member {
            replies.add(part, member, leader, Some(reply), &weighed);
        }
    }
    for member in whole.silent.iter().filter(|m| absent(**m)).flatten() {
        replies.add(part, *member, leader, None, &weighed);
    }
}

/// Numbers that look random and are the same every time (S. Vigna's SplitMix64).
struct Noise(u64);

impl Noise {
    /// 0 up to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        unit(z ^ (z >> 31))
    }

    /// Near enough to normal.
    fn normal(&mut self) -> f64 {
        (0..6).map(|_| self.next()).sum::<f64>() * 1.414 - 4.243
    }
}
