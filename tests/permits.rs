//! Nothing that is lent out leaks: permits, places at deployments and probe slots come back however a query ends.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use quorate::{Call, Outcome, Provider, Query};
use serde_json::{Value, json};
use support::{World, chat, chat_stream, deployment};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const ALONE: &str = "[resilience]\nretries = 0\n";

#[tokio::test]
async fn after_a_panic_in_a_provider() {
    for script in [
        json!({ "panic": true }),
        json!({ "answer": "a b c", "panic": { "after_chunks": 1 } }),
    ] {
        let (world, _) = World::scripted(ALONE, &[("east/m1", script)]).await;
        let whole = world.chat("east/m1", "?").await;
        assert_eq!(
            (whole.status, whole.kind().as_str()),
            (500, "internal"),
            "{}",
            whole.body
        );
        world
            .post("/v1/chat/completions", &chat_stream("east/m1", "?"))
            .await;
        world.until_all_returned().await;
    }
}

#[tokio::test]
async fn after_a_cancel_while_waiting_for_a_permit() {
    let toml = "[admission]\nper_user = 1\n[resilience]\nretries = 0\n";
    let (world, providers) =
        World::scripted(toml, &[("east/m1", json!({ "hang": "before" }))]).await;
    let mut rpc = world.rpc().await;
    rpc.request(1, "ask", &chat("east/m1", "?")).await;
    world.until("one runs", async |w| w.in_use() == 1).await;
    rpc.request(2, "ask", &chat("east/m1", "?")).await;
    world
        .until("one waits", async |w| {
            w.orchestrator.status().admission.waiting[1] == 1
        })
        .await;
    rpc.request(3, "cancel", &json!({ "id": 2 })).await;
    let replies = [rpc.next().await.unwrap(), rpc.next().await.unwrap()];
    let of = |id: u64| replies.iter().find(|reply| reply["id"] == id).unwrap();
    assert_eq!(of(3)["result"], json!({ "cancelled": true }));
    assert_eq!(of(2)["error"]["data"]["quorate"]["kind"], "cancelled");
    world
        .until("nobody waits", async |w| {
            w.orchestrator.status().admission.waiting[1] == 0
        })
        .await;
    assert_eq!(providers[0].calls(), 1);
    drop(rpc);
    world.until_all_returned().await;
}

#[tokio::test]
async fn after_a_hang_up_before_the_first_token_streamed_or_not() {
    for stream in [false, true] {
        let (world, providers) =
            World::scripted(ALONE, &[("east/m1", json!({ "hang": "before" }))]).await;
        let connection = begin(&world, stream).await;
        world
            .until("the call is under way", async |_| {
                providers[0].in_flight() == 1
            })
            .await;
        drop(connection);
        let gone = async {
            while providers[0].in_flight() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(5), gone)
            .await
            .expect("the upstream call is cancelled");
        world.until_all_returned().await;
        assert_eq!(
            world.deployment("east/m1")["calls"]["failed"],
            0,
            "a hang-up is no failure"
        );
    }
}

#[tokio::test]
async fn after_a_hang_up_in_the_middle_of_a_stream() {
    let script = json!({ "answer": "a b c d e f", "chunks": 6, "chunk_ms": 50 });
    let (world, providers) = World::scripted(ALONE, &[("east/m1", script)]).await;
    let mut connection = begin(&world, true).await;
    let mut seen = vec![0; 4096];
    // The head and the first event.
    while !String::from_utf8_lossy(&seen).contains("data: ") {
        let mut more = vec![0; 4096];
        let n = connection.read(&mut more).await.unwrap();
        seen.extend_from_slice(&more[..n]);
    }
    drop(connection);
    world
        .until("the call ended", async |_| providers[0].in_flight() == 0)
        .await;
    world.until_all_returned().await;
}

#[tokio::test]
async fn after_an_upstream_that_hangs_in_the_middle_of_a_stream() {
    let toml = "[resilience]\nretries = 0\nidle_timeout = \"200ms\"\n";
    let script = json!({ "answer": "a b c", "chunks": 3, "hang": "after_chunks:1" });
    let world = World::start(&format!("{toml}{}", provider("east", &script)), Vec::new()).await;
    let reply = world
        .post("/v1/chat/completions", &chat_stream("east/m1", "?"))
        .await;
    let last = reply.events().pop().unwrap();
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(
        last["error"]["quorate"]["kind"], "timeout",
        "an error event, never a silent end"
    );
    world.until_all_returned().await;
}

