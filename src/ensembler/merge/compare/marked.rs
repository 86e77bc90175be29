//! The answer that a text of reasoning marks as its last word.

use super::layout::bare;

/// What the last `\boxed{…}` holds, or what follows "the answer is", "Answer:" or `####` on the last line.
pub(super) fn answer(text: &str) -> Option<&str> {
    boxed(text).or_else(|| {
        let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
        on_line(line)
    })
}

/// The last line that marks an answer, wherever it is, and the whole boxed one: for questions whose answers
/// have a known form, since an explanation may follow them.
pub(super) fn anywhere(text: &str) -> Option<&str> {
    boxed(text).or_else(|| text.lines().rev().find_map(on_line))
}

fn on_line(line: &str) -> Option<&str> {
    if let Some(rest) = line.trim_start().strip_prefix("####") {
        return Some(bare(rest)).filter(|rest| rest.contains(char::is_alphanumeric));
    }
    // Most lines name no answer.
    if !names_answer(line) {
        return None;
    }
    let line = bare(line).trim_start_matches(['#', '*', '_', ' ']);
    // ASCII lower case keeps every byte in its place.
    let lower = line.to_ascii_lowercase();
    const LABELS: [&str; 6] = [
        "final answer",
        "correct answer",
        "answer",
        "the answer",
        "the final answer",
        "the correct answer",
    ];
    let labels = LABELS.into_iter().filter_map(|label| {
        let after = lower
            .strip_prefix(label)?
            .trim_start_matches(['*', '_', ' ']);
        let after = after
            .strip_prefix(':')
            .or_else(|| after.strip_prefix("is "))?;
        Some(lower.len() - after.len())
    });
    const PHRASES: [&str; 6] = [
        "the answer is",
        "final answer is",
        "correct answer is",
        "the correct option is",
        "the correct choice is",
        "answer should be",
    ];
    let phrases = PHRASES
        .into_iter()
        .filter_map(|phrase| Some(lower.rfind(phrase)? + phrase.len()));
    let rest = line[labels.chain(phrases).max()?..].trim_start_matches([':', ' ']);
    // What closes the emphasis of the words before: `**Answer:** 42`.
    let closed = rest.trim_start_matches(['*', '_']);
    let rest = bare(if closed.starts_with(' ') {
        closed
    } else {
        rest
    });
    Some(rest).filter(|rest| rest.contains(char::is_alphanumeric))
}

/// Whether the line has a word of those that mark one.
fn names_answer(line: &str) -> bool {
    let bytes = line.as_bytes();
    ["answer", "correct"].iter().any(|word| {
        bytes
            .windows(word.len())
            .any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
    })
}

/// What the last `\boxed{…}` holds.
fn boxed(text: &str) -> Option<&str> {
    const OPEN: &str = "\\boxed{";
    let inner = &text[text.rfind(OPEN)? + OPEN.len()..];
    let mut depth = 1;
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(inner[..at].trim()).filter(|inner| !inner.is_empty());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_answers_are_found() {
        for text in [
            "Long thoughts.\nThe answer is 42.",
            "Two lines.\n\n**Answer:** 42",
            "**Answer: 42**",
            "**Answer**: **42**",
            "### Final answer: 42",
            "So the correct answer is: $42$",
            "Thus \\boxed{41}, no, \\(\\boxed{42}\\).",
            "Thoughts\n#### 42",
            "The final answer is **42**.",
        ] {
            assert_eq!(answer(text), Some("42"), "{text}");
        }
        assert_eq!(answer("The answer is: "), None);
        assert_eq!(answer("The answer is 42.\nI hope this helps."), None);
        assert_eq!(
            anywhere("The answer is 42.\nI hope this helps."),
            Some("42")
        );
        assert_eq!(answer("\\boxed{\\frac{1}{2}}"), Some("\\frac{1}{2}"));
        assert_eq!(answer("\\boxed{"), None);
    }
}
