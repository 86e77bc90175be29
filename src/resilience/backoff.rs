//! How long to wait before a retry.

use std::time::Duration;

use super::{doubled, scale, unit};

/// Exponential backoff with full jitter: a uniform draw from 0 to `min(cap, base · 2ⁿ)`, which
/// spreads competing clients best (M. Brooker, "Exponential Backoff And Jitter", AWS, 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The upper end of the first wait. Default 0.5 s.
    pub base: Duration,
    /// The upper end of every wait. Default 20 s.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(500),
            cap: Duration::from_secs(20),
        }
    }
}

impl Backoff {
    /// The wait before a retry. `attempt` is 0 for the first retry, `jitter` a uniform draw from 0 to
    /// 1, and `retry_after` what the provider asked for: a floor, above the cap too.
    pub fn delay(&self, attempt: u32, jitter: f64, retry_after: Option<Duration>) -> Duration {
        scale(doubled(self.base, attempt, self.cap), unit(jitter))
            .max(retry_after.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_upper_end_doubles_from_base_to_cap() {
        let ends = [0, 1, 2, 5, 6, u32::MAX].map(|n| Backoff::default().delay(n, 1.0, None));
        assert_eq!(
            ends.map(|end| end.as_millis()),
            [500, 1_000, 2_000, 16_000, 20_000, 20_000]
        );
    }

    proptest! {
        #[test]
        fn a_wait_lies_between_what_was_asked_for_and_the_upper_end(
            attempt in any::<u32>(),
            jitter in any::<f64>(),
            asked in prop::option::of(0_u64..100_000),
        ) {
            let backoff = Backoff::default();
            let asked = asked.map(Duration::from_millis);
            let wait = backoff.delay(attempt, jitter, asked);
            prop_assert!(wait >= asked.unwrap_or_default());
            prop_assert!(wait <= backoff.cap.max(asked.unwrap_or_default()));
        }

        #[test]
        fn a_larger_draw_never_waits_less(attempt in 0_u32..40, one in 0.0..1.0_f64, two in 0.0..1.0_f64) {
            let backoff = Backoff::default();
            let short = backoff.delay(attempt, one.min(two), None);
            prop_assert!(short <= backoff.delay(attempt, one.max(two), None));
        }
    }
}
