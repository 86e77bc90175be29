//! Whom to ask, when only the one asked is seen to be right or wrong.
//!
//! Thompson sampling (W. R. Thompson, "On the Likelihood that One Unknown Probability Exceeds Another",
//! 1933) on the log-odds of a right answer, with noise that is uniform and narrower than the belief:
//! bounded, as in S. Vaswani et al., "Old Dog Learns New Tricks: Randomized UCB for Bandit Problems"
//! (2020), so that what is far behind is not asked at all.

use serde::{Deserialize, Serialize};

use super::chance;
use super::pool::{Pool, Spot, logistic};

/// Half the width of a 95 % interval, in standard deviations.
const Z95: f64 = 1.96;
/// Half the width of the uniform distribution of variance 1.
const HALF_WIDTH: f64 = 1.732_050_807_568_877_2;

/// What is believed of a candidate's quality, and a sample of it; all 0 to 1 but the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Draw {
    /// The quality to decide by.
    pub sampled: f64,
    /// The quality expected.
    pub mean: f64,
    /// Low end of the 95 % interval.
    pub low: f64,
    /// High end of the 95 % interval.
    pub high: f64,
    /// Observations of just this kind or cluster, older ones counting less.
    pub evidence: f64,
}

/// A sample of every member's quality on a kind of task or in a cluster, in the pool's order. The same
/// pool and seed give the same samples; a member's own does not depend on who else is asked for.
pub fn draw(pool: &Pool, kind: Option<usize>, cluster: Option<u64>, seed: u64) -> Vec<Draw> {
    let spots = pool.spots(kind, cluster);
    (0u64..)
        .zip(spots)
        .map(|(at, spot)| draw_one(spot, seed, at))
        .collect()
}

/// The draw for the member at the place `at` alone.
pub fn draw_one(spot: &Spot, seed: u64, at: u64) -> Draw {
    sample(spot, unit(seed, at))
}

fn sample(spot: &Spot, unit: f64) -> Draw {
    let noise = HALF_WIDTH * (2.0 * unit - 1.0);
    let wide = Z95 * spot.deviation;
    Draw {
        sampled: logistic(spot.centre + spot.reach * noise),
        mean: logistic(spot.centre),
        low: logistic(spot.centre - wide),
        high: logistic(spot.centre + wide),
        evidence: spot.evidence,
    }
}

/// A number from 0 to below 1 that depends on seed and place alone (G. L. Steele, D. Lea and C. H. Flood,
/// "Fast Splittable Pseudorandom Number Generators", 2014).
fn unit(seed: u64, at: u64) -> f64 {
    let mut z = seed.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    chance::unit(z)
}

/// What bounds exploring.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// Whether to explore at all; an urgent query does not.
    pub explore: bool,
    /// The share of queries of one kind that may go to someone other than the best known, 0 to 1.
    pub share: f64,
    /// How many may besides, at the start and after a quiet time.
    pub burst: f64,
    /// Nobody is explored who, at the high end of the interval, has less than this share of the
    /// quality expected of the best known; 0 to 1.
    pub floor: f64,
}

impl Default for Bounds {
    /// A tenth, twenty-five besides, and eight tenths of the best.
    fn default() -> Self {
        Self {
            explore: true,
            share: 0.1,
            burst: 25.0,
            floor: 0.8,
        }
    }
}

/// How much exploring is left for one kind of task: a token bucket, filled by every choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Credit {
    /// What has been used up of the burst, in choices.
    used: f64,
}

impl Credit {
    /// Whether one more choice may explore.
    pub fn allows(&self, bounds: Bounds) -> bool {
        bounds.explore && self.used - bounds.share + 1.0 <= bounds.burst
    }

    /// Notes a choice.
    pub fn note(&mut self, why: Why, bounds: Bounds) {
        let explored = if why == Why::Explored { 1.0 } else { 0.0 };
        self.used = (self.used - bounds.share.clamp(0.0, 1.0) + explored).clamp(0.0, MOST_USED);
    }

    /// Whether this can have come from choices.
    pub fn validate(&self) -> Result<(), String> {
        if (0.0..=MOST_USED).contains(&self.used) {
            Ok(())
        } else {
            Err(format!("{} explored choices are impossible", self.used))
        }
    }
}

const MOST_USED: f64 = 1e6;

/// A candidate as the choice sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stake {
    /// Its utility at the quality expected.
    pub expected: f64,
    /// Its utility at the quality sampled.
    pub sampled: f64,
    /// The quality expected, 0 to 1.
    pub quality: f64,
    /// The high end of its quality, 0 to 1.
    pub high: f64,
}

/// Why a candidate was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It is the best known.
    Greedy,
    /// It may be better than the best known.
    Explored,
    /// It is the best known; another would have been explored, but for a bound.
    Bounded,
}

/// A choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which of the stakes.
    pub index: usize,
    /// Why.
    pub why: Why,
}

/// Chooses the candidate of the best sampled utility, or, where a bound forbids, of the best expected
/// one. `None` without candidates. The credit is only read: [`Credit::note`] the choice if it is served.
pub fn choose(stakes: &[Stake], bounds: Bounds, credit: &Credit) -> Option<Choice> {
    let greedy = best(stakes, |stake| stake.expected, |_| true)?;
    let leader = stakes.get(greedy)?;
    let least = leader.quality * bounds.floor;
    let free = best(stakes, |stake| stake.sampled, |_| true)?;
    let wanted = best(
        stakes,
        |stake| stake.sampled,
        |at| at == greedy || stakes.get(at).is_some_and(|stake| stake.high >= least),
    )?;
    let choice = |index, why| Some(Choice { index, why });
    if wanted != greedy && credit.allows(bounds) {
        choice(wanted, Why::Explored)
    } else if free == greedy {
        choice(greedy, Why::Greedy)
    } else {
        choice(greedy, Why::Bounded)
    }
}

/// The first of the largest; what is not a number is the smallest.
fn best(
    stakes: &[Stake],
    value: impl Fn(&Stake) -> f64,
    fit: impl Fn(usize) -> bool,
) -> Option<usize> {
    let value = |stake| {
        let value = value(stake);
        if value.is_nan() {
            f64::NEG_INFINITY
        } else {
            value
        }
    };
    let mut best: Option<(usize, f64)> = None;
    for (at, stake) in stakes.iter().enumerate() {
        let value = value(stake);
        if fit(at) && best.is_none_or(|(_, most)| value > most) {
            best = Some((at, value));
        }
    }
    best.map(|(at, _)| at)
}

#[cfg(test)]
mod tests;
