//! What dies comes back, and nobody else notices.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod support;

use std::time::Duration;

use quorate::{Message, Query};
use serde_json::json;
use support::World;
use tokio::task::JoinSet;

#[tokio::test]
async fn a_provider_actor_that_dies_disturbs_no_other_and_comes_back_as_it_was() {
    let slow = json!({ "latency_ms": 150 });
    let fails = json!({ "fail": { "kind": "upstream", "status": 500 } });
    let scripts = [
        ("east/m1", slow.clone()),
        ("west/m1", slow),
        ("sick/m1", fails),
    ];
    let toml = "[admission]\nper_user = 200\ntotal = 200\n[resilience]\nretries = 0\n[resilience.breaker]\nmin_calls = 3\n";
    let (world, _) = World::scripted(toml, &scripts).await;
    while world.deployment("sick/m1")["breaker"] != "open" {
        world.chat("sick/m1", "?").await;
    }
    let known = world.deployment("sick/m1");

    let mut queries = JoinSet::new();
    for index in 0..100 {
        let orchestrator = world.orchestrator.clone();
        let model = if index % 2 == 0 { "east/m1" } else { "west/m1" };
        queries.spawn(async move { orchestrator.ask(Query::new(model, "?")).await });
    }
    world.until("they run", async |w| w.in_use() == 100).await;
    assert!(world.orchestrator.poison("sick/m1"));
    while let Some(answer) = queries.join_next().await {
        assert!(answer.unwrap().is_ok());
    }
    world
        .until("it is back", async |w| {
            restarts(w, "root/providers/sick/m1") == 1
        })
        .await;
    let after = world.deployment("sick/m1");
    for field in [
        "breaker",
        "calls",
        "failure_rate",
        "total",
        "quality",
        "last_error",
    ] {
        assert_eq!(after[field], known[field], "{field}");
    }
}

#[tokio::test]
async fn a_query_on_a_deployment_whose_actor_dies_is_answered_by_the_call_already_under_way() {
    let (world, _) = World::scripted("", &[("east/m1", json!({ "latency_ms": 200 }))]).await;
    let orchestrator = world.orchestrator.clone();
    let query = tokio::spawn(async move { orchestrator.ask(Query::new("east/m1", "?")).await });
    world
        .until("it runs", async |w| {
            w.deployment("east/m1")["in_flight"] == 1
        })
        .await;
    world.orchestrator.poison("east/m1");
    assert!(query.await.unwrap().is_ok());
    world.until_all_returned().await;
}

#[tokio::test]
async fn a_deployment_that_dies_too_often_takes_down_its_provider_alone_until_a_reload() {
    let scripts = [
        ("east/m1", json!({})),
        ("sick/m1", json!({})),
        ("sick/m2", json!({})),
    ];
    let (world, _) = World::scripted("[resilience]\nretries = 0\n", &scripts).await;
    let abandoned = async |world: &World| {
        let actors = world.orchestrator.status().actors;
        let state = actors
            .iter()
            .find(|actor| actor.path == "root/providers/sick")
            .map(|actor| actor.state);
        state == Some(quorate::supervisor::ChildState::Abandoned)
    };
    // Past the deployment's intensity the provider's supervisor is restarted, past its own it is left down.
    while !abandoned(&world).await {
        world.orchestrator.poison("sick/m1");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(
            world.chat("east/m1", "?").await.status,
            200,
            "the other provider serves all the while"
        );
    }
    let reply = world.chat("sick/m1", "?").await;
    assert_eq!(reply.kind(), "internal", "{}", reply.body);
    assert!(world.orchestrator.is_ready());
    let config = (*world.orchestrator.config()).clone();
    world.orchestrator.reload(config).await.unwrap();
    assert_eq!(world.chat("sick/m2", "?").await.status, 200);
}

#[tokio::test]
async fn the_ensembler_comes_back_and_its_running_ensembles_say_so() {
    let scripts = [
        ("east/m1", json!({ "latency_ms": 300 })),
        ("west/m1", json!({ "latency_ms": 300 })),
    ];
    let (world, _) = World::scripted("", &scripts).await;
    let ensemble = || {
        let mut query = Query::of("auto", vec![Message::user("?")]);
        query.routing.ensemble = vec!["east/m1".into(), "west/m1".into()];
        query
    };
    let orchestrator = world.orchestrator.clone();
    let running = tokio::spawn({
        let query = ensemble();
        async move { orchestrator.ask(query).await }
    });
    world
        .until("it runs", async |w| {
            w.deployment("east/m1")["in_flight"] == 1
        })
        .await;
    world.orchestrator.poison("ensembler");
    let error = running.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("restarted"), "{error}");
    world
        .until("it is back", async |w| restarts(w, "root/ensembler") == 1)
        .await;
    assert!(world.orchestrator.ask(ensemble()).await.is_ok());
    world.until_all_returned().await;
}

#[tokio::test]
async fn two_orchestrators_in_one_process_do_not_meet() {
    let (one, _) = World::scripted("", &[("east/m1", json!({ "answer": "one" }))]).await;
    let (two, _) = World::scripted("", &[("east/m1", json!({ "answer": "two" }))]).await;
    one.orchestrator.poison("east/m1");
    assert_eq!(two.chat("east/m1", "?").await.content(), "two");
    assert_eq!(restarts(&two, "root/providers/east/m1"), 0);
    one.stop().await.unwrap();
    assert_eq!(two.chat("east/m1", "?").await.content(), "two");
}

fn restarts(world: &World, path: &str) -> u64 {
    let actors = world.orchestrator.status().actors;
    actors
        .iter()
        .find(|actor| actor.path == path)
        .map_or(0, |actor| actor.restarts)
}
