//! Upstreams that are processes of their own, killed and frozen: Quorate itself, with a test double in it.

use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::support::{Daemon, World, chat};
use crate::users::{End, judge};
use crate::world::{end, world};

/// Half a second of words.
const TEXT: &str = "one two three four five six seven eight nine ten";
const DOUBLE: &str = "[admission]\nper_user = 50\n[[providers]]\nname = \"double\"\nkind = \"scripted\"\nmodels = [\"m1\"]\n\
                      script = { answer = \"one two three four five six seven eight nine ten\", chunk_ms = 50 }\n";
/// The streams' part of the defaults, a hundredth as long; the breaker is open for 300 ms instead of 30 s.
const SHORT: &str = "[resilience]\nfirst_token_timeout = \"1s\"\nidle_timeout = \"600ms\"\n[resilience.breaker]\nopen_for = \"300ms\"\n";

struct Processes {
    world: World,
    east: Daemon,
    _west: Daemon,
    _dirs: [TempDir; 2],
}

async fn processes() -> Processes {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let east = Daemon::start(dirs[0].path(), DOUBLE).await;
    let west = Daemon::start(dirs[1].path(), DOUBLE).await;
    let url = |daemon: &Daemon| format!("http://{}/v1", daemon.http);
    let world = world(SHORT, &url(&east), &url(&west)).await;
    Processes {
        world,
        east,
        _west: west,
        _dirs: dirs,
    }
}

/// Eight queries at once, every second of them streamed; `strike` comes when all of them are about half way.
async fn eight_at_once(world: &World, strike: impl AsyncFnOnce()) -> Vec<(End, String)> {
    let queries = (0..8).map(async |user| {
        let streamed = user % 2 == 1;
        let mut request = chat("fast", "?");
        request["stream"] = streamed.into();
        request["user"] = json!(format!("user-{user}"));
        let reply = world.post("/v1/chat/completions", &request).await;
        let by = reply.header("x-quorate-model").to_owned();
        (judge(&reply, TEXT, streamed), by)
    });
    let strike = async {
        world
            .until("all are being answered", async |world| world.in_use() == 8)
            .await;
        sleep(Duration::from_millis(200)).await;
        strike().await;
    };
    let (ends, ()) = tokio::join!(futures_util::future::join_all(queries), strike);
    ends
}

/// Those that were streamed were cut, and the others answered by west.
fn half_cut(ends: &[(End, String)], why: &str) {
    for (at, (end, by)) in ends.iter().enumerate() {
        if at % 2 == 1 {
            assert!(
                matches!(end, End::Cut { kind, .. } if kind == why),
                "{end:?}"
            );
            assert_eq!(by, "east/m1");
        } else {
            assert_eq!((end, by.as_str()), (&End::Answered, "west/m1"));
        }
    }
}

/// All were answered, by west.
async fn all_by_west(world: &World) {
    for (end, by) in eight_at_once(world, async || ()).await {
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
    let ends = eight_at_once(&world, async || east.signal("KILL")).await;
    half_cut(&ends, "truncated");
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
    let ends = eight_at_once(&world, async || east.signal("STOP")).await;
    half_cut(&ends, "timeout");
    all_by_west(&world).await;
    assert_ne!(world.deployment("east/m1")["breaker"], "closed");
    east.signal("CONT");
    let until = Instant::now() + Duration::from_secs(10);
    let mut asked = 16;
    loop {
        let ends = eight_at_once(&world, async || ()).await;
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
