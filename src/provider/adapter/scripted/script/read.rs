//! A script from JSON.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde_json::{Map, Value};

use super::super::field::Field;
use super::{Fail, Point, Script};
use crate::answer::{FinishReason, Usage};
use crate::error::{Error, ErrorKind};
use crate::query::ToolCall;

/// The longest latency or pause: a day, in milliseconds.
const LONGEST_MS: u64 = 86_400_000;
/// The most pieces of an answer and the largest count of calls.
const MOST: u64 = 1_000_000;
/// Every way to fail on purpose.
const KINDS: [ErrorKind; 20] = [
    ErrorKind::RateLimited,
    ErrorKind::Overloaded,
    ErrorKind::Deadline,
    ErrorKind::Cancelled,
    ErrorKind::BreakerOpen,
    ErrorKind::NoCandidate,
    ErrorKind::Auth,
    ErrorKind::Forbidden,
    ErrorKind::Quota,
    ErrorKind::Invalid,
    ErrorKind::TooLarge,
    ErrorKind::ContextLength,
    ErrorKind::ContentFilter,
    ErrorKind::Unsupported,
    ErrorKind::Connect,
    ErrorKind::Timeout,
    ErrorKind::Upstream,
    ErrorKind::Truncated,
    ErrorKind::Malformed,
    ErrorKind::Internal,
];

impl Script {
    /// Reads a script; an error names the field and what it may be.
    pub(in super::super) fn read(script: &Value) -> Result<Self, String> {
        Self::read_at(&Field::root(script))
    }

    fn read_at(field: &Field<'_>) -> Result<Self, String> {
        let map = field.object(&[
            "answer",
            "echo",
            "latency_ms",
            "chunk_ms",
            "chunks",
            "usage",
            "finish",
            "fail",
            "hang",
            "panic",
            "tool_calls",
            "by_call",
            "by_prompt",
        ])?;
        let tool_calls = field.get("tool_calls", Vec::new(), tool_calls)?;
        let finish = if tool_calls.is_empty() {
            FinishReason::Stop
        } else {
            FinishReason::ToolCalls
        };
        Ok(Self {
            answers: field.get("answer", None, |answer| answers(answer).map(Some))?,
            echo: field.get("echo", false, Field::flag)?,
            latency: field.get("latency_ms", Duration::ZERO, millis)?,
            pause: field.get("chunk_ms", Duration::ZERO, millis)?,
            chunks: field.get("chunks", None, |n| Ok(Some(n.integer(1..=MOST)? as usize)))?,
            usage: field.get("usage", None, |usage| self::usage(usage).map(Some))?,
            finish: field.get("finish", Some(finish), |reason| {
                let reason = reason.text()?;
                Ok((reason != "none").then(|| FinishReason::from(reason)))
            })?,
            tool_calls,
            fail: field.get("fail", None, |fail| self::fail(fail).map(Some))?,
            hang: field.get("hang", None, |hang| self::hang(hang).map(Some))?,
            panic: field.get("panic", None, self::panic)?,
            by_prompt: by_prompt(field, map)?,
            by_call: by_call(field, map)?,
            calls: AtomicU64::new(0),
        })
    }
}

fn millis(field: &Field<'_>) -> Result<Duration, String> {
    field.integer(0..=LONGEST_MS).map(Duration::from_millis)
}

fn answers(field: &Field<'_>) -> Result<Vec<String>, String> {
    match field.value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(list) if !list.is_empty() => {
            let text = |(index, value)| field.item(index, value).text().map(str::to_owned);
            list.iter().enumerate().map(text).collect()
        }
        _ => Err(field.wrong("a text or a list of at least one")),
    }
}

fn usage(field: &Field<'_>) -> Result<Usage, String> {
    field.object(&["input", "output", "cached", "reasoning"])?;
    let tokens = |name| field.get(name, 0, |n| Ok(n.integer(0..=u64::from(u32::MAX))? as u32));
    Ok(Usage {
        input: tokens("input")?,
        output: tokens("output")?,
        cached: tokens("cached")?,
        reasoning: tokens("reasoning")?,
    })
}

