//! `[admission]`: how much at once, and who waits.

use std::time::Duration;

use super::section::Section;

/// How much at once, and who waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Queries of one user at once, 1 to 100,000. Default 3.
    pub per_user: u32,
    /// Queries at once, all users together, 1 to 100,000. Default 50.
    pub total: u32,
    /// Queries that may wait, 0 to 1,000,000; one more is refused as overloaded. Default 1000.
    pub queue: usize,
    /// How long a query waits until it counts as one lane more urgent, 1 ms to 1 h. Default 10 s.
    pub aging: Duration,
    /// The deadline of a query that states none, 1 ms to 24 h and no longer than `max_deadline`.
    /// Default 10 min.
    pub deadline: Duration,
    /// The longest deadline a query may ask for, 1 ms to 24 h; more is cut to it. Default 1 h.
    pub max_deadline: Duration,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            per_user: 3,
            total: 50,
            queue: 1000,
            aging: Duration::from_secs(10),
            deadline: Duration::from_secs(600),
            max_deadline: Duration::from_secs(3600),
        }
    }
}

impl Admission {
    pub(super) fn read(root: &mut Section<'_>) -> Self {
        let defaults = Self::default();
        root.table("admission", |section| {
            let shortest = Duration::from_millis(1);
            let deadlines = shortest..=Duration::from_secs(86_400);
            let admission = Self {
                per_user: section
                    .integer("per_user", 1..=100_000)
                    .unwrap_or(defaults.per_user),
                total: section
                    .integer("total", 1..=100_000)
                    .unwrap_or(defaults.total),
                queue: section
                    .integer("queue", 0..=1_000_000)
                    .unwrap_or(defaults.queue),
                aging: section
                    .duration("aging", shortest..=Duration::from_secs(3600))
                    .unwrap_or(defaults.aging),
                deadline: section
                    .duration("deadline", deadlines.clone())
                    .unwrap_or(defaults.deadline),
                max_deadline: section
                    .duration("max_deadline", deadlines)
                    .unwrap_or(defaults.max_deadline),
            };
            section.ordered(
                ("deadline", admission.deadline),
                ("max_deadline", admission.max_deadline),
            );
            admission
        })
    }
}
