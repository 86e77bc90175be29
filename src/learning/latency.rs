//! How long a deployment takes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a sample's weight is multiplied by with each later one: a memory of about 200 samples.
const KEEP: f64 = 0.995;
/// What a new call weighs in the mean of late.
const FRESH: f64 = 0.1;
/// The shortest time told apart, in seconds; anything shorter counts as this.
const SHORTEST: f64 = 1e-5;
/// The longest time told apart, in seconds; anything longer counts as this.
const LONGEST: f64 = 1_200.0;
/// Serde derives arrays of up to 32, hence the two dimensions.
const ROWS: usize = 2;
const COLUMNS: usize = 32;
const BUCKETS: usize = ROWS * COLUMNS;
/// A bucket lighter than this is empty, so that old outliers leave and no denormal numbers stay.
const DUST: f32 = 1e-6;

/// A distribution of times that forgets: a mean and a histogram, both exponentially decayed per sample.
///
/// The 64 buckets grow geometrically from 0.01 ms to 20 min, each 1.34 times as wide as the one before.
/// A quantile is found within the bucket that holds it, so it is off by less than 34 %, whatever the
/// distribution; it is interpolated geometrically there. The mean is exact. Decay by sample and not by
/// time keeps what is known of a deployment that is seldom asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Decayed {
    /// Weighted sum of the samples, in seconds.
    sum: f64,
    /// The shortest sample ever, in seconds; 0 without samples.
    low: f64,
    /// The longest sample ever, in seconds.
    high: f64,
    /// Weights of the samples by length. Their total is the evidence.
    buckets: [[f32; COLUMNS]; ROWS],
}

impl Decayed {
    /// Takes in a sample, in seconds. What is negative or not a finite number is ignored.
    pub fn observe(&mut self, seconds: f64) {
        if !seconds.is_finite() || seconds < 0.0 {
            return;
        }
        let sample = seconds.clamp(SHORTEST, LONGEST);
        let first = self.evidence() == 0.0;
        self.low = if first { sample } else { self.low.min(sample) };
        self.high = self.high.max(sample);
        self.sum = self.sum * KEEP + sample;
        let buckets = self.buckets.as_flattened_mut();
        for weight in buckets.iter_mut() {
            *weight *= KEEP as f32;
            if *weight < DUST {
                *weight = 0.0;
            }
        }
        let place = (sample / SHORTEST).ln() / growth().ln();
        buckets[(place as usize).min(BUCKETS - 1)] += 1.0;
    }

    /// The decayed mean, in seconds; `None` without samples.
    pub fn mean(&self) -> Option<f64> {
        let weight = self.evidence();
        (weight > 0.0).then(|| (self.sum / weight).max(self.low).min(self.high))
    }

    /// The time, in seconds, that a share `q` of samples stays within; `q` is brought into 0 to 1.
    /// `None` without samples or if `q` is not a number. Off by less than 34 %, never outside the range
    /// of what was seen.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let evidence = self.evidence();
        if q.is_nan() || evidence <= 0.0 {
            return None;
        }
        let target = q.clamp(0.0, 1.0) * evidence;
        let mut below = 0.0;
        for (place, weight) in self.buckets.as_flattened().iter().enumerate() {
            let weight = f64::from(*weight);
            if weight > 0.0 && below + weight >= target {
                let share = (target - below) / weight;
                let seconds = SHORTEST * growth().powf(place as f64 + share);
                return Some(seconds.max(self.low).min(self.high));
            }
            below += weight;
        }
        Some(self.high)
    }

    /// How many samples this rests on, older ones counting less: from 0 to about 200.
    pub fn evidence(&self) -> f64 {
        self.buckets
            .as_flattened()
            .iter()
            .map(|w| f64::from(*w))
            .sum()
    }

    /// Whether this can have come from samples: all numbers finite and not negative, the weight within
    /// what decay allows, the mean within the range seen.
    pub fn is_valid(&self) -> bool {
        let evidence = self.evidence();
        if evidence == 0.0 {
            return *self == Self::default();
        }
        let weights = self.buckets.as_flattened();
        let mean = self.sum / evidence;
        // Rounding of the weights and dropped dust move the mean by less than this.
        let slack = 1.001;
        weights.iter().all(|w| w.is_finite() && *w >= 0.0)
            && evidence <= slack / (1.0 - KEEP)
            && (SHORTEST..=LONGEST).contains(&self.low)
            && (self.low..=LONGEST).contains(&self.high)
            && (self.low / slack..=self.high * slack).contains(&mean)
    }
}

