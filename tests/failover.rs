//! A provider that fails, hangs, rate-limits or truncates is kept away from users, and is back when it is well.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{World, chat, chat_stream};
use tokio::time::{Instant, sleep};

const FAST: &str = "[models.fast]\nuse = [\"east/m1\", \"west/m1\"]\n";

/// `east` and `west` as configured, so that an alias can name them.
async fn pair(toml: &str, east: &str) -> World {
    let providers = format!(
        "[[providers]]\nname = \"east\"\nkind = \"scripted\"\nmodels = [\"m1\"]\nscript = {east}\n\
         [[providers]]\nname = \"west\"\nkind = \"scripted\"\nmodels = [\"m1\"]\nscript = {{ answer = \"from west\" }}\n"
    );
    World::start(&format!("{toml}{providers}{FAST}"), Vec::new()).await
}

#[tokio::test]
async fn every_kind_of_failure_before_the_first_delta_falls_back() {
    for failure in [
        "{ fail = { kind = \"upstream\", status = 500 } }",
        "{ fail = { kind = \"connect\" } }",
        "{ fail = { kind = \"timeout\" } }",
        "{ fail = { kind = \"rate-limited\", status = 429, retry_after_ms = 60000 } }",
        "{ fail = { kind = \"auth\", status = 401 } }",
        "{ fail = { kind = \"malformed\" } }",
        "{ fail = { kind = \"context-length\", status = 400 } }",
        "{ panic = true }",
        "{ answer = \"\", finish = \"none\" }",
    ] {
        let world = pair("", failure).await;
        let whole = world.chat("fast", "?").await;
        assert_eq!(
            (whole.status, whole.content().as_str()),
            (200, "from west"),
            "{failure}: {}",
            whole.body
        );
        let attempts = whole.json()["quorate"]["attempts"].clone();
        assert_eq!(
            attempts.as_array().unwrap().len(),
            2,
            "{failure}: {attempts}"
        );
        let streamed = world
            .post("/v1/chat/completions", &chat_stream("fast", "?"))
            .await;
        assert_eq!(streamed.streamed(), "from west", "{failure}");
        world.until_all_returned().await;
    }
}

#[tokio::test]
async fn a_hanging_upstream_is_given_up_and_another_answers() {
    let world = pair(
        "[resilience]\nanswer_timeout = \"200ms\"\nfirst_token_timeout = \"200ms\"\n",
        "{ hang = \"before\" }",
    )
    .await;
    for request in [chat("fast", "?"), chat_stream("fast", "?")] {
        let reply = world.post("/v1/chat/completions", &request).await;
        assert_eq!(reply.status, 200);
        let said = if request["stream"] == true {
            reply.streamed()
        } else {
            reply.content()
        };
        assert_eq!(said, "from west", "{}", reply.body);
    }
    assert_eq!(world.deployment("east/m1")["calls"]["failed"], 2);
}

#[tokio::test]
async fn a_truncated_stream_is_an_error_event_never_a_silent_end() {
    let world = pair("", "{ answer = \"a b c\", chunks = 3, finish = \"none\" }").await;
    let reply = world
        .post("/v1/chat/completions", &chat_stream("fast", "?"))
        .await;
    let events = reply.events();
    assert!(events.iter().all(|event| event != "[DONE]"), "{events:?}");
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["error"]["quorate"]["kind"], "truncated");
    // Not streamed, nothing was sent yet, so another deployment answers.
    assert_eq!(world.chat("fast", "?").await.content(), "from west");
}

#[tokio::test]
async fn the_callers_own_mistake_is_told_at_once_and_held_against_nobody() {
    let fails =
        json!({ "fail": { "kind": "invalid", "status": 400, "message": "no such parameter" } });
    let (world, providers) = World::scripted("", &[("east/m1", fails)]).await;
    let reply = world.chat("east/m1", "?").await;
    assert_eq!((reply.status, reply.kind().as_str()), (400, "invalid"));
    assert!(reply.body.contains("no such parameter"), "{}", reply.body);
    assert_eq!(providers[0].calls(), 1, "never retried");
    for _ in 0..15 {
        world.chat("east/m1", "?").await;
    }
    assert_eq!(world.deployment("east/m1")["breaker"], "closed");
}

