//! A stream past its first semantic delta: watched for silence, truncation, the deadline and panics, and
//! accounted for when it ends or is dropped.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use tokio::time::{Instant, Sleep, sleep_until};

use super::attempt::panicked;
use super::contained::Contained;
use crate::answer::{Answer, Choice, ChoiceDelta, Delta, Deltas, ToolCallDelta, Usage};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::{Guard, Report};
use crate::query::ToolCall;

pub(super) struct Live {
    opening: VecDeque<Delta>,
    rest: Contained<Deltas>,
    guard: Option<Guard>,
    started: Instant,
    ttft: Duration,
    idle: Duration,
    deadline: Instant,
    usage: Option<Usage>,
    choices: Open,
    span: tracing::Span,
    /// Since when nothing has come although somebody listens, or since when the answer has been finished.
    waiting: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
}

/// Which choices have begun and which have finished, a bit each; more than fit are not asked for.
#[derive(Clone, Copy, Default)]
struct Open {
    begun: u128,
    finished: u128,
}

impl Open {
    fn see(&mut self, delta: &Delta) {
        for choice in &delta.choices {
            let bit = 1u128.checked_shl(choice.index).unwrap_or(0);
            self.begun |= bit;
            if choice.finish.is_some() {
                self.finished |= bit;
            }
        }
    }

    /// All that began have finished, and there is one.
    fn are_finished(self) -> bool {
        self.finished != 0 && self.begun & !self.finished == 0
    }
}

/// Whatever follows the finish reason, the usage most likely, is waited for so long.
const GRACE: Duration = Duration::from_secs(2);
/// A whole answer put together from a stream may be this large.
const LONGEST_ANSWER: usize = 32 << 20;

pub(super) fn truncated() -> Error {
    Error::new(
        ErrorKind::Truncated,
        "the upstream's answer ended without a finish reason",
    )
}

pub(super) fn record_usage(span: &tracing::Span, usage: Option<Usage>) {
    if let Some(usage) = usage {
        span.record("gen_ai.usage.input_tokens", usage.input);
        span.record("gen_ai.usage.output_tokens", usage.output);
    }
}

impl Live {
    pub fn new(
        opening: Vec<Delta>,
        rest: Contained<Deltas>,
        guard: Guard,
        started: Instant,
        idle: Duration,
        deadline: Instant,
        span: tracing::Span,
    ) -> Self {
        Self {
            opening: opening.into(),
            rest,
            guard: Some(guard),
            started,
            ttft: started.elapsed(),
            idle,
            deadline,
            usage: None,
            choices: Open::default(),
            span,
            waiting: None,
            alarm: Box::pin(sleep_until(deadline)),
        }
    }

    /// What ends the stream whether or not more is there: the deadline, or enough after its finish.
    fn overdue(&self) -> Option<Error> {
        let now = Instant::now();
        if now >= self.deadline {
            return Some(Error::deadline("the answer was being streamed"));
        }
        let finished = self.choices.are_finished();
        let since = self.waiting.filter(|_| finished)?;
        (now >= since + GRACE.min(self.idle)).then(truncated)
    }

    /// What ends a silence that has lasted too long; none, and a wake-up to come, while it has not.
    fn silence(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        let now = Instant::now();
        let patience = if self.choices.are_finished() {
            GRACE.min(self.idle)
        } else {
            self.idle
        };
        let quiet = *self.waiting.get_or_insert(now) + patience;
        let until = quiet.min(self.deadline);
        while until > Instant::now() {
            // Wound anew only if it would ring too late, or rang too early: not at every delta.
            if self.alarm.deadline() > until || self.alarm.is_elapsed() {
                self.alarm.as_mut().reset(until);
            }
            if self.alarm.as_mut().poll(cx).is_pending() {
                return None;
            }
        }
        Some(if quiet < self.deadline {
            let message = "the upstream fell silent in the middle of its answer";
            Error::new(ErrorKind::Timeout, message)
        } else {
            Error::deadline("the answer was being streamed")
        })
    }

    /// Accounts for the call, whose stream ended so; an answer that has finished is whole however it ends.
    fn end(&mut self, error: Error) -> Option<Error> {
        let mut guard = self.guard.take()?;
        if self.choices.are_finished() {
            record_usage(&self.span, self.usage);
            guard.report(Report::Success {
                ttft: Some(self.ttft),
                total: self.started.elapsed(),
                usage: self.usage,
            });
            return None;
        }
        self.span.record("error.type", error.kind().name());
        if error.kind() != ErrorKind::Deadline {
            guard.report(Report::Failure(error.clone()));
        }
        Some(error)
    }

    fn seen(&mut self, delta: Delta) -> Delta {
        self.choices.see(&delta);
        self.usage = delta.usage.or(self.usage);
        delta
    }
}

