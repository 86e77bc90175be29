use proptest::prelude::{Just, any, prop_assert, prop_assert_eq, proptest};
use proptest::strategy::Strategy as Generator;

use super::*;

fn votes<'a>(texts: &[(&'a str, f64)]) -> Vec<Vote<'a>> {
    let number = |(order, &(text, quality))| Vote {
        family: None,
        vector: None,
        text,
        quality,
        order,
    };
    texts.iter().enumerate().map(number).collect()
}

#[test]
fn strategies_are_read_as_they_are_written() {
    for strategy in Strategy::ALL {
        assert_eq!(strategy.to_string().parse(), Ok(strategy));
        assert_eq!(serde_json::to_value(strategy).unwrap(), strategy.name());
    }
    let error = "vote".parse::<Strategy>().unwrap_err();
    assert_eq!(
        error,
        "'vote' is no merge strategy: first, plurality, weighted, fitted, adaptive, cascade, best, judge, synthesize"
    );
}

#[test]
fn no_votes_make_no_answer() {
    for strategy in Strategy::ALL {
        assert_eq!(merge(strategy, &[], &Form::FREE), None);
    }
    assert!(!compare::decided(&[], &Form::FREE, false, 0));
}

#[test]
fn first_takes_the_earliest_and_best_the_most_trusted() {
    let mut votes = votes(&[("a", 0.2), ("b", 0.9), ("c", 0.9)]);
    votes.rotate_left(1);
    assert_eq!(
        votes[first::merge(&votes, &Form::FREE).unwrap().winner].text,
        "a"
    );
    assert_eq!(
        votes[best::merge(&votes, &Form::FREE).unwrap().winner].text,
        "b"
    );
}

#[test]
fn plurality_counts_answers_and_speaks_through_the_best_member() {
    let votes = votes(&[
        ("Rome", 0.9),
        ("paris.", 0.3),
        ("**Paris**", 0.4),
        ("Paris", 0.4),
    ]);
    let merged = plurality::merge(&votes, &Form::FREE).unwrap();
    assert_eq!(merged.winner, 2);
    assert_eq!(
        merged.groups[0],
        Group {
            members: vec![1, 2, 3],
            weight: 3.0
        }
    );
    assert_eq!(
        merged.groups[1],
        Group {
            members: vec![0],
            weight: 1.0
        }
    );
    assert_eq!(merged.agreement, 0.75);
}

#[test]
fn a_tie_goes_to_the_higher_quality_then_to_the_earlier() {
    assert_eq!(
        plurality::merge(&votes(&[("a", 0.5), ("b", 0.6)]), &Form::FREE)
            .unwrap()
            .winner,
        1
    );
    assert_eq!(
        plurality::merge(&votes(&[("a", 0.5), ("b", 0.5)]), &Form::FREE)
            .unwrap()
            .winner,
        0
    );
    assert_eq!(
        weighted::merge(&votes(&[("a", 0.5), ("b", 0.5)]), &Form::FREE)
            .unwrap()
            .winner,
        0
    );
}

#[test]
fn one_good_member_outweighs_two_poor_ones_only_when_weighed() {
    let votes = votes(&[("a", 0.55), ("a", 0.55), ("b", 0.9)]);
    assert_eq!(plurality::merge(&votes, &Form::FREE).unwrap().winner, 0);
    let merged = weighted::merge(&votes, &Form::FREE).unwrap();
    assert_eq!(merged.winner, 2);
    // ln 9 against 2 ln (11/9): 9 / (9 + 121/81).
    assert!((merged.confidence - 9.0 / (9.0 + 121.0 / 81.0)).abs() < 1e-9);
}

#[test]
fn the_weight_is_the_log_odds_within_its_bounds() {
    assert!((weighted::weight(0.8, 2) - 4.0_f64.ln()).abs() < 1e-12);
    assert!((weighted::weight(0.5, 3) - 2.0_f64.ln()).abs() < 1e-12);
    assert!(weighted::weight(0.0, 2) >= 0.0 && weighted::weight(0.0, 2) < 1e-5);
    assert_eq!(weighted::weight(1.0, 2), weighted::weight(0.99, 2));
}

#[test]
fn a_quality_that_is_no_number_counts_as_none() {
    let votes = votes(&[("a", f64::NAN), ("b", 0.1)]);
    for strategy in [Strategy::Plurality, Strategy::Weighted, Strategy::Best] {
        assert_eq!(
            merge(strategy, &votes, &Form::FREE).unwrap().winner,
            1,
            "{strategy}"
        );
    }
}

const TEXTS: [&str; 4] = ["Paris", "Rome", "42", "{\"a\": 1}"];

fn ballot(qualities: impl Generator<Value = f64>) -> impl Generator<Value = Vec<Vote<'static>>> {
    let vote = (0..TEXTS.len(), qualities);
    proptest::collection::vec(vote, 1..12).prop_map(|given| {
        let number = |(order, (text, quality))| Vote {
            family: None,
            vector: None,
            text: TEXTS[text],
            quality,
            order,
        };
        given.into_iter().enumerate().map(number).collect()
    })
}

