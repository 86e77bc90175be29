use proptest::prelude::*;

use super::*;

const CONFIG: BreakerConfig = BreakerConfig {
    window: Duration::from_secs(60),
    min_calls: 10,
    failure_ratio: 0.5,
    open_for: Duration::from_secs(30),
    open_max: Duration::from_secs(300),
    jitter: 0.2,
    probes: 2,
    probe_deadline: Duration::from_secs(30),
};
const MIDDLE: f64 = 0.5;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn call(breaker: &mut Breaker, verdict: Verdict, now: Duration) -> Option<Transition> {
    let ticket = breaker.admit(&CONFIG, now).expect("admitted");
    breaker.record(&CONFIG, ticket, verdict, now, MIDDLE)
}

fn tripped(now: Duration) -> Breaker {
    let mut breaker = Breaker::new();
    for _ in 0..10 {
        call(&mut breaker, Verdict::Failure, now);
    }
    assert_eq!(breaker.state(now), BreakerState::Open);
    breaker
}

fn rest(breaker: &mut Breaker, now: Duration) -> Duration {
    breaker
        .admit(&CONFIG, now)
        .expect_err("rejected")
        .retry_after
}

#[test]
fn the_defaults_are_the_documented_ones() {
    assert_eq!(BreakerConfig::default(), CONFIG);
}

#[test]
fn ten_failures_in_a_row_trip_and_nine_never_do() {
    let mut breaker = Breaker::new();
    for _ in 0..9 {
        assert_eq!(call(&mut breaker, Verdict::Failure, secs(1)), None);
    }
    let trip = call(&mut breaker, Verdict::Failure, secs(1));
    let expected = Transition {
        from: BreakerState::Closed,
        to: BreakerState::Open,
        reason: Some(TripReason::InARow),
    };
    assert_eq!(trip, Some(expected));
    assert_eq!(rest(&mut breaker, secs(1)), secs(30));
    assert_eq!(rest(&mut breaker, secs(21)), secs(10));
    assert_eq!(breaker.failure_rate(secs(1)), 1.0);
    assert_eq!(breaker.calls(secs(1)), 10);
}

#[test]
fn half_of_fifty_calls_failing_trips_whatever_their_order() {
    let mut breaker = Breaker::new();
    let mut trips = (0..50).filter_map(|n| {
        let verdict = if n % 2 == 0 {
            Verdict::Success
        } else {
            Verdict::Failure
        };
        call(&mut breaker, verdict, secs(1)).map(|step| (n, step.reason))
    });
    assert_eq!(trips.next(), Some((49, Some(TripReason::FailureRatio))));
}

#[test]
fn five_calls_in_a_row_that_reach_nobody_trip_however_well_the_last_minute_went() {
    let mut breaker = Breaker::new();
    for _ in 0..1000 {
        call(&mut breaker, Verdict::Success, secs(1));
    }
    for _ in 0..4 {
        assert_eq!(call(&mut breaker, Verdict::Unreachable, secs(2)), None);
    }
    call(&mut breaker, Verdict::Success, secs(2));
    for _ in 0..4 {
        assert_eq!(call(&mut breaker, Verdict::Unreachable, secs(2)), None);
    }
    let trip = call(&mut breaker, Verdict::Unreachable, secs(2)).expect("tripped");
    assert_eq!(trip.reason, Some(TripReason::InARow));
}

#[test]
fn calls_that_hung_while_others_went_well_are_no_failures_in_a_row() {
    let mut breaker = Breaker::new();
    let hung: Vec<Ticket> = (0..20)
        .map(|_| breaker.admit(&CONFIG, secs(1)).expect("admitted"))
        .collect();
    call(&mut breaker, Verdict::Success, secs(5));
    for ticket in hung {
        assert_eq!(
            breaker.record(&CONFIG, ticket, Verdict::Unreachable, secs(11), MIDDLE),
            None
        );
    }
    assert_eq!(breaker.state(secs(11)), BreakerState::Closed);
}

#[test]
fn an_open_time_can_be_ended_and_a_closed_breaker_does_not_mind() {
    let mut breaker = tripped(secs(1));
    breaker.hasten(secs(3));
    assert_eq!(breaker.state(secs(3)), BreakerState::HalfOpen);
    assert_eq!(
        call(&mut breaker, Verdict::Success, secs(3)).map(|step| step.to),
        Some(BreakerState::Closed)
    );
    breaker.hasten(secs(4));
    assert_eq!(breaker.state(secs(4)), BreakerState::Closed);
}

