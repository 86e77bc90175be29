//! What was learned of ensembles is there again after an end.

use super::*;

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
async fn what_a_rollback_forgot_stays_forgotten_over_restarts() {
    let dir = TempDir::new().unwrap();
    let toml = panel("adaptive", [says("Paris"), says("Paris"), says("Lyon")]);
    let daemon = Daemon::start(dir.path(), &toml).await;
    let state = async |daemon: &Daemon, params: Value| {
        let mut rpc = Rpc::connect(&daemon.socket).await;
        rpc.call("state", &params).await["result"].clone()
    };
    let learned = async |daemon: &Daemon| {
        let status = daemon.get("/v1/status").await.unwrap().json();
        let sources = status["deployments"][0]["quality"]["sources"].clone();
        (
            status["ensembles"]["panel"].clone(),
            sources["user"].clone(),
        )
    };
    let empty = state(&daemon, json!({ "action": "pin", "pinned": true })).await;
    state(&daemon, json!({ "action": "pin", "pinned": false })).await;
    rounds(daemon.http, 40, "Paris").await;
    eventually("the weights are fitted", async || {
        learned(&daemon).await.0["state"].is_string()
    })
    .await;
    let back = json!({ "action": "rollback", "digest": empty["saved"][0]["digest"] });
    assert_eq!(state(&daemon, back).await["refused"], json!([]));
    // Killed at once: what came back is on the disk already.
    drop(daemon);
    let daemon = Daemon::start(dir.path(), &toml).await;
    let (ensemble, judged) = learned(&daemon).await;
    assert_eq!((&ensemble["state"], &judged), (&Value::Null, &Value::Null));
    rounds(daemon.http, 5, "Paris").await;
    drop(daemon);
    let daemon = Daemon::start(dir.path(), &toml).await;
    eventually("the rounds since are remembered", async || {
        learned(&daemon).await.0["rounds"] != 0
    })
    .await;
    assert_eq!(learned(&daemon).await.0["rounds"], 5);
}
