//! What is learned from judgements, checks and agreement, and what it changes, seen through the doors.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Daemon, PATIENCE, Reply, World, chat, send};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

const CHAT: &str = "/v1/chat/completions";
const FEEDBACK: &str = "/v1/feedback";
const CITY: &str = "Which city is the capital of France?";

/// Answers that cost the same wherever they come from.
fn says(text: &str) -> Value {
    json!({ "answer": text, "usage": { "input": 20, "output": 5 } })
}

/// Says `easy` to every question but those that contain a key of `others`.
fn says_by_question(easy: &str, others: &[(&str, &str)]) -> Value {
    let mut script = says(easy);
    let other = |(part, text): &(&str, &str)| ((*part).to_owned(), json!({ "answer": text }));
    script["by_prompt"] = Value::Object(others.iter().map(other).collect());
    script
}

/// A chat request with our own object in it.
fn ask(model: &str, text: &str, quorate: Value) -> Value {
    let mut request = chat(model, text);
    request["quorate"] = quorate;
    request
}

/// Asks all three members and merges as `merge` says.
fn everyone(merge: &str) -> Value {
    let quorate = json!({ "ensemble": ["a/m", "b/m", "c/m"], "merge": merge, "everyone": true });
    ask("auto", CITY, quorate)
}

/// JSON as TOML writes it in one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                format!("{} = {}", Value::from(key.as_str()), inline(value))
            };
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// A configured double with one model, `m`; `more` goes into the model's table.
fn provider(name: &str, script: &Value, more: &str) -> String {
    format!(
        "[[providers]]\nname = \"{name}\"\nkind = \"scripted\"\nscript = {}\nmodels = [{{ name = \"m\"{more} }}]\n",
        inline(script)
    )
}

/// Three of them, and the ensemble `panel` of all.
fn panel(merge: &str, scripts: [Value; 3]) -> String {
    let [a, b, c] = scripts;
    let ensemble =
        format!("[ensembles.panel]\nmembers = [\"a/m\", \"b/m\", \"c/m\"]\nmerge = \"{merge}\"\n");
    [
        provider("a", &a, ""),
        provider("b", &b, ""),
        provider("c", &c, ""),
        ensemble,
    ]
    .concat()
}

async fn post(http: SocketAddr, path: &str, body: &Value) -> Reply {
    let request = hyper::Request::post(path).header("host", "localhost");
    let request = request.body(body.to_string().into()).unwrap();
    let stream = TcpStream::connect(http).await.unwrap();
    send(stream, request).await.unwrap()
}

/// A question that is answered.
async fn answered(http: SocketAddr, request: &Value) -> Reply {
    let reply = post(http, CHAT, request).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply
}

/// A judgement of an answer.
async fn judge(http: SocketAddr, of: &Reply, judgement: &Value) -> Reply {
    let mut judgement = judgement.clone();
    judgement["decision"] = of.header("x-quorate-decision").into();
    post(http, FEEDBACK, &judgement).await
}

/// So many rounds of everybody in `panel`, each told its right answer. Easy and hard questions take turns.
async fn rounds(http: SocketAddr, many: usize, reference: &str) {
    for round in 0..many {
        let question = if round % 2 == 0 { "easy" } else { "hard" };
        let request = ask("ensemble/panel", question, json!({ "everyone": true }));
        let reply = answered(http, &request).await;
        let judged = judge(http, &reply, &json!({ "reference": reference })).await;
        assert_eq!(judged.json()["outcome"], "recorded", "{}", judged.body);
    }
}

/// What the status says of the ensemble `panel`.
async fn panel_status(world: &World) -> Value {
    world.get("/v1/status").await.json()["ensembles"]["panel"].clone()
}

/// Waits until the weights of `panel` rest on at least so many rounds.
async fn until_fitted(world: &World, rounds: u64) {
    world
        .until("the votes' weights are fitted", async |w| {
            let learned = panel_status(w).await["learned"][0].as_u64();
            learned.is_some_and(|learned| learned >= rounds)
        })
        .await;
}

