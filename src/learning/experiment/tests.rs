use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

const NOW: Duration = Duration::from_millis(1_700_000_000_123);

fn two() -> Definition {
    Definition::new("tone", &["plain", "terse"])
}

/// Runs an experiment on coins to its end, or for `samples`.
fn run(definition: &Definition, means: &[f64], samples: u64, seed: u64) -> State {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut state = State::new(definition);
    for step in 0..samples {
        let variant = state.assign(definition, None, &format!("{seed}-{step}"));
        let reward = f64::from(u8::from(rng.random::<f64>() < means[variant]));
        if matches!(
            state.observe(definition, variant, reward, NOW),
            Observed::Stopped(_)
        ) {
            break;
        }
    }
    state
}

fn fed(definition: &Definition, rewards: &[(usize, f64, u64)]) -> State {
    let mut state = State::new(definition);
    for (variant, reward, times) in rewards {
        for _ in 0..*times {
            state.observe(definition, *variant, *reward, NOW);
        }
    }
    state
}

/// A state whose users are all assigned, and what each got.
fn settled(definition: &Definition, users: u64) -> (State, Vec<usize>) {
    let mut state = State::new(definition);
    let got = (0..users)
        .map(|user| state.assign(definition, Some(&format!("user-{user}")), ""))
        .collect();
    (state, got)
}

fn back(state: &State) -> State {
    serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap()
}

#[test]
fn equal_variants_rarely_stop() {
    let mut definition = two();
    definition.max_samples = 3_000;
    for mean in [0.5, 0.9] {
        let false_stop = |seed: &u64| {
            let stop = run(&definition, &[mean, mean], 3_000, *seed).stop();
            stop.is_some_and(|stop| stop.reason == Reason::Evidence)
        };
        let stops = (0..200).filter(false_stop).count();
        // 5 % of 200 are 10; two binomial standard deviations more are 16.
        assert!(stops <= 16, "{stops} of 200 at {mean}");
    }
}

#[test]
fn the_better_variant_wins() {
    let definition = two();
    for (means, best) in [([0.6, 0.8], 1), ([0.8, 0.6], 0)] {
        let right = |seed: &u64| {
            let stop = run(&definition, &means, 3_000, *seed).stop();
            stop.is_some_and(|stop| stop.winner == best && stop.reason == Reason::Evidence)
        };
        let right = (0..200).filter(right).count();
        assert!(right >= 190, "{right} of 200");
    }
}

#[test]
fn ten_samples_each_decide_nothing_however_far_apart() {
    let definition = two();
    let state = fed(&definition, &[(0, 0.0, 10), (1, 1.0, 10)]);
    assert_eq!(state.phase(&definition), Phase::Nursery);
    assert_eq!(state.stop(), None);
    let state = fed(&definition, &[(0, 0.0, 30), (1, 1.0, 29)]);
    assert_eq!(state.stop(), None, "thirty of each, not of one");
    let state = fed(&definition, &[(0, 0.0, 30), (1, 1.0, 30)]);
    assert_eq!(state.stop().map(|stop| stop.winner), Some(1));
}

#[test]
fn equal_rewards_are_no_certainty() {
    let mut tally = Tally::default();
    (0..30).for_each(|_| assert!(tally.observe(1.0)));
    assert!((tally.variance() - 31.0 / (32.0 * 32.0)).abs() < 1e-12);
    let (low, high) = tally.interval95();
    assert!(low < 0.9 && high == 1.0);
}

#[test]
fn what_is_no_reward_changes_nothing() {
    let definition = two();
    let mut state = fed(&definition, &[(0, 0.5, 3)]);
    let before = state.clone();
    for reward in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
        let observed = state.observe(&definition, 0, reward, NOW);
        assert_eq!(observed, Observed::Refused);
    }
    assert_eq!(
        state.observe(&definition, 2, 0.5, NOW),
        Observed::Refused,
        "no such variant"
    );
    assert_eq!(state, before);
}

#[test]
fn used_up_samples_end_it_without_evidence() {
    let mut definition = two();
    definition.max_samples = 60;
    let mut state = State::new(&definition);
    for step in 0..60_u32 {
        state.observe(
            &definition,
            (step % 2) as usize,
            f64::from(step % 4 / 2),
            NOW,
        );
    }
    assert_eq!(
        state.stop().map(|stop| stop.reason),
        Some(Reason::Exhausted)
    );
    assert_eq!(state.observe(&definition, 0, 1.0, NOW), Observed::TooLate);
    // One user alone, who keeps one variant: there is nothing to compare, but it ends.
    let state = fed(&definition, &[(1, 0.5, 60)]);
    let stop = state.stop().unwrap();
    assert_eq!((stop.winner, stop.evidence), (1, None));
    assert_eq!(back(&state).validate(), Ok(()));
}

