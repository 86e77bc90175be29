//! Refusals: a provider's by what they mean, and our errors in the wire's shape.

#[cfg(test)]
mod tests;

use http::header::{HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use serde::Serialize;
use serde_json::Value;

use super::{encode, retry_after};
use crate::error::{Attempt, Error, ErrorKind, Upstream};

/// A message repeats at most this much of what the upstream said.
const LONGEST_MESSAGE: usize = 500;

/// What an answer with an error status means.
///
/// The status alone says too little: the same 400 stands for a wrong request, a prompt too long and a refused
/// content, and the same 429 for "later" and "never, until you pay". So codes, types and, where a server gives
/// neither, words of the message are looked at. A 404 is never the caller's fault, who does not choose the
/// path: either the model is unknown there or the configured URL is wrong, and another deployment may serve.
pub fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> Error {
    let said = Said::read(body);
    let kind = classify(Some(status), &said);
    let location = headers
        .get(LOCATION)
        .and_then(|location| location.to_str().ok());
    let message = match kind {
        _ if (300..400).contains(&status) => {
            format!(
                "the upstream answered {status}, a redirect to {}, which is not followed: check base_url",
                location.unwrap_or("nowhere")
            )
        }
        ErrorKind::Auth => format!(
            "the upstream refused our credential with {status}{}",
            said.colon()
        ),
        _ => format!("the upstream answered {status}{}", said.colon()),
    };
    let wait = matches!(status, 429 | 498 | 503 | 529)
        .then(|| retry_after::read(headers))
        .flatten();
    said.error(kind, message)
        .with_retry_after(wait)
        .with_upstream(status, body)
}

/// Whether the member `error` of an answer or chunk is one.
pub(super) fn is_one(error: &Value) -> bool {
    !matches!(error, Value::Null | Value::Bool(false))
}

/// The error that a body with status 200 or an event of a stream carries.
pub(super) fn carried(error: Value) -> Error {
    let body = error.to_string();
    let said = Said::of(&error);
    let status = said
        .code
        .parse()
        .ok()
        .filter(|status| (400..600).contains(status));
    let kind = classify(status, &said);
    let message = format!("the upstream reported an error{}", said.colon());
    said.error(kind, message)
        .with_upstream(status.unwrap_or(200), body.as_bytes())
}

/// What an upstream's error object says.
#[derive(Default)]
struct Said {
    message: String,
    code: String,
    kind: String,
    param: Option<String>,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            // Gemini wraps its error into a list.
            Ok(Value::Array(list)) => list.first().map(Self::unwrap).unwrap_or_default(),
            Ok(body) => Self::unwrap(&body),
            // A page is for people; a line of text is for us.
            Err(_) if body.trim_ascii_start().starts_with(b"<") => Self::default(),
            Err(_) => Self {
                message: cut(String::from_utf8_lossy(body).trim()),
                ..Self::default()
            },
        }
    }

    fn unwrap(body: &Value) -> Self {
        Self::of(
            body.get("error")
                .filter(|error| !error.is_null())
                .unwrap_or(body),
        )
    }

    fn of(error: &Value) -> Self {
        let text = |key: &str| match error.get(key) {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        };
        let message = match error {
            Value::String(message) => message.clone(),
            _ => [text("message"), text("detail")]
                .into_iter()
                .find(|text| !text.is_empty())
                .unwrap_or_default(),
        };
        Self {
            message: cut(&message),
            code: text("code"),
            kind: text("type"),
            param: Some(text("param")).filter(|param| !param.is_empty()),
        }
    }

    fn colon(&self) -> String {
        if self.message.is_empty() {
            String::new()
        } else {
            format!(": {}", self.message)
        }
    }

    fn error(self, kind: ErrorKind, message: String) -> Error {
        match self.param {
            Some(param) if kind == ErrorKind::Invalid => Error::invalid(param, message),
            _ => Error::new(kind, message),
        }
    }

    /// Whether its code or type is one of `names`.
    fn is(&self, names: &[&str]) -> bool {
        names.iter().any(|name| {
            self.code.eq_ignore_ascii_case(name) || self.kind.eq_ignore_ascii_case(name)
        })
    }

    /// Whether its message has one of `words`, which are lower-case.
    fn has(&self, words: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        words.iter().any(|word| message.contains(word))
    }
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST_MESSAGE);
    let more = if end < text.len() { "…" } else { "" };
    // The text will stand in a log, where it must not begin a line of its own.
    text[..end].replace(char::is_control, " ") + more
}

/// The names are those that the vendors' references give, and that their servers were seen to send.
fn classify(status: Option<u16>, said: &Said) -> ErrorKind {
    let about_request = matches!(status, None | Some(400 | 403 | 413 | 422));
    if status == Some(402)
        || said.is(&[
            "insufficient_quota",
            "billing_hard_limit_reached",
            "exceeded_current_quota_error",
        ])
    {
        return ErrorKind::Quota;
    }
    if about_request && too_long(status, said) {
        return ErrorKind::ContextLength;
    }
    if about_request && filtered(status, said) {
        return ErrorKind::ContentFilter;
    }
    let cannot = [
        "model_not_found",
        "model_not_supported",
        "model_decommissioned",
        "unsupported_parameter",
        "unsupported_value",
    ];
    if about_request && (said.is(&cannot) || said.has(&["not a valid model"])) {
        return ErrorKind::Unsupported;
    }
    match status {
        Some(300..400) => ErrorKind::Malformed,
        Some(401 | 403) => ErrorKind::Auth,
        Some(404 | 405 | 410) => ErrorKind::Unsupported,
        Some(408 | 504) => ErrorKind::Timeout,
        // 498 is Groq's and 529 Anthropic's word for "no capacity now".
        Some(429 | 498 | 529) => ErrorKind::RateLimited,
        Some(400..500) => ErrorKind::Invalid,
        Some(_) => ErrorKind::Upstream,
        None if said.is(&[
            "rate_limit_exceeded",
            "rate_limit_error",
            "overloaded_error",
        ]) =>
        {
            ErrorKind::RateLimited
        }
        None if said.is(&["invalid_request_error"]) => ErrorKind::Invalid,
        None => ErrorKind::Upstream,
    }
}

