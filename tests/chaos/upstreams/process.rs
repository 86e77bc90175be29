//! Upstreams that are processes of their own, killed and frozen: Quorate itself, with a test double in it.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::support::{Daemon, World, chat};
use crate::users::{End, judge};
use crate::world::{end, world};

const TEXT: &str = "one two three four five six seven eight nine ten";
/// Two seconds between two deltas and to the first, where the defaults are 60 and 30 s, and half a second of open
/// time where it is 30.
const SHORT: &str = "[resilience]\nfirst_token_timeout = \"2s\"\nanswer_timeout = \"2s\"\nidle_timeout = \"2s\"\n[resilience.breaker]\nopen_for = \"500ms\"\n";

/// A word every `chunk_ms`.
fn double(chunk_ms: u64) -> String {
    format!(
        "[admission]\nper_user = 50\n[[providers]]\nname = \"double\"\nkind = \"scripted\"\nmodels = [\"m1\"]\n\
         script = {{ answer = \"{TEXT}\", chunk_ms = {chunk_ms} }}\n"
    )
}

struct Processes {
    world: World,
    east: Daemon,
    _west: Daemon,
    _dirs: [TempDir; 2],
}

async fn processes() -> Processes {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let east = Daemon::start(dirs[0].path(), &double(100)).await;
    let west = Daemon::start(dirs[1].path(), &double(0)).await;
    let url = |daemon: &Daemon| format!("http://{}/v1", daemon.http);
    let world = world(SHORT, &url(&east), &url(&west)).await;
    Processes {
        world,
        east,
        _west: west,
        _dirs: dirs,
    }
}

/// Eight queries at once, every second of them streamed.
async fn ask_eight(world: &World) -> Vec<(End, String)> {
    let queries = (0..8).map(async |user| {
        let streamed = user % 2 == 1;
        let mut request = chat("fast", "?");
        request["stream"] = streamed.into();
        request["user"] = json!(format!("user-{user}"));
        let reply = world.post("/v1/chat/completions", &request).await;
        let by = reply.header("x-quorate-model").to_owned();
        (judge(&reply, TEXT, streamed), by)
    });
    join_all(queries).await
}

/// The same, and a signal to east while all of them are being answered.
async fn ask_eight_and(signal: &str, world: &World, east: &Daemon) -> Vec<(End, String)> {
    let strike = async {
        world
            .until("all are being answered", async |_| {
                east.metric("quorate_permits_in_use").await == 8.0
            })
            .await;
        sleep(Duration::from_millis(200)).await;
        east.signal(signal);
    };
    tokio::join!(ask_eight(world), strike).0
}

/// What had begun was cut, and everything else answered by west.
fn cut_or_by_west(ends: &[(End, String)], why: &str) {
    for (at, (end, by)) in ends.iter().enumerate() {
        match end {
            End::Answered => assert_eq!(by, "west/m1"),
            End::Cut { kind, .. } => assert_eq!((at % 2, &**kind, &**by), (1, why, "east/m1")),
            End::Refused(_) => panic!("{end:?}"),
        }
    }
    let cut = |(end, _): &(End, String)| matches!(end, End::Cut { .. });
    assert!(ends.iter().any(cut), "{ends:?}");
}

/// All were answered, by west.
async fn all_by_west(world: &World) {
    for (end, by) in ask_eight(world).await {
        assert_eq!((end, by.as_str()), (End::Answered, "west/m1"));
    }
}

#[tokio::test]
async fn a_process_killed_in_the_middle_of_its_answers_is_told_of_where_one_had_begun_and_replaced_elsewhere()
 {
    let Processes {
        world,
        mut east,
        _west,
        _dirs,
    } = processes().await;
    let ends = ask_eight_and("KILL", &world, &east).await;
    cut_or_by_west(&ends, "truncated");
    east.ended().await;
    all_by_west(&world).await;
    end(world, 16).await;
}

#[tokio::test]
async fn a_process_frozen_in_the_middle_of_its_answers_is_given_up_and_taken_back_when_it_goes_on()
{
    let Processes {
        world,
        east,
        _west,
        _dirs,
    } = processes().await;
    let ends = ask_eight_and("STOP", &world, &east).await;
    cut_or_by_west(&ends, "timeout");
    all_by_west(&world).await;
    assert_ne!(world.deployment("east/m1")["breaker"], "closed");
    east.signal("CONT");
    let until = Instant::now() + Duration::from_secs(10);
    let mut asked = 16;
    loop {
        let ends = ask_eight(&world).await;
        asked += ends.len();
        assert!(
            ends.iter().all(|(end, _)| *end == End::Answered),
            "{ends:?}"
        );
        if ends.iter().all(|(_, by)| by == "east/m1") {
            break;
        }
        assert!(Instant::now() < until, "it is not taken back: {ends:?}");
    }
    end(world, asked).await;
}
