//! What is answered, built once for each behaviour.

use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::Behaviour;

/// A behaviour with its answers built.
pub(super) struct Plan {
    pub(super) behaviour: Behaviour,
    pub(super) version: u64,
    pub(super) whole: Bytes,
    pub(super) error: Bytes,
    pub(super) words: Vec<Bytes>,
    pub(super) places: Option<Semaphore>,
}

impl Plan {
    pub(super) fn new(behaviour: Behaviour, version: u64) -> Self {
        let retry = behaviour.retry_after.as_ref();
        let retry = retry.map(|after| format!("retry-after: {after}\r\n"));
        let error = json!({"error": {"message": "the upstream was told to fail", "type": "server_error",
            "param": null, "code": "told_to_fail"}});
        Self {
            whole: whole(&behaviour.text),
            error: response(
                behaviour.status,
                &retry.unwrap_or_default(),
                &error.to_string(),
            ),
            words: words(&behaviour.text),
            places: (behaviour.at_once > 0).then(|| Semaphore::new(behaviour.at_once)),
            behaviour,
            version,
        }
    }
}

pub(super) fn response(status: u16, headers: &str, body: &str) -> Bytes {
    format!(
        "HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        if status == 200 { "OK" } else { "As Told" },
        body.len()
    )
    .into()
}

pub(super) fn whole(text: &str) -> Bytes {
    let words = text.split_whitespace().count();
    let usage =
        json!({"prompt_tokens": 21, "completion_tokens": words, "total_tokens": 21 + words});
    let message = json!({"role": "assistant", "content": text, "refusal": null, "annotations": []});
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
    let body = json!({"id": "chatcmpl-00000000000000000000000001", "object": "chat.completion",
        "created": 1_760_000_000, "model": "mock-1", "choices": [choice], "usage": usage,
        "service_tier": "default", "system_fingerprint": "fp_0000000001"});
    response(200, "", &body.to_string())
}

/// One piece of a chunked body.
pub(super) fn piece(data: &str) -> Bytes {
    format!("{:x}\r\n{data}\r\n", data.len()).into()
}

fn event(choices: &str, usage: &str) -> Bytes {
    piece(&format!(
        "data: {{\"id\":\"chatcmpl-00000000000000000000000001\",\"object\":\"chat.completion.chunk\",\
         \"created\":1760000000,\"model\":\"mock-1\",\"service_tier\":\"default\",\
         \"system_fingerprint\":\"fp_0000000001\",\"choices\":[{choices}]{usage}}}\n\n"
    ))
}

fn delta(delta: &Value, finish: &str) -> Bytes {
    event(
        &format!(r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}"#),
        "",
    )
}

/// The content events of `text`: its words, each with the space before it.
pub(super) fn words(text: &str) -> Vec<Bytes> {
    let mut words: Vec<Bytes> = Vec::new();
    let mut from = 0;
    for (at, _) in text.match_indices(' ').chain([(text.len(), "")]) {
        if at > from {
            words.push(delta(&json!({ "content": text[from..at] }), "null"));
            from = at;
        }
    }
    words
}

pub(super) const STREAM: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
    cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";

pub(super) fn opening() -> &'static Bytes {
    static EVENT: OnceLock<Bytes> = OnceLock::new();
    EVENT.get_or_init(|| {
        delta(
            &json!({"role": "assistant", "content": "", "refusal": null}),
            "null",
        )
    })
}

pub(super) fn ending(usage: Option<usize>) -> Bytes {
    let mut bytes = BytesMut::from(&delta(&json!({}), "\"stop\"")[..]);
    if let Some(words) = usage {
        let usage = format!(
            ",\"usage\":{{\"prompt_tokens\":21,\"completion_tokens\":{words},\"total_tokens\":{}}}",
            21 + words
        );
        bytes.extend_from_slice(&event("", &usage));
    }
    bytes.extend_from_slice(&piece("data: [DONE]\n\n"));
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes.freeze()
}
