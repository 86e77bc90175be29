//! How good a deployment's answers are.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How many kinds of task are told apart.
pub const TASKS: usize = 16;
/// The heaviest single observation.
pub const MAX_WEIGHT: f64 = 10.0;
/// What evidence is multiplied by at each step: a memory of about 200 steps. The best of five in a
/// simulation of one switch between three arms.
const KEEP: f64 = 0.995;
/// No history leaves more evidence than one heaviest observation at every step.
const MOST_EVIDENCE: f64 = MAX_WEIGHT / (1.0 - KEEP);
/// How many observations the overall estimate is worth as the prior of a task's.
const SHRINK: f64 = 5.0;
/// Half the width of a 95 % interval, in standard deviations.
const Z95: f64 = 1.96;

/// An observation that cannot be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
#[error("{field} must be a number from 0 to {max}, not {value}")]
pub struct OutOfRange {
    field: &'static str,
    max: f64,
    value: f64,
}

/// What is believed before any evidence: a mean, worth so many observations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    mean: f64,
    strength: f64,
}

impl Prior {
    /// The mean is brought into 0 to 1 and the strength into 0.001 to 1,000,000; what is not a number
    /// counts as in the default.
    pub fn new(mean: f64, strength: f64) -> Self {
        let or = |value: f64, default: f64| if value.is_nan() { default } else { value };
        Self {
            mean: or(mean, 0.5).clamp(0.0, 1.0),
            strength: or(strength, 2.0).clamp(1e-3, 1e6),
        }
    }
}

impl Default for Prior {
    /// Beta(1, 1): any quality is as likely as any other.
    fn default() -> Self {
        Self {
            mean: 0.5,
            strength: 2.0,
        }
    }
}

/// Evidence on a quality from 0 to 1: the discounted Beta of non-stationary Thompson sampling
/// (V. Raj and S. Kalyani, "Taming Non-stationary Bandits", 2017). It holds evidence only; the prior
/// is added when it is read, so that discounting fades evidence and never the prior.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    alpha: f64,
    beta: f64,
}

impl Quality {
    /// Takes in a reward from 0 (useless) to 1 (as good as can be), weighted from 0 to [`MAX_WEIGHT`].
    pub fn observe(&mut self, reward: f64, weight: f64) -> Result<(), OutOfRange> {
        check("reward", reward, 1.0)?;
        check("weight", weight, MAX_WEIGHT)?;
        self.alpha += weight * reward;
        self.beta += weight * (1.0 - reward);
        Ok(())
    }

    /// Fades the evidence by one step.
    pub fn discount(&mut self) {
        self.alpha *= KEEP;
        self.beta *= KEEP;
    }

    /// The posterior mean, 0 to 1.
    pub fn mean(&self, prior: Prior) -> f64 {
        let mean = (self.alpha + prior.mean * prior.strength) / self.weight(prior);
        mean.clamp(0.0, 1.0)
    }

    /// The posterior variance, 0 to 0.25.
    pub fn variance(&self, prior: Prior) -> f64 {
        let mean = self.mean(prior);
        mean * (1.0 - mean) / (self.weight(prior) + 1.0)
    }

