use super::fit::Settings;
use super::*;
use proptest::prelude::*;

/// Simulated voters on questions of so many answers; the truth is drawn, who errs errs at random.
struct Simulation(u64);

impl Simulation {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn answer(&mut self, answers: u8) -> u8 {
        (self.next() * f64::from(answers)) as u8
    }

    fn round(&mut self, abilities: &[f64], answers: u8) -> (Vec<u8>, u8) {
        let truth = self.answer(answers);
        let votes = abilities
            .iter()
            .map(|ability| {
                if self.next() < *ability {
                    truth
                } else {
                    (truth + 1 + self.answer(answers - 1)) % answers
                }
            })
            .collect();
        (votes, truth)
    }
}

fn vote(member: usize, cluster: u8) -> Ballot {
    Ballot {
        member: member as u16,
        said: Said::Answer {
            cluster,
            tokens: None,
        },
    }
}

fn round(votes: &[u8], options: Option<u8>) -> Round {
    Round {
        kind: None,
        ballots: votes.iter().enumerate().map(|(m, c)| vote(m, *c)).collect(),
        options,
        ..Round::default()
    }
}

const FIVE: [f64; 5] = [0.85, 0.60, 0.55, 0.55, 0.50];

fn history(abilities: &[f64], rounds: usize, marked: usize, seed: u64) -> History {
    let mut simulation = Simulation(seed);
    let mut history = History::default();
    for i in 0..abilities.len() {
        history.member(&format!("m{i}"));
    }
    for kind in ["a", "b"] {
        history.kind(kind);
    }
    for i in 0..rounds {
        let (votes, truth) = simulation.round(abilities, 4);
        let mut round = round(&votes, Some(4));
        round.kind = Some((i % 2) as u16);
        if i < marked {
            let found = votes.contains(&truth);
            round.truth = if found {
                Truth::Cluster(truth)
            } else {
                Truth::NoneOfThem
            };
        }
        for (m, ballot) in round.ballots.iter_mut().enumerate() {
            if let Said::Answer { tokens, .. } = &mut ballot.said {
                *tokens = Some((50.0 + 100.0 * simulation.next()) as f32 * (m + 1) as f32);
            }
        }
        history.push(round).unwrap();
    }
    history
}

fn fitted(marked: usize) -> Model {
    fit(&history(&FIVE, 400, marked, 5), &[], &Settings::default())
}

fn accuracy(model: &Model, seed: u64, rounds: usize) -> (f64, f64) {
    let mut simulation = Simulation(seed);
    let (mut learned, mut majority) = (0.0, 0.0);
    for _ in 0..rounds {
        let (votes, truth) = simulation.round(&FIVE, 4);
        let winner = model.posterior(&round(&votes, Some(4))).winner();
        learned += f64::from(winner.is_some_and(|(a, _)| a == truth));
        let count = |a: u8| votes.iter().filter(|v| **v == a).count();
        let most = (0..4).map(count).max().unwrap();
        let tied: Vec<u8> = (0..4).filter(|a| count(*a) == most).collect();
        majority += if tied.contains(&truth) {
            1.0 / tied.len() as f64
        } else {
            0.0
        };
    }
    (learned / rounds as f64, majority / rounds as f64)
}

#[test]
fn unmarked_votes_of_unequal_voters_beat_their_majority() {
    let model = fit(&history(&FIVE, 2_000, 0, 7), &[], &Settings::default());
    let (learned, majority) = accuracy(&model, 99, 40_000);
    assert!((majority - 0.826).abs() < 0.01, "majority {majority}");
    assert!(learned >= 0.874, "learned {learned}");
}

#[test]
fn marked_votes_do_no_worse_than_unmarked_ones() {
    let model = fit(&history(&FIVE, 2_000, 2_000, 7), &[], &Settings::default());
    let (learned, _) = accuracy(&model, 99, 40_000);
    assert!(learned >= 0.874, "learned {learned}");
}

#[test]
fn voters_of_equal_ability_lose_little_against_their_majority() {
    let equal = [0.65; 5];
    let model = fit(&history(&equal, 1_000, 0, 3), &[], &Settings::default());
    let mut simulation = Simulation(11);
    let (mut learned, mut majority) = (0.0, 0.0);
    for _ in 0..20_000 {
        let (votes, truth) = simulation.round(&equal, 4);
        let winner = model.posterior(&round(&votes, Some(4))).winner();
        learned += f64::from(winner.is_some_and(|(a, _)| a == truth));
        let count = |a: u8| votes.iter().filter(|v| **v == a).count();
        let most = (0..4).map(count).max().unwrap();
        let tied: Vec<u8> = (0..4).filter(|a| count(*a) == most).collect();
        majority += if tied.contains(&truth) {
            1.0 / tied.len() as f64
        } else {
            0.0
        };
    }
    assert!(learned >= majority - 200.0, "{learned} against {majority}");
}

