//! What is watched of a daemon over time, and what must be nothing in the end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use crate::daemon;
use crate::mocks::Mocks;
use crate::process::Tree;

/// What was seen of the daemon at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Moment {
    pub at: f64,
    rss_mb: f64,
    descriptors: f64,
    threads: f64,
    permits: f64,
    waiting: f64,
}

/// A number that should not grow.
pub type Watched = (&'static str, fn(&Moment) -> f64);
pub const WATCHED: [Watched; 5] = [
    ("memory, MB", |m| m.rss_mb),
    ("descriptors", |m| m.descriptors),
    ("threads", |m| m.threads),
    ("permits in use", |m| m.permits),
    ("waiting", |m| m.waiting),
];

pub async fn moment(tree: &Tree, addr: SocketAddr, start: Instant) -> Option<Moment> {
    let status = daemon::status(addr).await?;
    let admission = &status["admission"];
    Some(Moment {
        at: start.elapsed().as_secs_f64(),
        rss_mb: tree.rss_mb(),
        descriptors: tree.descriptors(),
        threads: tree.threads(),
        permits: admission["in_use"].as_f64()?,
        waiting: admission["waiting"]
            .as_array()?
            .iter()
            .filter_map(Value::as_f64)
            .sum(),
    })
}

/// What is still in use when nobody asks any more: permits, calls that the daemon counts, calls that the upstreams
/// count.
pub async fn at_rest(addr: SocketAddr, mocks: &Mocks) -> [f64; 3] {
    let begun = Instant::now();
    loop {
        let status = daemon::status(addr).await.unwrap_or_default();
        let calls = status["deployments"].as_array().into_iter().flatten();
        let calls = calls
            .filter_map(|deployment| deployment["in_flight"].as_f64())
            .sum();
        let mut upstream = 0.0;
        for index in 0..mocks.addrs().len() {
            upstream += mocks
                .stats(index)
                .await
                .map_or(f64::NAN, |stats| stats.in_flight as f64);
        }
        let left = [
            status["admission"]["in_use"].as_f64().unwrap_or(f64::NAN),
            calls,
            upstream,
        ];
        if left == [0.0; 3] || begun.elapsed() > Duration::from_secs(30) {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
