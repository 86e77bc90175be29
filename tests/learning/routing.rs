//! What is learned decides whom `auto` asks.

use super::*;

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
async fn a_new_deployment_begins_at_what_its_family_has_shown() {
    let kin = ", family = \"kin\"";
    let toml = [
        provider("a", &says("x"), kin),
        provider("b", &says("x"), ""),
        provider("new", &says("x"), kin),
        provider("plain", &says("x"), ""),
        provider("told", &says("x"), &format!("{kin}, quality = 0.5")),
    ];
    let world = World::start(&toml.concat(), Vec::new()).await;
    let mean = |id: &str| number(&world.deployment(id)["quality"]["mean"]);
    assert_eq!(
        mean("new/m"),
        mean("plain/m"),
        "nothing is known of anybody"
    );
    let one = |id: &str, score: f64| json!({ "deployment": id, "score": score, "source": "tests" });
    let evidence = [one("a/m", 0.0), one("b/m", 1.0)];
    let evidence: Vec<&Value> = std::iter::repeat_n(&evidence, 40).flatten().collect();
    let mut rpc = world.rpc().await;
    let params = json!({ "action": "evidence", "evidence": evidence });
    assert_eq!(rpc.call("state", &params).await["result"]["taken"], 80);
    world
        .until("it is learned", async |w| {
            ["a/m", "b/m"]
                .iter()
                .all(|id| w.deployment(id)["quality"]["sources"]["tests"]["count"] == 40)
        })
        .await;
    assert!(
        mean("new/m") < mean("plain/m") - 0.1,
        "{} {}",
        mean("new/m"),
        mean("plain/m")
    );
    assert!(mean("new/m") > mean("a/m"));
    assert_eq!(mean("told/m"), mean("plain/m"));
    let plan = world.post("/v1/explain", &chat("auto", CITY)).await.json();
    let candidates = plan["candidates"].as_array().unwrap();
    let inherited: Vec<(&str, bool)> = candidates
        .iter()
        .map(|one| {
            (
                one["deployment"].as_str().unwrap(),
                one["inherited"].is_number(),
            )
        })
        .collect();
    for (id, inherits) in inherited {
        // The sibling inherits nothing: of nobody else of its family anything was seen.
        assert_eq!(inherits, id == "new/m", "{plan}");
    }
}
