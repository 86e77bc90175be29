//! JSON-RPC on the socket: however lines are cut into pieces, each that is not blank gets one reply, a notification
//! none, and every reply is a line of JSON that names its request. The first byte chooses the cuts.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::doors::{MAX_BODY, converse};

type Object = BTreeMap<String, Box<RawValue>>;

/// The law.
pub fn holds(bytes: &[u8]) {
    let Some((&seed, said)) = bytes.split_first() else {
        return;
    };
    // Another first byte begins HTTP.
    if !said.starts_with(b"{") {
        return;
    }
    let mut least = 0;
    let mut most = 0;
    let mut ids = vec!["null".to_owned()];
    let mut owed = Vec::new();
    for line in lines(said) {
        let Some(line) = line else {
            (least, most) = (least + 1, most + 1);
            continue;
        };
        let sure = unambiguous(line);
        let object = serde_json::from_slice::<Object>(line).unwrap_or_default();
        let text = |key: &str| {
            let raw = object.get(key)?;
            serde_json::from_str::<String>(raw.get()).ok()
        };
        // Nothing is asked of the one that would end the door for all.
        if text("method").as_deref() == Some("shutdown") {
            return;
        }
        let request = text("jsonrpc").as_deref() == Some("2.0") && text("method").is_some();
        let id = object.get("id").map(|id| id.get());
        let silent = request && id.is_none();
        least += usize::from(!silent && sure);
        most += usize::from(!silent || !sure);
        if let Some(id) = id {
            ids.push(id.to_owned());
            let scalar = !id.starts_with(['[', '{', 't', 'f']) && id.len() <= 256;
            if request && scalar && sure {
                owed.push(id.to_owned());
            }
        }
    }
    let pieces = super::pieces(said, seed, if seed % 4 == 0 { 4096 } else { 97 });
    let answer = String::from_utf8(converse(&pieces)).expect("replies are text");
    assert!(
        answer.is_empty() || answer.ends_with('\n'),
        "a line broke off: {answer}"
    );
    let mut replies = 0;
    for line in answer.lines() {
        let reply: Object =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(reply["jsonrpc"].get(), "\"2.0\"", "{line}");
        if let Some(method) = reply.get("method") {
            assert_eq!(method.get(), "\"delta\"", "{line}");
            continue;
        }
        replies += 1;
        assert!(
            reply.contains_key("result") != reply.contains_key("error"),
            "{line}"
        );
        let id = reply["id"].get().to_owned();
        assert!(ids.contains(&id), "nobody asked with this id: {line}");
        if let Some(at) = owed.iter().position(|owed| *owed == id) {
            owed.swap_remove(at);
        }
    }
    assert!(
        (least..=most).contains(&replies),
        "{replies} of {least} to {most}: {answer}"
    );
    assert!(owed.is_empty(), "no reply to {owed:?}: {answer}");
}

/// The lines that are not blank; `None` for the one that is too long, after which nothing is heard.
fn lines(said: &[u8]) -> Vec<Option<&[u8]>> {
    let mut lines = Vec::new();
    for line in said.split(|byte| *byte == b'\n') {
        if line.len() > MAX_BODY {
            lines.push(None);
            break;
        }
        let line = line.trim_ascii_end();
        if !line.is_empty() {
            lines.push(Some(line));
        }
    }
    lines
}

/// Whether a reader that takes the last of several members and one that refuses them agree on the line.
fn unambiguous(line: &[u8]) -> bool {
    let deep = quorate::wire::depth::check(line, 60).is_err();
    let twice = ["\"jsonrpc\"", "\"id\"", "\"method\"", "\"params\""]
        .iter()
        .any(|key| {
            line.windows(key.len())
                .filter(|part| *part == key.as_bytes())
                .count()
                > 1
        });
    !deep && !twice && !line.contains(&b'\\')
}
