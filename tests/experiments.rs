//! Experiments, seen through the doors: who gets which variant, and what judgements make of it.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use quorate::query::Role;
use quorate::{Call, Error, Outcome, Provider};
use serde_json::{Value, json};
use support::{Daemon, PATIENCE, Reply, World, chat, deployment, send};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

const CHAT: &str = "/v1/chat/completions";

/// Two variants on doubles of their own; `fast` leads to the first without the experiment, and into it with it.
const TONE: &str = r#"
[[providers]]
name = "a"
kind = "scripted"
models = ["m"]
script = { answer = "plainly" }
[[providers]]
name = "b"
kind = "scripted"
models = ["m"]
script = { answer = "kindly" }
[models.fast]
use = ["a/m"]
[experiments.tone]
applies_to = ["fast"]
min_samples = 30
[[experiments.tone.variants]]
name = "plain"
use = "a/m"
[[experiments.tone.variants]]
name = "kind"
use = "b/m"
system = "Be kind."
"#;

async fn post(http: SocketAddr, path: &str, body: &Value) -> Reply {
    let request = hyper::Request::post(path).header("host", "localhost");
    let request = request.body(body.to_string().into()).unwrap();
    let stream = TcpStream::connect(http).await.unwrap();
    send(stream, request).await.unwrap()
}

fn in_session(model: &str, session: &str) -> Value {
    let mut request = chat(model, "How do I leave?");
    request["quorate"] = json!({ "session": session });
    request
}

/// A question of this session to this model, answered.
async fn answered(http: SocketAddr, model: &str, session: &str) -> Reply {
    let reply = post(http, CHAT, &in_session(model, session)).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply
}

async fn judge(http: SocketAddr, of: &Reply, score: f64) {
    let judgement = json!({ "decision": of.header("x-quorate-decision"), "score": score });
    let judged = post(http, "/v1/feedback", &judgement).await;
    assert_eq!(judged.json()["outcome"], "recorded", "{}", judged.body);
}

/// Who serves a session: the deployment, which tells the variant.
async fn who(http: SocketAddr, model: &str, session: &str) -> String {
    let reply = answered(http, model, session).await;
    reply.header("x-quorate-model").to_owned()
}

/// What the status says of the experiment.
async fn tone(world: &World) -> Value {
    world.get("/v1/status").await.json()["experiments"]["tone"].clone()
}

/// Judges one answer a session, those of `kind` right and the others wrong, until it is decided; how many it took.
async fn until_decided(world: &World) -> usize {
    for judged in 0..400 {
        if tone(world).await["phase"] == "stopped" {
            return judged;
        }
        let reply = answered(world.http, "experiment/tone", &format!("judge {judged}")).await;
        let right = reply.header("x-quorate-model") == "b/m";
        judge(world.http, &reply, f64::from(u8::from(right))).await;
    }
    panic!("never decided: {}", tone(world).await);
}

/// Waits for something in the ledger's file.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "never came true: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// What the ledger's file holds of a cell.
fn on_disk(dir: &Path, key: &str) -> Option<Value> {
    let ledger = rusqlite::Connection::open(dir.join("ledger.db")).ok()?;
    let select = "SELECT payload FROM cells WHERE key = ?1";
    let payload: String = ledger.query_row(select, [key], |row| row.get(0)).ok()?;
    serde_json::from_str(&payload).ok()
}

#[tokio::test]
async fn a_session_keeps_its_variant_and_both_are_served() {
    let world = World::start(TONE, Vec::new()).await;
    let mut served = [0, 0];
    for session in 0..40 {
        let session = format!("s{session}");
        let first = who(world.http, "experiment/tone", &session).await;
        for _ in 0..3 {
            assert_eq!(who(world.http, "experiment/tone", &session).await, first);
        }
        served[usize::from(first == "b/m")] += 1;
    }
    assert!(served.iter().all(|count| *count >= 8), "{served:?}");
    let report = tone(&world).await;
    assert_eq!(
        (&report["phase"], &report["sticky"]),
        (&json!("nursery"), &json!("session"))
    );
    assert_eq!(report["samples"], 0, "nobody has judged: {report}");
    let kept = report["variants"].as_array().unwrap().iter();
    let kept: f64 = kept.map(|variant| variant["kept"].as_f64().unwrap()).sum();
    assert!((kept - 1.0).abs() < 1e-9, "{report}");
}

