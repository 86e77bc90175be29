//! Upstreams that no connection leads to.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::upstream::{Accept, Behaviour, Upstream};
use crate::users::{End, Form, ask, eight, eight_ask, eight_for, failures};
use crate::world::{Pair, end, fault, well, world};

const OPEN_FOR: &str = "[resilience.breaker]\nopen_for = \"500ms\"\n";

fn accepting(accept: Accept) -> Behaviour {
    Behaviour { accept, ..well(2) }
}

#[tokio::test]
async fn a_refusing_upstream_costs_no_query_and_at_most_a_dozen_calls() {
    let pair = Pair::start("", well(2), well(2)).await;
    // A healthy past, which must not hide the fault.
    let before = eight_ask(&pair.world, "fast", Form::Both, 200).await;
    assert_eq!(failures("before", &before), 0);
    pair.east.behave(accepting(Accept::Refuse)).await;
    let seen = eight_for(&pair.world, "fast", Form::Both, fault()).await;
    assert_eq!(failures("refusing", &seen), 0);
    let wasted = pair.failed();
    println!("{wasted} calls wasted");
    assert!(wasted <= 12, "{wasted} calls wasted");
    pair.end(before.len() + seen.len()).await;
}

#[tokio::test]
async fn a_refusing_upstream_serves_again_within_ten_seconds_of_its_return() {
    let pair = Pair::start("", accepting(Accept::Refuse), well(2)).await;
    let during = eight_for(&pair.world, "fast", Form::Both, fault()).await;
    assert_eq!(failures("refusing", &during), 0);
    println!("{} calls wasted without a past", pair.failed());
    pair.east.behave(well(2)).await;
    let returned = Instant::now();
    let seen = eight(&pair.world, "fast", Form::Both, |seen| {
        let back = seen.iter().any(|one| one.by == "east/m1");
        back || returned.elapsed() > Duration::from_secs(10)
    })
    .await;
    assert_eq!(failures("after", &seen), 0);
    println!("back after {:?}", returned.elapsed());
    assert!(seen.iter().any(|one| one.by == "east/m1"), "not back");
    pair.end(during.len() + seen.len()).await;
}

/// With half a second of open time where the default is 30.
#[tokio::test]
async fn a_breaker_that_no_connection_opened_closes_when_one_is_there() {
    for fault in [Accept::Refuse, Accept::Close, Accept::Reset] {
        let pair = Pair::start(OPEN_FOR, accepting(fault), well(2)).await;
        let during = eight_ask(&pair.world, "fast", Form::Both, 100).await;
        assert_eq!(failures(&format!("{fault:?}"), &during), 0);
        pair.east.behave(well(2)).await;
        let returned = Instant::now();
        let after = eight(&pair.world, "fast", Form::Both, |seen| {
            let back = seen.iter().filter(|one| one.by == "east/m1").count() > 20;
            back || returned.elapsed() > Duration::from_secs(10)
        })
        .await;
        assert_eq!(failures("after", &after), 0);
        let breaker = pair.world.deployment("east/m1")["breaker"].clone();
        assert_eq!(breaker, "closed", "{fault:?}");
        pair.end(during.len() + after.len()).await;
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_no_connection_and_another_answers() {
    let west = Upstream::start("127.0.0.1:0", well(2)).await.unwrap();
    let world = world("", "http://nowhere.invalid/v1", &west.base_url()).await;
    let seen = eight_ask(&world, "fast", Form::Both, 40).await;
    assert_eq!(failures("unresolvable", &seen), 0);
    end(world, seen.len()).await;
}

#[tokio::test]
async fn who_asks_only_for_the_unreachable_is_told_so_with_a_502() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = format!("http://{}/v1", gone.local_addr().unwrap());
    drop(gone);
    // No retries, and a breaker that lets us ask on.
    let toml = "[resilience]\nretries = 0\n[resilience.breaker]\nmin_calls = 1000\n";
    let world = world(toml, "http://nowhere.invalid/v1", &refusing).await;
    for model in ["east/m1", "west/m1", "fast", "auto"] {
        for streamed in [false, true] {
            let seen = ask(&world, model, "u", "?", streamed).await;
            let told = (seen.status, seen.end);
            assert_eq!(told, (502, End::Refused("connect".into())), "{model}");
        }
    }
    end(world, 8).await;
}

/// With 300 ms to connect where the default is 5 s.
#[tokio::test]
async fn a_tls_handshake_that_hangs_is_given_up_and_another_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let east = format!("https://{}/v1", silent.local_addr().unwrap());
    let west = Upstream::start("127.0.0.1:0", well(2)).await.unwrap();
    let toml = "[resilience]\nconnect_timeout = \"300ms\"\n";
    let world = world(toml, &east, &west.base_url()).await;
    // Accepted by the kernel, and never read.
    let seen = eight_ask(&world, "fast", Form::Both, 60).await;
    assert_eq!(failures("silent TLS", &seen), 0);
    let longest = seen.iter().map(|one| one.took).max().unwrap();
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    let alone = ask(&world, "east/m1", "u", "?", true).await;
    let end_of = (alone.status, alone.end);
    assert!(
        end_of == (503, End::Refused("breaker-open".into()))
            || end_of == (502, End::Refused("connect".into())),
        "{end_of:?}"
    );
    end(world, seen.len() + 1).await;
}
