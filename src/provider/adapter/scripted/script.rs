//! A script, and what it makes of one call: a list of [`Step`]s.

mod read;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::answer::{ChoiceDelta, Delta, FinishReason, FunctionDelta, ToolCallDelta, Usage};
use crate::error::Error;
use crate::provider::Call;
use crate::query::{Role, ToolCall};

/// A thing the double does, in order.
#[derive(Debug)]
pub(super) enum Step {
    /// Takes its time.
    Sleep(Duration),
    /// Takes the call: what comes after is part of the answer.
    Accept,
    /// Says a piece.
    Say(Delta),
    /// Fails.
    Fail(Error),
    /// Never goes on.
    Hang,
    /// Panics.
    Panic,
}

/// How the double behaves. See the module above for its fields.
#[derive(Debug)]
pub(super) struct Script {
    answers: Option<Vec<String>>,
    echo: bool,
    latency: Duration,
    pause: Duration,
    chunks: Option<usize>,
    usage: Option<Usage>,
    /// `None`: the answer breaks off.
    finish: Option<FinishReason>,
    tool_calls: Vec<ToolCall>,
    fail: Option<Fail>,
    hang: Option<Point>,
    panic: Option<Point>,
    by_prompt: Vec<(String, Script)>,
    by_call: Vec<Script>,
    /// Calls that came to this script.
    calls: AtomicU64,
}

/// How far a call gets: not even accepted, or so many pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    Before,
    After(usize),
}

#[derive(Debug)]
struct Fail {
    error: Error,
    at: Point,
    times: u64,
    ratio: f64,
    seed: u64,
}

impl Script {
    /// What the double does with `call`. A script of `by_prompt` goes before one of `by_call`.
    pub(super) fn steps(&self, call: &Call) -> Vec<Step> {
        let nth = self.calls.fetch_add(1, Ordering::Relaxed);
        let prompt = last_user_text(call);
        if let Some((_, script)) = self
            .by_prompt
            .iter()
            .find(|(part, _)| prompt.contains(part))
        {
            return script.steps(call);
        }
        let script = usize::try_from(nth)
            .ok()
            .and_then(|nth| self.by_call.get(nth));
        if let Some(script) = script.or_else(|| self.by_call.last()) {
            return script.steps(call);
        }
        self.play(call, &prompt, nth)
    }

    fn play(&self, call: &Call, prompt: &str, nth: u64) -> Vec<Step> {
        let text = self.text(prompt, nth);
        let fail = self.fail.as_ref().filter(|fail| fail.strikes(nth));
        let ends = [
            self.panic.map(|at| (at, Step::Panic)),
            self.hang.map(|at| (at, Step::Hang)),
            fail.map(|fail| (fail.at, Step::Fail(fail.error.clone()))),
        ];
        let end = ends.into_iter().flatten().min_by_key(|(at, _)| *at);
        let (stop, end) = match end {
            Some((Point::Before, end)) => return vec![Step::Sleep(self.latency), end],
            Some((Point::After(stop), end)) => (Some(stop), Some(end)),
            None => (None, None),
        };
        let mut pieces: Vec<Delta> = self.split(&text).into_iter().map(Delta::text).collect();
        pieces.extend(
            self.tool_calls
                .iter()
                .zip(0..)
                .map(|(call, index)| tool_delta(call, index)),
        );

        let mut steps = vec![Step::Accept, Step::Sleep(self.latency)];
        for (index, piece) in pieces
            .into_iter()
            .enumerate()
            .take(stop.unwrap_or(usize::MAX))
        {
            if index > 0 {
                steps.push(Step::Sleep(self.pause));
            }
            steps.push(Step::Say(piece));
        }
        if end.is_some() {
            steps.extend(end);
        } else if let Some(finish) = &self.finish {
            let usage = self
                .usage
                .unwrap_or_else(|| estimate(call, &text, &self.tool_calls));
            steps.push(Step::Say(Delta::finish(finish.clone(), Some(usage))));
        }
        for step in &mut steps {
            if let Step::Say(delta) = step {
                delta.model = Some(call.model.to_string());
            }
        }
        steps
    }

    fn text(&self, prompt: &str, nth: u64) -> String {
        if self.echo {
            return prompt.to_owned();
        }
        match &self.answers {
            Some(texts) => texts[(nth % texts.len() as u64) as usize].clone(),
            None if self.tool_calls.is_empty() => format!("scripted answer to: {prompt}"),
            None => String::new(),
        }
    }

    /// The pieces of `text`: words with the blank after them, or `chunks` pieces of nearly one length.
    fn split<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let Some(chunks) = self.chunks else {
            return text.split_inclusive(' ').collect();
        };
        let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let chunks = chunks.min(starts.len());
        let bound = |piece: usize| {
            starts
                .get(piece * starts.len() / chunks)
                .copied()
                .unwrap_or(text.len())
        };
        (0..chunks)
            .map(|piece| &text[bound(piece)..bound(piece + 1)])
            .collect()
    }
}

impl Fail {
    fn strikes(&self, nth: u64) -> bool {
        nth < self.times && uniform(self.seed, nth) < self.ratio
    }
}

/// The `nth` number of the sequence with this seed, 0..1: SplitMix64 (Steele, Lea and Flood, "Fast Splittable
/// Pseudorandom Number Generators", 2014), so that a ratio strikes the same calls at each run.
fn uniform(seed: u64, nth: u64) -> f64 {
    let mut z = seed.wrapping_add(nth.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 11) as f64 / (1u64 << 53) as f64
}

fn last_user_text(call: &Call) -> String {
    let messages = call.query.messages.iter().rev();
    messages
        .into_iter()
        .find(|message| message.role == Role::User)
        .map_or_else(String::new, |m| m.text().into_owned())
}

/// Four bytes a token, as [`Query::estimated_input_tokens`](crate::Query::estimated_input_tokens) counts.
fn estimate(call: &Call, text: &str, tools: &[ToolCall]) -> Usage {
    let arguments: usize = tools.iter().map(|tool| tool.function.arguments.len()).sum();
    let output = u32::try_from((text.len() + arguments).div_ceil(4)).unwrap_or(u32::MAX);
    Usage {
        input: call.query.estimated_input_tokens(),
        output,
        ..Usage::default()
    }
}

fn tool_delta(call: &ToolCall, index: u32) -> Delta {
    let function = FunctionDelta {
        name: Some(call.function.name.clone()),
        arguments: Some(call.function.arguments.clone()),
    };
    let piece = ToolCallDelta {
        index,
        id: Some(call.id.clone()),
        kind: Some(call.kind.clone()),
        function: Some(function),
    };
    let choice = ChoiceDelta {
        tool_calls: vec![piece],
        ..ChoiceDelta::default()
    };
    Delta {
        choices: vec![choice],
        ..Delta::default()
    }
}