#[tokio::test]
async fn without_a_session_each_query_is_drawn_for_itself() {
    let world = World::start(TONE, Vec::new()).await;
    let mut served = [0, 0];
    for _ in 0..60 {
        let reply = world.chat("experiment/tone", "How do I leave?").await;
        served[usize::from(reply.header("x-quorate-model") == "b/m")] += 1;
    }
    assert!(served.iter().all(|count| *count >= 10), "{served:?}");
}

#[tokio::test]
async fn an_alias_leads_into_the_experiment_and_a_deployment_does_not() {
    let world = World::start(TONE, Vec::new()).await;
    let mut kind = 0;
    for session in 0..20 {
        let session = format!("s{session}");
        let by_alias = who(world.http, "fast", &session).await;
        assert_eq!(who(world.http, "experiment/tone", &session).await, by_alias);
        assert_eq!(who(world.http, "a/m", &session).await, "a/m");
        kind += usize::from(by_alias == "b/m");
    }
    assert!((1..20).contains(&kind), "{kind} of 20");
    let models = world.get("/v1/models").await.json();
    let models = models["data"].as_array().unwrap();
    assert!(models.iter().any(|model| model["id"] == "experiment/tone"));
}

#[tokio::test]
async fn explain_names_the_variant_and_keeps_nothing() {
    let world = World::start(TONE, Vec::new()).await;
    let request = in_session("fast", "s");
    let plan = world.post("/v1/explain", &request).await.json();
    assert_eq!(plan["trial"]["experiment"], "tone", "{plan}");
    let variant = plan["trial"]["variant"].clone();
    assert!([json!("plain"), json!("kind")].contains(&variant), "{plan}");
    assert!(tone(&world).await["variants"][0]["kept"].is_null());
    // It is the one that the session then gets, and the answer's own plan says so too.
    let mut request = request;
    request["quorate"]["explain"] = true.into();
    let reply = world.post(CHAT, &request).await;
    let trial = reply.json()["quorate"]["plan"]["trial"].clone();
    assert_eq!(trial, plan["trial"]);
    let served = if variant == "kind" { "b/m" } else { "a/m" };
    assert_eq!(reply.header("x-quorate-model"), served);
    assert!(tone(&world).await["variants"][0]["kept"].is_number());
}

#[tokio::test]
async fn judgements_decide_for_the_better_variant_and_then_everyone_gets_it() {
    let world = World::start(TONE, Vec::new()).await;
    let mut before = Vec::new();
    for session in 0..20 {
        before.push(who(world.http, "experiment/tone", &format!("s{session}")).await);
    }
    assert!(before.iter().any(|who| who == "a/m"), "{before:?}");
    let judged = until_decided(&world).await;
    assert!((60..400).contains(&judged), "{judged} judgements");
    let report = tone(&world).await;
    assert_eq!(
        (&report["winner"], &report["reason"]),
        (&json!("kind"), &json!("evidence"))
    );
    assert!(report["stopped_at_ms"].as_u64().unwrap() > 0);
    assert_eq!(report["samples"], judged);
    let evidence = &report["evidence"];
    assert_eq!(
        (&evidence["leader"], &evidence["challenger"]),
        (&json!("kind"), &json!("plain"))
    );
    assert!(evidence["ratio"].as_f64().unwrap() > evidence["threshold"].as_f64().unwrap());
    for (variant, share) in report["variants"]
        .as_array()
        .unwrap()
        .iter()
        .zip([0.0, 1.0])
    {
        assert!(variant["n"].as_u64().unwrap() >= 30, "{variant}");
        assert_eq!(variant["mean"], share, "{variant}");
        assert_eq!(variant["share"], share, "{variant}");
    }
    for session in 0..40 {
        let session = format!("s{session}");
        assert_eq!(who(world.http, "experiment/tone", &session).await, "b/m");
        assert_eq!(who(world.http, "fast", &session).await, "b/m");
    }
    // What is judged later changes nothing.
    let late = answered(world.http, "fast", "s0").await;
    judge(world.http, &late, 0.0).await;
    assert_eq!(tone(&world).await, report);
}

