//! What surrounds an answer and says nothing: white space, fences, quotes, emphasis, closing punctuation.

/// The text without lines that open or close a code fence.
pub(super) fn without_fences(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("```"))
        .collect();
    lines.join("\n")
}

/// Lower case, single spaces, nothing round it, no article before it.
pub(super) fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in bare(text).split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        if word.is_ascii() {
            out.extend(word.chars().map(|c| c.to_ascii_lowercase()));
        } else {
            let straight = word.replace(['\u{2018}', '\u{2019}'], "'");
            out.push_str(
                &straight
                    .replace(['\u{201c}', '\u{201d}'], "\"")
                    .to_lowercase(),
            );
        }
    }
    for article in ["the ", "a ", "an "] {
        if let Some(rest) = out.strip_prefix(article)
            && rest.contains(char::is_alphanumeric)
        {
            return rest.to_owned();
        }
    }
    out
}

/// Takes off white space, quotes, emphasis and closing punctuation, as long as something is left.
pub(super) fn bare(text: &str) -> &str {
    const PAIRS: [(&str, &str); 13] = [
        ("**", "**"),
        ("__", "__"),
        ("*", "*"),
        ("_", "_"),
        ("`", "`"),
        ("\"", "\""),
        ("'", "'"),
        ("\u{201c}", "\u{201d}"),
        ("\u{2018}", "\u{2019}"),
        ("\u{ab}", "\u{bb}"),
        ("\\(", "\\)"),
        ("\\[", "\\]"),
        ("$", "$"),
    ];
    let mut rest = text.trim();
    loop {
        let mut shorter = without_closing(rest);
        for (open, close) in PAIRS {
            let inner = shorter
                .strip_prefix(open)
                .and_then(|inner| inner.strip_suffix(close));
            // A second mark inside means that the outer two are no pair: `"a" or "b"`.
            if let Some(inner) = inner
                && !inner.contains(open)
                && !inner.contains(close)
            {
                shorter = inner;
            }
        }
        let shorter = shorter.trim();
        if shorter.is_empty() || shorter.len() == rest.len() {
            return rest;
        }
        rest = shorter;
    }
}

fn without_closing(text: &str) -> &str {
    const CLOSING: [char; 9] = ['.', '?', ';', ':', ',', '\u{2026}', '\u{3002}', ' ', '!'];
    let said = text.trim_end_matches(CLOSING);
    // `5!` is a number of its own.
    if said.ends_with(|c: char| c.is_ascii_digit()) && text[said.len()..].starts_with('!') {
        let marks = text[said.len()..].trim_start_matches('!').len();
        return &text[..text.len() - marks];
    }
    said
}

/// The last sentence: after the last line break or mark that ends one.
pub(super) fn last_sentence(text: &str) -> &str {
    let line = text
        .lines()
        .rev()
        .find(|line| line.contains(char::is_alphanumeric))
        .unwrap_or("");
    let body = line.trim_end().trim_end_matches(['.', '!', '?', '*', ' ']);
    let start = [". ", "! ", "? "]
        .iter()
        .filter_map(|end| body.rfind(end).map(|at| at + 2))
        .max();
    start.map_or(line, |start| &line[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_surrounds_an_answer_goes() {
        for text in [
            "Paris",
            " paris. ",
            "\"Paris\"",
            "**Paris**.",
            "*`paris`*!",
            "\u{201c}Paris\u{201d}",
        ] {
            assert_eq!(fold(text), "paris", "{text}");
        }
        assert_eq!(fold("**_The new\n york_**"), "new york");
        assert_eq!(fold("\"a\" or \"b\""), "\"a\" or \"b\"");
        assert_eq!(fold("the"), "the");
        assert_eq!(without_fences("```\nParis\n```"), "Paris");
    }

    #[test]
    fn the_last_sentence_is_found() {
        assert_eq!(last_sentence("A. B c. So it is 3.5 m."), "So it is 3.5 m.");
        assert_eq!(last_sentence("One\nTwo three\n\n"), "Two three");
        assert_eq!(last_sentence(""), "");
    }
}
