//! The whole path over real sockets: a question in, an answer out.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod support;

use serde_json::{Value, json};
use support::{Rpc, World, chat, chat_stream, send};
use tokio::net::UnixStream;

#[tokio::test]
async fn a_question_over_http_is_answered_whole_with_its_report() {
    let (world, _) = World::scripted("", &[("east/m1", json!({ "answer": "Paris" }))]).await;
    let reply = world.chat("east/m1", "capital of France?").await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.content(), "Paris");
    let body = reply.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert!(body["usage"]["total_tokens"].as_u64().unwrap() > 0);
    assert_eq!(body["quorate"]["model"], "east/m1");
    assert_eq!(body["quorate"]["attempts"][0]["outcome"], "ok");
    assert_eq!(reply.header("x-quorate-model"), "east/m1");
    assert_eq!(
        reply.header("x-quorate-decision"),
        body["quorate"]["decision"].as_str().unwrap()
    );
    assert!(!reply.header("x-request-id").is_empty());
}

#[tokio::test]
async fn a_stream_says_the_same_as_a_whole_answer_and_carries_its_report_last() {
    let script = json!({ "answer": "one two three four", "chunks": 4 });
    let (world, _) = World::scripted("", &[("east/m1", script)]).await;
    let whole = world.chat("east/m1", "count").await;
    let stream = world
        .post("/v1/chat/completions", &chat_stream("east/m1", "count"))
        .await;
    assert_eq!(stream.header("content-type"), "text/event-stream");
    assert_eq!(stream.streamed(), whole.content());
    assert_eq!(stream.events().last().unwrap(), "[DONE]");
    let chunks = stream.chunks();
    let (last, before) = chunks.split_last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["quorate"]["model"], "east/m1");
    assert!(before.iter().all(|chunk| chunk.get("quorate").is_none()));
    assert!(
        chunks
            .iter()
            .all(|chunk| !chunk["choices"].as_array().unwrap().is_empty()),
        "nobody asked for usage"
    );
    assert!(chunks.iter().all(|chunk| chunk["usage"].is_null()));
}

#[tokio::test]
async fn usage_comes_on_a_last_chunk_of_its_own_if_asked_for() {
    let (world, _) = World::scripted("", &[("east/m1", json!({ "answer": "one two" }))]).await;
    let mut request = chat_stream("east/m1", "count");
    request["stream_options"] = json!({ "include_usage": true });
    let chunks = world.post("/v1/chat/completions", &request).await.chunks();
    let last = chunks.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert!(last["usage"]["completion_tokens"].as_u64().unwrap() > 0);
    assert!(last["quorate"]["decision"].is_string());
    assert_eq!(
        chunks[chunks.len() - 2]["choices"][0]["finish_reason"],
        "stop"
    );
}

#[tokio::test]
async fn a_query_is_kept_from_who_is_expected_to_cost_too_much() {
    let provider = |name: &str, price: u32| {
        format!(
            "[[providers]]\nname = \"{name}\"\nkind = \"scripted\"\nscript = {{ answer = \"{name}\" }}\n\
             models = [{{ name = \"m\", price = {{ input = {price}, output = {price} }} }}]\n"
        )
    };
    let toml = [
        "[models.any]\nuse = [\"dear/m\", \"cheap/m\"]\n",
        &provider("dear", 1000),
        &provider("cheap", 1),
    ]
    .concat();
    let world = World::start(&toml, Vec::new()).await;
    let ask = async |model: &str, cap: f64| {
        let mut request = chat(model, "Which city is the capital of France?");
        request["quorate"] = json!({ "max_cost": cap });
        world.post("/v1/chat/completions", &request).await
    };
    assert_eq!(ask("any", 10.0).await.content(), "dear");
    assert_eq!(ask("any", 0.01).await.content(), "cheap");
    let refused = ask("dear/m", 0.01).await;
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(
        refused.body.contains("max_cost is $0.01"),
        "{}",
        refused.body
    );
}

#[tokio::test]
async fn a_script_writes_one_line_into_the_socket_and_reads_one_back() {
    let (world, _) = World::scripted("", &[("east/m1", json!({ "answer": "Paris" }))]).await;
    let mut rpc = world.rpc().await;
    rpc.request(1, "ask", &chat("east/m1", "capital of France?"))
        .await;
    // As `nc` does at the end of its input.
    rpc.end_input().await;
    let reply = rpc.next().await.unwrap();
    assert_eq!(reply["id"], 1);
    assert_eq!(reply["result"]["choices"][0]["message"]["content"], "Paris");
    assert_eq!(reply["result"]["quorate"]["model"], "east/m1");
    assert!(rpc.next().await.is_none());
}

