//! How right answers were, and how well their confidences told it.
//!
//! Accuracies are in per cent, confidences and everything made of them in 0..1, as in the results that are
//! printed. Nothing here is random, and nothing depends on the order of the outcomes.

use serde::Serialize;

/// Bins of the expected calibration error.
pub const ECE_BINS: usize = 15;
/// The most bins of a reliability diagram.
pub const MAX_BINS: usize = 1_000;

/// One answer: whether it was right, and how sure we were of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Whether it was right.
    pub right: bool,
    /// How sure we were of it, 0..=1 as a probability; for [`auroc`] and [`accuracy_at`] any finite number.
    pub confidence: f64,
}

/// Why something could not be measured.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// Nothing to measure.
    #[error("there are no outcomes to measure")]
    Empty,
    /// A number that is none.
    #[error("outcome {at} has the value {value}, which is not finite")]
    NotFinite {
        /// Which, from 0.
        at: usize,
        /// Its value.
        value: f64,
    },
    /// A confidence or score that is no probability.
    #[error("outcome {at} has the value {value}; allowed are 0 to 1")]
    NoProbability {
        /// Which, from 0.
        at: usize,
        /// Its value.
        value: f64,
    },
    /// A coverage that is none.
    #[error("the coverage is {0}; allowed is above 0, up to 1")]
    Coverage(f64),
    /// Too few or too many bins.
    #[error("there are {0} bins; allowed are 1 to {MAX_BINS}")]
    Bins(usize),
}

/// A share of right answers, in per cent, and its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// In per cent.
    pub percent: f64,
    /// In points.
    pub standard_error: f64,
}

/// The bin `low..high` of a reliability diagram; the last holds its upper end as well.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// The least confidence.
    pub low: f64,
    /// The confidence where the next bin begins.
    pub high: f64,
    /// How many outcomes fell in.
    pub n: usize,
    /// Their mean confidence, 0..=1; `None` without any.
    pub mean_confidence: Option<f64>,
    /// The share of them that was right, 0..=1; `None` without any.
    pub accuracy: Option<f64>,
}

/// Everything at once, under the names results are printed with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How many outcomes.
    pub n: usize,
    /// In per cent.
    pub accuracy: f64,
    /// Its standard error, in points.
    pub accuracy_se: f64,
    /// See [`brier`].
    pub brier: f64,
    /// See [`ece`], of [`ECE_BINS`].
    pub ece: f64,
    /// See [`auroc`].
    pub auroc: Option<f64>,
    /// See [`accuracy_at`], of the surest 80 %.
    pub accuracy_at_80: f64,
    /// See [`accuracy_at`], of the surest 50 %.
    pub accuracy_at_50: f64,
}

/// Measures everything.
///
/// # Errors
///
/// Without outcomes, and if a confidence is no probability.
pub fn summary(outcomes: &[Outcome]) -> Result<Summary, MetricError> {
    let Accuracy {
        percent,
        standard_error,
    } = accuracy(outcomes)?;
    Ok(Summary {
        n: outcomes.len(),
        accuracy: percent,
        accuracy_se: standard_error,
        brier: brier(outcomes)?,
        ece: ece(outcomes)?,
        auroc: auroc(outcomes)?,
        accuracy_at_80: accuracy_at(outcomes, 0.8)?,
        accuracy_at_50: accuracy_at(outcomes, 0.5)?,
    })
}

/// The share of right answers, and the standard error of it as of a binomial, `sqrt(p (1 - p) / n)`.
///
/// # Errors
///
/// Without outcomes, and if a confidence is not finite: it is not needed here, but something is wrong.
pub fn accuracy(outcomes: &[Outcome]) -> Result<Accuracy, MetricError> {
    finite(outcomes)?;
    let n = outcomes.len() as f64;
    let share = rights(outcomes.iter()) as f64 / n;
    Ok(Accuracy {
        percent: 100.0 * share,
        standard_error: 100.0 * (share * (1.0 - share) / n).sqrt(),
    })
}

/// The same of scores 0..=1 where an answer may be right in part: their mean, and its standard error from
/// their own spread (over n, so that scores of 0 and 1 give what [`accuracy`] gives).
///
/// # Errors
///
/// Without scores, and if one is not in 0..=1.
pub fn mean_score(scores: &[f64]) -> Result<Accuracy, MetricError> {
    if scores.is_empty() {
        return Err(MetricError::Empty);
    }
    probability(scores.iter().copied())?;
    let n = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / n;
    let variance = scores
        .iter()
        .map(|score| (score - mean).powi(2))
        .sum::<f64>()
        / n;
    Ok(Accuracy {
        percent: 100.0 * mean,
        standard_error: 100.0 * (variance / n).sqrt(),
    })
}

/// The mean squared distance of confidence and outcome (Brier, "Verification of forecasts expressed in terms
/// of probability", 1950, for two classes); 0 is best.
///
/// # Errors
///
/// Without outcomes, and if a confidence is no probability.
pub fn brier(outcomes: &[Outcome]) -> Result<f64, MetricError> {
    probabilities(outcomes)?;
    let squares = outcomes.iter().map(|outcome| {
        let came = if outcome.right { 1.0 } else { 0.0 };
        (outcome.confidence - came).powi(2)
    });
    Ok(squares.sum::<f64>() / outcomes.len() as f64)
}

