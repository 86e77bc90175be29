use proptest::prelude::*;

use super::*;

fn seen(kind: usize, reward: f64, step: u64) -> Observation {
    Observation {
        kind: Some(kind),
        cluster: None,
        reward,
        weight: 1.0,
        expected: Some(0.8),
        step,
    }
}

#[test]
fn a_model_that_falls_is_noticed_and_keeps_only_what_came_after() {
    let mut ability = Ability::default();
    for step in 0..400 {
        let reward = f64::from(u8::from(step % 5 != 0));
        assert_eq!(ability.observe(seen(1, reward, step)), Ok(Outcome::Counted));
    }
    let noticed = (400..440).find(|step| {
        let reward = f64::from(u8::from(step % 3 == 0));
        matches!(
            ability.observe(seen(1, reward, *step)),
            Ok(Outcome::Changed { .. })
        )
    });
    assert!(noticed.is_some_and(|step| step < 430), "{noticed:?}");
    assert!(ability.evidence() < 40.0 && ability.is_unsettled() && ability.changes() == 1);
    assert!(
        ability.mean().is_some_and(|mean| mean < 0.6),
        "{:?}",
        ability.mean()
    );
}

#[test]
fn what_has_fallen_is_forgotten_sooner_and_so_is_tried_again() {
    let mut ability = Ability::default();
    for step in 0..100 {
        let _ = ability.observe(seen(1, 1.0, step));
    }
    let steady = ability.keep(1_100);
    for step in 100..130 {
        let _ = ability.observe(seen(1, 0.0, step));
    }
    assert!(ability.changes() >= 1);
    let mut fallen = ability;
    fallen.unsettled = true;
    assert!(steady > 0.9 && fallen.keep(1_130) < 0.05);
}

#[test]
fn without_an_expectation_no_change_is_noticed() {
    let mut ability = Ability::default();
    for step in 0..200 {
        let reward = if step < 100 { 1.0 } else { 0.0 };
        let observation = Observation {
            expected: None,
            ..seen(3, reward, step)
        };
        assert_eq!(ability.observe(observation), Ok(Outcome::Counted));
    }
}

#[test]
fn what_is_out_of_range_is_refused_and_changes_nothing() {
    let mut ability = Ability::default();
    let _ = ability.observe(seen(1, 1.0, 5));
    let before = ability;
    for bad in [f64::NAN, -0.1, f64::INFINITY, 11.0] {
        assert!(
            ability
                .observe(Observation {
                    reward: bad,
                    ..seen(1, 1.0, 9)
                })
                .is_err()
        );
        assert!(
            ability
                .observe(Observation {
                    weight: bad,
                    ..seen(1, 1.0, 9)
                })
                .is_err()
        );
        let expected = Some(bad);
        assert!(
            ability
                .observe(Observation {
                    expected,
                    ..seen(1, 1.0, 9)
                })
                .is_err()
        );
    }
    assert_eq!(ability, before);
}

#[test]
fn impossible_states_are_refused() {
    let good = Ability::default();
    for weight in [f64::NAN, -1.0, f64::INFINITY, 1e9] {
        let mut bad = good;
        bad.rows[2].weight = weight;
        assert!(bad.validate().is_err());
        let mut bad = good;
        bad.clusters[2].sum.weight = weight;
        assert!(bad.validate().is_err());
    }
    let mut bad = good;
    bad.rows[0] = Sum {
        weight: 1.0,
        reward: 2.0,
    };
    assert!(bad.validate().is_err());
    let mut bad = good;
    bad.clusters[0].row = 200;
    assert!(bad.validate().is_err());
}

fn observation() -> impl Strategy<Value = Observation> {
    (
        0..20usize,
        any::<Option<u64>>(),
        0.0..=1.0f64,
        0.0..=10.0f64,
        0.0..=1.0f64,
        any::<u64>(),
    )
        .prop_map(
            |(kind, cluster, reward, weight, expected, step)| Observation {
                kind: Some(kind),
                cluster,
                reward,
                weight,
                expected: (step % 3 != 0).then_some(expected),
                step: step >> (step % 60),
            },
        )
}

proptest! {
    #[test]
    fn any_stream_leaves_a_valid_state_that_comes_back_from_disk(
        stream in proptest::collection::vec(observation(), 0..300)
    ) {
        let mut ability = Ability::default();
        for seen in stream {
            prop_assert!(ability.observe(seen).is_ok());
            prop_assert_eq!(ability.validate(), Ok(()));
        }
        let text = serde_json::to_string(&ability).unwrap_or_default();
        let back = serde_json::from_str(&text).unwrap_or_else(|_| Ability::default());
        prop_assert_eq!(back.validate(), Ok(()));
        prop_assert!((back.evidence() - ability.evidence()).abs() < 1e-6);
    }

    #[test]
    fn clusters_never_outweigh_their_kind(
        keys in proptest::collection::vec(0..40u64, 1..300)
    ) {
        let mut ability = Ability::default();
        for (step, key) in (0..).zip(keys) {
            let _ = ability.observe(Observation { cluster: Some(key), ..seen(1, 1.0, step) });
        }
        let clusters: f64 = ability.clusters.iter().map(|c| c.sum.weight).sum();
        prop_assert!(clusters <= ability.rows[1].weight * 1.000_001);
    }
}