/// How many judgements of users a deployment has learned from.
fn user_judgements(world: &World, id: &str) -> u64 {
    let sources = world.deployment(id)["quality"]["sources"].clone();
    sources["user"]["count"].as_u64().unwrap_or(0)
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "never came true: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// What the ledger's file holds of a cell.
fn on_disk(dir: &Path, key: &str) -> Option<String> {
    let ledger = rusqlite::Connection::open(dir.join("ledger.db")).ok()?;
    let select = "SELECT payload FROM cells WHERE key = ?1";
    ledger.query_row(select, [key], |row| row.get(0)).ok()
}

#[tokio::test]
async fn each_kind_of_judgement_of_a_single_answer_says_what_it_came_to() {
    let (world, _) = World::scripted("", &[("a/m", says("Paris"))]).await;
    for (judgement, score) in [
        (json!({ "score": 0.25 }), 0.25),
        (json!({ "score": 1 }), 1.0),
        (json!({ "thumb": "up" }), 1.0),
        (json!({ "thumb": "down" }), 0.0),
        (json!({ "reference": "Paris" }), 1.0),
        (json!({ "reference": "**paris**." }), 1.0),
        (json!({ "reference": "Lyon" }), 0.0),
    ] {
        let reply = answered(world.http, &chat("a/m", CITY)).await;
        let judged = judge(world.http, &reply, &judgement).await;
        let wanted =
            json!({ "deployment": "a/m", "outcome": "recorded", "score": score, "learned": 1 });
        assert_eq!(judged.json(), wanted, "{judgement}");
    }
    world
        .until("all are learned", async |w| user_judgements(w, "a/m") == 7)
        .await;
}

#[tokio::test]
async fn each_kind_of_judgement_of_an_ensemble_teaches_whom_it_tells_something_of() {
    let scripts = [
        ("a/m", says("Paris")),
        ("b/m", says("**paris**.")),
        ("c/m", says("Lyon")),
    ];
    let (world, _) = World::scripted("", &scripts).await;
    for (judgement, score, learned) in [
        // Right: then who said something else was wrong.
        (json!({ "score": 1 }), 1.0, 3),
        (json!({ "thumb": "up" }), 1.0, 3),
        // Not right: that says nothing of the others.
        (json!({ "score": 0.5 }), 0.5, 2),
        (json!({ "thumb": "down" }), 0.0, 2),
        (json!({ "chosen": "a/m" }), 1.0, 3),
        (json!({ "chosen": "c/m" }), 0.0, 3),
        (json!({ "reference": "Paris" }), 1.0, 3),
        (json!({ "reference": "Lyon" }), 0.0, 3),
        (json!({ "reference": "Oslo" }), 0.0, 3),
    ] {
        let reply = answered(world.http, &everyone("plurality")).await;
        let judged = judge(world.http, &reply, &judgement).await.json();
        assert_eq!(judged["outcome"], "recorded", "{judgement}");
        assert_eq!(judged["score"], score, "{judgement}");
        assert_eq!(judged["learned"], learned, "{judgement}");
        assert_eq!(judged["deployment"], reply.json()["quorate"]["model"]);
    }
    world
        .until("all are learned", async |w| {
            user_judgements(w, "a/m") == 9 && user_judgements(w, "c/m") == 7
        })
        .await;
    let mean = |id: &str| number(&world.deployment(id)["quality"]["sources"]["user"]["mean"]);
    assert!((mean("a/m") - 4.5 / 9.0).abs() < 1e-9, "{}", mean("a/m"));
    assert!((mean("c/m") - 2.0 / 7.0).abs() < 1e-9, "{}", mean("c/m"));
}

/// A judgement of the single answer or of the ensemble's, the field its refusal names, and a part of what it says.
#[rustfmt::skip]
fn wrong_judgements() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    let long = "x".repeat(64 * 1024 + 1);
    vec![
        ("single", json!({}), "score", "one of score"),
        ("single", json!({ "score": null }), "score", "one of score"),
        ("single", json!({ "score": 1, "thumb": "up" }), "score", "one of score"),
        ("merged", json!({ "chosen": "a/m", "reference": "Paris" }), "score", "one of score"),
        ("single", json!({ "score": 1.5 }), "score", "from 0"),
        ("single", json!({ "score": -0.1 }), "score", "from 0"),
        ("single", json!({ "score": "good" }), "feedback", "invalid type"),
        ("single", json!({ "thumb": "sideways" }), "feedback", "sideways"),
        ("single", json!({ "score": 1, "stars": 5 }), "feedback", "stars"),
        ("single", json!({ "score": 1, "source": "" }), "source", "1 to 64 bytes"),
        ("single", json!({ "score": 1, "source": "x".repeat(65) }), "source", "1 to 64 bytes"),
        ("single", json!({ "reference": long }), "reference", "at most"),
        ("single", json!({ "chosen": "a/m" }), "chosen", "this decision had none"),
        ("merged", json!({ "chosen": "d/m" }), "chosen", "c/m"),
        ("nobody", json!({ "score": 1 }), "decision", "no decision"),
        ("nobody", json!({ "reference": "Paris" }), "decision", "no decision"),
    ]
}

