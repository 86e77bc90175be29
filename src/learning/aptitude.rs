//! What a deployment is good at within a kind of task.
//!
//! Two deployments alike on a kind of task as a whole often differ inside it: one knows people, the
//! other dates; one copes with long problems, the other only with short ones. Prompts of a kind are told
//! apart by their [`Traits`]: how they ask, and how long they are. What is learned is not a quality but
//! an adjustment to one: how much better or worse a deployment does on such a prompt than its own level
//! on the kind, and what the prompt's traits change for everyone, would have it. It is shrunk towards 0
//! by as much as the evidence of all deployments together says ([`Landscape`]).
//!
//! Two traits and no more: in recorded answers of real models word and character n-grams, nearest
//! neighbours and classes of length or marks chose no better than these, most of them worse, for their
//! noise.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod form;
mod landscape;
mod variance;

pub use form::{FORMS, Form, Traits};
pub use landscape::{Adjustment, Landscape, MOST_ADJUSTMENT};

/// How many kinds of task one deployment's aptitude holds; evidence on any further is not kept.
pub const MOST_KINDS: usize = 64;
/// The heaviest single observation.
pub const MAX_WEIGHT: f64 = 10.0;
/// More evidence than this in half a kind is scaled down, so that nothing grows without bound.
const MOST_EVIDENCE: f32 = 100_000.0;
/// No [`Traits::length`] is further from 0.
const MOST_LENGTH: f32 = 8.0;

/// Rewards of one form of asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Cell {
    /// Weighted sum of the rewards.
    sum: f32,
    /// Sum of the weights.
    weight: f32,
}

impl Cell {
    fn is_valid(self) -> bool {
        (0.0..=MOST_EVIDENCE * 1.001).contains(&self.weight)
            && (0.0..=self.weight * 1.001).contains(&self.sum)
    }

    fn scale(&mut self, by: f32) {
        self.sum *= by;
        self.weight *= by;
    }

    fn plus(self, other: Self) -> Self {
        Self {
            sum: self.sum + other.sum,
            weight: self.weight + other.weight,
        }
    }
}

/// Half the evidence on a kind of task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Half {
    /// Rewards by form of asking.
    forms: [Cell; FORMS],
    /// Weighted sums over length, its square, and its product with the reward.
    length: [f32; 3],
}

impl Half {
    fn observe(&mut self, traits: Traits, reward: f32, weight: f32) {
        if let Some(cell) = self.forms.get_mut(traits.form() as usize) {
            cell.sum += weight * reward;
            cell.weight += weight;
        }
        let x = traits.length() as f32;
        for (sum, term) in self.length.iter_mut().zip([x, x * x, x * reward]) {
            *sum += weight * term;
        }
        let all = self.total().weight;
        if all > MOST_EVIDENCE {
            self.scale(MOST_EVIDENCE / all);
        }
    }

    fn scale(&mut self, by: f32) {
        self.forms.iter_mut().for_each(|cell| cell.scale(by));
        self.length.iter_mut().for_each(|sum| *sum *= by);
    }

    fn total(&self) -> Cell {
        self.forms
            .iter()
            .fold(Cell::default(), |sum, cell| sum.plus(*cell))
    }

    /// The variation of length, and its covariation with the reward, both times the evidence.
    fn variation(&self) -> (f64, f64) {
        let Cell { sum, weight } = self.total();
        if weight <= 0.0 {
            return (0.0, 0.0);
        }
        let [x, xx, xr] = self.length.map(f64::from);
        let (sum, weight) = (f64::from(sum), f64::from(weight));
        ((xx - x * x / weight).max(0.0), xr - x * sum / weight)
    }

    fn plus(&self, other: &Self) -> Self {
        let mut sum = *self;
        sum.forms
            .iter_mut()
            .zip(other.forms)
            .for_each(|(cell, more)| *cell = cell.plus(more));
        sum.length
            .iter_mut()
            .zip(other.length)
            .for_each(|(cell, more)| *cell += more);
        sum
    }