#[test]
fn whom_nobody_else_can_serve_is_a_probe_once_a_second_and_success_closes() {
    let mut breaker = tripped(secs(0));
    let refused = breaker.admit_alone(&CONFIG, Duration::from_millis(400));
    let wait = Duration::from_millis(600);
    assert_eq!(refused, Err(Rejected { retry_after: wait }));
    let probe = breaker.admit_alone(&CONFIG, secs(1)).expect("early");
    assert!(probe.is_probe());
    let close = breaker.record(&CONFIG, probe, Verdict::Success, secs(1), MIDDLE);
    assert_eq!(close.map(|t| t.to), Some(BreakerState::Closed));
}

#[test]
fn early_probes_that_fail_make_the_open_time_no_longer() {
    let mut breaker = tripped(secs(0));
    for now in 1..100 {
        let now = secs(now);
        let probe = breaker.admit_alone(&CONFIG, now).expect("one a second");
        assert!(breaker.admit_alone(&CONFIG, now).is_ok(), "the second slot");
        assert!(breaker.admit_alone(&CONFIG, now).is_err());
        breaker.record(&CONFIG, probe, Verdict::Failure, now, MIDDLE);
        assert_eq!(rest(&mut breaker, now), secs(30));
    }
}

#[test]
fn silent_probes_do_not_keep_the_next_early_one_out() {
    let mut breaker = tripped(secs(0));
    for out in 0..2 {
        assert!(breaker.admit_alone(&CONFIG, secs(1)).is_ok());
        assert_eq!(breaker.probes_out(), out + 1);
    }
    for now in 2..8 {
        assert!(breaker.admit_alone(&CONFIG, secs(now)).is_ok());
        assert!(breaker.admit_alone(&CONFIG, secs(now)).is_err());
    }
    assert_eq!(breaker.probes_out(), MAX_PROBES);
    assert!(breaker.admit_alone(&CONFIG, secs(9)).is_err());
}

#[test]
fn fewer_failures_than_the_ratio_keep_it_closed() {
    let mut breaker = Breaker::new();
    for n in 0..100 {
        let verdict = if n % 5 < 3 {
            Verdict::Success
        } else {
            Verdict::Failure
        };
        assert_eq!(call(&mut breaker, verdict, secs(1)), None);
    }
}

#[test]
fn failures_older_than_the_window_are_forgotten() {
    let mut breaker = Breaker::new();
    for _ in 0..9 {
        call(&mut breaker, Verdict::Failure, secs(0));
    }
    assert_eq!(call(&mut breaker, Verdict::Failure, secs(60)), None);
    assert_eq!(breaker.calls(secs(60)), 1);
}

#[test]
fn neutral_results_count_as_nothing() {
    let mut breaker = Breaker::new();
    for _ in 0..100 {
        assert_eq!(call(&mut breaker, Verdict::Neutral, secs(1)), None);
    }
    assert_eq!(breaker.calls(secs(1)), 0);
}

#[test]
fn time_opens_it_half_and_the_first_probe_success_closes_it_afresh() {
    let mut breaker = tripped(secs(0));
    assert_eq!(breaker.state(secs(30)), BreakerState::HalfOpen);
    let half = breaker
        .advance(&CONFIG, secs(30))
        .expect("time half-opens it");
    assert_eq!(
        (half.from, half.to, half.reason),
        (BreakerState::Open, BreakerState::HalfOpen, None)
    );
    let first = breaker.admit(&CONFIG, secs(30)).expect("first probe");
    let second = breaker.admit(&CONFIG, secs(31)).expect("second probe");
    assert!(first.is_probe() && second.is_probe());
    assert_eq!(breaker.probes_out(), 2);
    assert_eq!(rest(&mut breaker, secs(32)), secs(28));
    let close = breaker.record(&CONFIG, second, Verdict::Success, secs(33), MIDDLE);
    assert_eq!(close.map(|t| t.to), Some(BreakerState::Closed));
    assert_eq!(breaker.calls(secs(33)), 0);
    let late = breaker.record(&CONFIG, first, Verdict::Failure, secs(34), MIDDLE);
    assert_eq!((late, breaker.calls(secs(34))), (None, 0));
}