#[tokio::test]
async fn a_judgement_that_cannot_be_is_refused_with_its_field_and_teaches_nobody() {
    let scripts = [
        ("a/m", says("Paris")),
        ("b/m", says("Paris")),
        ("c/m", says("Lyon")),
    ];
    let (world, _) = World::scripted("", &scripts).await;
    let single = answered(world.http, &chat("a/m", CITY)).await;
    let merged = answered(world.http, &everyone("plurality")).await;
    let mut rpc = world.rpc().await;
    for (of, mut judgement, param, says) in wrong_judgements() {
        let decision = match of {
            "single" => single.header("x-quorate-decision"),
            "merged" => merged.header("x-quorate-decision"),
            other => other,
        };
        judgement["decision"] = decision.into();
        let refused = world.post(FEEDBACK, &judgement).await;
        let kind = refused.kind();
        assert_eq!(
            (refused.status, &*kind),
            (400, "invalid"),
            "{}",
            refused.body
        );
        let error = refused.json()["error"].clone();
        assert_eq!(error["param"], param, "{error}");
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
        // The other door says the same.
        let error = rpc.call("feedback", &judgement).await["error"].clone();
        assert_eq!(error["code"], -32602, "{error}");
        assert_eq!(error["data"]["param"], param, "{error}");
    }
    for id in ["a/m", "b/m", "c/m"] {
        assert_eq!(user_judgements(&world, id), 0, "{id}");
    }
}

#[tokio::test]
async fn a_reference_needs_the_answers_and_a_late_score_does_not() {
    let dir = TempDir::new().unwrap();
    let toml = panel("plurality", [says("Paris"), says("Paris"), says("Lyon")]);
    let mut daemon = Daemon::start(dir.path(), &toml).await;
    let single = answered(daemon.http, &chat("a/m", CITY)).await;
    let merged = answered(daemon.http, &everyone("plurality")).await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await, Some(0));
    let daemon = Daemon::start(dir.path(), &toml).await;
    for of in [&single, &merged] {
        let refused = judge(daemon.http, of, &json!({ "reference": "Paris" })).await;
        let error = refused.json()["error"].clone();
        assert_eq!(
            (refused.status, &error["param"]),
            (400, &json!("reference"))
        );
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("not at hand"), "{message}");
    }
    let judged = judge(daemon.http, &single, &json!({ "score": 0.5 }))
        .await
        .json();
    assert_eq!(
        (&judged["outcome"], &judged["learned"]),
        (&json!("recorded"), &json!(1))
    );
    // Who said what is in the ledger, if not the words.
    let judged = judge(daemon.http, &merged, &json!({ "chosen": "c/m" }))
        .await
        .json();
    assert_eq!(
        (&judged["score"], &judged["learned"]),
        (&json!(0.0), &json!(3))
    );
}

#[tokio::test]
async fn a_source_is_learned_from_once_a_decision_however_late_and_often_it_speaks() {
    let (world, _) = World::scripted("", &[("a/m", says("Paris"))]).await;
    let first = answered(world.http, &chat("a/m", CITY)).await;
    for _ in 0..50 {
        answered(world.http, &chat("a/m", "Another one?")).await;
    }
    for (judgement, outcome, learned) in [
        (json!({ "score": 0.5 }), "recorded", 1),
        (json!({ "score": 0.5 }), "repeated", 0),
        (json!({ "thumb": "down" }), "changed", 0),
        (json!({ "score": 0 }), "repeated", 0),
        (json!({ "reference": "Paris" }), "changed", 0),
        (json!({ "score": 0.5, "source": "nightly" }), "recorded", 1),
    ] {
        let judged = judge(world.http, &first, &judgement).await.json();
        assert_eq!(
            (&judged["outcome"], &judged["learned"]),
            (&json!(outcome), &json!(learned))
        );
    }
    let sources = async |w: &World| w.deployment("a/m")["quality"]["sources"].clone();
    world
        .until("both are learned", async |w| {
            sources(w).await["nightly"]["count"] == 1
        })
        .await;
    let user = sources(&world).await["user"].clone();
    assert_eq!(user, json!({ "count": 1, "weight": 1.0, "mean": 0.5 }));
}

