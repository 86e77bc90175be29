//! Evidence on how able a model is, overall, per kind of task and in finer clusters.

use serde::{Deserialize, Serialize};

use super::change::{Run, Watch};

/// How many kinds of task are told apart: the sixteen of [`TaskKind`](crate::query::TaskKind), and as many
/// topics as callers name ([`Topics`](super::Topics)).
pub const TASKS: usize = 31;
/// The heaviest single observation.
pub const MAX_WEIGHT: f64 = 10.0;
/// Kinds, and one row for what has no kind.
pub(super) const ROWS: usize = TASKS + 1;
/// Finer clusters kept of one model; the lightest makes room.
pub(super) const CLUSTERS: usize = 16;
/// Steps after which evidence counts 1/e: slow, for a change is noticed by itself, and this is only
/// against drift and for trying again those left long ago.
const MEMORY: f64 = 20_000.0;
/// The same for a model that has changed lately: soon it is as good as new, and is tried again.
const UNSETTLED_MEMORY: f64 = 300.0;
/// Evidence after a change that makes a model settled again.
const SETTLED: f64 = 30.0;
/// Evidence needed before a change can be noticed.
const WATCHED: f64 = 8.0;
/// The most evidence one row holds; more of it fades the old.
const MOST: f64 = 20_000.0;

/// Weights and rewards summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sum {
    pub(super) weight: f64,
    pub(super) reward: f64,
}

impl Sum {
    fn add(&mut self, reward: f64, weight: f64) {
        self.weight += weight;
        self.reward += weight * reward;
        if self.weight > MOST {
            self.fade(MOST / self.weight);
        }
    }

    fn fade(&mut self, keep: f64) {
        self.weight *= keep;
        self.reward *= keep;
    }

    /// Keeps a share of the evidence, and changes what it says by a ratio.
    fn cut(&mut self, keep: f64, ratio: f64) {
        self.weight *= keep;
        self.reward = (self.reward * keep * ratio).clamp(0.0, self.weight);
    }

    fn is_valid(&self) -> bool {
        (0.0..=MOST * 1.001).contains(&self.weight)
            && (0.0..=self.weight * 1.000_001 + 1e-9).contains(&self.reward)
    }
}

/// The evidence in one cluster of queries within a kind of task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cluster {
    pub(super) key: u64,
    pub(super) row: u8,
    pub(super) sum: Sum,
}

/// One judged answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// The kind of task, below [`TASKS`]; anything else counts as no kind.
    pub kind: Option<usize>,
    /// The finer cluster within the kind, if any.
    pub cluster: Option<u64>,
    /// How good the answer was, 0 to 1.
    pub reward: f64,
    /// How far the judgement is trusted, 0 to [`MAX_WEIGHT`]; 1 is an ordinary observation.
    pub weight: f64,
    /// The quality expected when the model was chosen ([`super::Draw::mean`]), 0 to 1. Without it no
    /// change can be noticed: what is hard for everyone would look like a fall.
    pub expected: Option<f64>,
    /// How many decisions had been made, by whichever model, when this one was. Evidence fades by it.
    pub step: u64,
}

/// What an observation has led to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// It was counted.
    Counted,
    /// The model has become worse. Only evidence from after the change is kept.
    Changed {
        /// Rewards since the change as a share of those expected.
        ratio: f64,
        /// How many observations ago it happened, by weight.
        since: f64,
    },
}

/// Evidence on one model: rewards by kind of task and by cluster, faded slowly by the steps of all
/// models together, cut when the model is noticed to have become worse.
///
/// It holds evidence only. What it means is read by [`super::Pool`], against how hard the same kinds
/// of task are for the other models.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ability {
    pub(super) rows: [Sum; ROWS],
    pub(super) clusters: [Cluster; CLUSTERS],
    watch: Watch,
    step: u64,
    unsettled: bool,
    changes: u32,
}

impl Default for Ability {
    fn default() -> Self {
        Self {
            rows: [Sum::default(); ROWS],
            clusters: [Cluster::default(); CLUSTERS],
            watch: Watch::default(),
            step: 0,
            unsettled: false,
            changes: 0,
        }
    }
}

