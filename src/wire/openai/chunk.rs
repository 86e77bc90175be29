//! One chunk of a streamed chat completion: read from a provider, written to a client.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{ReadUsage, WrittenUsage, text};
use super::lenient::{extra, json_text, place};
use super::{encode, error, splice};
use crate::answer::{ChoiceDelta, Delta, FunctionDelta, Report, ToolCallDelta, Usage};
use crate::error::{Error, ErrorKind, Result};
use crate::query::{Original, Wire};

/// The data of the event that ends a stream.
pub const DONE: &[u8] = b"[DONE]";

/// What one event of a stream says.
#[derive(Debug)]
pub enum Read {
    /// A piece of the answer.
    Delta(Delta),
    /// The stream is complete.
    Done,
    /// The provider failed in the middle.
    Error(Error),
    /// Something that is no part of the answer, such as a ping.
    Nothing,
}

/// Reads an event's data. Its bytes stay with the delta, for a client that speaks the same wire.
///
/// Deviations are understood as in [`answer::read`](super::answer::read()); besides, the usage may be in the last
/// choice (Moonshot).
///
/// # Errors
/// [`Malformed`](ErrorKind::Malformed) with the reason, if it is no chunk.
pub fn read(data: Bytes) -> Result<Read> {
    if data.trim_ascii() == DONE {
        return Ok(Read::Done);
    }
    let chunk: Chunk<'_> = super::parse(&data).map_err(|why| {
        let message = format!("the upstream's stream has an event that is no chunk: {why}");
        Error::new(ErrorKind::Malformed, message).with_upstream(200, &data)
    })?;
    if let Some(carried) = chunk.error.filter(error::is_one) {
        return Ok(Read::Error(error::carried(carried)));
    }
    if chunk.choices.is_none() && chunk.usage.is_none() {
        return Ok(if chunk.object.as_deref() == Some("error") {
            Read::Error(read_error(&data))
        } else {
            Read::Nothing
        });
    }
    let mut usage = chunk.usage;
    let mut choices = Vec::new();
    for choice in chunk.choices.unwrap_or_default() {
        usage = usage.or(choice.usage);
        let delta = choice.delta.unwrap_or_default();
        choices.push(ChoiceDelta {
            index: choice.index,
            content: delta.content,
            reasoning: delta.reasoning_content.or(delta.reasoning),
            refusal: delta.refusal,
            tool_calls: delta
                .tool_calls
                .into_iter()
                .flatten()
                .map(ToolCallDelta::from)
                .collect(),
            finish: choice
                .finish_reason
                .filter(|reason| !reason.is_empty())
                .map(|reason| reason.as_str().into()),
            logprobs: choice.logprobs,
        });
    }
    Ok(Read::Delta(Delta {
        choices,
        usage: usage.map(Usage::from),
        model: chunk.model,
        original: Some(Original {
            wire: Wire::OpenAiChat,
            body: data,
        }),
        report: None,
    }))
}

