//! Learned state and decisions survive what kills the process.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod support;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Daemon, World};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

const EAST: &str = "[admission]\nper_user = 50\n[[providers]]\nname = \"east\"\nkind = \"scripted\"\nmodels = [\"m1\"]\n";

async fn status(daemon: &Daemon) -> Value {
    daemon.get("/v1/status").await.unwrap().json()
}

fn evidence(status: &Value) -> f64 {
    status["deployments"][0]["total"]["evidence"]
        .as_f64()
        .unwrap()
}

#[tokio::test]
async fn kill_9_under_load_a_hundred_times_never_loses_what_was_learned() {
    let dir = TempDir::new().unwrap();
    let mut known = 0.0;
    for round in 0..100 {
        let daemon = Daemon::start(dir.path(), EAST).await;
        let log = std::fs::read_to_string(dir.path().join("daemon.log")).unwrap();
        assert!(
            !log.contains("damaged") && !log.contains("set aside"),
            "round {round}: {log}"
        );
        let learned = evidence(&status(&daemon).await);
        // Evidence is capped by its decay; until then it only grows.
        assert!(
            learned >= known * 0.99 - 1e-9,
            "round {round}: {learned} after {known}"
        );
        let mut load = JoinSet::new();
        for _ in 0..8 {
            let http = daemon.http;
            load.spawn(async move {
                loop {
                    let request =
                        hyper::Request::post("/v1/chat/completions").header("host", "localhost");
                    let body = support::chat("east/m1", "?").to_string();
                    let stream = tokio::net::TcpStream::connect(http).await;
                    let Ok(stream) = stream else { return };
                    if support::send(stream, request.body(body.into()).unwrap())
                        .await
                        .is_none()
                    {
                        return;
                    }
                }
            });
        }
        // A different moment of the write cycle each time; in the first rounds long enough for a checkpoint.
        let wait = if round < 3 { 300 } else { 5 + (round * 7) % 60 };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        if round < 3 {
            known = learned;
        }
        drop(daemon);
        while load.join_next().await.is_some() {}
        if round == 2 {
            known = evidence_on_disk(dir.path()).await;
            assert!(known > 0.0, "a checkpoint was written");
        }
    }
}

/// What a fresh daemon reads back.
async fn evidence_on_disk(dir: &Path) -> f64 {
    let daemon = Daemon::start(dir, EAST).await;
    evidence(&status(&daemon).await)
}

#[tokio::test]
async fn decisions_are_kept_across_a_restart_and_can_still_be_judged() {
    let dir = TempDir::new().unwrap();
    let daemon = Daemon::start(dir.path(), EAST).await;
    let decision = daemon
        .chat("east/m1", "a secret prompt")
        .await
        .unwrap()
        .header("x-quorate-decision")
        .to_owned();
    // One flush interval.
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(daemon);
    let daemon = Daemon::start(dir.path(), EAST).await;
    let stream = tokio::net::TcpStream::connect(daemon.http).await.unwrap();
    let request = hyper::Request::post("/v1/feedback").header("host", "localhost");
    let body = json!({ "decision": decision, "score": 0.5 }).to_string();
    let reply = support::send(stream, request.body(body.into()).unwrap())
        .await
        .unwrap();
    assert_eq!(reply.json()["outcome"], "recorded", "{}", reply.body);
    assert_nowhere(dir.path(), "a secret prompt");
}

/// That neither the ledger nor the log holds it.
fn assert_nowhere(dir: &Path, prompt: &str) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let found = memchr::memmem::find(&bytes, prompt.as_bytes()).is_some();
            assert!(!found, "{} holds the prompt", path.display());
        }
    }
}

