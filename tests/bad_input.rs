//! Malformed, oversized and slow input at both doors: each is refused with its cause, and the same daemon serves
//! the next request with nothing lost.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use quorate::config::Server;
use serde_json::{Value, json};
use support::{PATIENCE, Reply, Rpc, World, chat, chat_stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout};

const CHAT: &str = "/v1/chat/completions";
/// As a patience, short enough to wait for and long enough for a busy machine to send a request in.
const SHORT: Duration = Duration::from_millis(400);
/// More than the buffers of the system and the daemon take together.
const BIG: usize = 24_000_000;

#[rustfmt::skip]
/// A body, the field its refusal names, and a part of what it says.
const WRONG_BODIES: &[(&str, Option<&str>, &str)] = &[
    ("", None, "not valid JSON"),
    ("{", None, "not valid JSON"),
    ("hello", None, "not valid JSON"),
    ("\u{feff}{}", None, "not valid JSON"),
    ("{}{}", Some("model"), "is missing"),
    (r#"{"model":"east/m1","messages":[{"role":"user","content":"?"}]} x"#, None, "trailing characters"),
    ("null", None, "expected an object"),
    ("[]", None, "expected an object"),
    ("\"east/m1\"", None, "expected an object"),
    (r#"{"messages":[]}"#, Some("model"), "a deployment, an alias"),
    (r#"{"model":7}"#, Some("model"), "expected a string"),
    (r#"{"model":"","messages":[{"role":"user"}]}"#, Some("model"), "1 to 512 bytes"),
    (r#"{"model":"east/m1"}"#, Some("messages"), "at least one message"),
    (r#"{"model":"east/m1","messages":[]}"#, Some("messages"), "at least one message"),
    (r#"{"model":"east/m1","messages":"?"}"#, Some("messages"), "expected an array"),
    (r#"{"model":"east/m1","messages":[{"role":"user"},7]}"#, Some("messages[1]"), "expected an object"),
    (r#"{"model":"east/m1","messages":[{"content":"?"}]}"#, Some("messages[0].role"), "is missing: system, developer"),
    (r#"{"model":"east/m1","messages":[{"role":"king"}]}"#, Some("messages[0].role"), "king"),
    (r#"{"model":"east/m1","messages":[{"role":"user","content":7}]}"#, Some("messages[0].content"), "a string or an array of parts"),
    (r#"{"model":"east/m1","messages":[{"role":"user","content":"\ud800"}]}"#, None, "not valid JSON"),
];

#[rustfmt::skip]
/// A member beside the model and the message, the field its refusal names, and a part of what it says.
const WRONG_MEMBERS: &[(&str, &str, &str)] = &[
    (r#""temperature":"hot""#, "temperature", "expected a number"),
    (r#""temperature":2.1"#, "temperature", "from 0 to 2"),
    (r#""top_p":-0.1"#, "top_p", "from 0 to 1"),
    (r#""presence_penalty":3"#, "presence_penalty", "from -2 to 2"),
    (r#""max_tokens":0"#, "max_tokens", "at least 1"),
    (r#""max_tokens":-1"#, "max_tokens", "an integer from 0"),
    (r#""max_completion_tokens":1.5"#, "max_completion_tokens", "an integer from 0"),
    (r#""n":17"#, "n", "from 1 to 16"),
    (r#""seed":"x""#, "seed", "expected an integer"),
    (r#""stop":7"#, "stop", "a string or an array of strings"),
    (r#""stream":"yes""#, "stream", "expected a boolean"),
    (r#""tools":{}"#, "tools", "expected an array"),
    (r#""tool_choice":7"#, "tool_choice", "names a tool"),
    (r#""response_format":"json""#, "response_format", "json_schema"),
    (r#""user":"""#, "user", "1 to 512 bytes"),
    (r#""quorate":[]"#, "quorate", "must be an object"),
    (r#""quorate":{"lanes":"urgent"}"#, "quorate.lanes", "allowed are lane, deadline_ms"),
    (r#""quorate":{"lane":"fast"}"#, "quorate.lane", "urgent, normal or batch"),
    (r#""quorate":{"deadline_ms":0}"#, "quorate.deadline_ms", "from 1 to 86400000"),
    (r#""quorate":{"deadline_ms":1e30}"#, "quorate.deadline_ms", "from 1 to 86400000"),
    (r#""quorate":{"ensemble":[]}"#, "quorate.ensemble", "1 to 16 models"),
    (r#""quorate":{"ensemble":["east/m1"],"quorum":2}"#, "quorate.quorum", "at most 1"),
    (r#""quorate":{"merge":"mix"}"#, "quorate.merge", "plurality"),
    (r#""quorate":{"explain":"yes"}"#, "quorate.explain", "true or false"),
    (r#""quorate":{"max_cost":-1}"#, "quorate.max_cost", "at least 0"),
    (r#""quorate":{"session":""}"#, "quorate.session", "1 to 512 bytes"),
];

#[tokio::test]
async fn a_wrong_body_is_refused_alike_at_both_doors_with_the_field_and_what_it_may_be() {
    let world = world().await;
    let members = WRONG_MEMBERS.iter().map(|(member, param, message)| {
        let body = format!(
            r#"{{"model":"east/m1","messages":[{{"role":"user","content":"?"}}],{member}}}"#
        );
        (body, Some(*param), *message)
    });
    let bodies = WRONG_BODIES
        .iter()
        .map(|(body, param, message)| ((*body).to_owned(), *param, *message));
    let mut rpc = world.rpc().await;
    for (body, param, message) in bodies.chain(members) {
        for path in [CHAT, "/v1/explain"] {
            let reply = post(&world, path, body.clone()).await;
            assert_refused(&reply, 400, "invalid", message, &body);
            assert_eq!(reply.json()["error"]["param"].as_str(), param, "{body}");
        }
        // What is JSON at all can be somebody's params.
        if body.starts_with('{') && serde_json::from_str::<Value>(&body).is_ok() {
            for method in ["ask", "stream", "explain"] {
                rpc.send(&format!(
                    r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{body}}}"#
                ))
                .await;
                let error = rpc.next().await.unwrap()["error"].take();
                assert_eq!(error["code"], -32602, "{body}");
                assert_eq!(error["data"]["param"].as_str(), param, "{body}");
                assert!(
                    error["message"].as_str().unwrap().contains(message),
                    "{error}"
                );
            }
        }
        assert_well(&world).await;
    }
}

#[tokio::test]
async fn a_body_that_is_too_much_of_something_is_refused() {
    let world = world().await;
    let turn = r#"{"role":"user","content":"?"}"#;
    let turns = |count| {
        format!(
            r#"{{"model":"east/m1","messages":[{}]}}"#,
            vec![turn; count].join(",")
        )
    };
    let member =
        |text: &str| format!(r#"{{"model":"east/m1","messages":[{turn}],"extra":{text}}}"#);
    for (what, body, message) in [
        ("turns", turns(4097).into_bytes(), "at most 4096 entries"),
        (
            "arrays",
            member(&"[".repeat(10_000)).into(),
            "nests deeper than 64 levels",
        ),
        (
            "objects",
            member(&"{\"a\":".repeat(10_000)).into(),
            "nests deeper than 64 levels",
        ),
        (
            "closed arrays",
            member(&("[".repeat(10_000) + &"]".repeat(10_000))).into(),
            "nests deeper than 64 levels",
        ),
        (
            "a number",
            member("1e999").into(),
            "extra: number out of range",
        ),
        (
            "no UTF-8",
            [
                br#"{"model":"east/m1","messages":[{"role":"user","content":""#,
                &b"\xc3\x28\"}]}"[..],
            ]
            .concat(),
            "invalid unicode",
        ),
        ("zeros", vec![0; 5000], "not valid JSON"),
    ] {
        let reply = post(&world, CHAT, body).await;
        assert_refused(&reply, 400, "invalid", message, what);
        assert_well(&world).await;
    }
    assert_eq!(
        post(&world, CHAT, turns(4096)).await.status,
        200,
        "as many as allowed"
    );
}

#[tokio::test]
async fn bodies_take_so_much_memory_all_together_and_give_it_back_when_their_answers_are_out() {
    let scripts = [
        ("east/m1", json!({ "answer": "Paris" })),
        ("slow/m1", json!({ "hang": "before" })),
    ];
    let admission = "[admission]\nper_user = 2\n";
    let world = Arc::new(World::scripted(admission, &scripts).await.0);
    // Without keys, three quarters are of all who come over HTTP.
    limit(&world, |server| {
        (server.max_body, server.max_bodies) = (200_000, 800_000);
    })
    .await;
    let large = |model| chat(model, &"x".repeat(190_000)).to_string();
    let refused = async |what| {
        let reply = post(&world, CHAT, large("east/m1")).await;
        assert_refused(&reply, 503, "overloaded", "all the room they may", what);
        assert_eq!(reply.header("retry-after"), "1", "{what}");
    };
    // Two run, one waits.
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (world, body) = (Arc::clone(&world), large("slow/m1"));
        asked.spawn(async move { post(&world, CHAT, body).await });
    }
    world
        .until("one waits", async |w| {
            w.orchestrator
                .status()
                .admission
                .waiting
                .iter()
                .sum::<usize>()
                == 1
        })
        .await;
    refused("three are under way").await;
    let chunked = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let chunk = "8000\r\n".to_owned() + &"x".repeat(0x8000) + "\r\n";
    let said = exchange(&world, format!("{chunked}{chunk}{chunk}0\r\n\r\n")).await;
    assert!(
        said.starts_with("HTTP/1.1 503"),
        "of no told length: {said}"
    );
    // What is small finds its way, and who comes by the socket has room.
    let small = chat("east/m1", &"x".repeat(10_000)).to_string();
    assert_eq!(post(&world, "/v1/explain", small).await.status, 200);
    let request = hyper::Request::post("/v1/explain").header("host", "localhost");
    let request = request.body(large("east/m1").into()).unwrap();
    let stream = UnixStream::connect(&world.socket).await.unwrap();
    assert_eq!(support::send(stream, request).await.unwrap().status, 200);
    // Their askers leave.
    asked.shutdown().await;
    world.until_all_returned().await;
    assert_eq!(post(&world, CHAT, large("east/m1")).await.status, 200);

    // Bodies that do not come to their end take room until their connections do.
    let mut unfinished = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(world.http).await.unwrap();
        let head =
            format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 190000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        unfinished.push(stream);
    }
    // They are read by tasks of their own.
    world
        .until("the room is taken", async |w| {
            post(w, CHAT, large("east/m1")).await.status == 503
        })
        .await;
    drop(unfinished);
    world
        .until("the room is back", async |w| {
            post(w, CHAT, large("east/m1")).await.status == 200
        })
        .await;
    assert_well(&world).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_or_not_it_says_its_length() {
    let world = world().await;
    limit(&world, |server| server.max_body = 2000).await;
    let body = |length: usize| {
        let empty = chat("east/m1", "").to_string().len();
        chat("east/m1", &"x".repeat(length - empty)).to_string()
    };
    assert_eq!(post(&world, CHAT, body(2000)).await.status, 200);
    let reply = post(&world, CHAT, body(2001)).await;
    assert_refused(
        &reply,
        413,
        "too-large",
        "larger than 2000 bytes",
        "with its length",
    );
    let chunked = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let chunks = "400\r\n".to_owned() + &"x".repeat(0x400) + "\r\n";
    let said = exchange(&world, format!("{chunked}{chunks}{chunks}0\r\n\r\n")).await;
    assert!(
        said.starts_with("HTTP/1.1 413") && said.contains("larger than 2000 bytes"),
        "{said}"
    );
    assert_well(&world).await;
    // Nobody reads this one to its end.
    let head =
        format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 90000000\r\n\r\n");
    exchange(&world, head + &"x".repeat(9_000_000)).await;
    assert_well(&world).await;
}

#[rustfmt::skip]
/// What is sent, and the statuses that answer it; none if the daemon just hangs up.
fn wrong_heads() -> Vec<(String, &'static [u16])> {
    let post = |headers: &str, body: &str| format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n\r\n{body}");
    let request = |line: &str| format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    vec![
        (format!("GET /v1/models HTTP/1.1\r\nx-long: {}\r\n\r\n", "x".repeat(1_000_000)), &[431]),
        (format!("GET /v1/models HTTP/1.1\r\n{}\r\n", "x-many: 1\r\n".repeat(10_000)), &[431]),
        (request(&format!("GET /{}", "x".repeat(100_000))), &[414]),
        (post("content-length: x", ""), &[400]),
        (post("content-length: -1", ""), &[400]),
        (post("content-length: 99999999999999999999", ""), &[400]),
        (post("content-length: 1\r\ncontent-length: 2", "xx"), &[400]),
        (post("transfer-encoding: gzip", "xx"), &[400]),
        (post("transfer-encoding: chunked", "zz\r\nxx\r\n"), &[400]),
        ("\0\0\0\0\r\n\r\n".into(), &[400]),
        ("\u{16}\u{3}\u{1}\0\u{5}hello".into(), &[400]),
        ("GET / HTTP/3.0\r\n\r\n".into(), &[400]),
        ("GET\r\n\r\n".into(), &[400]),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &[]),
        ("GET /healthz HTTP/1.1\r\nhost : x\r\n\r\n".into(), &[400]),
        ("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n\u{7f}garbage\r\n\r\n".into(), &[200, 400]),
        (request("GET /healthz").replace("connection: close\r\n", "") + &request("GET /nowhere"), &[200, 404]),
        (request("GET /"), &[404]),
        (request("GET /../../etc/passwd"), &[404]),
        (request("GET /v1/models/%00%ff"), &[404]),
        (request("GET /v1/models/"), &[404]),
        (request("OPTIONS *"), &[404]),
        (request("CONNECT localhost:80"), &[404]),
        (request("POST /v1/completions"), &[404]),
        (request("GET /v1/chat/completions"), &[405]),
        (request("BREW /v1/explain"), &[405]),
        (request("DELETE /v1/models"), &[405]),
        (request("POST /v1/status"), &[405]),
    ]
}

#[tokio::test]
async fn a_wrong_head_is_refused_with_the_status_http_has_for_it() {
    let world = world().await;
    for (sent, statuses) in wrong_heads() {
        let said = exchange(&world, &sent).await;
        let shown: String = sent.chars().take(80).collect();
        let answers = said.split("HTTP/1.1 ").skip(1);
        let answered: Vec<u16> = answers.map(|answer| answer[..3].parse().unwrap()).collect();
        assert_eq!(answered, statuses, "{shown:?}: {said}");
        assert_well(&world).await;
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_one() {
    let world = world().await;
    for (wrong, path, right) in [
        ("GET", CHAT, "POST"),
        ("PUT", "/v1/feedback", "POST"),
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("POST", "/v1/models/east/m1", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
    ] {
        let request = hyper::Request::builder().method(wrong).uri(path);
        let request = request.header("host", "localhost").body("{}".into());
        let reply = world.send(request.unwrap()).await.unwrap();
        assert_eq!(
            (reply.status, reply.header("allow")),
            (405, right),
            "{path}"
        );
    }
}

#[tokio::test]
async fn head_is_answered_as_get_without_a_body() {
    let world = world().await;
    for path in ["/healthz", "/v1/models", "/v1/models/east/m1", "/v1/status"] {
        let asked = |method: &str| {
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        };
        let said = exchange(&world, asked("HEAD")).await;
        assert!(
            said.starts_with("HTTP/1.1 200") && said.ends_with("\r\n\r\n"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn who_asks_before_sending_too_much_is_told_not_to() {
    let world = world().await;
    limit(&world, |server| server.max_body = 2000).await;
    let head = |length: usize| {
        format!(
            "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let said = exchange(&world, head(2001)).await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
    let body = chat("east/m1", "?").to_string();
    let said = exchange(&world, head(body.len()) + &body).await;
    assert!(
        said.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"),
        "{said}"
    );
}

#[tokio::test]
async fn who_leaves_in_the_middle_of_a_request_leaves_nothing_behind() {
    let world = world().await;
    let whole = request_bytes(&chat("east/m1", "?"));
    for end in [0, 1, 20, whole.len() - 1, whole.len()] {
        for half_close in [false, true] {
            let mut stream = TcpStream::connect(world.http).await.unwrap();
            stream.write_all(&whole[..end]).await.unwrap();
            if half_close {
                stream.shutdown().await.unwrap();
                read_to_end(&mut stream).await;
            }
            drop(stream);
            assert_well(&world).await;
        }
    }
}

#[tokio::test]
async fn a_peer_that_sends_a_byte_now_and_then_is_not_waited_for() {
    let world = world().await;
    limit(&world, |server| server.read_timeout = SHORT).await;
    let http = String::from_utf8(request_bytes(&chat("east/m1", "?"))).unwrap();
    let (head, _) = http.split_once("{").unwrap();
    let line = r#"{"jsonrpc":"2.0","id":1,"method":"models","params":{"#;
    for (what, begin, reply) in [
        ("a head", &head[..5], ""),
        ("a body", head, "did not arrive within"),
    ] {
        let mut stream = TcpStream::connect(world.http).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        let said = drip(stream).await;
        assert!(said.contains(reply), "{what}: {said}");
        assert_well(&world).await;
    }
    for (what, begin, reply) in [
        ("a line", line, "the line did not arrive in time"),
        ("a head at the socket", &head[..5], ""),
    ] {
        let mut stream = UnixStream::connect(&world.socket).await.unwrap();
        stream.write_all(begin.as_bytes()).await.unwrap();
        let said = drip(stream).await;
        assert!(said.contains(reply), "{what}: {said}");
        assert_well(&world).await;
    }
}

#[tokio::test]
async fn a_peer_that_thinks_between_its_lines_is_waited_for() {
    let world = world().await;
    limit(&world, |server| server.read_timeout = SHORT).await;
    let mut rpc = world.rpc().await;
    for _ in 0..2 {
        sleep(2 * SHORT).await;
        assert!(rpc.call("models", &Value::Null).await["result"].is_object());
    }
}

#[tokio::test]
async fn a_client_that_reads_a_byte_now_and_then_loses_its_stream_and_frees_its_permit() {
    let script = json!({ "answer": "x".repeat(BIG), "chunks": 400 });
    let (world, providers) = World::scripted("", &[("east/m1", script)]).await;
    limit(&world, |server| server.write_timeout = SHORT).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(world.http).await.unwrap();
    stream
        .write_all(&request_bytes(&chat_stream("east/m1", "?")))
        .await
        .unwrap();
    let mut byte = [0];
    let until = Instant::now() + PATIENCE;
    stream.read_exact(&mut byte).await.unwrap();
    assert_eq!((world.in_use(), providers[0].in_flight()), (1, 1));
    while world.in_use() > 0 {
        assert!(Instant::now() < until, "the permit never came back");
        sleep(SHORT / 8).await;
        let _ = stream.read_exact(&mut byte).await;
    }
    world.until_all_returned().await;
    assert_eq!(providers[0].in_flight(), 0);
    let said = read_to_end(&mut stream).await;
    assert!(!said.contains("[DONE]"), "a cut stream does not look whole");
    assert_eq!(world.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_peer_that_never_reads_loses_its_streams_and_frees_its_permits() {
    let script = json!({ "answer": "x".repeat(BIG), "chunks": 400 });
    let (world, providers) = World::scripted("", &[("east/m1", script)]).await;
    limit(&world, |server| server.write_timeout = SHORT).await;
    let mut rpc = world.rpc().await;
    // In one piece: while nobody takes what is written, nothing more is read.
    let stream = |id| json!({ "jsonrpc": "2.0", "id": id, "method": "stream", "params": chat("east/m1", "?") });
    let all: Vec<String> = (1..=3).map(|id| stream(id).to_string()).collect();
    rpc.send(&all.join("\n")).await;
    world.until("all run", async |w| w.in_use() == 3).await;
    world.until_all_returned().await;
    assert_eq!((providers[0].calls(), providers[0].in_flight()), (3, 0));
    let reply = world.rpc().await.call("models", &Value::Null).await;
    assert!(reply["result"].is_object());
    drop(rpc);
}

#[rustfmt::skip]
/// A line, the code and the id of its refusal, and a part of what it says.
fn wrong_lines() -> Vec<(Vec<u8>, i32, Value, &'static str)> {
    let none = Value::Null;
    let line = |rest: &str| format!(r#"{{"jsonrpc":"2.0","id":"a",{rest}}}"#).into_bytes();
    let id = |id: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"models"}}"#).into_bytes();
    let a = || json!("a");
    vec![
        (b"{".into(), -32700, none.clone(), "no JSON-RPC request"),
        (b"hello".into(), -32700, none.clone(), "no JSON-RPC request"),
        (b"GET / HTTP/1.1".into(), -32700, none.clone(), "no JSON-RPC request"),
        (b"{} {}".into(), -32700, none.clone(), "trailing characters"),
        (b"{\"id\":\"\xc3\x28\"}".into(), -32700, none.clone(), "no JSON-RPC request"),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"models\",\"pad\":\"\xff\"}".into(), -32700, none.clone(), "invalid unicode"),
        ([&b"{\"params\":"[..], &b"[".repeat(10_000)].concat(), -32700, none.clone(), "nests deeper than 64 levels"),
        (b"7".into(), -32600, none.clone(), "object"),
        (b"null".into(), -32600, none.clone(), "object"),
        (b"[]".into(), -32600, none.clone(), "object"),
        (br#"[{"jsonrpc":"2.0","id":1,"method":"models"}]"#.into(), -32600, none.clone(), "object"),
        (br#"["2.0",1,"models"]"#.into(), -32600, none.clone(), "object"),
        (b"{}".into(), -32600, none.clone(), "jsonrpc must be"),
        (br#"{"id":3,"method":"models"}"#.into(), -32600, json!(3), "jsonrpc must be"),
        (br#"{"jsonrpc":2.0,"id":3,"method":"models"}"#.into(), -32600, json!(3), "jsonrpc must be"),
        (br#"{"jsonrpc":"1.0","id":3,"method":"models"}"#.into(), -32600, json!(3), "jsonrpc must be"),
        (br#"{"jsonrpc":"2.0","id":3}"#.into(), -32600, json!(3), "method must be one of ask, stream"),
        (line(r#""method":7"#), -32600, a(), "method must be one of ask, stream"),
        (line(r#""method":"ask","method":"ask""#), -32600, none.clone(), "duplicate field"),
        (line(r#""method":"dance""#), -32601, a(), "no method is called 'dance'"),
        (line(r#""method":"""#), -32601, a(), "no method is called ''"),
        (id("{}"), -32600, none.clone(), "id must be text or a number"),
        (id("[1]"), -32600, none.clone(), "id must be text or a number"),
        (id("true"), -32600, none.clone(), "id must be text or a number"),
        (id(&format!("\"{}\"", "x".repeat(300))), -32600, none.clone(), "at most 256 bytes"),
        (id(&"9".repeat(300)), -32600, none.clone(), "at most 256 bytes"),
        (line(r#""method":"ask""#), -32602, a(), "is missing"),
        (line(r#""method":"ask","params":[]"#), -32602, a(), "expected an object"),
        (line(r#""method":"stream","params":"?""#), -32602, a(), "expected an object"),
        (line(r#""method":"explain","params":7"#), -32602, a(), "expected an object"),
        (line(r#""method":"cancel""#), -32602, a(), "the request's id"),
        (line(r#""method":"cancel","params":7"#), -32602, a(), "the request's id"),
        (line(r#""method":"feedback""#), -32602, a(), "\"score\": 0..1"),
        (line(r#""method":"feedback","params":["x",1]"#), -32602, a(), "expected an object"),
        (line(r#""method":"state","params":["show"]"#), -32602, a(), "expected an object"),
        (line(r#""method":"replay","params":["x"]"#), -32602, a(), "expected an object"),
        (line(r#""method":"cancel","params":[1]"#), -32602, a(), "expected an object"),
        (line(r#""method":"feedback","params":{"decision":"x","score":2}"#), -32602, a(), "score must be a number from 0"),
        (line(r#""method":"feedback","params":{"decision":"x","score":1,"why":""}"#), -32602, a(), "unknown field `why`"),
        (line(r#""method":"ask","params":{"model":"nobody","messages":[{"role":"user"}]}"#), -32000, a(), "no model is called 'nobody'"),
        (line(r#""method":"reload""#), -32000, a(), "does not reload"),
    ]
}

#[tokio::test]
async fn a_wrong_line_is_refused_with_its_code_and_the_connection_goes_on() {
    let world = world().await;
    let mut stream = UnixStream::connect(&world.socket).await.unwrap();
    // The first byte says that no HTTP follows.
    stream.write_all(b"{}\n").await.unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stream));
    lines.next_line().await.unwrap();
    for (mut line, code, id, message) in wrong_lines() {
        let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
        line.push(b'\n');
        lines.get_mut().get_mut().write_all(&line).await.unwrap();
        let reply = timeout(PATIENCE, lines.next_line())
            .await
            .unwrap_or_else(|_| panic!("no reply to {shown}"));
        let reply: Value = serde_json::from_str(&reply.unwrap().unwrap()).unwrap();
        assert_eq!(reply["error"]["code"], code, "{shown}: {reply}");
        assert_eq!(
            (&reply["jsonrpc"], &reply["id"]),
            (&json!("2.0"), &id),
            "{shown}: {reply}"
        );
        let said = reply["error"]["message"].as_str().unwrap();
        assert!(said.contains(message), "{shown}: {said}");
        assert_well(&world).await;
    }
}

#[tokio::test]
async fn a_request_whose_id_is_null_is_answered_and_a_notification_is_not() {
    let world = world().await;
    let mut rpc = world.rpc().await;
    rpc.send(r#"{"jsonrpc":"2.0","method":"models"}"#).await;
    rpc.send(r#"{"jsonrpc":"2.0","id":null,"method":"models"}"#)
        .await;
    let reply = rpc.next().await.unwrap();
    assert!(
        reply["id"].is_null() && reply["result"].is_object(),
        "{reply}"
    );
    assert_eq!(rpc.call("models", &Value::Null).await["id"], 7);
}

#[tokio::test]
async fn a_line_over_the_limit_is_refused_whether_or_not_it_ends() {
    let world = world().await;
    limit(&world, |server| server.max_body = 2000).await;
    let long = |length| format!("{{\"jsonrpc\":\"2.0\",\"x\":\"{}", "x".repeat(length));
    for line in [long(2500) + "\"}\n", long(2500), long(3_000_000)] {
        let mut stream = UnixStream::connect(&world.socket).await.unwrap();
        let _ = stream.write_all(line.as_bytes()).await;
        let said = read_to_end(&mut stream).await;
        let reply: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(reply["error"]["code"], -32602, "{reply}");
        assert_eq!(
            reply["error"]["message"], "the line is longer than 2000 bytes",
            "{reply}"
        );
        assert_well(&world).await;
    }
}

#[tokio::test]
async fn a_cancellation_reaches_only_requests_of_its_own_connection() {
    let scripts = [
        ("east/m1", json!({ "answer": "Paris" })),
        ("slow/m1", json!({ "hang": "before" })),
    ];
    let (world, _) = World::scripted("", &scripts).await;
    let mut theirs = world.rpc().await;
    theirs.request(1, "ask", &chat("slow/m1", "?")).await;
    world.until("it runs", async |w| w.in_use() == 1).await;
    let mut rpc = world.rpc().await;
    for id in [json!(1), json!("1"), json!(99), json!(null), json!({})] {
        let reply = rpc.call("cancel", &json!({ "id": id })).await;
        assert_eq!(reply["result"], json!({ "cancelled": false }), "{id}");
    }
    assert_eq!(world.in_use(), 1, "theirs goes on");
    let params = json!({ "id": 1 });
    theirs.request(2, "cancel", &params).await;
    let replies = [theirs.next().await.unwrap(), theirs.next().await.unwrap()];
    assert!(
        replies
            .iter()
            .any(|r| r["id"] == 1 && r["error"]["data"]["quorate"]["kind"] == "cancelled")
    );
    assert!(
        replies
            .iter()
            .any(|r| r["id"] == 2 && r["result"] == json!({ "cancelled": true }))
    );
    assert_well(&world).await;
}

#[tokio::test]
async fn two_thousand_requests_in_a_row_get_one_reply_each() {
    const COUNT: usize = 2000;
    let world = world().await;
    let mut rpc = world.rpc().await;
    let request = |id| {
        let ask =
            json!({ "jsonrpc": "2.0", "id": id, "method": "ask", "params": chat("east/m1", "?") });
        ask.to_string() + "\n"
    };
    let all: String = (0..COUNT).map(request).collect();
    let mut replies = vec![0; COUNT];
    let receive = async |rpc: &mut Rpc, replies: &mut Vec<i32>| {
        let reply = rpc.next().await.unwrap();
        replies[usize::try_from(reply["id"].as_u64().unwrap()).unwrap()] += 1;
        let kind = &reply["error"]["data"]["quorate"]["kind"];
        assert!(
            reply["result"].is_object() || kind == "overloaded",
            "{reply}"
        );
        reply["result"].is_object()
    };
    // Who only writes and never reads is not read from either.
    let sending = rpc.send_aside(all.trim_end());
    let mut answered = 0;
    for _ in 0..COUNT {
        answered += usize::from(receive(&mut rpc, &mut replies).await);
    }
    rpc.take_back(sending).await;
    assert!(replies.iter().all(|count| *count == 1));
    assert!(
        answered >= 1000,
        "{answered}: as many as may wait are served"
    );
    assert_well(&world).await;
}

#[tokio::test]
async fn a_wrong_or_absent_key_opens_nothing_and_is_not_repeated() {
    let hash = quorate::gateway::auth::hash("qk-right");
    let east = "[[providers]]\nname = \"east\"\nkind = \"scripted\"\nmodels = [\"m1\"]\nscript = { answer = \"Paris\" }\n";
    let toml = format!("[[keys]]\nuser = \"alice\"\nlane = \"normal\"\nhash = \"{hash}\"\n{east}");
    let world = World::start(&toml, Vec::new()).await;
    let ask = async |authorization: Option<&[u8]>, body: Value| {
        let mut request = hyper::Request::post(CHAT).header("host", "localhost");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let request = request.body(body.to_string().into()).unwrap();
        world.send(request).await.unwrap()
    };
    let hash = format!("Bearer {hash}");
    let long = format!("Bearer qk-{}", "x".repeat(60_000));
    for (wrong, message) in [
        (None, "an API key is required"),
        (Some(&b""[..]), "an API key is required"),
        (Some(b"Bearer"), "an API key is required"),
        (Some(b"qk-right"), "an API key is required"),
        (Some(b"Basic qk-right"), "an API key is required"),
        (Some(b"Bearer qk-\xff"), "an API key is required"),
        (Some(b"Bearer "), "an API key is required"),
        (Some(b"Bearer qk-wrong"), "not known"),
        (Some(b"Bearer qk-righ"), "not known"),
        (Some(b"Bearer qk-right qk-right"), "not known"),
        (Some(b"Bearer QK-RIGHT"), "not known"),
        (Some(hash.as_bytes()), "not known"),
        (Some(long.as_bytes()), "not known"),
    ] {
        let shown = String::from_utf8_lossy(
            &wrong.unwrap_or_default()[..wrong.map_or(0, |w| w.len().min(40))],
        )
        .into_owned();
        let reply = ask(wrong, chat("east/m1", "?")).await;
        assert_refused(&reply, 401, "auth", message, &shown);
        assert_eq!(reply.json()["error"]["code"], "invalid_api_key", "{shown}");
        assert!(!reply.body.contains("righ"), "{}", reply.body);
        let right = ask(Some(b"bearer  qk-right"), chat("east/m1", "?")).await;
        assert_eq!(right.content(), "Paris");
    }
    for path in ["/v1/models", "/v1/status", "/metrics", "/nowhere"] {
        assert_eq!(world.get(path).await.status, 401, "{path}");
    }
    let mut urgent = chat("east/m1", "?");
    urgent["quorate"] = json!({ "lane": "urgent" });
    let reply = ask(Some(b"Bearer qk-right"), urgent).await;
    assert_refused(
        &reply,
        400,
        "invalid",
        "normal or batch",
        "a lane above the key's",
    );
    world.until_all_returned().await;
}

#[tokio::test]
async fn a_key_that_is_known_and_may_not_is_forbidden_and_not_unknown() {
    let hash = quorate::gateway::auth::hash("qk-right");
    let toml = format!("[[keys]]\nuser = \"alice\"\nhash = \"{hash}\"\n");
    let world = World::start(&toml, Vec::new()).await;
    for path in ["/v1/status", "/metrics"] {
        let request = hyper::Request::get(path).header("authorization", "Bearer qk-right");
        let request = request
            .header("host", "localhost")
            .body(bytes::Bytes::new().into());
        let reply = world.send(request.unwrap()).await.unwrap();
        assert_refused(&reply, 403, "forbidden", "admin = true", path);
        assert_eq!(world.get(path).await.status, 401, "{path}");
    }
}

#[test]
fn random_bytes_kill_neither_door() {
    // A panic ends the task of its connection and nothing else, so that nobody would see it.
    let panics = Arc::new(AtomicUsize::new(0));
    let (counted, tell) = (Arc::clone(&panics), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        counted.fetch_add(1, Ordering::Relaxed);
        tell(panic);
    }));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let world = runtime.block_on(world());
    let config = ProptestConfig {
        cases: 96,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let ran = TestRunner::new(config).run(&noise(), |bytes| {
        runtime.block_on(async {
            let mut http = TcpStream::connect(world.http).await.unwrap();
            let mut socket = UnixStream::connect(&world.socket).await.unwrap();
            throw(&mut http, &bytes).await;
            throw(&mut socket, &bytes).await;
            assert_well(&world).await;
        });
        prop_assert_eq!(panics.swap(0, Ordering::Relaxed), 0, "something panicked");
        Ok(())
    });
    ran.unwrap();
}

/// Bytes without a meaning, and requests of which a few bytes are others.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let line =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "stream", "params": chat("east/m1", "?") });
    let beginnings = prop::sample::select(vec![
        Vec::new(),
        b"{".to_vec(),
        b"POST /v1/chat/completions HTTP/1.1\r\n".to_vec(),
        b"POST /v1/explain HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
    ]);
    let bytes = prop::collection::vec(any::<u8>(), 0..600);
    let random = (beginnings, bytes).prop_map(|(begin, bytes)| [begin, bytes].concat());
    let whole = prop::sample::select(vec![
        request_bytes(&chat_stream("east/m1", "?")),
        format!("{line}\n").into_bytes(),
    ]);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    let changed = (whole, changes).prop_map(|(mut bytes, changes)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    prop_oneof![random, changed]
}

/// Says it all, closes one's own half, and reads to the end.
async fn throw<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) {
    // The peer may hang up first.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    read_to_end(stream).await;
}

/// One deployment that answers at once.
async fn world() -> World {
    let script = json!({ "answer": "Paris" });
    World::scripted("", &[("east/m1", script)]).await.0
}

/// Puts other limits of the doors in force.
async fn limit(world: &World, change: impl FnOnce(&mut Server)) {
    let mut config = (*world.orchestrator.config()).clone();
    change(&mut config.server);
    world.orchestrator.reload(config).await.unwrap();
}

/// Both doors serve, and nothing is lent out.
async fn assert_well(world: &World) {
    let reply = world.chat("east/m1", "capital of France?").await;
    assert_eq!((reply.status, reply.content().as_str()), (200, "Paris"));
    let reply = world.rpc().await.call("models", &Value::Null).await;
    assert!(reply["result"].is_object(), "{reply}");
    world.until_all_returned().await;
}

fn assert_refused(reply: &Reply, status: u16, kind: &str, message: &str, what: &str) {
    assert_eq!(reply.status, status, "{what}: {}", reply.body);
    assert_eq!(reply.kind(), kind, "{what}: {}", reply.body);
    let said = reply.json()["error"]["message"].take();
    assert!(
        said.as_str().is_some_and(|said| said.contains(message)),
        "{what}: {said}"
    );
}

async fn post(world: &World, path: &str, body: impl Into<bytes::Bytes>) -> Reply {
    let request = hyper::Request::post(path).header("host", "localhost");
    let request = request
        .body(http_body_util::Full::new(body.into()))
        .unwrap();
    world.send(request).await.unwrap()
}

/// A chat request with its head.
fn request_bytes(body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Sends bytes as they are and returns what is said until the daemon hangs up.
async fn exchange(world: &World, bytes: impl AsRef<[u8]>) -> String {
    let stream = TcpStream::connect(world.http).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    // The daemon may hang up before it has read everything.
    let sent = async {
        let _ = write.write_all(bytes.as_ref()).await;
        std::future::pending::<()>().await
    };
    tokio::select! {
        () = sent => String::new(),
        said = read_to_end(&mut read) => said,
    }
}

/// Everything until the end of the connection, however that comes.
async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut said = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(ended.is_ok(), "no end in time, after: {said}");
    said
}

/// A blank now and then, until the daemon hangs up; what it says until then.
async fn drip<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> String {
    let (mut read, mut write) = tokio::io::split(stream);
    let dripping = async {
        loop {
            sleep(SHORT / 8).await;
            let _ = write.write_all(b" ").await;
        }
    };
    tokio::select! {
        () = dripping => String::new(),
        said = read_to_end(&mut read) => said,
    }
}