#[test]
fn a_fit_is_the_same_every_time() {
    assert_eq!(fitted(300), fitted(300));
}

#[test]
fn no_history_at_all_makes_a_model_that_votes_by_declared_quality() {
    let declared = [("m0", 0.9), ("m1", 0.6), ("m2", 0.6)];
    for model in [
        Model::prior(&declared),
        fit(&History::default(), &declared, &Settings::default()),
    ] {
        assert_eq!(model.validate(), Ok(()));
        let of = |name: &str, cluster| Ballot {
            member: model.member(name),
            ..vote(0, cluster)
        };
        let split = Round {
            ballots: vec![of("m1", 0), of("m0", 1)],
            ..Round::default()
        };
        let alone = model.confidence(&Round {
            ballots: vec![of("m0", 0)],
            ..Round::default()
        });
        assert!((0.6..0.95).contains(&alone), "{alone}");
        assert!(model.confidence(&split) < alone);
        if model.member("m0") != UNKNOWN {
            assert_eq!(model.posterior(&split).winner().map(|w| w.0), Some(1));
        }
    }
}

#[test]
fn nobody_asked_yet_is_no_answer_and_somebody_is_asked() {
    let model = fitted(300);
    let empty = Round::default();
    assert_eq!(model.posterior(&empty).winner(), None);
    assert_eq!(model.confidence(&empty), 0.0);
    let candidates: Vec<Candidate> = (0..5)
        .map(|member| Candidate { member, price: 1.0 })
        .collect();
    let plan = Plan {
        worth: 100.0,
        enough: 2.0,
        depth: 2,
        climbs: false,
    };
    let Next::Ask {
        candidate, gain, ..
    } = model.next(&empty, &candidates, &plan)
    else {
        panic!("nobody is asked");
    };
    assert_eq!(candidate, 0);
    assert!((gain - 0.85).abs() < 0.1, "{gain}");
    assert_eq!(model.next(&empty, &[], &plan), Next::Stop(Stop::NobodyLeft));
    // The cheapest where nobody is worth his price; and nobody after him.
    let worthless = Plan { worth: 0.5, ..plan };
    let mut dear = candidates;
    dear[0].price = 2.0;
    dear[3].price = 0.9;
    assert!(matches!(
        model.next(&empty, &dear, &worthless),
        Next::Ask { candidate: 3, .. }
    ));
    assert_eq!(
        model.next(&round(&[0], None), &dear[1..], &worthless),
        Next::Stop(Stop::NotWorth)
    );
}

/// A vote that costs what is expected.
fn priced(expected: f64) -> Price {
    Price {
        expected,
        real: expected,
    }
}

#[test]
fn a_target_is_met_by_what_votes_came_to_and_not_by_what_was_expected() {
    let past = history(&FIVE, 400, 400, 31);
    let model = fit(&past, &[], &Settings::default());
    let plan = Plan {
        worth: 100.0,
        enough: 2.0,
        depth: 2,
        climbs: false,
    };
    let usual = model.replay(&past, &plan, |_, _| priced(1.0));
    let dear = model.replay(&past, &plan, |_, _| Price {
        expected: 1.0,
        real: 2.0,
    });
    assert_eq!((dear.calls, dear.accuracy), (usual.calls, usual.accuracy));
    assert!((dear.cost - 2.0 * usual.cost).abs() < 1e-9);
}

#[test]
fn a_target_of_a_cascade_is_met_by_the_order_in_which_a_cascade_asks() {
    let past = history(&FIVE, 800, 800, 29);
    let model = fit(&past, &[], &Settings::default());
    // The stronger, the dearer.
    let price = |_: &Round, ballot: &Ballot| priced(1.0 + f64::from(4 - ballot.member));
    let climbs = Plan {
        worth: 1e-6,
        enough: 2.0,
        depth: 2,
        climbs: true,
    };
    let alone = model.replay(&past, &climbs, price);
    assert_eq!((alone.cost, alone.calls), (1.0, 1.0));
    for cost in [2.0, 4.0, 6.0] {
        let worth = model.worth_for(&past, Target::Cost(cost), &climbs, (1e-3, 1e6), price);
        let met = model.replay(&past, &Plan { worth, ..climbs }, price);
        assert!(
            met.cost <= cost && met.cost > 0.9 * cost,
            "{met:?} for {cost}"
        );
        assert!(met.accuracy > alone.accuracy, "{met:?} for {cost}");
    }
    let worth = model.worth_for(&past, Target::Accuracy(0.8), &climbs, (1e-3, 1e6), price);
    let met = model.replay(&past, &Plan { worth, ..climbs }, price);
    assert!((0.8..0.83).contains(&met.accuracy), "{met:?}");
}

