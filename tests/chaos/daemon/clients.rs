//! Clients that are slow, rude or many at once. One of each kind alone is `bad_input`'s; here they are a crowd, the
//! daemon is a process whose memory is watched, and others are served all the while.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::place::{Place, Watched, post, status, until};
use super::support::{Daemon, PATIENCE, Rpc, chat, chat_stream};
use super::upstream::Endless;
use super::{provider, so_much};

const CHAT: &str = "/v1/chat/completions";

fn request(body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Somebody else, who notices nothing.
async fn others_are_served(daemon: &Daemon) {
    for _ in 0..20 {
        let reply = daemon.chat("east/m1", "?").await.expect("an answer");
        assert_eq!((reply.status, reply.content().as_str()), (200, "Paris"));
    }
}

async fn permits(daemon: &Daemon) -> u64 {
    status(daemon).await["admission"]["in_use"]
        .as_u64()
        .unwrap()
}

#[tokio::test]
async fn a_crowd_of_slow_readers_of_endless_streams_takes_no_memory_and_is_let_go() {
    let (endless, address) = Endless::start().await;
    let admission = "[admission]\nper_user = 60\ntotal = 60\n";
    let providers = provider("east", "{ answer = \"Paris\" }") + &Endless::provider(address);
    let place = Place::new("write_timeout = \"3s\"", &format!("{admission}{providers}"));
    let daemon = place.start().await;
    let watched = Watched::new(&daemon);
    others_are_served(&daemon).await;
    let (descriptors, memory) = (watched.descriptors(), watched.megabytes());
    let mut readers = JoinSet::new();
    for _ in 0..20 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(place.http).await.unwrap();
        let body = chat_stream("endless/m1", "?");
        stream.write_all(&request(&body)).await.unwrap();
        readers.spawn(async move {
            // A byte a second, until the daemon hangs up.
            while matches!(stream.read(&mut [0]).await, Ok(1)) {
                sleep(Duration::from_secs(1)).await;
            }
        });
    }
    let mut silent = Vec::new();
    for _ in 0..4 {
        let mut rpc = Rpc::connect(&daemon.socket).await;
        for id in 0..5 {
            rpc.request(id, "stream", &chat("endless/m1", "?")).await;
        }
        silent.push(rpc);
    }
    until("all streams run", async || {
        endless.open.load(Ordering::Relaxed) == 40
    })
    .await;
    // Nobody pulls any more, and so the upstream is stopped.
    let mut sent = 0;
    until("the upstream is held back", async || {
        sleep(Duration::from_millis(200)).await;
        let now = endless.sent.load(Ordering::Relaxed);
        std::mem::replace(&mut sent, now) == now
    })
    .await;
    let grown = watched.megabytes().saturating_sub(memory);
    assert!(grown < 80, "{grown} MB for 40 streams");
    others_are_served(&daemon).await;
    until("all are let go", async || permits(&daemon).await == 0).await;
    until("the upstream is let go", async || {
        endless.open.load(Ordering::Relaxed) == 0
    })
    .await;
    drop(silent);
    readers.abort_all();
    watched.until_descriptors_are_back(descriptors).await;
    place.assert_well(&daemon, "east/m1").await;
}

#[tokio::test]
async fn a_crowd_that_never_ends_its_heads_is_let_go_and_keeps_nobody_out() {
    let toml = provider("east", "{ answer = \"Paris\" }");
    let place = Place::new("read_timeout = \"2s\"", &toml);
    let daemon = place.start().await;
    let watched = Watched::new(&daemon);
    others_are_served(&daemon).await;
    let before = watched.descriptors();
    let mut crowd = JoinSet::new();
    for _ in 0..so_much(300, 2000) {
        let mut stream = TcpStream::connect(place.http).await.unwrap();
        crowd.spawn(async move {
            let begun = stream.write_all(b"GET /healthz HTTP/1.1\r\nx-slow: ").await;
            let mut said = begun;
            let until = Instant::now() + PATIENCE;
            while said.is_ok() && Instant::now() < until {
                sleep(Duration::from_millis(200)).await;
                said = stream.write_all(b"x").await;
            }
            said.is_err()
        });
    }
    others_are_served(&daemon).await;
    while let Some(let_go) = crowd.join_next().await {
        assert!(let_go.unwrap(), "somebody is still waited for");
        others_are_served_once(&daemon).await;
    }
    watched.until_descriptors_are_back(before).await;
    place.assert_well(&daemon, "east/m1").await;
}

async fn others_are_served_once(daemon: &Daemon) {
    assert_eq!(daemon.chat("east/m1", "?").await.unwrap().status, 200);
}