/// The expected calibration error: the distance of mean confidence and share of right answers in each of
/// [`ECE_BINS`] bins of equal width, weighted by how many fell in (Naeini, Cooper and Hauskrecht, "Obtaining
/// well calibrated probabilities using Bayesian binning", 2015); 0 is best.
///
/// # Errors
///
/// Without outcomes, and if a confidence is no probability.
pub fn ece(outcomes: &[Outcome]) -> Result<f64, MetricError> {
    let bins = reliability(outcomes, ECE_BINS)?;
    let distances = bins.iter().filter_map(|bin| {
        let distance = (bin.mean_confidence? - bin.accuracy?).abs();
        Some(distance * bin.n as f64)
    });
    Ok(distances.sum::<f64>() / outcomes.len() as f64)
}

/// Outcomes in `bins` bins of equal width, by confidence: a bin holds its lower end and not its upper, save
/// the last, which holds 1. Empty bins are among them.
///
/// # Errors
///
/// Without outcomes, without bins or with more than [`MAX_BINS`], and if a confidence is no probability.
pub fn reliability(outcomes: &[Outcome], bins: usize) -> Result<Vec<Bin>, MetricError> {
    if !(1..=MAX_BINS).contains(&bins) {
        return Err(MetricError::Bins(bins));
    }
    probabilities(outcomes)?;
    let mut sums = vec![(0_usize, 0.0, 0_usize); bins];
    for outcome in outcomes {
        let at = ((outcome.confidence * bins as f64) as usize).min(bins - 1);
        if let Some((n, confidence, right)) = sums.get_mut(at) {
            *n += 1;
            *confidence += outcome.confidence;
            *right += usize::from(outcome.right);
        }
    }
    let bin = |(at, (n, confidence, right)): (usize, (usize, f64, usize))| Bin {
        low: at as f64 / bins as f64,
        high: (at + 1) as f64 / bins as f64,
        n,
        mean_confidence: (n > 0).then(|| confidence / n as f64),
        accuracy: (n > 0).then(|| right as f64 / n as f64),
    };
    Ok(sums.into_iter().enumerate().map(bin).collect())
}

/// How likely a right answer has a higher confidence than a wrong one, ties as one half: the area under the
/// receiver operating characteristic, from the rank sum (Hanley and McNeil, "The meaning and use of the area
/// under a receiver operating characteristic (ROC) curve", 1982). `None` unless some are right and some wrong.
///
/// # Errors
///
/// Without outcomes, and if a confidence is not finite.
pub fn auroc(outcomes: &[Outcome]) -> Result<Option<f64>, MetricError> {
    finite(outcomes)?;
    let right = rights(outcomes.iter()) as f64;
    let wrong = outcomes.len() as f64 - right;
    if right == 0.0 || wrong == 0.0 {
        return Ok(None);
    }
    // From the surest down: a right answer beats every wrong one yet to come, and ties with those beside it.
    let mut wrong_below = wrong;
    let mut beaten = 0.0;
    for tied in ranked(outcomes).chunk_by(|a, b| a.confidence == b.confidence) {
        let tied_right = rights(tied.iter().copied()) as f64;
        let tied_wrong = tied.len() as f64 - tied_right;
        wrong_below -= tied_wrong;
        beaten += tied_right * (wrong_below + tied_wrong / 2.0);
    }
    Ok(Some(beaten / (right * wrong)))
}

/// Accuracy, in per cent, of the surest: of the `coverage` share of outcomes with the highest confidence,
/// rounded up to whole outcomes. Where the cut falls among equal confidences, as many of those as are needed,
/// each equally likely: what breaking ties at random gives on average.
///
/// # Errors
///
/// Without outcomes, if the coverage is not in (0, 1], and if a confidence is not finite.
pub fn accuracy_at(outcomes: &[Outcome], coverage: f64) -> Result<f64, MetricError> {
    finite(outcomes)?;
    if !(coverage > 0.0 && coverage <= 1.0) {
        return Err(MetricError::Coverage(coverage));
    }
    // 0.7 of 10 is 7, though the product is a little more.
    let wanted = (coverage * outcomes.len() as f64 - 1e-9).ceil().max(1.0);
    let mut open = wanted;
    let mut right = 0.0;
    for tied in ranked(outcomes).chunk_by(|a, b| a.confidence == b.confidence) {
        let taken = open.min(tied.len() as f64);
        right += taken * rights(tied.iter().copied()) as f64 / tied.len() as f64;
        open -= taken;
        if open <= 0.0 {
            break;
        }
    }
    Ok(100.0 * right / wanted)
}

/// The surest first.
fn ranked(outcomes: &[Outcome]) -> Vec<&Outcome> {
    let mut ranked: Vec<_> = outcomes.iter().collect();
    ranked.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    ranked
}

fn rights<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> usize {
    outcomes.filter(|outcome| outcome.right).count()
}

fn finite(outcomes: &[Outcome]) -> Result<(), MetricError> {
    if outcomes.is_empty() {
        return Err(MetricError::Empty);
    }
    let mut values = outcomes
        .iter()
        .map(|outcome| outcome.confidence)
        .enumerate();
    match values.find(|(_, value)| !value.is_finite()) {
        Some((at, value)) => Err(MetricError::NotFinite { at, value }),
        None => Ok(()),
    }
}

fn probabilities(outcomes: &[Outcome]) -> Result<(), MetricError> {
    finite(outcomes)?;
    probability(outcomes.iter().map(|outcome| outcome.confidence))
}

fn probability(values: impl Iterator<Item = f64>) -> Result<(), MetricError> {
    let mut values = values.enumerate();
    match values.find(|(_, value)| !(0.0..=1.0).contains(value)) {
        Some((at, value)) if value.is_finite() => Err(MetricError::NoProbability { at, value }),
        Some((at, value)) => Err(MetricError::NotFinite { at, value }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