#[tokio::test]
async fn judgements_checks_and_agreement_move_the_quality_each_with_its_trace() {
    let scripts = [
        ("a/m", says("Paris")),
        ("b/m", says("Paris")),
        ("c/m", says("Lyon")),
    ];
    let (world, _) = World::scripted("", &scripts).await;
    let quality = |world: &World, id: &str| world.deployment(id)["quality"].clone();
    let before = quality(&world, "a/m");
    assert_eq!(before["evidence"], 0.0);
    assert!(
        number(&before["low"]) < 0.5 && number(&before["high"]) > 0.5,
        "{before}"
    );
    for (model, score) in [("a/m", 1.0), ("c/m", 0.0)] {
        for _ in 0..10 {
            let reply = answered(world.http, &chat(model, CITY)).await;
            judge(world.http, &reply, &json!({ "score": score })).await;
        }
    }
    world
        .until("they are learned", async |w| {
            user_judgements(w, "a/m") == 10 && user_judgements(w, "c/m") == 10
        })
        .await;
    let (good, bad) = (quality(&world, "a/m"), quality(&world, "c/m"));
    assert!(
        number(&good["mean"]) > number(&before["mean"]) + 0.1,
        "{good}"
    );
    assert!(
        number(&bad["mean"]) < number(&before["mean"]) - 0.1,
        "{bad}"
    );
    assert!(number(&good["low"]) <= number(&good["mean"]));
    assert!(number(&good["mean"]) <= number(&good["high"]));
    assert_eq!(
        good["sources"],
        json!({ "user": { "count": 10, "weight": 10.0, "mean": 1.0 } })
    );
    answered(world.http, &everyone("plurality")).await;
    world
        .until("agreement is learned", async |w| {
            ["a/m", "b/m", "c/m"]
                .iter()
                .all(|id| w.deployment(id)["quality"]["sources"]["agreement"]["count"] == 1)
        })
        .await;
    let agreement = |id: &str| number(&quality(&world, id)["sources"]["agreement"]["mean"]);
    assert!(agreement("b/m") > agreement("c/m"));
    assert!(number(&quality(&world, "b/m")["sources"]["agreement"]["weight"]) < 1.0);
}

#[tokio::test]
async fn an_answer_that_fails_a_check_is_evidence_against_who_gave_it() {
    let scripts = [
        ("good/m", says("{\"city\": \"Paris\"}")),
        ("sick/m", says("{\"city\": Paris")),
    ];
    let (world, _) = World::scripted("", &scripts).await;
    for model in ["good/m", "sick/m"] {
        let mut request = chat(model, "Which city? As JSON.");
        request["response_format"] = json!({ "type": "json_object" });
        for _ in 0..5 {
            answered(world.http, &request).await;
        }
    }
    let check =
        |world: &World, id: &str| world.deployment(id)["quality"]["sources"]["check"].clone();
    world
        .until("both are checked", async |w| {
            check(w, "good/m")["count"] == 5 && check(w, "sick/m")["count"] == 5
        })
        .await;
    let (good, sick) = (check(&world, "good/m"), check(&world, "sick/m"));
    assert_eq!((number(&good["mean"]), number(&sick["mean"])), (1.0, 0.0));
    assert!(
        number(&sick["weight"]) > number(&good["weight"]),
        "form is no truth"
    );
    let mean = |id: &str| number(&world.deployment(id)["quality"]["mean"]);
    assert!(mean("sick/m") < mean("good/m"));
}

#[tokio::test]
async fn auto_learns_who_is_good() {
    let scripts = [("bad/m", says("?")), ("good/m", says("!"))];
    let (world, providers) = World::scripted("", &scripts).await;
    let request = ask("auto", "Write a verse.", json!({ "topic": "verse" }));
    for _ in 0..60 {
        let reply = answered(world.http, &request).await;
        let score = u8::from(reply.header("x-quorate-model") == "good/m");
        judge(world.http, &reply, &json!({ "score": score })).await;
    }
    world
        .until("all is learned", async |w| {
            user_judgements(w, "bad/m") + user_judgements(w, "good/m") == 60
        })
        .await;
    let before = providers[1].calls();
    for _ in 0..30 {
        answered(world.http, &request).await;
    }
    let good = providers[1].calls() - before;
    assert!(good >= 24, "{good} of 30");
}

#[tokio::test]
async fn a_topic_is_learned_apart_from_another() {
    let scripts = [("poet/m", says("!")), ("prover/m", says("!"))];
    let (world, _) = World::scripted("", &scripts).await;
    let topics = [("verse", "poet/m"), ("proof", "prover/m")];
    let request = |topic: &str| ask("auto", "Write one.", json!({ "topic": topic }));
    for _ in 0..60 {
        for (topic, good) in topics {
            let reply = answered(world.http, &request(topic)).await;
            let score = u8::from(reply.header("x-quorate-model") == good);
            judge(world.http, &reply, &json!({ "score": score })).await;
        }
    }
    world
        .until("all is learned", async |w| {
            user_judgements(w, "poet/m") + user_judgements(w, "prover/m") == 120
        })
        .await;
    for (topic, good) in topics {
        let mut right = 0;
        for _ in 0..20 {
            let reply = answered(world.http, &request(topic)).await;
            right += u8::from(reply.header("x-quorate-model") == good);
        }
        assert!(right >= 14, "{topic}: {right} of 20");
    }
}

