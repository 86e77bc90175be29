//! Panics of a deployment's actor, whatever it is told next.
//!
//! An actor that panics loses its state, the message it was at and those behind it. So a panic right before a
//! message is what a panic at that message is to everybody else; the tests run on one thread, where nothing comes
//! in between.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use quorate::id::DeploymentId;
use quorate::learning::Place;
use quorate::provider::{Cell, Judgement, Snapshot};
use quorate::{Answer, Call, ErrorKind, Outcome, Provider, Query};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::support::{World, deployment, scripted};

const EAST: &str = "east/m1";
const TOML: &str = "[admission]\nper_user = 100\ntotal = 100\n[resilience]\nbackoff_base = \"5ms\"\n\
                    [resilience.breaker]\nmin_calls = 2\nopen_for = \"50ms\"\njitter = 0.0\nprobe_deadline = \"200ms\"\n";

/// Answers, and lets its actor die just before that hears of the end.
struct Doomed(OnceLock<Arc<Cell>>);

impl Provider for Doomed {
    fn call(&self, call: Call) -> BoxFuture<'static, quorate::Result<Outcome>> {
        let doomed = (call.query.messages[0].text() == "die").then(|| self.0.get().cloned());
        let fail = call.query.messages[0].text() == "fail";
        Box::pin(async move {
            sleep(Duration::from_millis(5)).await;
            if let Some(Some(cell)) = doomed {
                cell.poison();
            }
            if fail {
                return Err(quorate::Error::new(ErrorKind::Upstream, "as asked"));
            }
            Ok(Outcome::Whole(Answer::text("Paris")))
        })
    }
}

struct Stage {
    world: World,
    east: Arc<Cell>,
    others: JoinSet<quorate::Result<Answer>>,
}

/// `east`, that has learned something; and twenty queries under way on `west` and, of the same provider, `east/m2`.
async fn stage() -> Stage {
    let doomed = Arc::new(Doomed(OnceLock::new()));
    let slow = || scripted(json!({ "latency_ms": 150, "answer": "slow" })) as Arc<dyn Provider>;
    let mut single = deployment("single/m1");
    single.limits.max_in_flight = Some(1);
    let host = vec![
        (deployment(EAST), Arc::clone(&doomed) as Arc<dyn Provider>),
        (deployment("east/m2"), slow()),
        (deployment("west/m1"), slow()),
        (single, slow()),
    ];
    let world = World::start(TOML, host).await;
    let east = world
        .orchestrator
        .deployment(&DeploymentId::from(EAST))
        .unwrap();
    let _ = doomed.0.set(Arc::clone(&east));
    for _ in 0..5 {
        assert_eq!(world.chat(EAST, "?").await.status, 200);
    }
    east.judge(judgement());
    world
        .until("it has learned", async |w| evidence(w) == 1.0)
        .await;
    let mut others = JoinSet::new();
    for index in 0..20 {
        let (orchestrator, model) = (
            world.orchestrator.clone(),
            ["east/m2", "west/m1"][index % 2],
        );
        others.spawn(async move { orchestrator.ask(Query::new(model, "?")).await });
    }
    world
        .until("the others run", async |w| w.in_use() == 20)
        .await;
    Stage {
        world,
        east,
        others,
    }
}

/// Judgements behind its quality, the older ones counting a little less.
fn evidence(world: &World) -> f64 {
    let evidence = &world.deployment(EAST)["quality"]["evidence"];
    evidence.as_f64().unwrap()
}

fn judgement() -> Judgement {
    Judgement {
        place: Place::default(),
        traits: None,
        score: 1.0,
        weight: 1.0,
        source: "test".into(),
        expected: None,
    }
}

impl Stage {
    fn known(&self) -> Value {
        let known = self.world.deployment(EAST);
        json!([
            known["breaker"],
            known["calls"]["failed"],
            known["total"],
            known["quality"],
            known["last_error"]
        ])
    }

    /// It came back as it was, the others noticed nothing, and all that was lent out is back.
    async fn assert_invisible(mut self, before: Value) {
        let path = format!("root/providers/{EAST}");
        self.world
            .until("it is back", async |w| {
                let actors = w.orchestrator.status().actors;
                actors
                    .iter()
                    .any(|actor| actor.path == path && actor.restarts == 1)
            })
            .await;
        assert_eq!(self.known(), before);
        while let Some(answer) = self.others.join_next().await {
            answer.unwrap().expect("the others are answered");
        }
        self.world.until_all_returned().await;
        assert_eq!(self.world.chat(EAST, "?").await.status, 200);
        self.east.judge(judgement());
        self.world
            .until("it learns on", async |w| evidence(w) > 1.9)
            .await;
        self.world.until_all_returned().await;
    }
}

