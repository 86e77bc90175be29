//! Open loop: requests are sent at a fixed rate whether or not answers come, and each is timed from when it was to be
//! sent. A server that stops for a second is so charged for everybody who would have come in that second, which a
//! closed loop omits (coordinated omission).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};

use crate::load::{Connection, Job, Sample};
use crate::upstream::sleep;

/// How long a connection is kept that nobody needs.
const IDLE: Duration = Duration::from_secs(5);

pub struct Open {
    /// Requests a second.
    pub rate: f64,
    /// Connections at most; who finds none free waits, and the wait counts.
    pub cap: usize,
    pub during: Duration,
}

/// Returns when every request has its end. `start` is the samples' zero. Requests are numbered from `first`, and spread
/// over `jobs` in turn. With `stop`, it ends early when that turns true.
pub async fn run(
    open: &Open,
    jobs: &[Job],
    start: Instant,
    first: u64,
    stop: Option<watch::Receiver<bool>>,
) -> Vec<Sample> {
    let jobs: Vec<Arc<Job>> = jobs.iter().cloned().map(Arc::new).collect();
    let places = Arc::new(Semaphore::new(open.cap));
    let idle = Arc::new(Mutex::new(VecDeque::<(Instant, Connection)>::new()));
    let samples = Arc::new(Mutex::new(Vec::new()));
    let begin = Instant::now();
    let mut number = 0u64;
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let after = Duration::from_secs_f64(number as f64 / open.rate);
        if after >= open.during || stop.as_ref().is_some_and(|stop| *stop.borrow()) {
            break;
        }
        let intended = begin + after;
        let now = Instant::now();
        if intended > now {
            sleep(intended - now).await;
        }
        let job = Arc::clone(&jobs[number as usize % jobs.len()]);
        let (places, idle, samples) =
            (Arc::clone(&places), Arc::clone(&idle), Arc::clone(&samples));
        tasks.spawn(async move {
            let _place = places.acquire_owned().await;
            let taken = idle.lock().expect("not poisoned").pop_back();
            let mut connection = taken.map(|(_, connection)| connection).unwrap_or_default();
            let sample = connection.ask(&job, start, intended, first + number).await;
            let mut idle = idle.lock().expect("not poisoned");
            idle.push_back((Instant::now(), connection));
            // What a burst has opened is closed again, as clients do.
            while idle
                .front()
                .is_some_and(|(since, _)| since.elapsed() > IDLE)
            {
                idle.pop_front();
            }
            drop(idle);
            samples.lock().expect("not poisoned").push(sample);
        });
        while tasks.try_join_next().is_some() {}
        number += 1;
    }
    while tasks.join_next().await.is_some() {}
    let mut samples = std::mem::take(&mut *samples.lock().expect("not poisoned"));
    samples.sort_by_key(|sample| sample.at);
    samples
}
