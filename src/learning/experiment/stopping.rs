//! Whether the evidence for one variant is enough.

use serde::{Deserialize, Serialize};

use super::tally::Tally;

/// The difference of means that is looked for most keenly: others take a little longer to be found, but
/// are found as surely.
const LIKELY: f64 = 0.13;

/// The evidence for the leading variant over the one that comes closest to it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Index of the variant with the highest mean.
    pub leader: usize,
    /// Index of the variant whose ratio is furthest from what it must exceed.
    pub challenger: usize,
    /// Their generalised log-likelihood ratio, at least 0.
    pub ratio: f64,
    /// What the ratio must exceed.
    pub threshold: f64,
}

impl Evidence {
    /// Whether it is enough.
    pub fn suffices(&self) -> bool {
        self.ratio > self.threshold
    }
}

/// The variant with the highest mean; of equal ones the one whose mean is surer, then the first.
pub fn leader(tallies: &[Tally]) -> Option<usize> {
    (0..tallies.len()).reduce(|best, next| match (tallies.get(best), tallies.get(next)) {
        (Some(a), Some(b)) => {
            let surer = b.mean() == a.mean() && of_mean(b) < of_mean(a);
            if b.mean() > a.mean() || surer {
                next
            } else {
                best
            }
        }
        _ => best,
    })
}

/// What the tallies say; `None` with fewer than two of them or without a sample of each.
///
/// For leader l and challenger c the ratio is (μl - μc + ε)²/(2(σl²/nl + σc²/nc)) (Garivier and Kaufmann,
/// 2016). It must exceed the greater of two thresholds: theirs, ln((1 + ln N)/δ) with N samples in all,
/// and one that stays valid for ever, of H. Robbins' normal mixture (1970).
pub fn evidence(tallies: &[Tally], delta: f64, epsilon: f64) -> Option<Evidence> {
    let lead = leader(tallies)?;
    let best = tallies.get(lead)?;
    if tallies.iter().any(|tally| tally.n() == 0) {
        return None;
    }
    let samples: u64 = tallies.iter().map(Tally::n).sum();
    let asymptotic = ((1.0 + (samples as f64).ln()) / delta).ln();
    // The best variant may be beaten wrongly by each other one, by chance half of delta each.
    let wrong = 0.5 * (tallies.len() as f64 - 1.0);
    let delta = delta / wrong.max(1.0);
    let against = |(challenger, tally): (usize, &Tally)| {
        let apart = best.mean() - tally.mean() + epsilon;
        let variance = of_mean(best) + of_mean(tally);
        Evidence {
            leader: lead,
            challenger,
            ratio: apart * apart / (2.0 * variance),
            threshold: asymptotic.max(mixture(variance, delta)),
        }
    };
    let short = |evidence: &Evidence| evidence.threshold - evidence.ratio;
    tallies
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != lead)
        .map(against)
        .reduce(|least, next| {
            if short(&next) > short(&least) {
                next
            } else {
                least
            }
        })
}

/// What z²/2 of a difference of means must exceed for an error of at most `delta` however often one
/// looks; `variance` is that of the difference.
///
/// H. Robbins' normal mixture ("Statistical Methods Related to the Law of the Iterated Logarithm", 1970):
/// with v = `LIKELY`²/variance, (1 + 1/v)(ln(1 + v)/2 + ln(1/δ)). A threshold that grows as ln ln N
/// alone is crossed sooner or later: errors add up as ∫ d(ln N)/(1 + ln N), which has no end.
fn mixture(variance: f64, delta: f64) -> f64 {
    let v = LIKELY * LIKELY / variance;
    (1.0 + 1.0 / v) * (0.5 * v.ln_1p() - delta.ln())
}

/// The variance of the mean.
fn of_mean(tally: &Tally) -> f64 {
    tally.variance() / tally.n().max(1) as f64
}
