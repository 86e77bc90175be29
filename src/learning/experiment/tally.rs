//! The rewards of one variant.

use serde::{Deserialize, Serialize};

/// More rewards than this are not counted one by one in a double.
const MOST: u64 = 1 << 53;
/// Half the width of a 95 % interval, in standard deviations.
const Z95: f64 = 1.96;

/// Rewards from 0 to 1: how many, their mean, and how they vary (B. P. Welford, "Note on a Method for
/// Calculating Corrected Sums of Squares and Products", 1962).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    n: u64,
    mean: f64,
    /// Sum of squared distances from the mean.
    m2: f64,
}

impl Tally {
    /// Takes in a reward, and says whether it is one: a number from 0 to 1.
    pub fn observe(&mut self, reward: f64) -> bool {
        if !(0.0..=1.0).contains(&reward) {
            return false;
        }
        self.n = self.n.saturating_add(1);
        let before = reward - self.mean;
        self.mean = (self.mean + before / self.n as f64).clamp(0.0, 1.0);
        self.m2 += before * (reward - self.mean);
        true
    }

    /// Rewards taken in.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// Their mean, 0 to 1; 0 without any.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// The variance of a reward, above 0 to 0.25, with one reward of 0 and one of 1 added.
    ///
    /// For rewards that are 0 or 1 this is exactly the Beta-smoothed (s+1)(n-s+1)/(n+2)²; for those
    /// between it keeps what the samples say of their spread. It is never 0, so that a run of equal
    /// rewards is no certainty.
    pub fn variance(&self) -> f64 {
        self.with_ends(1.0).1
    }

    /// About 95 % of confidence in the mean of this variant, looked at once: low and high end within 0
    /// to 1 and around the mean. Two rewards of 0 and two of 1 are added (A. Agresti and B. A. Coull,
    /// "Approximate is Better than 'Exact'", 1998).
    pub fn interval95(&self) -> (f64, f64) {
        if self.n == 0 {
            return (0.0, 1.0);
        }
        let (centre, variance, n) = self.with_ends(2.0);
        let half = Z95 * (variance / n).sqrt();
        (
            (centre - half).clamp(0.0, self.mean),
            (centre + half).clamp(self.mean, 1.0),
        )
    }

    /// Mean, variance and number with `each` rewards of 0 and as many of 1 added.
    fn with_ends(&self, each: f64) -> (f64, f64, f64) {
        let (own, added) = (self.n as f64, 2.0 * each);
        let n = own + added;
        let mean = (own * self.mean + each) / n;
        let apart = self.mean - 0.5;
        let m2 = self.m2 + added * 0.25 + apart * apart * own * added / n;
        (mean, (m2 / n).clamp(f64::MIN_POSITIVE, 0.25), n)
    }

    /// Whether this can have come from rewards.
    pub fn is_valid(&self) -> bool {
        // n·mean·(1-mean) is the most that rewards from 0 to 1 can vary around their mean.
        let most = self.n as f64 * self.mean * (1.0 - self.mean);
        self.n <= MOST
            && (0.0..=1.0).contains(&self.mean)
            && (-1e-6..=most * (1.0 + 1e-6) + 1e-6).contains(&self.m2)
            && (self.n > 0 || self.mean == 0.0)
    }
}
