use proptest::prelude::*;

use super::super::Observation;
use super::fit::inherit;
use super::*;

fn seen(kind: usize, reward: f64) -> Observation {
    Observation {
        kind: Some(kind),
        cluster: None,
        reward,
        weight: 1.0,
        expected: None,
        step: 1,
    }
}

/// Evidence of `right` right answers of `all` per kind.
fn ability(record: &[(usize, u32, u32)]) -> Ability {
    let mut ability = Ability::default();
    for (kind, right, all) in record {
        for at in 0..*all {
            let _ = ability.observe(seen(*kind, f64::from(u8::from(at < *right))));
        }
    }
    ability
}

fn pool(abilities: &[Ability]) -> Pool {
    let prior = Prior::default();
    let members: Vec<Member<'_>> = abilities
        .iter()
        .map(|ability| Member::new(ability, prior))
        .collect();
    Pool::fit(&members)
}

#[test]
fn a_model_asked_easy_questions_only_does_not_look_good() {
    // 90 % on what everyone gets right, against 60 % on what is hard; the third has seen both.
    let easy = ability(&[(0, 90, 100)]);
    let hard = ability(&[(1, 60, 100)]);
    let both = ability(&[(0, 95, 100), (1, 30, 100)]);
    let pool = pool(&[easy, hard, both]);
    for kind in [0, 1, 2] {
        let spots = pool.spots(Some(kind), None);
        assert!(spots[1].centre > spots[0].centre, "{spots:?}");
    }
}

#[test]
fn a_pool_without_evidence_or_members_is_read_all_the_same() {
    assert!(pool(&[]).spots(Some(1), Some(3)).is_empty());
    let fresh = pool(&[Ability::default(), Ability::default()]);
    let spots = fresh.spots(None, None);
    assert!(
        spots
            .iter()
            .all(|s| s.deviation > 0.5 && s.centre.is_finite()),
        "{spots:?}"
    );
    assert_eq!(spots[0], spots[1]);
}

#[test]
fn a_declared_strength_counts_until_evidence_speaks() {
    let good = Prior {
        mean: 0.8,
        strength: 20.0,
    };
    let poor = Prior {
        mean: 0.4,
        strength: 20.0,
    };
    let read = |a: Ability, b: Ability| {
        let members = [Member::new(&a, good), Member::new(&b, poor)];
        let pool = Pool::fit(&members);
        let spots = pool.spots(Some(0), None);
        spots[0].centre - spots[1].centre
    };
    assert!(read(Ability::default(), Ability::default()) > 0.8);
    assert!(read(ability(&[(0, 30, 300)]), ability(&[(0, 270, 300)])) < -0.8);
}

#[test]
fn a_cluster_that_differs_from_its_kind_is_told_apart() {
    let mut a = ability(&[(0, 50, 100)]);
    let mut b = ability(&[(0, 50, 100)]);
    for _ in 0..60 {
        let _ = a.observe(Observation {
            cluster: Some(7),
            ..seen(0, 1.0)
        });
        let _ = b.observe(Observation {
            cluster: Some(7),
            ..seen(0, 0.0)
        });
    }
    let pool = pool(&[a, b]);
    let gap = |cluster| {
        let spots = pool.spots(Some(0), cluster);
        spots[0].centre - spots[1].centre
    };
    assert!(
        gap(Some(7)) > gap(Some(8)),
        "{} {}",
        gap(Some(7)),
        gap(Some(8))
    );
}

/// The log-odds expected of a last model without evidence, and how far it begins at its family's, beside a sibling
/// with this record and two strangers.
fn newcomer(sibling: &[(usize, u32, u32)], family: Option<&str>, inherits: bool) -> (f64, f64) {
    let abilities = [
        ability(sibling),
        ability(&[(0, 90, 100)]),
        ability(&[(0, 50, 100)]),
        Ability::default(),
    ];
    let mut members = abilities
        .each_ref()
        .map(|ability| Member::new(ability, Prior::default()));
    members[0].family = Some("kin");
    members[1].family = Some("others");
    members[3].family = family;
    members[3].inherits = inherits;
    let pool = Pool::fit(&members);
    (pool.spots(Some(0), None)[3].centre, pool.inherited(3))
}

