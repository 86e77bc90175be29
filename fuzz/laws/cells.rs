//! Cells of learned state: a payload is taken, and then it is written again as it was read and what it says can be
//! worked with, or it is refused with a reason and changes nothing. The first line is the key, the rest the payload.

use std::time::Duration;

use quorate::learning::aptitude::{Aptitude, Landscape, MOST_ADJUSTMENT, Traits};
use quorate::learning::experiment::{self, Definition};
use quorate::learning::votes::{self, Ballot, Candidate, Plan, Round, Said};
use quorate::learning::{Ability, Latency, Member, Observation, Pool, Prior, TASKS};
use quorate::ledger::learned::{Learned, named, restore};
use quorate::ledger::{Cell, Quarantined};
use serde_json::Value;

/// The law.
pub fn holds(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Some((key, payload)) = text.split_once('\n') else {
        return;
    };
    let cell = Cell {
        key: key.to_owned(),
        version: 1,
        payload: payload.to_owned(),
    };
    let older = Cell {
        version: 0,
        ..cell.clone()
    };
    let (learned, bad) = restore(vec![older]);
    assert!(written(&learned, key).is_none_or(|cell| is_empty(&cell)) && bad.len() == 1);
    let (learned, bad) = restore(vec![cell]);
    let again = written(&learned, key);
    if let [Quarantined { key: told, reason }] = &*bad {
        assert_eq!(told, key);
        assert!(!reason.is_empty());
        // Latency forgets what is impossible and keeps the rest.
        if !key.ends_with(":latency") {
            assert!(
                again.is_none_or(|cell| is_empty(&cell)),
                "refused, and still there"
            );
            return;
        }
    } else {
        assert!(bad.is_empty());
    }
    let Some(again) = again else { return };
    let (back, bad) = restore(vec![again.clone()]);
    assert_eq!(
        bad,
        [],
        "what was taken is written so that it is refused: {}",
        again.payload
    );
    assert_eq!(written(&back, key), Some(again), "written and read back");
    works(&back);
}

