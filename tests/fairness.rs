//! One user who floods does not slow another.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod support;

use std::time::Duration;

use quorate::{Lane, Query};
use serde_json::json;
use support::World;
use tokio::task::JoinSet;
use tokio::time::Instant;

fn query(user: &str, lane: Lane, text: &str) -> Query {
    let mut query = Query::new("east/m1", text);
    query.user = user.into();
    query.lane = lane;
    query
}

/// One place in all, so that the order of starts is the order of service.
const ONE: &str = "[admission]\nper_user = 1\ntotal = 1\n";

#[tokio::test]
async fn a_query_behind_another_users_thousand_starts_within_one_service_time() {
    let toml = "[admission]\nper_user = 3\ntotal = 4\nqueue = 2000\n";
    let (world, providers) =
        World::scripted(toml, &[("east/m1", json!({ "latency_ms": 50 }))]).await;
    let mut flood = JoinSet::new();
    for index in 0..1000 {
        let orchestrator = world.orchestrator.clone();
        flood.spawn(async move {
            orchestrator
                .ask(query("a", Lane::Normal, &index.to_string()))
                .await
        });
    }
    world
        .until("the flood waits", async |w| {
            w.orchestrator.status().admission.waiting[1] > 900
        })
        .await;
    let before = providers[0].calls();
    world
        .orchestrator
        .ask(query("b", Lane::Normal, "one"))
        .await
        .unwrap();
    // While B was served, A can have had at most two rounds of its own three places.
    let passed = providers[0].calls() - before;
    assert!(passed <= 8, "{passed} of the flood were served before");
    flood.abort_all();
}

#[tokio::test]
async fn a_flood_beyond_the_queue_costs_the_flooder_and_nobody_else() {
    let toml = "[admission]\nper_user = 1\ntotal = 1\nqueue = 50\n";
    let (world, _) = World::scripted(toml, &[("east/m1", json!({ "latency_ms": 50 }))]).await;
    let mut flood = JoinSet::new();
    for _ in 0..200 {
        let orchestrator = world.orchestrator.clone();
        flood.spawn(async move { orchestrator.ask(query("a", Lane::Normal, "flood")).await });
    }
    world
        .until("the queue is full", async |w| {
            w.orchestrator.status().admission.waiting[1] == 50
        })
        .await;
    let b = world
        .orchestrator
        .ask(query("b", Lane::Normal, "one"))
        .await;
    assert!(b.is_ok(), "{b:?}");
    let mut refused = 0;
    while let Some(answer) = flood.join_next().await {
        if let Err(error) = answer.unwrap() {
            assert_eq!(error.kind(), quorate::ErrorKind::Overloaded);
            assert!(error.retry_after().is_some());
            refused += 1;
        }
    }
    assert!(refused >= 140, "{refused}");
}

#[tokio::test]
async fn urgent_overtakes_normal_and_normal_overtakes_batch() {
    let (world, _) = World::scripted(
        ONE,
        &[("east/m1", json!({ "latency_ms": 30, "echo": true }))],
    )
    .await;
    let mut events = world.orchestrator.subscribe();
    let mut running = JoinSet::new();
    let lanes = [
        ("first", Lane::Normal),
        ("b", Lane::Batch),
        ("n", Lane::Normal),
        ("u", Lane::Urgent),
    ];
    for (waiting, (user, lane)) in lanes.into_iter().enumerate() {
        let orchestrator = world.orchestrator.clone();
        running.spawn(async move { orchestrator.ask(query(user, lane, user)).await });
        world
            .until("it is in", async |w| {
                let admission = w.orchestrator.status().admission;
                admission.in_use == 1 && admission.waiting.iter().sum::<usize>() == waiting
            })
            .await;
    }
    let mut order = Vec::new();
    while order.len() < lanes.len() {
        if let quorate::Event::Decided(row) = events.recv().await.unwrap() {
            order.push(row.user.to_string());
        }
    }
    assert_eq!(order, ["first", "u", "n", "b"]);
}

#[tokio::test]
async fn batch_ages_and_is_not_starved_by_a_stream_of_urgent_queries() {
    let toml = "[admission]\nper_user = 1\ntotal = 1\naging = \"100ms\"\n";
    let (world, _) = World::scripted(toml, &[("east/m1", json!({ "latency_ms": 10 }))]).await;
    let urgent = |orchestrator: quorate::Orchestrator, user: usize| async move {
        loop {
            let _ = orchestrator
                .ask(query(&format!("u{user}"), Lane::Urgent, "?"))
                .await;
        }
    };
    let mut flood = JoinSet::new();
    for user in 0..4 {
        flood.spawn(urgent(world.orchestrator.clone(), user));
    }
    world
        .until("the urgent wait", async |w| {
            w.orchestrator.status().admission.waiting[0] >= 2
        })
        .await;
    let batch = world
        .orchestrator
        .ask(query("patient", Lane::Batch, "?").within(Duration::from_secs(20)))
        .await;
    assert!(batch.is_ok(), "{batch:?}");
    flood.abort_all();
}