    fn is_valid(&self) -> bool {
        let most = self.total().weight * 1.001 + 1e-3;
        let [x, xx, xr] = self.length;
        self.forms.iter().all(|cell| cell.is_valid())
            && most <= MOST_EVIDENCE * 1.01
            && x.abs() <= most * MOST_LENGTH
            && (0.0..=most * MOST_LENGTH * MOST_LENGTH).contains(&xx)
            && xr.abs() <= most * MOST_LENGTH
    }
}

/// The evidence on one kind of task, dealt in turn to two halves: what is no chance shows in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Kind {
    /// Which half the next observation goes to.
    second: bool,
    halves: [Half; 2],
}

impl Kind {
    fn is_valid(&self) -> bool {
        self.halves.iter().all(Half::is_valid)
    }
}

/// How one deployment fares with each trait of prompts, by kind of task: at most about 14 kB.
///
/// A kind is a number whose meaning is the caller's; `None` is a kind of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Aptitude {
    kinds: BTreeMap<u16, Kind>,
}

impl Aptitude {
    /// Takes in a reward from 0 to 1, weighted from 0 to [`MAX_WEIGHT`]. What is out of range or not a
    /// number changes nothing.
    pub fn observe(&mut self, kind: Option<u16>, traits: Traits, reward: f64, weight: f64) {
        let fits = (0.0..=1.0).contains(&reward) && (0.0..=MAX_WEIGHT).contains(&weight);
        let key = key(kind);
        let full = self.kinds.len() >= MOST_KINDS && !self.kinds.contains_key(&key);
        if !fits || weight == 0.0 || full {
            return;
        }
        let kind = self.kinds.entry(key).or_default();
        let [first, second] = &mut kind.halves;
        let half = if kind.second { second } else { first };
        kind.second = !kind.second;
        half.observe(traits, reward as f32, weight as f32);
    }

    /// Fades the evidence on a kind of task by one step: every cell is multiplied by `keep`, brought
    /// into 0 to 1. All traits fade together, so that a drop on the whole kind is not mistaken for an
    /// aptitude for those that were not asked of late.
    pub fn discount(&mut self, kind: Option<u16>, keep: f64) {
        let keep = if keep.is_nan() {
            1.0
        } else {
            keep.clamp(0.0, 1.0)
        } as f32;
        if let Some(kind) = self.kinds.get_mut(&key(kind)) {
            for half in &mut kind.halves {
                half.scale(keep);
                // Dust would end as denormal numbers, which are slow.
                half.forms
                    .iter_mut()
                    .filter(|cell| cell.weight < 1e-6)
                    .for_each(|cell| *cell = Cell::default());
                if half.total().weight <= 0.0 {
                    *half = Half::default();
                }
            }
        }
    }

    /// Whether this can have come from observations: not too many kinds, no negative or non-finite
    /// numbers, no more reward than weight. The error names the kind.
    pub fn validate(&self) -> Result<(), String> {
        if self.kinds.len() > MOST_KINDS {
            return Err(format!(
                "aptitude: {} kinds, at most {MOST_KINDS}",
                self.kinds.len()
            ));
        }
        match self.kinds.iter().find(|(_, kind)| !kind.is_valid()) {
            Some((key, _)) => Err(format!("aptitude.kind[{key}]: impossible evidence")),
            None => Ok(()),
        }
    }

    /// Forgets the kinds that are not valid, and those past the most that are held, and returns their
    /// names.
    pub fn sanitize(&mut self) -> Vec<String> {
        let mut reset = Vec::new();
        let mut kept = 0;
        self.kinds.retain(|key, kind| {
            let keep = kind.is_valid() && kept < MOST_KINDS;
            if keep {
                kept += 1;
            } else {
                reset.push(format!("aptitude.kind[{key}]"));
            }
            keep
        });
        reset
    }

    /// All the evidence on a kind.
    fn whole(&self, key: u16) -> Option<Half> {
        let [first, second] = &self.kinds.get(&key)?.halves;
        Some(first.plus(second))
    }
}

fn key(kind: Option<u16>) -> u16 {
    kind.unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