impl Stream for Live {
    type Item = Result<Delta>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.guard.is_none() {
            // The end has been told.
            return Poll::Ready(None);
        }
        if let Some(delta) = this.opening.pop_front() {
            return Poll::Ready(Some(Ok(this.seen(delta))));
        }
        if let Some(error) = this.overdue() {
            return Poll::Ready(this.end(error).map(Err));
        }
        let rest = &mut this.rest;
        let polled = catch_unwind(AssertUnwindSafe(|| rest.poll_next_unpin(cx)));
        let error = match polled {
            Ok(Poll::Ready(Some(Ok(delta)))) => {
                let delta = this.seen(delta);
                this.waiting = if this.choices.are_finished() {
                    this.waiting.or_else(|| Some(Instant::now()))
                } else {
                    None
                };
                return Poll::Ready(Some(Ok(delta)));
            }
            Ok(Poll::Ready(Some(Err(error)))) => error,
            Ok(Poll::Ready(None)) => truncated(),
            Ok(Poll::Pending) => match this.silence(cx) {
                Some(error) => error,
                None => return Poll::Pending,
            },
            Err(panic) => panicked("provider", &*panic),
        };
        Poll::Ready(this.end(error).map(Err))
    }
}

/// Reads a stream to its end and puts the pieces together.
pub(crate) async fn collect(mut deltas: Deltas) -> Result<Answer> {
    let mut choices: BTreeMap<u32, Gathered> = BTreeMap::new();
    let mut usage = None;
    let mut model = String::new();
    let mut size = 0;
    while let Some(delta) = deltas.next().await {
        let delta = delta?;
        size += delta.weight();
        if size > LONGEST_ANSWER {
            let message = format!("the upstream's answer is longer than {LONGEST_ANSWER} bytes");
            return Err(Error::new(ErrorKind::Malformed, message));
        }
        usage = delta.usage.or(usage);
        if model.is_empty() {
            model = delta.model.unwrap_or_default();
        }
        for piece in delta.choices {
            choices.entry(piece.index).or_default().add(piece);
        }
    }
    let choices = choices.into_iter().map(|(index, gathered)| Choice {
        index,
        ..gathered.choice
    });
    Ok(Answer {
        choices: choices.collect(),
        usage,
        model,
        ..Answer::default()
    })
}

/// One choice so far.
#[derive(Default)]
struct Gathered {
    choice: Choice,
    /// The upstream's index of each tool call; it need not begin at 0.
    calls: Vec<u32>,
}

impl Gathered {
    fn add(&mut self, piece: ChoiceDelta) {
        let message = &mut self.choice.message;
        let slots = [
            (&mut message.content, piece.content),
            (&mut message.reasoning_content, piece.reasoning),
            (&mut message.refusal, piece.refusal),
        ];
        for (slot, text) in slots {
            if let Some(text) = text {
                slot.get_or_insert_default().push_str(&text);
            }
        }
        for call in piece.tool_calls {
            self.add_call(call);
        }
        self.choice.finish = piece.finish.or(self.choice.finish.take());
        if let Some(logprobs) = piece.logprobs {
            join_logprobs(&mut self.choice.logprobs, logprobs);
        }
    }

    fn add_call(&mut self, piece: ToolCallDelta) {
        let calls = &mut self.choice.message.tool_calls;
        let at = self
            .calls
            .iter()
            .position(|index| *index == piece.index)
            .unwrap_or_else(|| {
                self.calls.push(piece.index);
                calls.push(ToolCall {
                    kind: "function".into(),
                    ..ToolCall::default()
                });
                calls.len() - 1
            });
        let call = &mut calls[at];
        if let Some(id) = piece.id {
            call.id = id;
        }
        if let Some(kind) = piece.kind {
            call.kind = kind;
        }
        if let Some(function) = piece.function {
            call.function
                .name
                .push_str(function.name.as_deref().unwrap_or_default());
            call.function
                .arguments
                .push_str(function.arguments.as_deref().unwrap_or_default());
        }
    }
}

/// Log probabilities come as `{"content": [...]}` pieces whose lists are to be joined.
fn join_logprobs(whole: &mut Option<serde_json::Value>, piece: serde_json::Value) {
    let list = |value: &mut serde_json::Value| match value.get_mut("content") {
        Some(serde_json::Value::Array(list)) => Some(std::mem::take(list)),
        _ => None,
    };
    let mut piece = piece;
    match whole {
        None => *whole = Some(piece),
        Some(whole) => {
            let more = list(&mut piece).unwrap_or_default();
            if let Some(serde_json::Value::Array(all)) = whole.get_mut("content") {
                all.extend(more);
            }
        }
    }
}

/// A whole answer as a stream: one delta per choice, then its end.
pub(super) fn replay(answer: Answer) -> Deltas {
    let mut deltas = Vec::new();
    for choice in answer.choices {
        let message = choice.message;
        let tool_calls = message
            .tool_calls
            .into_iter()
            .zip(0..)
            .map(|(call, index)| ToolCallDelta {
                index,
                id: Some(call.id),
                kind: Some(call.kind),
                function: Some(crate::answer::FunctionDelta {
                    name: Some(call.function.name),
                    arguments: Some(call.function.arguments),
                }),
            });
        let piece = ChoiceDelta {
            index: choice.index,
            content: message.content,
            reasoning: message.reasoning_content,
            refusal: message.refusal,
            tool_calls: tool_calls.collect(),
            finish: None,
            logprobs: choice.logprobs,
        };
        let end = ChoiceDelta {
            index: choice.index,
            finish: choice.finish,
            ..ChoiceDelta::default()
        };
        deltas.push(Ok(Delta {
            choices: vec![piece],
            ..Delta::default()
        }));
        deltas.push(Ok(Delta {
            choices: vec![end],
            ..Delta::default()
        }));
    }
    if let Some(Ok(last)) = deltas.last_mut() {
        last.usage = answer.usage;
    }
    stream::iter(deltas).boxed()
}