#[test]
fn a_cheaper_twin_is_preferred_and_a_target_is_met() {
    let past = history(&[0.7, 0.7, 0.7, 0.7], 600, 600, 21);
    let model = fit(&past, &[], &Settings::default());
    let plan = Plan {
        worth: 10.0,
        enough: 2.0,
        depth: 2,
        climbs: false,
    };
    let candidates = [
        Candidate {
            member: 0,
            price: 1.0,
        },
        Candidate {
            member: 1,
            price: 0.1,
        },
    ];
    assert!(matches!(
        model.next(&Round::default(), &candidates, &plan),
        Next::Ask { candidate: 1, .. }
    ));
    let price = |_: &Round, _: &Ballot| priced(1.0);
    let worth = model.worth_for(&past, Target::Cost(2.0), &plan, (1.0, 1e4), price);
    let replay = model.replay(&past, &Plan { worth, ..plan }, price);
    assert!(replay.cost <= 2.0 && replay.cost > 1.0, "{replay:?}");
}

#[test]
fn confidence_under_a_plan_is_learned_from_rounds_played_again() {
    let past = history(&FIVE, 800, 800, 21);
    let mut model = fit(&past, &[], &Settings::default());
    let plan = Plan {
        worth: 60.0,
        enough: 2.0,
        depth: 2,
        climbs: false,
    };
    let price = |_: &Round, _: &Ballot| priced(1.0);
    model.learn_plan(&past, &plan, price);
    assert_eq!(model.validate(), Ok(()));
    let unmarked = history(&FIVE, 200, 0, 21);
    let before = fit(&unmarked, &[], &Settings::default());
    let mut after = before.clone();
    after.learn_plan(&unmarked, &plan, price);
    assert_eq!(after, before, "nobody marked anything");
    let believed = model.replay(&history(&FIVE, 400, 0, 77), &plan, price);
    let real = model.replay(&history(&FIVE, 400, 400, 77), &plan, price);
    let apart = (believed.accuracy - real.accuracy).abs();
    assert!(apart < 0.06, "{believed:?} believed, {real:?} real");
}

#[test]
fn a_state_that_cannot_have_been_learned_is_refused() {
    let model = fitted(300);
    assert_eq!(model.validate(), Ok(()));
    let text = serde_json::to_string(&model).unwrap();
    let back: Model = serde_json::from_str(&text).unwrap();
    assert_eq!(back.validate(), Ok(()));
    let mut broken = model.clone();
    broken.members.push("m5".to_owned());
    assert!(broken.validate().is_err());
    let mut broken = model.clone();
    broken.members = vec!["m0".to_owned(); 5];
    assert!(broken.validate().is_err());
    let mut broken = model.clone();
    broken.logit = broken
        .logit
        .with(vec![f64::NAN; broken.logit.theta().len()]);
    assert!(broken.validate().is_err());
    let mut broken = model;
    broken.marked = broken.rounds + 1;
    assert!(broken.validate().is_err());
}

#[test]
fn a_history_refuses_what_is_no_round_and_comes_back_from_text() {
    let mut history = history(&FIVE, 10, 5, 1);
    assert!(
        history.push(round(&[0; 6], None)).is_err(),
        "a member without a name"
    );
    let mut twice = round(&[0, 1], None);
    twice.ballots[1].member = 0;
    assert!(history.push(twice).is_err());
    let mut long = round(&[0], None);
    long.prompt_tokens = Some(f32::NAN);
    assert!(history.push(long).is_err());
    let number = history.push(round(&[0, 1], None)).unwrap();
    assert!(history.mark(number, Truth::Cluster(1)));
    assert!(!history.mark(number + 1, Truth::Cluster(1)));
    let text = serde_json::to_string(&history).unwrap();
    let back: History = serde_json::from_str(&text).unwrap();
    assert_eq!(back, history);
    assert_eq!(back.validate(), Ok(()));
}

#[test]
fn a_history_forgets_its_oldest_rounds_and_keeps_their_numbers() {
    let mut history = History::default();
    history.member("a");
    for _ in 0..history::MAX_ROUNDS + 5 {
        history.push(round(&[0], None)).unwrap();
    }
    assert_eq!(history.len(), history::MAX_ROUNDS);
    assert!(!history.mark(4, Truth::Cluster(0)));
    assert!(history.mark(5, Truth::Cluster(0)));
    assert_eq!(
        history.rounds().next().map(|r| r.truth),
        Some(Truth::Cluster(0))
    );
}