#[test]
fn open_time_doubles_with_trips_in_a_row_up_to_the_cap() {
    let mut breaker = tripped(secs(0));
    let mut now = secs(0);
    for expected in [30, 60, 120, 240, 300, 300] {
        assert_eq!(rest(&mut breaker, now), secs(expected));
        now += secs(expected);
        let trip = call(&mut breaker, Verdict::Failure, now).expect("a failed probe trips");
        assert_eq!(trip.reason, Some(TripReason::ProbeFailed));
    }
}

#[test]
fn a_row_of_trips_survives_a_short_calm_and_ends_with_a_calm_window() {
    for (calm, expected) in [(59, 60), (60, 30)] {
        let mut breaker = tripped(secs(0));
        call(&mut breaker, Verdict::Success, secs(30));
        let again = secs(30 + calm);
        for _ in 0..10 {
            call(&mut breaker, Verdict::Failure, again);
        }
        assert_eq!(
            rest(&mut breaker, again),
            secs(expected),
            "after {calm} s closed"
        );
    }
}

#[test]
fn a_silent_probe_trips_at_its_deadline_even_if_nobody_asks_for_a_while() {
    let mut breaker = tripped(secs(0));
    let probe = breaker.admit(&CONFIG, secs(30)).expect("probe");
    assert_eq!(breaker.state(secs(59)), BreakerState::HalfOpen);
    assert_eq!(breaker.state(secs(60)), BreakerState::Open);
    assert_eq!(breaker.state(secs(119)), BreakerState::Open);
    assert_eq!(breaker.state(secs(120)), BreakerState::HalfOpen);

    let mut asked_early = breaker;
    let trip = asked_early.record(&CONFIG, probe, Verdict::Success, secs(60), MIDDLE);
    assert_eq!(
        trip.and_then(|t| t.reason),
        Some(TripReason::ProbeDeadline),
        "too late to close"
    );
    assert_eq!(rest(&mut asked_early, secs(61)), secs(59));
    assert!(breaker.admit(&CONFIG, secs(120)).is_ok());
}

#[test]
fn a_neutral_probe_gives_its_slot_back_only_once() {
    let mut breaker = tripped(secs(0));
    let first = breaker.admit(&CONFIG, secs(30)).expect("first");
    breaker.admit(&CONFIG, secs(30)).expect("second");
    breaker.record(&CONFIG, first, Verdict::Neutral, secs(31), MIDDLE);
    breaker.admit(&CONFIG, secs(31)).expect("the returned slot");
    breaker.record(&CONFIG, first, Verdict::Neutral, secs(32), MIDDLE);
    breaker.record(&CONFIG, first, Verdict::Success, secs(32), MIDDLE);
    assert_eq!(breaker.probes_out(), 2);
    assert!(breaker.admit(&CONFIG, secs(32)).is_err());
}