#[tokio::test]
async fn urgent_queries_never_explore() {
    let scripts = [("a/m", says("x")), ("b/m", says("x"))];
    let (world, _) = World::scripted("", &scripts).await;
    let why = async |lane: &str| {
        let request = ask("auto", CITY, json!({ "lane": lane, "explain": true }));
        let plan = answered(world.http, &request).await.json()["quorate"]["plan"].clone();
        plan["why"].as_str().unwrap().to_owned()
    };
    for _ in 0..40 {
        let why = why("urgent").await;
        assert!(["greedy", "bounded"].contains(&why.as_str()), "{why}");
    }
    // Of two that nothing is known of, others do.
    let mut explored = 0;
    for _ in 0..40 {
        explored += u8::from(why("normal").await == "explored");
    }
    assert!(explored > 0);
}

#[tokio::test]
async fn explain_shows_what_the_choice_was_made_of() {
    let scripts = [("a/m", says("x")), ("b/m", says("x"))];
    let (world, _) = World::scripted("", &scripts).await;
    let reply = answered(world.http, &ask("auto", CITY, json!({ "explain": true }))).await;
    let plan = reply.json()["quorate"]["plan"].clone();
    for candidate in plan["candidates"].as_array().unwrap() {
        let (low, high) = (
            number(&candidate["interval"][0]),
            number(&candidate["interval"][1]),
        );
        let quality = number(&candidate["quality"]);
        assert!(
            0.0 <= low && low <= quality && quality <= high && high <= 1.0,
            "{candidate}"
        );
        assert!(
            (0.0..=1.0).contains(&number(&candidate["sampled"])),
            "{candidate}"
        );
        assert_eq!(candidate["evidence"], 0.0, "{candidate}");
    }
    let why = plan["why"].as_str().unwrap();
    assert!(["greedy", "explored", "bounded"].contains(&why), "{why}");
    assert_eq!(plan["choice"], reply.json()["quorate"]["model"]);
    assert_eq!(plan["basis"]["standings"].as_array().unwrap().len(), 2);
    assert!(plan["basis"]["seed"].is_u64(), "{plan}");
    // The state is the one that the status names, until something is learned.
    let digest = async |w: &World| w.get("/v1/status").await.json()["learned"]["digest"].clone();
    assert_eq!(plan["state"].as_str().unwrap().len(), 16);
    assert_eq!(plan["state"], digest(&world).await);
    let again = world.post("/v1/explain", &chat("auto", CITY)).await.json();
    assert_eq!(again["state"], plan["state"]);
    judge(world.http, &reply, &json!({ "score": 1 })).await;
    let who = reply.header("x-quorate-model");
    world
        .until("it is learned", async |w| user_judgements(w, who) == 1)
        .await;
    let plan = world.post("/v1/explain", &chat("auto", CITY)).await.json();
    assert_ne!(plan["state"], again["state"]);
    assert_eq!(plan["state"], digest(&world).await);
    let candidates = plan["candidates"].as_array().unwrap();
    let known = candidates
        .iter()
        .find(|one| one["deployment"] == who)
        .unwrap();
    assert!(number(&known["evidence"]) > 0.9, "{known}");
}

#[tokio::test]
async fn a_session_stays_with_its_deployment() {
    let scripts = [("a/m", says("x")), ("b/m", says("x")), ("c/m", says("x"))];
    let (world, _) = World::scripted("[routing]\nlatency = 0.0\n", &scripts).await;
    for session in ["one", "two", "three", "four"] {
        let request = ask("auto", CITY, json!({ "session": session }));
        let first = answered(world.http, &request).await;
        for _ in 1..20 {
            let next = answered(world.http, &request).await;
            let who = next.header("x-quorate-model");
            assert_eq!(who, first.header("x-quorate-model"), "{session}");
        }
    }
}

