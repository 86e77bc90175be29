//! Upstreams that misbehave on the wire, in front of the real adapter.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod support;

use std::net::SocketAddr;

use serde_json::{Value, json};
use support::{World, chat, chat_stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const KEY: &str = "sk-Very-Secret-0123456789";

/// A server that answers every request with these bytes and closes.
async fn upstream(answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let _ = peer.read(&mut [0; 65536]).await;
                let _ = peer.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

fn http(content_type: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n{body}")
}

fn events(chunks: &[Value], end: &str) -> String {
    let events: String = chunks
        .iter()
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect();
    http("text/event-stream", &(events + end))
}

/// A chunk of one choice.
fn chunk(index: u32, delta: &Value, finish: Option<&str>) -> Value {
    json!({
        "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": index, "delta": delta, "finish_reason": finish }],
    })
}

async fn before(answer: String) -> World {
    in_front_of(upstream(answer).await).await
}

async fn in_front_of(address: SocketAddr) -> World {
    let provider = format!(
        "[resilience]\nretries = 0\n[[providers]]\nname = \"east\"\nkind = \"openai\"\n\
         base_url = \"http://{address}/v1\"\napi_key = \"{KEY}\"\nmodels = [\"m1\"]\n"
    );
    World::start(&provider, Vec::new()).await
}

