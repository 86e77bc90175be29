//! Connections in masses: more than there are descriptors, more than are allowed, and many that come to nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::place::{Place, Watched, post, status, until};
use super::provider;
use super::support::{PATIENCE, Reply, Rpc, chat, chat_stream};
use super::upstream::Endless;

const CANNOT: &str = "connections cannot be accepted";

fn providers() -> String {
    let slow = "{ answer = \"one two three four five six seven eight nine ten\", chunk_ms = 250 }";
    provider("east", "{ answer = \"Paris\" }") + &provider("slow", slow)
}

async fn connect(place: &Place) -> TcpStream {
    timeout(PATIENCE, TcpStream::connect(place.http))
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn without_descriptors_new_connections_wait_and_running_streams_end_well() {
    let (_upstream, address) = Endless::start().await;
    let place = Place::new("", &(providers() + &Endless::provider(address)));
    let daemon = place.start_in(&["sh", "-c"], "ulimit -n 64").await;
    let mut rpc = Rpc::connect(&daemon.socket).await;
    let watched = Watched::new(&daemon);
    place.assert_well(&daemon, "east/m1").await;
    let before = watched.descriptors();
    let http = place.http;
    let running = tokio::spawn(async move {
        let body = chat_stream("slow/m1", "?").to_string();
        post(http, "/v1/chat/completions", body).await.unwrap()
    });
    until("it runs", async || {
        daemon.metric("quorate_permits_in_use").await == 1.0
    })
    .await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(connect(&place).await);
    }
    until("it is told", async || place.said(CANNOT) > 0).await;
    assert!(watched.descriptors() >= 63, "all of them are in use");
    // Who is in and needs an upstream is told to come again; the upstream is not to blame.
    for _ in 0..12 {
        let reply = rpc.call("ask", &chat("endless/m1", "?")).await;
        let error = &reply["error"]["data"]["quorate"];
        assert_eq!(error["kind"], "overloaded", "{reply}");
        assert!(error["retry_after_ms"].is_u64(), "{reply}");
    }
    // Somebody who comes now waits.
    let mut late = connect(&place).await;
    late.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let (began, busy) = (Instant::now(), watched.processor());
    let reply: Reply = running.await.unwrap();
    assert_eq!(
        reply.streamed(),
        "one two three four five six seven eight nine ten"
    );
    assert!(reply.body.ends_with("data: [DONE]\n\n"), "{}", reply.body);
    let (took, busy) = (began.elapsed(), watched.processor() - busy);
    assert!(busy < took / 2, "busy for {busy:?} of {took:?}");
    assert_eq!(place.said(CANNOT), 1, "{}", place.log());
    drop(crowd);
    let mut said = [0; 12];
    timeout(PATIENCE, late.read_exact(&mut said))
        .await
        .expect("who waited is served")
        .unwrap();
    assert_eq!(&said, b"HTTP/1.1 200");
    drop(late);
    for deployment in status(&daemon).await["deployments"].as_array().unwrap() {
        assert_eq!(deployment["calls"]["failed"], 0, "{deployment}");
        assert_eq!(deployment["breaker"], "closed", "{deployment}");
    }
    watched.until_descriptors_are_back(before).await;
    place.assert_well(&daemon, "east/m1").await;
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed_at_once_and_told_once() {
    let place = Place::new("max_connections = 20", &providers());
    let daemon = place.start().await;
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(connect(&place).await);
    }
    // The first ones stay, but for a place that the test's own question for readiness still held.
    let mut closed = vec![false; crowd.len()];
    until("all but twenty are closed", async || {
        for (connection, closed) in crowd.iter().zip(&mut closed) {
            let open = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
            *closed |= !connection.try_read(&mut [0]).is_err_and(open);
        }
        closed.iter().filter(|closed| **closed).count() == 180
    })
    .await;
    assert_eq!(place.said("too many connections"), 1, "{}", place.log());
    drop(crowd);
    until("a connection is free", async || {
        daemon
            .get("/healthz")
            .await
            .is_some_and(|reply| reply.status == 200)
    })
    .await;
    place.assert_well(&daemon, "east/m1").await;
}

#[tokio::test]
async fn a_crowd_at_the_http_door_keeps_nobody_out_of_the_socket() {
    let place = Place::new("max_connections = 20", &providers());
    let mut daemon = place.start().await;
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(connect(&place).await);
    }
    until("HTTP is full", async || {
        place.said("too many connections") == 1
    })
    .await;
    let mut rpc = Rpc::connect(&daemon.socket).await;
    let reply = rpc.call("status", &serde_json::json!({})).await;
    assert!(reply["result"]["deployments"].is_array(), "{reply}");
    let reply = rpc.call("shutdown", &serde_json::json!({})).await;
    assert!(reply["result"].is_object(), "{reply}");
    assert_eq!(daemon.ended().await, Some(0));
}

#[tokio::test]
async fn two_thousand_connections_opened_and_dropped_leave_nothing() {
    let place = Place::new("", &providers());
    let daemon = place.start().await;
    let watched = Watched::new(&daemon);
    let begin =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999\r\n\r\n{";
    let round = async |what: usize| {
        for _ in 0..10 {
            let mut crowd = Vec::new();
            for _ in 0..100 {
                crowd.push(connect(&place).await);
            }
            for (index, connection) in crowd.iter_mut().enumerate() {
                let said = begin.len() * ((index + what) % 3) / 2;
                // Reset rather than closed, every fifth.
                if index % 5 == 0 {
                    connection.set_zero_linger().unwrap();
                }
                connection
                    .write_all(&begin.as_bytes()[..said])
                    .await
                    .unwrap();
            }
        }
    };
    // The first makes what is kept: buffers, threads.
    round(0).await;
    place.assert_well(&daemon, "east/m1").await;
    sleep(Duration::from_millis(200)).await;
    let (descriptors, memory) = (watched.descriptors(), watched.megabytes());
    round(1).await;
    place.assert_well(&daemon, "east/m1").await;
    watched.until_descriptors_are_back(descriptors).await;
    until("its connections are counted out", async || {
        daemon.metric("quorate_connections").await <= 2.0
    })
    .await;
    let grown = watched.megabytes().saturating_sub(memory);
    assert!(grown < 30, "{grown} MB more than the {memory} before");
}
