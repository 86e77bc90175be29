//! Programs compared by their tokens: comments, layout and the prose round a fence say nothing.
//!
//! One tokeniser for all languages: brackets, quotes and comments are enough alike. Where indentation is
//! syntax, it is kept as tokens. Other names for the same variables are other programs.

/// The program in an answer: what its fences hold, else all of it.
pub fn extract(text: &str) -> String {
    let mut code = String::new();
    let (mut inside, mut any) = (false, false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            (inside, any) = (!inside, true);
        } else if inside {
            code.push_str(line);
            code.push('\n');
        }
    }
    if any { code } else { text.to_owned() }
}

/// Whether the answer marks a program by a fence.
pub(super) fn fenced(text: &str) -> bool {
    text.lines()
        .any(|line| line.trim_start().starts_with("```"))
}

/// The one way to write the program of an answer: its tokens, apart by spaces.
pub fn canonical(text: &str) -> String {
    let code = extract(text);
    let tokens = tokens(&code);
    // Where blocks are indented and not bracketed, lines and depths are syntax.
    let offside = tokens
        .windows(2)
        .any(|pair| matches!((pair[0], pair[1]), (Token::Other(":"), Token::Line(_))));
    let mut out = String::with_capacity(code.len());
    let mut put = |token: &str| {
        out.push_str(token);
        out.push(' ');
    };
    let (mut depths, mut brackets) = (vec![0usize], 0usize);
    for (at, token) in tokens.iter().enumerate() {
        let next = tokens[at + 1..]
            .iter()
            .find(|token| !matches!(token, Token::Line(_)));
        match *token {
            Token::Line(depth) => {
                if !offside
                    || brackets > 0
                    || matches!(tokens.get(at + 1), None | Some(Token::Line(_)))
                {
                    continue;
                }
                if depths.last().is_some_and(|top| depth > *top) {
                    depths.push(depth);
                    put("\u{21e5}");
                } else {
                    put("\u{23ce}");
                }
                while depths.len() > 1 && depths.last().is_some_and(|top| depth < *top) {
                    depths.pop();
                    put("\u{21e4}");
                }
            }
            // A separator before what closes or ends the line separates nothing.
            Token::Other(";") if matches!(tokens.get(at + 1), None | Some(Token::Line(_))) => {}
            Token::Other(";" | ",") if matches!(next, Some(Token::Other("}" | "]"))) => {}
            Token::Other(mark) => {
                match mark {
                    "(" | "[" | "{" => brackets += 1,
                    ")" | "]" | "}" => brackets = brackets.saturating_sub(1),
                    _ => {}
                }
                put(mark);
            }
            Token::Word(word) => put(word),
            Token::Quoted(quoted) => {
                // A single letter in single quotes is another type in C; longer ones are texts either way.
                match quoted
                    .strip_prefix('\'')
                    .and_then(|inner| inner.strip_suffix('\''))
                {
                    Some(inner) if inner.chars().count() != 1 && !inner.contains(['"', '\\']) => {
                        put(&format!("\"{inner}\""));
                    }
                    _ => put(quoted),
                }
            }
        }
    }
    out.truncate(out.trim_end_matches([' ', '\u{23ce}', '\u{21e4}']).len());
    out
}

