use proptest::prelude::*;

use super::*;
use crate::config::Aim;
use crate::ensembler::merge::Strategy;
use crate::router::Plan as One;

/// An ensemble of so many members of whom nothing is known.
fn plan(merge: Strategy, members: usize, wave: usize, quorum: usize) -> EnsemblePlan {
    let member = |at: usize| One {
        asked: format!("{at}/m"),
        ..One::default()
    };
    EnsemblePlan {
        members: (0..members).map(member).collect(),
        merge,
        quorum,
        deadline: None,
        key: "test".into(),
        wave,
        everyone: false,
        stop: 0.95,
        aim: None,
        prompt_tokens: 10,
        state: None,
        vectors: false,
        max_cost: None,
        judge: None,
    }
}

fn query() -> Query {
    Query::new("ensemble/test", "Which city is the capital of France?")
}

fn says(place: usize, text: &str) -> Heard<'_> {
    Heard {
        place,
        text: Some(text),
        speaks: !text.is_empty(),
        tokens: Some(10),
        input: None,
        vector: None,
    }
}

fn progress<'a>(
    open: &'a [usize],
    asked: &'a [usize],
    heard: &'a [Heard<'a>],
    late: usize,
) -> Progress<'a> {
    Progress {
        open,
        asked,
        heard,
        failed: 0,
        late,
    }
}

#[test]
fn who_is_late_is_passed_over_and_not_waited_for_once_the_quorum_is_there() {
    let query = query();
    let open = [0, 1, 2];
    for merge in [Strategy::Adaptive, Strategy::Cascade, Strategy::Fitted] {
        let plan = plan(merge, 3, 1, 1);
        let steering = Steering::new(&plan, &query, None);
        let step = |asked: &[usize], heard: &[Heard<'_>], late| {
            steering.step(&progress(&open, asked, heard, late))
        };
        assert_eq!(step(&[0], &[], 0), Step::Wait, "{merge}");
        let Step::Ask(next) = step(&[0], &[], 1) else {
            panic!("{merge}: another is asked for the one who is late");
        };
        assert_eq!(next, [1], "{merge}");
        assert_eq!(step(&[0, 1], &[], 1), Step::Wait, "{merge}");
        // Everybody was asked and nobody is there: there is nothing but to wait.
        assert_eq!(step(&[0, 1, 2], &[], 3), Step::Wait, "{merge}");
        let heard = [says(2, "Paris")];
        assert_eq!(step(&[0, 1, 2], &heard, 1), Step::Wait, "{merge}");
        assert_eq!(
            step(&[0, 1, 2], &heard, 2),
            Step::Stop(Why::Late),
            "{merge}"
        );
    }
}

#[test]
fn everyone_means_everyone_however_late() {
    let query = query();
    let plan = EnsemblePlan {
        everyone: true,
        ..plan(Strategy::Adaptive, 2, 1, 1)
    };
    let steering = Steering::new(&plan, &query, None);
    let heard = [says(1, "Paris")];
    let step = steering.step(&progress(&[0, 1], &[0, 1], &heard, 1));
    assert_eq!(step, Step::Wait);
}

#[test]
fn patience_leaves_time_for_who_comes_after() {
    let s = Duration::from_secs;
    // What its deployment is given, if that is short.
    assert_eq!(fair(s(10), s(600), None), s(10));
    // Nothing known: half of what is left, and of that half again.
    assert_eq!(fair(s(120), s(8), None), s(4));
    assert_eq!(fair(s(120), s(4), None), s(2));
    // Twice what is expected of the others, a quarter at least and half at most.
    assert_eq!(fair(s(120), s(12), Some(2.0)), s(8));
    assert_eq!(fair(s(120), s(12), Some(0.001)), s(9));
    assert_eq!(fair(s(120), s(12), Some(50.0)), s(6));
    assert_eq!(fair(s(120), s(12), Some(f64::NAN)), s(9));
    // Nobody comes after: all that the deployment is given.
    let query = query();
    let plan = plan(Strategy::Fitted, 2, 2, 1);
    let steering = Steering::new(&plan, &query, None);
    assert_eq!(steering.patience(s(120), s(8), &[]), s(120));
    assert_eq!(steering.patience(s(120), s(8), &[1]), s(4));
    let judged = EnsemblePlan {
        judge: Some(Box::default()),
        ..plan.clone()
    };
    let steering = Steering::new(&judged, &query, None);
    assert_eq!(steering.patience(s(120), s(8), &[]), s(4));
}

proptest! {
    /// Whoever answers, fails or stays silent, an ensemble ends, asks nobody twice, and waits only for somebody.
    #[test]
    fn an_ensemble_comes_to_an_end(
        merge in prop::sample::select(vec![
            Strategy::First, Strategy::Plurality, Strategy::Weighted, Strategy::Fitted, Strategy::Adaptive,
            Strategy::Cascade, Strategy::Best,
        ]),
        fates in prop::collection::vec(0usize..6, 2..6),
        wave in 1usize..6,
        quorum in 1usize..6,
        worth in prop::option::of(0.01f64..1000.0),
    ) {
        let n = fates.len();
        let plan = EnsemblePlan {
            aim: worth.map(Aim::Worth),
            ..plan(merge, n, wave, quorum.min(n))
        };
        let query = query();
        let steering = Steering::new(&plan, &query, None);
        let open: Vec<usize> = (0..n).collect();
        let (mut asked, mut heard, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        let mut late: Vec<usize> = Vec::new();
        for _ in 0..3 * n + 2 {
            let step = steering.step(&Progress {
                open: &open, asked: &asked, heard: &heard, failed: failed.len(), late: late.len(),
            });
            match step {
                Step::Ask(members) => {
                    prop_assert!(!members.is_empty());
                    for member in members {
                        prop_assert!(!asked.contains(&member));
                        asked.push(member);
                    }
                }
                Step::Wait => {
                    let waited_for = asked.iter().copied().find(|at| {
                        !heard.iter().any(|one: &Heard<'_>| one.place == *at)
                            && !failed.contains(at)
                            && !late.contains(at)
                    });
                    let Some(at) = waited_for else {
                        // Nobody but who is late, and too few are there.
                        let enough = heard.len() >= plan.quorum && heard.iter().any(|one| one.speaks);
                        prop_assert!(!late.is_empty() && asked.len() == n && !enough);
                        return Ok(());
                    };
                    match fates[at] {
                        0 => late.push(at),
                        1 => failed.push(at),
                        2 => heard.push(says(at, "I don't know")),
                        3 => heard.push(says(at, "Paris")),
                        4 => heard.push(says(at, "")),
                        _ => heard.push(says(at, "Lyon")),
                    }
                }
                Step::Stop(_) => return Ok(()),
            }
        }
        prop_assert!(false, "it goes on for ever");
    }
}