#[test]
fn absurd_settings_do_not_panic_or_lock_it() {
    let config = BreakerConfig {
        window: Duration::ZERO,
        min_calls: 0,
        failure_ratio: f64::NAN,
        open_for: Duration::MAX,
        open_max: Duration::MAX,
        jitter: f64::INFINITY,
        probes: 0,
        probe_deadline: Duration::ZERO,
    };
    let mut breaker = Breaker::new();
    let ticket = breaker.admit(&config, Duration::MAX).expect("closed");
    breaker.record(
        &config,
        ticket,
        Verdict::Failure,
        Duration::MAX,
        f64::NEG_INFINITY,
    );
    assert!(breaker.admit(&config, Duration::MAX).is_ok());

    let mut half_open = tripped(secs(0));
    assert!(
        half_open.admit(&config, secs(30)).is_ok(),
        "no probes means one"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Admit,
    Report(prop::sample::Index, Verdict, f64),
    Wait(u64),
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        2 => Just(Verdict::Success),
        5 => Just(Verdict::Failure),
        2 => Just(Verdict::Neutral),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Admit),
        6 => (any::<prop::sample::Index>(), verdict(), 0.0..1.0_f64)
            .prop_map(|(which, verdict, jitter)| Step::Report(which, verdict, jitter)),
        1 => (0_u64..40_000).prop_map(Step::Wait),
        2 => (0_u64..500).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_interleaving_keeps_the_laws(
        steps in prop::collection::vec(step(), 1..300),
        min_calls in 1_u32..6,
        probes in 1_usize..5,
    ) {
        let config = BreakerConfig { min_calls, probes, ..CONFIG };
        let mut breaker = Breaker::new();
        let mut now = Duration::ZERO;
        let mut out: Vec<Ticket> = Vec::new();
        // The shortest open time there can be runs from here.
        let mut opened: Option<Duration> = None;
        for step in steps {
            let before = breaker.state(now);
            match step {
                Step::Wait(millis) => now += Duration::from_millis(millis),
                Step::Admit => {
                    let mut settled = breaker;
                    while let Some(change) = settled.advance(&config, now) {
                        if change.reason == Some(TripReason::ProbeDeadline) {
                            opened = None;
                        }
                    }
                    prop_assert_eq!(settled.state(now), before);
                    match breaker.admit(&config, now) {
                        Ok(ticket) => {
                            prop_assert_ne!(before, BreakerState::Open);
                            prop_assert_eq!(ticket.is_probe(), before == BreakerState::HalfOpen);
                            if let Some(since) = opened {
                                prop_assert!(now >= since + scale(config.open_for, 0.8));
                            }
                            out.push(ticket);
                        }
                        Err(rejected) => {
                            prop_assert_ne!(before, BreakerState::Closed);
                            prop_assert!(rejected.retry_after > Duration::ZERO);
                            prop_assert!(rejected.retry_after <= config.open_max);
                        }
                    }
                    let current = out
                        .iter()
                        .filter(|t| t.is_probe() && t.generation == breaker.generation)
                        .count();
                    prop_assert!(current <= probes);
                    prop_assert_eq!(current, breaker.probes_out());
                }
                Step::Report(which, verdict, jitter) => {
                    if out.is_empty() {
                        continue;
                    }
                    let ticket = out.swap_remove(which.index(out.len()));
                    let mut timed = breaker;
                    let by_time = timed.advance(&config, now);
                    let stale = ticket.generation != timed.generation;
                    let change = breaker.record(&config, ticket, verdict, now, jitter);
                    if stale {
                        prop_assert_eq!(change, by_time);
                        prop_assert_eq!(breaker, timed);
                    }
                    match change {
                        Some(Transition { reason: Some(TripReason::ProbeDeadline), .. }) => opened = None,
                        Some(Transition { to: BreakerState::Open, .. }) => opened = Some(now),
                        Some(Transition { to: BreakerState::Closed, .. }) => {
                            prop_assert!(ticket.is_probe() && verdict == Verdict::Success);
                            opened = None;
                        }
                        _ => {}
                    }
                }
            }
        }
        // Nobody reports any more: following the advice must lead back in, through a missed deadline
        // and an open time at most.
        let mut tries = 0;
        while let Err(rejected) = breaker.admit(&config, now) {
            now += rejected.retry_after;
            tries += 1;
            prop_assert!(tries <= 2, "locked out");
        }
    }

    /// Whoever asks as the only one, however often: beyond what anybody may, one call a second passes.
    #[test]
    fn early_probes_keep_their_pace(
        waits in prop::collection::vec(0_u64..700, 1..300),
        verdicts in prop::collection::vec(verdict(), 300),
    ) {
        let mut breaker = tripped(secs(0));
        let mut now = secs(0);
        let mut last: Option<Duration> = None;
        for (wait, verdict) in waits.into_iter().zip(verdicts) {
            now += Duration::from_millis(wait);
            if breaker.state(now) == BreakerState::Closed {
                break;
            }
            let anybody = breaker.clone().admit(&CONFIG, now).is_ok();
            match breaker.admit_alone(&CONFIG, now) {
                Ok(ticket) => {
                    if !anybody {
                        prop_assert!(last.is_none_or(|last| now - last >= secs(1)));
                        last = Some(now);
                    }
                    breaker.record(&CONFIG, ticket, verdict, now, MIDDLE);
                }
                Err(rejected) => {
                    prop_assert!(!anybody);
                    prop_assert!(rejected.retry_after > Duration::ZERO);
                }
            }
        }
    }
}
