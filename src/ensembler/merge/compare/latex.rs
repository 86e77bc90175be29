//! Mathematics as TeX writes it, read as one would type it.

use std::borrow::Cow;

/// How deep groups may nest; deeper ones are left out.
const DEEPEST: usize = 16;

/// The text without TeX: `\frac{3}{4}` is `3/4`, `\sqrt3` is `sqrt(3)`, `\text{ km}` is ` km`, `x^{2}` is `x^2`;
/// delimiters, sizes and thin spaces go, other commands stand for their names.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(['\\', '$', '\u{2212}', '\u{a0}', '\u{202f}', '\u{2009}'])
        && !text.contains("^{")
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    // A lone dollar delimits no formula.
    if let Some((before, after)) = text.split_once('$')
        && !after.contains('$')
        && !before.ends_with('\\')
    {
        write(before, &mut out, DEEPEST);
        out.push('$');
        write(after, &mut out, DEEPEST);
    } else {
        write(text, &mut out, DEEPEST);
    }
    Cow::Owned(out)
}

fn write(text: &str, out: &mut String, depth: usize) {
    if depth == 0 {
        return;
    }
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => rest = command(rest, out, depth),
            '$' | '{' | '}' | '\u{202f}' | '\u{2009}' => {}
            '\u{2212}' => out.push('-'),
            '\u{a0}' => out.push(' '),
            '^' | '_' => {
                let (raised, after) = argument(rest);
                let mut inner = String::new();
                write(raised, &mut inner, depth - 1);
                if inner != "\u{b0}" {
                    out.push(c);
                }
                let simple = inner.chars().skip(1).all(|c| c.is_ascii_digit());
                push_grouped(inner.trim(), simple, out);
                rest = after;
            }
            _ => out.push(c),
        }
    }
}

/// Writes the command at the start of `rest`, which begins after the backslash; what is left comes back.
fn command<'a>(rest: &'a str, out: &mut String, depth: usize) -> &'a str {
    let length = rest
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(rest.len());
    let (name, after) = rest.split_at(length);
    match name {
        "" => {
            let Some(c) = rest.chars().next() else {
                return rest;
            };
            match c {
                '%' | '$' | '#' | '&' | '_' | '{' | '}' => out.push(c),
                ' ' | '\\' => out.push(' '),
                _ => {}
            }
            &rest[c.len_utf8()..]
        }
        "frac" | "dfrac" | "tfrac" | "cfrac" => {
            let (above, after) = argument(after);
            let (below, after) = argument(after);
            // The numerator of a mixed number must not run into the whole: `1\frac{1}{2}`.
            if out.ends_with(|c: char| c.is_ascii_digit()) {
                out.push(' ');
            }
            for (at, part) in [above, below].into_iter().enumerate() {
                let mut inner = String::new();
                write(part, &mut inner, depth - 1);
                if at == 1 {
                    out.push('/');
                }
                let inner = inner.trim();
                let atom = inner
                    .strip_prefix('-')
                    .unwrap_or(inner)
                    .chars()
                    .all(|c| c.is_alphanumeric() || c == '.' || c == ',')
                    || (inner.starts_with("sqrt(") && inner.find(')') == Some(inner.len() - 1));
                push_grouped(inner, atom, out);
            }
            after
        }
        "sqrt" => {
            let mut after = after.trim_start();
            out.push_str("sqrt");
            if let Some((root, tail)) = after.strip_prefix('[').and_then(|t| t.split_once(']')) {
                out.push_str(root.trim());
                after = tail;
            }
            let (inner, after) = argument(after);
            out.push('(');
            write(inner, out, depth - 1);
            out.push(')');
            after
        }
        "text" | "textbf" | "textit" | "textrm" | "mathrm" | "mathbf" | "mathit" | "mathsf"
        | "mathbb" | "operatorname" | "mbox" | "boxed" | "emph" => {
            let (inner, after) = argument(after);
            if out.ends_with(|c: char| c.is_alphanumeric()) {
                out.push(' ');
            }
            write(inner, out, depth - 1);
            after
        }
        "left" | "right" | "big" | "Big" | "bigl" | "bigr" | "displaystyle" | "limits" => after,
        "quad" | "qquad" => {
            out.push(' ');
            after
        }
        _ => {
            out.push_str(match name {
                "cdot" | "times" => "*",
                "div" => "/",
                "le" | "leq" => "<=",
                "ge" | "geq" => ">=",
                "ne" | "neq" => "!=",
                "approx" => "\u{2248}",
                "pm" => "+-",
                "circ" | "degree" => "\u{b0}",
                "infty" => "infinity",
                other => other,
            });
            // `\pi r` is not `pir`.
            match after.strip_prefix(' ') {
                Some(tail) if tail.starts_with(|c: char| c.is_alphanumeric()) => {
                    out.push(' ');
                    tail
                }
                Some(tail) => tail,
                None => after,
            }
        }
    }
}

/// A command's argument, a group or one character, and what follows.
fn argument(rest: &str) -> (&str, &str) {
    let rest = rest.trim_start_matches(' ');
    if !rest.starts_with('{') {
        let end = match rest.strip_prefix('\\') {
            Some(name) => {
                1 + name
                    .find(|c: char| !c.is_ascii_alphabetic())
                    .unwrap_or(name.len())
            }
            None => rest.chars().next().map_or(0, char::len_utf8),
        };
        return rest.split_at(end);
    }
    let mut depth = 0usize;
    for (at, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&rest[1..at], &rest[at + 1..]);
        }
    }
    (&rest[1..], "")
}

fn push_grouped(inner: &str, atom: bool, out: &mut String) {
    if atom {
        out.push_str(inner);
    } else {
        out.push('(');
        out.push_str(inner);
        out.push(')');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tex_reads_as_one_would_type_it() {
        for (tex, typed) in [
            ("\\frac{3}{4}", "3/4"),
            ("\\dfrac34", "3/4"),
            ("-\\frac{1}{2}", "-1/2"),
            ("1\\frac{1}{2}", "1 1/2"),
            ("\\frac{\\sqrt{3}}{2}", "sqrt(3)/2"),
            ("\\frac{a+b}{2}", "(a+b)/2"),
            ("$\\sqrt3$", "sqrt(3)"),
            ("x^{2}", "x^2"),
            ("x^{n+1}", "x^(n+1)"),
            ("90^\\circ", "90\u{b0}"),
            ("90^{\\circ}", "90\u{b0}"),
            ("12\\text{ km}", "12  km"),
            ("10{,}000 \\,", "10,000 "),
            ("50\\%", "50%"),
            ("\\left( 1, 2 \\right)", "( 1, 2 )"),
            ("1.5 \\times 10^{3}", "1.5 * 10^3"),
            ("2\\pi r", "2pi r"),
            ("plain", "plain"),
        ] {
            assert_eq!(plain(tex), typed, "{tex}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_borne(text in "[\\\\a-c{}\\[\\]^_$ 0-9\u{e9}frac]{0,40}|.*") {
            plain(&text);
        }

        #[test]
        fn deep_nesting_is_borne(depth in 0usize..3000) {
            plain(&"\\frac{".repeat(depth));
            plain(&"^{".repeat(depth));
        }
    }
}
