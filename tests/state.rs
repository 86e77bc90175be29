//! Learned state as something one can hold, and decisions that are made again, over the socket.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod support;

use quorate::ledger::{Cell, State};
use serde_json::{Value, json};
use support::{World, chat};

const FEEDBACK: &str = "/v1/feedback";

async fn world() -> World {
    let scripts = [
        ("a/m", json!({ "answer": "42" })),
        ("b/m", json!({ "answer": "41" })),
        ("c/m", json!({ "answer": "42" })),
    ];
    World::scripted("", &scripts).await.0
}

/// The result of a call that succeeds.
async fn call(world: &World, method: &str, params: Value) -> Value {
    let reply = world.rpc().await.call(method, &params).await;
    assert!(reply.get("error").is_none(), "{method}: {reply}");
    reply["result"].clone()
}

/// The message of a call that is refused.
async fn refused(world: &World, method: &str, params: Value) -> String {
    let reply = world.rpc().await.call(method, &params).await;
    reply["error"]["message"]
        .as_str()
        .unwrap_or_else(|| panic!("{method}: {reply}"))
        .to_owned()
}

async fn decide(world: &World, model: &str) -> String {
    let mut request = chat(model, "What is six times seven?");
    if model == "panel" {
        request["model"] = "auto".into();
        request["quorate"] = json!({ "ensemble": ["a/m", "b/m", "c/m"], "merge": "fitted" });
    }
    let reply = world.post("/v1/chat/completions", &request).await;
    assert_eq!(reply.status, 200);
    reply.header("x-quorate-decision").to_owned()
}

async fn judge(world: &World, decision: &str) {
    let reply = world
        .post(
            FEEDBACK,
            &json!({ "decision": decision, "reference": "42" }),
        )
        .await;
    assert_eq!(reply.status, 200, "{:?}", reply.json());
}

#[tokio::test]
async fn choices_and_votes_are_made_again_bit_for_bit_though_much_was_learned_since() {
    let world = world().await;
    let mut decisions = Vec::new();
    for _ in 0..12 {
        let decision = decide(&world, "auto").await;
        judge(&world, &decision).await;
        decisions.push((decision, "sampled"));
    }
    decisions.push((decide(&world, "panel").await, "votes"));
    decisions.push((decide(&world, "b/m").await, "listed"));
    for (decision, kind) in decisions {
        let again = call(&world, "replay", json!({ "decision": decision })).await;
        assert_eq!(again["kind"], kind, "{again}");
        assert_eq!(again["same"], true, "{again}");
        assert_eq!(again["chosen_then"], again["chosen_again"], "{again}");
    }
    let told = refused(&world, "replay", json!({ "decision": "nobody" })).await;
    assert!(told.contains("no decision of this id"), "{told}");
}

#[tokio::test]
async fn an_exported_state_comes_back_and_one_that_was_touched_does_not() {
    let world = world().await;
    let decision = decide(&world, "a/m").await;
    let before = call(&world, "state", json!({ "action": "export" })).await;
    judge(&world, &decision).await;
    world
        .until("it was learned", async |world| {
            call(world, "state", json!({ "action": "show" })).await["digest"]
                != before["digest"].as_str().unwrap()[..16]
        })
        .await;
    let mut touched = before.clone();
    touched["cells"][0]["payload"] = "{}".into();
    let told = refused(
        &world,
        "state",
        json!({ "action": "import", "state": touched }),
    )
    .await;
    assert!(told.contains("digest"), "{told}");

    let restored = call(
        &world,
        "state",
        json!({ "action": "import", "state": before }),
    )
    .await;
    assert_eq!(restored["refused"], json!([]));
    world
        .until("it is as before", async |world| {
            let quality = &world.deployment("a/m")["quality"];
            quality["sources"].get("user").is_none()
        })
        .await;
    let held = call(&world, "state", json!({ "action": "show" })).await;
    let saved = held["saved"][0].clone();
    assert_eq!(saved["why"], "before import");
    let digest = &saved["digest"].as_str().unwrap()[..8];
    call(
        &world,
        "state",
        json!({ "action": "rollback", "digest": digest }),
    )
    .await;
    world
        .until("the judgement is back", async |world| {
            world.deployment("a/m")["quality"]["sources"]["user"]["count"] == 1
        })
        .await;
}

#[tokio::test]
async fn the_report_of_an_import_says_what_is_in_force_and_what_is_not() {
    let world = world().await;
    for _ in 0..3 {
        let decision = decide(&world, "panel").await;
        judge(&world, &decision).await;
    }
    assert!(world.orchestrator.fit("a/m+b/m+c/m").await);
    let export = async |world: &World| {
        let document = call(world, "state", json!({ "action": "export" })).await;
        State::parse(document.to_string().as_bytes()).unwrap().0
    };
    let import = async |world: &World, cells: Vec<Cell>| {
        let document: Value = serde_json::from_str(&State::new(cells).to_json(5)).unwrap();
        call(
            world,
            "state",
            json!({ "action": "import", "state": document }),
        )
        .await
    };
    let mine = export(&world).await;
    let payload = |key: &str| {
        let cell = mine.cells().iter().find(|cell| cell.key == key).unwrap();
        cell.payload.clone()
    };
    let cell = |key: &str, payload: &str| Cell {
        key: key.into(),
        version: 1,
        payload: payload.into(),
    };
    let mut cells = mine.cells().to_vec();
    let model = payload("ensemble:a/m+b/m+c/m");
    cells.extend([
        cell(
            "deployment:gone/m:tokens",
            &payload("deployment:a/m:tokens"),
        ),
        cell("ensemble:a/m+gone/m", &model),
        cell("experiment:gone", "{}"),
        cell("pinned", "true"),
        cell("weather", "\"fine\""),
    ]);
    // To one like it; what is one query's ensemble is known by its members.
    let other = self::world().await;
    let told = import(&other, cells.clone()).await;
    assert_eq!(told["restored"], mine.cells().len(), "{told}");
    assert_eq!(told["digest"], mine.short(), "{told}");
    let unknown = [
        "deployment:gone/m:tokens",
        "ensemble:a/m+gone/m",
        "experiment:gone",
        "pinned",
    ];
    assert_eq!(told["unknown"], json!(unknown));
    let refused = told["refused"].as_array().unwrap();
    assert_eq!((refused.len(), &refused[0]["key"]), (1, &json!("weather")));
    assert_eq!(told["unnamed"], 0);
    let held = call(&other, "state", json!({ "action": "show" })).await;
    assert_eq!(
        (&held["digest"], &held["pinned"]),
        (&told["digest"], &json!(false))
    );
    assert_eq!(export(&other).await, mine, "what is unknown is kept");

    cells.extend((0..300).map(|at| cell(&format!("experiment:x{at}"), "{}")));
    let told = import(&other, cells).await;
    assert_eq!(told["unknown"].as_array().unwrap().len(), 100);
    assert_eq!(told["unnamed"], 204);
}