#[tokio::test]
async fn fifteen_failures_open_the_breaker_then_queries_fail_fast_and_a_probe_closes_it() {
    let toml = "[resilience]\nretries = 0\n[resilience.breaker]\nopen_for = \"300ms\"\n";
    let fails = json!({ "fail": { "kind": "upstream", "status": 503 } });
    let (world, providers) = World::scripted(toml, &[("east/m1", fails)]).await;
    for _ in 0..15 {
        let reply = world.chat("east/m1", "?").await;
        assert!(reply.status == 503, "{}", reply.body);
    }
    assert_eq!(world.deployment("east/m1")["breaker"], "open");
    assert_eq!(
        providers[0].calls(),
        10,
        "the upstream is left alone from the tenth failure on"
    );
    let reply = world.chat("east/m1", "?").await;
    assert_eq!((reply.status, reply.kind().as_str()), (503, "breaker-open"));
    assert!(reply.header("retry-after").parse::<u64>().unwrap() >= 1);
    providers[0]
        .set_script(json!({ "answer": "well again" }))
        .unwrap();
    world
        .until("half-open", async |w| {
            w.deployment("east/m1")["breaker"] == "half-open"
        })
        .await;
    assert_eq!(world.chat("east/m1", "?").await.content(), "well again");
    world
        .until("closed", async |w| {
            w.deployment("east/m1")["breaker"] == "closed"
        })
        .await;
}

/// Breakers stay open for half a minute; who has nobody else to ask does not have to wait for that.
#[tokio::test]
async fn when_no_breaker_lets_anybody_through_who_is_well_again_is_soon_found() {
    let world = both_open("").await;
    let seconds = until_well(&world, "fast").await.as_secs();
    for _ in 0..20 {
        assert_eq!(world.chat("fast", "?").await.content(), "well again");
    }
    let failed = world.deployment("east/m1")["calls"]["failed"].clone();
    let failed = failed.as_u64().unwrap();
    assert!(failed <= 12 + seconds, "{failed} calls in {seconds} s");
}

/// The same for a vote whose members are all held back.
#[tokio::test]
async fn an_ensemble_of_open_breakers_finds_out_who_is_well_again() {
    let toml = "[ensembles.both]\nmembers = [\"east/m1\", \"west/m1\"]\nmerge = \"plurality\"\nquorum = 1\n";
    let world = both_open(toml).await;
    until_well(&world, "ensemble/both").await;
}

/// Asks ten times a second until somebody answers.
async fn until_well(world: &World, model: &str) -> Duration {
    let started = Instant::now();
    while world.chat(model, "?").await.status != 200 {
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "nobody is found"
        );
        sleep(Duration::from_millis(100)).await;
    }
    started.elapsed()
}

/// Both breakers are open. East goes on failing, west is well.
async fn both_open(toml: &str) -> World {
    let west =
        "{ answer = \"well again\", fail = { kind = \"upstream\", status = 500, times = 10 } }";
    let east = "{ fail = { kind = \"upstream\", status = 500 } }";
    let provider = |name, script| {
        format!(
            "[[providers]]\nname = \"{name}\"\nkind = \"scripted\"\nmodels = [\"m1\"]\nscript = {script}\n"
        )
    };
    let providers = provider("east", east) + &provider("west", west);
    let toml = format!("[resilience]\nretries = 0\n{toml}{providers}{FAST}");
    let world = World::start(&toml, Vec::new()).await;
    for model in ["east/m1", "west/m1"] {
        for _ in 0..10 {
            world.chat(model, "?").await;
        }
        world
            .until("it is open", async |w| {
                w.deployment(model)["breaker"] == "open"
            })
            .await;
    }
    world
}

