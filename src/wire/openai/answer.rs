//! A whole chat completion: read from a provider, written to a client.

#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::lenient::{count, extra, json_text, place};
use super::{encode, error, splice};
use crate::answer::{Answer, Choice, Reply, Report, Usage};
use crate::error::{Error, ErrorKind, Result};
use crate::query::{FunctionCall, Original, ToolCall, Wire};

/// Reads a provider's answer. Its bytes stay with it, for a client that speaks the same wire.
///
/// Servers deviate, and are understood: `null` for an empty list, `reasoning` for `reasoning_content` or both
/// (vLLM, OpenRouter), content as a list of parts (Mistral), tool calls without an id (older Ollama), an error
/// with status 200 (OpenRouter), arguments of a tool as an object. Where a count, an index or the model's name is
/// something else, it counts as not told.
///
/// # Errors
/// [`Malformed`](ErrorKind::Malformed) with the reason, or the error that the body carries.
pub fn read(body: Bytes) -> Result<Answer> {
    let completion: Completion = super::parse(&body).map_err(|why| {
        let message = format!("the upstream's answer is no chat completion: {why}");
        Error::new(ErrorKind::Malformed, message).with_upstream(200, &body)
    })?;
    if let Some(carried) = completion.error.filter(error::is_one) {
        return Err(error::carried(carried));
    }
    let Some(choices) = completion.choices else {
        let message = "the upstream's answer is no chat completion: it has no choices";
        return Err(Error::new(ErrorKind::Malformed, message).with_upstream(200, &body));
    };
    Ok(Answer {
        choices: choices.into_iter().map(Choice::from).collect(),
        usage: completion.usage.map(Usage::from),
        model: completion.model.unwrap_or_default(),
        original: Some(Original {
            wire: Wire::OpenAiChat,
            body,
        }),
        report: Report::default(),
    })
}

#[derive(Deserialize)]
struct Completion {
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
    message: ReadReply,
    finish_reason: Option<String>,
    logprobs: Option<Value>,
}

impl From<ReadChoice> for Choice {
    fn from(read: ReadChoice) -> Self {
        Self {
            index: read.index,
            message: read.message.0,
            finish: read
                .finish_reason
                .filter(|reason| !reason.is_empty())
                .map(|reason| reason.as_str().into()),
            logprobs: read.logprobs,
        }
    }
}

/// A message. Read by hand, since every answer has one: what `flatten` gathers is copied twice.
struct ReadReply(Reply);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Content,
    ReasoningContent,
    Reasoning,
    Refusal,
    ToolCalls,
    Role,
    Other(String),
}

impl<'de> Deserialize<'de> for ReadReply {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = ReadReply;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ReadReply, A::Error> {
                let mut reply = Reply::default();
                let mut reasoning = None;
                while let Some(field) = map.next_key()? {
                    match field {
                        Field::Content => reply.content = map.next_value::<Text>()?.0,
                        Field::ReasoningContent => reply.reasoning_content = map.next_value()?,
                        Field::Reasoning => reasoning = map.next_value()?,
                        Field::Refusal => reply.refusal = map.next_value()?,
                        Field::ToolCalls => {
                            let calls: Option<Vec<ReadToolCall>> = map.next_value()?;
                            let calls = calls.unwrap_or_default().into_iter();
                            reply.tool_calls = calls.map(ToolCall::from).collect();
                        }
                        Field::Role => drop(map.next_value::<IgnoredAny>()?),
                        Field::Other(name) => {
                            reply.rest.insert(name, map.next_value()?);
                        }
                    }
                }
                reply.reasoning_content = reply.reasoning_content.or(reasoning);
                Ok(ReadReply(reply))
            }
        }
        from.deserialize_map(Fields)
    }
}

#[derive(Deserialize)]
struct Text(#[serde(deserialize_with = "text")] Option<String>);

#[derive(Deserialize)]
struct ReadToolCall {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    function: ReadFunction,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Default, Deserialize)]
struct ReadFunction {
    #[serde(default)]
    name: String,
    #[serde(default, deserialize_with = "json_text")]
    arguments: Option<String>,
}

impl From<ReadToolCall> for ToolCall {
    fn from(read: ReadToolCall) -> Self {
        Self {
            id: read.id.unwrap_or_default(),
            kind: read.kind.unwrap_or_else(|| "function".into()),
            function: FunctionCall {
                name: read.function.name,
                arguments: read.function.arguments.unwrap_or_default(),
            },
            rest: read.rest,
        }
    }
}

/// Text, or the texts among a list of parts.
pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    struct Said;
    impl<'de> Visitor<'de> for Said {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or an array of parts")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(text.to_owned()))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut text = String::new();
            while let Some(part) = seq.next_element::<Part>()? {
                text.push_str(&part.text);
            }
            Ok(Some(text))
        }
    }
    #[derive(Deserialize)]
    struct Part {
        #[serde(default)]
        text: String,
    }
    from.deserialize_any(Said)
}