impl Ability {
    /// Takes in a judged answer. One that is out of range is refused and changes nothing.
    pub fn observe(&mut self, seen: Observation) -> Result<Outcome, String> {
        let Observation { reward, weight, .. } = seen;
        within("reward", reward, 1.0)?;
        within("weight", weight, MAX_WEIGHT)?;
        if let Some(expected) = seen.expected {
            within("expectation", expected, 1.0)?;
        }
        self.fade_to(seen.step);
        let row = row_of(seen.kind);
        let run = match seen.expected {
            Some(expected) if self.evidence() >= WATCHED => {
                self.watch.observe(reward, weight, expected)
            }
            _ => None,
        };
        // The run includes this observation, which is added below.
        let outcome = match run {
            Some(run) => self.change(run),
            None => Outcome::Counted,
        };
        if let Some(sum) = self.rows.get_mut(row) {
            sum.add(reward, weight);
        }
        if let Some(key) = seen.cluster {
            self.add_to_cluster(key, row, reward, weight);
        }
        if self.unsettled && self.evidence() > SETTLED {
            self.unsettled = false;
        }
        Ok(outcome)
    }

    /// All evidence, in observations, older ones counting less.
    pub fn evidence(&self) -> f64 {
        self.rows.iter().map(|sum| sum.weight).sum()
    }

    /// The mean reward over all kinds, each as often as it was seen; `None` without evidence.
    pub fn mean(&self) -> Option<f64> {
        let weight = self.evidence();
        let reward: f64 = self.rows.iter().map(|sum| sum.reward).sum();
        (weight > 0.0).then(|| (reward / weight).clamp(0.0, 1.0))
    }

    /// The step of the latest observation; the pool's present is the latest of all models'.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// How many changes for the worse were noticed.
    pub fn changes(&self) -> u32 {
        self.changes
    }

    /// Whether it has changed lately and has not been seen enough since.
    pub fn is_unsettled(&self) -> bool {
        self.unsettled
    }

    /// The share of the evidence that still counts at a step.
    pub(super) fn keep(&self, step: u64) -> f64 {
        let memory = if self.unsettled {
            UNSETTLED_MEMORY
        } else {
            MEMORY
        };
        (-(step.saturating_sub(self.step) as f64) / memory).exp()
    }

    /// Whether this can have come from observations.
    pub fn validate(&self) -> Result<(), String> {
        if let Some(row) = self.rows.iter().position(|sum| !sum.is_valid()) {
            return Err(format!("the evidence of kind {row} has impossible sums"));
        }
        let sound = |c: &Cluster| c.sum.is_valid() && usize::from(c.row) < ROWS;
        if let Some(at) = self.clusters.iter().position(|c| !sound(c)) {
            return Err(format!("the evidence of cluster {at} has impossible sums"));
        }
        self.watch.validate()
    }

    fn fade_to(&mut self, step: u64) {
        // An observation may be late, and steps may begin anew; neither un-fades anything.
        if step <= self.step {
            return;
        }
        let keep = self.keep(step);
        self.step = step;
        self.rows.iter_mut().for_each(|sum| sum.fade(keep));
        self.clusters.iter_mut().for_each(|c| c.sum.fade(keep));
    }

    /// Keeps as much evidence as there is since the change, spread over the kinds as it was: what the
    /// model is better and worse at is kept, its level is what was seen since.
    fn change(&mut self, run: Run) -> Outcome {
        let keep = (run.weight / self.evidence()).min(1.0);
        let ratio = run.ratio.min(1.0);
        self.rows.iter_mut().for_each(|sum| sum.cut(keep, ratio));
        self.clusters
            .iter_mut()
            .for_each(|c| c.sum.cut(keep, ratio));
        self.unsettled = true;
        self.changes = self.changes.saturating_add(1);
        Outcome::Changed {
            ratio,
            since: run.weight,
        }
    }

    fn add_to_cluster(&mut self, key: u64, row: usize, reward: f64, weight: f64) {
        let row = u8::try_from(row).unwrap_or(0);
        let known = |c: &&mut Cluster| c.key == key && c.row == row && c.sum.weight > 0.0;
        if let Some(cluster) = self.clusters.iter_mut().find(known) {
            cluster.sum.add(reward, weight);
            return;
        }
        let lightest = |a: &&mut Cluster, b: &&mut Cluster| a.sum.weight.total_cmp(&b.sum.weight);
        if let Some(cluster) = self.clusters.iter_mut().min_by(lightest) {
            *cluster = Cluster {
                key,
                row,
                sum: Sum::default(),
            };
            cluster.sum.add(reward, weight);
        }
    }
}

/// The row of a kind of task; the last one is that of no kind.
pub(super) fn row_of(kind: Option<usize>) -> usize {
    kind.filter(|kind| *kind < TASKS).unwrap_or(TASKS)
}

fn within(what: &str, value: f64, most: f64) -> Result<(), String> {
    if (0.0..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!(
            "{what} must be a number from 0 to {most}, not {value}"
        ))
    }
}

#[cfg(test)]
mod tests;