#[tokio::test]
async fn a_late_result_from_before_the_trip_changes_nothing() {
    let toml = "[admission]\nper_user = 20\n[resilience]\nretries = 0\n";
    let (world, providers) =
        World::scripted(toml, &[("east/m1", json!({ "latency_ms": 400 }))]).await;
    let mut rpc = world.rpc().await;
    rpc.request(1, "ask", &chat("east/m1", "?")).await;
    world
        .until("it is under way", async |_| providers[0].in_flight() == 1)
        .await;
    providers[0]
        .set_script(json!({ "fail": { "kind": "upstream", "status": 500 } }))
        .unwrap();
    for _ in 0..10 {
        world.chat("east/m1", "?").await;
    }
    assert_eq!(world.deployment("east/m1")["breaker"], "open");
    assert!(
        rpc.next().await.unwrap()["result"].is_object(),
        "the late call succeeds"
    );
    assert_eq!(world.deployment("east/m1")["breaker"], "open");
}

#[tokio::test]
async fn a_rate_limited_deployment_is_not_called_before_its_retry_after() {
    let limited = json!({ "fail": { "kind": "rate-limited", "status": 429, "retry_after_ms": 700, "times": 1 } });
    let (world, providers) = World::scripted("", &[("east/m1", limited)]).await;
    let started = Instant::now();
    let reply = world.chat("east/m1", "?").await;
    assert_eq!(
        reply.status, 200,
        "waits for the pause to end: {}",
        reply.body
    );
    assert!(started.elapsed() >= Duration::from_millis(700));
    assert_eq!(providers[0].calls(), 2);
    assert_eq!(world.deployment("east/m1")["breaker"], "closed");
}

#[tokio::test]
async fn when_the_pause_is_longer_than_the_deadline_the_caller_is_told_when_to_come_back() {
    let limited =
        json!({ "fail": { "kind": "rate-limited", "status": 429, "retry_after_ms": 60000 } });
    let (world, providers) = World::scripted("", &[("east/m1", limited)]).await;
    let mut request = chat("east/m1", "?");
    request["quorate"] = json!({ "deadline_ms": 2000 });
    for _ in 0..3 {
        let reply = world.post("/v1/chat/completions", &request).await;
        assert_eq!((reply.status, reply.kind().as_str()), (429, "rate-limited"));
        assert!(reply.header("retry-after").parse::<u64>().unwrap() >= 50);
    }
    assert_eq!(providers[0].calls(), 1);
}

#[tokio::test]
async fn a_refused_credential_disables_the_deployment_until_a_reload() {
    let refused = json!({ "fail": { "kind": "auth", "status": 401, "times": 1 } });
    let (world, providers) = World::scripted("", &[("east/m1", refused)]).await;
    let first = world.chat("east/m1", "?").await;
    assert_eq!(
        (first.status, first.kind().as_str()),
        (502, "auth"),
        "our credential, not the caller's"
    );
    let second = world.chat("east/m1", "?").await;
    assert_eq!((second.status, second.kind().as_str()), (502, "auth"));
    assert!(second.body.contains("until a reload"), "{}", second.body);
    assert_eq!(providers[0].calls(), 1);
    assert_eq!(world.deployment("east/m1")["state"], "disabled");
    world
        .orchestrator
        .reload((*world.orchestrator.config()).clone())
        .await
        .unwrap();
    world
        .until("enabled", async |w| {
            w.deployment("east/m1")["state"] == "ready"
        })
        .await;
    assert_eq!(world.chat("east/m1", "?").await.status, 200);
}

