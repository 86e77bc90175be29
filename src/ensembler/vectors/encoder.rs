//! Sentence vectors by all-MiniLM-L6-v2, on one thread.
//!
//! The transformer is BERT's (Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers
//! for Language Understanding", 2019), distilled to six layers (Wang et al., "MiniLM: Deep Self-Attention
//! Distillation", 2020). A text's vector is the mean of its tokens' last states, scaled to length one (Reimers and
//! Gurevych, "Sentence-BERT", 2019).
//!
//! Texts are read one by one and never padded: so a text's vector does not depend on what it is read with. All work
//! is done on a thread of its own, so however many ask, no more than one processor is taken.

use std::path::Path;

use candle_core::{Device, Result, Tensor};
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokenizers::Tokenizer;

use super::weights::Weights;

/// Components of a vector.
pub const WIDTH: usize = 384;
/// Tokens of a text that are read, with the two that frame it; the model was made for no more.
pub const LONGEST: usize = 256;
/// Bytes of a text that are looked at: those of so many tokens and more.
const BYTES: usize = 4096;

const LAYERS: usize = 6;
const HEADS: usize = 12;
const HEAD: usize = WIDTH / HEADS;
const INNER: usize = 4 * WIDTH;
const WORDS: usize = 30_522;
const POSITIONS: usize = 512;
const KINDS: usize = 2;
const EPSILON: f32 = 1e-12;

/// A sentence vector, of length one.
pub type Vector = [f32; WIDTH];

/// The loaded model: 91 MB.
pub struct Encoder {
    tokenizer: Tokenizer,
    /// One row a token.
    words: Vec<f32>,
    /// One row a position, with the row of the first kind of segment added.
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
    thread: ThreadPool,
}

struct Layer {
    /// Query, key and value beside each other.
    qkv: Linear,
    attended: Linear,
    attended_norm: Norm,
    inner: Linear,
    outer: Linear,
    outer_norm: Norm,
}

/// `x W + b`.
struct Linear {
    /// Inputs by outputs.
    weight: Tensor,
    bias: Vec<f32>,
}

struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Encoder {
    /// Reads the model's two files. Blocks for some hundred milliseconds.
    ///
    /// # Errors
    /// In words: a file that cannot be read, or is another model's.
    pub fn load(weights: &Path, tokenizer: &Path) -> std::result::Result<Self, String> {
        let mut splitter = Tokenizer::from_file(tokenizer)
            .map_err(|error| format!("'{}': {error}", tokenizer.display()))?;
        // The file pads every text, and cuts it at half of what the model can read.
        splitter.with_padding(None);
        let cut = tokenizers::TruncationParams {
            max_length: LONGEST,
            ..Default::default()
        };
        splitter
            .with_truncation(Some(cut))
            .map_err(|error| format!("'{}': {error}", tokenizer.display()))?;
        if splitter.get_vocab_size(true) > WORDS {
            return Err(format!("'{}' is another model's", tokenizer.display()));
        }
        let thread = ThreadPoolBuilder::new()
            .num_threads(1)
            .thread_name(|_| "quorate-vectors".into())
            .build()
            .map_err(|error| error.to_string())?;
        let mut file = Weights::open(weights)?;
        let mut positions =
            file.read("embeddings.position_embeddings.weight", &[POSITIONS, WIDTH])?;
        let kinds = file.read("embeddings.token_type_embeddings.weight", &[KINDS, WIDTH])?;
        for row in positions.chunks_exact_mut(WIDTH) {
            add(row, &kinds[..WIDTH]);
        }
        Ok(Self {
            tokenizer: splitter,
            words: file.read("embeddings.word_embeddings.weight", &[WORDS, WIDTH])?,
            positions,
            norm: Norm::read(&mut file, "embeddings.LayerNorm")?,
            layers: (0..LAYERS)
                .map(|index| Layer::read(&mut file, index))
                .collect::<std::result::Result<_, _>>()?,
            thread,
        })
    }

    /// The vector of each text; what a text has beyond [`LONGEST`] tokens is not read. Blocks: some milliseconds
    /// for a sentence, a few hundred for the longest text.
    ///
    /// # Errors
    /// In words; none is known to happen with files of the right hash.
    pub fn encode(&self, texts: &[&str]) -> std::result::Result<Vec<Vector>, String> {
        self.thread
            .install(|| texts.iter().map(|text| self.read(text)).collect())
    }

    fn read(&self, text: &str) -> std::result::Result<Vector, String> {
        let mut end = text.len().min(BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let tokens = self
            .tokenizer
            .encode_fast(&text[..end], true)
            .map_err(|error| error.to_string())?;
        let states = self
            .states(tokens.get_ids())
            .map_err(|error| error.to_string())?;
        Ok(mean(&states))
    }

    /// The last layer's state of each token.
    fn states(&self, tokens: &[u32]) -> Result<Vec<f32>> {
        let mut states = Vec::with_capacity(tokens.len() * WIDTH);
        for (token, position) in tokens.iter().zip(self.positions.chunks_exact(WIDTH)) {
            let Some(word) = self.words.chunks_exact(WIDTH).nth(*token as usize) else {
                candle_core::bail!("there is no token {token}");
            };
            states.extend(
                word.iter()
                    .zip(position)
                    .map(|(word, position)| word + position),
            );
        }
        self.norm.of(&mut states);
        for layer in &self.layers {
            layer.advance(&mut states)?;
        }
        Ok(states)
    }
}

impl Layer {
    fn read(file: &mut Weights, index: usize) -> std::result::Result<Self, String> {
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        Ok(Self {
            qkv: Linear::read(file, &qkv, WIDTH, WIDTH)?,
            attended: Linear::read(file, &[name("attention.output.dense")], WIDTH, WIDTH)?,
            attended_norm: Norm::read(file, &name("attention.output.LayerNorm"))?,
            inner: Linear::read(file, &[name("intermediate.dense")], WIDTH, INNER)?,
            outer: Linear::read(file, &[name("output.dense")], INNER, WIDTH)?,
            outer_norm: Norm::read(file, &name("output.LayerNorm"))?,
        })
    }

    fn advance(&self, states: &mut [f32]) -> Result<()> {
        let attended = attend(self.qkv.of(states)?)?;
        add(states, &self.attended.of(&attended)?);
        self.attended_norm.of(states);
        let mut inner = self.inner.of(states)?;
        inner.iter_mut().for_each(|value| *value = gelu(*value));
        add(states, &self.outer.of(&inner)?);
        self.outer_norm.of(states);
        Ok(())
    }
}

impl Linear {
    /// The named weights of `inputs` by `outputs` each, beside each other.
    fn read(
        file: &mut Weights,
        names: &[String],
        inputs: usize,
        outputs: usize,
    ) -> std::result::Result<Self, String> {
        let (mut rows, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            // The file has a row for each output.
            rows.extend(file.read(&format!("{name}.weight"), &[outputs, inputs])?);
            bias.extend(file.read(&format!("{name}.bias"), &[outputs])?);
        }
        let weight = Tensor::from_vec(rows, (bias.len(), inputs), &Device::Cpu)
            .and_then(|rows| rows.t()?.contiguous());
        Ok(Self {
            weight: weight.map_err(|error| error.to_string())?,
            bias,
        })
    }

    fn of(&self, states: &[f32]) -> Result<Vec<f32>> {
        let inputs = self.weight.dim(0)?;
        let states = Tensor::from_slice(states, (states.len() / inputs, inputs), &Device::Cpu)?;
        let mut out = states.matmul(&self.weight)?.flatten_all()?.to_vec1()?;
        for row in out.chunks_exact_mut(self.bias.len()) {
            add(row, &self.bias);
        }
        Ok(out)
    }
}

impl Norm {
    fn read(file: &mut Weights, name: &str) -> std::result::Result<Self, String> {
        Ok(Self {
            scale: file.read(&format!("{name}.weight"), &[WIDTH])?,
            shift: file.read(&format!("{name}.bias"), &[WIDTH])?,
        })
    }

    /// Each row to mean 0 and variance 1, then scaled and shifted.
    fn of(&self, states: &mut [f32]) {
        for row in states.chunks_exact_mut(WIDTH) {
            let mean = row.iter().sum::<f32>() / WIDTH as f32;
            row.iter_mut().for_each(|value| *value -= mean);
            let variance = row.iter().map(|value| value * value).sum::<f32>() / WIDTH as f32;
            let by = (variance + EPSILON).sqrt().recip();
            for ((value, scale), shift) in row.iter_mut().zip(&self.scale).zip(&self.shift) {
                *value = *value * by * scale + shift;
            }
        }
    }
}

/// Every token looks at all of the text, with each head.
fn attend(qkv: Vec<f32>) -> Result<Vec<f32>> {
    let count = qkv.len() / (3 * WIDTH);
    let heads = Tensor::from_vec(qkv, (count, 3 * HEADS, HEAD), &Device::Cpu)?
        .transpose(0, 1)?
        .contiguous()?;
    let part = |index: usize| heads.narrow(0, index * HEADS, HEADS);
    let mut looks: Vec<f32> = part(0)?.matmul(&part(1)?.t()?)?.flatten_all()?.to_vec1()?;
    looks.chunks_exact_mut(count.max(1)).for_each(softmax);
    Tensor::from_vec(looks, (HEADS, count, count), &Device::Cpu)?
        .matmul(&part(2)?)?
        .transpose(0, 1)?
        .flatten_all()?
        .to_vec1()
}

fn softmax(row: &mut [f32]) {
    let scale = (HEAD as f32).sqrt().recip();
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = ((*value - most) * scale).exp();
        sum += *value;
    }
    row.iter_mut().for_each(|value| *value /= sum);
}

