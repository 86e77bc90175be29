//! What an upstream answers on the OpenAI wire: whole, in chunks, or with an error. What is read is what a parse of
//! the whole document finds, what goes on is what came, and what we compose says the same.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use quorate::answer::{Answer, Choice, ChoiceDelta, Delta, FinishReason, Report};
use quorate::wire::openai::chunk::{self, Context, Read};
use quorate::wire::openai::{answer, error};
use quorate::wire::{depth, sse};
use quorate::{Error, ErrorKind};
use serde_json::{Value, json};

/// The deepest document that is passed on.
const DEEPEST: usize = 128;

/// The law.
pub fn holds(bytes: &[u8]) {
    match answer::read(Bytes::copy_from_slice(bytes)) {
        Ok(read) => whole(bytes, read),
        Err(error) => told(&error),
    }
    match chunk::read(Bytes::copy_from_slice(bytes)) {
        Ok(Read::Delta(read)) => piece(bytes, read),
        Ok(Read::Error(error)) | Err(error) => told(&error),
        Ok(Read::Done) => assert_eq!(bytes.trim_ascii(), chunk::DONE),
        Ok(Read::Nothing) => sound(bytes),
    }
    told(&chunk::read_error(bytes));
    let status = 300 + u16::from(bytes.first().copied().unwrap_or(0)) % 300;
    told(&error::read(status, &HeaderMap::new(), bytes));
    said(&String::from_utf8_lossy(bytes));
}

fn whole(bytes: &[u8], mut read: Answer) {
    sound(bytes);
    if let Ok(tree) = serde_json::from_slice::<Value>(bytes) {
        let choices = tree["choices"].as_array().expect("choices");
        assert_eq!(read.choices.len(), choices.len());
        for (choice, said) in read.choices.iter().zip(choices) {
            let message = &said["message"];
            assert_eq!(choice.message.content, text(&message["content"]));
            assert_eq!(
                choice.message.refusal.as_deref(),
                message["refusal"].as_str()
            );
            let calls = message["tool_calls"].as_array().map_or(0, Vec::len);
            assert_eq!(choice.message.tool_calls.len(), calls);
            assert_eq!(choice.finish, finish(&said["finish_reason"]));
        }
        let mut expected = tree;
        expected["quorate"] = serde_json::to_value(&read.report).unwrap();
        assert_eq!(json(&answer::write(&read, "id", 7)), expected, "passed on");
    }
    read.original = None;
    let again = answer::read(answer::write(&read, "id", 7)).expect("what we compose is an answer");
    assert_eq!(again.usage, read.usage);
    assert_eq!(again.choices.len(), read.choices.len());
    for (mut again, choice) in again.choices.into_iter().zip(read.choices) {
        again
            .message
            .rest
            .retain(|key, _| choice.message.rest.contains_key(key));
        let Choice {
            index,
            message,
            finish,
            logprobs,
        } = choice;
        let finish = finish.or(Some(FinishReason::Stop));
        assert_eq!((again.index, again.message), (index, message));
        assert_eq!((again.finish, again.logprobs), (finish, logprobs));
    }
}

