//! Softmax regression by AdaGrad (J. Duchi, E. Hazan, Y. Singer, 2011), and its calibration.

use crate::templates::Draw;
use quorate::learning::task::{BUCKETS, DENSE, Features, GROUPS, KINDS, Model, SCORED, softmax};

/// A prompt to learn from or to be measured on.
pub struct Row {
    pub features: Features,
    /// The column of its kind; [`SCORED`] is `other`.
    pub label: usize,
    /// Index of its source.
    pub source: usize,
    /// Index of its family of sources.
    pub family: usize,
    pub text: String,
    /// Its licence lets it be measured on, and not trained on.
    pub judged_only: bool,
    /// Of the remainder of a mixed source, whose label names no kind of work.
    pub remainder: bool,
}

/// What a fit can be told.
#[derive(Clone)]
pub struct Settings {
    pub epochs: usize,
    /// How many descents are averaged.
    pub fits: usize,
    pub rate: f32,
    pub decay: f32,
    pub dense_decay: f32,
    pub smoothing: f32,
    /// The chance that a group of n-grams is left out of a step, so that cues must carry the weight.
    pub dropout: f64,
    /// The chance that a single n-gram is left out of a step.
    pub word_dropout: f64,
    pub group: [f32; GROUPS],
    /// What all recorded prompts weigh against all prompts from templates.
    pub recorded: f32,
    /// In how many sources a row of the table must occur.
    pub sources: usize,
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            epochs: 10,
            fits: 3,
            rate: 0.05,
            decay: 2e-5,
            dense_decay: 3e-4,
            smoothing: 0.05,
            dropout: 0.1,
            word_dropout: 0.0,
            group: [1.0, 0.8, 1.5, 1.5, 0.8, 1.5],
            recorded: 0.3,
            sources: 2,
            seed: 1,
        }
    }
}

/// Balances kinds, and within a kind its sources by the root of their size.
fn weights(rows: &[&Row], recorded: f32, first_template: usize) -> Vec<f32> {
    let sources = rows.iter().map(|row| row.source + 1).max().unwrap_or(1);
    let mut counts = vec![0.0_f32; sources * KINDS];
    for row in rows {
        counts[row.source * KINDS + row.label] += 1.0;
    }
    let mut kinds = [[0.0_f32; 2]; KINDS];
    for (at, &count) in counts.iter().enumerate() {
        kinds[at % KINDS][usize::from(at / KINDS >= first_template)] += count.sqrt();
    }
    rows.iter()
        .map(|row| {
            let template = row.source >= first_template;
            let share = 1.0 / counts[row.source * KINDS + row.label].sqrt();
            let [real, made] = kinds[row.label];
            let (real_share, made_share) = if real == 0.0 {
                (0.0, 1.0)
            } else if made == 0.0 {
                (1.0, 0.0)
            } else {
                (recorded / (1.0 + recorded), 1.0 / (1.0 + recorded))
            };
            if template {
                made_share * share / made
            } else {
                real_share * share / real
            }
        })
        .map(|weight| weight * rows.len() as f32 / SCORED as f32)
        .collect()
}