#[test]
fn after_the_stop_everyone_gets_the_winner() {
    let definition = two();
    let mut state = fed(&definition, &[(0, 0.0, 30), (1, 1.0, 30)]);
    for user in 0..100 {
        let name = user.to_string();
        assert_eq!(state.assign(&definition, Some(&name), "d"), 1);
        assert_eq!(state.assign(&definition, None, &name), 1);
    }
    assert_eq!(state.shares(&definition), [0.0, 1.0]);
}

#[test]
fn who_has_a_variant_keeps_it_over_restarts_and_changing_shares() {
    let definition = Definition::new("tone", &["a", "b", "c"]);
    let (mut state, got) = settled(&definition, 3_000);
    for (variant, good) in [(0, 19), (1, 17), (2, 3)] {
        for step in 0..35 {
            let reward = f64::from(u8::from(step < good));
            state.observe(&definition, variant, reward, NOW);
        }
        state = back(&state);
        for (user, variant) in got.iter().enumerate() {
            let name = format!("user-{user}");
            assert_eq!(state.assign(&definition, Some(&name), "other"), *variant);
        }
    }
    let shares = state.shares(&definition);
    assert_eq!(state.phase(&definition), Phase::Running);
    assert!(shares[2] < 0.1, "a newcomer's draw has changed: {shares:?}");
    let even = got.iter().filter(|variant| **variant == 0).count();
    assert!((800..1_200).contains(&even), "a third of 3,000, not {even}");
}

#[test]
fn a_new_variant_opens_it_again_and_a_dropped_loser_does_not() {
    let definition = two();
    let mut state = fed(&definition, &[(0, 0.0, 30), (1, 1.0, 30)]);
    let mut wider = Definition::new("tone", &["terse", "new", "plain"]);
    wider.max_samples = 90;
    assert!(state.reconcile(&wider));
    assert_eq!(state.phase(&wider), Phase::Nursery);
    assert_eq!(
        state.tallies().iter().map(Tally::n).collect::<Vec<_>>(),
        [30, 0, 30]
    );
    assert_eq!(
        state.observe(&wider, 1, 1.0, NOW),
        Observed::Counted,
        "earlier samples do not use up the new ones"
    );

    let three = Definition::new("tone", &["a", "b", "c"]);
    let rewards = [(0, 0.0, 30), (1, 0.0, 30), (2, 1.0, 30)];
    let mut state = fed(&three, &rewards);
    assert!(state.stop().is_some());
    let two = Definition::new("tone", &["c", "a"]);
    assert!(!state.reconcile(&two));
    assert_eq!(
        state.stop().map(|stop| stop.winner),
        Some(0),
        "now the first"
    );
    assert_eq!(back(&state).validate(), Ok(()));

    let mut changed = two.clone();
    changed.variants[0].fingerprint ^= 1;
    assert!(
        state.reconcile(&changed),
        "another prompt under the old name"
    );
    assert_eq!(state.tallies()[0].n(), 0);
}

#[test]
fn a_new_variant_takes_its_part_and_moves_nobody_else() {
    let definition = two();
    let (mut state, before) = settled(&definition, 3_000);
    let wider = Definition::new("tone", &["plain", "new", "terse"]);
    assert!(!state.reconcile(&wider), "it had not stopped");
    let mut moved = 0;
    for (user, old) in before.iter().enumerate() {
        let now = state.assign(&wider, Some(&format!("user-{user}")), "");
        let same = [0, 2][*old];
        assert!(now == same || now == 1);
        moved += usize::from(now == 1);
    }
    assert!(
        (800..1_200).contains(&moved),
        "a third of 3,000, not {moved}"
    );
}

#[test]
fn more_keys_than_slots_still_keep_theirs() {
    let (mut state, got) = settled(&two(), 60_000);
    for (user, variant) in got.iter().enumerate() {
        let name = format!("user-{user}");
        assert_eq!(state.assign(&two(), Some(&name), ""), *variant);
    }
    assert!(serde_json::to_string(&state).unwrap().len() < 25_000);
}

