//! The score of each answer: a conditional logit (D. McFadden, "Conditional Logit Analysis of
//! Qualitative Choice Behavior", 1974) over the distinct answers and one alternative more, that none of
//! them is right.
//!
//! A vote weighs what its member's have been worth, overall and in the kind of task, less when the answer
//! is unusually long; no vote weighs less than nothing. Votes that agree add up and get a bonus that is
//! never negative. "None of them" gains with the number of distinct answers and loses with every vote. So
//! a vote more for an answer, or moved to it, never makes it less likely.

use serde::{Deserialize, Serialize};

use super::{Case, MAX_KINDS, MAX_MEMBERS, Vote};

/// Sizes of agreement told apart beyond one vote.
const SIZES: usize = 7;
/// How sharp the bend at weight 0 is.
const SHARP: f64 = 4.0;
/// No parameter of a fit is larger.
const MOST: f64 = 60.0;

/// The parameters. Overall weights of members, then their differences by kind, then the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logit {
    members: usize,
    kinds: usize,
    theta: Vec<f64>,
}

/// Places of the parameters that are one of a kind, after those of members and kinds.
const LENGTH: usize = 0;
const NONE: usize = 1;
const DISTINCT: usize = 2;
const SILENT: usize = 3;
const NONE_LENGTH: usize = 4;
const NONE_PROMPT: usize = 5;
const SIZE: usize = 6;
const FEW: usize = SIZE + SIZES;
const SINGLE: usize = FEW + SIZES;

/// The log-odds of a quality, brought within what a prior may claim.
pub(super) fn claim(quality: f64) -> f64 {
    let quality = if quality.is_finite() { quality } else { 0.6 };
    let p = quality.clamp(0.3, 0.95);
    (p / (1.0 - p)).ln()
}

impl Logit {
    /// What is assumed before any evidence: each vote weighs the log-odds of its member's quality.
    pub(super) fn prior(qualities: &[f64], kinds: usize) -> Self {
        let members = qualities.len();
        let mut theta = vec![0.0; size(members, kinds)];
        for (weight, quality) in theta.iter_mut().zip(qualities) {
            *weight = claim(*quality);
        }
        let single = 2 * members + kinds * members + kinds;
        let assumed = [(SIZE, SIZES, -0.7), (FEW, SIZES, -2.5), (DISTINCT, 1, -1.5)];
        for (at, n, value) in assumed {
            theta
                .iter_mut()
                .skip(single + at)
                .take(n)
                .for_each(|t| *t = value);
        }
        Self {
            members,
            kinds,
            theta,
        }
    }

    /// How strongly each parameter is held at its prior: the inverse of a variance.
    pub(super) fn hold(&self, kinds: f64) -> Vec<f64> {
        let (m, k) = (self.members, self.kinds);
        let mut hold = vec![0.5; m];
        hold.extend(std::iter::repeat_n(kinds, k * m));
        hold.extend(std::iter::repeat_n(3.0, m));
        hold.extend(std::iter::repeat_n(1.0, k));
        let mut single = [1.0; SINGLE];
        for (at, value) in [
            (LENGTH, 0.05),
            (NONE, 0.05),
            (DISTINCT, 0.2),
            (NONE_LENGTH, 0.1),
        ] {
            single[at] = value;
        }
        hold.extend(single);
        hold.extend(std::iter::repeat_n(0.3, k + m));
        hold
    }

    pub(super) fn theta(&self) -> &[f64] {
        &self.theta
    }

    pub(super) fn with(&self, theta: Vec<f64>) -> Self {
        Self {
            theta: theta.into_iter().map(|t| t.clamp(-MOST, MOST)).collect(),
            ..*self
        }
    }

    fn at(&self, place: usize) -> f64 {
        self.theta.get(place).copied().unwrap_or(0.0)
    }

    fn delta(&self, kind: Option<usize>, member: usize) -> Option<usize> {
        kind.filter(|k| *k < self.kinds)
            .map(|k| self.members + k * self.members + member)
    }

    fn length_of(&self, member: usize) -> usize {
        self.members + self.kinds * self.members + member
    }

    fn none_of(&self, kind: Option<usize>) -> Option<usize> {
        kind.filter(|k| *k < self.kinds)
            .map(|k| 2 * self.members + self.kinds * self.members + k)
    }

    fn single(&self, place: usize) -> usize {
        2 * self.members + self.kinds * self.members + self.kinds + place
    }

    fn raw_weight(&self, vote: &Vote, kind: Option<usize>, unknown: f64) -> f64 {
        let z = vote.length.unwrap_or(0.0);
        let common = self.at(self.single(LENGTH)) * z;
        match vote.member.filter(|m| *m < self.members) {
            None => unknown + common,
            Some(m) => {
                let delta = self.delta(kind, m).map_or(0.0, |d| self.at(d));
                self.at(m) + delta + common + self.at(self.length_of(m)) * z
            }
        }
    }