#[tokio::test]
async fn a_pinned_state_serves_and_does_not_learn() {
    let world = world().await;
    let held = call(&world, "state", json!({ "action": "pin", "pinned": true })).await;
    assert_eq!(held["pinned"], true);
    let decision = decide(&world, "a/m").await;
    judge(&world, &decision).await;
    let evidence = json!([{ "deployment": "a/m", "score": 1, "source": "tests" }]);
    let import = json!({ "action": "evidence", "evidence": evidence });
    let told = refused(&world, "state", import.clone()).await;
    assert!(told.contains("pinned"), "{told}");
    assert_eq!(
        call(&world, "state", json!({ "action": "show" })).await["digest"],
        held["digest"]
    );
    call(&world, "state", json!({ "action": "pin", "pinned": false })).await;
    assert_eq!(call(&world, "state", import).await, json!({ "taken": 1 }));
    world
        .until("the evidence is in, with its source", async |world| {
            world.deployment("a/m")["quality"]["sources"]["tests"]["count"] == 1
        })
        .await;
}

#[tokio::test]
async fn a_judgement_given_while_pinned_is_kept_and_can_be_learned_from_later() {
    let world = world().await;
    let pin = async |pinned: bool| {
        call(
            &world,
            "state",
            json!({ "action": "pin", "pinned": pinned }),
        )
        .await
    };
    let held = pin(true).await;
    let decision = decide(&world, "a/m").await;
    let score = json!({ "decision": decision, "score": 1 });
    for outcome in ["recorded", "repeated"] {
        let told = call(&world, "feedback", score.clone()).await;
        assert_eq!(told["outcome"], outcome, "{told}");
        assert_eq!(
            (&told["learned"], &told["reason"]),
            (&json!(0), &json!("pinned"))
        );
    }
    let shown = call(&world, "state", json!({ "action": "show" })).await;
    assert_eq!(shown["digest"], held["digest"]);
    pin(false).await;
    let user = async |w: &World| w.deployment("a/m")["quality"]["sources"]["user"].clone();
    assert_eq!(
        user(&world).await,
        Value::Null,
        "nothing is learned by itself"
    );
    for (outcome, learned) in [("recorded", 1), ("repeated", 0)] {
        let told = call(&world, "feedback", score.clone()).await;
        assert_eq!(
            (&told["outcome"], &told["learned"]),
            (&json!(outcome), &json!(learned))
        );
        assert_eq!(told.get("reason"), None);
    }
    world
        .until("it was learned", async |w| user(w).await["count"] == 1)
        .await;
}

#[tokio::test]
async fn evidence_is_taken_as_a_whole_or_refused_with_its_place() {
    let world = world().await;
    let good = json!({ "deployment": "a/m", "score": 1, "source": "tests", "weight": 2 });
    for (field, wrong) in [
        ("deployment", json!("nobody/m")),
        ("score", json!(1.5)),
        ("weight", json!(0)),
        ("source", json!("")),
        ("topic", json!("x".repeat(65))),
    ] {
        let mut bad = good.clone();
        bad[field] = wrong;
        let params = json!({ "action": "evidence", "evidence": [good, bad] });
        let reply = world.rpc().await.call("state", &params).await;
        assert_eq!(
            reply["error"]["data"]["param"],
            format!("evidence[1].{field}"),
            "{reply}"
        );
    }
    assert_eq!(world.deployment("a/m")["quality"]["sources"], json!({}));
    let told = refused(&world, "state", json!({ "action": "forget" })).await;
    assert!(told.contains("show, export, import"), "{told}");
    // What has not even the shape is told of the evidence too, not of the action.
    for (bad, param) in [
        (json!("all"), "evidence"),
        (json!([good, ["a/m", 1.0, 1.0, "tests"]]), "evidence[1]"),
        (
            json!([{ "deployment": "a/m", "source": "tests" }]),
            "evidence[0]",
        ),
    ] {
        let params = json!({ "action": "evidence", "evidence": bad });
        let reply = world.rpc().await.call("state", &params).await;
        assert_eq!(reply["error"]["code"], -32602, "{reply}");
        assert_eq!(reply["error"]["data"]["param"], param, "{reply}");
    }
    let by_position = json!(["decision", 1.0]);
    let reply = world.post(FEEDBACK, &by_position).await;
    assert_eq!((reply.status, &*reply.kind()), (400, "invalid"));
}
