//! How good a choice a candidate is: expected quality, against expected seconds and dollars.

use serde::{Deserialize, Serialize};

/// The operator's weights, each ≥ 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Of the expected quality.
    pub quality: f64,
    /// Of the expected time.
    pub latency: f64,
    /// Of the expected cost.
    pub cost: f64,
}

/// What is expected of one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// 0..=1, learned on top of what was declared.
    pub quality: f64,
    /// Seconds to the whole answer; `None` while nothing is learned.
    pub seconds: Option<f64>,
    /// Dollars for the query; `None` without a price.
    pub dollars: Option<f64>,
    /// Share of recent calls that failed, 0..=1.
    pub failure_rate: f64,
    /// Calls under way.
    pub in_flight: u32,
}

/// The time that counts half: a scale between a snappy answer and a tedious one.
const HALF_SECONDS: f64 = 10.0;
/// The cost that counts half.
const HALF_DOLLARS: f64 = 0.01;
/// Each call under way makes the next a little slower.
const CROWDING: f64 = 0.05;
/// Assumed where nobody has been measured.
const UNKNOWN_SECONDS: f64 = 2.0;

/// Scores every candidate; higher is better. What is unknown of one is taken from the others: the fastest
/// known time, so that a newcomer is tried, and the dearest known price, so that a missing price is no bargain.
///
/// A failing deployment answers nothing, so its quality counts by its share of successes; its failures never
/// count as fast answers.
pub fn scores(expectations: &[Expectation], weights: Weights) -> Vec<f64> {
    let known_seconds = expectations.iter().filter_map(|e| e.seconds);
    let fastest = known_seconds.fold(f64::INFINITY, f64::min);
    let unknown_seconds = if fastest.is_finite() {
        fastest
    } else {
        UNKNOWN_SECONDS
    };
    let dearest = expectations
        .iter()
        .filter_map(|e| e.dollars)
        .fold(0.0, f64::max);
    expectations
        .iter()
        .map(|expected| {
            let seconds = expected.seconds.unwrap_or(unknown_seconds)
                * (1.0 + CROWDING * f64::from(expected.in_flight));
            let dollars = expected.dollars.unwrap_or(dearest);
            weights.quality * expected.quality * (1.0 - expected.failure_rate)
                - weights.latency * seconds / (seconds + HALF_SECONDS)
                - weights.cost * dollars / (dollars + HALF_DOLLARS)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVEN: Weights = Weights {
        quality: 1.0,
        latency: 0.3,
        cost: 0.3,
    };

    fn expectation(quality: f64, seconds: Option<f64>, dollars: Option<f64>) -> Expectation {
        Expectation {
            quality,
            seconds,
            dollars,
            failure_rate: 0.0,
            in_flight: 0,
        }
    }

    #[test]
    fn fast_failures_do_not_beat_slow_successes() {
        let failing = Expectation {
            failure_rate: 0.9,
            ..expectation(0.5, Some(0.001), None)
        };
        let slow = expectation(0.5, Some(5.0), None);
        let scores = scores(&[failing, slow], EVEN);
        assert!(scores[1] > scores[0], "{scores:?}");
    }

    #[test]
    fn a_missing_price_is_no_bargain() {
        let scores = scores(
            &[
                expectation(0.5, None, None),
                expectation(0.5, None, Some(0.02)),
            ],
            EVEN,
        );
        assert!((scores[0] - scores[1]).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn better_on_one_axis_and_equal_on_the_others_never_scores_lower(
            quality in 0.0..1.0f64, more in 0.0..1.0f64,
            seconds in 0.001..600.0f64, dollars in 0.0..1.0f64,
        ) {
            let base = expectation(quality, Some(seconds), Some(dollars));
            for better in [
                expectation((quality + more).min(1.0), Some(seconds), Some(dollars)),
                expectation(quality, Some(seconds * (1.0 - more)), Some(dollars)),
                expectation(quality, Some(seconds), Some(dollars * (1.0 - more))),
            ] {
                let scores = scores(&[base, better], EVEN);
                prop_assert!(scores[1] >= scores[0]);
            }
        }
    }
}