/// Tokens as the wire counts them. Cached ones are OpenAI's `prompt_tokens_details.cached_tokens`, Moonshot's
/// `cached_tokens` or DeepSeek's `prompt_cache_hit_tokens`.
#[derive(Deserialize)]
pub(super) struct ReadUsage {
    #[serde(default, deserialize_with = "count")]
    prompt_tokens: Option<u32>,
    #[serde(default, deserialize_with = "count")]
    completion_tokens: Option<u32>,
    #[serde(default, deserialize_with = "extra")]
    prompt_tokens_details: Option<ReadDetails>,
    #[serde(default, deserialize_with = "extra")]
    completion_tokens_details: Option<ReadDetails>,
    #[serde(default, deserialize_with = "count")]
    cached_tokens: Option<u32>,
    #[serde(default, deserialize_with = "count")]
    prompt_cache_hit_tokens: Option<u32>,
}

#[derive(Deserialize)]
struct ReadDetails {
    #[serde(default, deserialize_with = "count")]
    cached_tokens: Option<u32>,
    #[serde(default, deserialize_with = "count")]
    reasoning_tokens: Option<u32>,
}

impl From<ReadUsage> for Usage {
    fn from(read: ReadUsage) -> Self {
        let details = read
            .prompt_tokens_details
            .and_then(|details| details.cached_tokens);
        let cached = details
            .or(read.cached_tokens)
            .or(read.prompt_cache_hit_tokens);
        let reasoning = read
            .completion_tokens_details
            .and_then(|details| details.reasoning_tokens);
        Self {
            input: read.prompt_tokens.unwrap_or(0),
            output: read.completion_tokens.unwrap_or(0),
            cached: cached.unwrap_or(0),
            reasoning: reasoning.unwrap_or(0),
        }
    }
}

/// Writes an answer for a client, with its report as the member `quorate`.
///
/// An answer that came in this wire goes out with the provider's own bytes. Any other is composed;
/// `fallback_id` is its id then, and `created` its time in seconds since 1970.
pub fn write(answer: &Answer, fallback_id: &str, created: u64) -> Bytes {
    match &answer.original {
        Some(Original {
            wire: Wire::OpenAiChat,
            body,
        }) => splice::append(body, "quorate", &encode(&answer.report)),
        None => compose(answer, fallback_id, created),
    }
}

#[derive(Serialize)]
struct WrittenCompletion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<WrittenChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<WrittenUsage>,
    quorate: &'a Report,
}

#[derive(Serialize)]
struct WrittenChoice<'a> {
    index: u32,
    message: WrittenReply<'a>,
    finish_reason: &'a str,
    logprobs: &'a Option<Value>,
}

/// Unlike [`Reply`], with the fields that the wire wants even when they are `null`.
#[derive(Serialize)]
struct WrittenReply<'a> {
    role: &'static str,
    content: &'a Option<String>,
    refusal: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: &'a Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tool_calls: &'a [ToolCall],
    #[serde(flatten)]
    rest: &'a Map<String, Value>,
}

#[derive(Serialize)]
pub(super) struct WrittenUsage {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    prompt_tokens_details: Cached,
    completion_tokens_details: Reasoning,
}

#[derive(Serialize)]
struct Cached {
    cached_tokens: u32,
}

#[derive(Serialize)]
struct Reasoning {
    reasoning_tokens: u32,
}

impl From<Usage> for WrittenUsage {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.input,
            completion_tokens: usage.output,
            total_tokens: usage.input.saturating_add(usage.output),
            prompt_tokens_details: Cached {
                cached_tokens: usage.cached,
            },
            completion_tokens_details: Reasoning {
                reasoning_tokens: usage.reasoning,
            },
        }
    }
}

fn compose(answer: &Answer, id: &str, created: u64) -> Bytes {
    let choices = answer.choices.iter().map(|choice| WrittenChoice {
        index: choice.index,
        message: WrittenReply {
            role: "assistant",
            content: &choice.message.content,
            refusal: &choice.message.refusal,
            reasoning_content: &choice.message.reasoning_content,
            tool_calls: &choice.message.tool_calls,
            rest: &choice.message.rest,
        },
        finish_reason: choice
            .finish
            .as_ref()
            .map_or("stop", |reason| reason.as_str()),
        logprobs: &choice.logprobs,
    });
    encode(&WrittenCompletion {
        id,
        object: "chat.completion",
        created,
        model: model(&answer.model, &answer.report),
        choices: choices.collect(),
        usage: answer.usage.map(WrittenUsage::from),
        quorate: &answer.report,
    })
}

/// The model as the provider called itself, or else the deployment that was asked.
fn model<'a>(given: &'a str, report: &'a Report) -> &'a str {
    if given.is_empty() {
        report.model.as_ref().map_or("", |model| model.as_str())
    } else {
        given
    }
}