#[tokio::test]
async fn a_prompt_that_an_upstream_repeats_is_told_to_its_caller_alone() {
    for status in ["400 Bad Request", "500 Internal Server Error", "200 OK"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let body = json!({ "error": { "message": "not this: a secret prompt" } }).to_string();
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close");
        let said = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        tokio::spawn(async move {
            while let Ok((mut peer, _)) = listener.accept().await {
                let said = said.clone();
                tokio::spawn(async move {
                    let _ = peer.read(&mut [0; 65536]).await;
                    let _ = peer.write_all(said.as_bytes()).await;
                });
            }
        });
        let dir = TempDir::new().unwrap();
        let upstream = format!(
            "[resilience]\nretries = 0\n[resilience.breaker]\nmin_calls = 2\n[[providers]]\nname = \"east\"\n\
             kind = \"openai\"\nbase_url = \"http://{address}/v1\"\napi_key = \"sk-0123456789\"\nmodels = [\"m1\"]\n"
        );
        let mut daemon = Daemon::start(dir.path(), &upstream).await;
        let reply = daemon.chat("east/m1", "a secret prompt").await.unwrap();
        let error = &reply.json()["error"];
        let told = [&error["message"], &error["quorate"]["attempts"][0]["error"]];
        for told in told {
            assert!(
                told.to_string().contains("a secret prompt"),
                "{}",
                reply.body
            );
        }
        // Opens the breaker, of which the log tells.
        for _ in 0..5 {
            daemon.chat("east/m1", "another prompt").await.unwrap();
        }
        daemon.signal("TERM");
        assert_eq!(daemon.ended().await, Some(0));
        let log = std::fs::read_to_string(dir.path().join("daemon.log")).unwrap();
        assert!(log.contains("attempt failed"), "{log}");
        assert_nowhere(dir.path(), "a secret prompt");
    }
}

#[tokio::test]
async fn cells_damaged_by_hand_are_reported_and_the_others_serve() {
    let dir = TempDir::new().unwrap();
    let two =
        format!("{EAST}[[providers]]\nname = \"west\"\nkind = \"scripted\"\nmodels = [\"m1\"]\n");
    let mut daemon = Daemon::start(dir.path(), &two).await;
    for model in ["east/m1", "west/m1"] {
        daemon.chat(model, "?").await.unwrap();
    }
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await, Some(0));
    let ledger = dir.path().join("ledger.db");
    damage(&ledger, "deployment:east/m1:latency");
    let daemon = Daemon::start(dir.path(), &two).await;
    let log = std::fs::read_to_string(dir.path().join("daemon.log")).unwrap();
    assert!(log.contains("damaged"), "{log}");
    let status = status(&daemon).await;
    let of = |id: &str| {
        let all = status["deployments"].as_array().unwrap();
        all.iter().find(|one| one["id"] == id).unwrap()["total"]["evidence"]
            .as_f64()
            .unwrap()
    };
    assert_eq!(of("east/m1"), 0.0);
    assert!(of("west/m1") > 0.0);
}

