//! Which of several deployments to ask first, as a pure function of what is known of them.
//!
//! [`Basis`] holds every number that a choice is made of. It is kept with the decision, so that the same
//! choice can be made again, bit for bit ([`decide`]).

use serde::{Deserialize, Serialize};

use super::score::{Expectation, Weights, scores};
use crate::id::DeploymentId;
use crate::learning::sampler::draw_one;
use crate::learning::{Bounds, Credit, Spot, Stake, Why, choose};

/// What a choice is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Basis {
    /// What the noise is drawn from.
    pub seed: u64,
    /// What a good choice is.
    pub weights: Weights,
    /// How far exploring may go.
    pub bounds: Bounds,
    /// How much was explored on this kind of task.
    pub credit: Credit,
    /// Who can be chosen.
    pub deployments: Vec<DeploymentId>,
    /// What is known of each.
    pub standings: Vec<Standing>,
}

/// What is known of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Its own place in the noise.
    pub at: u64,
    /// What is believed of its quality on this kind of task.
    pub spot: Spot,
    /// What this form of question changes in that, −0.25..=0.25.
    pub adjustment: f64,
    /// What else is expected of it. Its quality is the mean of the belief with the adjustment.
    pub expected: Expectation,
}

/// A choice and how it came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Place of the chosen one in the basis.
    pub index: usize,
    /// Why it.
    pub why: Why,
    /// The utility each is expected to have; higher is better.
    pub expected: Vec<f64>,
    /// The quality drawn for each, 0..=1.
    pub sampled: Vec<f64>,
    /// Low and high end of each one's quality, about 95 % of belief.
    pub interval: Vec<(f64, f64)>,
}

impl Standing {
    /// What is expected with the belief's mean for its quality.
    pub fn new(at: u64, spot: Spot, adjustment: f64, mut expected: Expectation) -> Self {
        expected.quality = shifted(draw_one(&spot, 0, at).mean, adjustment);
        Self {
            at,
            spot,
            adjustment,
            expected,
        }
    }
}

fn shifted(quality: f64, adjustment: f64) -> f64 {
    (quality + adjustment).clamp(0.0, 1.0)
}

/// Chooses. `None` if there is nobody, or a number that is none: then the configured order stands.
pub fn decide(basis: &Basis) -> Option<Verdict> {
    let draws: Vec<_> = basis
        .standings
        .iter()
        .map(|one| draw_one(&one.spot, basis.seed, one.at))
        .collect();
    let mean: Vec<Expectation> = basis.standings.iter().map(|one| one.expected).collect();
    let sampled: Vec<f64> = basis
        .standings
        .iter()
        .zip(&draws)
        .map(|(one, draw)| shifted(draw.sampled, one.adjustment))
        .collect();
    let imagined: Vec<Expectation> = mean
        .iter()
        .zip(&sampled)
        .map(|(expected, quality)| Expectation {
            quality: *quality,
            ..*expected
        })
        .collect();
    let expected = scores(&mean, basis.weights);
    let hoped = scores(&imagined, basis.weights);
    if expected
        .iter()
        .chain(&hoped)
        .any(|score| !score.is_finite())
    {
        return None;
    }
    let interval: Vec<(f64, f64)> = basis
        .standings
        .iter()
        .zip(&draws)
        .map(|(one, draw)| {
            (
                shifted(draw.low, one.adjustment),
                shifted(draw.high, one.adjustment),
            )
        })
        .collect();
    let stakes: Vec<Stake> = (0..mean.len())
        .map(|at| Stake {
            expected: expected[at],
            sampled: hoped[at],
            quality: mean[at].quality,
            high: interval[at].1,
        })
        .collect();
    let choice = choose(&stakes, basis.bounds, &basis.credit)?;
    Some(Verdict {
        index: choice.index,
        why: choice.why,
        expected,
        sampled,
        interval,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn standing(at: u64, centre: f64, dollars: f64) -> Standing {
        let spot = Spot {
            centre,
            deviation: 0.4,
            reach: 0.3,
            evidence: 20.0,
        };
        let expected = Expectation {
            quality: 0.0,
            seconds: Some(1.0),
            dollars: Some(dollars),
            failure_rate: 0.0,
            in_flight: 0,
        };
        Standing::new(at, spot, 0.0, expected)
    }

    fn basis(seed: u64, standings: Vec<Standing>) -> Basis {
        Basis {
            seed,
            weights: Weights {
                quality: 1.0,
                latency: 0.0,
                cost: 0.0,
            },
            bounds: Bounds::default(),
            credit: Credit::default(),
            deployments: Vec::new(),
            standings,
        }
    }

    #[test]
    fn nobody_is_chosen_of_nobody_and_from_no_numbers() {
        assert_eq!(decide(&basis(1, Vec::new())), None);
        assert_eq!(decide(&basis(1, vec![standing(0, f64::NAN, 0.0)])), None);
    }

    #[test]
    fn who_must_not_explore_takes_the_best_whatever_the_draw() {
        for seed in 0..200 {
            let mut basis = basis(seed, vec![standing(0, 0.5, 0.0), standing(1, 0.6, 0.0)]);
            basis.bounds.explore = false;
            assert_eq!(decide(&basis).unwrap().index, 1);
        }
    }

    proptest! {
        #[test]
        fn a_choice_that_went_through_json_is_made_again_bit_for_bit(
            seed in any::<u64>(),
            centres in proptest::collection::vec((-3.0..3.0f64, 0.0..0.1f64), 1..8),
        ) {
            let standings = (0u64..).zip(centres).map(|(at, (centre, dollars))| standing(at, centre, dollars));
            let basis = basis(seed, standings.collect());
            let text = serde_json::to_string(&basis).unwrap();
            let again: Basis = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&again, &basis);
            prop_assert_eq!(decide(&again), decide(&basis));
        }
    }
}
