//! How many extra calls the ordinary ones pay for.

use std::time::Duration;

use super::window::Window;

/// How far back calls count.
const SPAN: Duration = Duration::from_secs(10);

/// A budget of retries or hedges as a share of calls, so that a failing provider is not buried under
/// repeats. The model is that of Finagle's `RetryBudget` and tower's `TpsBudget`; here deposits and
/// withdrawals of the last 10 s are counted in ten buckets.
///
/// A withdrawal succeeds when, it included, withdrawals of the last 10 s are at most
/// `ratio · calls + floor`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    ratio: f64,
    floor: u32,
    /// Calls and withdrawals.
    window: Window<10>,
}

impl Budget {
    /// `ratio` extra calls per call (0 or more; what is not a number counts as 0) and `floor` more per
    /// 10 s, so that quiet traffic may retry at all.
    pub fn new(ratio: f64, floor: u32) -> Self {
        Self {
            ratio: ratio.max(0.0),
            floor,
            window: Window::new(SPAN),
        }
    }

    /// The default for retries: a fifth of calls, and 10 per 10 s.
    pub fn retry() -> Self {
        Self::new(0.2, 10)
    }

    /// The default for hedges: a twentieth of calls, and 1 per 10 s.
    pub fn hedge() -> Self {
        Self::new(0.05, 1)
    }

    /// Notes an ordinary call.
    pub fn deposit(&mut self, now: Duration) {
        self.window.add([1, 0], now);
    }

    /// Pays for an extra call, if affordable.
    pub fn try_withdraw(&mut self, now: Duration) -> bool {
        let affordable = self.left(now) > 0;
        if affordable {
            self.window.add([0, 1], now);
        }
        affordable
    }

    /// Extra calls affordable at `now`.
    pub fn left(&self, now: Duration) -> u32 {
        let [calls, spent] = self.window.totals(now);
        // The nudge keeps 0.2 · 5 from being a hair below 1; the cast saturates.
        let earned = (self.ratio * f64::from(calls) + 1e-9) as u32;
        earned.saturating_add(self.floor).saturating_sub(spent)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quiet_traffic_has_the_floor_and_gets_it_back_after_the_window() {
        let mut budget = Budget::retry();
        let granted = (0..20)
            .filter(|_| budget.try_withdraw(Duration::ZERO))
            .count();
        assert_eq!(granted, 10);
        assert!(!budget.try_withdraw(Duration::from_secs(9)));
        assert_eq!(budget.left(Duration::from_secs(10)), 10);
    }

    #[test]
    fn calls_earn_their_share() {
        for (mut budget, expected) in [(Budget::retry(), 30), (Budget::hedge(), 6)] {
            (0..100).for_each(|_| budget.deposit(Duration::ZERO));
            assert_eq!(budget.left(Duration::ZERO), expected);
        }
    }

    #[test]
    fn a_ratio_that_is_no_number_earns_nothing() {
        let mut budget = Budget::new(f64::NAN, 0);
        budget.deposit(Duration::ZERO);
        assert!(!budget.try_withdraw(Duration::ZERO));
    }

    proptest! {
        #[test]
        fn withdrawals_of_a_window_never_exceed_share_and_floor(
            ratio in 0.0..1.0_f64,
            floor in 0_u32..5,
            steps in prop::collection::vec((0_u64..600, any::<bool>()), 1..300),
        ) {
            let mut budget = Budget::new(ratio, floor);
            let mut now = 0;
            let (mut calls, mut spent) = (Vec::new(), Vec::new());
            let within = |times: &[u64], second: u64| {
                times.iter().filter(|time| second - **time / 1_000 < 10).count() as f64
            };
            for (wait, call) in steps {
                now += wait;
                if call {
                    budget.deposit(Duration::from_millis(now));
                    calls.push(now);
                } else if budget.try_withdraw(Duration::from_millis(now)) {
                    spent.push(now);
                    let allowed = ratio * within(&calls, now / 1_000) + f64::from(floor);
                    prop_assert!(within(&spent, now / 1_000) <= allowed + 1e-6);
                } else {
                    let allowed = ratio * within(&calls, now / 1_000) + f64::from(floor);
                    prop_assert!(within(&spent, now / 1_000) + 1.0 > allowed - 1e-6);
                }
            }
        }
    }
}
