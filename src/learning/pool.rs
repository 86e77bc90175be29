//! What the evidence on several models amounts to, read together.
//!
//! A model that was asked easy questions only must not look good, so how hard a kind of task is and how
//! able a model is are told apart: the probability of a right answer has the log-odds
//! `difficulty of the kind + ability of the model + how the model takes to the kind`
//! (G. Rasch, *Probabilistic Models for Some Intelligence and Attainment Tests*, 1960; as a mixed model
//! P. De Boeck and M. Wilson, *Explanatory Item Response Models*, 2004). The terms are at their posterior
//! mode, found by Newton steps on each in turn; what remains uncertain of a model is Laplace's
//! approximation. How much models differ is estimated from the models themselves (C. N. Morris,
//! "Parametric Empirical Bayes Inference", 1983).

use super::ability::{Ability, ROWS, row_of};

mod fit;

use fit::Fit;
pub(super) use fit::logistic;

/// Precision, in log-odds, of one observation at even odds, about.
const PRECISION: f64 = 0.2;
/// Clusters read at once; beyond it the keys that come first.
const MOST_CLUSTERS: usize = 64;

/// What is declared of a model before any evidence: a quality, worth so many observations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    /// 0 to 1.
    pub mean: f64,
    /// In observations. It counts by how it differs from what is declared of the others.
    pub strength: f64,
}

impl Default for Prior {
    /// Any quality, worth next to nothing.
    fn default() -> Self {
        Self {
            mean: 0.5,
            strength: 2.0,
        }
    }
}

impl Prior {
    fn log_odds(self) -> f64 {
        let mean = if self.mean.is_nan() { 0.5 } else { self.mean };
        let mean = mean.clamp(0.02, 0.98);
        (mean / (1.0 - mean)).ln()
    }

    fn precision(self) -> f64 {
        let strength = if self.strength.is_nan() {
            2.0
        } else {
            self.strength
        };
        PRECISION * strength.clamp(0.0, 1e6)
    }
}

/// A model as a member of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its evidence.
    pub ability: &'a Ability,
    /// What its operator declares.
    pub prior: Prior,
    /// Its family, if it has one.
    pub family: Option<&'a str>,
    /// Whether nothing is declared of it, so that it begins at what its family has shown.
    pub inherits: bool,
}

impl<'a> Member<'a> {
    /// One of no family.
    pub fn new(ability: &'a Ability, prior: Prior) -> Self {
        Self {
            ability,
            prior,
            family: None,
            inherits: false,
        }
    }
}

/// What is believed of a model on a kind of task or in a cluster: a normal distribution of log-odds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Spot {
    /// The log-odds expected.
    pub centre: f64,
    /// Their standard deviation.
    pub deviation: f64,
    /// The standard deviation to sample with, smaller for what is asked often.
    pub reach: f64,
    /// Observations of just this kind or cluster, older ones counting less.
    pub evidence: f64,
}

/// The evidence of several models, read together at one step. Pure: the same evidence gives the same pool.
/// Reading costs some 10 ns a model and kind with evidence, times the rounds; a decision then only looks
/// up. Read anew when evidence has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pool {
    members: usize,
    /// How far each begins at what its family has shown, 0..1.
    inherited: Vec<f64>,
    rows: Vec<Vec<Spot>>,
    clusters: Vec<(u64, usize, Vec<Spot>)>,
}

impl Pool {
    /// Reads the members' evidence. The order is the caller's, and that of the answers.
    pub fn fit(members: &[Member<'_>]) -> Self {
        let now = members.iter().map(|m| m.ability.step()).max().unwrap_or(0);
        let keeps: Vec<f64> = members.iter().map(|m| m.ability.keep(now)).collect();
        let fit = Fit::new(members, &keeps);
        let stretch = fit.stretch();
        let rows = (0..ROWS).map(|row| fit.spots(row, &stretch)).collect();
        let mut keys: Vec<(usize, u64)> = members
            .iter()
            .flat_map(|m| m.ability.clusters.iter().filter(|c| c.sum.weight > 0.0))
            .map(|c| (usize::from(c.row), c.key))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys.truncate(MOST_CLUSTERS);
        let clusters = keys
            .into_iter()
            .map(|(row, key)| (key, row, fit.cluster(members, &keeps, row, key, &stretch)))
            .collect();
        Self {
            members: members.len(),
            inherited: fit.inherited(),
            rows,
            clusters,
        }
    }

    /// How many members were read.
    pub fn members(&self) -> usize {
        self.members
    }

    /// How far a member begins at what its family has shown: 0, of nothing, to below 1.
    pub fn inherited(&self, member: usize) -> f64 {
        self.inherited.get(member).copied().unwrap_or(0.0)
    }

    /// What is believed of every member, in their order: in the cluster if anything is known of it, else
    /// in the kind of task; without one, overall.
    pub fn spots(&self, kind: Option<usize>, cluster: Option<u64>) -> &[Spot] {
        let row = row_of(kind);
        let of = |(key, at, _): &&(u64, usize, Vec<Spot>)| Some(*key) == cluster && *at == row;
        match self.clusters.iter().find(of) {
            Some((_, _, spots)) => spots,
            None => self.rows.get(row).map_or(&[], Vec::as_slice),
        }
    }
}

#[cfg(test)]
mod tests;