#[tokio::test]
async fn after_the_deadline() {
    let (world, _) = World::scripted(ALONE, &[("east/m1", json!({ "hang": "before" }))]).await;
    let mut request = chat("east/m1", "?");
    request["quorate"] = json!({ "deadline_ms": 100 });
    let reply = world.post("/v1/chat/completions", &request).await;
    assert_eq!((reply.status, reply.kind().as_str()), (504, "deadline"));
    world.until_all_returned().await;
}

#[tokio::test]
async fn after_a_probe_is_cancelled() {
    let toml = "[admission]\nper_user = 20\n[resilience]\nretries = 0\n[resilience.breaker]\nmin_calls = 2\nopen_for = \"50ms\"\nprobes = 8\n";
    let fails = json!({ "fail": { "kind": "upstream", "status": 500 } });
    let (world, providers) = World::scripted(toml, &[("east/m1", fails)]).await;
    while world.deployment("east/m1")["breaker"] != "open" {
        world.chat("east/m1", "?").await;
    }
    world
        .until("half-open", async |w| {
            w.deployment("east/m1")["breaker"] == "half-open"
        })
        .await;
    providers[0]
        .set_script(json!({ "hang": "before" }))
        .unwrap();
    let mut probes = Vec::new();
    for n in 0..8 {
        probes.push(begin(&world, n % 2 == 0).await);
    }
    world
        .until("all probes are out", async |w| {
            w.deployment("east/m1")["probes_out"] == 8
        })
        .await;
    let refused = world.chat("east/m1", "?").await;
    assert_eq!(refused.kind(), "breaker-open");
    drop(probes);
    world.until_all_returned().await;
    providers[0].set_script(json!({})).unwrap();
    assert_eq!(world.chat("east/m1", "?").await.status, 200);
    world
        .until("closed again", async |w| {
            w.deployment("east/m1")["breaker"] == "closed"
        })
        .await;
}

#[tokio::test]
async fn after_the_dispatcher_itself_died() {
    let toml = "[admission]\nper_user = 2\n";
    let (world, providers) =
        World::scripted(toml, &[("east/m1", json!({ "latency_ms": 300 }))]).await;
    let mut rpc = world.rpc().await;
    rpc.request(1, "ask", &chat("east/m1", "?")).await;
    world.until("one runs", async |w| w.in_use() == 1).await;
    assert!(world.orchestrator.poison("dispatcher"));
    world
        .until("it is back", async |w| {
            let actors = w.orchestrator.status().actors;
            actors
                .iter()
                .any(|actor| actor.path == "root/dispatcher" && actor.restarts == 1)
        })
        .await;
    // The permit that was out still counts: of three more, one runs at a time besides it.
    for id in 2..5 {
        rpc.request(id, "ask", &chat("east/m1", "?")).await;
    }
    for _ in 1..5 {
        assert!(rpc.next().await.unwrap()["result"].is_object());
    }
    assert!(
        providers[0].max_in_flight() <= 2,
        "{} at once",
        providers[0].max_in_flight()
    );
    world.until_all_returned().await;
}

/// A provider that never has nothing to say.
struct Talker;

impl Provider for Talker {
    fn call(&self, _: Call) -> BoxFuture<'static, quorate::Result<Outcome>> {
        let deltas = futures_util::stream::repeat_with(|| Ok(quorate::Delta::text("and ")));
        Box::pin(async move { Ok(Outcome::Stream(deltas.boxed())) })
    }
}

#[tokio::test]
async fn a_stream_that_always_has_more_ends_at_its_deadline_all_the_same() {
    let talker: Arc<dyn Provider> = Arc::new(Talker);
    let world = World::start("", vec![(deployment("east/m1"), talker)]).await;
    let mut request = support::chat_stream("east/m1", "?");
    request["quorate"] = json!({ "deadline_ms": 300 });
    let reply = tokio::time::timeout(
        Duration::from_secs(20),
        world.post("/v1/chat/completions", &request),
    );
    let events = reply.await.expect("it ends").events();
    assert!(
        events.last().unwrap().contains("deadline"),
        "{:?}",
        events.last()
    );
    world.until_all_returned().await;
}

/// A provider that does what each query's text says.
struct Moody;

