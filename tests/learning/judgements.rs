//! Judgements, checks and agreement: what each comes to, and whom it teaches.

use super::*;

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
        ("single", json!({ "reference": "" }), "reference", "at least 1"),
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
    let request = ask("a/m", CITY, json!({ "topic": "x".repeat(64) }));
    answered(world.http, &request).await;
}