/// By how much each bucket is wider than the one before.
fn growth() -> f64 {
    (LONGEST / SHORTEST).powf(1.0 / BUCKETS as f64)
}

/// A deployment's times. Time to first token and time per token are kept apart, for the total grows
/// with the length of the answer: by totals alone, who answers at length looks slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// Time to first token, in seconds; of streamed answers only.
    pub ttft: Decayed,
    /// Time per output token, in seconds.
    pub per_token: Decayed,
    /// Whole calls, in seconds.
    pub total: Decayed,
    /// The mean of whole calls of late, in seconds; 0 while there was none.
    #[serde(default)]
    late: f64,
}

impl Latency {
    /// Takes in a call that succeeded. A streamed answer's time per token counts from the first token
    /// to the last; of an answer that came whole it is the total over its tokens, which includes the
    /// time to the first.
    pub fn observe(&mut self, ttft: Option<Duration>, total: Duration, output_tokens: Option<u32>) {
        self.total.observe(total.as_secs_f64());
        let seconds = total.as_secs_f64().clamp(SHORTEST, LONGEST);
        self.late += if self.late > 0.0 {
            FRESH * (seconds - self.late)
        } else {
            seconds
        };
        if let Some(ttft) = ttft {
            self.ttft.observe(ttft.as_secs_f64());
        }
        let first = u32::from(ttft.is_some());
        let later = output_tokens.unwrap_or(0).saturating_sub(first);
        if later > 0 {
            let writing = total.saturating_sub(ttft.unwrap_or_default());
            self.per_token
                .observe(writing.as_secs_f64() / f64::from(later));
        }
    }

    /// The mean of whole calls of late, in seconds: it follows a change within tens of calls, where the distribution
    /// remembers hundreds. `None` if nothing is known.
    pub fn recent(&self) -> Option<f64> {
        if self.late > 0.0 {
            Some(self.late)
        } else {
            self.total.mean()
        }
    }

    /// How many times as long calls take of late as they did on the whole; 1 while nothing is known.
    pub fn drift(&self) -> f64 {
        let whole = self.total.mean().filter(|mean| *mean > 0.0);
        whole.map_or(1.0, |mean| self.recent().unwrap_or(mean) / mean)
    }

    /// The expected time of a whole call, in seconds: to the first token and then by the token where
    /// the length is known and tokens were counted before, else the mean of all calls. `None` if
    /// nothing is known.
    pub fn expected_total(&self, output_tokens: Option<u32>) -> Option<f64> {
        match (output_tokens, self.per_token.mean()) {
            (Some(tokens), Some(each)) => {
                Some(self.ttft.mean().unwrap_or(0.0) + f64::from(tokens) * each)
            }
            _ => self.total.mean(),
        }
    }

    /// Resets the cells that are not valid, and returns their names.
    pub fn sanitize(&mut self) -> Vec<String> {
        let cells = [
            ("latency.ttft", &mut self.ttft),
            ("latency.per_token", &mut self.per_token),
            ("latency.total", &mut self.total),
        ];
        let mut reset = Vec::new();
        if !(0.0..=LONGEST).contains(&self.late) {
            self.late = 0.0;
            reset.push("latency.late".to_owned());
        }
        for (name, cell) in cells {
            if !cell.is_valid() {
                *cell = Decayed::default();
                reset.push(name.to_owned());
            }
        }
        reset
    }
}

#[cfg(test)]
mod tests;
