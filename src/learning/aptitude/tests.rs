use proptest::prelude::*;

use super::*;

const WHO: &str = "Who wrote the first book?";
const WHEN: &str = "When was the first book written?";

/// Alternately asks who and when, and gives the rewards to two deployments.
fn two(asked: usize, rewards: impl Fn(usize, bool) -> [f64; 2]) -> [Aptitude; 2] {
    let mut both = [Aptitude::default(), Aptitude::default()];
    for turn in 0..asked {
        // In pairs, so that either half of the evidence sees both.
        let who = turn / 2 % 2 == 0;
        let traits = Traits::of(if who { WHO } else { WHEN });
        for (aptitude, reward) in both.iter_mut().zip(rewards(turn, who)) {
            aptitude.observe(Some(1), traits, reward, 1.0);
        }
    }
    both
}

fn one_knows_people(asked: usize) -> [Aptitude; 2] {
    two(asked, |_, who| if who { [1.0, 0.0] } else { [0.0, 1.0] })
}

#[test]
fn without_evidence_nothing_is_adjusted() {
    let [known, _] = one_knows_people(100);
    let traits = Traits::of(WHO);
    let fresh = Aptitude::default();
    let none = Adjustment::default();
    assert_eq!(
        Landscape::default().adjustment(&known, Some(1), traits),
        none
    );
    assert_eq!(
        Landscape::fit([&known]).adjustment(&known, Some(1), traits),
        none
    );
    let landscape = Landscape::fit(&one_knows_people(100));
    assert_eq!(landscape.adjustment(&fresh, Some(1), traits), none);
    assert_eq!(landscape.adjustment(&known, Some(2), traits), none);
    assert_eq!(landscape.adjustment(&known, None, traits), none);
}

#[test]
fn who_knows_people_is_preferred_for_people_and_not_for_dates() {
    let both = one_knows_people(200);
    let landscape = Landscape::fit(&both);
    let mean = |which: usize, text| {
        landscape
            .adjustment(&both[which], Some(1), Traits::of(text))
            .mean
    };
    assert!(mean(0, WHO) > 0.2 && mean(1, WHO) < -0.2);
    assert!(mean(0, WHEN) < -0.2 && mean(1, WHEN) > 0.2);
}

#[test]
fn what_is_hard_for_all_is_no_aptitude() {
    let both = two(400, |turn, who| {
        let right = if who { turn % 8 != 0 } else { turn % 8 == 2 };
        [f64::from(right), f64::from(right)]
    });
    let landscape = Landscape::fit(&both);
    for aptitude in &both {
        for text in [WHO, WHEN] {
            let mean = landscape
                .adjustment(aptitude, Some(1), Traits::of(text))
                .mean;
            assert!(mean.abs() < 0.02, "{mean}");
        }
    }
}

#[test]
fn who_copes_with_length_is_preferred_for_long_prompts() {
    let mut both = [Aptitude::default(), Aptitude::default()];
    let long = "and so on ".repeat(200);
    for turn in 0..400 {
        let traits = Traits::of(if turn / 2 % 2 == 0 { "and" } else { &long });
        let right = turn / 2 % 2 == 0 || turn % 8 == 2;
        both[0].observe(None, traits, 1.0, 1.0);
        both[1].observe(None, traits, f64::from(right), 1.0);
    }
    let landscape = Landscape::fit(&both);
    let mean = |which: usize, text: &str| {
        landscape
            .adjustment_with_length(&both[which], None, Traits::of(text))
            .mean
    };
    assert!(mean(0, &long) > mean(1, &long) + 0.1);
    assert!(mean(0, "and") < mean(1, "and") - 0.1);
}

#[test]
fn evidence_fades_and_at_last_is_gone() {
    let [mut aptitude, _] = one_knows_people(100);
    (0..5_000).for_each(|_| aptitude.discount(Some(1), 0.99));
    assert_eq!(aptitude.kinds[&1].halves, [Half::default(); 2]);
    assert_eq!(aptitude.validate(), Ok(()));
}

#[test]
fn kinds_past_the_most_are_not_kept() {
    let mut aptitude = Aptitude::default();
    (0..1_000).for_each(|kind| aptitude.observe(Some(kind), Traits::of(WHO), 1.0, 1.0));
    assert_eq!(aptitude.kinds.len(), MOST_KINDS);
    assert!(size_of::<Kind>() * MOST_KINDS < 16_000);
}