#[tokio::test]
async fn adaptive_asks_fewer_once_it_knows_whom_to_believe() {
    // What is easy all three know; what is hard c does not.
    let split = |own: &'static str, hard: &'static str| {
        says_by_question("Paris", &[("hard", hard), ("split", own)])
    };
    let scripts = [
        split("Rome", "Paris"),
        split("Oslo", "Paris"),
        split("Bern", "Lyon"),
    ];
    let world = World::start(&panel("adaptive", scripts), Vec::new()).await;
    let calls = async || {
        let mut calls = 0;
        for round in 0..20 {
            let question = if round % 2 == 0 { "easy" } else { "hard" };
            let reply = answered(world.http, &chat("ensemble/panel", question)).await;
            let report = reply.json()["quorate"].clone();
            let ensemble = &report["ensemble"];
            let asked = ensemble["calls"].as_u64().unwrap();
            let saved = ensemble["saved"].as_u64().unwrap();
            assert_eq!(asked + saved, 3, "{ensemble}");
            let stopped = ensemble["stopped"].as_str().unwrap();
            assert!(
                ["confident", "not_worth_it", "everybody"].contains(&stopped),
                "{ensemble}"
            );
            let confidence = number(&report["confidence"]);
            assert!((0.0..=1.0).contains(&confidence), "{confidence}");
            calls += asked;
        }
        calls
    };
    let before = calls().await;
    rounds(world.http, 60, "Paris").await;
    until_fitted(&world, 60).await;
    let after = calls().await;
    assert!(
        after < 60 && after < before,
        "{after} calls, {before} before"
    );
    for question in ["easy", "hard"] {
        let reply = answered(world.http, &chat("ensemble/panel", question)).await;
        assert_eq!(reply.content(), "Paris", "{question}");
        let state = reply.json()["quorate"]["ensemble"]["state"].clone();
        assert_eq!(state.as_str().unwrap().len(), 16);
    }
    // All together are believed more than each for itself.
    let confidence = async |question: &str| {
        let request = ask("ensemble/panel", question, json!({ "everyone": true }));
        number(&answered(world.http, &request).await.json()["quorate"]["confidence"])
    };
    let (agreed, split) = (confidence("easy").await, confidence("split").await);
    assert!(
        0.0 <= split && split < agreed && agreed <= 1.0,
        "{split} and {agreed}"
    );
}

#[tokio::test]
async fn fitted_learns_to_follow_the_one_who_is_right() {
    let scripts = [says("Lyon"), says("Lyon"), says("Paris")];
    let world = World::start(&panel("fitted", scripts), Vec::new()).await;
    let before = answered(world.http, &chat("ensemble/panel", "easy")).await;
    assert_eq!(
        before.content(),
        "Lyon",
        "two against one, and nothing known of them"
    );
    rounds(world.http, 60, "Paris").await;
    until_fitted(&world, 45).await;
    for question in ["easy", "hard"] {
        let reply = answered(world.http, &chat("ensemble/panel", question)).await;
        assert_eq!(reply.content(), "Paris", "{}", reply.body);
        let report = reply.json()["quorate"].clone();
        assert_eq!(report["model"], "c/m");
        assert!(number(&report["confidence"]) > 0.5, "{report}");
    }
    let status = panel_status(&world).await;
    assert!(status["learned"][1].as_u64().unwrap() >= 40, "{status}");
    assert!(status["rounds"].as_u64().unwrap() >= 61, "{status}");
}

#[tokio::test]
async fn everyone_means_everyone_whatever_is_decided_before() {
    let scripts = [
        ("a/m", says("Paris")),
        ("b/m", says("Paris")),
        ("c/m", says("Paris")),
    ];
    let (world, providers) = World::scripted("", &scripts).await;
    for (asked, merge) in (1..).zip(["plurality", "adaptive", "cascade", "fitted"]) {
        let report = answered(world.http, &everyone(merge)).await.json()["quorate"].clone();
        let ensemble = &report["ensemble"];
        assert_eq!(
            (&ensemble["calls"], &ensemble["saved"]),
            (&json!(3), &json!(0)),
            "{merge}"
        );
        assert_eq!(ensemble["stopped"], "everybody", "{merge}");
        assert!(
            providers.iter().all(|provider| provider.calls() == asked),
            "{merge}"
        );
        let members = report["members"].as_array().unwrap();
        assert!(
            members.iter().all(|member| member["outcome"] == "ok"),
            "{merge}"
        );
    }
    // Left to itself a vote ends when it is decided.
    providers[2]
        .set_script(json!({ "hang": "before" }))
        .unwrap();
    let mut request = everyone("plurality");
    request["quorate"]["everyone"] = false.into();
    let ensemble = answered(world.http, &request).await.json()["quorate"]["ensemble"].clone();
    assert_eq!(
        (&ensemble["stopped"], &ensemble["saved"]),
        (&json!("decided"), &json!(1))
    );
    world.until_all_returned().await;
}