/// Whether every bracket outside texts and comments closes in its order, and every text ends.
pub fn balanced(code: &str) -> bool {
    let mut open: Vec<&str> = Vec::new();
    for token in tokens(code) {
        match token {
            Token::Other(mark @ ("(" | "[" | "{")) => open.push(mark),
            Token::Other(mark @ (")" | "]" | "}")) => {
                let fits = matches!(
                    (open.pop(), mark),
                    (Some("("), ")") | (Some("["), "]") | (Some("{"), "}")
                );
                if !fits {
                    return false;
                }
            }
            Token::Other("\"" | "\"\"\"" | "/*") => return false,
            _ => {}
        }
    }
    open.is_empty()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    /// A line begins, so many columns in.
    Line(usize),
    Word(&'a str),
    Quoted(&'a str),
    Other(&'a str),
}

fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    let mut at = 0;
    let mut fresh = true;
    let mut open = Open::default();
    let mut line_end = 0;
    while let Some(c) = code[at..].chars().next() {
        let rest = &code[at..];
        if at >= line_end {
            line_end = rest.find('\n').map_or(code.len(), |end| at + end);
        }
        let line = line_end.saturating_sub(at);
        if c == '\n' {
            (at, fresh) = (at + 1, true);
            continue;
        }
        if fresh {
            fresh = false;
            let indent = rest.chars().take_while(|c| [' ', '\t'].contains(c));
            let depth = indent.map(|c| if c == '\t' { 4 } else { 1 }).sum();
            match out.last_mut() {
                Some(Token::Line(empty)) => *empty = depth,
                Some(_) => out.push(Token::Line(depth)),
                None if depth > 0 => out.push(Token::Line(depth)),
                None => {}
            }
        }
        let length = if c.is_whitespace() {
            c.len_utf8()
        } else if let Some(length) = comment(code, at, line, &mut open) {
            length
        } else if let Some(length) = quoted(code, at, line, &mut open) {
            out.push(Token::Quoted(&rest[..length]));
            length
        } else if c.is_alphanumeric() || c == '_' {
            let length = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            out.push(Token::Word(&rest[..length]));
            length
        } else {
            let length = ["/*", "\"\"\""]
                .iter()
                .find(|mark| rest.starts_with(**mark))
                .map_or(c.len_utf8(), |mark| mark.len());
            out.push(Token::Other(&rest[..length]));
            length
        };
        at += length;
    }
    out
}

/// Up to where each mark is known not to close, so that no stretch is searched twice in vain.
#[derive(Default)]
struct Open {
    comment: usize,
    quotes: [usize; 5],
}

/// How long the comment at `at` is; the line is `line` long from there.
fn comment(code: &str, at: usize, line: usize, open: &mut Open) -> Option<usize> {
    let (rest, before) = (&code[at..], code[..at].chars().next_back());
    if let Some(inner) = rest.strip_prefix("/*") {
        if at < open.comment {
            return None;
        }
        let end = inner.find("*/").map(|end| end + 4);
        if end.is_none() {
            open.comment = code.len();
        }
        return end;
    }
    // `http://` is none, nor is Python's `a // b`, which no tokeniser for all languages can tell from one:
    // it must follow what ends a statement, or look like prose.
    if let Some(inner) = rest[..line].strip_prefix("//")
        && before != Some(':')
    {
        let prose = inner.starts_with([' ', '/', '!']) && inner.split_whitespace().nth(1).is_some();
        let last = code[..at].trim_end_matches([' ', '\t']).chars().next_back();
        let ended = last.is_none_or(|c| ['\n', ';', '{', '}', ','].contains(&c));
        return (prose || ended).then_some(line);
    }
    if let Some(inner) = rest.strip_prefix('#') {
        const DIRECTIVES: [&str; 9] = [
            "include", "define", "if", "endif", "else", "elif", "undef", "pragma", "error",
        ];
        let directive = DIRECTIVES.iter().any(|word| inner.starts_with(word));
        let apart = before.is_none_or(char::is_whitespace);
        return (apart && !directive && !inner.starts_with(['[', '!', '{'])).then_some(line);
    }
    None
}

/// How long the quoted text at `at` is, if it ends.
fn quoted(code: &str, at: usize, line: usize, open: &mut Open) -> Option<usize> {
    const MARKS: [&str; 5] = ["\"\"\"", "'''", "\"", "'", "`"];
    let (rest, before) = (&code[at..], code[..at].chars().next_back());
    let kind = MARKS.iter().position(|mark| rest.starts_with(mark))?;
    let mark = MARKS[kind];
    if at < open.quotes[kind] {
        return None;
    }
    // A lifetime of Rust.
    if mark == "'" && before.is_some_and(|c| ['&', '<'].contains(&c) || c.is_alphanumeric()) {
        return None;
    }
    let end = if mark.len() == 3 || mark == "`" {
        rest.len()
    } else {
        line
    };
    let mut escaped = false;
    for (inner, c) in rest[..end].char_indices().skip(mark.len()) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if rest[inner..].starts_with(mark) {
            return Some(inner + mark.len());
        }
    }
    open.quotes[kind] = at + end;
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn comments_layout_and_prose_say_nothing() {
        let bare = "def f(x):\n    y = 'ab' + x\n    return y";
        for text in [
            "Here it is:\n```python\ndef f(x):\n    y = \"ab\" + x  # join\n\n    return y\n```\nIt joins.",
            "def f( x ):\n  y='ab'+x\n  return y\n",
            "# Joins.\ndef f(x):\n\ty = 'ab' + x\n\treturn y",
        ] {
            assert_eq!(canonical(text), canonical(bare), "{text}");
        }
        let bare = "function f(x) { return [x, 'ab']; }";
        for text in [
            "```js\nfunction f(x)\n{\n  /* pair */ return [\n    x,\n    \"ab\",\n  ] // the pair\n}\n```",
            "function f(x){return[x,'ab']}",
        ] {
            assert_eq!(canonical(text), canonical(bare), "{text}");
        }
    }

    #[test]
    fn other_programs_are_told_apart() {
        let inside = "for x in xs:\n    a(x)\n    b(x)";
        let after = "for x in xs:\n    a(x)\nb(x)";
        assert_ne!(canonical(inside), canonical(after));
        for (a, b) in [
            ("return a // 2", "return a / 2"),
            ("f(a, b)", "f(b, a)"),
            ("x = 'a b'", "x = 'ab'"),
            ("x = 'A'", "x = 'a'"),
            ("a + b", "a - b"),
            ("s = \"# no comment\"", "s = \"# other\""),
            ("#include <a.h>", "#include <b.h>"),
            ("ab c", "a bc"),
            ("return a // b", "return a"),
        ] {
            assert_ne!(canonical(a), canonical(b), "{a} | {b}");
        }
    }

    #[test]
    fn brackets_must_close_in_order() {
        for code in [
            "f(a[1], {})",
            "s = '('",
            "// (\nx",
            "fn f<'a>(x: &'a str) {}",
            "\"\"\"\n(\n\"\"\"",
            "don't",
            "",
        ] {
            assert!(balanced(code), "{code}");
        }
        for code in ["f(a", "f(a]]", ")", "def f(:\n  [", "x = \"open", "/* open"] {
            assert!(!balanced(code), "{code}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_borne(text in "[\\[\\](){}'\"\\\\/*#:a1. \n\t`\u{e9}]{0,60}|.*") {
            canonical(&text);
            balanced(&text);
        }

        #[test]
        fn spaces_between_tokens_say_nothing(words in proptest::collection::vec("[a-z]{1,4}|[-+*(){},.]", 1..20)) {
            prop_assert_eq!(canonical(&words.join(" ")), canonical(&words.join("   ")));
        }
    }
}