fn tool_calls(field: &Field<'_>) -> Result<Vec<ToolCall>, String> {
    serde_json::from_value(field.value.clone()).map_err(|error| {
        field.wrong(&format!(
            "a list of {{id, function: {{name, arguments}}}}: {error}"
        ))
    })
}

fn after_chunks(field: &Field<'_>) -> Result<Point, String> {
    field.integer(0..=MOST).map(|n| Point::After(n as usize))
}

fn hang(field: &Field<'_>) -> Result<Point, String> {
    let text = field.text()?;
    if text == "before" {
        return Ok(Point::Before);
    }
    let chunks = text
        .strip_prefix("after_chunks:")
        .and_then(|n| n.parse().ok());
    chunks
        .map(Point::After)
        .ok_or_else(|| field.wrong("\"before\" or \"after_chunks:n\""))
}

fn panic(field: &Field<'_>) -> Result<Option<Point>, String> {
    if let Value::Bool(panics) = field.value {
        return Ok(panics.then_some(Point::Before));
    }
    if !field.value.is_object() {
        return Err(field.wrong("true, false or {\"after_chunks\": n}"));
    }
    field.object(&["after_chunks"])?;
    field
        .get("after_chunks", Point::Before, after_chunks)
        .map(Some)
}

fn fail(field: &Field<'_>) -> Result<Fail, String> {
    field.object(&[
        "kind",
        "status",
        "message",
        "retry_after_ms",
        "after_chunks",
        "times",
        "ratio",
        "seed",
    ])?;
    let kind = field.get("kind", ErrorKind::Upstream, |kind| {
        let name = kind.text()?;
        KINDS
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| kind.wrong(&format!("one of {}", KINDS.map(ErrorKind::name).join(", "))))
    })?;
    let message = field.get("message", "scripted failure", Field::text)?;
    let after = field.get("retry_after_ms", None, |n| millis(n).map(Some))?;
    let mut error = Error::new(kind, message).with_retry_after(after);
    if let Some(status) = field.get("status", None, |n| n.integer(100..=599).map(Some))? {
        error = error.with_upstream(status as u16, message.as_bytes());
    }
    Ok(Fail {
        error,
        at: field.get("after_chunks", Point::Before, after_chunks)?,
        times: field.get("times", u64::MAX, |n| n.integer(0..=MOST))?,
        ratio: field.get("ratio", 1.0, Field::ratio)?,
        seed: field.get("seed", 0, |n| n.integer(0..=u64::MAX))?,
    })
}

fn by_call(field: &Field<'_>, base: &Map<String, Value>) -> Result<Vec<Script>, String> {
    field.get("by_call", Vec::new(), |list| {
        let scripts = list.value.as_array().filter(|list| !list.is_empty());
        let scripts = scripts.ok_or_else(|| list.wrong("a list of at least one script"))?;
        let script = |(index, script)| inherit(base, &list.item(index, script));
        scripts.iter().enumerate().map(script).collect()
    })
}

/// Longest first, so that of two texts one of which contains the other the closer match wins.
fn by_prompt(
    field: &Field<'_>,
    base: &Map<String, Value>,
) -> Result<Vec<(String, Script)>, String> {
    field.get("by_prompt", Vec::new(), |map| {
        let scripts = map
            .value
            .as_object()
            .ok_or_else(|| map.wrong("an object of text: script"))?;
        let script = |(part, script): (&String, &Value)| {
            Ok((part.clone(), inherit(base, &map.member(part, script))?))
        };
        let mut scripts: Vec<_> = scripts.iter().map(script).collect::<Result<_, String>>()?;
        scripts.sort_by_key(|(part, _)| std::cmp::Reverse(part.len()));
        Ok(scripts)
    })
}

/// A script inside another one begins with the fields beside it.
fn inherit(base: &Map<String, Value>, field: &Field<'_>) -> Result<Script, String> {
    let Some(own) = field.value.as_object() else {
        return Err(field.wrong("a script"));
    };
    let mut merged = base.clone();
    merged.retain(|name, _| name != "by_call" && name != "by_prompt");
    merged.extend(own.clone());
    Script::read_at(&Field {
        path: field.path.clone(),
        value: &Value::Object(merged),
    })
}
