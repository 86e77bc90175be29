//! Upstreams that answer with errors.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;
use quorate::Query;
use serde_json::json;

use crate::support::chat;
use crate::upstream::{Accept, Behaviour, Fault};
use crate::users::{End, Form, ask, eight_ask, eight_for, failures};
use crate::world::{Pair, doubles, fault, learned, well};

#[tokio::test]
async fn nobody_notices_that_three_in_ten_answers_of_both_are_errors() {
    let shaky = Behaviour {
        error_share: 0.3,
        status: 500,
        ..well(10)
    };
    let pair = Pair::start("", well(10), well(10)).await;
    let healthy = eight_for(&pair.world, "fast", Form::Both, fault()).await;
    assert_eq!(failures("healthy", &healthy), 0);
    let (mut asked, mut failed) = (healthy.len(), 0);
    pair.east.behave(shaky.clone()).await;
    pair.west.behave(shaky).await;
    for model in ["fast", "best", "auto"] {
        let seen = eight_for(&pair.world, model, Form::Both, fault()).await;
        failed += failures(model, &seen);
        asked += seen.len();
    }
    // A thousandth, and one for chance.
    assert!(failed <= 1 + asked / 1000, "{failed} of {asked} failed");
    pair.end(asked).await;
}

/// Each call fails or not by its own throw of dice, which come in runs; under paused time.
#[tokio::test(start_paused = true)]
async fn of_two_thousand_queries_at_most_two_fail_when_three_in_ten_calls_fail_at_random() {
    let mut all = 0;
    for seed in 0..2 {
        let shaky = |seed| {
            let fail = json!({ "kind": "upstream", "status": 500, "ratio": 0.3, "seed": seed });
            json!({ "latency_ms": 50, "fail": fail })
        };
        let orchestrator = doubles(shaky(seed), shaky(seed + 100)).await;
        let (asked, failed) = (Cell::new(0), Cell::new(0));
        join_all((0..8).map(async |user| {
            while asked.replace(asked.get() + 1) < 1000 {
                let mut query = Query::new("m1", "?");
                query.user = format!("user-{user}").into();
                if orchestrator.ask(query).await.is_err() {
                    failed.set(failed.get() + 1);
                }
            }
        }))
        .await;
        println!("seed {seed}: {} of 1000 failed", failed.get());
        all += failed.get();
        orchestrator.shutdown(Duration::from_secs(1)).await;
    }
    assert!(all <= 2, "{all} of 2000 failed");
}

/// With 200 ms to the first sign of an answer where the defaults are 30 and 120 s, no retries, and a breaker that lets
/// us ask on.
#[tokio::test]
async fn who_has_nobody_else_to_ask_is_told_what_happened_with_the_right_status() {
    let toml = "[resilience]\nretries = 0\nfirst_token_timeout = \"200ms\"\nanswer_timeout = \"200ms\"\n[resilience.breaker]\nmin_calls = 1000\n";
    let pair = Pair::start(toml, well(2), well(2)).await;
    let error = |status| Behaviour {
        error_share: 1.0,
        status,
        retry_after: Some("7".into()),
        ..well(2)
    };
    let broken = |fault| Behaviour { fault, ..well(2) };
    let accepting = |accept| Behaviour { accept, ..well(2) };
    let hanging = Behaviour {
        hang_share: 1.0,
        ..well(2)
    };
    let table = [
        (error(500), 500, "upstream"),
        (error(503), 503, "upstream"),
        (error(504), 504, "timeout"),
        (error(418), 418, "invalid"),
        (hanging, 504, "timeout"),
        (broken(Fault::EndAfter(0)), 502, "truncated"),
        (broken(Fault::CutAfter(0)), 502, "truncated"),
        (accepting(Accept::Refuse), 502, "connect"),
        (accepting(Accept::Ignore), 504, "timeout"),
        (error(429), 429, "rate-limited"),
        (well(2), 429, "rate-limited"),
    ];
    let asked = table.len() * 2;
    for (behaviour, status, kind) in table {
        pair.east.behave(behaviour.clone()).await;
        for streamed in [false, true] {
            let seen = ask(&pair.world, "east/m1", "u", "?", streamed).await;
            let told = (seen.status, seen.end);
            assert_eq!(told, (status, End::Refused(kind.into())), "{behaviour:?}");
        }
    }
    pair.end(asked).await;
}

#[tokio::test]
async fn who_fails_fast_never_looks_faster_than_who_succeeds_slowly() {
    let fails = Behaviour {
        error_share: 1.0,
        status: 503,
        error_delay_ms: Some(1),
        ..well(0)
    };
    let pair = Pair::start("", fails, well(60)).await;
    let mut asked = 0;
    for model in ["best", "auto"] {
        let seen = eight_ask(&pair.world, model, Form::Both, 100).await;
        assert_eq!(failures(model, &seen), 0);
        asked += seen.len();
        let mut request = chat(model, "?");
        request["quorate"] = json!({ "explain": true });
        let reply = pair.world.post("/v1/chat/completions", &request).await;
        asked += 1;
        let plan = reply.json()["quorate"]["plan"]["candidates"].clone();
        assert_eq!(plan[0]["deployment"], "west/m1", "{plan}");
    }
    assert_eq!(learned(&pair.world, "east/m1", "total")["evidence"], 0.0);
    assert_eq!(learned(&pair.world, "east/m1", "ttft")["evidence"], 0.0);
    let wasted = pair.east.stats().calls;
    println!("{wasted} calls to the one that fails fast, of {asked}");
    assert!(wasted <= 20, "{wasted} calls to the one that fails");
    pair.end(asked).await;
}