fn too_long(status: Option<u16>, said: &Said) -> bool {
    let words = [
        "context length",
        "context size",
        "context window",
        "maximum context",
        "prompt is too long",
        "input is too long",
        "reduce the length",
    ];
    said.is(&["context_length_exceeded", "exceed_context_size_error"])
        || said.has(&words)
        // Groq's answer to a prompt of more tokens than it allows in a minute: waiting would not help.
        || (status == Some(413) && said.is(&["rate_limit_exceeded"]))
}

fn filtered(status: Option<u16>, said: &Said) -> bool {
    let names = [
        "content_filter",
        "content_policy_violation",
        "responsibleaipolicyviolation",
        "moderation_blocked",
        "data_inspection_failed",
    ];
    said.is(&names)
        || said.has(&["content management policy", "content policy"])
        // OpenRouter's moderation answers as if the caller had no right.
        || (status == Some(403) && said.has(&["flagged", "moderation"]))
}

/// The HTTP status of an error, and its body in the wire's shape. The one place where a kind becomes a status.
///
/// An upstream's own status goes through where it tells the caller something true; its refusal of *our*
/// credential does not, since the caller's own is fine.
pub fn write(error: &Error) -> (u16, Vec<u8>) {
    let upstream = error.upstream().map(|upstream| upstream.status);
    let (status, kind, code) = match error.kind() {
        ErrorKind::Invalid => {
            let own = upstream.filter(|status| (400..500).contains(status));
            (own.unwrap_or(400), "invalid_request_error", None)
        }
        ErrorKind::TooLarge => (413, "invalid_request_error", Some("request_too_large")),
        ErrorKind::ContextLength => (
            400,
            "invalid_request_error",
            Some("context_length_exceeded"),
        ),
        ErrorKind::ContentFilter => (400, "invalid_request_error", Some("content_filter")),
        ErrorKind::Unsupported => (400, "invalid_request_error", Some("unsupported")),
        ErrorKind::NoCandidate => (404, "invalid_request_error", Some("model_not_found")),
        ErrorKind::Auth if upstream.is_some() => (502, "server_error", Some("upstream_auth")),
        ErrorKind::Auth => (401, "authentication_error", Some("invalid_api_key")),
        ErrorKind::Forbidden => (403, "permission_error", Some("forbidden")),
        ErrorKind::Quota => (429, "insufficient_quota", Some("insufficient_quota")),
        ErrorKind::RateLimited => (429, "rate_limit_error", Some("rate_limit_exceeded")),
        ErrorKind::Overloaded => (503, "server_error", Some("overloaded")),
        ErrorKind::BreakerOpen => (503, "server_error", Some("breaker_open")),
        ErrorKind::Deadline => (504, "server_error", Some("deadline_exceeded")),
        ErrorKind::Timeout => (504, "server_error", Some("upstream_timeout")),
        ErrorKind::Connect => (502, "server_error", Some("upstream_unreachable")),
        ErrorKind::Upstream => {
            let own = upstream.filter(|status| (500..600).contains(status));
            (own.unwrap_or(502), "server_error", Some("upstream_error"))
        }
        ErrorKind::Truncated => (502, "server_error", Some("upstream_truncated")),
        ErrorKind::Malformed => (502, "server_error", Some("upstream_malformed")),
        ErrorKind::Cancelled => (499, "server_error", Some("cancelled")),
        ErrorKind::Internal => (500, "server_error", Some("internal_error")),
    };
    let body = Body {
        error: Shape {
            message: &error.explained(),
            kind,
            param: error.param(),
            code,
            quorate: Extension {
                kind: error.kind(),
                // Who is told when to come again may come again.
                retryable: error.kind().retryable() || error.retry_after().is_some(),
                retry_after_ms: error
                    .retry_after()
                    .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
                upstream: error.upstream(),
                attempts: error.attempts(),
            },
        },
    };
    (status, encode(&body).into())
}

/// The headers that tell a client when to try again: `retry-after` in whole seconds, rounded up, and
/// `retry-after-ms`, which OpenAI's SDKs prefer.
pub fn headers(error: &Error) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(wait) = error.retry_after() {
        let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        headers.insert("retry-after-ms", HeaderValue::from(ms));
    }
    headers
}

#[derive(Serialize)]
struct Body<'a> {
    error: Shape<'a>,
}

#[derive(Serialize)]
struct Shape<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: Option<&'static str>,
    quorate: Extension<'a>,
}

#[derive(Serialize)]
struct Extension<'a> {
    kind: ErrorKind,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a Upstream>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    attempts: &'a [Attempt],
}
