//! Start, reload, shutdown.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Daemon, Rpc, World, chat, chat_stream, quorate};
use tempfile::TempDir;
use tokio::task::JoinSet;

fn scripted(name: &str, script: &str) -> String {
    format!(
        "[[providers]]\nname = \"{name}\"\nkind = \"scripted\"\nmodels = [\"m1\"]\nscript = {script}\n"
    )
}

#[tokio::test]
async fn sigterm_answers_who_waits_finishes_who_runs_and_exits_with_zero() {
    let dir = TempDir::new().unwrap();
    let toml = format!(
        "[admission]\nper_user = 1\ntotal = 1\n{}",
        scripted("east", "{ latency_ms = 700 }")
    );
    let mut daemon = Daemon::start(dir.path(), &toml).await;
    let mut rpc = Rpc::connect(&daemon.socket).await;
    rpc.request(1, "ask", &chat("east/m1", "?")).await;
    while daemon.metric("quorate_permits_in_use").await < 1.0 {}
    rpc.request(2, "ask", &chat("east/m1", "?")).await;
    while daemon.metric("quorate_queue_depth").await < 1.0 {}
    daemon.signal("TERM");
    let first = rpc.next().await.unwrap();
    assert_eq!(
        (
            first["id"].clone(),
            first["error"]["data"]["quorate"]["kind"].clone()
        ),
        (2.into(), "overloaded".into())
    );
    let second = rpc.next().await.unwrap();
    assert!(second["result"]["choices"].is_array(), "{second}");
    assert_eq!(daemon.ended().await, Some(0));
    assert!(!daemon.socket.exists());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let dir = TempDir::new().unwrap();
    let mut daemon = Daemon::start(dir.path(), &scripted("east", "{ hang = \"before\" }")).await;
    let mut rpc = Rpc::connect(&daemon.socket).await;
    rpc.request(1, "ask", &chat("east/m1", "?")).await;
    while daemon.metric("quorate_permits_in_use").await < 1.0 {}
    daemon.signal("TERM");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(
        daemon.child.try_wait().unwrap().is_none(),
        "the running query may end"
    );
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await, Some(143));
}

#[tokio::test]
async fn the_socket_and_its_directory_are_the_owners_alone() {
    let dir = TempDir::new().unwrap();
    let toml = scripted("east", "{}");
    let daemon = Daemon::start(dir.path(), &toml).await;
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&daemon.socket), 0o600);
    assert_eq!(mode(&dir.path().join("ledger.db")), 0o600);
}