#[tokio::test]
async fn the_socket_streams_deltas_as_notifications_and_then_the_report() {
    let (world, _) = World::scripted(
        "",
        &[("east/m1", json!({ "answer": "a b c", "chunks": 3 }))],
    )
    .await;
    let mut rpc = world.rpc().await;
    rpc.request(5, "stream", &chat("east/m1", "abc")).await;
    let mut text = String::new();
    let result = loop {
        let line = rpc.next().await.unwrap();
        if line["method"] != "delta" {
            break line;
        }
        assert_eq!(line["params"]["id"], 5);
        text += line["params"]["chunk"]["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap_or_default();
    };
    assert_eq!(text, "a b c");
    assert_eq!(result["id"], 5);
    assert_eq!(result["result"]["quorate"]["model"], "east/m1");
}

#[tokio::test]
async fn many_requests_share_a_connection_and_a_slow_one_blocks_no_other() {
    let scripts = [
        ("slow/m", json!({ "answer": "late", "latency_ms": 400 })),
        ("fast/m", json!({ "answer": "soon" })),
    ];
    let (world, _) = World::scripted("", &scripts).await;
    let mut rpc = world.rpc().await;
    rpc.request(1, "ask", &chat("slow/m", "?")).await;
    rpc.request(2, "ask", &chat("fast/m", "?")).await;
    assert_eq!(rpc.next().await.unwrap()["id"], 2);
    assert_eq!(rpc.next().await.unwrap()["id"], 1);
}

#[tokio::test]
async fn the_socket_speaks_http_too() {
    let (world, _) = World::scripted("", &[("east/m1", json!({ "answer": "Paris" }))]).await;
    let stream = UnixStream::connect(&world.socket).await.unwrap();
    let request = hyper::Request::post("/v1/chat/completions").header("host", "localhost");
    let request = request
        .body(chat("east/m1", "?").to_string().into())
        .unwrap();
    let reply = send(stream, request).await.unwrap();
    assert_eq!(reply.content(), "Paris");
}

#[tokio::test]
async fn an_idle_peer_and_one_with_half_a_line_block_nobody() {
    let (world, _) = World::scripted("", &[("east/m1", json!({}))]).await;
    let _idle: Vec<UnixStream> = {
        let mut idle = Vec::new();
        for _ in 0..50 {
            idle.push(UnixStream::connect(&world.socket).await.unwrap());
        }
        idle
    };
    let mut half = Rpc::connect(&world.socket).await;
    half.send("{\"jsonrpc\":\"2.0\",").await;
    assert_eq!(
        world.rpc().await.call("models", &Value::Null).await["id"],
        7
    );
    assert_eq!(world.chat("east/m1", "?").await.status, 200);
}

#[tokio::test]
async fn names_lead_to_deployments_aliases_and_bare_models() {
    let toml = "[models.fast]\nuse = [\"east/m1\", \"west/m2\"]\n";
    let scripted = "[[providers]]\nname = \"east\"\nkind = \"scripted\"\nmodels = [\"m1\"]\n[[providers]]\nname = \"west\"\nkind = \"scripted\"\nmodels = [\"m2\"]\n";
    let world = World::start(&format!("{scripted}{toml}"), Vec::new()).await;
    for (asked, served) in [
        ("east/m1", "east/m1"),
        ("fast", "east/m1"),
        ("m2", "west/m2"),
    ] {
        assert_eq!(
            world.chat(asked, "?").await.header("x-quorate-model"),
            served,
            "{asked}"
        );
    }
    assert_eq!(world.chat("auto", "?").await.status, 200);
    let models = world.get("/v1/models").await.json();
    let names: Vec<&str> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["auto", "fast", "east/m1", "west/m2"]);
    for escaped in ["east/m1", "east%2Fm1", "%65ast/m%31"] {
        let model = world.get(&format!("/v1/models/{escaped}")).await.json();
        assert_eq!(model["id"], "east/m1", "{escaped}");
    }
}

#[tokio::test]
async fn explain_tells_the_plan_and_asks_nobody() {
    let scripts = [("east/m1", json!({})), ("west/m1", json!({}))];
    let (world, providers) = World::scripted("", &scripts).await;
    let plan = world.post("/v1/explain", &chat("auto", "?")).await.json();
    assert_eq!(plan["order"], "scored");
    assert_eq!(plan["candidates"].as_array().unwrap().len(), 2);
    assert!(plan["candidates"][0]["score"].is_number());
    assert!(providers.iter().all(|provider| provider.calls() == 0));
    // And the plan rides along with an answer if asked for.
    let mut request = chat("auto", "?");
    request["quorate"] = json!({ "explain": true });
    let answer = world.post("/v1/chat/completions", &request).await.json();
    assert_eq!(
        answer["quorate"]["plan"]["candidates"][0]["deployment"],
        answer["quorate"]["model"]
    );
}