/// Fits a model some times in different orders and takes the mean of the weights, which are those of a
/// linear model: what only one order brought about evens out. Rows of kind `other` are left out.
pub fn fit(rows: &[&Row], first_template: usize, settings: &Settings) -> Model {
    let rows: Vec<&Row> = rows
        .iter()
        .copied()
        .filter(|row| row.label < SCORED && !row.judged_only)
        .collect();
    let weights = weights(&rows, settings.recorded, first_template);
    let mut first = vec![usize::MAX; BUCKETS];
    let mut many = vec![settings.sources < 2; BUCKETS];
    for row in &rows {
        for &(bucket, _) in &row.features.hashed {
            let bucket = usize::from(bucket);
            if first[bucket] == usize::MAX {
                first[bucket] = row.source;
            } else if first[bucket] != row.source {
                many[bucket] = true;
            }
        }
    }
    let mut mean_hashed = vec![[0.0_f32; KINDS]; BUCKETS];
    let mut mean_dense = vec![[0.0_f32; KINDS]; DENSE];
    let mut mean_bias = [0.0_f32; KINDS];
    for again in 0..settings.fits {
        let seed = settings.seed.wrapping_mul(1000) + again as u64;
        let (hashed, dense, bias) = descend(&rows, &weights, &many, settings, seed);
        let share = 1.0 / settings.fits as f32;
        let mix = |into: &mut [f32; KINDS], from: &[f32; KINDS]| {
            into.iter_mut()
                .zip(from)
                .for_each(|(into, from)| *into += share * from);
        };
        mean_hashed
            .iter_mut()
            .zip(&hashed)
            .for_each(|(into, from)| mix(into, from));
        mean_dense
            .iter_mut()
            .zip(&dense)
            .for_each(|(into, from)| mix(into, from));
        mix(&mut mean_bias, &bias);
    }
    let present: Vec<bool> = (0..KINDS)
        .map(|kind| rows.iter().any(|row| row.label == kind))
        .collect();
    let (hashed, dense, mut bias) = (mean_hashed, mean_dense, mean_bias);
    for (kind, &present) in present.iter().enumerate() {
        if !present {
            bias[kind] = -20.0;
        }
    }
    let (hashed_scale, hashed) = quantise(&hashed);
    let (dense_scale, dense) = quantise(&dense);
    // Nothing is left out when serving: groups count as much as they did on average.
    let group = settings
        .group
        .map(|scale| scale * ((1.0 - settings.dropout) * (1.0 - settings.word_dropout)) as f32);
    Model {
        temperature: 1.0,
        threshold: 0.0,
        bias,
        group,
        hashed_scale,
        dense_scale,
        hashed,
        dense,
    }
}

/// One descent: the weights of hashed features, of cues, and the biases.
fn descend(
    rows: &[&Row],
    shares: &[f32],
    many: &[bool],
    settings: &Settings,
    seed: u64,
) -> (Vec<[f32; KINDS]>, Vec<[f32; KINDS]>, [f32; KINDS]) {
    let mut hashed = vec![[0.0_f32; KINDS]; BUCKETS];
    let mut dense = vec![[0.0_f32; KINDS]; DENSE];
    let mut hashed_sum = vec![[1e-3_f32; KINDS]; BUCKETS];
    let mut dense_sum = vec![[1e-3_f32; KINDS]; DENSE];
    let (mut bias, mut bias_sum) = ([0.0_f32; KINDS], [1e-3_f32; KINDS]);
    let mut draw = Draw(seed);
    let mut kept: Vec<(u16, u8)> = Vec::new();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    for epoch in 0..settings.epochs {
        draw.shuffle(&mut order);
        let rate = settings.rate * (1.0 - 0.8 * epoch as f32 / settings.epochs as f32);
        for &at in &order {
            let row = rows[at];
            let mut norm = settings.group;
            let mut counts = [0.0_f32; GROUPS];
            for &(_, group) in &row.features.hashed {
                counts[usize::from(group)] += 1.0;
            }
            for (norm, count) in norm.iter_mut().zip(counts) {
                *norm = if draw.chance(settings.dropout) {
                    0.0
                } else {
                    *norm / count.max(1.0).sqrt()
                };
            }
            let mut logits = bias;
            kept.clear();
            kept.extend(
                row.features
                    .hashed
                    .iter()
                    .copied()
                    .filter(|_| !draw.chance(settings.word_dropout)),
            );
            for &(bucket, group) in &kept {
                let scale = norm[usize::from(group)];
                for (logit, weight) in logits.iter_mut().zip(&hashed[usize::from(bucket)]) {
                    *logit += scale * weight;
                }
            }
            for &cue in &row.features.dense {
                for (logit, weight) in logits.iter_mut().zip(&dense[usize::from(cue)]) {
                    *logit += weight;
                }
            }
            let mut slope = softmax(&logits, 1.0);
            let rest = settings.smoothing / (SCORED - 1) as f32;
            for (kind, slope) in slope.iter_mut().enumerate().take(SCORED) {
                *slope -= if kind == row.label {
                    1.0 - settings.smoothing
                } else {
                    rest
                };
                *slope *= shares[at];
            }
            slope[SCORED] = 0.0;
            let step =
                |weights: &mut [f32; KINDS], sums: &mut [f32; KINDS], scale: f32, decay: f32| {
                    for ((weight, sum), slope) in weights.iter_mut().zip(sums).zip(slope) {
                        let g = slope * scale + decay * *weight;
                        *sum += g * g;
                        *weight -= rate * g / sum.sqrt();
                    }
                };
            for &(bucket, group) in &kept {
                let (bucket, scale) = (usize::from(bucket), norm[usize::from(group)]);
                if many[bucket] && scale > 0.0 {
                    step(
                        &mut hashed[bucket],
                        &mut hashed_sum[bucket],
                        scale,
                        settings.decay,
                    );
                }
            }
            for &cue in &row.features.dense {
                let cue = usize::from(cue);
                step(
                    &mut dense[cue],
                    &mut dense_sum[cue],
                    1.0,
                    settings.dense_decay,
                );
            }
            step(&mut bias, &mut bias_sum, 0.3, 0.0);
        }
    }
    (hashed, dense, bias)
}

