use proptest::prelude::*;

use super::*;

fn of(pairs: &[(bool, f64)]) -> Vec<Outcome> {
    let outcome = |&(right, confidence)| Outcome { right, confidence };
    pairs.iter().map(outcome).collect()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

/// Worked out by hand below.
fn sample() -> Vec<Outcome> {
    of(&[
        (true, 0.9),
        (true, 0.8),
        (false, 0.8),
        (true, 0.6),
        (false, 0.3),
    ])
}

#[test]
fn three_of_five_are_sixty_per_cent() {
    let found = accuracy(&sample()).unwrap();
    assert!(close(found.percent, 60.0));
    // 100 sqrt(0.6 * 0.4 / 5)
    assert!(close(found.standard_error, 21.908_902_300_206_645));
    let scores = mean_score(&[1.0, 1.0, 0.0, 1.0, 0.0]).unwrap();
    assert!(close(scores.percent, found.percent));
    assert!(close(scores.standard_error, found.standard_error));
    // Mean 0.5, variance (0 + 0.0625 + 0.0625) / 3.
    let halves = mean_score(&[0.5, 0.25, 0.75]).unwrap();
    assert!(close(halves.percent, 50.0));
    assert!(close(
        halves.standard_error,
        100.0 * (0.125_f64 / 9.0).sqrt()
    ));
}

#[test]
fn brier_is_the_mean_square() {
    // (0.01 + 0.04 + 0.64 + 0.16 + 0.09) / 5
    assert!(close(brier(&sample()).unwrap(), 0.188));
}

#[test]
fn ece_weighs_the_distance_of_each_bin() {
    // 0.9 is in bin 13 alone, off by 0.1; both 0.8 in bin 12, off by 0.3; 0.6 in bin 9, off by 0.4; 0.3 in
    // bin 4, off by 0.3: (0.1 + 2 * 0.3 + 0.4 + 0.3) / 5.
    assert!(close(ece(&sample()).unwrap(), 0.28));
}

#[test]
fn auroc_counts_pairs_and_ties_as_half() {
    // Right 0.9 beats both wrong; 0.8 ties with 0.8 and beats 0.3; 0.6 beats 0.3: (2 + 1.5 + 1) / 6.
    assert!(close(auroc(&sample()).unwrap().unwrap(), 0.75));
    let cases: [(&[(bool, f64)], f64); 4] = [
        (&[(true, 0.9), (false, 0.1)], 1.0),
        (&[(true, 0.1), (false, 0.9)], 0.0),
        (&[(true, 0.5), (false, 0.5), (false, 0.5)], 0.5),
        (&[(true, 0.0), (false, -0.0)], 0.5),
    ];
    for (pairs, expected) in cases {
        assert_eq!(auroc(&of(pairs)).unwrap(), Some(expected), "{pairs:?}");
    }
    assert_eq!(auroc(&of(&[(true, 0.5)])).unwrap(), None);
    assert_eq!(auroc(&of(&[(false, 0.5), (false, 0.7)])).unwrap(), None);
}

#[test]
fn accuracy_at_a_coverage_shares_the_last_places_among_ties() {
    // Of five: the surest one is right; of the surest two, one is right and one half of a right one.
    for (coverage, expected) in [
        (0.2, 100.0),
        (0.4, 75.0),
        (0.6, 200.0 / 3.0),
        (0.8, 75.0),
        (1.0, 60.0),
        (0.01, 100.0),
        // Rounded up: three of five.
        (0.5, 200.0 / 3.0),
    ] {
        let found = accuracy_at(&sample(), coverage).unwrap();
        assert!(close(found, expected), "{coverage}: {found}");
    }
    // 0.7 * 10 is above 7 in binary, and still seven.
    let mut ten = vec![(true, 0.9); 7];
    ten.extend([(false, 0.1); 3]);
    assert!(close(accuracy_at(&of(&ten), 0.7).unwrap(), 100.0));
}

#[test]
fn bins_hold_their_lower_end_and_the_last_both() {
    let bins = reliability(&of(&[(true, 0.0), (false, 0.5), (true, 1.0)]), 2).unwrap();
    assert_eq!((bins[0].n, bins[0].accuracy), (1, Some(1.0)));
    assert_eq!((bins[1].n, bins[1].accuracy), (2, Some(0.5)));
    assert_eq!(bins[1].mean_confidence, Some(0.75));
    assert_eq!((bins[1].low, bins[1].high), (0.5, 1.0));
    let empty = reliability(&of(&[(true, 0.9)]), 3).unwrap()[0];
    assert_eq!(
        (empty.n, empty.accuracy, empty.mean_confidence),
        (0, None, None)
    );
}

#[test]
fn what_cannot_be_measured_is_said() {
    let nan = of(&[(true, 0.5), (false, f64::NAN)]);
    let not_finite = |error| matches!(error, MetricError::NotFinite { at: 1, .. });
    assert!(not_finite(accuracy(&nan).unwrap_err()));
    assert!(not_finite(brier(&nan).unwrap_err()));
    assert!(not_finite(ece(&nan).unwrap_err()));
    assert!(not_finite(auroc(&nan).unwrap_err()));
    assert!(not_finite(accuracy_at(&nan, 0.5).unwrap_err()));
    assert!(not_finite(summary(&nan).unwrap_err()));
    assert!(not_finite(mean_score(&[0.0, f64::INFINITY]).unwrap_err()));
    assert_eq!(summary(&[]), Err(MetricError::Empty));
    assert_eq!(mean_score(&[]), Err(MetricError::Empty));
    let beyond = MetricError::NoProbability { at: 0, value: 1.5 };
    assert_eq!(brier(&of(&[(true, 1.5)])), Err(beyond));
    assert_eq!(reliability(&sample(), 0), Err(MetricError::Bins(0)));
    assert_eq!(accuracy_at(&sample(), 0.0), Err(MetricError::Coverage(0.0)));
    assert!(accuracy_at(&sample(), f64::NAN).is_err());
}

#[test]
fn a_summary_has_the_names_results_are_printed_with() {
    let summary = serde_json::to_value(summary(&sample()).unwrap()).unwrap();
    for field in [
        "n",
        "accuracy",
        "accuracy_se",
        "brier",
        "ece",
        "auroc",
        "accuracy_at_80",
        "accuracy_at_50",
    ] {
        assert!(summary[field].is_number(), "{field}");
    }
}

fn outcomes() -> impl Strategy<Value = Vec<Outcome>> {
    // A coarse grid, so that there are ties.
    let outcome = (any::<bool>(), 0..=20_u8).prop_map(|(right, confidence)| Outcome {
        right,
        confidence: f64::from(confidence) / 20.0,
    });
    proptest::collection::vec(outcome, 1..60)
}

proptest! {
    #[test]
    fn auroc_does_not_change_under_a_rising_map(outcomes in outcomes(), scale in 0.1..9.0f64) {
        let moved: Vec<_> = outcomes
            .iter()
            .map(|outcome| Outcome { confidence: (scale * outcome.confidence).exp() - 3.0, ..*outcome })
            .collect();
        prop_assert_eq!(auroc(&outcomes).unwrap(), auroc(&moved).unwrap());
    }

    #[test]
    fn auroc_is_the_share_of_pairs_in_order(outcomes in outcomes()) {
        let (right, wrong): (Vec<Outcome>, Vec<Outcome>) = outcomes.iter().copied().partition(|outcome| outcome.right);
        let pairs = right.iter().flat_map(|r| wrong.iter().map(move |w| (r.confidence, w.confidence)));
        let won: f64 = pairs
            .map(|(r, w)| if r > w { 1.0 } else if r == w { 0.5 } else { 0.0 })
            .sum();
        match auroc(&outcomes).unwrap() {
            Some(area) => prop_assert!(close(area, won / (right.len() * wrong.len()) as f64)),
            None => prop_assert!(right.is_empty() || wrong.is_empty()),
        }
    }

    #[test]
    fn turning_the_confidences_round_turns_auroc_round(outcomes in outcomes()) {
        let turned: Vec<_> = outcomes
            .iter()
            .map(|outcome| Outcome { confidence: -outcome.confidence, ..*outcome })
            .collect();
        if let Some(area) = auroc(&outcomes).unwrap() {
            prop_assert!(close(area + auroc(&turned).unwrap().unwrap(), 1.0));
        }
    }

    #[test]
    fn ece_is_zero_when_every_bin_is_as_right_as_it_says(
        groups in proptest::collection::btree_map(1..20_usize, 1..4_usize, 1..6)
    ) {
        // Of `twenty * times` outcomes that say `share / 20`, so many are right.
        let mut outcomes = Vec::new();
        for (share, times) in groups {
            for at in 0..20 * times {
                outcomes.push(Outcome { right: at < share * times, confidence: share as f64 / 20.0 });
            }
        }
        prop_assert!(ece(&outcomes).unwrap() < 1e-9);
    }

    #[test]
    fn everything_is_within_its_range(outcomes in outcomes(), coverage in 0.001..=1.0f64) {
        let summary = summary(&outcomes).unwrap();
        for share in [summary.brier, summary.ece, summary.auroc.unwrap_or(0.5)] {
            prop_assert!((0.0..=1.0).contains(&share));
        }
        prop_assert!((0.0..=100.0 + 1e-9).contains(&accuracy_at(&outcomes, coverage).unwrap()));
        prop_assert!((0.0..=50.0).contains(&summary.accuracy_se));
    }

    #[test]
    fn full_coverage_is_the_accuracy(outcomes in outcomes()) {
        let whole = accuracy(&outcomes).unwrap().percent;
        prop_assert!(close(accuracy_at(&outcomes, 1.0).unwrap(), whole));
    }

    #[test]
    fn the_order_of_the_outcomes_does_not_matter(outcomes in outcomes(), coverage in 0.01..=1.0f64) {
        let turned: Vec<_> = outcomes.iter().rev().copied().collect();
        let (a, b) = (accuracy_at(&outcomes, coverage).unwrap(), accuracy_at(&turned, coverage).unwrap());
        prop_assert!(close(a, b));
        prop_assert_eq!(auroc(&outcomes).unwrap(), auroc(&turned).unwrap());
    }

    #[test]
    fn ece_is_no_less_than_the_distance_overall(outcomes in outcomes()) {
        let n = outcomes.len() as f64;
        let sure = outcomes.iter().map(|outcome| outcome.confidence).sum::<f64>() / n;
        let right = accuracy(&outcomes).unwrap().percent / 100.0;
        prop_assert!(ece(&outcomes).unwrap() >= (sure - right).abs() - 1e-9);
    }

    #[test]
    fn bins_hold_every_outcome_once(outcomes in outcomes(), bins in 1..50_usize) {
        let bins = reliability(&outcomes, bins).unwrap();
        prop_assert_eq!(bins.iter().map(|bin| bin.n).sum::<usize>(), outcomes.len());
    }
}
