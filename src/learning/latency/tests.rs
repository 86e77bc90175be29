use proptest::prelude::*;

use super::*;

fn of(samples: &[f64]) -> Decayed {
    let mut decayed = Decayed::default();
    samples.iter().for_each(|seconds| decayed.observe(*seconds));
    decayed
}

#[test]
fn nothing_seen_means_nothing_known() {
    let empty = Decayed::default();
    assert_eq!(
        (empty.mean(), empty.quantile(0.5), empty.evidence()),
        (None, None, 0.0)
    );
    assert!(empty.is_valid());
    assert_eq!(Latency::default().expected_total(Some(5)), None);
}

#[test]
fn the_buckets_grow_by_the_documented_factor() {
    assert!((growth() - 1.337).abs() < 0.001);
}

#[test]
fn what_is_no_time_is_ignored() {
    assert_eq!(of(&[f64::NAN, f64::INFINITY, -1.0]), Decayed::default());
}

#[test]
fn a_change_of_speed_is_followed_within_the_memory() {
    let mut decayed = of(&[1.0; 1_000]);
    assert!((decayed.evidence() - 200.0).abs() < 2.0);
    (0..600).for_each(|_| decayed.observe(10.0));
    assert!(decayed.mean().is_some_and(|mean| mean > 9.0));
    assert!(decayed.quantile(0.1).is_some_and(|p10| p10 > 7.0));
}

#[test]
fn damage_is_noticed() {
    let sound = of(&[0.1, 0.2, 0.4]);
    let mut negative = sound;
    negative.buckets[1][3] = -0.5;
    let mut infinite = sound;
    infinite.buckets[0][0] = f32::INFINITY;
    let mut heavy = sound;
    heavy.buckets[0][31] = 5_000.0;
    let damaged = [
        negative,
        infinite,
        heavy,
        Decayed {
            sum: f64::NAN,
            ..sound
        },
        Decayed { sum: 50.0, ..sound },
        Decayed { low: 0.5, ..sound },
        Decayed {
            high: f64::INFINITY,
            ..sound
        },
        Decayed {
            sum: 1.0,
            ..Decayed::default()
        },
    ];
    for cell in damaged {
        assert!(!cell.is_valid(), "{cell:?}");
    }
}

#[test]
fn a_damaged_cell_starts_anew_and_the_others_stay() {
    let mut latency = Latency::default();
    latency.observe(
        Some(Duration::from_secs(1)),
        Duration::from_secs(3),
        Some(21),
    );
    let sound = latency;
    assert!(latency.sanitize().is_empty());
    latency.per_token.sum = f64::NAN;
    assert_eq!(latency.sanitize(), ["latency.per_token"]);
    assert_eq!(
        latency,
        Latency {
            per_token: Decayed::default(),
            ..sound
        }
    );
}

#[test]
fn streamed_calls_tell_first_token_from_the_rest() {
    let mut latency = Latency::default();
    latency.observe(
        Some(Duration::from_secs(1)),
        Duration::from_secs(3),
        Some(21),
    );
    assert!(
        latency
            .per_token
            .mean()
            .is_some_and(|each| (each - 0.1).abs() < 1e-9)
    );
    let expected = latency.expected_total(Some(50));
    assert!(expected.is_some_and(|total| (total - 6.0).abs() < 1e-9));
    assert_eq!(latency.expected_total(None), Some(3.0));
}

#[test]
fn whole_calls_are_expected_by_their_tokens() {
    let mut latency = Latency::default();
    latency.observe(None, Duration::from_secs(4), Some(40));
    let expected = latency.expected_total(Some(10));
    assert!(expected.is_some_and(|total| (total - 1.0).abs() < 1e-9));
    latency.observe(None, Duration::from_secs(4), Some(0));
    latency.observe(
        Some(Duration::from_secs(9)),
        Duration::from_secs(4),
        Some(1),
    );
    assert!(latency.per_token.evidence() < 1.5, "nothing to divide by");
}

#[test]
fn it_comes_back_from_storage_as_it_was() {
    let mut latency = Latency::default();
    latency.observe(
        Some(Duration::from_millis(300)),
        Duration::from_secs(2),
        Some(70),
    );
    let text = serde_json::to_string(&latency).expect("serialises");
    assert_eq!(
        serde_json::from_str::<Latency>(&text).expect("reads"),
        latency
    );
}

proptest! {
    #[test]
    fn quantiles_rise_with_q_within_the_range_seen_and_any_history_is_valid(
        samples in prop::collection::vec(prop_oneof![0.0..2.0_f64, 0.0..3_000.0_f64], 1..600),
        one in 0.0..=1.0_f64,
        two in 0.0..=1.0_f64,
    ) {
        let decayed = of(&samples);
        prop_assert!(decayed.is_valid());
        let seen = samples.iter().map(|s| s.clamp(SHORTEST, LONGEST));
        let low = seen.clone().fold(f64::INFINITY, f64::min);
        let high = seen.fold(0.0, f64::max);
        let quantile = |q| decayed.quantile(q).expect("has samples");
        prop_assert!(quantile(one.min(two)) <= quantile(one.max(two)));
        prop_assert!(low <= quantile(0.0) && quantile(1.0) <= high);
        let mean = decayed.mean().expect("has samples");
        prop_assert!(low <= mean && mean <= high);
    }

    #[test]
    fn a_quantile_is_off_by_less_than_a_bucket(
        samples in prop::collection::vec(1e-4..1_000.0_f64, 1..60),
        q in 0.0..=1.0_f64,
    ) {
        let mut weighed: Vec<(f64, f64)> = samples
            .iter()
            .rev()
            .enumerate()
            .map(|(age, seconds)| (*seconds, KEEP.powi(age as i32)))
            .collect();
        weighed.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total: f64 = weighed.iter().map(|(_, weight)| weight).sum();
        let mut below = 0.0;
        let mut near = Vec::new();
        for (seconds, weight) in weighed {
            // Either neighbour is right where the target falls on the border between two samples.
            if below <= q * total + 1e-3 && below + weight >= q * total - 1e-3 {
                near.push(seconds);
            }
            below += weight;
        }
        let found = of(&samples).quantile(q).expect("has samples");
        let close = |truth: &f64| {
            let off = (found / truth).max(truth / found);
            off <= growth() + 1e-6
        };
        prop_assert!(near.iter().any(close), "{found} is far from {near:?}");
    }
}