impl Provider for Moody {
    fn call(&self, call: Call) -> BoxFuture<'static, quorate::Result<Outcome>> {
        Box::pin(async move {
            let text = call.query.messages[0].text();
            let mood: u8 = text.parse().unwrap_or_default();
            let error = |kind| Err(quorate::Error::new(kind, "as scripted"));
            let deltas = |items: Vec<quorate::Result<quorate::Delta>>| {
                Ok(Outcome::Stream(futures_util::stream::iter(items).boxed()))
            };
            match mood % 8 {
                0 => Ok(Outcome::Whole(quorate::Answer::text("fine"))),
                1 => error(quorate::ErrorKind::Upstream),
                2 => panic!("as scripted"),
                3 => std::future::pending().await,
                4 => deltas(vec![Ok(quorate::Delta::text("cut"))]),
                5 => {
                    let cut = quorate::Error::new(quorate::ErrorKind::Connect, "as scripted");
                    deltas(vec![Ok(quorate::Delta::text("x")), Err(cut)])
                }
                6 => {
                    let endless =
                        futures_util::stream::once(async { Ok(quorate::Delta::text("x")) });
                    Ok(Outcome::Stream(
                        endless.chain(futures_util::stream::pending()).boxed(),
                    ))
                }
                _ => error(quorate::ErrorKind::RateLimited),
            }
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn after_any_interleaving_of_endings(
        queries in proptest::collection::vec((0u8..8, any::<bool>(), 0u64..60, 0usize..4), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let toml = "[ledger]\npath = \"off\"\n[resilience]\nretries = 1\nfirst_token_timeout = \"5s\"\nanswer_timeout = \"5s\"\nidle_timeout = \"5s\"\n[resilience.breaker]\nopen_for = \"10s\"\n";
            let config = quorate::Config::parse(toml, "test", Vec::new(), &[]).unwrap();
            let moody: Arc<dyn Provider> = Arc::new(Moody);
            let orchestrator = quorate::Orchestrator::builder(config)
                .provider(deployment("a/m"), Arc::clone(&moody))
                .provider(deployment("b/m"), moody)
                .start()
                .await
                .unwrap();
            let mut tasks = tokio::task::JoinSet::new();
            for (mood, stream, patience, user) in queries {
                let orchestrator = orchestrator.clone();
                tasks.spawn(async move {
                    let mut query = Query::new("m", mood.to_string()).within(Duration::from_secs(20));
                    query.user = format!("user-{user}").into();
                    let run = async {
                        if stream {
                            let Ok(mut deltas) = orchestrator.stream(query).await else { return };
                            while deltas.next().await.is_some() {}
                        } else {
                            let _ = orchestrator.ask(query).await;
                        }
                    };
                    // Some callers lose patience at a random moment.
                    let _ = timeout(Duration::from_secs(patience), run).await;
                });
            }
            while tasks.join_next().await.is_some() {}
            for _ in 0..200 {
                let status = orchestrator.status();
                let returned = status.admission.in_use == 0
                    && status.admission.waiting == [0; 3]
                    && status.deployments.iter().all(|one| one.in_flight == 0 && one.probes_out == 0);
                if returned {
                    return;
                }
                sleep(Duration::from_millis(10)).await;
            }
            panic!("leaked: {:#?}", orchestrator.status());
        });
    }
}

/// A chat request on a connection of its own, its answer not read.
async fn begin(world: &World, stream: bool) -> TcpStream {
    let mut request = chat("east/m1", "?");
    request["stream"] = stream.into();
    let body = request.to_string();
    let mut connection = TcpStream::connect(world.http).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection
        .write_all(format!("{head}{body}").as_bytes())
        .await
        .unwrap();
    connection
}

/// A scripted provider with a model `m1`, as configured: it takes its timeouts from the configuration.
fn provider(name: &str, script: &Value) -> String {
    let script = toml_of(script);
    format!(
        "[[providers]]\nname = \"{name}\"\nkind = \"scripted\"\nmodels = [\"m1\"]\nscript = {script}\n"
    )
}

/// JSON as an inline TOML value; enough for scripts.
fn toml_of(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let members: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key} = {}", toml_of(value)))
                .collect();
            format!("{{ {} }}", members.join(", "))
        }
        Value::Array(list) => format!(
            "[{}]",
            list.iter().map(toml_of).collect::<Vec<_>>().join(", ")
        ),
        other => other.to_string(),
    }
}
