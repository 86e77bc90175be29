//! A chat request's body: what is written for the upstream is the caller's JSON with the few members edited that
//! must be, and asks the same question. Splicing is the same as parsing, editing and encoding.

use bytes::Bytes;
use quorate::wire::openai::request::{Request, read, write};
use quorate::wire::openai::splice;
use quorate::{ErrorKind, Query};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// The law.
pub fn holds(bytes: &[u8]) {
    let object = serde_json::from_slice::<Map<String, Value>>(bytes).ok();
    spliced(bytes, object.as_ref());
    // The doors refuse what nests deeper before it is read.
    if quorate::wire::depth::check(bytes, 64).is_err() {
        return;
    }
    match read(Bytes::copy_from_slice(bytes)) {
        Ok(request) => forwarded(&request, object.as_ref()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
            assert!(!error.message().is_empty() && error.message().len() < 1000);
            assert_ne!(error.param(), Some(""));
        }
    }
}

/// Edits of bytes are edits of what they say; broken bytes yield something, and no panic.
fn spliced(bytes: &[u8], object: Option<&Map<String, Value>>) {
    let rewritten = splice::rewrite(bytes, &[("model", b"\"m\""), ("a", b"[1]")], &["quorate"]);
    let appended = splice::append(&Bytes::copy_from_slice(bytes), "quorate", b"{\"a\":1}");
    let got = splice::get(bytes, "model");
    let Some(object) = object else { return };
    let mut edited = object.clone();
    edited.remove("quorate");
    edited.extend([("model".into(), json!("m")), ("a".into(), json!([1]))]);
    assert_eq!(parsed(&rewritten.expect("an object")), edited, "rewritten");
    let mut edited = object.clone();
    edited.insert("quorate".into(), json!({"a": 1}));
    assert_eq!(parsed(&appended), edited, "appended");
    let got = got.map(|raw| serde_json::from_slice(raw).expect("a value"));
    assert_eq!(got.as_ref(), object.get("model"), "got");
}

fn forwarded(request: &Request, object: Option<&Map<String, Value>>) {
    for stream in [false, true] {
        let body = write(&request.query, "m", stream);
        // Not all of it was looked at, but all of it is passed on.
        serde_json::from_slice::<&RawValue>(&body).expect("what is forwarded is JSON");
        if let Some(object) = object {
            assert_eq!(parsed(&body), for_upstream(object, stream), "forwarded");
        }
        asks_the_same(&body, &request.query, stream);
        let own = Query {
            original: None,
            ..request.query.clone()
        };
        asks_the_same(&write(&own, "m", stream), &request.query, stream);
    }
}

fn for_upstream(object: &Map<String, Value>, stream: bool) -> Map<String, Value> {
    let mut edited = object.clone();
    edited.remove("quorate");
    edited.insert("model".into(), json!("m"));
    let options = edited.remove("stream_options");
    edited.remove("stream");
    if stream {
        let mut options = match options {
            Some(Value::Object(options)) => options,
            _ => Map::new(),
        };
        options.insert("include_usage".into(), json!(true));
        edited.insert("stream".into(), json!(true));
        edited.insert("stream_options".into(), options.into());
    }
    edited
}

fn asks_the_same(body: &Bytes, query: &Query, stream: bool) {
    let again = read(body.clone()).expect("an upstream can read what we write");
    assert_eq!((again.stream, again.include_usage), (stream, stream));
    let again = again.query;
    assert_eq!(again.model, "m");
    assert_eq!(again.messages, query.messages);
    assert_eq!(again.params, query.params);
    assert_eq!(again.tools, query.tools);
    assert_eq!(again.tool_choice, query.tool_choice);
    assert_eq!(again.response_format, query.response_format);
    assert_eq!(again.rest, query.rest);
}

fn parsed(bytes: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}