/// Changes the payload of the cell with this key, and leaves its checksum.
fn damage(path: &Path, key: &str) {
    let ledger = rusqlite::Connection::open(path).unwrap();
    let update = "UPDATE cells SET payload = payload || ' ' WHERE key = ?1";
    assert_eq!(
        ledger.execute(update, [key]).unwrap(),
        1,
        "the cell is in the file"
    );
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_the_daemon_starts() {
    let dir = TempDir::new().unwrap();
    std::fs::write(
        dir.path().join("ledger.db"),
        b"this is no database, and long enough to be looked at",
    )
    .unwrap();
    let daemon = Daemon::start(dir.path(), EAST).await;
    assert_eq!(daemon.chat("east/m1", "?").await.unwrap().status, 200);
    let names: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        names
            .iter()
            .any(|name| name.starts_with("ledger.db.damaged")),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_costs_no_answer() {
    let (world, _) = World::scripted("", &[("east/m1", json!({}))]).await;
    let ledger = rusqlite::Connection::open(world.dir.path().join("ledger.db")).unwrap();
    ledger.execute_batch("DROP TABLE decisions").unwrap();
    for _ in 0..20 {
        assert_eq!(world.chat("east/m1", "?").await.status, 200);
    }
    world
        .until("it says so", async |w| {
            w.orchestrator.status().ledger.failure.is_some()
        })
        .await;
    assert_eq!(world.chat("east/m1", "?").await.status, 200);
}

/// Keeps a daemon from the ledger's file, as another daemon would.
fn in_use(dir: &Path) -> std::fs::File {
    let lock = std::fs::File::create(dir.join("ledger.lock")).unwrap();
    lock.lock().unwrap();
    lock
}

async fn learned_before(dir: &Path) -> f64 {
    let mut daemon = Daemon::start(dir, EAST).await;
    for _ in 0..20 {
        assert_eq!(daemon.chat("east/m1", "?").await.unwrap().status, 200);
    }
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await, Some(0));
    let known = evidence_on_disk(dir).await;
    assert!(known > 1.0, "{known}");
    known
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = tokio::time::Instant::now() + support::PATIENCE;
    while !holds().await {
        assert!(
            tokio::time::Instant::now() < until,
            "never came true: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn count(dir: &Path, what: &str) -> i64 {
    let ledger = rusqlite::Connection::open(dir.join("ledger.db")).unwrap();
    let count = format!("SELECT count(*) FROM {what}");
    ledger.query_row(&count, [], |row| row.get(0)).unwrap()
}

async fn judge(daemon: &Daemon, decision: &str) -> support::Reply {
    let stream = tokio::net::TcpStream::connect(daemon.http).await.unwrap();
    let request = hyper::Request::post("/v1/feedback").header("host", "localhost");
    let body = json!({ "decision": decision, "score": 0.5 }).to_string();
    let reply = support::send(stream, request.body(body.into()).unwrap()).await;
    reply.unwrap()
}

#[tokio::test]
async fn a_file_that_cannot_be_used_at_the_start_is_gone_on_from_and_written_as_soon_as_it_can() {
    let dir = TempDir::new().unwrap();
    let known = learned_before(dir.path()).await;
    let lock = in_use(dir.path());
    let daemon = Daemon::start(dir.path(), EAST).await;
    let now = status(&daemon).await;
    assert!(
        evidence(&now) >= known * 0.99,
        "{} of {known}",
        evidence(&now)
    );
    let failure = now["ledger"]["failure"].as_str().unwrap();
    assert!(failure.contains("in memory only until"), "{failure}");
    assert_eq!(daemon.metric("quorate_ledger_healthy").await, 0.0);
    let mut last = String::new();
    for _ in 0..20 {
        let reply = daemon.chat("east/m1", "?").await.unwrap();
        last = reply.header("x-quorate-decision").to_owned();
    }
    // What came since the start can be judged meanwhile. Of what else there may be in the file nobody knows.
    let reply = judge(&daemon, &last).await;
    assert_eq!(reply.json()["outcome"], "recorded", "{}", reply.body);
    let reply = judge(&daemon, "some other").await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, "1"));
    assert_eq!(
        (
            count(dir.path(), "decisions"),
            count(dir.path(), "feedback")
        ),
        (20, 0)
    );

    drop(lock);
    until("the file is used", async || {
        status(&daemon).await["ledger"]["failure"].is_null()
            && daemon.metric("quorate_ledger_healthy").await == 1.0
    })
    .await;
    assert_eq!(
        (
            count(dir.path(), "decisions"),
            count(dir.path(), "feedback")
        ),
        (40, 1)
    );
    assert_eq!(judge(&daemon, "some other").await.status, 400);
    let other = std::fs::File::open(dir.path().join("ledger.lock")).unwrap();
    assert!(other.try_lock().is_err(), "it is ours now");
    let learned = evidence(&status(&daemon).await);
    // All is in the file already.
    drop(daemon);
    let kept = evidence_on_disk(dir.path()).await;
    assert!(
        kept > known && kept >= learned * 0.99,
        "{kept} of {learned}, {known} before"
    );
}

#[tokio::test]
async fn what_somebody_else_wrote_meanwhile_is_not_overwritten() {
    let dir = TempDir::new().unwrap();
    learned_before(dir.path()).await;
    let lock = in_use(dir.path());
    let mut daemon = Daemon::start(dir.path(), EAST).await;
    let ability = "cells WHERE key = 'deployment:east/m1:ability'";
    let file = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
    file.execute(&format!("DELETE FROM {ability}"), []).unwrap();
    drop((file, lock));
    let log = || std::fs::read_to_string(dir.path().join("daemon.log")).unwrap();
    until("it is told", async || log().contains("is left as it is")).await;
    assert_eq!(daemon.chat("east/m1", "?").await.unwrap().status, 200);
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await, Some(0));
    assert_eq!(count(dir.path(), ability), 0);
    assert_eq!(log().matches("is left as it is").count(), 1, "{}", log());
}

#[tokio::test]
async fn a_judgement_of_a_decision_that_waits_for_the_disk_is_told_to_come_again() {
    let dir = TempDir::new().unwrap();
    let daemon = Daemon::start(dir.path(), EAST).await;
    let other = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reply = daemon.chat("east/m1", "?").await.unwrap();
    let decision = reply.header("x-quorate-decision").to_owned();
    let reply = judge(&daemon, &decision).await;
    assert_eq!(
        (reply.status, reply.header("retry-after")),
        (503, "1"),
        "{}",
        reply.body
    );
    assert_eq!(reply.kind(), "overloaded");
    other.execute_batch("COMMIT").unwrap();
    until("it is taken", async || {
        judge(&daemon, &decision).await.json()["outcome"] == "recorded"
    })
    .await;
}