#[test]
fn impossible_states_are_refused_and_only_their_kind_is_forgotten() {
    let [good, _] = one_knows_people(10);
    for bad in [f32::NAN, f32::INFINITY, -1.0, 1e9] {
        let spoil: [fn(&mut Half) -> &mut f32; 3] = [
            |half| &mut half.forms[0].weight,
            |half| &mut half.forms[0].sum,
            |half| &mut half.length[1],
        ];
        for spot in spoil {
            let mut aptitude = good.clone();
            aptitude.observe(Some(7), Traits::of(WHO), 1.0, 1.0);
            let kind = aptitude.kinds.get_mut(&7).expect("was observed");
            *spot(&mut kind.halves[0]) = bad;
            assert!(aptitude.validate().is_err(), "{bad}");
            assert_eq!(aptitude.sanitize(), ["aptitude.kind[7]"]);
            assert_eq!(aptitude, good);
        }
    }
    let wrong = r#"{"1":{"second":false,"halves":[{"forms":[],"length":[0,0,0]}]}}"#;
    assert!(serde_json::from_str::<Aptitude>(wrong).is_err());
}

#[test]
fn the_form_is_found_at_the_head_or_in_a_last_question() {
    for (text, form) in [
        ("who sings that", Form::Who),
        ("\"In what year?\"", Form::Other),
        ("What year was it?", Form::When),
        ("how many legs", Form::Quantity),
        ("How do birds fly?", Form::How),
        ("I have a cat. Why does it purr?", Form::Why),
        ("def f(x):", Form::Code),
        ("Write a poem.", Form::Order),
        ("Does it rain?", Form::YesNo),
        ("Wer war das?", Form::Other),
        ("", Form::Other),
    ] {
        assert_eq!(Form::of(text), form, "{text}");
    }
}

fn observations() -> impl Strategy<Value = Vec<(u8, u16, String, f64, f64)>> {
    let text = prop_oneof![Just(WHO.to_owned()), Just(WHEN.to_owned()), ".{0,40}"];
    prop::collection::vec(
        (0..3_u8, 0..3_u16, text, -0.2..1.2_f64, 0.0..=MAX_WEIGHT),
        0..200,
    )
}

fn learned(observations: &[(u8, u16, String, f64, f64)]) -> Vec<Aptitude> {
    let mut all = vec![Aptitude::default(); 3];
    for (who, kind, text, reward, weight) in observations {
        all[usize::from(*who)].discount(Some(*kind), 0.995);
        all[usize::from(*who)].observe(Some(*kind), Traits::of(text), *reward, *weight);
    }
    all
}

proptest! {
    #[test]
    fn any_text_has_traits(text in "\\PC{0,2000}", tail in any::<String>()) {
        let text = text + &tail;
        let traits = Traits::of(&text);
        prop_assert!((traits.form() as usize) < FORMS);
        prop_assert!(traits.length().abs() <= f64::from(MOST_LENGTH));
        prop_assert_eq!(traits, Traits::of(&text));
    }

    #[test]
    fn adjustments_are_bounded_and_the_same_each_time(seen in observations(), text in ".{0,3000}") {
        let (all, again) = (learned(&seen), learned(&seen));
        let (landscape, same) = (Landscape::fit(&all), Landscape::fit(&again));
        prop_assert_eq!(&landscape, &same);
        for aptitude in &all {
            for kind in [Some(0), Some(1), Some(2), None] {
                let traits = Traits::of(&text);
                let short = landscape.adjustment(aptitude, kind, traits);
                let long = landscape.adjustment_with_length(aptitude, kind, traits);
                for found in [short, long] {
                    prop_assert!(found.mean.abs() <= MOST_ADJUSTMENT);
                    prop_assert!(found.variance.is_finite() && found.variance >= 0.0);
                    prop_assert!(found.evidence.is_finite() && found.evidence >= 0.0);
                }
            }
        }
    }

    #[test]
    fn what_was_observed_is_valid_and_comes_back_from_disk(seen in observations()) {
        for aptitude in learned(&seen) {
            prop_assert_eq!(aptitude.validate(), Ok(()));
            let text = serde_json::to_string(&aptitude).expect("serialises");
            prop_assert_eq!(serde_json::from_str::<Aptitude>(&text).expect("parses"), aptitude);
        }
    }

    #[test]
    fn what_is_out_of_range_changes_nothing(reward in any::<f64>(), weight in any::<f64>()) {
        let fits = (0.0..=1.0).contains(&reward) && (0.0..=MAX_WEIGHT).contains(&weight);
        prop_assume!(!fits);
        let mut aptitude = Aptitude::default();
        aptitude.observe(None, Traits::of(WHO), reward, weight);
        prop_assert_eq!(aptitude, Aptitude::default());
    }
}
