//! Keeping within what a provider allows per minute.

use std::num::NonZeroU32;
use std::time::Duration;

/// Float dust that must not cost a caller another wait.
const DUST: f64 = 1e-6;

/// A token bucket over requests or over model tokens. It fills evenly over the minute and holds at
/// most a sixth of the minute's allowance, at least 1, so that a burst after silence stays small
/// against the provider's own window.
///
/// A request for more than the bucket holds is let through when the bucket is full, and leaves a debt
/// that the following ones wait out: no request is too large for ever.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    per_minute: NonZeroU32,
    /// Below zero while in debt.
    level: f64,
    filled_at: Duration,
}

impl RateLimit {
    /// A full bucket with this allowance.
    pub fn new(per_minute: NonZeroU32) -> Self {
        let mut limit = Self {
            per_minute,
            level: 0.0,
            filled_at: Duration::ZERO,
        };
        limit.level = limit.burst();
        limit
    }

    /// Takes `n` at once, or says how long to wait until they can be had if nobody else takes any.
    pub fn try_take(&mut self, n: u32, now: Duration) -> Result<(), Duration> {
        let per_second = f64::from(self.per_minute.get()) / 60.0;
        let passed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.level = (self.level + passed * per_second).min(self.burst());
        self.filled_at = now.max(self.filled_at);
        let missing = f64::from(n).min(self.burst()) - self.level;
        if missing > DUST {
            let wait = Duration::try_from_secs_f64(missing / per_second).unwrap_or(Duration::MAX);
            return Err(wait.saturating_add(Duration::from_nanos(1)));
        }
        self.level -= f64::from(n);
        Ok(())
    }

    /// Corrects what was taken on an estimate once the actual amount is known.
    pub fn settle(&mut self, estimated: u32, actual: u32) {
        self.level = (self.level + f64::from(estimated) - f64::from(actual)).min(self.burst());
    }

    fn burst(&self) -> f64 {
        (f64::from(self.per_minute.get()) / 6.0).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(per_minute: u32) -> RateLimit {
        RateLimit::new(NonZeroU32::new(per_minute).expect("not zero"))
    }

    #[test]
    fn a_sixth_of_the_minute_goes_at_once_and_the_rest_evenly() {
        let mut limit = limit(60);
        let now = Duration::from_secs(1_000);
        let granted = (0..100).filter(|_| limit.try_take(1, now).is_ok()).count();
        assert_eq!(granted, 10);
        let wait = limit.try_take(1, now).expect_err("empty");
        assert!(wait.abs_diff(Duration::from_secs(1)) < Duration::from_millis(1));
        assert!(limit.try_take(1, now + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn one_a_minute_is_one_a_minute() {
        let mut limit = limit(1);
        assert!(limit.try_take(1, Duration::ZERO).is_ok());
        assert!(limit.try_take(1, Duration::from_secs(59)).is_err());
        assert!(limit.try_take(1, Duration::from_secs(60)).is_ok());
    }

    #[test]
    fn a_request_larger_than_the_bucket_passes_when_it_is_full_and_is_paid_for_after() {
        let mut limit = limit(60);
        assert!(limit.try_take(40, Duration::ZERO).is_ok());
        let wait = limit.try_take(1, Duration::ZERO).expect_err("in debt");
        assert!(wait.abs_diff(Duration::from_secs(31)) < Duration::from_millis(1));
    }

    #[test]
    fn settling_returns_what_was_not_used_and_charges_what_was_used_more() {
        let mut limit = limit(60);
        limit.try_take(10, Duration::ZERO).expect("full");
        limit.settle(10, 4);
        assert!(limit.try_take(6, Duration::ZERO).is_ok());
        limit.settle(6, 9);
        assert!(limit.try_take(1, Duration::from_secs(3)).is_err());
        limit.settle(1_000, 0);
        assert!(limit.try_take(11, Duration::from_secs(3)).is_ok());
        assert!(
            limit.try_take(1, Duration::from_secs(3)).is_err(),
            "never above the burst"
        );
    }

    proptest! {
        #[test]
        fn waiting_as_advised_is_enough_and_the_allowance_is_never_exceeded(
            per_minute in prop_oneof![1_u32..100, 1_u32..=u32::MAX],
            wishes in prop::collection::vec((0_u64..20_000, 1_u32..200), 1..60),
        ) {
            let mut limit = limit(per_minute);
            let mut now = Duration::ZERO;
            let (mut taken, mut largest) = (0.0, 0.0_f64);
            for (wait, n) in wishes {
                now += Duration::from_millis(wait);
                if let Err(wait) = limit.try_take(n, now) {
                    now += wait;
                    prop_assert_eq!(limit.try_take(n, now), Ok(()));
                }
                taken += f64::from(n);
                largest = largest.max(f64::from(n));
                let earned = now.as_secs_f64() * f64::from(per_minute) / 60.0;
                prop_assert!(taken <= (earned + limit.burst().max(1.0) + largest) * 1.000_001);
            }
        }
    }
}
