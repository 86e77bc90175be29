//! A chat completion's request: read from a client, written to a provider.

mod read;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{encode, splice};
use crate::error::{Error, Result};
use crate::query::{Message, Params, Query, Tool, Wire};

pub use read::read;

/// The most turns of a conversation, and the most tools.
const MOST_ENTRIES: usize = 4096;
/// The most texts that end an answer.
const MOST_STOPS: usize = 16;
/// The most answers of one call.
const MOST_ANSWERS: u32 = 16;

/// What a client asks.
#[derive(Clone, Debug)]
pub struct Request {
    /// The question. Its user is still the default one: who asks is not for the body to say.
    pub query: Query,
    /// Whether the answer is to come as a stream.
    pub stream: bool,
    /// Whether the stream is to end with a chunk of usage.
    pub include_usage: bool,
    /// OpenAI's advisory `user`, at most 512 bytes.
    pub user: Option<String>,
}

/// Checks what types alone do not say.
fn check(request: &Request) -> Result<()> {
    let Query {
        model,
        messages,
        params,
        tool_choice,
        response_format,
        ..
    } = &request.query;
    if messages.is_empty() {
        return Err(Error::invalid(
            "messages",
            "is missing: at least one message is needed",
        ));
    }
    // Names stand in logs, where a line break would begin a line of the caller's own.
    let named = |text: &str| {
        (1..=super::extension::LONGEST_NAME).contains(&text.len())
            && !text.chars().any(char::is_control)
    };
    let names = [("model", Some(model)), ("user", request.user.as_ref())];
    if let Some((param, _)) = names
        .iter()
        .find(|(_, name)| name.is_some_and(|name| !named(name)))
    {
        let most = super::extension::LONGEST_NAME;
        return Err(Error::invalid(
            *param,
            format!("must be a string of 1 to {most} bytes without control characters"),
        ));
    }
    let ranges = [
        ("temperature", params.temperature, 0.0, 2.0),
        ("top_p", params.top_p, 0.0, 1.0),
        ("presence_penalty", params.presence_penalty, -2.0, 2.0),
        ("frequency_penalty", params.frequency_penalty, -2.0, 2.0),
        ("n", params.n.map(f64::from), 1.0, f64::from(MOST_ANSWERS)),
        (
            "top_logprobs",
            params.top_logprobs.map(f64::from),
            0.0,
            20.0,
        ),
    ];
    for (param, value, low, high) in ranges {
        if value.is_some_and(|value| !(low..=high).contains(&value)) {
            return Err(Error::invalid(
                param,
                format!("must be from {low} to {high}"),
            ));
        }
    }
    if params.max_tokens == Some(0) {
        return Err(Error::invalid(
            "max_tokens",
            "must be an integer of at least 1",
        ));
    }
    if tool_choice
        .as_ref()
        .is_some_and(|choice| !choice.is_string() && !choice.is_object())
    {
        let message = "must be \"none\", \"auto\", \"required\" or an object that names a tool";
        return Err(Error::invalid("tool_choice", message));
    }
    let typed = |format: &Value| format.get("type").is_some_and(Value::is_string);
    if response_format
        .as_ref()
        .is_some_and(|format| !typed(format))
    {
        let message = "must be an object whose type is text, json_object or json_schema";
        return Err(Error::invalid("response_format", message));
    }
    Ok(())
}

/// The body that asks a provider's `model` for `query`.
///
/// A query that came in this wire goes out with the caller's own bytes, but for the model, for what makes it
/// streamed or not, and for our own object, which no provider gets to see. So whoever changes a query drops
/// its [`original`](Query::original). Any other is composed, and lacks those members unknown to us that were too large to
/// be [read](read()) as trees; what the types name is always there. A stream always asks for its usage.
pub fn write(query: &Query, model: &str, stream: bool) -> Bytes {
    let original = query
        .original
        .as_ref()
        .filter(|original| original.wire == Wire::OpenAiChat);
    original
        .and_then(|original| forward(&original.body, model, stream))
        .unwrap_or_else(|| compose(query, model, stream))
}

fn forward(body: &[u8], model: &str, stream: bool) -> Option<Bytes> {
    const USAGE: &[u8] = br#"{"include_usage":true}"#;
    let model = encode(&model);
    if !stream {
        return splice::rewrite(
            body,
            &[("model", &model)],
            &["quorate", "stream", "stream_options"],
        );
    }
    let options = splice::get(body, "stream_options");
    let options =
        options.and_then(|options| splice::rewrite(options, &[("include_usage", b"true")], &[]));
    let options = options.as_deref().unwrap_or(USAGE);
    splice::rewrite(
        body,
        &[
            ("model", &model),
            ("stream", b"true"),
            ("stream_options", options),
        ],
        &["quorate"],
    )
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: &'a [Message],
    #[serde(flatten)]
    params: Sampling<'a>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tools: &'a [Tool],
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    rest: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct Sampling<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_effort: Option<&'a str>,
}

impl<'a> From<&'a Params> for Sampling<'a> {
    fn from(params: &'a Params) -> Self {
        // Reasoning models take only the newer name of the limit, small servers often only the older.
        let reasons = params.reasoning_effort.is_some();
        Self {
            temperature: params.temperature,
            top_p: params.top_p,
            max_tokens: params.max_tokens.filter(|_| !reasons),
            max_completion_tokens: params.max_tokens.filter(|_| reasons),
            stop: &params.stop,
            seed: params.seed,
            n: params.n,
            presence_penalty: params.presence_penalty,
            frequency_penalty: params.frequency_penalty,
            logprobs: params.logprobs,
            top_logprobs: params.top_logprobs,
            reasoning_effort: params.reasoning_effort.as_deref(),
        }
    }
}

fn compose(query: &Query, model: &str, stream: bool) -> Bytes {
    encode(&Body {
        model,
        messages: &query.messages,
        params: (&query.params).into(),
        tools: &query.tools,
        tool_choice: query.tool_choice.as_ref(),
        response_format: query.response_format.as_ref(),
        stream: stream.then_some(true),
        stream_options: stream.then_some(StreamOptions {
            include_usage: true,
        }),
        rest: &query.rest,
    })
}