#[tokio::test]
async fn a_key_that_the_upstream_repeats_is_shown_to_nobody() {
    let refusal = json!({ "error": { "message": format!("Incorrect API key provided: {KEY}") } });
    let refused =
        |body: &str| format!("HTTP/1.1 401 Unauthorized\r\nconnection: close\r\n\r\n{body}");
    let escaped: String = KEY.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let shown = [KEY, &KEY[..20], &escaped];
    let answers = [
        http("application/json", &refusal.to_string()),
        http("text/html", &format!("<p>{KEY}</p>")),
        http("application/json", &format!("{{\"choices\": {KEY}")),
        events(
            &[chunk(0, &json!({ "content": "a" }), None), refusal.clone()],
            "",
        ),
        // Cut where the message ends, so that the key's end is missing.
        http(
            "application/json",
            &json!({ "error": "x".repeat(480) + KEY }).to_string(),
        ),
        http(&format!("text/{KEY}"), "{}"),
        refused(&format!(
            "{{\"error\":{{\"message\":\"no\",\"key\":\"{escaped}\"}}}}"
        )),
        format!("HTTP/1.1 302 Found\r\nlocation: http://x/{KEY}\r\ncontent-length: 0\r\n\r\n"),
        refused(&refusal.to_string()),
    ];
    for answer in answers {
        let world = before(answer.clone()).await;
        for request in [chat("east/m1", "?"), chat_stream("east/m1", "?")] {
            let reply = world.post("/v1/chat/completions", &request).await;
            let said = reply.body.replace(r"\\", r"\").to_lowercase();
            let leaks = shown.iter().any(|key| said.contains(&key.to_lowercase()));
            assert!(!leaks, "{answer}\ngave {}", reply.body);
        }
        let status = world.get("/v1/status").await;
        assert!(!status.body.contains(&KEY[..20]), "{}", status.body);
    }
}

#[tokio::test]
async fn an_answer_of_two_choices_is_not_whole_while_one_of_them_is_open() {
    let text = |index| chunk(index, &json!({ "content": "a" }), None);
    let chunks = [text(0), text(1), chunk(0, &json!({}), Some("stop"))];
    for end in [
        "",
        "data: [DONE]\n\n",
        "data: {\"error\":{\"message\":\"gone\"}}\n\n",
    ] {
        let world = before(events(&chunks, end)).await;
        let reply = world
            .post("/v1/chat/completions", &chat_stream("east/m1", "?"))
            .await;
        let last: Value = serde_json::from_str(reply.events().last().unwrap()).unwrap();
        assert!(last["error"].is_object(), "{end}: {}", reply.body);
        let whole = world.chat("east/m1", "?").await;
        assert!(whole.status >= 500, "{end}: {}", whole.body);
        world.until_all_returned().await;
    }
}

#[tokio::test]
async fn text_before_an_error_reaches_the_caller_though_it_came_with_the_usage() {
    let mut counted = chunk(0, &json!({ "content": "c" }), None);
    counted["usage"] = json!({ "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 });
    let chunks = [chunk(0, &json!({ "content": "ab" }), None), counted];
    let world = before(events(&chunks, "")).await;
    let reply = world
        .post("/v1/chat/completions", &chat_stream("east/m1", "?"))
        .await;
    let events = reply.events();
    let (last, texts) = events.split_last().unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["error"]["quorate"]["kind"], "truncated");
    let texts: Vec<Value> = texts
        .iter()
        .map(|text| serde_json::from_str(text).unwrap())
        .collect();
    let texts = texts
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    assert_eq!(texts.collect::<String>(), "abc");
}

#[tokio::test]
async fn odd_counts_cost_neither_the_answer_nor_a_second_call() {
    let whole = json!({
        "choices": [{ "index": 0, "message": { "content": "a" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": -1, "completion_tokens": 12.0 },
    });
    let mut last = chunk(0, &json!({ "content": "a" }), Some("stop"));
    last["usage"] = json!({ "prompt_tokens": -1, "completion_tokens": 12.0 });
    for answer in [
        http("application/json", &whole.to_string()),
        events(&[last], "data: [DONE]\n\n"),
    ] {
        let world = before(answer).await;
        let reply = world.chat("east/m1", "?").await;
        assert_eq!(reply.content(), "a", "{}", reply.body);
        let attempts = &reply.json()["quorate"]["attempts"];
        assert_eq!(attempts.as_array().unwrap().len(), 1, "{attempts}");
    }
}

#[tokio::test]
async fn text_does_not_wait_for_the_next_chunk_though_it_came_with_the_usage() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut counted = chunk(0, &json!({ "content": "a" }), None);
    counted["usage"] = json!({ "prompt_tokens": 1, "completion_tokens": 1 });
    let world = in_front_of(address).await;
    let body = chat_stream("east/m1", "?").to_string();
    let mut client = tokio::net::TcpStream::connect(world.http).await.unwrap();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    let _ = upstream.read(&mut [0; 65536]).await;
    // It says nothing more.
    let sent = events(&[counted], "");
    upstream.write_all(sent.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    let arrives = async {
        while !String::from_utf8_lossy(&said).contains(r#""content":"a""#) {
            assert_ne!(client.read_buf(&mut said).await.unwrap(), 0);
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), arrives)
        .await
        .unwrap();
}

#[tokio::test]
async fn pieces_of_a_tool_call_are_put_together_whatever_its_index() {
    let piece = |call: Value| chunk(0, &json!({ "tool_calls": [call] }), None);
    let chunks = [
        piece(
            json!({ "index": 1, "id": "a", "type": "function", "function": { "name": "f", "arguments": "" } }),
        ),
        piece(json!({ "index": 1, "function": { "arguments": "{\"x\":" } })),
        piece(json!({ "index": 1, "function": { "arguments": "1}" } })),
        chunk(0, &json!({}), Some("tool_calls")),
    ];
    let world = before(events(&chunks, "data: [DONE]\n\n")).await;
    let reply = world.chat("east/m1", "?").await.json();
    let calls = reply["choices"][0]["message"]["tool_calls"]
        .as_array()
        .unwrap();
    assert_eq!(calls.len(), 1, "{reply}");
    assert_eq!(
        calls[0]["function"],
        json!({ "name": "f", "arguments": "{\"x\":1}" })
    );
}

#[tokio::test]
async fn an_upstream_that_sends_much_and_says_nothing_is_cut_off() {
    let padding = "x".repeat(200_000);
    let opening = json!({ "role": "assistant", "padding": padding });
    let chunks = vec![chunk(0, &opening, None); 20];
    let world = before(events(&chunks, "data: [DONE]\n\n")).await;
    let reply = world
        .post("/v1/chat/completions", &chat_stream("east/m1", "?"))
        .await;
    assert_eq!(reply.kind(), "malformed", "{}", reply.body);
}

#[tokio::test]
async fn bytes_that_a_client_could_not_read_are_not_passed_on() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!("{{\"choices\":[],\"x\":{deep}}}");
    let world = before(http("application/json", &body)).await;
    let reply = world.chat("east/m1", "?").await;
    assert_eq!(reply.kind(), "malformed");
}