proptest! {
    #[test]
    fn the_order_of_the_votes_in_memory_says_nothing(
        votes in ballot(0.0f64..1.0),
        keys in proptest::collection::vec(any::<u64>(), 12),
    ) {
        let mut shuffled: Vec<(u64, Vote<'_>)> = keys.into_iter().zip(votes.clone()).collect();
        shuffled.sort_by_key(|(key, _)| *key);
        let shuffled: Vec<Vote<'_>> = shuffled.into_iter().map(|(_, vote)| vote).collect();
        for strategy in [Strategy::First, Strategy::Plurality, Strategy::Weighted, Strategy::Best] {
            let (a, b) = (merge(strategy, &votes, &Form::FREE).unwrap(), merge(strategy, &shuffled, &Form::FREE).unwrap());
            prop_assert_eq!(votes[a.winner], shuffled[b.winner], "{}", strategy);
            prop_assert_eq!(a.agreement, b.agreement);
            prop_assert!((a.confidence - b.confidence).abs() < 1e-9);
        }
    }

    #[test]
    fn among_equals_arrival_matters_only_in_a_tie(
        votes in ballot(Just(0.7)),
        keys in proptest::collection::vec(any::<u64>(), 12),
    ) {
        let mut orders: Vec<(u64, usize)> = keys.into_iter().zip(0..votes.len()).collect();
        orders.sort_unstable();
        let mut permuted = votes.clone();
        for (vote, (_, order)) in permuted.iter_mut().zip(orders) {
            vote.order = order;
        }
        for strategy in [Strategy::Plurality, Strategy::Weighted] {
            let (a, b) = (merge(strategy, &votes, &Form::FREE).unwrap(), merge(strategy, &permuted, &Form::FREE).unwrap());
            let most = a.groups[0].members.len();
            prop_assert_eq!(b.groups[0].members.len(), most);
            let tie = a.groups.iter().filter(|group| group.members.len() == most).count() > 1;
            prop_assert!(tie || votes[a.winner].text == permuted[b.winner].text);
        }
    }

    #[test]
    fn groups_partition_the_votes_and_numbers_stay_in_range(votes in ballot(0.0f64..1.0)) {
        for strategy in [Strategy::First, Strategy::Plurality, Strategy::Weighted, Strategy::Best] {
            let merged = merge(strategy, &votes, &Form::FREE).unwrap();
            let mut members: Vec<usize> =
                merged.groups.iter().flat_map(|group| group.members.iter().copied()).collect();
            members.sort_unstable();
            prop_assert_eq!(members, (0..votes.len()).collect::<Vec<_>>());
            prop_assert!(merged.groups[0].members.contains(&merged.winner));
            prop_assert!(0.0 < merged.agreement && merged.agreement <= 1.0);
            prop_assert!(0.0 < merged.confidence && merged.confidence < 1.0);
            prop_assert!(merged.groups.iter().all(|group| group.weight >= 0.0));
        }
    }

    #[test]
    fn what_is_decided_stays_decided(votes in ballot(0.0f64..1.0), arrived in 0usize..12) {
        let arrived = arrived.min(votes.len());
        let (so_far, outstanding) = votes.split_at(arrived);
        if compare::decided(so_far, &Form::FREE, false, outstanding.len()) {
            let (now, then) =
                (plurality::merge(so_far, &Form::FREE).unwrap(), plurality::merge(&votes, &Form::FREE).unwrap());
            prop_assert_eq!(now.groups[0].members[0], then.groups[0].members[0]);
        }
    }

    /// The converse: as long as it is not decided, votes for the runner-up can still draw level.
    #[test]
    fn what_is_undecided_can_still_become_a_tie(votes in ballot(Just(0.5)), outstanding in 0usize..6) {
        if !compare::decided(&votes, &Form::FREE, false, outstanding) {
            let merged = plurality::merge(&votes, &Form::FREE).unwrap();
            let runner_up = merged.groups[1..].iter().map(|group| group.members.len()).max();
            prop_assert!(runner_up.unwrap_or(0) + outstanding >= merged.groups[0].members.len());
        }
    }
}

#[test]
fn two_of_one_family_do_not_outvote_a_better_stranger() {
    let vote = |text, quality, family, order| Vote {
        text,
        quality,
        family,
        vector: None,
        order,
    };
    let related = [
        vote("A", 0.7, Some("qwen"), 0),
        vote("A", 0.7, Some("qwen"), 1),
        vote("B", 0.8, None, 2),
    ];
    let strangers = related.map(|vote| Vote {
        family: None,
        vector: None,
        ..vote
    });
    let text =
        |votes: &[Vote<'static>]| votes[weighted::merge(votes, &Form::FREE).unwrap().winner].text;
    assert_eq!(text(&strangers), "A");
    assert_eq!(text(&related), "B");
}
