//! A decoder-only transformer of the Llama family, as GGUF files hold it: architectures `llama` and `qwen2`.
//!
//! Root-mean-square norms, rotary positions, grouped-query attention, a gated feed-forward with SiLU (Touvron
//! et al. 2023; Qwen2 adds biases to query, key and value). The two differ in which components of a head
//! rotate together: neighbours in `llama`'s files, halves in `qwen2`'s.

use std::io::{Read, Seek};

use candle_core::Result;
use candle_core::quantized::gguf_file::{Content, Value};
use rayon::prelude::*;

use super::matrix::{Matrix, dot, vector};

/// The weights and the shape they have.
pub(super) struct Model {
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    /// `None`: the embedding serves as output too.
    output: Option<Matrix>,
    heads: usize,
    kv_heads: usize,
    head: usize,
    epsilon: f32,
    /// How fast each pair of components rotates, in radians per position.
    frequencies: Vec<f32>,
    /// Whether component `i` rotates with `i + half` and not with its neighbour.
    halves: bool,
    context: usize,
}

struct Layer {
    attention_norm: Vec<f32>,
    /// Query, key and value, one under the other.
    qkv: Matrix,
    qkv_bias: Option<Vec<f32>>,
    attention_out: Matrix,
    forward_norm: Vec<f32>,
    /// Gate and up, one under the other.
    gate_up: Matrix,
    down: Matrix,
}

/// What the attention remembers of one conversation.
pub(super) struct Memory {
    layers: Vec<Remembered>,
    capacity: usize,
    len: usize,
}

/// Keys lie position after position, values component after component: both products then run along memory.
struct Remembered {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Model {
    /// Reads a model; `content` is the head of `file`.
    pub(super) fn read<R: Read + Seek>(content: &Content, file: &mut R) -> Result<Self> {
        let architecture = match content.metadata.get("general.architecture") {
            Some(Value::String(name)) if name == "llama" || name == "qwen2" => name.as_str(),
            other => candle_core::bail!("architecture {other:?} is not supported: llama, qwen2"),
        };
        let number = |key: &str| {
            content
                .metadata
                .get(&format!("{architecture}.{key}"))
                .and_then(number_of)
        };
        let need = |key: &str| match number(key) {
            Some(value) if value > 0.0 => Ok(value as usize),
            _ => candle_core::bail!("the metadata lacks {architecture}.{key}"),
        };
        if number("expert_count").is_some_and(|count| count > 1.0) {
            candle_core::bail!("mixtures of experts are not supported");
        }
        let heads = need("attention.head_count")?;
        let kv_heads =
            number("attention.head_count_kv").map_or(heads, |count| (count as usize).max(1));
        let width = need("embedding_length")?;
        let head = number("attention.key_length").map_or(width / heads, |length| length as usize);
        let rotated = number("rope.dimension_count")
            .map_or(head, |count| count as usize)
            .min(head);
        let base = number("rope.freq_base").unwrap_or(10_000.0);
        let mut frequencies: Vec<f32> = (0..rotated / 2)
            .map(|i| base.powf(-2.0 * i as f64 / rotated as f64) as f32)
            .collect();
        // Llama 3.1 and later stretch the slow rotations by factors kept in the file.
        if content.tensor_infos.contains_key("rope_freqs.weight") {
            let factors = vector(content, file, "rope_freqs.weight")?;
            frequencies
                .iter_mut()
                .zip(factors)
                .for_each(|(frequency, factor)| *frequency /= factor);
        }
        let layers = (0..need("block_count")?).map(|index| Layer::read(content, file, index));
        let layers = layers.collect::<Result<Vec<_>>>()?;
        let output = content.tensor_infos.contains_key("output.weight");
        let model = Self {
            embedding: Matrix::read(content, file, &["token_embd.weight".into()])?,
            layers,
            norm: vector(content, file, "output_norm.weight")?,
            output: match output {
                true => Some(Matrix::read(content, file, &["output.weight".into()])?),
                false => None,
            },
            heads,
            kv_heads,
            head,
            epsilon: number("attention.layer_norm_rms_epsilon").unwrap_or(1e-5) as f32,
            frequencies,
            halves: architecture == "qwen2",
            context: need("context_length")?,
        };
        let fits = |layer: &Layer| {
            layer.qkv.rows() == (heads + 2 * kv_heads) * head
                && layer.attention_out.cols() == heads * head
                && layer.gate_up.rows() == 2 * layer.down.cols()
                && [&layer.attention_out, &layer.down]
                    .iter()
                    .all(|matrix| matrix.rows() == width)
                && [&layer.qkv, &layer.gate_up]
                    .iter()
                    .all(|matrix| matrix.cols() == width)
        };
        let same = model.embedding.cols() == width && heads.is_multiple_of(kv_heads);
        if !(same && model.layers.iter().all(fits)) {
            candle_core::bail!("the tensors' shapes do not fit the metadata");
        }
        Ok(model)
    }

