//! How often a child may be restarted, and how long to wait before each restart.
//!
//! The limit is Erlang/OTP's restart intensity: more than `max_restarts` within `window`, and the
//! supervisor gives up. Unlike there, a restart also waits, twice as long each time. The window's clock
//! stands still during these waits; else they alone would stretch a crash loop until it passes for a
//! child that lives long enough, and nobody would ever give up.

use std::collections::VecDeque;
use std::time::Duration;

/// The wait before the second restart of a row; the first is immediate.
const BACKOFF_BASE: Duration = Duration::from_millis(100);

/// The longest wait before a restart.
const BACKOFF_CAP: Duration = Duration::from_secs(10);

/// How many restarts within how long are tolerated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts allowed within `window`; 0 gives up at the first death.
    pub max_restarts: u32,
    /// How long a restart counts, in time the child was up.
    pub window: Duration,
}

impl Default for Intensity {
    /// Five in a minute.
    fn default() -> Self {
        Self {
            max_restarts: 5,
            window: Duration::from_secs(60),
        }
    }
}

/// What to do about a child that died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again.
    Restart {
        /// How long to wait first: 0, then 100 ms, doubling up to 10 s.
        after: Duration,
    },
    /// It died once too often.
    GiveUp,
}

/// The restarts of one child.
#[derive(Clone, Debug)]
pub struct RestartHistory {
    intensity: Intensity,
    /// Of each restart within the window, the time the child had been up by then, waits taken off.
    restarts: VecDeque<Duration>,
    /// All waits imposed so far.
    waited: Duration,
}

impl RestartHistory {
    /// No restarts yet.
    pub fn new(intensity: Intensity) -> Self {
        Self {
            intensity,
            restarts: VecDeque::new(),
            waited: Duration::ZERO,
        }
    }

    /// Notes a death at `now` (monotonic, since any one epoch) and says what to do about it. A child that
    /// stayed up for a whole window is forgiven all.
    pub fn record(&mut self, now: Duration) -> Verdict {
        let last = self.restarts.back().copied().unwrap_or_default();
        // Never backwards: a restart may fail before its wait was due, when a sibling's death restarts both.
        let up = now.saturating_sub(self.waited).max(last);
        while self
            .restarts
            .front()
            .is_some_and(|&at| up - at >= self.intensity.window)
        {
            self.restarts.pop_front();
        }
        let recent = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX);
        if recent >= self.intensity.max_restarts {
            return Verdict::GiveUp;
        }
        let after = backoff(recent);
        self.restarts.push_back(up);
        self.waited = self.waited.saturating_add(after);
        Verdict::Restart { after }
    }
}

/// The wait before a restart that has `recent` others before it in its window.
fn backoff(recent: u32) -> Duration {
    match recent.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => {
            let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
            BACKOFF_BASE.saturating_mul(factor).min(BACKOFF_CAP)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn history(max_restarts: u32, window: Duration) -> RestartHistory {
        RestartHistory::new(Intensity {
            max_restarts,
            window,
        })
    }

    #[test]
    fn restarts_wait_twice_as_long_each_time_up_to_the_cap() {
        let mut history = history(12, ms(60_000));
        let mut now = ms(5);
        let mut waits = Vec::new();
        while let Verdict::Restart { after } = history.record(now) {
            waits.push(after.as_millis());
            now += after;
        }
        assert_eq!(
            waits,
            [
                0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000, 10_000
            ]
        );
    }

    #[test]
    fn no_restart_is_allowed_when_none_is_tolerated() {
        assert_eq!(history(0, ms(1000)).record(ms(7)), Verdict::GiveUp);
    }

    #[test]
    fn a_crash_loop_is_given_up_even_if_its_waits_outlast_the_window() {
        let mut history = history(10, ms(500));
        let mut now = ms(0);
        let mut restarts = 0;
        while let Verdict::Restart { after } = history.record(now) {
            restarts += 1;
            assert!(restarts <= 10);
            now += after + ms(1);
        }
        assert_eq!(restarts, 10);
    }

    #[test]
    fn giving_up_is_undone_by_a_quiet_window() {
        let mut history = history(1, ms(1000));
        assert_eq!(history.record(ms(0)), Verdict::Restart { after: ms(0) });
        assert_eq!(history.record(ms(999)), Verdict::GiveUp);
        assert_eq!(history.record(ms(1000)), Verdict::Restart { after: ms(0) });
    }

    proptest! {
        /// The child's lives are arbitrary; each begins when the wait imposed is over.
        #[test]
        fn no_window_of_uptime_holds_more_restarts_than_allowed(
            lives in proptest::collection::vec(0u64..3000, 1..100),
            max_restarts in 0u32..6,
            window in 1u64..5000,
        ) {
            let mut history = history(max_restarts, ms(window));
            let (mut now, mut up) = (ms(0), 0);
            let mut restarts: Vec<u64> = Vec::new();
            for life in lives {
                now += ms(life);
                up += life;
                let recent = restarts.iter().filter(|&&at| up - at < window).count();
                match history.record(now) {
                    Verdict::Restart { after } => {
                        prop_assert!(recent < max_restarts as usize);
                        prop_assert_eq!(after.is_zero(), recent == 0);
                        prop_assert!(after <= BACKOFF_CAP);
                        restarts.push(up);
                        now += after;
                    }
                    Verdict::GiveUp => prop_assert_eq!(recent, max_restarts as usize),
                }
            }
        }

        #[test]
        fn a_quiet_window_forgives_everything(
            lives in proptest::collection::vec(0u64..3000, 0..30),
            window in 1u64..5000,
        ) {
            let mut history = history(1000, ms(window));
            let mut now = ms(0);
            for life in lives {
                now += ms(life);
                if let Verdict::Restart { after } = history.record(now) {
                    now += after;
                }
            }
            now += ms(window);
            prop_assert_eq!(history.record(now), Verdict::Restart { after: Duration::ZERO });
        }

        #[test]
        fn any_order_of_times_is_borne(times in proptest::collection::vec(any::<u32>(), 1..50)) {
            let mut history = history(7, ms(1000));
            for at in times {
                let _ = history.record(ms(at.into()));
                prop_assert!(history.restarts.len() <= 7);
            }
        }
    }
}