#[tokio::test]
async fn who_fails_or_does_not_know_has_no_vote() {
    let scripts = [
        ("a/m", says("Paris")),
        ("b/m", says("I don't know.")),
        ("c/m", says("I don't know.")),
    ];
    let (world, providers) = World::scripted("[resilience]\nretries = 0\n", &scripts).await;
    let member = |report: &Value, id: &str| {
        let members = report["members"].as_array().unwrap().iter();
        members
            .clone()
            .find(|member| member["model"] == id)
            .unwrap()
            .clone()
    };
    for merge in ["plurality", "fitted", "adaptive"] {
        let reply = answered(world.http, &everyone(merge)).await;
        assert_eq!(reply.content(), "Paris", "{merge}");
        let report = reply.json()["quorate"].clone();
        for id in ["b/m", "c/m"] {
            let abstained = member(&report, id);
            assert_eq!(abstained["outcome"], "ok", "{abstained}");
            assert_eq!(abstained["chosen"], false, "{abstained}");
            assert!(abstained["group"].is_null(), "{abstained}");
        }
        assert_eq!(member(&report, "a/m")["chosen"], true);
    }
    let fails = json!({ "fail": { "kind": "upstream", "status": 500 } });
    providers[2].set_script(fails).unwrap();
    let reply = answered(world.http, &everyone("plurality")).await;
    assert_eq!(reply.content(), "Paris");
    let failed = member(&reply.json()["quorate"], "c/m");
    assert_eq!(failed["outcome"], "upstream", "{failed}");
    // Who gave no answer cannot be the one who was right, and who failed does not learn.
    let refused = judge(world.http, &reply, &json!({ "chosen": "b/m" })).await;
    assert_eq!(
        refused.json()["error"]["param"],
        "chosen",
        "{}",
        refused.body
    );
    let judged = judge(world.http, &reply, &json!({ "reference": "Paris" }))
        .await
        .json();
    assert_eq!(
        (&judged["score"], &judged["learned"]),
        (&json!(1.0), &json!(2))
    );
}

#[tokio::test]
async fn a_cascade_begins_with_the_cheapest_and_climbs() {
    let dollars = [("a", 10.0), ("b", 1.0), ("c", 100.0)];
    let priced = dollars.map(|(name, dollars)| {
        let price = format!(", price = {{ input = {dollars}, output = {dollars} }}");
        provider(name, &says("Paris"), &price)
    });
    let ladder = "[ensembles.panel]\nmembers = [\"a/m\", \"b/m\", \"c/m\"]\nmerge = \"cascade\"\n";
    let world = World::start(&[priced.concat(), ladder.into()].concat(), Vec::new()).await;
    let climb = async || {
        let reply = answered(world.http, &chat("ensemble/panel", "easy")).await;
        let report = reply.json()["quorate"].clone();
        let attempts = report["attempts"].as_array().unwrap().iter();
        let asked: Vec<String> = attempts
            .map(|one| one["deployment"].as_str().unwrap().to_owned())
            .collect();
        let ladder = ["b/m", "a/m", "c/m"];
        assert!(
            asked.iter().zip(ladder).all(|(one, next)| one == next),
            "{asked:?}"
        );
        assert_eq!(report["ensemble"]["calls"], asked.len());
        asked.len()
    };
    let before = climb().await;
    assert!(before >= 1);
    rounds(world.http, 60, "Paris").await;
    until_fitted(&world, 45).await;
    // The cheapest is always right: nobody else is needed.
    let mut calls = 0;
    for _ in 0..10 {
        calls += climb().await;
    }
    assert!(calls < 20, "{calls} calls for 10 questions");
}

#[tokio::test]
async fn what_an_ensemble_learned_is_there_again_after_kill_9() {
    let dir = TempDir::new().unwrap();
    let toml = panel("adaptive", [says("Paris"), says("Paris"), says("Lyon")]);
    let daemon = Daemon::start(dir.path(), &toml).await;
    rounds(daemon.http, 40, "Paris").await;
    let learned = async |daemon: &Daemon| {
        let status = daemon.get("/v1/status").await.unwrap().json();
        status["ensembles"]["panel"].clone()
    };
    // The weights in force are those in the file, and no further fit is under way.
    eventually("the weights are written", async || {
        let Some(payload) = on_disk(dir.path(), "ensemble:panel") else {
            return false;
        };
        let digest = &blake3::hash(payload.as_bytes()).to_hex()[..16];
        learned(&daemon).await["state"] == digest
    })
    .await;
    let before = learned(&daemon).await;
    drop(daemon);
    let daemon = Daemon::start(dir.path(), &toml).await;
    let after = learned(&daemon).await;
    assert_eq!(after["state"], before["state"]);
    assert_eq!(after["learned"], before["learned"]);
    let request = ask("ensemble/panel", "easy", json!({ "explain": true }));
    let reply = answered(daemon.http, &request).await;
    assert_eq!(reply.content(), "Paris");
    assert_eq!(
        reply.json()["quorate"]["ensemble"]["state"],
        before["state"]
    );
    // The rounds come back from the ledger.
    eventually("the rounds are remembered", async || {
        learned(&daemon).await["rounds"].as_u64().unwrap() >= 30
    })
    .await;
}