#[tokio::test]
async fn feedback_moves_the_quality_of_who_answered_and_repeating_it_does_not() {
    let (world, _) = World::scripted("", &[("east/m1", json!({}))]).await;
    let decision = world
        .chat("east/m1", "?")
        .await
        .header("x-quorate-decision")
        .to_owned();
    let before = world.deployment("east/m1")["quality"]["mean"]
        .as_f64()
        .unwrap();
    let judgement = json!({ "decision": decision, "score": 1.0 });
    let reply = world.post("/v1/feedback", &judgement).await;
    assert_eq!(
        reply.json(),
        json!({ "deployment": "east/m1", "outcome": "recorded", "score": 1.0, "learned": 1 })
    );
    world
        .until("quality rose", async |w| {
            w.deployment("east/m1")["quality"]["mean"].as_f64().unwrap() > before
        })
        .await;
    let after = world.deployment("east/m1")["quality"]["mean"].clone();
    assert_eq!(
        world.post("/v1/feedback", &judgement).await.json()["outcome"],
        "repeated"
    );
    assert_eq!(world.chat("east/m1", "?").await.status, 200);
    assert_eq!(world.deployment("east/m1")["quality"]["mean"], after);
    let unknown = world
        .post("/v1/feedback", &json!({ "decision": "nobody", "score": 1 }))
        .await;
    assert_eq!((unknown.status, unknown.kind().as_str()), (400, "invalid"));
}

#[tokio::test]
async fn health_and_readiness_answer_without_a_key() {
    let hash = quorate::gateway::auth::hash("qk-right");
    let toml = format!(
        "[[keys]]\nuser = \"alice\"\nhash = \"{hash}\"\n[[providers]]\nname = \"east\"\nkind = \"scripted\"\nmodels = [\"m1\"]\n"
    );
    let world = World::start(&toml, Vec::new()).await;
    assert_eq!(world.get("/healthz").await.status, 200);
    assert_eq!(world.get("/readyz").await.status, 200);
    assert_eq!(world.get("/v1/models").await.status, 401);
    assert_eq!(world.chat("east/m1", "?").await.status, 401);
    let request = hyper::Request::get("/v1/models")
        .header("host", "x")
        .header("authorization", "Bearer qk-right");
    assert_eq!(
        world
            .send(request.body(Default::default()).unwrap())
            .await
            .unwrap()
            .status,
        200
    );
}

#[tokio::test]
async fn a_web_page_may_not_ask_a_door_without_keys() {
    let (world, _) = World::scripted("", &[("east/m1", json!({}))]).await;
    for (header, value, allowed) in [
        ("origin", "https://evil.example", false),
        ("origin", "http://localhost:3000", true),
        ("origin", "http://[::1]:3000", true),
        ("origin", "http://203.0.113.5", false),
        ("origin", "null", false),
        ("host", "evil.example", false),
        ("host", "127.0.0.1:4180", true),
    ] {
        let mut request = hyper::Request::get("/v1/models");
        if header != "host" {
            request = request.header("host", "localhost");
        }
        let request = request
            .header(header, value)
            .body(Default::default())
            .unwrap();
        let status = world.send(request).await.unwrap().status;
        assert_eq!(status == 200, allowed, "{header}: {value} gave {status}");
    }
}

#[tokio::test]
async fn a_key_judges_its_own_decisions_only_and_each_moves_what_is_learned_once() {
    let key = |user: &str, key: &str| {
        let hash = quorate::gateway::auth::hash(key);
        format!("[[keys]]\nuser = \"{user}\"\nhash = \"{hash}\"\n")
    };
    let providers = "[[providers]]\nname = \"east\"\nkind = \"scripted\"\nmodels = [\"m1\"]\n";
    let toml = [
        key("alice", "qk-alice"),
        key("bob", "qk-bob"),
        providers.into(),
    ]
    .concat();
    let world = World::start(&toml, Vec::new()).await;
    let post = async |path: &str, key: &str, body: Value| {
        let request = hyper::Request::post(path)
            .header("host", "localhost")
            .header("authorization", format!("Bearer {key}"));
        let request = request.body(body.to_string().into()).unwrap();
        world.send(request).await.unwrap()
    };
    let reply = post("/v1/chat/completions", "qk-bob", chat("east/m1", "?")).await;
    let decision = reply.header("x-quorate-decision").to_owned();
    let judge = |score: f64, source: &str| json!({ "decision": decision, "score": score, "source": source });
    let foreign = post("/v1/feedback", "qk-alice", judge(0.0, "s")).await;
    assert_eq!((foreign.status, foreign.kind().as_str()), (400, "invalid"));
    let own = post("/v1/feedback", "qk-bob", judge(0.0, "s")).await;
    assert_eq!(own.json()["outcome"], "recorded", "{}", own.body);
    for source in 0..20 {
        let more = post("/v1/feedback", "qk-bob", judge(0.0, &source.to_string())).await;
        assert_eq!(more.json()["outcome"], "repeated");
    }
    world
        .until("learned", async |w| {
            w.deployment("east/m1")["quality"]["evidence"]
                .as_f64()
                .unwrap()
                > 0.0
        })
        .await;
    assert!(
        world.deployment("east/m1")["quality"]["evidence"]
            .as_f64()
            .unwrap()
            <= 1.0
    );
}

#[tokio::test]
async fn a_model_name_cannot_begin_a_line_of_the_log() {
    let (world, _) = World::scripted("", &[("east/m1", json!({}))]).await;
    let reply = world.chat("x\n2026-01-01 ERROR forged", "?").await;
    assert_eq!((reply.status, reply.kind().as_str()), (400, "invalid"));
    assert!(
        reply.body.contains("model: must be a string"),
        "{}",
        reply.body
    );
}