#[tokio::test]
async fn a_judgement_counts_once_for_the_variant_that_answered() {
    let world = World::start(TONE, Vec::new()).await;
    let reply = answered(world.http, "experiment/tone", "s").await;
    judge(world.http, &reply, 1.0).await;
    for score in [1.0, 0.5] {
        let again = json!({ "decision": reply.header("x-quorate-decision"), "score": score });
        post(world.http, "/v1/feedback", &again).await;
    }
    // An answer outside the experiment says nothing of it.
    let outside = answered(world.http, "a/m", "s").await;
    judge(world.http, &outside, 0.0).await;
    let report = tone(&world).await;
    assert_eq!(report["samples"], 1, "{report}");
    let mine = usize::from(reply.header("x-quorate-model") == "b/m");
    let variant = &report["variants"][mine];
    assert_eq!((&variant["n"], &variant["mean"]), (&json!(1), &json!(1.0)));
    assert!(report["variants"][1 - mine]["mean"].is_null(), "{report}");
}

/// A provider that writes down what the operator says to it.
struct Listening {
    inner: Arc<dyn Provider>,
    system: Mutex<Vec<String>>,
}

impl Provider for Listening {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Outcome, Error>> {
        let messages = call.query.messages.iter();
        let system: String = messages
            .filter(|message| message.role == Role::System)
            .map(|message| message.text())
            .collect();
        self.system.lock().unwrap().push(system);
        self.inner.call(call)
    }
}

#[tokio::test]
async fn a_variants_word_reaches_the_provider_and_the_other_variant_has_none() {
    let toml = "[experiments.tone]\n\
                [[experiments.tone.variants]]\nname = \"plain\"\nuse = \"auto\"\n\
                [[experiments.tone.variants]]\nname = \"kind\"\nuse = \"auto\"\nsystem = \"Be kind.\"\n";
    let listening = Arc::new(Listening {
        inner: support::scripted(json!({ "answer": "so" })),
        system: Mutex::default(),
    });
    let host: Arc<dyn Provider> = Arc::clone(&listening) as Arc<dyn Provider>;
    let world = World::start(toml, vec![(deployment("a/m"), host)]).await;
    let mut seen = [false, false];
    for session in 0..20 {
        let mut request = in_session("experiment/tone", &format!("s{session}"));
        request["quorate"]["explain"] = true.into();
        let reply = world.post(CHAT, &request).await;
        let kind = reply.json()["quorate"]["plan"]["trial"]["variant"] == "kind";
        let heard = listening.system.lock().unwrap().last().cloned();
        assert_eq!(heard.as_deref(), Some(if kind { "Be kind." } else { "" }));
        seen[usize::from(kind)] = true;
    }
    assert_eq!(seen, [true, true]);
    // The caller's own word stays, after the operator's.
    let mut request = in_session("experiment/tone", "s0");
    request["messages"] = json!([
        { "role": "system", "content": " Be brief." },
        { "role": "user", "content": "?" },
    ]);
    for session in 0..20 {
        request["quorate"]["session"] = format!("s{session}").into();
        assert_eq!(world.post(CHAT, &request).await.status, 200);
    }
    let heard = listening.system.lock().unwrap().split_off(20);
    assert!(
        heard
            .iter()
            .all(|system| [" Be brief.", "Be kind. Be brief."].contains(&system.as_str())),
        "{heard:?}"
    );
}