fn piece(bytes: &[u8], mut read: Delta) {
    sound(bytes);
    let mut context = Context::new("id", 7, "m");
    let mut out = BytesMut::new();
    chunk::write(&read, &mut context, &mut out);
    assert_eq!(out, bytes, "passed on as it came");
    if let Ok(mut tree) = serde_json::from_slice::<Value>(bytes) {
        let choices = tree["choices"].as_array().map_or(&[][..], Vec::as_slice);
        assert_eq!(read.choices.len(), choices.len());
        for (choice, said) in read.choices.iter().zip(choices) {
            let delta = &said["delta"];
            if let Some(index) = said["index"].as_u64() {
                assert_eq!(u64::from(choice.index), index.min(u32::MAX.into()));
            }
            assert_eq!(choice.content, text(&delta["content"]));
            assert_eq!(choice.refusal.as_deref(), delta["refusal"].as_str());
            let reasoning = delta["reasoning_content"]
                .as_str()
                .or(delta["reasoning"].as_str());
            assert_eq!(choice.reasoning.as_deref(), reasoning);
            let calls = delta["tool_calls"].as_array().map_or(0, Vec::len);
            assert_eq!(choice.tool_calls.len(), calls);
            assert_eq!(choice.finish, finish(&said["finish_reason"]));
            assert_eq!(
                choice.logprobs.as_ref(),
                Some(&said["logprobs"]).filter(|v| !v.is_null())
            );
        }
        assert_eq!(read.model.as_deref(), tree["model"].as_str());
        let counted = tree["usage"].is_object() || choices.iter().any(|c| c["usage"].is_object());
        assert!(counted || read.usage.is_none());
        read.report = Some(Box::new(Report::default()));
        out.clear();
        chunk::write(&read, &mut context, &mut out);
        tree["quorate"] = serde_json::to_value(Report::default()).unwrap();
        assert_eq!(json(&out), tree, "with its report");
        read.report = None;
    }
    read.original = None;
    out.clear();
    chunk::write(&read, &mut context, &mut out);
    let Ok(Read::Delta(again)) = chunk::read(out.freeze()) else {
        panic!("what we compose is a chunk");
    };
    assert_eq!(again.usage, read.usage);
    assert_eq!(again.model.as_deref(), read.model.as_deref().or(Some("m")));
    let parts = |delta: Delta| -> Vec<_> {
        let part = |choice: ChoiceDelta| {
            let ChoiceDelta {
                index,
                content,
                reasoning,
                refusal,
                tool_calls,
                finish,
                logprobs,
            } = choice;
            (
                index, content, reasoning, refusal, tool_calls, finish, logprobs,
            )
        };
        delta.choices.into_iter().map(part).collect()
    };
    assert_eq!(parts(again), parts(read), "composed and read back");
}

/// Any text survives the way through a chunk and a stream of events.
fn said(text: &str) {
    let choice = json!({ "index": 1, "delta": { "content": text }, "finish_reason": null });
    let data = json!({ "id": text, "model": "m", "choices": [choice] }).to_string();
    let mut stream = BytesMut::new();
    sse::frame(data.as_bytes(), &mut stream);
    let mut parser = sse::Parser::new(usize::MAX);
    parser.push(stream.freeze());
    let event = parser.next().expect("an event").expect("short enough");
    let Ok(Read::Delta(delta)) = chunk::read(event.data) else {
        panic!("a plain chunk was refused: {data}");
    };
    assert_eq!(delta.choices[0].content.as_deref(), Some(text));
    assert_eq!((delta.choices[0].index, delta.finishes()), (1, false));
}

/// An error can be told: in words of bounded length, and as JSON under an error's status.
fn told(failure: &Error) {
    let message = failure.message();
    assert!(!message.is_empty() && message.len() < 2000, "{message}");
    let (status, body) = error::write(failure);
    assert!((400..600).contains(&status), "{status}");
    assert_eq!(
        json(&body)["error"]["quorate"]["kind"],
        failure.kind().name()
    );
    assert!(failure.kind() != ErrorKind::Internal, "{message}");
}

/// What is passed on is text, an object, and not too deep.
fn sound(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("text");
    assert!(text.trim_start().starts_with('{'), "{text}");
    depth::check(bytes, DEEPEST).expect("not too deep");
    serde_json::from_str::<serde::de::IgnoredAny>(text).expect("JSON");
}

/// Content as text: a string, or the texts of its parts.
fn text(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(
            parts
                .iter()
                .filter_map(|part| part["text"].as_str())
                .collect(),
        ),
        _ => None,
    }
}

fn finish(reason: &Value) -> Option<FinishReason> {
    reason
        .as_str()
        .filter(|reason| !reason.is_empty())
        .map(FinishReason::from)
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}
