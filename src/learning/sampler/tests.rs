use proptest::prelude::*;

use super::super::{Ability, Member, Observation, Prior};
use super::*;

fn stake(expected: f64, sampled: f64, high: f64) -> Stake {
    Stake {
        expected,
        sampled,
        quality: expected,
        high,
    }
}

#[test]
fn the_best_sample_is_explored_within_bounds_and_the_best_known_asked_beyond() {
    let stakes = [stake(0.8, 0.8, 0.85), stake(0.7, 0.9, 0.95)];
    let bounds = Bounds {
        burst: 2.0,
        share: 0.0,
        ..Bounds::default()
    };
    let mut credit = Credit::default();
    let mut whys = Vec::new();
    for _ in 0..4 {
        let choice = choose(&stakes, bounds, &credit).unwrap_or(Choice {
            index: 9,
            why: Why::Greedy,
        });
        credit.note(choice.why, bounds);
        whys.push((choice.index, choice.why));
    }
    assert_eq!(
        whys,
        [
            (1, Why::Explored),
            (1, Why::Explored),
            (0, Why::Bounded),
            (0, Why::Bounded)
        ]
    );
}

#[test]
fn nobody_is_explored_when_told_not_to_or_below_the_floor() {
    let credit = Credit::default();
    let stakes = [stake(0.8, 0.8, 0.85), stake(0.5, 0.9, 0.6)];
    let bounded = Some(Choice {
        index: 0,
        why: Why::Bounded,
    });
    assert_eq!(choose(&stakes, Bounds::default(), &credit), bounded);
    let stakes = [stake(0.8, 0.8, 0.85), stake(0.7, 0.9, 0.95)];
    let never = Bounds {
        explore: false,
        ..Bounds::default()
    };
    assert_eq!(choose(&stakes, never, &credit), bounded);
    let greedy = [stake(0.8, 0.8, 0.85), stake(0.7, 0.6, 0.95)];
    assert_eq!(
        choose(&greedy, never, &credit),
        Some(Choice {
            index: 0,
            why: Why::Greedy
        })
    );
    assert_eq!(choose(&[], never, &credit), None);
}

#[test]
fn impossible_credit_is_refused() {
    for used in [f64::NAN, -1.0, f64::INFINITY] {
        assert!(Credit { used }.validate().is_err());
    }
}

/// Regret over a stream of queries in which two models swap their abilities in the middle; with or
/// without noticing changes and forgetting.
fn swap_regret(forgets: bool, seed: u64) -> f64 {
    let mut abilities = [Ability::default(); 2];
    let mut credit = Credit::default();
    let mut regret = 0.0;
    for at in 0..4_000u64 {
        let able = if at < 2_000 { [0.8, 0.5] } else { [0.5, 0.8] };
        let prior = Prior::default();
        let members = [0, 1].map(|i| Member::new(&abilities[i], prior));
        let draws = draw(
            &Pool::fit(&members),
            Some(0),
            None,
            unit(seed, at).to_bits(),
        );
        let stakes: Vec<Stake> = draws
            .iter()
            .map(|d| Stake {
                expected: d.mean,
                sampled: d.sampled,
                quality: d.mean,
                high: d.high,
            })
            .collect();
        let choice = choose(&stakes, Bounds::default(), &credit);
        let Some(Choice { index, why }) = choice else {
            continue;
        };
        credit.note(why, Bounds::default());
        regret += 0.8 - able[index];
        let _ = abilities[index].observe(Observation {
            kind: Some(0),
            cluster: None,
            reward: f64::from(u8::from(unit(seed ^ 0xABCD, at) < able[index])),
            weight: 1.0,
            expected: forgets.then_some(draws[index].mean),
            step: if forgets { at } else { 0 },
        });
    }
    regret
}

#[test]
fn after_a_swap_forgetting_has_at_most_half_the_regret_of_not_forgetting() {
    let total = |forgets| (0..10).map(|seed| swap_regret(forgets, seed)).sum::<f64>();
    let (forgetting, keeping) = (total(true), total(false));
    assert!(2.0 * forgetting <= keeping, "{forgetting} {keeping}");
}

proptest! {
    #[test]
    fn samples_are_deterministic_and_within_what_is_possible(
        rewards in proptest::collection::vec((0..4usize, 0..16usize, 0.0..=1.0f64), 0..200), seed: u64,
    ) {
        let mut abilities = [Ability::default(); 4];
        for (step, (who, kind, reward)) in (0..).zip(rewards) {
            let _ = abilities[who].observe(Observation {
                kind: Some(kind), cluster: None, reward, weight: 1.0, expected: Some(0.6), step,
            });
        }
        let prior = Prior::default();
        let members: Vec<Member<'_>> = abilities.iter().map(|ability| Member::new(ability, prior)).collect();
        let pool = Pool::fit(&members);
        let draws = draw(&pool, Some(2), None, seed);
        prop_assert_eq!(&draws, &draw(&pool, Some(2), None, seed));
        for d in draws {
            prop_assert!(0.0 <= d.low && d.low <= d.mean && d.mean <= d.high && d.high <= 1.0);
            prop_assert!((0.0..=1.0).contains(&d.sampled));
        }
    }

    #[test]
    fn no_more_is_explored_than_the_share_and_the_burst(
        samples in proptest::collection::vec((0.0..1.0f64, 0.0..1.0f64), 1..500),
        share in 0.0..0.5f64, burst in 0.0..20.0f64,
    ) {
        let bounds = Bounds { share, burst, floor: 0.0, explore: true };
        let mut credit = Credit::default();
        let mut explored = 0.0;
        let total = samples.len() as f64;
        for (a, b) in samples {
            let stakes = [stake(0.6, a, 1.0), stake(0.5, b, 1.0)];
            if let Some(choice) = choose(&stakes, bounds, &credit) {
                prop_assert_eq!(choice.index == 1, choice.why == Why::Explored);
                credit.note(choice.why, bounds);
                explored += f64::from(u8::from(choice.why == Why::Explored));
            }
        }
        prop_assert!(explored <= share * total + burst + 1e-6, "{explored}");
    }
}