/// The cell of this key as it is written now.
fn written(learned: &Learned, key: &str) -> Option<Cell> {
    match key {
        "topics" => return named(key, &learned.topics),
        "pinned" => return named(key, &learned.pinned),
        _ => {}
    }
    let (subject, rest) = key.split_once(':')?;
    match subject {
        "ensemble" => named(key, learned.ensembles.get(rest)?),
        "experiment" => named(key, learned.experiments.get(rest)?),
        "deployment" => {
            let (id, what) = rest.rsplit_once(':')?;
            let known = learned.deployments.get(&id.into())?;
            match what {
                "latency" => named(key, &known.latency),
                "ability" => named(key, &known.ability),
                "aptitude" => named(key, &*known.aptitude),
                "sources" => named(key, &known.sources),
                "tokens" => named(key, &known.tokens),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether the cell says what it says where nothing was learned.
fn is_empty(cell: &Cell) -> bool {
    let what = cell.key.rsplit(':').next().unwrap_or_default();
    let nothing = Learned::default();
    let unknown = quorate::provider::Snapshot::new();
    let empty = match what {
        "topics" => named("", &nothing.topics),
        "pinned" => named("", &false),
        "latency" => named("", &unknown.latency),
        "ability" => named("", &unknown.ability),
        "aptitude" => named("", &*unknown.aptitude),
        "sources" => named("", &unknown.sources),
        "tokens" => named("", &unknown.tokens),
        _ => None,
    };
    empty.is_some_and(|empty| empty.payload == cell.payload)
}

/// Nobody who reads it meets a number that is none.
fn works(learned: &Learned) {
    for (id, known) in &learned.deployments {
        latency(known.latency);
        ability(*known.ability);
        aptitude(&known.aptitude);
        let share = known.tokens.cached_share();
        assert!((0.0..=1.0).contains(&share), "{id}: {share}");
        assert!(
            known
                .tokens
                .mean_output()
                .is_none_or(|mean| mean.is_finite() && mean >= 0.0)
        );
        for (source, trace) in known.sources.iter() {
            assert!(
                trace.weight.is_finite() && trace.reward.is_finite(),
                "{id}: {source}"
            );
        }
    }
    learned.ensembles.values().for_each(votes_of);
    learned.experiments.values().for_each(experiment_of);
    let place = learned.topics.place(None, Some("sql"));
    assert!(place.row.is_none_or(|row| row < TASKS));
}

fn latency(mut latency: Latency) {
    for _ in 0..2 {
        for times in [latency.ttft, latency.per_token, latency.total] {
            assert!(times.is_valid(), "{times:?}");
            let mut last = 0.0;
            for q in [0.0, 0.5, 0.95, 1.0] {
                let Some(seconds) = times.quantile(q) else {
                    continue;
                };
                assert!(seconds.is_finite() && seconds >= last, "{q}: {seconds}");
                last = seconds;
            }
        }
        let whole = latency.expected_total(Some(100));
        assert!(whole.is_none_or(f64::is_finite));
        latency.observe(
            Some(Duration::from_millis(200)),
            Duration::from_secs(1),
            Some(40),
        );
    }
}

fn ability(mut ability: Ability) {
    for _ in 0..2 {
        assert!(
            ability
                .mean()
                .is_none_or(|mean| (0.0..=1.0).contains(&mean))
        );
        let other = Ability::default();
        let prior = Prior::default();
        let pool = Pool::fit(&[Member::new(&ability, prior), Member::new(&other, prior)]);
        for kind in [None, Some(0), Some(TASKS - 1)] {
            for spot in pool.spots(kind, Some(1)) {
                let sound = spot.centre.is_finite() && spot.deviation > 0.0 && spot.reach > 0.0;
                assert!(
                    sound && spot.deviation.is_finite() && spot.reach.is_finite(),
                    "{spot:?}"
                );
            }
        }
        let step = ability.step().saturating_add(1);
        let seen = Observation {
            kind: Some(0),
            cluster: Some(1),
            reward: 0.0,
            weight: 1.0,
            expected: Some(0.9),
            step,
        };
        ability.observe(seen).unwrap();
        ability.validate().expect("what was taken stays possible");
    }
}

fn aptitude(aptitude: &Aptitude) {
    let mut aptitude = aptitude.clone();
    let written = serde_json::to_value(&aptitude).unwrap();
    let kinds = written
        .as_object()
        .into_iter()
        .flat_map(|kinds| kinds.keys());
    let kinds: Vec<u16> = kinds.filter_map(|kind| kind.parse().ok()).collect();
    let traits = Traits::of("How many of these are right?");
    for _ in 0..2 {
        let mut other = Aptitude::default();
        kinds
            .iter()
            .for_each(|kind| other.observe(Some(*kind), traits, 1.0, 1.0));
        let landscape = Landscape::fit([&aptitude, &other]);
        for kind in kinds.iter().copied().map(Some) {
            let change = landscape.adjustment_with_length(&aptitude, kind, traits);
            assert!(
                (-MOST_ADJUSTMENT..=MOST_ADJUSTMENT).contains(&change.mean),
                "{change:?}"
            );
            assert!(
                change.variance.is_finite() && change.variance >= 0.0,
                "{change:?}"
            );
            aptitude.observe(kind, traits, 0.5, 1.0);
        }
        aptitude.validate().expect("what was taken stays possible");
    }
}

fn votes_of(model: &votes::Model) {
    let ballot = |(member, cluster)| Ballot {
        member,
        said: Said::Answer {
            cluster,
            tokens: Some(20.0),
        },
    };
    for kind in [None, Some(0)] {
        let ballots = [(0, 0), (1, 1), (votes::UNKNOWN, 1)].map(ballot).to_vec();
        let round = Round {
            kind,
            ballots,
            prompt_tokens: Some(50.0),
            ..Round::default()
        };
        for belief in [model.posterior(&round), model.posterior_when_asked(&round)] {
            let shares = belief.answers.iter().map(|(_, share)| *share);
            let sum: f64 = shares.clone().chain([belief.none]).sum();
            assert!((sum - 1.0).abs() < 1e-6, "{belief:?}");
            assert!(
                shares
                    .chain([belief.none])
                    .all(|p| (-1e-9..=1.0 + 1e-9).contains(&p)),
                "{belief:?}"
            );
        }
        let candidates = [Candidate {
            member: 2,
            price: 0.1,
        }];
        let plan = Plan {
            worth: 1.0,
            enough: 0.99,
            depth: 2,
            climbs: false,
        };
        if let votes::Next::Ask { gain, net, .. } = model.next(&round, &candidates, &plan) {
            assert!(gain.is_finite() && net.is_finite());
        }
    }
}

fn experiment_of(state: &experiment::State) {
    let written = serde_json::to_value(state).unwrap();
    let arms = written["arms"].as_array().map_or(&[][..], Vec::as_slice);
    let names: Vec<&str> = arms.iter().filter_map(|arm| arm["name"].as_str()).collect();
    let mut definition = Definition::new("x", &names);
    for (variant, arm) in definition.variants.iter_mut().zip(arms) {
        variant.fingerprint = arm["fingerprint"].as_u64().unwrap_or(0);
    }
    let mut state = state.clone();
    assert!(!state.reconcile(&definition), "it is the same experiment");
    for at in 0..2 {
        let shares = state.shares(&definition);
        assert!(
            (shares.iter().sum::<f64>() - 1.0).abs() < 1e-6,
            "{shares:?}"
        );
        assert!(
            shares.iter().all(|share| (0.0..=1.0).contains(share)),
            "{shares:?}"
        );
        assert!(state.assign(&definition, Some("key"), "decision") < names.len());
        if let Some(evidence) = state.evidence(&definition) {
            assert!(
                evidence.ratio.is_finite() && evidence.threshold.is_finite(),
                "{evidence:?}"
            );
        }
        let report = serde_json::to_value(experiment::Report::of(&definition, &state)).unwrap();
        assert!(report.is_object());
        state.observe(&definition, at, 0.5, Duration::from_secs(1));
        let taken: experiment::State =
            serde_json::from_value::<Value>(serde_json::to_value(&state).unwrap())
                .and_then(serde_json::from_value)
                .unwrap();
        taken.validate().expect("what was taken stays possible");
    }
}