/// A byte a weight, on the scale of the largest of its kind; the far tail is cut.
fn quantise(weights: &[[f32; KINDS]]) -> ([f32; KINDS], Vec<[i8; KINDS]>) {
    let mut scale = [1e-6_f32; KINDS];
    for row in weights {
        for (scale, weight) in scale.iter_mut().zip(row) {
            *scale = scale.max(weight.abs() / 127.0);
        }
    }
    let rows = weights
        .iter()
        .map(|row| {
            std::array::from_fn(|kind| (row[kind] / scale[kind]).round().clamp(-127.0, 127.0) as i8)
        })
        .collect();
    (scale, rows)
}

/// The temperature of the least negative log-likelihood, by golden section (C. Guo et al., "On
/// Calibration of Modern Neural Networks", 2017).
pub fn temperature(judged: &[([f32; KINDS], usize)]) -> f32 {
    let loss = |t: f32| -> f32 {
        judged
            .iter()
            .filter(|(_, label)| *label < SCORED)
            .map(|(logits, label)| -softmax(logits, t)[*label].max(1e-9).ln())
            .sum()
    };
    let (mut low, mut high) = (0.05_f32, 10.0_f32);
    let ratio = 0.618_034;
    for _ in 0..40 {
        let (a, b) = (high - ratio * (high - low), low + ratio * (high - low));
        if loss(a) < loss(b) { high = b } else { low = a }
    }
    (low + high) / 2.0
}

/// The highest threshold, in steps of 0.01, below which a prediction is right less than `least` of the time.
pub fn threshold(judged: &[([f32; KINDS], usize)], temperature: f32, least: f64) -> f32 {
    let mut best = 0.0;
    for step in 5..60 {
        let at = step as f32 / 100.0;
        let below: Vec<bool> = judged
            .iter()
            .map(|(logits, label)| (softmax(logits, temperature), *label))
            .filter(|(all, _)| all.iter().all(|&value| value < at))
            .map(|(all, label)| best_of(&all) == label)
            .collect();
        let right = below.iter().filter(|&&right| right).count();
        if below.len() >= 10 && (right as f64) < least * below.len() as f64 {
            best = at;
        }
    }
    best
}

/// The place of the largest value.
pub fn best_of(all: &[f32; KINDS]) -> usize {
    let mut best = 0;
    for (at, value) in all.iter().enumerate() {
        if *value > all[best] {
            best = at;
        }
    }
    best
}