#[tokio::test]
async fn one_users_short_deadlines_open_no_breaker_for_the_others() {
    let quick = json!({ "answer": "a b c", "chunks": 3 });
    let (world, providers) = World::scripted("", &[("east/m1", quick)]).await;
    for _ in 0..25 {
        let request = chat_stream("east/m1", "?");
        assert_eq!(
            world
                .post("/v1/chat/completions", &request)
                .await
                .streamed(),
            "a b c"
        );
    }
    let slower = json!({ "answer": "a b c", "chunks": 3, "latency_ms": 600 });
    providers[0].set_script(slower).unwrap();
    let mut impatient = chat_stream("east/m1", "?");
    impatient["user"] = "mallory".into();
    impatient["quorate"] = json!({ "deadline_ms": 550 });
    let ask = async |_| world.post("/v1/chat/completions", &impatient).await.status;
    for _ in 0..5 {
        let statuses = futures_util::future::join_all((0..3).map(ask)).await;
        assert!(statuses.iter().all(|status| *status == 504), "{statuses:?}");
    }
    let patient = world
        .post("/v1/chat/completions", &chat_stream("east/m1", "?"))
        .await;
    assert_eq!(patient.streamed(), "a b c");
}

#[tokio::test]
async fn who_waits_for_a_place_at_a_deployment_does_so_by_lane_and_user() {
    let toml = "[admission]\nper_user = 60\ntotal = 60\n";
    let east = "[[providers]]\nname = \"east\"\nkind = \"scripted\"\nmodels = [{ name = \"m1\", max_in_flight = 1 }]\nscript = { latency_ms = 40 }\n";
    let world = World::start(&format!("{toml}{east}"), Vec::new()).await;
    let mut rpc = world.rpc().await;
    let mut knock = async |id: u64, user: &str, lane: &str| {
        let mut request = chat("east/m1", "?");
        request["user"] = user.into();
        request["quorate"] = json!({ "lane": lane });
        let before = world.in_use();
        rpc.request(id, "ask", &request).await;
        world.until("it is in", async |w| w.in_use() > before).await;
    };
    // The kernel says who is on the socket, so all of these are one user.
    for (id, lane) in [
        (0, "batch"),
        (1, "batch"),
        (2, "batch"),
        (3, "normal"),
        (4, "urgent"),
    ] {
        knock(id, "alice", lane).await;
    }
    let mut order = Vec::new();
    for _ in 0..5 {
        order.push(rpc.next().await.unwrap()["id"].as_u64().unwrap());
    }
    assert_eq!(order, [0, 4, 3, 1, 2]);
}

#[tokio::test]
async fn a_burst_against_a_limit_in_flight_waits_its_turn() {
    let toml = "[admission]\nper_user = 60\ntotal = 60\n";
    let east = "[[providers]]\nname = \"east\"\nkind = \"scripted\"\nmodels = [{ name = \"m1\", max_in_flight = 5 }]\nscript = { latency_ms = 20 }\n";
    let world = World::start(&format!("{toml}{east}"), Vec::new()).await;
    let mut rpc = world.rpc().await;
    for id in 0..50 {
        rpc.request(id, "ask", &chat("east/m1", "?")).await;
    }
    let mut most = 0;
    for _ in 0..50 {
        most = most.max(world.deployment("east/m1")["in_flight"].as_u64().unwrap());
        assert!(rpc.next().await.unwrap()["result"].is_object());
    }
    assert_eq!(most, 5);
}

#[tokio::test]
async fn a_hedge_answers_when_the_first_call_is_slow_and_the_loser_is_cancelled() {
    let toml = "[resilience]\nhedge = true\nhedge_budget = 1.0\n";
    let scripts = [
        ("east/m1", json!({ "latency_ms": 1 })),
        ("west/m1", json!({ "answer": "hedged" })),
    ];
    let (world, providers) = World::scripted(toml, &scripts).await;
    for _ in 0..25 {
        world
            .post("/v1/chat/completions", &chat_stream("m1", "?"))
            .await;
    }
    providers[0]
        .set_script(json!({ "hang": "before" }))
        .unwrap();
    let reply = world
        .post("/v1/chat/completions", &chat_stream("m1", "?"))
        .await;
    assert_eq!(reply.streamed(), "hedged");
    world.until_all_returned().await;
    assert_eq!(providers[0].in_flight(), 0);
}