#[tokio::test]
async fn a_stale_socket_is_taken_over_and_a_served_one_is_not() {
    let dir = TempDir::new().unwrap();
    let toml = scripted("east", "{}");
    let daemon = Daemon::start(dir.path(), &toml).await;
    let mut second = quorate();
    second
        .arg("serve")
        .arg("--config")
        .arg(&daemon.config)
        .args(["--set", "server.http=off"]);
    let second = second
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another daemon"), "{said}");
    drop(daemon);
    // Killed: its socket file is still there.
    assert!(dir.path().join("q.sock").exists());
    let daemon = Daemon::start(dir.path(), &toml).await;
    assert_eq!(daemon.chat("east/m1", "?").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_reload_swaps_providers_and_a_bad_file_keeps_the_old_ones_and_says_why() {
    let dir = TempDir::new().unwrap();
    let daemon = Daemon::start(dir.path(), &scripted("east", "{ answer = \"old\" }")).await;
    let mut rpc = Rpc::connect(&daemon.socket).await;
    let text = std::fs::read_to_string(&daemon.config).unwrap();
    std::fs::write(
        &daemon.config,
        text.replace("east", "west").replace("old", "new"),
    )
    .unwrap();
    let reply = rpc.call("reload", &Value::Null).await;
    assert_eq!(reply["result"]["added"], json!(["west/m1"]), "{reply}");
    assert_eq!(daemon.chat("west/m1", "?").await.unwrap().content(), "new");
    assert_eq!(daemon.chat("east/m1", "?").await.unwrap().status, 404);

    std::fs::write(
        &daemon.config,
        format!("{text}\n[admission]\nper_usr = 3\n"),
    )
    .unwrap();
    let reply = rpc.call("reload", &Value::Null).await;
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(message.contains("per_usr"), "{message}");
    assert_eq!(daemon.chat("west/m1", "?").await.unwrap().content(), "new");
    daemon.signal("HUP");
    assert_eq!(daemon.chat("west/m1", "?").await.unwrap().content(), "new");
}

#[tokio::test]
async fn a_reload_without_the_file_fails_and_what_needs_a_start_is_told_until_it_is_reverted() {
    let dir = TempDir::new().unwrap();
    let daemon = Daemon::start(dir.path(), &scripted("east", "{ answer = \"old\" }")).await;
    let mut rpc = Rpc::connect(&daemon.socket).await;
    let text = std::fs::read_to_string(&daemon.config).unwrap();
    let elsewhere = text.replace("ledger.db", "other.db");
    assert_ne!(elsewhere, text);
    for (text, pending) in [
        (&elsewhere, json!(["ledger.path"])),
        (&elsewhere, json!(["ledger.path"])),
        (&text, json!([])),
    ] {
        std::fs::write(&daemon.config, text).unwrap();
        let reply = rpc.call("reload", &Value::Null).await;
        assert_eq!(reply["result"]["at_next_start"], pending, "{reply}");
    }
    std::fs::remove_file(&daemon.config).unwrap();
    let reply = rpc.call("reload", &Value::Null).await;
    assert!(reply["error"]["message"].is_string(), "{reply}");
    assert_eq!(daemon.chat("east/m1", "?").await.unwrap().content(), "old");
}

#[tokio::test]
async fn a_reload_leaves_no_door_to_other_machines_without_keys() {
    let open = "[server]\nhttp = \"0.0.0.0:4180\"\nallow_remote = true\n\
        [[keys]]\nuser = \"alice\"\nhash = \"blake3:\
        0000000000000000000000000000000000000000000000000000000000000000\"\n";
    let config = |text: &str| {
        let memory = format!("{text}[ledger]\npath = \"off\"\n");
        quorate::Config::parse(&memory, "quorate.toml", Vec::new(), &[]).unwrap()
    };
    let orchestrator = quorate::Orchestrator::builder(config(open))
        .start()
        .await
        .unwrap();
    let refused = orchestrator.reload(config("")).await.unwrap_err();
    assert!(refused.to_string().contains("server.http"), "{refused}");
    assert_eq!(orchestrator.config().keys.len(), 1);
}

#[tokio::test]
async fn reloading_under_load_loses_no_query() {
    let config = format!(
        "[admission]\nper_user = 40\n[models.any]\nuse = [\"east/m1\", \"west/m1\"]\n{}{}",
        scripted("east", "{ latency_ms = 5 }"),
        scripted("west", "{ latency_ms = 5 }"),
    );
    let world = World::start(&config, Vec::new()).await;
    let both = (*world.orchestrator.config()).clone();
    let mut west_only = both.clone();
    west_only.providers.remove(0);
    west_only
        .models
        .get_mut("any")
        .unwrap()
        .candidates
        .remove(0);
    let mut load = JoinSet::new();
    for _ in 0..20 {
        let orchestrator = world.orchestrator.clone();
        load.spawn(async move {
            for _ in 0..50 {
                let answer = orchestrator.ask(quorate::Query::new("any", "?")).await;
                assert!(answer.is_ok(), "{answer:?}");
            }
        });
    }
    for _ in 0..20 {
        world.orchestrator.reload(west_only.clone()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        world.orchestrator.reload(both.clone()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while let Some(done) = load.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_removed_provider_drains_its_running_calls_to_the_end() {
    let config = format!(
        "{}{}",
        scripted("east", "{ answer = \"a b c\", chunk_ms = 100 }"),
        scripted("west", "{}")
    );
    let world = World::start(&config, Vec::new()).await;
    let address = world.http;
    let running = tokio::spawn(async move {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = hyper::Request::post("/v1/chat/completions").header("host", "localhost");
        support::send(
            stream,
            request
                .body(chat_stream("east/m1", "?").to_string().into())
                .unwrap(),
        )
        .await
        .unwrap()
    });
    world.until("it runs", async |w| w.in_use() == 1).await;
    let mut config = (*world.orchestrator.config()).clone();
    config.providers.remove(0);
    let reloaded = world.orchestrator.reload(config).await.unwrap();
    assert_eq!(reloaded.removed.len(), 1);
    assert_eq!(running.await.unwrap().streamed(), "a b c");
    world
        .until("its actor is gone", async |w| {
            w.orchestrator
                .status()
                .actors
                .iter()
                .all(|actor| !actor.path.contains("east"))
        })
        .await;
}

#[tokio::test]
async fn shutdown_over_the_socket_ends_the_daemon() {
    let dir = TempDir::new().unwrap();
    let mut daemon = Daemon::start(dir.path(), &scripted("east", "{}")).await;
    let mut rpc = Rpc::connect(&daemon.socket).await;
    assert_eq!(
        rpc.call("shutdown", &Value::Null).await["result"],
        json!({})
    );
    assert_eq!(daemon.ended().await, Some(0));
}

#[tokio::test]
async fn a_closed_orchestrator_refuses_queries() {
    let (world, _) = World::scripted("", &[("east/m1", json!({}))]).await;
    let orchestrator = world.orchestrator.clone();
    world.stop().await.unwrap();
    let error = orchestrator
        .ask(quorate::Query::new("east/m1", "?"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), quorate::ErrorKind::Overloaded);
    assert!(!orchestrator.is_ready());
}

#[tokio::test]
async fn a_provider_that_was_removed_and_comes_back_remembers() {
    let config = format!("{}{}", scripted("east", "{}"), scripted("west", "{}"));
    let world = World::start(&config, Vec::new()).await;
    world.chat("east/m1", "?").await;
    let learned = |world: &World| {
        world.deployment("east/m1")["total"]["evidence"]
            .as_f64()
            .unwrap()
    };
    world.until("learned", async |w| learned(w) > 0.0).await;
    let known = learned(&world);
    let both = (*world.orchestrator.config()).clone();
    let mut without = both.clone();
    without.providers.remove(0);
    world.orchestrator.reload(without).await.unwrap();
    world.orchestrator.reload(both).await.unwrap();
    assert_eq!(learned(&world), known);
    assert_eq!(world.chat("east/m1", "?").await.status, 200);
}

#[tokio::test]
async fn a_stream_that_outlives_the_shutdown_ends_with_an_error_and_the_doors_refuse() {
    let dir = TempDir::new().unwrap();
    let script = "{ answer = \"a b c d e f g h\", chunk_ms = 400 }";
    let mut daemon = Daemon::start(dir.path(), &scripted("east", script)).await;
    // The patience of `[server]` is the file's; the test has to wait less.
    let text = std::fs::read_to_string(&daemon.config).unwrap();
    std::fs::write(
        &daemon.config,
        text.replace("[server]", "[server]\nshutdown_timeout = \"300ms\""),
    )
    .unwrap();
    assert!(
        Rpc::connect(&daemon.socket)
            .await
            .call("reload", &Value::Null)
            .await["result"]
            .is_object()
    );
    let http = daemon.http;
    let running = tokio::spawn(async move {
        let stream = tokio::net::TcpStream::connect(http).await.unwrap();
        let request = hyper::Request::post("/v1/chat/completions").header("host", "localhost");
        let body = chat_stream("east/m1", "?").to_string();
        support::send(stream, request.body(body.into()).unwrap())
            .await
            .unwrap()
    });
    while daemon.metric("quorate_permits_in_use").await < 1.0 {}
    tokio::time::sleep(Duration::from_millis(500)).await;
    daemon.signal("TERM");
    let reply = running.await.unwrap();
    let last: Value = serde_json::from_str(reply.events().last().unwrap()).unwrap();
    assert_eq!(
        last["error"]["quorate"]["kind"], "overloaded",
        "{}",
        reply.body
    );
    assert_eq!(daemon.ended().await, Some(0));
}
