//! The weights of the classifier: a linear model over features, in bytes.

use super::features::{BUCKETS, DENSE, Features, GROUPS};
use crate::query::TaskKind;

/// Columns of the weights: the kinds of [`TaskKind::ALL`], the last of them (`other`) never scored.
pub const KINDS: usize = TaskKind::ALL.len();
/// Kinds the model scores.
pub const SCORED: usize = KINDS - 1;

const MAGIC: &[u8; 8] = b"QTASKW01";
/// Temperature, threshold, biases, group scales, and a scale a kind for each of both tables.
const FLOATS: usize = 2 + KINDS + GROUPS + 2 * KINDS;
/// The length of valid weights in bytes: magic, floats, both tables, checksum.
pub const LENGTH: usize = 8 + 4 * FLOATS + KINDS * (BUCKETS + DENSE) + 8;

/// A softmax regression with a weight of one byte for each feature and kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Divides the logits; above 0.
    pub temperature: f32,
    /// A calibrated probability below this is rejected to `other`; 0 to 1.
    pub threshold: f32,
    /// The logit of each kind before anything is seen.
    pub bias: [f32; KINDS],
    /// What a hashed feature of each group counts.
    pub group: [f32; GROUPS],
    /// What one step of a hashed weight is worth, for each kind.
    pub hashed_scale: [f32; KINDS],
    /// What one step of a dense weight is worth, for each kind.
    pub dense_scale: [f32; KINDS],
    /// A row of weights for each bucket.
    pub hashed: Vec<[i8; KINDS]>,
    /// A row of weights for each dense cue.
    pub dense: Vec<[i8; KINDS]>,
}

impl Model {
    /// Reads weights; the error says what is wrong with them.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() != LENGTH {
            return Err(format!("{} bytes of weights, not {LENGTH}", bytes.len()));
        }
        let (body, sum) = bytes.split_at(LENGTH - 8);
        if sum != checksum(body).to_le_bytes() {
            return Err("the checksum of the weights is wrong".into());
        }
        let Some(rest) = body.strip_prefix(MAGIC.as_slice()) else {
            return Err("these are weights of another version".into());
        };
        let (floats, tables) = rest.split_at(4 * FLOATS);
        let mut floats = floats
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes));
        let mut next = || floats.next().unwrap_or(f32::NAN);
        let (temperature, threshold) = (next(), next());
        let bias = std::array::from_fn(|_| next());
        let group = std::array::from_fn(|_| next());
        let hashed_scale = std::array::from_fn(|_| next());
        let dense_scale = std::array::from_fn(|_| next());
        let (hashed, dense) = tables.split_at(KINDS * BUCKETS);
        let model = Self {
            temperature,
            threshold,
            bias,
            group,
            hashed_scale,
            dense_scale,
            hashed: rows(hashed),
            dense: rows(dense),
        };
        model.validate()?;
        Ok(model)
    }

    /// The bytes [`Model::read`] reads.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let floats = [self.temperature, self.threshold]
            .into_iter()
            .chain(self.bias)
            .chain(self.group)
            .chain(self.hashed_scale)
            .chain(self.dense_scale);
        bytes.extend(floats.flat_map(f32::to_le_bytes));
        for row in self.hashed.iter().chain(&self.dense) {
            bytes.extend(row.map(|weight| weight.to_le_bytes()[0]));
        }
        bytes.extend(checksum(&bytes).to_le_bytes());
        bytes
    }

    /// Whether every number is one that scoring can bear.
    pub fn validate(&self) -> Result<(), String> {
        if !(0.01..=100.0).contains(&self.temperature) {
            return Err(format!(
                "temperature {} is not in 0.01 to 100",
                self.temperature
            ));
        }
        if !(0.0..=1.0).contains(&self.threshold) {
            return Err(format!("threshold {} is not in 0 to 1", self.threshold));
        }
        let scales = self.hashed_scale.iter().chain(&self.dense_scale);
        let floats = self.bias.iter().chain(&self.group).chain(scales);
        if floats
            .into_iter()
            .any(|value| !value.is_finite() || value.abs() > 1e3)
        {
            return Err("a scale or a bias is not finite, or above 1000".into());
        }
        if self.hashed.len() != BUCKETS || self.dense.len() != DENSE {
            return Err("a table of weights has the wrong length".into());
        }
        Ok(())
    }

    /// The calibrated probability of each kind; they sum to 1, and `other` has none.
    pub fn probabilities(&self, features: &Features) -> [f32; KINDS] {
        softmax(&self.logits(features), self.temperature)
    }

    /// The score of each kind, before calibration.
    pub fn logits(&self, features: &Features) -> [f32; KINDS] {
        let mut sums = [[0_i32; KINDS]; GROUPS];
        let mut counts = [0_u32; GROUPS];
        for &(row, group) in &features.hashed {
            let group = usize::from(group);
            if let (Some(row), Some(sum), Some(count)) = (
                self.hashed.get(usize::from(row)),
                sums.get_mut(group),
                counts.get_mut(group),
            ) {
                *count += 1;
                add(sum, row);
            }
        }
        let mut dense = [0_i32; KINDS];
        for &cue in &features.dense {
            if let Some(row) = self.dense.get(usize::from(cue)) {
                add(&mut dense, row);
            }
        }
        let mut logits = self.bias;
        for ((sum, count), scale) in sums.iter().zip(counts).zip(self.group) {
            if count > 0 {
                let norm = scale / (count as f32).sqrt();
                for ((logit, &sum), step) in logits.iter_mut().zip(sum).zip(self.hashed_scale) {
                    *logit += norm * step * sum as f32;
                }
            }
        }
        for ((logit, sum), step) in logits.iter_mut().zip(dense).zip(self.dense_scale) {
            *logit += step * sum as f32;
        }
        logits
    }
}

/// The softmax of the scored kinds at a temperature.
pub fn softmax(logits: &[f32; KINDS], temperature: f32) -> [f32; KINDS] {
    let scored = || logits.iter().take(SCORED);
    let top = scored().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut all = [0.0; KINDS];
    for (value, logit) in all.iter_mut().zip(scored()) {
        *value = ((logit - top) / temperature).exp();
    }
    let sum: f32 = all.iter().sum();
    all.map(|value| value / sum)
}

#[inline]
fn add(sum: &mut [i32; KINDS], row: &[i8; KINDS]) {
    for (sum, &weight) in sum.iter_mut().zip(row) {
        *sum += i32::from(weight);
    }
}

fn rows(bytes: &[u8]) -> Vec<[i8; KINDS]> {
    bytes
        .as_chunks::<KINDS>()
        .0
        .iter()
        .map(|row| row.map(|byte| i8::from_le_bytes([byte])))
        .collect()
}

/// FNV-1a of 64 bits: against a damaged file, not against an adversary.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |state, &byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
