//! Closed loop: so many connections, each with one request after the other. It finds what a server can do; for how
//! long people wait at a given rate, see [`crate::open`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::load::{Connection, Job, Sample};

/// The samples of all requests begun within `during`.
pub async fn run(job: &Job, connections: usize, during: Duration) -> Vec<Sample> {
    let job = Arc::new(job.clone());
    let start = Instant::now();
    let end = start + during;
    let mut workers = JoinSet::new();
    for worker in 0..connections {
        let job = Arc::clone(&job);
        workers.spawn(async move {
            let mut connection = Connection::default();
            let mut samples = Vec::with_capacity(1024);
            let mut number = (worker as u64) << 32;
            loop {
                let now = Instant::now();
                if now >= end {
                    return samples;
                }
                number += 1;
                let sample = connection.ask(&job, start, now, number).await;
                samples.push(sample);
                if !sample.outcome.good() && sample.latency < 1_000_000 {
                    // Whoever is refused at once does not come back at once.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
    }
    let mut all = Vec::new();
    for samples in workers.join_all().await {
        all.extend(samples);
    }
    all
}