/// Reads the data of an event that is named `error`, or that calls itself one (older vLLM).
pub fn read_error(data: &[u8]) -> Error {
    let text = || Value::String(String::from_utf8_lossy(data).into_owned());
    let mut event = serde_json::from_slice(data).unwrap_or_else(|_| text());
    let inner = event
        .get_mut("error")
        .map(Value::take)
        .filter(|error| !error.is_null());
    error::carried(inner.unwrap_or(event))
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    object: Option<Cow<'a, str>>,
    choices: Option<Vec<ReadChoice>>,
    #[serde(default, deserialize_with = "extra")]
    usage: Option<ReadUsage>,
    #[serde(default, deserialize_with = "extra")]
    model: Option<String>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct ReadChoice {
    #[serde(default, deserialize_with = "place")]
    index: u32,
    delta: Option<ReadDelta>,
    finish_reason: Option<String>,
    logprobs: Option<Value>,
    #[serde(default, deserialize_with = "extra")]
    usage: Option<ReadUsage>,
}

#[derive(Default, Deserialize)]
struct ReadDelta {
    #[serde(default, deserialize_with = "text")]
    content: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<ReadToolCall>>,
}

#[derive(Deserialize)]
struct ReadToolCall {
    #[serde(default, deserialize_with = "place")]
    index: u32,
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    function: Option<ReadFunction>,
}

#[derive(Deserialize)]
struct ReadFunction {
    name: Option<String>,
    #[serde(default, deserialize_with = "json_text")]
    arguments: Option<String>,
}

impl From<ReadToolCall> for ToolCallDelta {
    fn from(read: ReadToolCall) -> Self {
        Self {
            index: read.index,
            id: read.id,
            kind: read.kind,
            function: read.function.map(|function| FunctionDelta {
                name: function.name,
                arguments: function.arguments,
            }),
        }
    }
}

/// What all chunks of one answer share, and which of its choices have begun.
#[derive(Clone, Debug)]
pub struct Context {
    id: String,
    created: u64,
    model: String,
    /// A bit per choice whose role has been told, which the wire does once.
    begun: u128,
}

impl Context {
    /// For an answer with this id, created at this second since 1970, by this model.
    pub fn new(id: impl Into<String>, created: u64, model: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            created,
            model: model.into(),
            begun: 0,
        }
    }

    /// Whether this is the first that is said of choice `index`.
    fn begins(&mut self, index: u32) -> bool {
        // Past the last bit nothing is tracked; so many answers at once are refused long before.
        let bit = 1u128.checked_shl(index).unwrap_or(0);
        let begins = self.begun & bit != bit;
        self.begun |= bit;
        begins
    }
}

/// Writes a delta as the JSON of one chunk, with its report, if it has one, as the member `quorate`.
///
/// A delta that came in this wire goes out with the provider's own bytes. Any other is composed; one without
/// choices becomes the wire's chunk of usage.
pub fn write(delta: &Delta, context: &mut Context, out: &mut BytesMut) {
    match (&delta.original, &delta.report) {
        (
            Some(Original {
                wire: Wire::OpenAiChat,
                body,
            }),
            report,
        ) => {
            for choice in &delta.choices {
                context.begins(choice.index);
            }
            match report {
                None => out.extend_from_slice(body),
                Some(report) => {
                    out.extend_from_slice(&splice::append(body, "quorate", &encode(report)))
                }
            }
        }
        (None, report) => compose(delta, report.as_deref(), context, out),
    }
}

#[derive(Serialize)]
struct WrittenChunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<WrittenChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<WrittenUsage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quorate: Option<&'a Report>,
}

#[derive(Serialize)]
struct WrittenChoice<'a> {
    index: u32,
    delta: WrittenDelta<'a>,
    finish_reason: Option<&'a str>,
    logprobs: &'a Option<Value>,
}

#[derive(Serialize)]
struct WrittenDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: &'a Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tool_calls: &'a [ToolCallDelta],
}

fn compose(delta: &Delta, report: Option<&Report>, context: &mut Context, out: &mut BytesMut) {
    let mut choices = Vec::with_capacity(delta.choices.len());
    for choice in &delta.choices {
        choices.push(WrittenChoice {
            index: choice.index,
            delta: WrittenDelta {
                role: context.begins(choice.index).then_some("assistant"),
                content: &choice.content,
                reasoning_content: &choice.reasoning,
                refusal: &choice.refusal,
                tool_calls: &choice.tool_calls,
            },
            finish_reason: choice.finish.as_ref().map(|reason| reason.as_str()),
            logprobs: &choice.logprobs,
        });
    }
    let chunk = WrittenChunk {
        id: &context.id,
        object: "chat.completion.chunk",
        created: context.created,
        model: delta.model.as_deref().unwrap_or(&context.model),
        choices,
        usage: delta.usage.map(WrittenUsage::from),
        quorate: report,
    };
    // Memory takes every byte, and nothing in a chunk has keys that are no strings.
    let _ = serde_json::to_writer(out.writer(), &chunk);
}
