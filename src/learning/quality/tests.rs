use proptest::prelude::*;

use super::*;

fn near(left: f64, right: f64) -> bool {
    (left - right).abs() < 1e-3
}

#[test]
fn nothing_seen_is_a_coin_of_unknown_bias() {
    let estimate = QualityTable::default().estimate(None);
    assert!(near(estimate.mean, 0.5) && estimate.low < 0.1 && estimate.high > 0.9);
    assert_eq!(estimate.evidence, 0.0);
    assert!(near(
        Quality::default().variance(Prior::default()),
        1.0 / 12.0
    ));
}

#[test]
fn an_operators_prior_is_what_holds_until_evidence_comes() {
    let prior = Prior::new(0.8, 10.0);
    let mut table = QualityTable::default();
    assert!(near(table.estimate_from(prior, None).mean, 0.8));
    assert!(near(table.estimate_from(prior, Some(3)).mean, 0.8));
    (0..300).for_each(|_| table.observe(Some(3), 0.0, 1.0).expect("in range"));
    assert!(table.estimate_from(prior, Some(3)).mean < 0.1);
}

#[test]
fn the_interval_is_wilsons() {
    // Newcombe 1998, Table I: 81 of 263 gives 0.2553 to 0.3662.
    let quality = Quality {
        alpha: 81.0,
        beta: 182.0,
    };
    let (low, high) = quality.interval95(Prior::new(0.5, 0.0));
    assert!(near(low, 0.2553) && near(high, 0.3662), "{low} {high}");
}

#[test]
fn evidence_narrows_the_interval() {
    let width = |n: f64| {
        let (low, high) = Quality { alpha: n, beta: n }.interval95(Prior::default());
        high - low
    };
    assert!(width(1.0) > width(10.0) && width(10.0) > width(100.0));
}

#[test]
fn what_is_out_of_range_is_refused_and_changes_nothing() {
    let mut table = QualityTable::default();
    table.observe(Some(1), 0.5, 1.0).expect("in range");
    let before = table;
    for (reward, weight) in [
        (f64::NAN, 1.0),
        (1.1, 1.0),
        (-0.1, 1.0),
        (f64::INFINITY, 1.0),
        (0.5, f64::NAN),
        (0.5, -1.0),
        (0.5, 10.5),
    ] {
        assert!(
            table.observe(Some(1), reward, weight).is_err(),
            "{reward} {weight}"
        );
    }
    assert_eq!(table, before);
    let error = table.observe(None, 1.5, 1.0).expect_err("too good");
    assert_eq!(
        error.to_string(),
        "reward must be a number from 0 to 1, not 1.5"
    );
}

#[test]
fn a_change_of_quality_is_followed_within_the_memory() {
    let mut table = QualityTable::default();
    (0..2_000).for_each(|_| table.observe(None, 1.0, 1.0).expect("in range"));
    assert!(table.estimate(None).mean > 0.98);
    (0..600).for_each(|_| table.observe(None, 0.0, 1.0).expect("in range"));
    assert!(table.estimate(None).mean < 0.1);
}

#[test]
fn steps_of_others_fade_evidence_towards_the_prior() {
    let mut table = QualityTable::default();
    (0..50).for_each(|_| table.observe(Some(2), 0.0, 1.0).expect("in range"));
    let known = table.estimate(Some(2));
    (0..2_000).for_each(|_| table.discount(Some(2)));
    let faded = table.estimate(Some(2));
    assert!(faded.mean > known.mean && faded.high > known.high && faded.evidence < 0.01);
    assert!(near(faded.mean, 0.5));
}

#[test]
fn a_task_leans_on_the_overall_until_it_has_evidence_of_its_own() {
    let mut table = QualityTable::default();
    (0..100).for_each(|_| table.observe(Some(0), 0.9, 1.0).expect("in range"));
    let unseen = table.estimate(Some(1));
    assert!(near(unseen.mean, table.estimate(None).mean) && unseen.evidence == 0.0);
    assert!(
        unseen.high - unseen.low > 0.3,
        "a guess from other tasks is a weak one"
    );
    (0..60).for_each(|_| table.observe(Some(1), 0.1, 1.0).expect("in range"));
    assert!(table.estimate(Some(1)).mean < 0.2);
    assert!(table.estimate(Some(0)).mean > 0.85, "tasks are told apart");
}

#[test]
fn an_unknown_task_counts_as_overall_only() {
    let mut table = QualityTable::default();
    table.observe(Some(TASKS), 1.0, 1.0).expect("in range");
    assert_eq!(table.tasks, QualityTable::default().tasks);
    assert_eq!(table.estimate(Some(usize::MAX)), table.estimate(None));
    assert!(table.estimate(None).evidence > 0.9);
}

#[test]
fn damaged_cells_start_anew_and_the_others_stay() {
    let mut table = QualityTable::default();
    table.observe(Some(1), 0.7, 1.0).expect("in range");
    assert!(table.sanitize().is_empty());
    let sound = table;
    table.tasks[3].alpha = f64::NAN;
    table.tasks[5].beta = -1.0;
    table.tasks[7].alpha = 1e9;
    table.overall.beta = f64::INFINITY;
    let names = [
        "quality.overall",
        "quality.task[3]",
        "quality.task[5]",
        "quality.task[7]",
    ];
    assert_eq!(table.sanitize(), names);
    assert_eq!(
        table,
        QualityTable {
            overall: Quality::default(),
            ..sound
        }
    );
}

#[test]
fn it_comes_back_from_storage_as_it_was() {
    let mut table = QualityTable::default();
    table.observe(Some(15), 0.3, 2.0).expect("in range");
    let text = serde_json::to_string(&table).expect("serialises");
    assert_eq!(
        serde_json::from_str::<QualityTable>(&text).expect("reads"),
        table
    );
}

proptest! {
    #[test]
    fn any_history_gives_a_mean_within_its_interval_within_0_and_1(
        history in prop::collection::vec((0.0..=1.0_f64, 0.0..=MAX_WEIGHT, 0..20_usize), 0..400),
        mean in any::<f64>(),
        strength in any::<f64>(),
        task in 0..20_usize,
    ) {
        let mut table = QualityTable::default();
        for (reward, weight, task) in history {
            table.observe(Some(task), reward, weight).expect("in range");
        }
        prop_assert!(table.sanitize().is_empty());
        for task in [None, Some(task)] {
            let estimate = table.estimate_from(Prior::new(mean, strength), task);
            prop_assert!(0.0 <= estimate.low && estimate.low <= estimate.mean);
            prop_assert!(estimate.mean <= estimate.high && estimate.high <= 1.0);
            prop_assert!(estimate.evidence >= 0.0 && estimate.evidence <= MOST_EVIDENCE);
        }
    }

    #[test]
    fn a_better_reward_never_gives_a_worse_mean(
        history in prop::collection::vec((0.0..=1.0_f64, 0.0..=MAX_WEIGHT), 0..50),
        one in 0.0..=1.0_f64,
        two in 0.0..=1.0_f64,
        weight in 0.0..=MAX_WEIGHT,
    ) {
        let mut table = QualityTable::default();
        for (reward, weight) in history {
            table.observe(Some(4), reward, weight).expect("in range");
        }
        let after = |reward: f64| {
            let mut table = table;
            table.observe(Some(4), reward, weight).expect("in range");
            table.estimate(Some(4)).mean
        };
        prop_assert!(after(one.min(two)) <= after(one.max(two)) + 1e-12);
    }
}
