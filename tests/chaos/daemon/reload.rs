//! Reloads in a loop, of changed and of broken files, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;
use tokio::task::JoinSet;

use super::place::{Place, Watched, post, until};
use super::support::{Rpc, chat};
use super::{provider, so_much};

/// `any` is always served, by others each time; so are the limits.
fn variant(n: usize) -> String {
    let alone = ["east/m1", "west/m1"][n % 2];
    let east = provider(
        "east",
        &format!("{{ echo = true, latency_ms = {} }}", n % 7),
    );
    let west = provider("west", "{ echo = true, latency_ms = 2 }");
    let third = provider(&format!("guest{}", n % 3), "{ echo = true }");
    let (providers, members) = match n % 3 {
        0 => (east + &west, "\"east/m1\", \"west/m1\"".to_owned()),
        1 => (
            east + &west + &third,
            format!("\"guest{}/m1\", \"{alone}\"", n % 3),
        ),
        _ => (west + &third, format!("\"west/m1\", \"guest{}/m1\"", n % 3)),
    };
    let per_user = 40 + n % 5;
    format!(
        "[admission]\nper_user = {per_user}\n[resilience]\nretries = {}\n[models.any]\nuse = [{members}]\n{providers}",
        2 + n % 2
    )
}

/// Files with a mistake: no TOML, no such key, no such member.
const BROKEN: [&str; 3] = [
    "[admission",
    "[admission]\nper_usr = 3\n",
    "[models.any]\nuse = [\"nobody/m1\"]\n",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_reloads_under_load_fail_no_query_and_leave_nothing() {
    let place = Place::new("", &variant(0));
    let daemon = place.start().await;
    let watched = Watched::new(&daemon);
    let (stop, answered) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut load = JoinSet::new();
    for worker in 0..4 {
        let (http, stop, answered) = (place.http, Arc::clone(&stop), Arc::clone(&answered));
        load.spawn(async move {
            for query in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let text = format!("{worker}-{query}");
                let body = chat("any", &text).to_string();
                let reply = post(http, "/v1/chat/completions", body).await.unwrap();
                assert_eq!(
                    (reply.status, reply.content()),
                    (200, text),
                    "{}",
                    reply.body
                );
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let mut rpc = Rpc::connect(&daemon.socket).await;
    let mut reload = async |n: usize| {
        let broken = n % 4 == 3;
        let toml = if broken {
            BROKEN[n / 4 % 3].to_owned()
        } else {
            variant(n)
        };
        place.configure("", &toml);
        let reply = rpc.call("reload", &Value::Null).await;
        assert_eq!(reply["error"].is_object(), broken, "{n}: {reply}");
    };
    // What is kept is made by the first ones.
    for n in 0..40 {
        reload(n).await;
    }
    let before = (
        watched.descriptors(),
        watched.threads(),
        watched.megabytes(),
    );
    for n in 40..so_much(240, 2040) {
        reload(n).await;
    }
    let after = (watched.threads(), watched.megabytes());
    stop.store(true, Ordering::Relaxed);
    while let Some(worker) = load.join_next().await {
        worker.unwrap();
    }
    assert!(answered.load(Ordering::Relaxed) > 200, "{answered:?}");
    reload(0).await;
    until("the actors of what was removed are gone", async || {
        let actors = super::place::status(&daemon).await["actors"].take();
        !actors.to_string().contains("guest")
    })
    .await;
    watched.until_descriptors_are_back(before.0).await;
    assert!(
        after.0 <= before.1 + 16,
        "{} threads, {} before",
        after.0,
        before.1
    );
    assert!(
        after.1 <= before.2 + 40,
        "{} MB, {} before",
        after.1,
        before.2
    );
    place.assert_well(&daemon, "any").await;
}