#[test]
fn a_new_model_begins_at_what_its_family_has_shown() {
    let (good, poor) = ([(0, 95, 100)], [(0, 30, 100)]);
    for sibling in [good, poor] {
        let (alone, _) = newcomer(&sibling, None, true);
        let (kin, share) = newcomer(&sibling, Some("kin"), true);
        assert_eq!(kin > alone, sibling == good, "{kin} {alone}");
        assert!(
            (kin - alone).abs() > 0.3 && share > 0.8,
            "{kin} {alone} {share}"
        );
        // The more was seen of them the more it counts.
        let few = [(0, sibling[0].1 / 20, 5)];
        assert!(newcomer(&few, Some("kin"), true).1 < share);
        // What is declared wins, and a family of which nothing was seen says nothing.
        assert_eq!(newcomer(&sibling, Some("kin"), false), (alone, 0.0));
        assert_eq!(newcomer(&sibling, Some("nobody"), true), (alone, 0.0));
    }
    assert_eq!(newcomer(&[], Some("kin"), true), newcomer(&[], None, true));
}

#[test]
fn own_evidence_takes_over_from_the_familys() {
    let gap = |own: u32| {
        let centre = |family| {
            let abilities = [
                ability(&[(0, 20, 100)]),
                ability(&[(0, 60, 100)]),
                ability(&[(0, own * 9 / 10, own)]),
            ];
            let mut members = abilities
                .each_ref()
                .map(|ability| Member::new(ability, Prior::default()));
            members[0].family = Some("kin");
            members[2].family = family;
            members[2].inherits = true;
            Pool::fit(&members).spots(Some(0), None)[2].centre
        };
        centre(None) - centre(Some("kin"))
    };
    let gaps = [0, 10, 100, 1000].map(gap);
    assert!(gaps.windows(2).all(|pair| pair[1] < pair[0]), "{gaps:?}");
    assert!(gaps[0] > 0.3 && gaps[3] < 0.02, "{gaps:?}");
}

fn record() -> impl Strategy<Value = Vec<(usize, u32, u32)>> {
    proptest::collection::vec((0..17usize, 0..30u32, 0..30u32), 0..6)
}

proptest! {
    #[test]
    fn better_evidence_never_lowers_the_mean(
        records in proptest::collection::vec(record(), 2..6), kind in 0..16usize, at in 0..2usize,
    ) {
        let abilities: Vec<Ability> = records.iter().map(|record| ability(record)).collect();
        let (mut worse, mut better) = (abilities.clone(), abilities);
        let _ = worse[at].observe(seen(kind, 0.0));
        let _ = better[at].observe(seen(kind, 1.0));
        let (worse, better) = (pool(&worse), pool(&better));
        for kind in [Some(kind), None] {
            let (low, high) = (worse.spots(kind, None)[at].centre, better.spots(kind, None)[at].centre);
            prop_assert!(high >= low, "{low} {high}");
        }
    }

    #[test]
    fn any_evidence_is_read_to_finite_numbers_and_more_of_it_narrows_them(
        records in proptest::collection::vec(record(), 1..6),
    ) {
        let abilities: Vec<Ability> = records.iter().map(|record| ability(record)).collect();
        let pool = pool(&abilities);
        for kind in 0..17 {
            for spot in pool.spots(Some(kind), None) {
                prop_assert!(spot.centre.is_finite() && spot.deviation > 0.0);
                prop_assert!(spot.deviation < 3.2 && spot.reach.is_finite());
            }
        }
    }

    #[test]
    fn what_is_inherited_lies_between_the_default_and_what_the_siblings_show(
        alone in -5.0..5.0f64, siblings in proptest::collection::vec((0.0..20_000.0f64, -5.0..5.0f64), 0..6),
    ) {
        let (centre, share) = inherit(alone, siblings.iter().copied());
        prop_assert!(centre.is_finite() && (0.0..1.0).contains(&share));
        let weight: f64 = siblings.iter().map(|(seen, _)| seen).sum();
        if weight == 0.0 {
            prop_assert_eq!((centre, share), (alone, 0.0));
        } else {
            let mean = siblings.iter().map(|(seen, ability)| seen * ability).sum::<f64>() / weight;
            prop_assert!(centre >= alone.min(mean) - 1e-9 && centre <= alone.max(mean) + 1e-9);
            // The more is seen of them the nearer.
            let (nearer, _) = inherit(alone, siblings.iter().map(|(seen, ability)| (seen * 2.0, *ability)));
            prop_assert!((nearer - mean).abs() <= (centre - mean).abs() + 1e-9);
        }
    }

    #[test]
    fn the_order_of_members_changes_nothing(
        records in proptest::collection::vec(record(), 2..6), kind in 0..16usize,
    ) {
        let mut abilities: Vec<Ability> = records.iter().map(|record| ability(record)).collect();
        let one = pool(&abilities);
        abilities.reverse();
        let other = pool(&abilities);
        for (a, b) in one.spots(Some(kind), None).iter().zip(other.spots(Some(kind), None).iter().rev()) {
            prop_assert!((a.centre - b.centre).abs() < 1e-9 && (a.deviation - b.deviation).abs() < 1e-9);
        }
    }
}
