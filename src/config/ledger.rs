//! `[ledger]`: what is remembered, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use super::section::Section;
use super::{Env, directory, environment};

const DAY: Duration = Duration::from_secs(86_400);

/// What is remembered, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// The database; `None` (`"off"`) remembers nothing. Default `quorate/ledger.db` in
    /// `$XDG_STATE_HOME`, or else in `~/.local/state`; `None` if neither is known.
    pub path: Option<PathBuf>,
    /// Older decisions are removed, 1 min to 3650 days. Default 30 days.
    pub max_age: Duration,
    /// Decisions kept at most, 1 to 1,000,000,000. Default 1,000,000.
    pub max_rows: u64,
    /// Whether prompts are kept with their decisions. Default `false`.
    pub keep_prompts: bool,
    /// How long decisions are gathered before they are written together, 10 ms to 1 min. Default
    /// 250 ms.
    pub flush: Duration,
    /// How often learned state is written, 100 ms to 1 h. Default 5 s.
    pub checkpoint: Duration,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::defaults(&environment().collect())
    }
}

impl Ledger {
    pub(super) fn defaults(env: &Env) -> Self {
        let home = || Some(directory(env, "HOME")?.join(".local/state"));
        Self {
            path: directory(env, "XDG_STATE_HOME")
                .or_else(home)
                .map(|dir| dir.join("quorate/ledger.db")),
            max_age: 30 * DAY,
            max_rows: 1_000_000,
            keep_prompts: false,
            flush: Duration::from_millis(250),
            checkpoint: Duration::from_secs(5),
        }
    }

    pub(super) fn read(root: &mut Section<'_>) -> Self {
        let defaults = Self::defaults(root.env());
        root.table("ledger", |section| Self {
            path: section.path_or_off("path").unwrap_or(defaults.path),
            max_age: section
                .duration("max_age", Duration::from_secs(60)..=3650 * DAY)
                .unwrap_or(defaults.max_age),
            max_rows: section
                .integer("max_rows", 1..=1_000_000_000)
                .unwrap_or(defaults.max_rows),
            keep_prompts: section
                .flag("keep_prompts")
                .unwrap_or(defaults.keep_prompts),
            flush: section
                .duration("flush", Duration::from_millis(10)..=Duration::from_secs(60))
                .unwrap_or(defaults.flush),
            checkpoint: section
                .duration(
                    "checkpoint",
                    Duration::from_millis(100)..=Duration::from_secs(3600),
                )
                .unwrap_or(defaults.checkpoint),
        })
    }
}