#[test]
fn two_variants_share_by_their_spread_and_far_ones_get_the_minimum() {
    let mut definition = two();
    let tally = |zeros: u32, ones: u32| {
        let mut tally = Tally::default();
        (0..zeros).for_each(|_| assert!(tally.observe(0.0)));
        (0..ones).for_each(|_| assert!(tally.observe(1.0)));
        tally
    };
    let tallies = [tally(500, 500), tally(100, 900)];
    for variant in &mut definition.variants {
        variant.min_share = 0.0;
    }
    let spread = |tally: &Tally| tally.variance().sqrt();
    let wanted = spread(&tallies[0]) / (spread(&tallies[0]) + spread(&tallies[1]));
    let found = shares::shares(&definition, &tallies);
    assert!((found[0] - wanted).abs() < 1e-6, "{found:?}, not {wanted}");

    let definition = Definition::new("far", &["a", "b", "c"]);
    let found = shares::shares(
        &definition,
        &[tally(200, 800), tally(250, 750), tally(900, 100)],
    );
    assert!(
        found[2] < 0.06 && found[0] > 0.4 && found[1] > 0.4,
        "{found:?}"
    );
}

#[test]
fn the_shares_are_the_best_there_are() {
    let definition = Definition::new("best", &["a", "b", "c"]);
    let mut tallies = [Tally::default(); 3];
    for (tally, ones) in tallies.iter_mut().zip([80, 70, 60]) {
        (0..100).for_each(|step| assert!(tally.observe(f64::from(u8::from(step < ones)))));
    }
    let worth = |shares: &[f64]| {
        let part = |c: usize| {
            let apart = tallies[0].mean() - tallies[c].mean();
            let spread = tallies[0].variance() / shares[0] + tallies[c].variance() / shares[c];
            apart * apart / spread
        };
        part(1).min(part(2))
    };
    let mut definition = definition;
    for variant in &mut definition.variants {
        variant.min_share = 0.0;
    }
    let found = worth(&shares::shares(&definition, &tallies));
    for first in 1..100 {
        for second in 1..(100 - first) {
            let other = [first, second, 100 - first - second].map(|part| f64::from(part) / 100.0);
            assert!(found >= worth(&other) - 1e-9, "{other:?} is better");
        }
    }
}

#[test]
fn ties_go_to_the_surer_mean_then_to_the_first() {
    let mut few = Tally::default();
    let mut many = Tally::default();
    (0..10).for_each(|step| assert!(few.observe(f64::from(step % 2))));
    (0..40).for_each(|step| assert!(many.observe(f64::from(step % 2))));
    assert_eq!(stopping::leader(&[few, many]), Some(1));
    assert_eq!(stopping::leader(&[few, few]), Some(0));
    assert_eq!(stopping::leader(&[]), None);
    assert_eq!(stopping::evidence(&[few], 0.05, 0.0), None);
    assert_eq!(
        stopping::evidence(&[few, Tally::default()], 0.05, 0.0),
        None
    );
    let tie = stopping::evidence(&[few, many], 0.05, 0.0).unwrap();
    assert_eq!((tie.ratio, tie.suffices()), (0.0, false));
    let good_enough = stopping::evidence(&[many, many], 0.05, 0.4).unwrap();
    assert!(good_enough.ratio > 0.0);
}

#[test]
fn an_outsider_cannot_be_judged_on_anothers_state() {
    let mut state = State::new(&two());
    let other = Definition::new("tone", &["x", "y", "z"]);
    assert_eq!(state.observe(&other, 0, 1.0, NOW), Observed::Refused);
    assert!(state.assign(&other, Some("u"), "") < 3);
    assert_eq!(state, State::new(&two()));
}

#[test]
fn damage_is_noticed() {
    let state = fed(&two(), &[(0, 0.0, 30), (1, 1.0, 30)]);
    let sound = serde_json::to_string(&state).unwrap();
    let damages = [
        ("\"n\":30", "\"n\":3"),
        ("\"mean\":1.0", "\"mean\":1.5"),
        ("\"m2\":0.0", "\"m2\":7.0"),
        ("\"winner\":1", "\"winner\":2"),
        ("\"challenger\":0", "\"challenger\":9"),
        ("\"before\":0", "\"before\":99"),
        ("\"name\":\"terse\"", "\"name\":\"plain\""),
        ("\"slots\":\"\"", "\"slots\":\"z\""),
        ("\"slots\":\"\"", "\"slots\":\"99999999999999999999\""),
        ("\"slots\":\"\"", "\"slots\":\"16383é\""),
        ("\"slots\":\"\"", "\"slots\":\"16383c\""),
        ("\"ratio\":", "\"ratio\":-"),
    ];
    for (from, to) in damages {
        let damaged = sound.replacen(from, to, 1);
        assert_ne!(damaged, sound, "{from}");
        let noticed = serde_json::from_str::<State>(&damaged)
            .map_err(|error| error.to_string())
            .and_then(|state| state.validate());
        // Fewer rewards than there were are possible with a stop that has its own evidence.
        assert!(noticed.is_err() || from == "\"n\":30", "{from} to {to}");
    }
}

