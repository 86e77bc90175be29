//! How many calls a deployment bears at once, found out by what becomes of them.
//!
//! Additive increase, multiplicative decrease (Chiu and Jain, "Analysis of the increase and decrease algorithms for
//! congestion avoidance", 1989), with the signals that model servers give: a refusal for too many calls, a timeout,
//! and first tokens that take much longer than they used to, since a server that queues says so there first. The time
//! of a whole answer is no signal: it grows with the answer.
//!
//! There is no limit until a first signal: what nobody complains of needs none.

use std::time::Duration;

/// What is left of a limit after a refusal or a timeout.
const REFUSED: f64 = 0.7;
/// The same after first tokens have become slow.
const SLOW: f64 = 0.9;
/// First tokens are slow when they take this many times as long as they used to.
const SLOWER: f64 = 2.0;
/// A first token that takes less than this is not slow, in seconds: what varies below it is no queue of a model's.
const PROMPT: f64 = 0.1;
/// Slowness alone does not bring the limit below this: it may have other reasons than crowding.
const SLOW_FLOOR: f64 = 4.0;
/// Fewer calls at once than this are no crowd, where there is no limit yet.
const FEW: u32 = 3;
/// The weight of the newest first token among the recent ones.
const RECENT: f64 = 0.125;
/// The weight of the newest call in the share of late ones.
const LATEST: f64 = 1.0 / 64.0;
/// Fewer late ones than this share of the calls are no crowding: where one in twenty hangs and the others are prompt, a
/// lower limit would leave the places to those that hang.
const MANY_LATE: f64 = 0.25;
/// A limit below this grows by one over this many answers at the limit, not by one a round: at one call at a time every
/// other would be refused.
const SMALL: f64 = 8.0;
/// A limit that has grown past this is none.
const MOST: f64 = 10_000.0;

/// What became of a call, as far as it says something about crowding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Signal {
    /// Answered.
    Answered {
        /// Seconds to the first token, if it was streamed.
        ttft: Option<f64>,
        /// Seconds that usually takes; `None` while that is not known.
        usual: Option<f64>,
    },
    /// Refused until a time that was told.
    Crowded,
    /// Not begun in time.
    Late,
    /// Refused for too many calls, and not told until when.
    Refused,
}

/// The automaton. One per deployment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Aimd {
    limit: Option<f64>,
    /// When the limit was last lowered. Calls begun before have told what is known already.
    lowered: Duration,
    /// That was by a refusal that did not say until when.
    refused: bool,
    /// Recent times to the first token, against the usual one.
    slowness: Option<f64>,
    /// The share of recent calls that were late.
    late: f64,
}

impl Aimd {
    /// Calls that may run at once, at least 1; `None` for any number.
    pub fn limit(&self) -> Option<u32> {
        self.limit.map(|limit| limit as u32)
    }

    /// Takes in what became of a call that began at `began`, `in_flight` calls running when it ended, itself among
    /// them.
    pub fn observe(&mut self, signal: Signal, in_flight: u32, began: Duration, now: Duration) {
        match signal {
            Signal::Crowded => {
                self.lower(REFUSED, 1.0, in_flight, began, now);
            }
            Signal::Late => {
                self.late += LATEST * (1.0 - self.late);
                if self.late >= MANY_LATE {
                    self.lower(REFUSED, 1.0, in_flight, began, now);
                }
            }
            // Of a burst that was refused in part, those that still run are what it bears.
            Signal::Refused if self.refused && began < self.lowered => {
                let borne = f64::from(in_flight.saturating_sub(1).max(1));
                self.limit = self.limit.map(|limit| limit.min(borne));
            }
            Signal::Refused => {
                self.refused |= self.lower(REFUSED, 1.0, in_flight, began, now);
            }
            Signal::Answered { ttft, usual } => {
                self.late -= LATEST * self.late;
                if let (Some(ttft), Some(usual)) = (ttft, usual) {
                    let ratio = ttft / usual.max(PROMPT);
                    let before = self.slowness.unwrap_or(1.0);
                    let slowness = before + RECENT * (ratio - before);
                    self.slowness = slowness.is_finite().then_some(slowness);
                    if slowness > SLOWER {
                        self.lower(SLOW, SLOW_FLOOR, in_flight, began, now);
                        return;
                    }
                }
                // A limit that is far from reached shows nothing by being kept (half of it counts as near in Netflix's
                // concurrency-limits too, since calls of a burst end one after the other).
                if let Some(limit) = &mut self.limit
                    && 2.0 * f64::from(in_flight) >= *limit
                {
                    *limit += 1.0 / limit.max(SMALL);
                    self.limit = self.limit.filter(|limit| *limit <= MOST);
                }
            }
        }
    }

