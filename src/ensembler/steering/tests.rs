use std::collections::BTreeMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::strategy::Strategy as _;

use super::*;
use crate::config::Aim;
use crate::ensembler::merge::Strategy;
use crate::learning::votes::{Ballot, History, Round, Said, Settings, Truth, fit};
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

/// What was learned from rounds of three members, the first right more often than the others, and at less length.
static LEARNED: LazyLock<Vec<Arc<Course>>> = LazyLock::new(|| {
    let course = |ability: u64| {
        let mut history = History::default();
        let members: Vec<u16> = (0..3)
            .map(|at| history.member(&format!("{at}/m")))
            .collect();
        for number in 0u64..120 {
            let says = |at: u64| {
                let draw = blake3::hash(&[number as u8, at as u8]).as_bytes()[0];
                let right = u64::from(draw) < if at == 0 { ability } else { 140 };
                let length = if right { 40.0 } else { 90.0 };
                Said::Answer {
                    cluster: if right { 0 } else { 1 + draw % 3 },
                    tokens: Some(length + f32::from(draw % 16)),
                }
            };
            let ballots = (0u64..).zip(&members).map(|(at, member)| Ballot {
                member: *member,
                said: if number % 11 == at {
                    Said::Nothing
                } else {
                    says(at)
                },
            });
            let round = Round {
                ballots: ballots.collect(),
                prompt_tokens: Some(10.0),
                truth: Truth::Cluster(0),
                ..Round::default()
            };
            history.push(round).unwrap();
        }
        Arc::new(Course {
            model: fit(&history, &[], &Settings::default()),
            tuned: None,
            framing: 0.0,
            outputs: BTreeMap::new(),
            digest: String::new(),
        })
    };
    [130, 180, 230, 250].map(course).to_vec()
});

proptest! {
    /// Who is streamed because nobody else will be worth asking, is the only one who would have been asked.
    #[test]
    fn who_is_alone_is_alone_whatever_it_says(
        merge in prop::sample::select(vec![Strategy::Adaptive, Strategy::Cascade]),
        learned in prop::option::of(0usize..4),
        worth in (-2.0f64..5.0).prop_map(|power| 10f64.powf(power)),
        members in 1usize..=3,
        tokens in prop::option::of((0.0f64..14.0).prop_map(|power| power.exp() as u32)),
        text in prop::sample::select(vec!["Paris", "42", "I don't know", "I cannot help with that."]),
    ) {
        let query = query();
        let plan = EnsemblePlan {
            aim: Some(Aim::Worth(worth)),
            stop: 1.0,
            ..plan(merge, members, 1, 1)
        };
        let course = learned.map(|at| &LEARNED[at]);
        let steering = Steering::new(&plan, &query, course);
        let open: Vec<usize> = (0..members).collect();
        let Step::Ask(first) = steering.step(&progress(&open, &[], &[], 0)) else {
            panic!("somebody is asked");
        };
        let is_alone = steering.may_stream(&open, &[], &first);
        let heard = [Heard { tokens, ..says(first[0], text) }];
        let then = steering.step(&progress(&open, &first, &heard, 0));
        if is_alone {
            prop_assert!(matches!(then, Step::Stop(_)), "{:?}", then);
        }
        // Less than a call is worth is never worth a second; and with nobody else there is none.
        prop_assert!(is_alone || worth >= 0.8 && members > 1);
        prop_assert!(!is_alone || worth <= 1000.0 || members == 1);
    }
}