#[test]
fn the_report_says_what_a_reader_needs() {
    let definition = two();
    let (mut state, _) = settled(&definition, 50);
    let fresh = serde_json::to_value(Report::of(&definition, &state)).unwrap();
    assert_eq!(fresh["phase"], "nursery");
    assert_eq!(fresh["variants"][0]["mean"], serde_json::Value::Null);
    assert_eq!(fresh["variants"][0]["share"], 0.5);
    assert_eq!(fresh.get("evidence"), None);
    for _ in 0..30 {
        state.observe(&definition, 0, 0.0, NOW);
        state.observe(&definition, 1, 1.0, NOW);
    }
    let shown = serde_json::to_value(Report::of(&definition, &state)).unwrap();
    assert_eq!(shown["winner"], "terse");
    assert_eq!(shown["reason"], "evidence");
    assert_eq!(shown["stopped_at_ms"], 1_700_000_000_123_u64);
    assert!(shown["evidence"]["ratio"].as_f64() > shown["evidence"]["threshold"].as_f64());
    assert_eq!(shown["variants"][1]["n"], 30);
}

#[test]
fn a_key_is_whose_variant_a_query_takes() {
    assert_eq!(Sticky::User.key("ann", Some("s")), Some("ann"));
    assert_eq!(Sticky::Session.key("ann", Some("s")), Some("s"));
    assert_eq!(Sticky::Session.key("ann", None), None);
    assert_eq!(Sticky::None.key("ann", Some("s")), None);
    assert_ne!(digest(&["ab", ""]), digest(&["a", "b"]));
    assert_eq!(
        digest(&["tone", "ann"]),
        17_572_172_612_754_392_792,
        "the same for ever"
    );
}

proptest! {
    #[test]
    fn shares_are_shares(
        rewards in prop::collection::vec((0_usize..5, 0.0..=1.0_f64, 0_u64..80), 0..12),
        minimum in 0.0..=0.2_f64,
    ) {
        let mut definition = Definition::new("p", &["a", "b", "c", "d", "e"]);
        for variant in &mut definition.variants {
            variant.min_share = minimum;
        }
        let state = fed(&definition, &rewards);
        let shares = shares::shares(&definition, &state.tallies());
        prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
        prop_assert!(shares.iter().all(|share| *share >= minimum - 1e-12), "{shares:?}");
        prop_assert_eq!(state.validate(), Ok(()));
        prop_assert_eq!(&back(&state), &state);
    }

    #[test]
    fn smoothing_coins_is_betas_smoothing(zeros in 0_u32..200, ones in 0_u32..200) {
        let mut tally = Tally::default();
        (0..zeros).for_each(|_| { tally.observe(0.0); });
        (0..ones).for_each(|_| { tally.observe(1.0); });
        let (n, s) = (f64::from(zeros + ones), f64::from(ones));
        let beta = (s + 1.0) * (n - s + 1.0) / ((n + 2.0) * (n + 2.0));
        prop_assert!((tally.variance() - beta).abs() < 1e-9);
        let (low, high) = tally.interval95();
        prop_assert!(0.0 <= low && low <= tally.mean() && tally.mean() <= high && high <= 1.0);
    }

    #[test]
    fn the_choice_is_a_function_of_state_and_key(key in ".{0,20}", decision in ".{0,20}") {
        let definition = two();
        let (mut state, _) = settled(&definition, 20);
        for key in [Some(key.as_str()), None] {
            let seen = state.preview(&definition, key, &decision);
            prop_assert_eq!(back(&state).assign(&definition, key, &decision), seen);
            prop_assert_eq!(state.assign(&definition, key, &decision), seen);
        }
    }

    #[test]
    fn no_text_of_slots_makes_it_panic(text in "[a-z0-9é]{0,40}") {
        if let Ok(slots) = slots::Slots::try_from(text) {
            prop_assert_eq!(slots::Slots::try_from(String::from(slots.clone())), Ok(slots));
        }
    }
}