/// The exact one, over the error function.
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + candle_core::cpu::erf::erf_f32(x * std::f32::consts::FRAC_1_SQRT_2))
}

fn add(to: &mut [f32], what: &[f32]) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += what);
}

/// The mean row, scaled to length one.
fn mean(states: &[f32]) -> Vector {
    let mut sum = [0.0; WIDTH];
    for row in states.chunks_exact(WIDTH) {
        add(&mut sum, row);
    }
    let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
    sum.map(|value| if length > 0.0 { value / length } else { 0.0 })
}

/// How near two vectors of length one are, -1..=1.
pub fn cosine(a: &Vector, b: &Vector) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    products.sum::<f64>().clamp(-1.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Fetcher, cache_dir, find};

    /// The fetched model; nothing, said aloud, if it is not here.
    fn fetched() -> Option<Encoder> {
        let fetcher = Fetcher::new(cache_dir(|name| std::env::var_os(name))?);
        let model = find(super::super::MODEL)?;
        let Some(weights) = fetcher.installed(model) else {
            eprintln!("skipped, because minilm was not fetched: quorate models fetch minilm");
            return None;
        };
        Some(Encoder::load(&weights, &fetcher.path(model.with?)).unwrap())
    }

    #[test]
    fn vectors_are_near_as_the_model_s_makers_have_them() {
        let Some(encoder) = fetched() else { return };
        let texts = [
            "The capital of France is Paris.",
            "Paris is the capital city of France.",
            "The capital of France is Lyon.",
            "Bananas are rich in potassium.",
        ];
        let vectors = encoder.encode(&texts).unwrap();
        for (vector, expected) in vectors.iter().zip([1.0, 0.9698, 0.7528, -0.0793]) {
            let cosine = cosine(&vectors[0], vector);
            assert!(
                (cosine - expected).abs() < 1e-3,
                "{cosine} is not {expected}"
            );
        }
    }

    #[test]
    fn a_text_s_vector_does_not_depend_on_its_company() {
        let Some(encoder) = fetched() else { return };
        let long = "All of this is longer than the model reads. ".repeat(1000);
        let texts = ["", "Rain.", &long, "\u{1f600} \u{0} \u{4e2d}\u{6587}"];
        let together = encoder.encode(&texts).unwrap();
        for (text, vector) in texts.iter().zip(&together) {
            assert_eq!(encoder.encode(&[text]).unwrap()[0], *vector);
            assert!((cosine(vector, vector) - 1.0).abs() < 1e-5, "{text:.20}");
        }
        assert!(encoder.encode(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_model_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokenizer.json");
        std::fs::write(&file, "{}").unwrap();
        let error = Encoder::load(&file, &file).err().unwrap();
        assert!(error.contains("tokenizer.json"), "{error}");
    }

    #[test]
    fn the_activation_is_the_exact_one() {
        for (x, expected) in [
            (0.0, 0.0),
            (1.0, 0.841_344_7),
            (-1.0, -0.158_655_3),
            (10.0, 10.0),
        ] {
            assert!((gelu(x) - expected).abs() < 1e-6);
        }
    }
}
