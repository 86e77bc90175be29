//! Several are asked, one answer comes back.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use quorate::answer::Report;
use quorate::config::{Aim, Ensemble};
use quorate::provider::adapter::scripted::ScriptedProvider;

use quorate::{Answer, Config, Deployment, ErrorKind, Orchestrator, Query, Strategy};
use serde_json::{Value, json};
use support::{World, chat, deployment, scripted};
use tokio::time::Instant;

/// Three members that say these texts.
async fn three(
    toml: &str,
    texts: [&str; 3],
) -> (
    World,
    Vec<std::sync::Arc<quorate::provider::adapter::scripted::ScriptedProvider>>,
) {
    let script = |text: &str| json!({ "answer": text });
    let scripts = [
        ("a/m", script(texts[0])),
        ("b/m", script(texts[1])),
        ("c/m", script(texts[2])),
    ];
    World::scripted(toml, &scripts).await
}

fn ask(merge: &str) -> Value {
    let mut request = chat("auto", "Which city is the capital of France?");
    request["quorate"] = json!({ "ensemble": ["a/m", "b/m", "c/m"], "merge": merge });
    request
}

#[tokio::test]
async fn plurality_takes_what_most_say_and_tells_who_said_what() {
    let (world, _) = three("", ["Paris", "Lyon", "**paris**."]).await;
    let reply = world.post("/v1/chat/completions", &ask("plurality")).await;
    assert!(
        ["Paris", "**paris**."].contains(&reply.content().as_str()),
        "{}",
        reply.body
    );
    let report = reply.json()["quorate"].clone();
    assert!((report["agreement"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    let confidence = report["confidence"].as_f64().unwrap();
    assert!(confidence > 0.0 && confidence < 1.0);
    let members = report["members"].as_array().unwrap();
    let of = |name: &str| {
        members
            .iter()
            .find(|member| member["model"] == name)
            .unwrap()
    };
    assert_eq!(of("b/m")["content"], "Lyon");
    assert_eq!(
        (of("a/m")["chosen"].clone(), of("b/m")["chosen"].clone()),
        (true.into(), false.into())
    );
    assert_eq!(report["attempts"].as_array().unwrap().len(), 3);
    world.until_all_returned().await;
}

#[tokio::test]
async fn plurality_stops_when_the_outcome_stands_and_cancels_who_is_left() {
    let (world, providers) = three("", ["Paris", "Paris", "Lyon"]).await;
    providers[2]
        .set_script(json!({ "hang": "before" }))
        .unwrap();
    let reply = world.post("/v1/chat/completions", &ask("plurality")).await;
    assert_eq!(reply.content(), "Paris");
    let members = reply.json()["quorate"]["members"].clone();
    assert_eq!(members[2]["outcome"], "cancelled");
    world
        .until("the loser is cancelled", async |_| {
            providers[2].in_flight() == 0
        })
        .await;
    world.until_all_returned().await;
}

#[tokio::test]
async fn the_ensemble_holds_one_permit() {
    let toml = "[admission]\nper_user = 1\ntotal = 1\n";
    let (world, _) = three(toml, ["x", "x", "x"]).await;
    assert_eq!(
        world
            .post("/v1/chat/completions", &ask("plurality"))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn members_may_fail_as_long_as_the_quorum_holds() {
    let (world, providers) =
        three("[resilience]\nretries = 0\n", ["Paris", "Paris", "Paris"]).await;
    providers[1]
        .set_script(json!({ "fail": { "kind": "upstream", "status": 500 } }))
        .unwrap();
    let reply = world.post("/v1/chat/completions", &ask("plurality")).await;
    assert_eq!(reply.content(), "Paris");
    providers[0]
        .set_script(json!({ "fail": { "kind": "upstream", "status": 502 } }))
        .unwrap();
    let reply = world.post("/v1/chat/completions", &ask("plurality")).await;
    assert_eq!(reply.kind(), "upstream", "{}", reply.body);
    assert!(reply.body.contains("quorum of 2"), "{}", reply.body);
    world.until_all_returned().await;
}

#[tokio::test]
async fn first_streams_whoever_begins_first() {
    let (world, providers) = three("", ["a b", "c d", "e f"]).await;
    for provider in [&providers[0], &providers[2]] {
        provider.set_script(json!({ "hang": "before" })).unwrap();
    }
    let mut request = ask("first");
    request["stream"] = true.into();
    let reply = world.post("/v1/chat/completions", &request).await;
    assert_eq!(reply.streamed(), "c d");
    assert_eq!(reply.header("x-quorate-model"), "b/m");
    world.until_all_returned().await;
}

#[tokio::test]
async fn best_takes_the_member_with_the_highest_learned_quality() {
    let (world, _) = three("", ["from a", "from b", "from c"]).await;
    for _ in 0..5 {
        let decision = world
            .chat("c/m", "?")
            .await
            .header("x-quorate-decision")
            .to_owned();
        world
            .post("/v1/feedback", &json!({ "decision": decision, "score": 1 }))
            .await;
    }
    world
        .until("learned", async |w| {
            w.deployment("c/m")["quality"]["evidence"].as_f64().unwrap() > 4.0
        })
        .await;
    assert_eq!(
        world
            .post("/v1/chat/completions", &ask("best"))
            .await
            .content(),
        "from c"
    );
    // Its vote also weighs more than one other.
    let weighted = world.post("/v1/chat/completions", &ask("weighted")).await;
    assert_eq!(weighted.content(), "from c");
}

#[tokio::test]
async fn a_judge_chooses_and_a_writer_writes() {
    let judged = "[ensembles.judged]\nmembers = [\"a/m\", \"b/m\"]\nmerge = \"judge\"\njudge = \"j/m\"\n\
                  [ensembles.written]\nmembers = [\"a/m\", \"b/m\"]\nmerge = \"synthesize\"\njudge = \"j/m\"\n";
    let provider = |name: &str, answer: &str| {
        format!(
            "[[providers]]\nname = \"{name}\"\nkind = \"scripted\"\nmodels = [\"m\"]\nscript = {{ answer = \"{answer}\" }}\n"
        )
    };
    let toml = [
        provider("a", "one"),
        provider("b", "two"),
        provider("j", "B"),
        judged.into(),
    ]
    .concat();
    let world = World::start(&toml, Vec::new()).await;
    let reply = world.chat("ensemble/judged", "?").await;
    assert!(
        ["one", "two"].contains(&reply.content().as_str()),
        "{}",
        reply.body
    );
    assert_eq!(
        reply.json()["quorate"]["members"].as_array().unwrap().len(),
        2
    );
    let mut request = chat("ensemble/written", "?");
    request["stream"] = true.into();
    let reply = world.post("/v1/chat/completions", &request).await;
    assert_eq!(
        (reply.streamed().as_str(), reply.header("x-quorate-model")),
        ("B", "j/m")
    );
    world.until_all_returned().await;
}

#[tokio::test]
async fn a_cost_cap_leaves_out_who_does_not_fit() {
    let provider = |name: &str, price: f64| {
        format!(
            "[[providers]]\nname = \"{name}\"\nkind = \"scripted\"\nmodels = [{{ name = \"m\", price = {{ input = {price}, output = {price} }} }}]\n"
        )
    };
    let toml = [
        provider("a", 1.0),
        provider("b", 1.0),
        provider("c", 1000.0),
    ]
    .concat();
    let world = World::start(&toml, Vec::new()).await;
    let mut request = ask("plurality");
    request["quorate"]["max_cost"] = 0.01.into();
    let report = world.post("/v1/chat/completions", &request).await.json()["quorate"].clone();
    assert_eq!(report["members"][2]["outcome"], "not asked: max_cost");
    assert!(report["cost"].as_f64().unwrap() > 0.0);
    request["quorate"]["max_cost"] = 0.000001.into();
    let refused = world.post("/v1/chat/completions", &request).await;
    assert_eq!((refused.status, refused.kind().as_str()), (400, "invalid"));
}

#[tokio::test]
async fn what_each_member_cost_is_counted_at_its_deployment() {
    let provider = |name: &str, price: u32| {
        format!(
            "[[providers]]\nname = \"{name}\"\nkind = \"scripted\"\nscript = {{ answer = \"yes\" }}\n\
             models = [{{ name = \"m\", price = {{ input = {price}, output = {price} }} }}]\n"
        )
    };
    let dir = tempfile::TempDir::new().unwrap();
    let toml = [provider("a", 100), provider("b", 300), provider("c", 0)].concat();
    let daemon = support::Daemon::start(dir.path(), &toml).await;
    let mut request = ask("plurality");
    request["quorate"]["everyone"] = true.into();
    let body = hyper::Request::post("/v1/chat/completions").header("host", "localhost");
    let stream = tokio::net::TcpStream::connect(daemon.http).await.unwrap();
    let reply = support::send(stream, body.body(request.to_string().into()).unwrap()).await;
    let total = reply.unwrap().json()["quorate"]["cost"].as_f64().unwrap();
    let metrics = daemon.get("/metrics").await.unwrap().body;
    let of = |name: &str| {
        let series = format!("quorate_cost_dollars{{deployment=\"{name}\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
        value.map_or(f64::NAN, |value| value.parse::<f64>().unwrap())
    };
    assert!((of("a/m") - total / 4.0).abs() < 1e-9, "{total}\n{metrics}");
    assert!(
        (of("b/m") - total * 0.75).abs() < 1e-9,
        "{total}\n{metrics}"
    );
}

#[tokio::test]
async fn nobody_votes_twice_under_two_names() {
    let providers = ["a", "b", "c"].map(|name| {
        format!(
            "[[providers]]\nname = \"{name}\"\nkind = \"scripted\"\nscript = {{ answer = \"yes\" }}\n\
             models = [\"m\"]\n"
        )
    });
    let toml = format!(
        "[models.fast]\nuse = [\"a/m\"]\n[models.either]\nuse = [\"a/m\", \"b/m\"]\n{}",
        providers.concat()
    );
    let world = World::start(&toml, Vec::new()).await;
    let mut request = ask("plurality");
    for twice in [json!(["a/m", "a/m"]), json!(["fast", "a/m", "c/m"])] {
        request["quorate"]["ensemble"] = twice;
        let refused = world.post("/v1/chat/completions", &request).await;
        assert_eq!((refused.status, refused.kind().as_str()), (400, "invalid"));
        assert!(refused.body.contains("a/m twice"), "{}", refused.body);
    }
    // Whoever can be somebody else is.
    request["quorate"]["ensemble"] = json!(["a/m", "either", "c/m"]);
    let report = world.post("/v1/chat/completions", &request).await.json()["quorate"].clone();
    assert_eq!(report["members"][1]["model"], "b/m", "{report}");
}

#[tokio::test]
async fn what_only_ensembles_have_is_refused_elsewhere() {
    let (world, scripts) = three("", ["Paris", "Paris", "Lyon"]).await;
    for (field, value) in [
        ("merge", json!("first")),
        ("quorum", json!(2)),
        ("everyone", json!(true)),
    ] {
        let mut request = chat("a/m", "?");
        request["quorate"] = json!({ field: value });
        let refused = world.post("/v1/chat/completions", &request).await;
        assert_eq!((refused.status, refused.kind().as_str()), (400, "invalid"));
        assert!(refused.body.contains("ensemble/<name>"), "{}", refused.body);
    }
    assert_eq!(scripts[0].calls(), 0);
}

#[tokio::test]
async fn a_panicking_member_is_one_failed_member() {
    let (world, providers) = three("[resilience]\nretries = 0\n", ["Paris", "Paris", "?"]).await;
    providers[2].set_script(json!({ "panic": true })).unwrap();
    providers[0]
        .set_script(json!({ "answer": "Paris", "latency_ms": 50 }))
        .unwrap();
    let reply = world.post("/v1/chat/completions", &ask("plurality")).await;
    assert_eq!(reply.content(), "Paris");
    assert_eq!(reply.json()["quorate"]["members"][2]["outcome"], "internal");
    world.until_all_returned().await;
}

/// How a panel of so many members asks: how it merges, how many it asks at first, how many must answer.
type Panel = (Strategy, Option<usize>, Option<usize>);

/// As [`inside_of`], of members that are trusted alike.
async fn inside(
    (merge, wave, quorum): Panel,
    scripts: &[Value],
) -> (Orchestrator, Vec<Arc<ScriptedProvider>>) {
    let trusted: Vec<(f64, Value)> = scripts.iter().map(|one| (0.5, one.clone())).collect();
    let panel = Ensemble {
        merge,
        wave: wave.unwrap_or(merge.wave(scripts.len())),
        quorum: quorum.unwrap_or(merge.quorum(scripts.len())),
        deadline: None,
        max_cost: None,
        stop: 0.95,
        aim: None,
        vectors: false,
        judge: None,
        members: Vec::new(),
    };
    inside_of(panel, &trusted).await
}

/// An orchestrator without doors, so that time can be paused: deployments `a/m`, `b/m`, … of these qualities and with
/// these scripts, and the ensemble `panel` of all of them but its judge.
async fn inside_of(
    panel: Ensemble,
    scripts: &[(f64, Value)],
) -> (Orchestrator, Vec<Arc<ScriptedProvider>>) {
    let names: Vec<String> = ('a'..)
        .take(scripts.len())
        .map(|name| format!("{name}/m"))
        .collect();
    let judge = panel.judge.clone();
    let members = names.iter().filter(|name| Some(*name) != judge.as_ref());
    let members = members.cloned().collect();
    let mut config = Config::default();
    config.ledger.path = None;
    config
        .ensembles
        .insert("panel".into(), Ensemble { members, ..panel });
    let providers: Vec<_> = scripts
        .iter()
        .map(|(_, script)| scripted(script.clone()))
        .collect();
    let mut builder = Orchestrator::builder(config);
    for ((name, provider), (quality, _)) in names.iter().zip(&providers).zip(scripts) {
        let deployment = Deployment {
            quality: Some(*quality),
            ..deployment(name)
        };
        builder = builder.provider(deployment, Arc::clone(provider) as _);
    }
    (builder.start().await.unwrap(), providers)
}

/// Asks the panel with so many seconds of time; what came, and the seconds it took.
async fn within(orchestrator: &Orchestrator, seconds: f64) -> (quorate::Result<Answer>, f64) {
    let mut query = Query::new("ensemble/panel", "Which city is the capital of France?");
    let started = Instant::now();
    query.deadline = Some(started + Duration::from_secs_f64(seconds));
    let answer = orchestrator.ask(query).await;
    (answer, started.elapsed().as_secs_f64())
}

fn outcomes(answer: &Answer) -> Vec<&str> {
    answer
        .report
        .members
        .iter()
        .map(|member| member.outcome)
        .collect()
}

fn stopped(answer: &Answer) -> &str {
    answer.report.ensemble.as_ref().unwrap().stopped
}

#[tokio::test(start_paused = true)]
async fn a_member_that_hangs_does_not_use_up_the_others_time() {
    let hangs = json!({ "hang": "before" });
    let paris = json!({ "answer": "Paris", "latency_ms": 1000 });
    for panel in [
        (Strategy::Adaptive, None, None),
        (Strategy::Cascade, None, None),
        (Strategy::Adaptive, Some(2), None),
        (Strategy::Plurality, Some(1), None),
        (Strategy::Fitted, Some(2), None),
        (Strategy::Weighted, Some(1), Some(1)),
    ] {
        let scripts = [hangs.clone(), paris.clone(), paris.clone()];
        let (orchestrator, providers) = inside(panel, &scripts).await;
        let (answer, took) = within(&orchestrator, 60.0).await;
        let answer = answer.unwrap_or_else(|error| panic!("{panel:?}: {error}"));
        assert_eq!(answer.content(), "Paris", "{panel:?}");
        assert!(took < 45.0, "{panel:?}: {took} s of 60");
        assert_eq!(outcomes(&answer)[..2], ["cancelled", "ok"], "{panel:?}");
        assert_eq!(
            providers[0].in_flight(),
            0,
            "{panel:?}: it is not left alone"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_passed_over_is_counted_if_it_answers_after_all() {
    let scripts = [
        json!({ "answer": "Paris", "latency_ms": 35_000 }),
        json!({ "answer": "Paris", "latency_ms": 10_000 }),
        json!({ "hang": "before" }),
    ];
    let (orchestrator, _) = inside((Strategy::Plurality, Some(1), Some(2)), &scripts).await;
    let (answer, took) = within(&orchestrator, 60.0).await;
    let answer = answer.unwrap();
    assert_eq!(outcomes(&answer), ["ok", "ok", "not asked: not needed"]);
    assert_eq!(answer.report.agreement, Some(1.0));
    assert!(
        (39.0..45.0).contains(&took),
        "b was asked after 30 s: {took}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_vote_ends_without_who_is_silent_for_longer_than_a_deployment_may_be() {
    let paris = json!({ "answer": "Paris" });
    let scripts = [paris.clone(), paris, json!({ "hang": "before" })];
    let (orchestrator, _) = inside((Strategy::Fitted, None, None), &scripts).await;
    let (answer, took) = within(&orchestrator, 600.0).await;
    let answer = answer.unwrap();
    assert_eq!((answer.content(), stopped(&answer)), ("Paris", "late"));
    assert!(
        took < 130.0,
        "the patience with a deployment is 120 s: {took}"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_when_no_time_is_left() {
    let hangs = json!({ "hang": "before" });
    let (orchestrator, providers) =
        inside((Strategy::Cascade, None, None), &[hangs.clone(), hangs]).await;
    let (answer, took) = within(&orchestrator, 8.0).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Deadline);
    assert!((7.9..8.1).contains(&took), "{took}");
    assert_eq!(providers[1].calls(), 1, "asked in time");
}

const CHOOSING: [Strategy; 7] = [
    Strategy::First,
    Strategy::Plurality,
    Strategy::Weighted,
    Strategy::Fitted,
    Strategy::Adaptive,
    Strategy::Cascade,
    Strategy::Best,
];

#[tokio::test(start_paused = true)]
async fn nothing_is_never_an_answer() {
    let empty = json!({ "answer": "" });
    let slow = json!({ "answer": "Paris", "latency_ms": 5000 });
    let broken = json!({ "fail": { "kind": "upstream", "status": 400 } });
    for merge in CHOOSING {
        // All that is there when the deadline comes is empty.
        let panel = (merge, None, Some(1));
        let (orchestrator, _) = inside(panel, &[empty.clone(), slow.clone()]).await;
        let error = within(&orchestrator, 0.001).await.0.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadline, "{merge}: {error}");
        // With more time there is an answer.
        let answer = within(&orchestrator, 60.0).await.0.unwrap();
        assert_eq!(answer.content(), "Paris", "{merge}");
        // Everybody is empty, or fails.
        let (orchestrator, _) = inside(panel, &[empty.clone(), empty.clone()]).await;
        let error = within(&orchestrator, 60.0).await.0.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{merge}: {error}");
        let (orchestrator, _) = inside(panel, &[empty.clone(), broken.clone()]).await;
        let error = within(&orchestrator, 60.0).await.0.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Upstream, "{merge}: {error}");
        // A refusal is honest, and more than nothing.
        let refusal = json!({ "answer": "I cannot help with that." });
        let (orchestrator, _) = inside((merge, None, Some(2)), &[empty.clone(), refusal]).await;
        let answer = within(&orchestrator, 60.0).await.0.unwrap();
        assert_eq!(answer.content(), "I cannot help with that.", "{merge}");
    }
}

#[tokio::test]
async fn first_streams_whoever_begins_to_say_something() {
    let (world, providers) = three("", ["", "c d", "e f"]).await;
    providers[1]
        .set_script(json!({ "answer": "c d", "latency_ms": 50 }))
        .unwrap();
    providers[2]
        .set_script(json!({ "hang": "before" }))
        .unwrap();
    let mut request = ask("first");
    request["stream"] = true.into();
    let reply = world.post("/v1/chat/completions", &request).await;
    assert_eq!(reply.streamed(), "c d", "{}", reply.body);
    for provider in providers {
        provider.set_script(json!({ "answer": "" })).unwrap();
    }
    let reply = world.post("/v1/chat/completions", &request).await;
    assert_eq!(reply.kind(), "malformed", "{}", reply.body);
    world.until_all_returned().await;
}

#[tokio::test]
async fn a_writer_that_writes_nothing_leaves_the_vote() {
    let provider = |name: &str, answer: &str| {
        format!(
            "[[providers]]\nname = \"{name}\"\nkind = \"scripted\"\nmodels = [\"m\"]\nscript = {{ answer = \"{answer}\" }}\n"
        )
    };
    let written = "[ensembles.written]\nmembers = [\"a/m\", \"b/m\"]\nmerge = \"synthesize\"\njudge = \"j/m\"\n";
    let toml = [
        provider("a", "Paris"),
        provider("b", "Paris"),
        provider("j", ""),
        written.into(),
    ]
    .concat();
    let world = World::start(&toml, Vec::new()).await;
    let whole = world.chat("ensemble/written", "?").await;
    assert_eq!(whole.content(), "Paris", "{}", whole.body);
    let note = whole.json()["quorate"]["note"].clone();
    assert!(
        note.as_str().unwrap().contains("nobody could write"),
        "{note}"
    );
    let mut request = chat("ensemble/written", "?");
    request["stream"] = true.into();
    let streamed = world.post("/v1/chat/completions", &request).await;
    assert_eq!(streamed.streamed(), "Paris", "{}", streamed.body);
    world.until_all_returned().await;
}

/// What a stream of the panel was: its pieces with the seconds at which they came, and the report at its end.
async fn streamed(orchestrator: &Orchestrator) -> (Vec<(f64, String)>, Box<Report>) {
    let mut query = Query::new("ensemble/panel", "Which city is the capital of France?");
    let started = Instant::now();
    query.deadline = Some(started + Duration::from_secs(60));
    let mut deltas = orchestrator.stream(query).await.unwrap();
    let (mut pieces, mut report) = (Vec::new(), None);
    while let Some(delta) = deltas.next().await {
        let delta = delta.unwrap();
        if !delta.content().is_empty() {
            pieces.push((started.elapsed().as_secs_f64(), delta.content().to_owned()));
        }
        report = delta.report.or(report);
    }
    (pieces, report.unwrap())
}

fn text(pieces: &[(f64, String)]) -> String {
    pieces.iter().map(|(_, piece)| piece.as_str()).collect()
}

/// An ensemble that asks for one answer and for more only if a right one is worth it, in calls.
fn worth(merge: Strategy, calls: f64) -> Ensemble {
    Ensemble {
        merge,
        wave: merge.wave(2),
        quorum: 1,
        deadline: None,
        max_cost: None,
        stop: 0.95,
        aim: Some(Aim::Worth(calls)),
        vectors: false,
        judge: None,
        members: Vec::new(),
    }
}

/// Says three words, one a second from the first second on.
fn slowly(text: &str) -> Value {
    json!({ "answer": text, "latency_ms": 1000, "chunk_ms": 1000 })
}

#[tokio::test(start_paused = true)]
async fn the_only_answer_that_can_be_worth_its_price_is_streamed_while_it_is_written() {
    for merge in [Strategy::Adaptive, Strategy::Cascade] {
        let members = [(0.5, slowly("It is Paris")), (0.5, slowly("It is Lyon"))];
        let (orchestrator, providers) = inside_of(worth(merge, 0.5), &members).await;
        let (pieces, report) = streamed(&orchestrator).await;
        assert_eq!(text(&pieces), "It is Paris", "{merge}");
        assert!(
            pieces[0].0 < 1.5 && pieces[2].0 > 2.5,
            "{merge}: {pieces:?}"
        );
        assert_eq!(providers[1].calls(), 0, "{merge}");
        let ensemble = report.ensemble.as_ref().unwrap();
        assert_eq!((ensemble.calls, ensemble.saved), (1, 1), "{merge}");
        assert_eq!(ensemble.stopped, "not_worth_it", "{merge}");
        let confidence = report.confidence.unwrap();
        assert!(
            confidence > 0.0 && confidence < 1.0,
            "{merge}: {confidence}"
        );
        let outcomes = report.members.iter().map(|member| member.outcome);
        assert_eq!(
            outcomes.collect::<Vec<_>>(),
            ["ok", "not asked: not needed"]
        );
        assert_eq!(report.members[0].content.as_deref(), Some("It is Paris"));
        // As it is told of an answer that is not streamed.
        let whole = within(&orchestrator, 60.0).await.0.unwrap().report;
        assert_eq!(whole.confidence, report.confidence, "{merge}");
        assert_eq!(whole.agreement, report.agreement, "{merge}");
        let rounds = || orchestrator.status().ensembles["panel"].rounds;
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(rounds(), 2, "{merge}: both are rounds to learn from");

        // Where another vote may be worth it, nothing is said before it is decided.
        let (orchestrator, _) = inside_of(worth(merge, 1000.0), &members).await;
        let (pieces, _) = streamed(&orchestrator).await;
        assert!(pieces[0].0 > 2.5, "{merge}: {pieces:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn if_the_only_one_does_not_begin_another_is_asked() {
    for silent in [
        json!({ "hang": "before" }),
        json!({ "fail": { "kind": "upstream", "status": 400 } }),
        json!({ "answer": "" }),
    ] {
        let members = [(0.5, silent.clone()), (0.5, slowly("It is Lyon"))];
        let (orchestrator, providers) = inside_of(worth(Strategy::Adaptive, 0.5), &members).await;
        let (pieces, report) = streamed(&orchestrator).await;
        assert_eq!(text(&pieces), "It is Lyon", "{silent}");
        assert!(pieces[0].0 < 45.0, "{silent}: {pieces:?}");
        assert_eq!(report.ensemble.unwrap().calls, 2, "{silent}");
        assert_eq!(providers[0].in_flight(), 0, "{silent}");
    }
}

#[tokio::test(start_paused = true)]
async fn best_streams_the_most_trusted_and_does_not_wait_for_its_end() {
    let members = [
        (0.4, json!({ "answer": "from a" })),
        (0.9, slowly("from b here")),
        (0.6, json!({ "hang": "before" })),
    ];
    let panel = Ensemble {
        wave: 3,
        ..worth(Strategy::Best, 1.0)
    };
    let (orchestrator, _) = inside_of(panel, &members).await;
    let (pieces, report) = streamed(&orchestrator).await;
    assert_eq!(text(&pieces), "from b here");
    assert!(pieces[0].0 < 1.5 && pieces[2].0 > 2.5, "{pieces:?}");
    let outcomes = report
        .members
        .iter()
        .map(|member| (member.outcome, member.chosen));
    assert_eq!(
        outcomes.collect::<Vec<_>>(),
        [("ok", false), ("ok", true), ("cancelled", false)]
    );
    assert_eq!(report.agreement, Some(0.5), "a says otherwise");
    assert!(report.confidence.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_writer_is_streamed_while_it_writes() {
    let members = [
        (0.5, json!({ "answer": "Paris" })),
        (0.5, json!({ "answer": "Lyon" })),
        (0.5, slowly("Paris or Lyon")),
    ];
    let panel = Ensemble {
        aim: None,
        judge: Some("c/m".into()),
        ..worth(Strategy::Synthesize, 1.0)
    };
    let (orchestrator, _) = inside_of(panel, &members).await;
    let (pieces, report) = streamed(&orchestrator).await;
    assert_eq!(text(&pieces), "Paris or Lyon");
    assert!(pieces[0].0 < 1.5 && pieces[2].0 > 2.5, "{pieces:?}");
    assert!(report.confidence.is_some());
}
