//! Upstreams that are slow.

use crate::upstream::Behaviour;
use crate::users::{Form, Seen, eight, eight_ask, failures};
use crate::world::{Pair, well};

/// The share of answers that came from east.
fn share(seen: &[Seen]) -> f64 {
    let east = seen.iter().filter(|one| one.by == "east/m1").count();
    east as f64 / seen.len() as f64
}

const NAMES: [&str; 2] = ["best", "auto"];

/// A past in which both are equally fast, then one in which east is ten times slower.
async fn slowed(model: &str) -> (Pair, Vec<Seen>, usize) {
    let pair = Pair::start("", well(50), well(50)).await;
    let before = eight_ask(&pair.world, model, Form::Both, 150).await;
    pair.east.behave(well(500)).await;
    let during = eight_ask(&pair.world, model, Form::Both, 300).await;
    assert_eq!(failures(&format!("{model}, before"), &before), 0);
    assert_eq!(failures(&format!("{model}, slower"), &during), 0);
    let asked = before.len() + during.len();
    (pair, during, asked)
}

#[tokio::test]
async fn who_becomes_ten_times_slower_has_less_than_a_tenth_of_the_answers_after_a_hundred() {
    for model in NAMES {
        let (pair, seen, asked) = slowed(model).await;
        let shares = (share(&seen[..100]), share(&seen[100..]));
        println!("{model}: {shares:?}");
        assert!(shares.1 < 0.1, "{model}: {shares:?}");
        pair.end(asked).await;
    }
}

#[tokio::test]
async fn who_was_slow_and_is_fast_again_regains_its_share() {
    for model in NAMES {
        let (pair, _, asked) = slowed(model).await;
        pair.east.behave(well(50)).await;
        // Its share of the last hundred answers.
        let last = |seen: &[Seen]| share(&seen[seen.len().saturating_sub(100)..]);
        let after = eight(&pair.world, model, Form::Both, |seen| {
            let back = seen.len() >= 100 && last(seen) > 0.25;
            back || seen.len() >= 1500
        })
        .await;
        assert_eq!(failures(&format!("{model}, after"), &after), 0);
        println!("{model}: {} after {} answers", last(&after), after.len());
        assert!(
            last(&after) > 0.2,
            "{model}: {} after {}",
            last(&after),
            after.len()
        );
        pair.end(asked + after.len()).await;
    }
}

#[tokio::test]
async fn hedges_shorten_the_wait_and_stay_within_their_budget() {
    let toml = "[resilience]\nhedge = true\n";
    let pair = Pair::start(toml, well(10), well(10)).await;
    let before = eight_ask(&pair.world, "fast", Form::Streamed, 60).await;
    assert_eq!(failures("before", &before), 0);
    pair.west.forget();
    // One call in fifty is never answered; alone it would be given up after a second.
    let forgetful = Behaviour {
        hang_share: 0.02,
        ..well(10)
    };
    pair.east.behave(forgetful).await;
    let seen = eight_ask(&pair.world, "fast", Form::Streamed, 300).await;
    assert_eq!(failures("hedged", &seen), 0);
    let hung = pair.east.stats().hung;
    let hedges = pair.west.stats().calls;
    let all = before.len() + seen.len();
    println!("{hung} hung, {hedges} hedges of {all} calls");
    assert!(hung > 0 && hedges > 0);
    let budget = (0.05 * all as f64) as u64 + 1;
    assert!(hedges <= budget, "{hedges} hedges of {all} calls");
    pair.end(all).await;
}
