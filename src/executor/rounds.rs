//! What comes after a round of calls that nobody answered. Pure.

use std::time::Duration;

/// Rounds of one query at most, those in which our own limits held everybody back included.
const MOST: u32 = 20;

/// What one round came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    /// Somebody was called, and not only asked for leave.
    pub called: bool,
    /// The shortest time that somebody asks us to wait who failed in a way that may pass.
    pub soonest: Option<Duration>,
    /// The same of those whom a breaker held back.
    pub unbarred: Option<Duration>,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The same ones are asked again at once, as nobody else is left.
    Alone,
    /// The same ones are asked again after a pause.
    After(Pause),
    /// The query has failed.
    End,
}

/// How long to wait before a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    /// Rounds with calls so far, from which the backoff grows.
    pub rounds: u32,
    /// What the upstreams ask for.
    pub asked: Option<Duration>,
    /// Whether the backoff comes on top of that: everybody waits for the same moment, and who comes a little later
    /// finds out what became of the first.
    pub apart: bool,
}

/// The rounds of one query.
#[derive(Debug)]
pub(super) struct Rounds {
    retries: u32,
    /// Whether nobody but these candidates can serve the query.
    sole: bool,
    /// Rounds in which somebody was called.
    called: u32,
    all: u32,
    alone: bool,
    waited: bool,
}

impl Rounds {
    /// Before the first round; `sole` says that nobody but these candidates can serve the query.
    pub fn new(retries: u32, sole: bool) -> Self {
        Self {
            retries,
            sole,
            called: 0,
            all: 0,
            alone: false,
            waited: false,
        }
    }

    /// No round is over yet.
    pub fn is_first(&self) -> bool {
        self.all == 0
    }

    /// Whether the coming round asks as one whom nobody else can serve: once that was so, it stays so.
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// One more is over.
    pub fn after(&mut self, round: Round) -> Next {
        self.all += 1;
        self.called += u32::from(round.called);
        let called = self.called.max(1);
        let pause = |asked, apart| {
            Next::After(Pause {
                rounds: called,
                asked,
                apart,
            })
        };
        if self.all >= MOST {
            return Next::End;
        }
        // Only breakers stand in the way: somebody may be a probe before its time, and whoever is not waits once to
        // see what comes of it.
        let passing = round.soonest.is_some();
        if let Some(unbarred) = round.unbarred
            && self.sole
            && !(round.called && passing)
        {
            if !std::mem::replace(&mut self.alone, true) {
                return Next::Alone;
            }
            if self.retries > 0 && !std::mem::replace(&mut self.waited, true) {
                let soonest = round
                    .soonest
                    .map_or(unbarred, |soonest| soonest.min(unbarred));
                return pause(Some(soonest), true);
            }
        }
        if passing && self.retries > 0 && self.called <= self.retries {
            pause(round.soonest, false)
        } else {
            Next::End
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FAILED: Round = Round {
        called: true,
        soonest: Some(Duration::ZERO),
        unbarred: None,
    };
    const BARRED: Round = Round {
        called: false,
        soonest: None,
        unbarred: Some(Duration::from_millis(700)),
    };

    #[test]
    fn as_many_rounds_follow_the_first_as_there_are_retries() {
        let mut rounds = Rounds::new(3, true);
        let pauses: Vec<_> = (0..4).map(|_| rounds.after(FAILED)).collect();
        let after = |rounds| {
            Next::After(Pause {
                rounds,
                asked: Some(Duration::ZERO),
                apart: false,
            })
        };
        assert_eq!(pauses, [after(1), after(2), after(3), Next::End]);
    }

    #[test]
    fn whom_only_breakers_hold_back_asks_again_alone_and_waits_once() {
        let mut rounds = Rounds::new(3, true);
        assert_eq!(rounds.after(BARRED), Next::Alone);
        assert!(rounds.is_alone());
        let pause = Pause {
            rounds: 1,
            asked: BARRED.unbarred,
            apart: true,
        };
        assert_eq!(rounds.after(BARRED), Next::After(pause));
        assert!(rounds.is_alone());
        assert_eq!(rounds.after(BARRED), Next::End);
    }

    #[test]
    fn without_retries_nobody_waits_and_who_is_not_alone_never_asks_as_such() {
        let mut rounds = Rounds::new(0, true);
        assert_eq!(rounds.after(BARRED), Next::Alone);
        assert_eq!(rounds.after(BARRED), Next::End);
        assert_eq!(Rounds::new(3, false).after(BARRED), Next::End);
    }

    #[test]
    fn while_another_fails_in_a_way_that_may_pass_the_barred_are_left_alone() {
        let mut rounds = Rounds::new(3, true);
        let mixed = Round {
            unbarred: BARRED.unbarred,
            ..FAILED
        };
        assert!(matches!(rounds.after(mixed), Next::After(_)));
        assert!(!rounds.is_alone());
    }

    #[test]
    fn a_pause_that_another_asked_for_is_waited_out_though_a_breaker_is_open_beside_it() {
        let rest = Duration::from_secs(10);
        let held = Round {
            soonest: Some(rest),
            ..BARRED
        };
        let mut rounds = Rounds::new(3, true);
        assert_eq!(rounds.after(held), Next::Alone);
        assert!(matches!(
            rounds.after(held),
            Next::After(Pause { apart: true, .. })
        ));
        let Next::After(pause) = rounds.after(held) else {
            panic!("it ends");
        };
        assert_eq!((pause.asked, pause.apart), (Some(rest), false));
    }

    fn round() -> impl Strategy<Value = Round> {
        let wait = || prop::option::of((0_u64..2000).prop_map(Duration::from_millis));
        (any::<bool>(), wait(), wait()).prop_map(|(called, soonest, unbarred)| Round {
            called,
            soonest,
            unbarred,
        })
    }

    proptest! {
        #[test]
        fn rounds_end_and_calls_stay_within_the_retries(
            all in prop::collection::vec(round(), 64),
            retries in 0_u32..=10,
            sole in any::<bool>(),
        ) {
            let mut rounds = Rounds::new(retries, sole);
            let (mut called, mut count) = (0, 0);
            for round in all {
                let alone = rounds.is_alone();
                called += u32::from(round.called);
                count += 1;
                match rounds.after(round) {
                    Next::End => break,
                    Next::Alone => prop_assert!(sole && !alone),
                    Next::After(_) => prop_assert!(retries > 0),
                }
            }
            prop_assert!(count <= MOST);
            // Probes before their time come on top: one at once, one after the wait.
            prop_assert!(called <= retries + 3, "{called} of {retries}");
        }
    }
}