#[tokio::test]
async fn bodies_up_to_the_limit_are_served_larger_ones_are_told_so_and_memory_comes_back() {
    let toml = format!(
        "[admission]\nper_user = 40\n{}",
        provider("east", "{ answer = \"Paris\" }")
    );
    let place = Place::new("", &toml);
    // What the program holds is measured, and not what its allocator keeps in store.
    let allocator = "export MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=131072";
    let daemon = place.start_in(&["sh", "-c"], allocator).await;
    let watched = Watched::new(&daemon);
    let body = |length: usize| chat("east/m1", &"x".repeat(length)).to_string();
    let round = async || {
        let mut posts = JoinSet::new();
        // max_body is 10 MB: two of these are too large, one by little and one by much.
        for length in [9_900_000, 10_000_001, 9_900_000, 30_000_000] {
            posts.spawn(post(place.http, CHAT, body(length)));
        }
        let mut statuses = Vec::new();
        for reply in posts.join_all().await {
            let reply = reply.expect("an answer, and no reset, however large the body");
            if reply.status == 413 {
                assert_eq!(reply.kind(), "too-large", "{}", reply.body);
                assert!(reply.body.contains("10000000 bytes"), "{}", reply.body);
            }
            statuses.push(reply.status);
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 413, 413]);
    };
    round().await;
    let memory = watched.megabytes();
    for _ in 0..so_much(1, 10) {
        round().await;
    }
    let after = watched.megabytes();
    assert!(after <= memory + 15, "{after} MB, {memory} before");
    place.assert_well(&daemon, "east/m1").await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_before_it_has_written_all_is_told_why_it_is_too_much() {
    let toml = provider("east", "{ answer = \"Paris\" }");
    let place = Place::new("max_body = \"4MB\"", &toml);
    let daemon = place.start().await;
    let mut stream = TcpStream::connect(place.http).await.unwrap();
    let body = chat("east/m1", &"x".repeat(30_000_000));
    stream.write_all(&request(&body)).await.expect("no reset");
    let mut said = [0; 12];
    stream.read_exact(&mut said).await.expect("no reset");
    assert_eq!(&said, b"HTTP/1.1 413");
    drop(stream);
    place.assert_well(&daemon, "east/m1").await;
}

#[tokio::test]
async fn an_endless_line_is_refused_at_the_limit_and_takes_no_more_memory() {
    let place = Place::new("", &provider("east", "{ answer = \"Paris\" }"));
    let daemon = place.start().await;
    let watched = Watched::new(&daemon);
    others_are_served(&daemon).await;
    let memory = watched.megabytes();
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    let begin = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ask\",\"params\":{\"model\":\"";
    let mut sent = stream.write_all(begin).await;
    let block = vec![b'x'; 1 << 20];
    let mut blocks = 0;
    while sent.is_ok() && blocks < 200 {
        sent = timeout(PATIENCE, stream.write_all(&block))
            .await
            .expect("read on, or hung up on");
        blocks += 1;
    }
    assert!((9..20).contains(&blocks), "{blocks} MB were taken");
    let mut said = String::new();
    let _ = timeout(PATIENCE, stream.read_to_string(&mut said)).await;
    if !said.is_empty() {
        let reply: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(reply["error"]["code"], -32602, "{reply}");
    }
    let grown = watched.megabytes().saturating_sub(memory);
    assert!(grown < 60, "{grown} MB");
    place.assert_well(&daemon, "east/m1").await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_each_once_and_in_their_order() {
    const COUNT: usize = 30;
    let script = "{ echo = true, by_prompt = { slow = { latency_ms = 60 } } }";
    let place = Place::new("", &provider("east", script));
    let daemon = place.start().await;
    let text = |n: usize| format!("{n} {}", if n.is_multiple_of(3) { "slow" } else { "fast" });
    let mut all = Vec::new();
    for n in 0..COUNT {
        all.extend(request(&chat("east/m1", &text(n))));
    }
    // And garbage after them, which ends the connection and none of the answers.
    all.extend(b"\x16\x03\x01 garbage\r\n\r\n");
    let mut stream = TcpStream::connect(place.http).await.unwrap();
    stream.write_all(&all).await.unwrap();
    let mut said = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut said))
        .await
        .expect("the daemon hangs up")
        .unwrap();
    let replies: Vec<&str> = said.split("HTTP/1.1 ").skip(1).collect();
    assert_eq!(replies.len(), COUNT + 1, "{said}");
    for (n, reply) in replies[..COUNT].iter().enumerate() {
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("200"), "{reply}");
        let answer: Value = serde_json::from_str(body).unwrap();
        assert_eq!(answer["choices"][0]["message"]["content"], text(n));
    }
    assert!(replies[COUNT].starts_with("400"), "{}", replies[COUNT]);
    place.assert_well(&daemon, "east/m1").await;
}

#[tokio::test]
async fn a_half_closed_socket_is_answered_where_the_kernel_can_tell_it_from_a_closed_one() {
    let place = Place::new(
        "",
        &provider("east", "{ answer = \"Paris\", latency_ms = 300 }"),
    );
    let daemon = place.start().await;
    let mut rpc = Rpc::connect(&daemon.socket).await;
    rpc.request(1, "ask", &chat("east/m1", "?")).await;
    rpc.request(2, "stream", &chat("east/m1", "?")).await;
    rpc.end_input().await;
    let (mut answered, mut streamed) = (0, 0);
    while let Some(reply) = rpc.next().await {
        answered += usize::from(reply["id"] == 1 && reply["result"]["choices"].is_array());
        streamed += usize::from(reply["id"] == 2 && reply["result"].is_object());
    }
    assert_eq!((answered, streamed), (1, 1));

    // Over TCP both look the same, and who left must not be paid for: its call ends at once.
    let mut stream = TcpStream::connect(place.http).await.unwrap();
    stream
        .write_all(&request(&chat("east/m1", "?")))
        .await
        .unwrap();
    until("it runs", async || permits(&daemon).await == 1).await;
    stream.shutdown().await.unwrap();
    let mut said = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    assert!(ended.expect("an end").is_ok() && said.is_empty());
    until("its call is cancelled", async || {
        let calls = status(&daemon).await["deployments"][0]["calls"].take();
        calls == json!({ "ok": 2, "failed": 0, "rate_limited": 0, "neutral": 1 })
    })
    .await;
    place.assert_well(&daemon, "east/m1").await;
}
