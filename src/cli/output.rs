//! What is written where: answers and tables to standard output, everything said about them to
//! standard error. Colours and cursor control only on a terminal, and none with `NO_COLOR`.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use serde_json::Value;

use super::failure::{Exit, Failure};

/// For what is said beside the answer.
const DIM: Style = Style::new().dimmed();
/// For the one word that says a command failed.
const ERROR: Style = AnsiColor::Red.on_default().bold();

/// How this process writes.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// Whether `--json` was given: one JSON document on standard output, even for an error.
    pub json: bool,
    /// Whether standard output is a terminal.
    pub terminal: bool,
    /// Whether standard error is a terminal.
    pub watched: bool,
}

impl Output {
    /// Looks where the streams lead.
    pub fn new(json: bool) -> Self {
        Self {
            json,
            terminal: io::stdout().is_terminal(),
            watched: io::stderr().is_terminal(),
        }
    }

    /// A piece of an answer, at once. A pipe gets every byte; a terminal no control characters, which
    /// would let a model's text move the cursor or rewrite what was shown.
    pub fn piece(self, text: &str) -> io::Result<()> {
        let text = if self.terminal {
            printable(text)
        } else {
            Cow::Borrowed(text)
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// A line that may be styled.
    pub fn line(self, text: impl Display) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    /// Lines that may be styled, each with its line break.
    pub fn text(self, lines: &str) -> io::Result<()> {
        let mut out = anstream::stdout().lock();
        out.write_all(lines.as_bytes())?;
        out.flush()
    }

    /// Control of the cursor, for a terminal.
    pub fn control(self, codes: &str) -> io::Result<()> {
        io::stdout().lock().write_all(codes.as_bytes())
    }

    /// A JSON document: for reading on a terminal, on one line for a program.
    pub fn value(self, value: &Value) -> io::Result<()> {
        if self.terminal {
            self.line(format_args!("{value:#}"))
        } else {
            self.line(value)
        }
    }

    /// Something about what is happening, on standard error. Whether anybody hears it changes nothing.
    pub fn note(self, text: impl Display) {
        let _ = writeln!(anstream::stderr(), "{DIM}{text}{DIM:#}");
    }

    /// Something that belongs beside the output but must not be missed, on standard error.
    pub fn said(self, text: &str) {
        let _ = writeln!(anstream::stderr(), "{}", printable(text));
    }

    /// A piece of what is said beside the answer, without a line break.
    pub fn aside(self, text: &str) {
        if self.watched {
            let _ = write!(anstream::stderr(), "{DIM}{}{DIM:#}", printable(text));
        }
    }

    /// Tells what went wrong, and how the process ends.
    pub fn failed(self, failure: &Failure) -> Exit {
        if failure.message.is_empty() {
            return failure.exit;
        }
        if self.json {
            let _ = self.value(&failure.to_json());
        } else {
            // Mistakes in a configuration begin with their place, as editors expect it.
            let places = failure.details.contains_key("errors");
            let label = if places {
                String::new()
            } else {
                format!("{ERROR}error:{ERROR:#} ")
            };
            let _ = writeln!(anstream::stderr(), "{label}{}", printable(&failure.message));
        }
        failure.exit
    }
}

/// Text without control characters other than line breaks and tabs.
pub fn printable(text: &str) -> Cow<'_, str> {
    let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.contains(is_control) {
        Cow::Owned(text.replace(is_control, ""))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters() {
        assert_eq!(
            printable("a\u{1b}[2Jb\r\u{9b}1m\u{7}c\n\td"),
            "a[2Jb1mc\n\td"
        );
        assert!(matches!(printable("grüße\n"), Cow::Borrowed("grüße\n")));
    }
}
