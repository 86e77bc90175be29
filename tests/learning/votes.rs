//! What ensembles make of their votes, and learn from them.

use super::*;

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