#[tokio::test]
async fn an_actor_that_dies_asked_for_leave_costs_its_callers_a_retry() {
    let stage = stage().await;
    let known = stage.known();
    stage.east.poison();
    let queries = (0..5).map(|_| stage.world.orchestrator.ask(Query::new(EAST, "?")));
    for answer in join_all(queries).await {
        assert_eq!(answer.unwrap().choices.len(), 1);
    }
    // They were answered after the restart, and the actor learned of it.
    let mut after = stage.known();
    after[2] = known[2].clone();
    assert_eq!(after, known);
    let now = stage.known();
    stage.assert_invisible(now).await;
}

#[tokio::test]
async fn an_actor_that_dies_told_of_an_end_loses_that_result_and_no_place() {
    let stage = stage().await;
    let known = stage.known();
    let query = Query::new(EAST, "die");
    stage.world.orchestrator.ask(query).await.unwrap();
    stage.assert_invisible(known).await;
}

#[tokio::test]
async fn an_actor_that_dies_told_of_a_probes_end_gives_the_slot_back_in_time() {
    let stage = stage().await;
    let ask = |text: &str| {
        let mut query = Query::new(EAST, text);
        query.deadline = Some(tokio::time::Instant::now() + Duration::from_secs(5));
        stage.world.orchestrator.ask(query)
    };
    while stage.world.deployment(EAST)["breaker"] != "open" {
        let _ = ask("fail").await;
    }
    let half_open = async |w: &World| w.deployment(EAST)["breaker"] == "half-open";
    stage.world.until("half-open", half_open).await;
    assert!(ask("die").await.is_ok());
    stage
        .world
        .until("the slot is back", async |_| ask("?").await.is_ok())
        .await;
    stage
        .world
        .until("closed again", async |w| {
            let _ = ask("?").await;
            let east = w.deployment(EAST);
            east["breaker"] == "closed" && east["probes_out"] == 0
        })
        .await;
    let known = stage.known();
    stage.assert_invisible(known).await;
}

#[tokio::test]
async fn an_actor_that_dies_told_of_a_judgement_loses_that_one() {
    let stage = stage().await;
    let known = stage.known();
    stage.east.poison();
    stage.east.judge(judgement());
    stage.assert_invisible(known).await;
}

#[tokio::test]
async fn an_actor_that_dies_told_to_restore_takes_over_in_its_next_life() {
    let stage = stage().await;
    stage.east.poison();
    stage.east.restore(Snapshot::new()).await;
    assert_eq!(stage.world.deployment(EAST)["total"]["evidence"], 0.0);
    let known = stage.known();
    stage.assert_invisible(known).await;
}

#[tokio::test]
async fn an_actor_that_dies_told_of_a_reload_comes_back_under_the_new_configuration() {
    let stage = stage().await;
    let known = stage.known();
    let mut config = (*stage.world.orchestrator.config()).clone();
    config.resilience.breaker.min_calls = 7;
    stage.east.poison();
    stage.world.orchestrator.reload(config).await.unwrap();
    assert_eq!(stage.east.breaker.load().min_calls, 7);
    stage.assert_invisible(known).await;
}

#[tokio::test]
async fn an_actor_that_dies_while_callers_wait_for_a_place_answers_them_all_the_same() {
    let stage = stage().await;
    let single = DeploymentId::from("single/m1");
    let single = stage.world.orchestrator.deployment(&single).unwrap();
    let mut queries = JoinSet::new();
    for _ in 0..4 {
        let orchestrator = stage.world.orchestrator.clone();
        queries.spawn(async move { orchestrator.ask(Query::new("single/m1", "?")).await });
    }
    stage
        .world
        .until("they run or wait", async |w| w.in_use() >= 4)
        .await;
    sleep(Duration::from_millis(20)).await;
    single.poison();
    for answer in queries.join_all().await {
        answer.unwrap();
    }
    stage.world.until_all_returned().await;
}
