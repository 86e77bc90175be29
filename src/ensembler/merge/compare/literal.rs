//! Literals of programming languages: `['a', 1]`, `{1: 'x'}`, `(True, None)`, and what a program prints.
//!
//! Here every letter counts, and so does white space inside a text.

use super::exact::Decimal;
use super::marked;

/// How deep lists may nest.
const DEEPEST: usize = 64;

/// The one way to write the literal; a text that is none is itself, without the quotes or code marks round it.
pub(super) fn canonical(text: &str) -> String {
    let text = text.trim_matches(['\n', '\r']);
    let text = marked::answer(text).unwrap_or(text);
    let text = unquoted(text);
    if let Some(list) = container(text.trim()) {
        return list;
    }
    number(text).unwrap_or_else(|| text.to_owned())
}

/// A list, tuple, set or dictionary with canonical members; the entries of dictionaries sorted.
pub(super) fn container(text: &str) -> Option<String> {
    if !text.starts_with(['[', '{', '(']) || text.len() > 1 << 16 {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let rest = value(text, &mut out, DEEPEST)?;
    rest.trim().is_empty().then_some(out)
}

/// Takes off a code mark or a pair of quotes, once each.
fn unquoted(text: &str) -> &str {
    let mut text = text;
    for mark in ['`', '"', '\''] {
        let inner = text
            .trim()
            .strip_prefix(mark)
            .and_then(|inner| inner.strip_suffix(mark));
        if let Some(inner) = inner
            && !inner.contains(mark)
        {
            text = inner;
        }
    }
    text
}

/// Writes the value at the start; what follows it comes back.
fn value<'a>(text: &'a str, out: &mut String, depth: usize) -> Option<&'a str> {
    let text = text.trim_start();
    let first = text.chars().next()?;
    match first {
        '[' => list(&text[1..], ']', "[", out, depth.checked_sub(1)?),
        '(' => list(&text[1..], ')', "(", out, depth.checked_sub(1)?),
        '{' => braces(&text[1..], out, depth.checked_sub(1)?),
        '"' | '\'' => string(text, first, out),
        _ => {
            let end = text
                .find(|c: char| ",:]})[({\"'".contains(c) || c.is_whitespace())
                .unwrap_or(text.len());
            let (word, rest) = text.split_at(end);
            // `b'...'` and `f"..."` are values that begin with a letter.
            if word.is_empty() || rest.starts_with(['"', '\'']) && word.len() > 2 {
                return None;
            }
            match number(word) {
                Some(number) => out.push_str(&number),
                None => out.push_str(word),
            }
            match rest.chars().next() {
                Some(quote @ ('"' | '\'')) => string(rest, quote, out),
                _ => Some(rest),
            }
        }
    }
}

fn list<'a>(
    text: &'a str,
    close: char,
    open: &str,
    out: &mut String,
    depth: usize,
) -> Option<&'a str> {
    out.push_str(open);
    let mut rest = text.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix(close) {
            out.push(close);
            return Some(after);
        }
        rest = value(rest, out, depth)?.trim_start();
        out.push(',');
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.starts_with(close) => {}
            None => return None,
        }
    }
}

fn braces<'a>(text: &'a str, out: &mut String, depth: usize) -> Option<&'a str> {
    let mut entries: Vec<String> = Vec::new();
    let mut rest = text.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            entries.sort_unstable();
            out.push('{');
            for entry in entries {
                out.push_str(&entry);
                out.push(',');
            }
            out.push('}');
            return Some(after);
        }
        let mut entry = String::new();
        rest = value(rest, &mut entry, depth)?.trim_start();
        if let Some(after) = rest.strip_prefix(':') {
            entry.push(':');
            rest = value(after, &mut entry, depth)?.trim_start();
        }
        entries.push(entry);
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.starts_with('}') => {}
            None => return None,
        }
    }
}

/// A quoted text, written in double quotes; escapes stay, save that of the other quote.
fn string<'a>(text: &'a str, quote: char, out: &mut String) -> Option<&'a str> {
    out.push('"');
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
            if c != '\'' {
                out.push('\\');
            }
            out.push(c);
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            out.push('"');
            return Some(&text[at + 1..]);
        } else {
            if c == '"' {
                out.push('\\');
            }
            out.push(c);
        }
    }
    None
}

/// A plain decimal by value: `8.50` is `8.5`. Not `007`, `1e5` or `1,000`, which programs print as texts.
fn number(text: &str) -> Option<String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty()
        || whole.len() > 1 && whole.starts_with('0')
        || digits.ends_with('.')
        || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let places = i32::try_from(fraction.len()).ok()?;
    let decimal = Decimal::new(negative, &format!("{whole}{fraction}"), -places)?;
    Some(decimal.number().write())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn same(texts: &[&str]) {
        for text in texts {
            assert_eq!(canonical(text), canonical(texts[0]), "{text}");
        }
    }

    #[test]
    fn layout_and_kind_of_quotes_say_nothing() {
        same(&[
            "['a', 'b', 1]",
            "[\"a\",\"b\",1]",
            "[ 'a','b', 1.0, ]",
            "`['a', 'b', 1]`",
            "Thoughts\nAnswer: ['a', 'b', 1]",
        ]);
        same(&["{'a': 1, 'b': [2]}", "{\"b\":[2],\"a\":1}"]);
        same(&["(1, 2)", "(1,2)"]);
        same(&["['it\\'s']", "[\"it's\"]"]);
        same(&["8.5", "8.50", "\n8.5\n"]);
        same(&["abc", "'abc'", "\"abc\"", "`abc`"]);
        same(&["b'148'", "b'148'"]);
    }

    #[test]
    fn every_letter_and_inner_space_counts() {
        for (a, b) in [
            ("mgItr", "mgiTr"),
            ("['a']", "['A']"),
            ("[1, 2]", "(1, 2)"),
            ("[1, 2]", "[2, 1]"),
            ("a b", "a  b"),
            ("ab ", "ab"),
            ("1 ", "1"),
            ("['a ']", "['a']"),
            ("1001", "01001"),
            ("[]", "{}"),
            ("", " "),
            ("[1]", "['1']"),
            ("{{}}}", "{{}}"),
            ("++a", "+a"),
            ("a.", "a"),
            ("yes", "Yes"),
            ("1e5", "100000"),
            ("['a', 'b']", "['a, b']"),
            ("{1: 2}", "{1, 2}"),
            ("['a\"b']", "['ab']"),
            ("[b'1']", "['1']"),
        ] {
            assert_ne!(canonical(a), canonical(b), "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_borne(text in "[\\[\\](){},:'\"\\\\a1. ]{0,40}|.*") {
            canonical(&text);
        }

        #[test]
        fn deep_nesting_is_borne(depth in 0usize..5000) {
            canonical(&"[".repeat(depth));
            canonical(&format!("{}{}", "{".repeat(depth), "}".repeat(depth)));
        }
    }
}
