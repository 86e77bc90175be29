//! How often each variant is to be drawn.

use super::definition::Definition;
use super::stopping::leader;
use super::tally::Tally;

/// Differences of means below this count as this: nearly equal variants would otherwise take every
/// sample, and the far ones none.
const NEAR: f64 = 0.01;
/// Halvings of the interval in which the solution lies; more than a double's 53 bits tell nothing.
const HALVINGS: usize = 50;

/// The share of each variant, in the definition's order: at least its minimum, 1 together.
///
/// Until each variant has its `min_samples` all shares are the same, as far as the minima let them.
pub fn shares(definition: &Definition, tallies: &[Tally]) -> Vec<f64> {
    let count = definition.variants.len();
    let nursery = tallies.len() != count
        || tallies
            .iter()
            .any(|tally| tally.n() < definition.min_samples);
    let free = (1.0 - definition.least()).max(0.0);
    let best = if nursery {
        vec![1.0 / count.max(1) as f64; count]
    } else {
        optimal(tallies, definition.epsilon)
    };
    // Whoever wants a share above its minimum shares what the minima leave.
    let minimum = |index: usize| {
        definition
            .variants
            .get(index)
            .map_or(0.0, |variant| variant.min_share)
    };
    let wants: Vec<f64> = best
        .iter()
        .enumerate()
        .map(|(index, share)| (share - minimum(index)).max(0.0))
        .collect();
    let wanted: f64 = wants.iter().sum();
    let even = 1.0 / count.max(1) as f64;
    wants
        .iter()
        .enumerate()
        .map(|(index, want)| {
            let part = if wanted > 0.0 { want / wanted } else { even };
            minimum(index) + free * part
        })
        .collect()
}

/// The shares with which the best of Gaussian variants is found soonest: those that maximise the
/// smallest (difference)²/(2(σl²/wl + σc²/wc)) between the leader and a challenger.
///
/// At the maximum every challenger's term is the same y, and the gradients balance: with wl = 1 and
/// wc(y) = σc²/(difference²/y - σl²), Σ (σl·wc/σc)² = 1 (Garivier and Kaufmann, 2016, theorem 5, for
/// variances that differ). The left side grows with y, so halving finds it.
fn optimal(tallies: &[Tally], epsilon: f64) -> Vec<f64> {
    let Some(lead) = leader(tallies) else {
        return Vec::new();
    };
    let best = tallies.get(lead).copied().unwrap_or_default();
    let own = best.variance();
    let others: Vec<Option<(f64, f64)>> = tallies
        .iter()
        .enumerate()
        .map(|(index, tally)| {
            let apart = (best.mean() - tally.mean() + epsilon).max(NEAR);
            (index != lead).then_some((apart * apart, tally.variance()))
        })
        .collect();
    let weight = |y: f64, (apart2, variance): (f64, f64)| variance / (apart2 / y - own);
    let balance = |y: f64| -> f64 {
        let term = |other: &(f64, f64)| own / other.1 * weight(y, *other).powi(2);
        others.iter().flatten().map(term).sum()
    };
    let nearest = others
        .iter()
        .flatten()
        .map(|(apart2, _)| *apart2)
        .fold(f64::INFINITY, f64::min);
    let (mut low, mut high) = (0.0, nearest / own);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if balance(middle) < 1.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    let y = low.max(f64::MIN_POSITIVE);
    let weights: Vec<f64> = others
        .iter()
        .map(|other| other.map_or(1.0, |other| weight(y, other)))
        .collect();
    let total: f64 = weights.iter().sum();
    if total.is_finite() && total > 0.0 {
        weights.iter().map(|weight| weight / total).collect()
    } else {
        vec![1.0 / tallies.len() as f64; tallies.len()]
    }
}

/// The variant that a uniform draw from 0 to 1 falls on.
pub fn draw(shares: &[f64], uniform: f64) -> usize {
    let mut rest = uniform;
    for (index, share) in shares.iter().enumerate() {
        rest -= share;
        if rest < 0.0 {
            return index;
        }
    }
    // Shares that add up to a hair less than 1.
    (0..shares.len())
        .rev()
        .find(|index| shares.get(*index).is_some_and(|share| *share > 0.0))
        .unwrap_or(0)
}