#[tokio::test]
async fn an_experiment_goes_on_after_kill_9() {
    let dir = TempDir::new().unwrap();
    let daemon = Daemon::start(dir.path(), TONE).await;
    let mut before = Vec::new();
    for session in 0..40 {
        let reply = answered(daemon.http, "fast", &format!("s{session}")).await;
        let right = reply.header("x-quorate-model") == "b/m";
        judge(daemon.http, &reply, f64::from(u8::from(right))).await;
        before.push(reply.header("x-quorate-model").to_owned());
    }
    eventually("the evidence is written", || {
        let Some(cell) = on_disk(dir.path(), "experiment:tone") else {
            return false;
        };
        let arms = cell["arms"].as_array().cloned().unwrap_or_default();
        let judged: u64 = arms
            .iter()
            .filter_map(|arm| arm["tally"]["n"].as_u64())
            .sum();
        judged == 40
    })
    .await;
    let report = async |daemon: &Daemon| {
        let status = daemon.get("/v1/status").await.unwrap().json();
        status["experiments"]["tone"].clone()
    };
    let known = report(&daemon).await;
    drop(daemon);
    let daemon = Daemon::start(dir.path(), TONE).await;
    assert_eq!(report(&daemon).await, known);
    for (session, before) in before.iter().enumerate() {
        assert_eq!(
            &who(daemon.http, "fast", &format!("s{session}")).await,
            before
        );
    }
}

#[tokio::test]
async fn an_experiment_that_comes_back_goes_on_where_it_was() {
    let dir = TempDir::new().unwrap();
    let daemon = Daemon::start(dir.path(), TONE).await;
    let mut before = Vec::new();
    for session in 0..20 {
        let reply = answered(daemon.http, "fast", &format!("s{session}")).await;
        judge(daemon.http, &reply, 1.0).await;
        before.push(reply.header("x-quorate-model").to_owned());
    }
    let reports = async |daemon: &Daemon| {
        let status = daemon.get("/v1/status").await.unwrap().json();
        status["experiments"].clone()
    };
    let known = reports(&daemon).await;
    assert_eq!(known["tone"]["samples"], 20);
    let reload = async |daemon: &Daemon, toml: &str| {
        let whole = std::fs::read_to_string(&daemon.config).unwrap();
        let (server, _) = whole.split_once("\n[[providers]]").unwrap();
        std::fs::write(&daemon.config, format!("{server}\n{toml}")).unwrap();
        let mut rpc = support::Rpc::connect(&daemon.socket).await;
        let reply = rpc.call("reload", &json!({})).await;
        assert!(reply.get("error").is_none(), "{reply}");
    };
    let (without, _) = TONE.split_once("[experiments").unwrap();
    reload(&daemon, without).await;
    assert_eq!(reports(&daemon).await, json!({}), "it is not running");
    assert_eq!(who(daemon.http, "fast", "s0").await, "a/m");
    reload(&daemon, TONE).await;
    assert_eq!(reports(&daemon).await, known);
    // Nor does it matter that the daemon was killed meanwhile.
    reload(&daemon, without).await;
    eventually("its retirement is written", || {
        on_disk(dir.path(), "retired") == Some(json!(["tone"]))
    })
    .await;
    drop(daemon);
    let daemon = Daemon::start(dir.path(), without).await;
    assert_eq!(reports(&daemon).await, json!({}));
    drop(daemon);
    let daemon = Daemon::start(dir.path(), TONE).await;
    assert_eq!(reports(&daemon).await, known);
    for (session, before) in before.iter().enumerate() {
        let session = format!("s{session}");
        assert_eq!(&who(daemon.http, "fast", &session).await, before);
    }
}

#[tokio::test]
async fn an_unknown_experiment_is_refused_with_the_names_there_are() {
    let world = World::start(TONE, Vec::new()).await;
    let reply = world.chat("experiment/tune", "?").await;
    assert_eq!(
        (reply.status, reply.kind().as_str()),
        (404, "no-candidate"),
        "{}",
        reply.body
    );
    assert!(reply.body.contains("experiment/tone"), "{}", reply.body);
    let plan = world
        .post("/v1/explain", &chat("experiment/tune", "?"))
        .await;
    assert_eq!(plan.status, 404, "{}", plan.body);
}
