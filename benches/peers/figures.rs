//! Figures from samples: exact percentiles, and the slope of a line through points.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::load::Sample;

/// The smallest value that at least `share` of the sorted values do not exceed. 0 of nothing.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    match sorted.len() {
        0 => 0.0,
        n => sorted[rank.clamp(1, n) - 1],
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    if n > 0 && n.is_multiple_of(2) {
        f64::midpoint(sorted[n / 2 - 1], sorted[n / 2])
    } else {
        percentile(&sorted, 0.5)
    }
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Spread {
    fn of(nanos: impl Iterator<Item = u64>) -> Self {
        let mut ms: Vec<f64> = nanos.map(|ns| ns as f64 / 1e6).collect();
        ms.sort_by(f64::total_cmp);
        Self {
            mean: ms.iter().fold(0.0, |sum, ms| sum + ms) / ms.len().max(1) as f64,
            p50: percentile(&ms, 0.5),
            p90: percentile(&ms, 0.9),
            p99: percentile(&ms, 0.99),
            p999: percentile(&ms, 0.999),
            max: percentile(&ms, 1.0),
        }
    }
}

/// What a run of load came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    pub seconds: f64,
    pub sent: usize,
    pub good: usize,
    /// Good answers a second.
    pub rate: f64,
    /// Of good answers.
    pub latency_ms: Spread,
    /// To the first event with content, of good streams.
    pub first_ms: Spread,
    /// Events with content a second.
    pub chunks: f64,
    pub outcomes: BTreeMap<String, usize>,
}

impl Figures {
    /// Of a run that was to last `seconds`; what was begun within them may have ended later, and then the rates are
    /// over that longer time.
    pub fn new(samples: &[Sample], seconds: f64) -> Self {
        let ended = samples
            .iter()
            .map(|sample| (sample.at + sample.latency) as f64 / 1e9);
        let seconds = ended.fold(seconds, f64::max);
        let good = || samples.iter().filter(|sample| sample.outcome.good());
        let mut outcomes = BTreeMap::new();
        for sample in samples {
            *outcomes.entry(sample.outcome).or_insert(0) += 1;
        }
        Self {
            seconds,
            sent: samples.len(),
            good: good().count(),
            rate: good().count() as f64 / seconds,
            latency_ms: Spread::of(good().map(|sample| sample.latency)),
            first_ms: Spread::of(good().filter(|s| s.first > 0).map(|sample| sample.first)),
            chunks: samples.iter().map(|s| f64::from(s.chunks)).sum::<f64>() / seconds,
            outcomes: outcomes
                .iter()
                .map(|(outcome, n)| (outcome.to_string(), *n))
                .collect(),
        }
    }

    /// Of all that were sent.
    pub fn success(&self) -> f64 {
        self.good as f64 / self.sent.max(1) as f64
    }
}

/// A line through points by least squares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Slope {
    /// Per unit of x.
    pub slope: f64,
    /// The slope's standard error.
    pub error: f64,
    pub mean: f64,
    pub points: usize,
}

impl Slope {
    pub fn of(points: &[(f64, f64)]) -> Self {
        let n = points.len() as f64;
        let x = points.iter().map(|p| p.0).sum::<f64>() / n.max(1.0);
        let y = points.iter().map(|p| p.1).sum::<f64>() / n.max(1.0);
        let squares: f64 = points.iter().map(|p| (p.0 - x).powi(2)).sum();
        let mut line = Self {
            mean: y,
            points: points.len(),
            ..Self::default()
        };
        if points.len() > 2 && squares > 0.0 {
            line.slope = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / squares;
            let rest = points
                .iter()
                .map(|p| (p.1 - y - line.slope * (p.0 - x)).powi(2));
            line.error = (rest.sum::<f64>() / (n - 2.0) / squares).sqrt();
        }
        line
    }
}

/// Three digits, as many as a measurement deserves.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 999_500.0 => format!("{:.2} M", value / 1e6),
        size if size >= 9_995.0 => format!("{:.0} k", value / 1e3),
        size if size >= 99.5 => format!("{value:.0}"),
        size if size >= 9.95 => format!("{value:.1}"),
        size if !(0.0005..0.995).contains(&size) => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
