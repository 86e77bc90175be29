//! Heeding a provider that says "too fast".

use std::time::Duration;

use super::{doubled, scale, unit};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Waits are lengthened by up to this share, so that deployments behind one key do not return as one.
const SPREAD: f64 = 0.1;

/// A pause after rate signals (429, 529). Without a Retry-After it starts at 1 s and doubles with each
/// pause in a row up to 60 s; every wait is lengthened by up to a tenth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cooldown {
    until: Duration,
    /// Pauses in a row.
    streak: u32,
}

impl Cooldown {
    /// Takes in a rate signal; `retry_after` is what the provider asked for and `jitter` a uniform draw
    /// from 0 to 1. A pause under way is never shortened. Signals during a pause come from calls that
    /// were out when it began, so they belong to it and do not double the next.
    pub fn signal(&mut self, now: Duration, retry_after: Option<Duration>, jitter: f64) {
        if self.remaining(now).is_zero() {
            self.streak = self.streak.saturating_add(1);
        }
        let own = || doubled(FIRST, self.streak.saturating_sub(1), LONGEST);
        let wait = scale(retry_after.unwrap_or_else(own), 1.0 + SPREAD * unit(jitter));
        self.until = self.until.max(now.saturating_add(wait));
    }

    /// Takes in a success: the next pause starts small again. A pause under way goes on, for the success
    /// may be of a call made before it.
    pub fn success(&mut self) {
        self.streak = 0;
    }

    /// The rest of the pause; zero when there is none.
    pub fn remaining(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pauses_in_a_row_double_up_to_a_minute_and_success_ends_the_row() {
        let mut cooldown = Cooldown::default();
        let mut now = secs(5);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            cooldown.signal(now, None, 0.0);
            assert_eq!(cooldown.remaining(now), secs(expected));
            now += secs(expected);
        }
        cooldown.success();
        cooldown.signal(now, None, 0.0);
        assert_eq!(cooldown.remaining(now), secs(1));
    }

    #[test]
    fn a_burst_of_signals_is_one_pause() {
        let mut cooldown = Cooldown::default();
        (0..50).for_each(|_| cooldown.signal(secs(5), None, 0.0));
        assert_eq!(cooldown.remaining(secs(5)), secs(1));
    }

    #[test]
    fn what_the_provider_asks_for_is_kept_and_a_later_signal_does_not_shorten_it() {
        let mut cooldown = Cooldown::default();
        cooldown.signal(secs(0), Some(secs(120)), 0.0);
        cooldown.signal(secs(10), Some(secs(5)), 0.0);
        cooldown.signal(secs(10), None, 1.0);
        cooldown.success();
        assert_eq!(cooldown.remaining(secs(10)), secs(110));
        assert_eq!(cooldown.remaining(secs(120)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn the_end_never_moves_back_and_never_comes_before_what_was_asked(
            signals in prop::collection::vec(
                (0_u64..100, prop::option::of(0_u64..1_000), any::<f64>(), any::<bool>()),
                1..60,
            ),
        ) {
            let mut cooldown = Cooldown::default();
            let mut now = Duration::ZERO;
            for (wait, asked, jitter, success) in signals {
                now += secs(wait);
                let before = cooldown.until;
                let asked = asked.map(secs);
                if success {
                    cooldown.success();
                }
                cooldown.signal(now, asked, jitter);
                prop_assert!(cooldown.until >= before);
                prop_assert!(cooldown.remaining(now) >= asked.unwrap_or(FIRST));
                let longest = scale(asked.unwrap_or(LONGEST), 1.0 + SPREAD);
                prop_assert!(cooldown.until <= before.max(now + longest));
            }
        }
    }
}
