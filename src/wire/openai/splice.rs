//! Changes members of a JSON object without encoding the rest of it anew.
//!
//! Each function here trusts its input to be valid JSON, which whoever read it has checked. Broken input yields
//! `None` or broken output, never a panic.

#[cfg(test)]
pub(crate) mod tests;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use memchr::{memmem, memrchr};

use crate::wire::depth::string_end;

/// The object with the members of `set` set to raw JSON values and those of `remove` left out.
///
/// A member that is there is replaced in its place, a missing one is appended; every other member keeps its
/// bytes. Of a key given several times only the first place survives, so that no reader can see another value.
/// `None` if `body` is no object.
pub fn rewrite(body: &[u8], set: &[(&str, &[u8])], remove: &[&str]) -> Option<Bytes> {
    let added: usize = set
        .iter()
        .map(|(key, value)| key.len() + value.len() + 4)
        .sum();
    let mut out = Vec::with_capacity(body.len() + added);
    let mut done = vec![false; set.len()];
    out.push(b'{');
    for member in Members::of(body)? {
        let member = member?;
        let key = member.key(body);
        if remove.contains(&&*key) {
            continue;
        }
        let replaced = set.iter().position(|(name, _)| *name == key);
        match replaced {
            Some(index) if done[index] => {}
            Some(index) => {
                done[index] = true;
                put(&mut out, set[index]);
            }
            None => {
                comma(&mut out);
                out.extend_from_slice(&body[member.key.start..member.value.end]);
            }
        }
    }
    for (member, _) in set.iter().zip(&done).filter(|(_, done)| !**done) {
        put(&mut out, *member);
    }
    out.push(b'}');
    Some(out.into())
}

/// The object with one more member at its end. If its bytes name the key already, it is replaced there.
/// Bytes without a closing brace come back as they were.
pub fn append(body: &Bytes, key: &str, value: &[u8]) -> Bytes {
    if memmem::find(body, key.as_bytes()).is_some() {
        return rewrite(body, &[(key, value)], &[]).unwrap_or_else(|| body.clone());
    }
    let Some(end) = memrchr(b'}', body) else {
        return body.clone();
    };
    let mut out = Vec::with_capacity(body.len() + key.len() + value.len() + 4);
    out.extend_from_slice(body[..end].trim_ascii_end());
    put(&mut out, (key, value));
    out.extend_from_slice(&body[end..]);
    out.into()
}

/// The raw value of the object's member `key`; the last one, as most parsers take it, if there are several.
pub fn get<'a>(body: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let members = Members::of(body)?.map_while(|member| member);
    let named = members.filter(|member| member.key(body) == key);
    named.last().map(|member| &body[member.value])
}

/// Writes one member. Keys are ours and need no escaping.
fn put(out: &mut Vec<u8>, (key, value): (&str, &[u8])) {
    comma(out);
    out.push(b'"');
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(value);
}

fn comma(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

/// Where one member lies in its object's bytes.
struct Member {
    /// With its quotes.
    key: Range<usize>,
    value: Range<usize>,
}

impl Member {
    /// The key's text. One that is written with escapes is the same key, so it must not slip through.
    fn key<'a>(&self, body: &'a [u8]) -> Cow<'a, str> {
        let quoted = &body[self.key.clone()];
        if quoted.contains(&b'\\') {
            return Cow::Owned(serde_json::from_slice(quoted).unwrap_or_default());
        }
        let text = quoted.get(1..quoted.len() - 1).unwrap_or_default();
        std::str::from_utf8(text).map_or(Cow::Borrowed(""), Cow::Borrowed)
    }
}

/// Iterates over the members of an object; `Some(None)` where its bytes are no JSON.
struct Members<'a> {
    body: &'a [u8],
    at: usize,
    over: bool,
}

impl<'a> Members<'a> {
    fn of(body: &'a [u8]) -> Option<Self> {
        let at = blank(body, 0);
        (body.get(at) == Some(&b'{')).then(|| Self {
            body,
            at: blank(body, at + 1),
            over: false,
        })
    }

    fn member(&mut self) -> Option<Member> {
        let body = self.body;
        let key = self.at..value_end(body, self.at)?;
        if body[key.start] != b'"' {
            return None;
        }
        let colon = blank(body, key.end);
        if body.get(colon) != Some(&b':') {
            return None;
        }
        let start = blank(body, colon + 1);
        let value = start..value_end(body, start)?;
        let next = blank(body, value.end);
        match body.get(next)? {
            b',' => self.at = blank(body, next + 1),
            b'}' => self.at = next,
            _ => return None,
        }
        Some(Member { key, value })
    }
}

impl Iterator for Members<'_> {
    type Item = Option<Member>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over || self.body.get(self.at) == Some(&b'}') {
            return None;
        }
        let member = self.member();
        self.over = member.is_none();
        Some(member)
    }
}

/// The first place at or after `at` that is no white space.
fn blank(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or_default();
    at + rest
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t'))
        .count()
}

/// Where the value ends that starts at `start`.
fn value_end(body: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = start;
    loop {
        let byte = *body.get(at)?;
        match byte {
            b'"' => {
                at = string_end(body, at + 1);
                if depth == 0 {
                    return Some(at);
                }
                continue;
            }
            b'[' | b'{' => depth += 1,
            b']' | b'}' if depth <= 1 => {
                return Some(if depth == 1 { at + 1 } else { at }).filter(|end| *end > start);
            }
            b']' | b'}' => depth -= 1,
            b',' | b' ' | b'\n' | b'\r' | b'\t' | b':' if depth == 0 => {
                return (at > start).then_some(at);
            }
            _ => {}
        }
        at += 1;
    }
}