    /// Says whether it did.
    fn lower(
        &mut self,
        share: f64,
        floor: f64,
        in_flight: u32,
        began: Duration,
        now: Duration,
    ) -> bool {
        if began < self.lowered || f64::from(in_flight) < floor {
            return false;
        }
        // Few calls do not crowd anybody: it had other reasons.
        let few = self.limit.map_or(f64::from(FEW), |limit| limit / 2.0);
        if f64::from(in_flight) < few {
            return false;
        }
        let borne = f64::from(in_flight.max(1));
        let limit = self.limit.map_or(borne, |limit| limit.min(borne));
        self.limit = Some((limit * share).max(floor));
        self.lowered = now;
        self.refused = false;
        self.slowness = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const WELL: Signal = Signal::Answered {
        ttft: Some(0.1),
        usual: Some(0.1),
    };

    #[test]
    fn nothing_is_limited_before_anybody_complains() {
        let mut aimd = Aimd::default();
        for at in 0..1000 {
            aimd.observe(WELL, 500, ms(at), ms(at + 1));
        }
        assert_eq!(aimd.limit(), None);
    }

    #[test]
    fn one_burst_of_refusals_lowers_the_limit_once() {
        let mut aimd = Aimd::default();
        for _ in 0..50 {
            aimd.observe(Signal::Crowded, 100, ms(0), ms(10));
        }
        assert_eq!(aimd.limit(), Some(70));
        aimd.observe(Signal::Crowded, 70, ms(20), ms(30));
        assert_eq!(aimd.limit(), Some(49));
    }

    #[test]
    fn an_upstream_that_bears_one_at_a_time_is_seldom_asked_more() {
        let mut aimd = Aimd::default();
        let (mut refused, mut now) = (0, 0);
        aimd.observe(Signal::Refused, 3, ms(0), ms(1));
        for _ in 0..1000 {
            now += 10;
            if aimd.limit().is_some_and(|limit| limit > 1) {
                refused += 1;
                aimd.observe(Signal::Refused, 2, ms(now), ms(now + 1));
            }
            aimd.observe(WELL, 1, ms(now), ms(now + 9));
        }
        assert!((1..=250).contains(&refused), "{refused}");
    }

    #[test]
    fn one_in_twenty_that_hangs_is_no_crowding_and_most_of_them_are() {
        let mut aimd = Aimd::default();
        for at in 0..2000 {
            let signal = if at % 20 == 0 { Signal::Late } else { WELL };
            aimd.observe(signal, 100, ms(at), ms(at + 1));
        }
        assert_eq!(aimd.limit(), None);
        for at in 2000..2020 {
            aimd.observe(Signal::Late, 100, ms(at), ms(at + 1));
        }
        assert!(aimd.limit().is_some_and(|limit| limit <= 70));
    }

    #[test]
    fn of_a_burst_refused_in_part_those_that_run_on_are_the_limit() {
        let mut aimd = Aimd::default();
        for running in (21..=200).rev() {
            aimd.observe(Signal::Refused, running, ms(0), ms(1));
        }
        assert_eq!(aimd.limit(), Some(20));
        for running in (1..=20).rev() {
            aimd.observe(WELL, running, ms(0), ms(300));
        }
        assert_eq!(aimd.limit(), Some(20));
    }

    #[test]
    fn the_limit_grows_by_one_a_round_while_it_is_used_and_not_while_it_is_not() {
        let mut aimd = Aimd::default();
        aimd.observe(Signal::Crowded, 20, ms(0), ms(1));
        assert_eq!(aimd.limit(), Some(14));
        for _ in 0..100 {
            aimd.observe(WELL, 6, ms(2), ms(3));
        }
        assert_eq!(aimd.limit(), Some(14));
        for _ in 0..15 {
            aimd.observe(WELL, 14, ms(2), ms(3));
        }
        assert_eq!(aimd.limit(), Some(15));
    }

    #[test]
    fn slow_first_tokens_lower_it_but_not_below_a_few() {
        let mut aimd = Aimd::default();
        let slow = Signal::Answered {
            ttft: Some(1.0),
            usual: Some(0.1),
        };
        for at in 0..10_000 {
            aimd.observe(slow, aimd.limit().unwrap_or(64), ms(at), ms(at));
        }
        assert_eq!(aimd.limit(), Some(4));
        let mut alone = Aimd::default();
        for at in 0..100 {
            alone.observe(slow, 1, ms(at), ms(at));
        }
        assert_eq!(alone.limit(), None);
    }

    #[test]
    fn what_befalls_a_few_calls_is_no_crowding() {
        let mut aimd = Aimd::default();
        aimd.observe(Signal::Crowded, 2, ms(0), ms(1));
        assert_eq!(aimd.limit(), None);
        aimd.observe(Signal::Crowded, 100, ms(2), ms(3));
        aimd.observe(Signal::Crowded, 2, ms(4), ms(5));
        assert_eq!(aimd.limit(), Some(70));
    }

    proptest! {
        #[test]
        fn the_limit_is_at_least_one_and_never_above_what_was_borne_when_it_was_lowered(
            steps in proptest::collection::vec((0u8..5, 1u32..300, 0.0..1e9f64), 1..300),
        ) {
            let mut aimd = Aimd::default();
            for (at, (kind, in_flight, ttft)) in (0u64..).zip(steps) {
                let signal = match kind {
                    0 => Signal::Crowded,
                    1 => WELL,
                    2 => Signal::Refused,
                    3 => Signal::Late,
                    _ => Signal::Answered { ttft: Some(ttft), usual: Some(0.1) },
                };
                let before = aimd.limit();
                aimd.observe(signal, in_flight, ms(at), ms(at));
                if let Some(limit) = aimd.limit() {
                    prop_assert!(limit >= 1);
                    prop_assert!(limit <= before.map_or(in_flight, |before| (before + 1).max(in_flight)));
                }
            }
        }
    }
}