#[tokio::test]
async fn a_hundred_users_with_ten_queries_each_are_never_more_than_three_at_once() {
    let toml = "[admission]\ntotal = 500\n";
    let (world, providers) =
        World::scripted(toml, &[("east/m1", json!({ "latency_ms": 5 }))]).await;
    let mut running = JoinSet::new();
    for user in 0..100 {
        for _ in 0..10 {
            let orchestrator = world.orchestrator.clone();
            running.spawn(async move {
                orchestrator
                    .ask(query(&format!("user-{user}"), Lane::Normal, "?"))
                    .await
            });
        }
    }
    while let Some(answer) = running.join_next().await {
        assert!(answer.unwrap().is_ok());
    }
    assert_eq!(providers[0].calls(), 1000);
    assert_eq!(
        providers[0].max_in_flight_per_user(),
        3,
        "as the provider saw it"
    );
}

#[tokio::test]
async fn a_query_whose_deadline_passed_while_it_waited_is_never_started() {
    let (world, providers) =
        World::scripted(ONE, &[("east/m1", json!({ "latency_ms": 300 }))]).await;
    let orchestrator = world.orchestrator.clone();
    let first = tokio::spawn(async move { orchestrator.ask(query("a", Lane::Normal, "?")).await });
    world
        .until("the first runs", async |w| w.in_use() == 1)
        .await;
    let started = Instant::now();
    let late = world
        .orchestrator
        .ask(query("b", Lane::Normal, "?").within(Duration::from_millis(50)))
        .await;
    assert_eq!(late.unwrap_err().kind(), quorate::ErrorKind::Deadline);
    assert!(
        started.elapsed() < Duration::from_millis(300),
        "told in time, not after the wait"
    );
    first.await.unwrap().unwrap();
    assert_eq!(providers[0].calls(), 1);
}

#[tokio::test]
async fn a_query_whose_deadline_has_passed_is_not_started_though_a_place_is_free() {
    let (world, providers) = World::scripted(ONE, &[("east/m1", json!({}))]).await;
    let late = world
        .orchestrator
        .ask(query("a", Lane::Normal, "?").within(Duration::ZERO))
        .await;
    assert_eq!(late.unwrap_err().kind(), quorate::ErrorKind::Deadline);
    assert_eq!(providers[0].calls(), 0);
    world.until_all_returned().await;
}

#[tokio::test]
async fn a_query_that_cannot_make_its_deadline_is_told_at_once() {
    let toml = "[admission]\nper_user = 1\ntotal = 1\nqueue = 100\n";
    let (world, providers) =
        World::scripted(toml, &[("east/m1", json!({ "latency_ms": 20 }))]).await;
    for _ in 0..60 {
        world
            .orchestrator
            .ask(query("a", Lane::Normal, "?"))
            .await
            .unwrap();
    }
    let mut ahead = JoinSet::new();
    for _ in 0..50 {
        let orchestrator = world.orchestrator.clone();
        ahead.spawn(async move { orchestrator.ask(query("a", Lane::Normal, "?")).await });
    }
    world
        .until("they wait", async |w| {
            w.orchestrator.status().admission.waiting[1] > 40
        })
        .await;
    // Some 50 times 20 ms are before it.
    let asked = query("a", Lane::Normal, "?").within(Duration::from_millis(200));
    let started = Instant::now();
    let hopeless = world.orchestrator.ask(asked).await.unwrap_err();
    assert_eq!(
        hopeless.kind(),
        quorate::ErrorKind::Overloaded,
        "{hopeless:?}"
    );
    assert!(hopeless.retry_after().is_some());
    assert!(
        started.elapsed() < Duration::from_millis(200),
        "not at once"
    );
    // Another user has its own turn, and makes it.
    let other = query("b", Lane::Normal, "?").within(Duration::from_millis(2000));
    world.orchestrator.ask(other).await.unwrap();
    while let Some(answer) = ahead.join_next().await {
        answer.unwrap().unwrap();
    }
    assert_eq!(providers[0].calls(), 60 + 50 + 1);
}
