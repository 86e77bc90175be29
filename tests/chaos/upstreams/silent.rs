//! Upstreams that accept, and say nothing.

use std::time::Duration;

use quorate::Query;
use serde_json::json;
use tokio::time::Instant;

use crate::upstream::{Accept, Behaviour, Fault};
use crate::users::{End, Form, eight, eight_ask, eight_for, failures};
use crate::world::{Pair, doubles, fault, learned, well};

fn hanging() -> Behaviour {
    Behaviour {
        hang_share: 1.0,
        ..well(20)
    }
}

/// The longest a first token may take by what was learned: three times the p99, at least 1 s.
fn patience(pair: &Pair) -> Duration {
    let p99 = learned(&pair.world, "east/m1", "ttft")["p99"]
        .as_f64()
        .unwrap();
    Duration::from_secs_f64((3.0 * p99).max(1.0))
}

/// What the machine may add to a promised timeout.
const SLACK: Duration = Duration::from_secs(3);

#[tokio::test]
async fn no_user_of_a_stream_waits_longer_than_the_learned_patience() {
    let pair = Pair::start("", well(20), well(20)).await;
    let before = eight_ask(&pair.world, "fast", Form::Streamed, 100).await;
    let patience = patience(&pair);
    pair.east.behave(hanging()).await;
    let seen = eight_for(&pair.world, "fast", Form::Streamed, fault() * 2).await;
    assert_eq!(failures("silent", &seen), 0);
    let longest = seen.iter().map(|one| one.took).max().unwrap();
    assert!(
        longest <= patience + SLACK,
        "{longest:?} against {patience:?}"
    );
    pair.end(before.len() + seen.len()).await;
}

#[tokio::test]
async fn within_five_seconds_no_stream_meets_an_upstream_that_fell_silent() {
    let pair = Pair::start("", well(20), well(20)).await;
    let before = eight_ask(&pair.world, "fast", Form::Streamed, 200).await;
    pair.east.behave(hanging()).await;
    let first = eight_for(&pair.world, "fast", Form::Streamed, Duration::from_secs(5)).await;
    assert_eq!(failures("first five seconds", &first), 0);
    let met = pair.east.stats().calls;
    let later = eight_for(&pair.world, "fast", Form::Streamed, fault()).await;
    assert_eq!(failures("later", &later), 0);
    let met_later = pair.east.stats().calls - met;
    println!("{met_later} queries met it later");
    assert_eq!(met_later, 0);
    pair.end(before.len() + first.len() + later.len()).await;
}

#[tokio::test]
async fn within_five_seconds_no_whole_answer_is_asked_of_an_upstream_that_fell_silent() {
    let pair = Pair::start("", well(20), well(20)).await;
    let before = eight_ask(&pair.world, "fast", Form::Whole, 200).await;
    pair.east.behave(hanging()).await;
    let first = eight_for(&pair.world, "fast", Form::Whole, Duration::from_secs(5)).await;
    assert_eq!(failures("first five seconds", &first), 0);
    let met = pair.east.stats().calls;
    let later = eight_for(&pair.world, "fast", Form::Whole, fault()).await;
    assert_eq!(failures("later", &later), 0);
    let met_later = pair.east.stats().calls - met;
    println!("{met_later} queries met it later");
    assert_eq!(met_later, 0);
    pair.end(before.len() + first.len() + later.len()).await;
}

/// The length of a whole answer is not known from those before it. Under paused time.
#[tokio::test(start_paused = true)]
async fn a_long_whole_answer_is_waited_for_though_all_before_it_were_short() {
    let essay = json!({ "answer": "long", "latency_ms": 60_000 });
    let script = json!({ "latency_ms": 500, "by_prompt": { "essay": essay } });
    let orchestrator = doubles(script.clone(), script).await;
    for model in ["east/m1", "west/m1"] {
        for _ in 0..25 {
            orchestrator.ask(Query::new(model, "?")).await.unwrap();
        }
    }
    let answer = orchestrator.ask(Query::new("m1", "an essay, please")).await;
    assert_eq!(answer.unwrap().content(), "long");
}

/// Under paused time, so that the defaults cost nothing.
#[tokio::test(start_paused = true)]
async fn while_nothing_is_learned_nobody_waits_longer_than_thirty_seconds_for_a_stream() {
    let east = json!({ "hang": "before" });
    let orchestrator = doubles(east, json!({ "echo": true })).await;
    let started = Instant::now();
    let answer = orchestrator.stream(Query::new("m1", "hello")).await;
    assert_eq!(answer.unwrap().model.as_str(), "west/m1");
    let took = started.elapsed();
    assert!(took <= Duration::from_secs(30) + SLACK, "{took:?}");
}

/// With half a second to the first token where the default is 30 s, and half a second of open time for 30 s.
#[tokio::test]
async fn who_accepts_and_never_reads_is_left_alone_and_taken_back() {
    let toml = "[resilience]\nfirst_token_timeout = \"500ms\"\nanswer_timeout = \"500ms\"\n[resilience.breaker]\nopen_for = \"500ms\"\n";
    let ignoring = Behaviour {
        accept: Accept::Ignore,
        ..well(2)
    };
    let pair = Pair::start(toml, ignoring, well(2)).await;
    let during = eight_for(&pair.world, "fast", Form::Both, fault()).await;
    assert_eq!(failures("ignoring", &during), 0);
    let longest = during.iter().map(|one| one.took).max().unwrap();
    assert!(longest < Duration::from_millis(500) + SLACK, "{longest:?}");
    assert_ne!(pair.world.deployment("east/m1")["breaker"], "closed");
    pair.east.behave(well(2)).await;
    let returned = Instant::now();
    let after = eight(&pair.world, "fast", Form::Both, |seen| {
        let back = seen.iter().filter(|one| one.by == "east/m1").count() > 20;
        back || returned.elapsed() > Duration::from_secs(10)
    })
    .await;
    assert_eq!(failures("after", &after), 0);
    assert_eq!(pair.world.deployment("east/m1")["breaker"], "closed");
    pair.end(during.len() + after.len()).await;
}

/// With a second between two deltas where the default is 60 s.
#[tokio::test]
async fn who_falls_silent_in_the_middle_is_an_error_event_and_whole_answers_come_from_another() {
    let toml = "[resilience]\nidle_timeout = \"1s\"\nfirst_token_timeout = \"1s\"\nanswer_timeout = \"1s\"\nadaptive_limit = false\n\
                [resilience.breaker]\nmin_calls = 1000\n";
    let stalling = Behaviour {
        fault: Fault::StallAfter(3),
        ..well(2)
    };
    let pair = Pair::start(toml, stalling, well(2)).await;
    let seen = eight_ask(&pair.world, "fast", Form::Both, 32).await;
    failures("stalling", &seen);
    for one in &seen {
        match &one.end {
            End::Answered => assert!(!one.streamed, "{one:?}"),
            End::Cut { kind, .. } => assert!(one.streamed && kind == "timeout", "{one:?}"),
            End::Refused(_) => panic!("{one:?}"),
        }
        assert!(one.took < Duration::from_secs(1) + SLACK, "{one:?}");
    }
    assert_eq!(pair.failed(), pair.east.stats().faults);
    pair.end(seen.len()).await;
}