    /// The longest conversation it was trained for, in tokens.
    pub(super) fn context(&self) -> usize {
        self.context
    }

    /// An empty memory for at most `capacity` tokens.
    pub(super) fn memory(&self, capacity: usize) -> Memory {
        let size = self.kv_heads * self.head * capacity;
        let layers = self.layers.iter().map(|_| Remembered {
            keys: vec![0.0; size],
            values: vec![0.0; size],
        });
        Memory {
            layers: layers.collect(),
            capacity,
            len: 0,
        }
    }

    /// Reads `tokens`, which follow what `memory` holds, and returns the last one's state for [`Model::logits`].
    /// The caller keeps within the memory's capacity.
    pub(super) fn advance(&self, tokens: &[u32], memory: &mut Memory) -> Vec<f32> {
        let width = self.embedding.cols();
        let mut state = vec![0.0; tokens.len() * width];
        for (token, out) in tokens.iter().zip(state.chunks_exact_mut(width)) {
            self.embedding.row(*token as usize, out);
        }
        let turns = self.turns(memory.len, tokens.len());
        for (layer, remembered) in self.layers.iter().zip(&mut memory.layers) {
            let mut qkv = layer.qkv.mul(&self.normed(&state, &layer.attention_norm));
            if let Some(bias) = &layer.qkv_bias {
                qkv.chunks_exact_mut(bias.len())
                    .for_each(|row| add(row, bias));
            }
            let attended = self.attend(&mut qkv, &turns, remembered, memory.len, memory.capacity);
            add(&mut state, &layer.attention_out.mul(&attended));
            let gate_up = layer.gate_up.mul(&self.normed(&state, &layer.forward_norm));
            add(
                &mut state,
                &layer.down.mul(&gated(&gate_up, layer.down.cols())),
            );
        }
        memory.len += tokens.len();
        state.split_off(state.len() - width)
    }

    /// How likely each token of the vocabulary comes next, on a logarithmic scale.
    pub(super) fn logits(&self, state: &[f32]) -> Vec<f32> {
        self.output
            .as_ref()
            .unwrap_or(&self.embedding)
            .mul(&self.normed(state, &self.norm))
    }

    fn normed(&self, state: &[f32], weight: &[f32]) -> Vec<f32> {
        let mut out = state.to_vec();
        for row in out.chunks_exact_mut(weight.len()) {
            let scale = (dot(row, row) / row.len() as f32 + self.epsilon)
                .sqrt()
                .recip();
            row.iter_mut()
                .zip(weight)
                .for_each(|(value, weight)| *value *= scale * weight);
        }
        out
    }

    /// Sine and cosine of every rotation for `count` positions from `start`.
    fn turns(&self, start: usize, count: usize) -> Vec<(f32, f32)> {
        let positions = start..start + count;
        positions
            .flat_map(|position| {
                self.frequencies
                    .iter()
                    .map(move |f| (position as f32 * f).sin_cos())
            })
            .collect()
    }

    fn rotate(&self, head: &mut [f32], turns: &[(f32, f32)]) {
        for (pair, (sin, cos)) in turns.iter().enumerate() {
            let (i, j) = match self.halves {
                true => (pair, pair + turns.len()),
                false => (2 * pair, 2 * pair + 1),
            };
            let (x, y) = (head[i], head[j]);
            head[i] = x * cos - y * sin;
            head[j] = x * sin + y * cos;
        }
    }

