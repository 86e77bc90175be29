//! Open-loop load while the faults of one of two upstreams change: at the end every query was answered exactly once,
//! and everything is as it was at the beginning.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};

use super::place::{Place, Watched, post};
use super::support::{Reply, Rpc, chat, chat_stream};
use super::{provider, so_much};

/// Between two queries; new ones come whether or not the old are answered.
const EVERY: Duration = Duration::from_millis(10);
/// How long a fault lasts.
const SPELL: Duration = Duration::from_millis(700);

#[rustfmt::skip]
/// What `east` does, one after the other. `west` is well.
const FAULTS: [&str; 10] = [
    "{ echo = true, chunk_ms = 2 }",
    "{ echo = true, fail = { kind = \"upstream\", status = 500, ratio = 0.3 } }",
    "{ echo = true, hang = \"before\" }",
    "{ echo = true, finish = \"none\" }",
    "{ echo = true, panic = true }",
    "{ echo = true, fail = { kind = \"rate-limited\", status = 429, retry_after_ms = 300 } }",
    "{ echo = true, latency_ms = 200 }",
    "{ echo = true, chunks = 3, panic = { after_chunks = 1 } }",
    "{ echo = true, fail = { kind = \"connect\" } }",
    "{ echo = true, chunks = 3, hang = \"after_chunks:1\" }",
];

fn configuration(fault: &str) -> String {
    format!(
        "[admission]\nper_user = 1000\ntotal = 1000\n[models.any]\nuse = [\"east/m1\", \"west/m1\"]\n\
         [resilience]\nfirst_token_timeout = \"300ms\"\nidle_timeout = \"300ms\"\nbackoff_base = \"20ms\"\n\
         [resilience.breaker]\nopen_for = \"200ms\"\nprobe_deadline = \"500ms\"\n{}{}",
        provider("east", fault),
        provider("west", "{ echo = true, latency_ms = 5 }")
    )
}

/// How a query of the soak ended, as its client saw it.
#[derive(Debug, PartialEq)]
enum End {
    /// With its own text.
    Answered,
    /// A stream that broke off and said so.
    Broken,
    /// The client left.
    Left,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soak_under_changing_faults_answers_every_query_once_and_leaves_nothing() {
    let place = Place::new("", &configuration(FAULTS[0]));
    let daemon = place.start().await;
    let watched = Watched::new(&daemon);
    let rpc = Arc::new(Mutex::new(Rpc::connect(&daemon.socket).await));
    place.assert_well(&daemon, "any").await;
    let before = watched.descriptors();
    let asked_before = daemon.metric("quorate_queries_total").await;

    let until = Instant::now() + Duration::from_secs(so_much(9, 60));
    let mut queries = JoinSet::new();
    let (mut clock, mut fault) = (interval(EVERY), 0);
    let mut changed = Instant::now();
    let mut sent = 0;
    while Instant::now() < until {
        clock.tick().await;
        queries.spawn(ask(place.http, daemon.socket.clone(), sent));
        sent += 1;
        if changed.elapsed() >= SPELL {
            (changed, fault) = (Instant::now(), fault + 1);
            place.configure("", &configuration(FAULTS[fault % FAULTS.len()]));
            // Beside the load, which does not wait for it.
            let rpc = Arc::clone(&rpc);
            tokio::spawn(async move {
                let reply = rpc.lock().await.call("reload", &Value::Null).await;
                assert!(reply["result"].is_object(), "{reply}");
            });
        }
    }
    let ends = queries.join_all().await;
    assert!(fault >= FAULTS.len(), "every fault had its spell");
    let count = |end: End| ends.iter().filter(|one| **one == end).count();
    let (answered, broken, left) = (count(End::Answered), count(End::Broken), count(End::Left));
    assert_eq!(answered + broken + left, sent);
    assert!(answered > sent / 2, "{answered} of {sent}, {broken} broken");

    // `any` for the same reason: `east` may be resting still.
    super::place::until("everything returned", async || {
        daemon.metric("quorate_permits_in_use").await == 0.0
            && daemon.metric("quorate_in_flight").await == 0.0
    })
    .await;
    let log = place.log();
    let panics = log.lines().filter(|line| line.contains(" panicked at "));
    assert!(
        panics.clone().all(|line| line.contains("scripted")),
        "{:?}",
        panics.collect::<Vec<_>>()
    );
    // Each was counted once; whoever left may have been gone before it was read.
    let counted = daemon.metric("quorate_queries_total").await - asked_before;
    let least = (sent - left) as f64;
    assert!(
        (least..=sent as f64).contains(&counted),
        "{counted} of {sent}, {left} left"
    );
    place.configure("", &configuration(FAULTS[0]));
    let reply = rpc.lock().await.call("reload", &Value::Null).await;
    assert!(reply["result"].is_object(), "{reply}");
    watched.until_descriptors_are_back(before).await;
    let status = super::place::status(&daemon).await;
    for deployment in status["deployments"].as_array().unwrap() {
        assert_eq!(deployment["in_flight"], 0, "{deployment}");
    }
    assert_eq!(status["admission"]["waiting"], serde_json::json!([0, 0, 0]));
}

/// One query with a text of its own, in one of four ways.
async fn ask(http: SocketAddr, socket: PathBuf, n: usize) -> End {
    let text = format!("query number {n} has words");
    let path = "/v1/chat/completions";
    match n % 8 {
        0 => {
            let body = chat_stream("any", &text).to_string();
            let mut stream = TcpStream::connect(http).await.unwrap();
            let length = body.len();
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
            );
            stream.write_all((head + &body).as_bytes()).await.unwrap();
            sleep(Duration::from_millis(n as u64 % 30)).await;
            End::Left
        }
        1..=3 => {
            let body = chat_stream("any", &text).to_string();
            streamed(&post(http, path, body).await.expect("an answer"), &text)
        }
        4..=6 => {
            let reply = post(http, path, chat("any", &text).to_string())
                .await
                .expect("an answer");
            // Nothing has reached the client before the whole is there, so there is always somebody to fall back to.
            assert_eq!(
                (reply.status, reply.content()),
                (200, text),
                "{}",
                reply.body
            );
            End::Answered
        }
        _ => {
            let mut rpc = Rpc::connect(&socket).await;
            rpc.request(1, "ask", &chat("any", &text)).await;
            rpc.end_input().await;
            let reply = rpc.next().await.expect("a reply");
            let said = &reply["result"]["choices"][0]["message"]["content"];
            assert_eq!(*said, text, "{reply}");
            assert_eq!(rpc.next().await, None, "one reply and no more");
            End::Answered
        }
    }
}

fn streamed(reply: &Reply, text: &str) -> End {
    assert_eq!(reply.status, 200, "{}", reply.body);
    let events = reply.events();
    if events.last().unwrap() == "[DONE]" {
        assert_eq!(reply.streamed(), text);
        return End::Answered;
    }
    // Never a silent end, and what came until then is the beginning of the answer.
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    let kind = last["error"]["quorate"]["kind"]
        .as_str()
        .unwrap_or_default();
    assert!(
        ["truncated", "timeout", "internal"].contains(&kind),
        "{}",
        reply.body
    );
    assert!(text.starts_with(&reply.streamed()), "{}", reply.body);
    End::Broken
}
