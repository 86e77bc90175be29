//! `[log]`: what is logged, and how.

use super::section::Section;

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `text` (the default) or `json`.
    pub format: Format,
    /// A filter in the words of `tracing-subscriber`: a level, or several `target=level` with commas
    /// between them. Default `info`.
    pub level: String,
}

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// The format's name, as configured.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: Format::default(),
            level: "info".into(),
        }
    }
}

impl Log {
    pub(super) fn read(root: &mut Section<'_>) -> Self {
        let defaults = Self::default();
        root.table("log", |section| Self {
            format: section
                .choice("format", [Format::Text, Format::Json], Format::name)
                .unwrap_or(defaults.format),
            level: section.text("level", filter).unwrap_or(defaults.level),
        })
    }
}

/// Stricter than the filter's own parser, to which a misspelt level is the name of a target.
fn filter(text: &str) -> Result<String, String> {
    let is_level = |word: &str| {
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        levels.iter().any(|level| word.eq_ignore_ascii_case(level))
    };
    let is_target = |word: &str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_:-[]{}=\".".contains(c))
    };
    let is_directive = |part: &str| match part.trim().rsplit_once('=') {
        None => is_level(part.trim()),
        Some((target, level)) => is_target(target) && is_level(level),
    };
    if text.len() <= 1024 && text.split(',').all(is_directive) {
        return Ok(text.into());
    }
    let levels = "off, error, warn, info, debug or trace";
    Err(format!(
        "must be a level ({levels}) or 'target=level' with commas between, not '{text}'"
    ))
}