    /// The score of each answer and, last, of none; `unknown` is the weight of a member not known.
    pub(super) fn scores(&self, case: &Case, unknown: f64, scores: &mut Vec<f64>) {
        scores.clear();
        scores.resize(case.answers + 1, 0.0);
        let mut sizes = [0usize; super::MAX_BALLOTS];
        for vote in &case.votes {
            let weight = bend(self.raw_weight(vote, case.kind, unknown));
            if let (Some(score), Some(size)) =
                (scores.get_mut(vote.cluster), sizes.get_mut(vote.cluster))
            {
                *score += weight;
                *size += 1;
                if *size > 1 && *size <= SIZES + 1 {
                    *score += soft(self.at(self.single(SIZE + *size - 2)));
                }
            }
        }
        let mut none = self.at(self.single(NONE))
            + self.none_of(case.kind).map_or(0.0, |n| self.at(n))
            + self.at(self.single(SILENT)) * case.silent.len() as f64
            + self.at(self.single(NONE_LENGTH)) * case.length
            + self.at(self.single(NONE_PROMPT)) * case.prompt
            + soft(self.at(self.single(DISTINCT))) * case.answers.saturating_sub(1) as f64;
        for k in 0..case.votes.len().saturating_sub(1).min(SIZES) {
            none -= soft(self.at(self.single(FEW + k)));
        }
        none += self.alone(case).0;
        if let Some(last) = scores.last_mut() {
            *last = if case.answers == 0 { 0.0 } else { none };
        }
    }

    /// Adds to `gradient` what the slope of each score, `slopes`, means for the parameters.
    pub(super) fn blame(&self, case: &Case, slopes: &[f64], unknown: f64, gradient: &mut [f64]) {
        let mut add = |place: usize, value: f64| {
            if let Some(g) = gradient.get_mut(place) {
                *g += value;
            }
        };
        let mut sizes = [0usize; super::MAX_BALLOTS];
        for vote in &case.votes {
            let slope = slopes.get(vote.cluster).copied().unwrap_or(0.0);
            let down = slope * logistic(SHARP * self.raw_weight(vote, case.kind, unknown));
            let z = vote.length.unwrap_or(0.0);
            add(self.single(LENGTH), down * z);
            if let Some(m) = vote.member.filter(|m| *m < self.members) {
                add(m, down);
                if let Some(d) = self.delta(case.kind, m) {
                    add(d, down);
                }
                add(self.length_of(m), down * z);
            }
            if let Some(size) = sizes.get_mut(vote.cluster) {
                *size += 1;
                if *size > 1 && *size <= SIZES + 1 {
                    let place = self.single(SIZE + *size - 2);
                    add(place, slope * logistic(self.at(place)));
                }
            }
        }
        if case.answers == 0 {
            return;
        }
        let slope = slopes.last().copied().unwrap_or(0.0);
        add(self.single(NONE), slope);
        if let Some(n) = self.none_of(case.kind) {
            add(n, slope);
        }
        add(self.single(SILENT), slope * case.silent.len() as f64);
        add(self.single(NONE_LENGTH), slope * case.length);
        add(self.single(NONE_PROMPT), slope * case.prompt);
        if case.votes.len() == 1 {
            match self.alone(case).1 {
                Some(places) => places.into_iter().flatten().for_each(|p| add(p, slope)),
                None => {
                    for place in [self.single(SIZE), self.single(FEW)] {
                        add(place, -slope * logistic(self.at(place)));
                    }
                }
            }
        }
        let place = self.single(DISTINCT);
        let more = case.answers.saturating_sub(1) as f64;
        add(place, slope * more * logistic(self.at(place)));
        for k in 0..case.votes.len().saturating_sub(1).min(SIZES) {
            let place = self.single(FEW + k);
            add(place, -slope * logistic(self.at(place)));
        }
    }

    /// What a vote that is alone, of this kind and member, adds to "none of them", and where its two
    /// parameters are. It takes no more from it than the second vote for the same answer gives back, or
    /// that vote would make the answer less likely; where it would, there are no parameters.
    fn alone(&self, case: &Case) -> (f64, Option<[Option<usize>; 2]>) {
        let [vote] = case.votes.as_slice() else {
            return (0.0, None);
        };
        let after = self.single(SINGLE);
        let kind = case.kind.filter(|k| *k < self.kinds).map(|k| after + k);
        let member = vote.member.filter(|m| *m < self.members);
        let member = member.map(|m| after + self.kinds + m);
        let places = [kind, member];
        let sum: f64 = places.iter().flatten().map(|place| self.at(*place)).sum();
        let least = -self.second();
        if sum > least {
            (sum, Some(places))
        } else {
            (least, None)
        }
    }

    /// What a second vote for the same answer gives at least.
    fn second(&self) -> f64 {
        soft(self.at(self.single(SIZE))) + soft(self.at(self.single(FEW)))
    }

    pub(super) fn validate(&self, members: usize, kinds: usize) -> Result<(), String> {
        let fits = self.members == members
            && self.kinds == kinds
            && self.theta.len() == size(members, kinds);
        if !fits || members > MAX_MEMBERS || kinds > MAX_KINDS {
            return Err("weights of other members or kinds".to_owned());
        }
        if self.theta.iter().all(|t| t.is_finite() && t.abs() <= MOST) {
            Ok(())
        } else {
            Err("a weight that is no number or too large".to_owned())
        }
    }
}

fn size(members: usize, kinds: usize) -> usize {
    2 * members + kinds * members + kinds + SINGLE + kinds + members
}

/// Turns scores into probabilities in place. Returns the logarithm of the sum.
pub(super) fn softmax(scores: &mut [f64]) -> f64 {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - top).exp();
        sum += *score;
    }
    scores.iter_mut().for_each(|p| *p /= sum);
    top + sum.ln()
}

/// A weight never below 0, smooth.
fn bend(raw: f64) -> f64 {
    soft(SHARP * raw) / SHARP
}

fn soft(raw: f64) -> f64 {
    if raw > 30.0 { raw } else { raw.exp().ln_1p() }
}

fn logistic(raw: f64) -> f64 {
    1.0 / (1.0 + (-raw).exp())
}
