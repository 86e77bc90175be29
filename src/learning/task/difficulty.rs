//! How hard a prompt is, by a stated rule.
//!
//! Nobody labelled difficulty for this: the score adds up what makes work longer, with weights set by
//! hand. It orders prompts sensibly; it is no measurement, and learned quality must not take it for one.

use super::features::Features;
use super::lexicon::bit;
use super::shape::SIGNS;
use crate::query::TaskKind;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// How much work a good answer takes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Difficulty {
    /// One step: look it up, turn it round, say hello.
    #[default]
    Simple,
    /// Some steps or some constraints.
    Moderate,
    /// Many steps, many constraints, or long and technical material.
    Complex,
}

/// The score from which a prompt is [`Difficulty::Moderate`].
const MODERATE: f32 = 1.5;
/// The score from which a prompt is [`Difficulty::Complex`].
const COMPLEX: f32 = 3.5;

static CONSTRAINTS: LazyLock<u64> = LazyLock::new(|| {
    bit("format") | bit("puzzle") | bit("structure") | bit("ages") | bit("estimate")
});

/// The score, from 0: half a point for each doubling of the length above 25 words, and points for
/// numbers, listed conditions, further questions, formulae, code, names, constraints and each further verb
/// that demands work; then what the kind of work adds or takes.
pub(super) fn score(features: &Features, kind: TaskKind) -> f32 {
    let counts = features.counts;
    let capped = |count: usize, each: f32, most: f32| (count as f32 * each).min(most);
    let length = (features.tokens.max(1) as f32 / 25.0)
        .log2()
        .clamp(0.0, 5.0)
        * 0.5;
    let sign = |name: &str| {
        SIGNS
            .iter()
            .position(|known| *known == name)
            .is_some_and(|at| features.signs >> at & 1 == 1)
    };
    let constraints = (features.anywhere & *CONSTRAINTS).count_ones() as usize;
    let mut score = length
        + capped(counts.numbers, 0.12, 1.0)
        + capped(counts.list_lines, 0.2, 1.5)
        + capped(counts.questions.saturating_sub(1), 0.3, 0.9)
        + capped(counts.operators, 0.25, 1.0)
        + capped(counts.code_marks, 0.02, 1.0)
        + capped(counts.names, 0.04, 0.6)
        + capped(constraints, 0.3, 1.2)
        + capped(features.demands.saturating_sub(1), 0.7, 2.1);
    if sign("latex") {
        score += 0.8;
    }
    if sign("failure") {
        score += 0.5;
    }
    score
        + match kind {
            TaskKind::Reasoning | TaskKind::Debugging | TaskKind::DataAnalysis => 0.8,
            TaskKind::Math | TaskKind::Code => 0.6,
            TaskKind::Chat | TaskKind::OpenQa | TaskKind::Translation | TaskKind::ToolUse => -0.4,
            // Much to read is little to do.
            TaskKind::Summarisation
            | TaskKind::Classification
            | TaskKind::Extraction
            | TaskKind::ClosedQa => -0.5 - 0.4 * length,
            _ => 0.0,
        }
}

/// The class of a score.
pub(super) fn class(score: f32) -> Difficulty {
    if score >= COMPLEX {
        Difficulty::Complex
    } else if score >= MODERATE {
        Difficulty::Moderate
    } else {
        Difficulty::Simple
    }
}