fn models() -> &'static [Model] {
    static MODELS: std::sync::OnceLock<Vec<Model>> = std::sync::OnceLock::new();
    MODELS.get_or_init(|| {
        let wide = [0.8, 0.7, 0.6, 0.5, 0.3];
        let much = fit(&history(&wide, 900, 900, 13), &[], &Settings::default());
        let declared = [
            ("m0", 0.8),
            ("m1", 0.7),
            ("m2", 0.6),
            ("m3", 0.5),
            ("m4", 0.4),
        ];
        vec![Model::prior(&declared), fitted(0), fitted(60), much]
    })
}

proptest! {
    #[test]
    fn a_vote_moved_to_the_winner_never_lowers_the_confidence(
        votes in prop::collection::vec(0u8..4, 2..=5),
        kind in prop::option::of(0u16..3),
        which in 0usize..5,
    ) {
        for model in models() {
            let mut before = round(&votes, Some(4));
            before.kind = kind;
            let (winner, confidence) = model.posterior(&before).winner().unwrap();
            let mut after = before.clone();
            let place = which % votes.len();
            after.ballots[place] = vote(place, winner);
            let (still, more) = model.posterior(&after).winner().unwrap();
            prop_assert_eq!(still, winner);
            prop_assert!(more >= confidence - 1e-9, "{} from {}", more, confidence);
        }
    }

    #[test]
    fn a_vote_more_for_the_winner_never_lowers_its_belief(
        votes in prop::collection::vec(0u8..4, 1..=4),
        kind in prop::option::of(0u16..3),
    ) {
        for model in models() {
            let mut before = round(&votes, Some(4));
            before.kind = kind;
            let (winner, _) = model.posterior(&before).winner().unwrap();
            let mut after = before.clone();
            after.ballots.push(vote(votes.len(), winner));
            let belief = |round: &Round| {
                let (case, names) = model.lengths.case(round);
                let place = names.iter().position(|n| *n == winner).unwrap();
                model.beliefs(&case)[place]
            };
            prop_assert!(belief(&after) >= belief(&before) - 1e-9);
            prop_assert_eq!(model.posterior(&after).winner().unwrap().0, winner);
        }
    }

    #[test]
    fn order_of_arrival_and_names_of_answers_change_nothing(
        votes in prop::collection::vec(0u8..4, 1..=5),
        shift in 0usize..5,
    ) {
        for model in models() {
            let one = round(&votes, Some(4));
            let mut other = one.clone();
            other.ballots.rotate_left(shift % votes.len());
            for ballot in &mut other.ballots {
                if let Said::Answer { cluster, .. } = &mut ballot.said {
                    *cluster += 100;
                }
            }
            let (one, other) = (model.posterior(&one), model.posterior(&other));
            prop_assert!((one.none - other.none).abs() < 1e-6);
            for (name, p) in &one.answers {
                let same = other.answers.iter().find(|(n, _)| *n == name + 100).unwrap();
                prop_assert!((same.1 - p).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn members_nobody_knows_are_all_equal(votes in prop::collection::vec(0u8..3, 2..=6)) {
        for model in models() {
            let mut one = round(&votes, None);
            one.ballots.iter_mut().for_each(|b| b.member = UNKNOWN);
            let mut other = one.clone();
            other.ballots.reverse();
            let (a, b) = (model.confidence(&one), model.confidence(&other));
            prop_assert!((a - b).abs() < 1e-9);
        }
    }

    #[test]
    fn a_posterior_is_a_distribution_and_a_decision_is_about_a_candidate(
        votes in prop::collection::vec(0u8..200, 0..=32),
        lengths in prop::collection::vec(prop::option::of(prop::num::f32::ANY), 32),
        members in prop::collection::vec(prop::num::u16::ANY, 32),
        prices in prop::collection::vec(prop::num::f64::ANY, 0..4),
        worth in prop::num::f64::ANY,
    ) {
        for model in models() {
            let mut round = round(&votes, None);
            for ((ballot, length), member) in round.ballots.iter_mut().zip(&lengths).zip(&members) {
                ballot.member = *member;
                if let Said::Answer { tokens, .. } = &mut ballot.said {
                    *tokens = *length;
                }
            }
            let posterior = model.posterior(&round);
            let sum: f64 = posterior.answers.iter().map(|(_, p)| p).sum::<f64>() + posterior.none;
            prop_assert!((sum - 1.0).abs() < 1e-6, "{:?}", posterior);
            prop_assert!(posterior.answers.iter().all(|(_, p)| (0.0..=1.0).contains(p)));
            let candidates: Vec<Candidate> = prices
                .iter()
                .enumerate()
                .map(|(i, price)| Candidate { member: i as u16, price: *price })
                .collect();
            let plan = Plan { worth, enough: 0.95, depth: 1, climbs: false };
            if let Next::Ask { candidate, .. } = model.next(&round, &candidates, &plan) {
                prop_assert!(candidate < candidates.len());
            }
        }
    }
}
