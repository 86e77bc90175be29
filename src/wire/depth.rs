//! How deep a JSON document nests.
//!
//! Parsers recurse, and values parsed into trees are dropped by recursion too, so a body of a hundred thousand
//! opening brackets is refused before either starts.

use std::fmt;

use memchr::{memchr2, memchr2_iter};

/// The document nests deeper than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooDeep {
    /// How many levels were allowed.
    pub max: usize,
    /// Offset of the bracket that went past them, in bytes.
    pub at: usize,
}

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the JSON nests deeper than {} levels at byte {}",
            self.max, self.at
        )
    }
}

impl std::error::Error for TooDeep {}

/// Checks that arrays and objects of `body` nest at most `max` levels.
///
/// One pass without recursion, which knows strings and nothing else of JSON: whether the document is valid is
/// its parser's to say.
///
/// # Errors
/// [`TooDeep`] at the first bracket past `max`.
pub fn check(body: &[u8], max: usize) -> Result<(), TooDeep> {
    // Most documents have too few brackets, and counting them is several times as fast.
    if memchr2_iter(b'[', b'{', body).nth(max).is_none() {
        return Ok(());
    }
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        at += 1;
        match byte {
            b'"' => at = string_end(body, at),
            b'[' | b'{' if depth == max => return Err(TooDeep { max, at: at - 1 }),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Where the string ends whose content starts at `at`: just after its closing quote, or at the body's end.
pub(super) fn string_end(body: &[u8], mut at: usize) -> usize {
    while let Some(found) = body.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += found + 1;
        if body[at - 1] == b'"' {
            return at;
        }
        at += 1;
    }
    body.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn depth_of(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
            Value::Object(members) => 1 + members.values().map(depth_of).max().unwrap_or(0),
            _ => 0,
        }
    }

    #[test]
    fn brackets_inside_strings_do_not_count() {
        assert_eq!(check(br#"{"a":"[[[[\"[[[\\","b":["]"]}"#, 2), Ok(()));
        assert_eq!(
            check(br#"{"a\\":[[1]]}"#, 2),
            Err(TooDeep { max: 2, at: 8 })
        );
    }

    #[test]
    fn ten_thousand_levels_are_refused_at_the_first_too_many() {
        let body = vec![b'['; 10_000];
        let refused = check(&body, 64).unwrap_err();
        assert_eq!(refused, TooDeep { max: 64, at: 64 });
        assert_eq!(
            refused.to_string(),
            "the JSON nests deeper than 64 levels at byte 64"
        );
    }

    #[test]
    fn broken_documents_end_the_scan_without_harm() {
        for body in [&b"\""[..], b"\"\\", b"]]}}[", b"", b"\"\\\""] {
            assert_eq!(check(body, 1), Ok(()), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn the_limit_is_exactly_the_depth_of_the_parsed_document(value in crate::wire::openai::splice::tests::json()) {
            let body = serde_json::to_vec(&value).unwrap();
            let depth = depth_of(&value);
            prop_assert!(check(&body, depth).is_ok());
            prop_assert_eq!(check(&body, depth.saturating_sub(1)).is_ok(), depth == 0);
        }
    }
}