    /// About 95 % of belief, low and high end within 0 to 1 and around the mean. E. B. Wilson's score
    /// interval (1927) on the posterior's counts, which unlike the normal one stays sensible near 0 and
    /// 1 and with little evidence.
    pub fn interval95(&self, prior: Prior) -> (f64, f64) {
        let (mean, n) = (self.mean(prior), self.weight(prior));
        let z2 = Z95 * Z95;
        let centre = (mean + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let spread = (mean * (1.0 - mean) / n + z2 / (4.0 * n * n)).sqrt();
        let half = Z95 * spread / (1.0 + z2 / n);
        (
            (centre - half).clamp(0.0, mean),
            (centre + half).clamp(mean, 1.0),
        )
    }

    /// How many observations this rests on, older ones counting less, the prior not counted.
    pub fn evidence(&self) -> f64 {
        self.alpha + self.beta
    }

    /// Whether this can have come from observations: numbers not negative, no more of them than
    /// discounting at each step leaves.
    pub fn is_valid(&self) -> bool {
        let range = 0.0..=MOST_EVIDENCE * 1.001;
        range.contains(&self.alpha)
            && range.contains(&self.beta)
            && range.contains(&self.evidence())
    }

    fn weight(&self, prior: Prior) -> f64 {
        self.evidence() + prior.strength
    }
}

fn check(field: &'static str, value: f64, max: f64) -> Result<(), OutOfRange> {
    if (0.0..=max).contains(&value) {
        Ok(())
    } else {
        Err(OutOfRange { field, max, value })
    }
}

/// What is known of a quality.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The expected quality, 0 to 1.
    pub mean: f64,
    /// Low end of the 95 % interval.
    pub low: f64,
    /// High end of the 95 % interval.
    pub high: f64,
    /// Observations behind it; of a task's estimate those of the task alone.
    pub evidence: f64,
}

/// A deployment's quality, overall and per kind of task.
///
/// Kinds of task are indices below [`TASKS`] whose meaning is the caller's; any other index is treated
/// as no kind at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QualityTable {
    overall: Quality,
    tasks: [Quality; TASKS],
}

impl QualityTable {
    /// One step with an observation of this deployment: fades what is known of the task and overall,
    /// then takes in the reward as [`Quality::observe`] does. An error changes nothing.
    pub fn observe(
        &mut self,
        task: Option<usize>,
        reward: f64,
        weight: f64,
    ) -> Result<(), OutOfRange> {
        let mut next = *self;
        next.discount(task);
        next.overall.observe(reward, weight)?;
        if let Some(cell) = task.and_then(|task| next.tasks.get_mut(task)) {
            cell.observe(reward, weight)?;
        }
        *self = next;
        Ok(())
    }

    /// One step without an observation: another deployment answered a query of this kind. Fading the
    /// evidence on those not asked is what has them tried again some day.
    pub fn discount(&mut self, task: Option<usize>) {
        self.overall.discount();
        if let Some(cell) = task.and_then(|task| self.tasks.get_mut(task)) {
            cell.discount();
        }
    }

    /// What is known of the quality for a kind of task, or overall, from the default prior.
    pub fn estimate(&self, task: Option<usize>) -> Estimate {
        self.estimate_from(Prior::default(), task)
    }

    /// What is known of the quality, starting from an operator's prior.
    ///
    /// A task's estimate takes the overall one as its prior (partial pooling), worth as many
    /// observations as that rests on, at most 5 unless the operator's prior is stronger. The overall
    /// estimate includes the task's own observations, so a task that dominates counts slightly twice.
    pub fn estimate_from(&self, prior: Prior, task: Option<usize>) -> Estimate {
        let Some(cell) = task.and_then(|task| self.tasks.get(task)) else {
            return estimate(&self.overall, prior);
        };
        let worth = self.overall.weight(prior).min(SHRINK.max(prior.strength));
        estimate(cell, Prior::new(self.overall.mean(prior), worth))
    }

    /// Resets the cells that are not valid, and returns their names.
    pub fn sanitize(&mut self) -> Vec<String> {
        let mut reset = Vec::new();
        if !self.overall.is_valid() {
            self.overall = Quality::default();
            reset.push("quality.overall".to_owned());
        }
        for (task, cell) in self.tasks.iter_mut().enumerate() {
            if !cell.is_valid() {
                *cell = Quality::default();
                reset.push(format!("quality.task[{task}]"));
            }
        }
        reset
    }
}

fn estimate(quality: &Quality, prior: Prior) -> Estimate {
    let (low, high) = quality.interval95(prior);
    Estimate {
        mean: quality.mean(prior),
        low,
        high,
        evidence: quality.evidence(),
    }
}

#[cfg(test)]
mod tests;
