//! Noticing that a model has become worse than it was.

use serde::{Deserialize, Serialize};

/// The change looked for: rewards fall to this share of what was expected.
const FALL: f64 = 0.6;
/// The gauge that means a change: evidence of e⁹ to 1. In streams of 5,000 queries without a change it
/// was reached in about one of twenty; a fall to 40 % reaches it after some 15 answers.
const ALARM: f64 = 9.0;
/// An expectation is brought within this of 0 and 1, so that no single answer decides.
const MARGIN: f64 = 0.03;
/// A run longer than this is no longer one change; keeps the numbers bounded.
const LONGEST: f64 = 10_000.0;

/// What was observed since the change that was noticed probably happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    /// Observations, by weight.
    pub weight: f64,
    /// What they gave, as a share of what was expected of them; 0 to 1, or above when better.
    pub ratio: f64,
}

/// A cumulative sum of log-likelihood ratios of "as good as expected" against "fallen to 60 % of it",
/// never below zero (E. S. Page, "Continuous Inspection Schemes", 1954). Since when it is above zero
/// is the estimate of when the change happened, so that evidence from before can be dropped and
/// evidence from after kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    gauge: f64,
    weight: f64,
    reward: f64,
    expected: f64,
}

impl Watch {
    /// Takes in a reward, 0 to 1, of which `expected`, 0 to 1, was expected. A weight above 1 counts as
    /// 1: weight says how far to trust one observation, and no single one proves a change. Returns the
    /// run since the change when there was one, and starts anew.
    pub fn observe(&mut self, reward: f64, weight: f64, expected: f64) -> Option<Run> {
        let weight = weight.min(1.0);
        let usual = expected.clamp(MARGIN, 1.0 - MARGIN);
        let fallen = usual * FALL;
        let ratio =
            reward * (fallen / usual).ln() + (1.0 - reward) * ((1.0 - fallen) / (1.0 - usual)).ln();
        self.gauge += weight * ratio;
        if self.gauge.is_nan() || self.gauge <= 0.0 || self.weight > LONGEST {
            *self = Self::default();
            return None;
        }
        self.weight += weight;
        self.reward += weight * reward;
        self.expected += weight * usual;
        if self.gauge < ALARM {
            return None;
        }
        let run = Run {
            weight: self.weight,
            // Half an observation as expected keeps a run of failures from meaning "never right".
            ratio: (self.reward + 0.5) / (self.expected + 0.5),
        };
        *self = Self::default();
        Some(run)
    }

    /// Whether this can have come from observations.
    pub fn validate(&self) -> Result<(), String> {
        let sums = [self.weight, self.reward, self.expected];
        let ordered = self.reward <= self.weight * 1.001 && self.expected <= self.weight * 1.001;
        if !(0.0..=ALARM).contains(&self.gauge) {
            Err(format!("the gauge of changes cannot be {}", self.gauge))
        } else if !sums.iter().all(|s| (0.0..=LONGEST + 1.0).contains(s)) || !ordered {
            Err("the run since a change has impossible sums".to_owned())
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_answers_raise_no_alarm() {
        let mut watch = Watch::default();
        for at in 0..5_000 {
            let reward = if at % 5 == 4 { 0.0 } else { 1.0 };
            assert_eq!(watch.observe(reward, 1.0, 0.8), None);
        }
    }

    #[test]
    fn a_fall_to_forty_per_cent_is_noticed_within_thirty_answers_and_dated() {
        let mut watch = Watch::default();
        for at in 0..500 {
            watch.observe(f64::from(u8::from(at % 5 != 4)), 1.0, 0.8);
        }
        let run = (0..30).find_map(|at| {
            let reward = f64::from(u8::from(at % 3 == 0));
            watch.observe(reward, 1.0, 0.8).map(|run| (at, run))
        });
        let (at, run) = run.unwrap_or((
            99,
            Run {
                weight: 0.0,
                ratio: 0.0,
            },
        ));
        assert!(at < 30, "{at}");
        assert!(
            run.weight <= f64::from(at) + 6.0 && run.ratio < 0.7,
            "{run:?}"
        );
    }

    #[test]
    fn no_single_observation_proves_a_change_however_heavy() {
        let mut watch = Watch::default();
        assert_eq!(watch.observe(0.0, 10.0, 1.0), None);
    }

    #[test]
    fn impossible_gauges_are_refused() {
        for gauge in [f64::NAN, -1.0, 100.0, f64::INFINITY] {
            let watch = Watch {
                gauge,
                ..Watch::default()
            };
            assert!(watch.validate().is_err());
        }
    }
}
