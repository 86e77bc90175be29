//! Upstreams that can only do so much.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::support::World;
use crate::upstream::{Behaviour, Upstream};
use crate::users::{Form, ask, eight, eight_ask, eight_for, failures};
use crate::world::{Pair, end, well};

#[tokio::test]
async fn not_one_call_reaches_an_upstream_inside_the_pause_it_asked_for() {
    const PAUSE: Duration = Duration::from_secs(5);
    let busy = Behaviour {
        error_share: 1.0,
        status: 429,
        retry_after: Some("5".into()),
        ..well(2)
    };
    let pair = Pair::start("", busy, well(2)).await;
    let started = Instant::now();
    // Eight who cannot know of each other's refusal; whoever comes after must.
    let wave = eight_ask(&pair.world, "fast", Form::Both, 8).await;
    assert_eq!(failures("wave", &wave), 0);
    let first = pair.east.stats();
    assert!((1..=8).contains(&first.calls), "{first:?}");
    pair.east.behave(well(2)).await;
    let mut asked = wave.len();
    for model in ["fast", "best", "auto"] {
        let seen = eight_for(&pair.world, model, Form::Both, PAUSE / 5).await;
        assert_eq!(failures(model, &seen), 0);
        asked += seen.len();
    }
    // And then it is asked again.
    let seen = eight(&pair.world, "fast", Form::Both, |seen| {
        let back = seen.iter().any(|one| one.by == "east/m1");
        back || started.elapsed() > PAUSE * 3
    })
    .await;
    assert_eq!(failures("after", &seen), 0);
    let arrivals = pair.east.stats().arrivals_ms;
    let (before, after) = arrivals.split_at(usize::try_from(first.calls).unwrap());
    let quiet = after[0] - before[before.len() - 1];
    println!("asked again after {quiet} ms");
    assert!(quiet >= PAUSE.as_secs_f64() * 1e3, "{quiet} ms");
    assert_eq!(pair.world.deployment("east/m1")["breaker"], "closed");
    pair.end(asked + seen.len()).await;
}

#[tokio::test]
async fn of_a_burst_of_two_hundred_exactly_twenty_reach_the_upstream_at_once() {
    let east = Upstream::start("127.0.0.1:0", well(40)).await.unwrap();
    let url = east.base_url();
    let provider = format!(
        "[[providers]]\nname = \"east\"\nkind = \"openai\"\nbase_url = \"{url}\"\nmodels = [\"m1\"]\nmax_in_flight = 20\n"
    );
    let world = World::start(&provider, Vec::new()).await;
    let started = Instant::now();
    let seen = join_all((0..200).map(async |user| {
        let text = format!("question of user {user}");
        let user = format!("user-{user}");
        ask(&world, "east/m1", &user, &text, false).await
    }))
    .await;
    println!("{:?}", started.elapsed());
    assert_eq!(failures("burst", &seen), 0);
    let stats = east.stats();
    assert_eq!((stats.in_flight_max, stats.calls), (20, 200), "{stats:?}");
    end(world, 200).await;
}

/// It says no more than 429, so that how many it bears has to be found out.
#[tokio::test]
async fn a_burst_is_served_by_an_upstream_that_bears_twenty_at_once_and_refuses_the_others() {
    let bears_twenty = Behaviour {
        at_once: 20,
        refuse: true,
        status: 429,
        ..well(300)
    };
    let east = Upstream::start("127.0.0.1:0", bears_twenty).await.unwrap();
    let url = east.base_url();
    let toml = format!(
        "[admission]\ntotal = 1000\n[[providers]]\nname = \"east\"\nkind = \"openai\"\nbase_url = \"{url}\"\nmodels = [\"m1\"]\n"
    );
    let world = World::start(&toml, Vec::new()).await;
    let seen = join_all((0..200).map(async |user| {
        let text = format!("question of user {user}");
        let user = format!("user-{user}");
        ask(&world, "east/m1", &user, &text, false).await
    }))
    .await;
    assert_eq!(failures("burst", &seen), 0);
    let stats = east.stats();
    println!("{} calls for 200 answers", stats.calls);
    // A burst that comes at once cannot be known to be too much; what follows it can.
    assert!(stats.calls <= 500, "{stats:?}");
    end(world, 200).await;
}
