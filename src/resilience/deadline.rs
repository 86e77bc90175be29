//! When an answer is worth nothing any more.

use std::time::Duration;

/// An absolute point in time, since the same epoch as every `now`. Of two deadlines the earlier is
/// their [`min`](Ord::min).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Duration);

impl Deadline {
    /// The deadline `timeout` from `now`; a timeout too long to count means never.
    pub fn after(now: Duration, timeout: Duration) -> Self {
        Self(now.saturating_add(timeout))
    }

    /// Time left; zero once expired.
    pub fn remaining(self, now: Duration) -> Duration {
        self.0.saturating_sub(now)
    }

    /// Whether no time is left.
    pub fn expired(self, now: Duration) -> bool {
        self.0 <= now
    }

    /// The deadline to give to a part of the work, when the whole needs `reserve` after it.
    #[must_use]
    pub fn child(self, reserve: Duration) -> Self {
        Self(self.0.saturating_sub(reserve))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_deadline_expires_exactly_when_nothing_remains() {
        let deadline = Deadline::after(secs(5), secs(10));
        assert_eq!(deadline.remaining(secs(14)), secs(1));
        assert!(!deadline.expired(secs(14)));
        assert_eq!(deadline.remaining(secs(15)), Duration::ZERO);
        assert!(deadline.expired(secs(15)));
        assert_eq!(deadline.remaining(secs(99)), Duration::ZERO);
    }

    #[test]
    fn an_endless_timeout_does_not_overflow() {
        assert!(!Deadline::after(secs(5), Duration::MAX).expired(secs(1_000_000)));
    }

    #[test]
    fn a_child_ends_early_enough_for_its_parent_and_min_is_the_earlier() {
        let parent = Deadline::after(secs(0), secs(10));
        assert_eq!(parent.child(secs(2)).remaining(secs(0)), secs(8));
        assert!(parent.child(secs(20)).expired(secs(0)));
        assert_eq!(
            parent
                .min(Deadline::after(secs(0), secs(3)))
                .remaining(secs(0)),
            secs(3)
        );
    }
}