#[tokio::test]
async fn damaged_weights_are_set_aside_and_the_others_serve() {
    let dir = TempDir::new().unwrap();
    let other = "[ensembles.other]\nmembers = [\"a/m\", \"b/m\"]\nmerge = \"weighted\"\n";
    let toml = panel("adaptive", [says("Paris"), says("Paris"), says("Lyon")]) + other;
    let mut daemon = Daemon::start(dir.path(), &toml).await;
    rounds(daemon.http, 30, "Paris").await;
    for _ in 0..30 {
        answered(daemon.http, &chat("ensemble/other", "easy")).await;
    }
    let ensembles =
        async |daemon: &Daemon| daemon.get("/v1/status").await.unwrap().json()["ensembles"].clone();
    eventually("both are fitted", async || {
        let ensembles = ensembles(&daemon).await;
        ensembles["panel"]["state"].is_string() && ensembles["other"]["state"].is_string()
    })
    .await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await, Some(0));
    let kept = on_disk(dir.path(), "ensemble:other").unwrap();
    let ledger = rusqlite::Connection::open(dir.path().join("ledger.db")).unwrap();
    // The same weights to a reader of JSON, but not the bytes that were written.
    let damage = "UPDATE cells SET payload = payload || ' ' WHERE key = 'ensemble:panel'";
    assert_eq!(ledger.execute(damage, []).unwrap(), 1);
    drop(ledger);
    let daemon = Daemon::start(dir.path(), &toml).await;
    let log = std::fs::read_to_string(dir.path().join("daemon.log")).unwrap();
    assert!(
        log.contains("damaged") && log.contains("ensemble:panel"),
        "{log}"
    );
    let now = ensembles(&daemon).await;
    assert!(now["panel"]["state"].is_null(), "{now}");
    let digest = &blake3::hash(kept.as_bytes()).to_hex()[..16];
    assert_eq!(now["other"]["state"], digest, "{now}");
    let status = daemon.get("/v1/status").await.unwrap().json();
    assert!(number(&status["deployments"][0]["quality"]["evidence"]) > 0.0);
    // And it still answers, with what it may assume.
    let reply = answered(daemon.http, &chat("ensemble/panel", "easy")).await;
    assert!(
        ["Paris", "Lyon"].contains(&reply.content().as_str()),
        "{}",
        reply.body
    );
}

#[tokio::test]
async fn wrong_fields_for_learning_are_refused_at_both_doors() {
    let (world, providers) = World::scripted("", &[("a/m", says("x"))]).await;
    let mut rpc = world.rpc().await;
    for (field, value, says) in [
        ("topic", json!("x".repeat(65)), "1 to 64 bytes"),
        ("topic", json!(""), "1 to 64 bytes"),
        ("topic", json!(7), "must be a string"),
        ("everyone", json!("yes"), "true or false"),
        ("everyone", json!(1), "true or false"),
        ("session", json!("x".repeat(513)), "1 to 512 bytes"),
        ("task", json!("chess"), "code"),
    ] {
        let mut request = chat("a/m", CITY);
        request["quorate"][field] = value;
        let reply = world.post(CHAT, &request).await;
        let error = reply.json()["error"].clone();
        let param = format!("quorate.{field}");
        assert_eq!(
            (reply.status, &error["param"]),
            (400, &json!(param)),
            "{error}"
        );
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
        let error = rpc.call("ask", &request).await["error"].clone();
        assert_eq!(
            (&error["code"], &error["data"]["param"]),
            (&json!(-32602), &json!(param))
        );
    }
    assert_eq!(providers[0].calls(), 0);
    // The longest topic there may be is one.
    let request = ask(
        "a/m",
        CITY,
        json!({ "topic": "x".repeat(64), "everyone": true }),
    );
    answered(world.http, &request).await;
}
