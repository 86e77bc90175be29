//! An experiment as status pages and JSON show it.

use serde::Serialize;

use super::definition::Definition;
use super::state::{Reason, State};

/// An experiment as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// `nursery`, `running` or `stopped`.
    pub phase: &'static str,
    /// Who keeps a variant: `user`, `session` or `none`.
    pub sticky: &'static str,
    /// Rewards of all variants.
    pub samples: u64,
    /// Samples after which it ends in any case.
    pub max_samples: u64,
    /// How often the winner may be wrong.
    pub delta: f64,
    /// The variant everyone gets, once it has stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub winner: Option<String>,
    /// Why it stopped: `evidence`, or `exhausted` if there was not enough of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// When it stopped, in Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_at_ms: Option<u64>,
    /// What speaks for the leading variant; none before each variant has a reward.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceReport>,
    /// Every variant, in configured order.
    pub variants: Vec<VariantReport>,
}

/// What speaks for the leading variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvidenceReport {
    /// The variant with the highest mean.
    pub leader: String,
    /// The variant that is hardest to tell from it.
    pub challenger: String,
    /// The log-likelihood ratio of the two.
    pub ratio: f64,
    /// What the ratio must exceed.
    pub threshold: f64,
}

/// One variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VariantReport {
    /// Its name.
    pub name: String,
    /// Rewards.
    pub n: u64,
    /// Their mean; none without any.
    pub mean: Option<f64>,
    /// Low end of the 95 % interval.
    pub low: f64,
    /// High end of the 95 % interval.
    pub high: f64,
    /// Its share among those who have no variant yet.
    pub share: f64,
    /// Its share among the users or sessions that keep one; none while nobody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<f64>,
}

impl Report {
    /// Shows `state`, which has been brought under `definition`.
    pub fn of(definition: &Definition, state: &State) -> Self {
        let name = |index: usize| {
            let variant = definition.variants.get(index);
            variant.map_or_else(String::new, |variant| variant.name.clone())
        };
        let held: usize = (0..definition.variants.len())
            .map(|index| state.held(index))
            .sum();
        let shown = definition
            .variants
            .iter()
            .zip(state.tallies())
            .zip(state.shares(definition))
            .enumerate();
        let variants = shown.map(|(index, ((variant, tally), share))| {
            let (low, high) = tally.interval95();
            VariantReport {
                name: variant.name.clone(),
                n: tally.n(),
                mean: (tally.n() > 0).then_some(tally.mean()),
                low,
                high,
                share,
                kept: (held > 0).then(|| state.held(index) as f64 / held as f64),
            }
        });
        let stop = state.stop();
        Self {
            name: definition.name.clone(),
            phase: state.phase(definition).name(),
            sticky: definition.sticky.name(),
            samples: state.samples(),
            max_samples: definition.max_samples,
            delta: definition.delta,
            winner: stop.map(|stop| name(stop.winner)),
            reason: stop.map(|stop| stop.reason),
            stopped_at_ms: stop.map(|stop| stop.at_ms),
            evidence: state.evidence(definition).map(|evidence| EvidenceReport {
                leader: name(evidence.leader),
                challenger: name(evidence.challenger),
                ratio: evidence.ratio,
                threshold: evidence.threshold,
            }),
            variants: variants.collect(),
        }
    }
}
