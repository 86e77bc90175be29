//! What a stated probability has meant: how often winners that were given it were right.
//!
//! First a straight line in log-odds for each number of votes (J. Platt, "Probabilistic Outputs for
//! Support Vector Machines", 1999), held to the identity while evidence is thin; then, with enough of it,
//! steps found by pooling neighbours that contradict each other (M. Ayer et al., 1955). Both rise, so the
//! order of two confidences of equally many votes stays. No step claims more than its evidence allows: n
//! of n right makes (n + 1) / (n + 2), P. S. Laplace's rule of succession.

use serde::{Deserialize, Serialize};

/// Numbers of votes told apart; more count as the last.
const COUNTS: usize = 8;
/// The most steps.
const MAX_STEPS: usize = 64;
/// Winners with a known truth below which no steps are cut.
const ENOUGH: usize = 800;

/// What was stated and what came true.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) votes: usize,
    pub(super) stated: f64,
    pub(super) right: f64,
    pub(super) weight: f64,
}

/// A monotone map from stated to real probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Per number of votes, from one: offset and slope in log-odds.
    lines: [(f64, f64); COUNTS],
    /// Upper edges of what the lines give, and what it means; rising, the last edge 1.
    steps: Vec<(f64, f64)>,
    /// No confidence is higher.
    ceiling: f64,
}

impl Calibration {
    /// Takes what is stated for what is meant, up to a ceiling.
    pub(super) fn identity(ceiling: f64) -> Self {
        Self {
            lines: [(0.0, 1.0); COUNTS],
            steps: Vec::new(),
            ceiling,
        }
    }

    /// Fits lines and steps.
    pub(super) fn fit(outcomes: &[Outcome], narrowest: f64) -> Self {
        let mut found = Self::identity(1.0);
        let total: f64 = outcomes.iter().map(|o| o.weight).sum();
        let overall = line(outcomes, (0.0, 1.0), 60.0);
        for (i, slot) in found.lines.iter_mut().enumerate() {
            let own: Vec<Outcome> = outcomes
                .iter()
                .filter(|o| o.votes.clamp(1, COUNTS) == i + 1)
                .copied()
                .collect();
            *slot = line(&own, overall, 40.0);
        }
        if total >= ENOUGH as f64 {
            found.steps = steps(&found, outcomes, narrowest);
        }
        found.ceiling = (total + 1.0) / (total + 2.0);
        found
    }

    /// What a stated probability of the winner of so many votes means.
    pub(super) fn apply(&self, votes: usize, stated: f64) -> f64 {
        let smooth = self.smooth(votes, stated);
        let value = self
            .steps
            .iter()
            .find(|(edge, _)| smooth <= *edge)
            .map_or(smooth, |(_, value)| *value);
        value.min(self.ceiling)
    }

    fn smooth(&self, votes: usize, stated: f64) -> f64 {
        let place = votes.clamp(1, COUNTS) - 1;
        let (offset, slope) = self.lines.get(place).copied().unwrap_or((0.0, 1.0));
        1.0 / (1.0 + (-(offset + slope * odds(stated))).exp())
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        let lines = self
            .lines
            .iter()
            .all(|(a, b)| a.is_finite() && (0.0..=10.0).contains(b));
        let rising = self.steps.windows(2).all(|pair| match pair {
            [a, b] => a.0 <= b.0 && a.1 <= b.1,
            _ => true,
        });
        let within = self
            .steps
            .iter()
            .all(|(edge, value)| (0.0..=1.0).contains(edge) && (0.0..=1.0).contains(value));
        let sized = self.steps.len() <= MAX_STEPS && (0.0..=1.0).contains(&self.ceiling);
        if lines && rising && within && sized {
            Ok(())
        } else {
            Err("a calibration that does not rise from 0 to 1".to_owned())
        }
    }
}

fn odds(p: f64) -> f64 {
    let p = p.clamp(1e-4, 1.0 - 1e-4);
    (p / (1.0 - p)).ln()
}

/// Newton's method for offset and slope, held at `prior` with the evidence of `hold` outcomes.
fn line(outcomes: &[Outcome], prior: (f64, f64), hold: f64) -> (f64, f64) {
    let (mut a, mut b) = prior;
    let hold = hold * 0.15;
    for _ in 0..25 {
        let (mut ga, mut gb) = (hold * (prior.0 - a), hold * (prior.1 - b));
        let (mut haa, mut hab, mut hbb) = (hold, 0.0, hold);
        for o in outcomes {
            let x = odds(o.stated);
            let p = 1.0 / (1.0 + (-(a + b * x)).exp());
            let (g, h) = (o.weight * (o.right - p), o.weight * p * (1.0 - p));
            ga += g;
            gb += g * x;
            haa += h;
            hab += h * x;
            hbb += h * x * x;
        }
        let det = haa * hbb - hab * hab;
        let (da, db) = ((hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det);
        if !(da.is_finite() && db.is_finite()) {
            return prior;
        }
        a = (a + da.clamp(-1.0, 1.0)).clamp(-5.0, 5.0);
        b = (b + db.clamp(-1.0, 1.0)).clamp(0.05, 5.0);
    }
    (a, b)
}

/// Pools neighbours until the share of right ones rises and each step rests on `narrowest` of all.
fn steps(lines: &Calibration, outcomes: &[Outcome], narrowest: f64) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64, f64)> = outcomes
        .iter()
        .map(|o| (lines.smooth(o.votes, o.stated), o.right, o.weight))
        .filter(|(p, ..)| p.is_finite())
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = points.iter().map(|p| p.2).sum();
    let least = (total * narrowest).max(20.0);
    // Upper edge, right, weight.
    let mut pools: Vec<(f64, f64, f64)> = Vec::new();
    let mut open: Option<(f64, f64, f64)> = None;
    for (p, right, weight) in points {
        let pool = open.get_or_insert((p, 0.0, 0.0));
        if pool.2 >= least && p > pool.0 {
            pools.extend(open.replace((p, right * weight, weight)));
            continue;
        }
        *pool = (p, pool.1 + right * weight, pool.2 + weight);
    }
    if let Some(rest) = open {
        match pools.last_mut() {
            Some(last) if rest.2 < 0.5 * least => {
                *last = (rest.0, last.1 + rest.1, last.2 + rest.2);
            }
            _ => pools.push(rest),
        }
    }
    let mut rising: Vec<(f64, f64, f64)> = Vec::new();
    for pool in pools {
        let mut pool = pool;
        while let Some(last) = rising.last() {
            if last.1 / last.2 < pool.1 / pool.2 {
                break;
            }
            pool = (pool.0, last.1 + pool.1, last.2 + pool.2);
            rising.pop();
        }
        rising.push(pool);
    }
    let count = rising.len();
    let mut highest: f64 = 0.0;
    rising
        .into_iter()
        .take(MAX_STEPS)
        .enumerate()
        .map(|(i, (edge, right, n))| {
            let value = ((right + 0.5) / (n + 1.0)).min((n + 1.0) / (n + 2.0));
            highest = highest.max(value);
            (if i + 1 == count { 1.0 } else { edge }, highest)
        })
        .collect()
}