    /// Causal attention of the new positions over all, after keys and values have been remembered.
    fn attend(
        &self,
        qkv: &mut [f32],
        turns: &[(f32, f32)],
        remembered: &mut Remembered,
        start: usize,
        capacity: usize,
    ) -> Vec<f32> {
        let (head, queries, keys) = (self.head, self.heads * self.head, self.kv_heads * self.head);
        let row = queries + 2 * keys;
        let pairs = self.frequencies.len();
        for (index, row) in qkv.chunks_exact_mut(row).enumerate() {
            let turns = &turns[index * pairs..][..pairs];
            let (rotating, values) = row.split_at_mut(queries + keys);
            rotating
                .chunks_exact_mut(head)
                .for_each(|head| self.rotate(head, turns));
            let position = start + index;
            for (kv, key) in rotating[queries..].chunks_exact(head).enumerate() {
                remembered.keys[(kv * capacity + position) * head..][..head].copy_from_slice(key);
            }
            for (component, value) in values.iter().enumerate() {
                remembered.values[component * capacity + position] = *value;
            }
        }
        let scale = (head as f32).sqrt().recip();
        let mut attended = vec![0.0; qkv.len() / row * queries];
        attended
            .par_chunks_mut(head)
            .enumerate()
            .for_each(|(index, out)| {
                let (token, of) = (index / self.heads, index % self.heads);
                let kv = of * self.kv_heads / self.heads;
                let seen = start + token + 1;
                let query = &qkv[token * row + of * head..][..head];
                let keys = remembered.keys[kv * capacity * head..]
                    .chunks_exact(head)
                    .take(seen);
                let mut weights: Vec<f32> = keys.map(|key| dot(key, query) * scale).collect();
                softmax(&mut weights);
                for (component, out) in out.iter_mut().enumerate() {
                    *out = dot(
                        &remembered.values[(kv * head + component) * capacity..][..seen],
                        &weights,
                    );
                }
            });
        attended
    }
}

impl Layer {
    fn read<R: Read + Seek>(content: &Content, file: &mut R, index: usize) -> Result<Self> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let qkv = ["attn_q", "attn_k", "attn_v"];
        let mut bias = Vec::new();
        for part in qkv.map(|part| name(&format!("{part}.bias"))) {
            if content.tensor_infos.contains_key(&part) {
                bias.extend(vector(content, file, &part)?);
            }
        }
        let mut matrix = |parts: &[&str]| {
            let names: Vec<String> = parts
                .iter()
                .map(|part| name(&format!("{part}.weight")))
                .collect();
            Matrix::read(content, file, &names)
        };
        let qkv = matrix(&qkv)?;
        Ok(Self {
            qkv_bias: (bias.len() == qkv.rows()).then_some(bias),
            qkv,
            attention_out: matrix(&["attn_output"])?,
            gate_up: matrix(&["ffn_gate", "ffn_up"])?,
            down: matrix(&["ffn_down"])?,
            attention_norm: vector(content, file, &name("attn_norm.weight"))?,
            forward_norm: vector(content, file, &name("ffn_norm.weight"))?,
        })
    }
}

fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::F32(_) => value.to_f32().ok().map(f64::from),
        Value::F64(_) => value.to_f64().ok(),
        _ => value.to_u64().ok().map(|value| value as f64),
    }
}

fn add(to: &mut [f32], what: &[f32]) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += what);
}

/// SiLU of the first `width` of each row, times the second.
fn gated(gate_up: &[f32], width: usize) -> Vec<f32> {
    let rows = gate_up
        .chunks_exact(2 * width)
        .map(|row| row.split_at(width));
    rows.flat_map(|(gate, up)| gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u))
        .collect()
}

fn softmax(values: &mut [f32]) {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = (*value - max).exp();
        sum += *value;
    }
    values.iter_mut().for_each(|value| *value /= sum);
}
