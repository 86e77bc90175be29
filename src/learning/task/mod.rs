//! What kind of work a prompt is, and how hard.
//!
//! Hashed words and word pairs, read more closely at both ends of the prompt, and cues made by hand
//! (what the words are about, what the text looks like) go into a linear model whose weights are
//! compiled in. `examples/train_classifier` makes them.

mod difficulty;
mod features;
mod language;
mod lexicon;
mod model;
mod shape;
mod tokens;

#[cfg(test)]
mod tests;

pub use difficulty::Difficulty;
pub use features::{BUCKETS, DENSE, Features, GROUP_NAMES, GROUPS, features};
pub use language::Language;
pub use model::{KINDS, LENGTH, Model, SCORED, softmax};
pub use tokens::{HEAD_BYTES, TAIL_BYTES, excerpt};

use crate::query::TaskKind;
use std::sync::LazyLock;

/// The odds of tool use are multiplied by this where tools are offered. Set by hand: most prompts that
/// come with tools are still about code or questions.
const TOOLS_OFFERED: f32 = 3.0;

static WEIGHTS: &[u8] = include_bytes!("task.weights");

static BUILT_IN: LazyLock<Result<Model, String>> = LazyLock::new(|| Model::read(WEIGHTS));

/// The model compiled in; an error says what is wrong with its weights.
pub fn built_in() -> Result<&'static Model, &'static str> {
    BUILT_IN.as_ref().map_err(String::as_str)
}

/// What is known of a prompt before any model has seen it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Classified {
    /// The kind of work; `other` if none is likely enough.
    pub kind: TaskKind,
    /// How likely the likeliest kind is, calibrated, 0 to 1; that of the rejected kind if `kind` is
    /// `other`.
    pub probability: f32,
    /// The likeliest kind, rejected or not.
    pub likeliest: TaskKind,
    /// How hard the work is.
    pub difficulty: Difficulty,
    /// The score behind the difficulty, from about -2 to 12.
    pub difficulty_score: f32,
    /// The natural language.
    pub language: Language,
    /// Words, numbers and marks read; a truncated prompt has more.
    pub tokens: usize,
    /// Whether the middle of the prompt was left out.
    pub truncated: bool,
}

/// Classifies a prompt, with the weights compiled in. The same text gives the same result on every
/// machine with the same floating-point `exp`. `has_tools`: the query offers tools.
pub fn classify(text: &str, has_tools: bool) -> Classified {
    classify_with(built_in().ok(), text, has_tools)
}

/// Classifies a prompt; without a model, everything is `other`.
pub fn classify_with(model: Option<&Model>, text: &str, has_tools: bool) -> Classified {
    let seen = features(text);
    let (mut kind, mut probability, mut likeliest) = (TaskKind::Other, 0.0, TaskKind::Other);
    if let Some(model) = model.filter(|_| seen.tokens > 0) {
        let mut logits = model.logits(&seen);
        if let Some(logit) = logits
            .get_mut(TaskKind::ToolUse.index())
            .filter(|_| has_tools)
        {
            *logit += TOOLS_OFFERED.ln() * model.temperature;
        }
        let all = softmax(&logits, model.temperature);
        for (candidate, value) in TaskKind::ALL.into_iter().zip(all) {
            if value > probability {
                (likeliest, probability) = (candidate, value);
            }
        }
        if probability >= model.threshold {
            kind = likeliest;
        }
    }
    let difficulty_score = difficulty::score(&seen, likeliest);
    Classified {
        kind,
        probability,
        likeliest,
        difficulty: difficulty::class(difficulty_score),
        difficulty_score,
        language: seen.language,
        tokens: seen.tokens,
        truncated: text.len() > HEAD_BYTES + TAIL_BYTES,
    }
}
