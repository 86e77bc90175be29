//! A mock upstream that speaks enough of OpenAI's chat wire for a gateway to believe it, fast enough to stand
//! behind a benchmark, and able to fail in every way an upstream fails, down to the byte.
//!
//! In a test: `Upstream::start("127.0.0.1:0", Behaviour::default()).await`, then [`Upstream::behave`] and
//! [`Upstream::stats`]. From outside the process: `POST /__behave` with the fields of [`Behaviour`] that are to
//! change, `GET /__stats`, `DELETE /__stats`; `?port=N` means another upstream of the same process, so that
//! one which refuses connections can be woken.
#![allow(dead_code, reason = "each user takes its part")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test double: real sockets, real time, and it may stop"
)]

mod clock;
mod plan;
mod serve;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

#[allow(unused_imports, reason = "each user takes its part")]
pub use clock::sleep;
use plan::Plan;
use serve::listen;

/// What an upstream does. Shares are of all calls, 0 to 1, spread evenly and not at random, so that two runs see the
/// same; together they are at most 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// From the whole request to the first byte of the answer.
    pub delay_ms: u64,
    /// From the head of a stream to its first event.
    pub first_chunk_ms: u64,
    /// Between two chunks of a stream.
    pub chunk_ms: u64,
    /// Chunks with content in a stream; each is a word of `text`, from the start again when they run out. 0: as many as
    /// there are words, so that the stream says `text`.
    pub chunks: usize,
    pub text: String,
    /// Answer with the last message of the request instead of `text`.
    pub echo: bool,
    /// Calls answered at once; the others wait in the order they came. 0: any number.
    pub at_once: usize,
    /// Those others are answered with `status` instead, and do not wait.
    pub refuse: bool,
    /// Calls answered with `status`.
    pub error_share: f64,
    pub status: u16,
    /// The header of that name, on answers with `status`.
    pub retry_after: Option<String>,
    /// `delay_ms` of answers with `status`, where it differs.
    pub error_delay_ms: Option<u64>,
    /// Calls that are read and never answered.
    pub hang_share: f64,
    /// Calls whose answer goes wrong as `fault` says.
    pub fault_share: f64,
    pub fault: Fault,
    pub accept: Accept,
}

/// How an answer goes wrong. In an answer that is not streamed, "after some chunks" is half way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    #[default]
    None,
    /// After so many chunks the body ends as if it were whole: no finish reason, no `[DONE]`.
    EndAfter(usize),
    /// After so many chunks the connection closes.
    CutAfter(usize),
    /// After so many chunks nothing comes any more.
    StallAfter(usize),
    /// After so many chunks an error event, and the end.
    ErrorAfter(usize),
    /// The connection closes after so many bytes of the answer, its head included.
    CloseAt(usize),
    /// The same with a reset.
    ResetAt(usize),
    /// A body that is no JSON; in a stream, its second event.
    Malformed,
}

/// What happens to connections. Anything but `Serve` closes those that are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    #[default]
    Serve,
    /// Nobody listens.
    Refuse,
    /// Closed as soon as accepted.
    Close,
    /// Reset as soon as accepted.
    Reset,
    /// Accepted and never read.
    Ignore,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            delay_ms: 0,
            first_chunk_ms: 0,
            chunk_ms: 0,
            chunks: 0,
            text: "An answer of ordinary length, the same for every question, so that what is measured is the way it \
                   takes and not what it says."
                .into(),
            echo: false,
            at_once: 0,
            refuse: false,
            error_share: 0.0,
            status: 500,
            retry_after: None,
            error_delay_ms: None,
            hang_share: 0.0,
            fault_share: 1.0,
            fault: Fault::None,
            accept: Accept::Serve,
        }
    }
}

/// What an upstream has seen since its start or since [`Upstream::forget`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Chat requests read to their end.
    pub calls: u64,
    /// Of those, how many asked for a stream.
    pub streams: u64,
    /// Being answered now, and at most at once.
    pub in_flight: i64,
    pub in_flight_max: i64,
    /// Accepted in all, and open now.
    pub connections: u64,
    pub connections_open: i64,
    /// Answers begun, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Calls whose client left before the end of the answer.
    pub cancelled: u64,
    /// Calls that were left without an answer, and calls whose answer went wrong on purpose.
    pub hung: u64,
    pub faults: u64,
    /// When the latest calls arrived, in milliseconds since the start; at most 4,096 of them.
    pub arrivals_ms: Vec<f64>,
}

const ARRIVALS: usize = 4096;
/// Events that a server without pauses writes at once.
const AT_ONCE: usize = 16;

/// One listener; it ends when this is dropped.
pub struct Upstream {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

impl Upstream {
    /// `addr` may have port 0.
    pub async fn start(addr: &str, behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let shared = Arc::new(Shared {
            addr: listener.local_addr()?,
            plan: watch::Sender::new(Arc::new(Plan::new(behaviour, 0))),
            applied: watch::Sender::new(0),
            counters: Counters::default(),
            credits: Mutex::default(),
            started: Instant::now(),
        });
        let mut all = registry().lock().unwrap();
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&shared));
        drop(all);
        let task = tokio::spawn(listen(Arc::clone(&shared), listener));
        Ok(Self {
            shared,
            task: Some(task),
        })
    }

    pub fn addr(&self) -> SocketAddr {
        self.shared.addr
    }

    /// What a gateway's configuration calls the base URL.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.shared.addr)
    }

    pub fn behaviour(&self) -> Behaviour {
        self.shared.plan.borrow().behaviour.clone()
    }

    /// From the next call on; returns when connections are treated accordingly.
    pub async fn behave(&self, behaviour: Behaviour) {
        self.shared.behave(behaviour).await;
    }

    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Counts from zero again; what is in flight stays counted.
    pub fn forget(&self) {
        self.shared.forget();
    }

    /// Closes everything and waits until the port is free.
    pub async fn stop(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Shared {
    addr: SocketAddr,
    plan: watch::Sender<Arc<Plan>>,
    /// The version of the plan that the listener goes by.
    applied: watch::Sender<u64>,
    counters: Counters,
    credits: Mutex<[f64; 4]>,
    started: Instant,
}

#[derive(Default)]
struct Counters {
    calls: AtomicU64,
    streams: AtomicU64,
    in_flight: AtomicI64,
    in_flight_max: AtomicI64,
    connections: AtomicU64,
    connections_open: AtomicI64,
    cancelled: AtomicU64,
    hung: AtomicU64,
    faults: AtomicU64,
    /// Almost every answer is a 200; the others may wait for a lock.
    good: AtomicU64,
    others: Mutex<BTreeMap<u16, u64>>,
    arrivals: Mutex<VecDeque<Instant>>,
}

fn registry() -> &'static Mutex<Vec<Weak<Shared>>> {
    static ALL: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());
    &ALL
}

/// What becomes of one call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    Error,
    Hang,
    Fault,
}

impl Shared {
    async fn behave(&self, behaviour: Behaviour) {
        let mut version = 0;
        self.plan.send_modify(|plan| {
            version = plan.version + 1;
            *plan = Arc::new(Plan::new(behaviour, version));
        });
        let mut applied = self.applied.subscribe();
        let _ = applied.wait_for(|applied| *applied >= version).await;
    }

    /// Smooth weighted round robin: exact shares, evenly spread.
    fn fate(&self, b: &Behaviour) -> Fate {
        let fault = if b.fault == Fault::None {
            0.0
        } else {
            b.fault_share
        };
        let shares = [
            1.0 - b.error_share - b.hang_share - fault,
            b.error_share,
            b.hang_share,
            fault,
        ];
        if shares[0] >= 1.0 {
            return Fate::Good;
        }
        let mut credits = self.credits.lock().unwrap();
        let mut best = 0;
        for kind in 0..4 {
            credits[kind] += shares[kind].max(0.0);
            if credits[kind] > credits[best] + 1e-9 {
                best = kind;
            }
        }
        credits[best] -= 1.0;
        [Fate::Good, Fate::Error, Fate::Hang, Fate::Fault][best]
    }

    fn stats(&self) -> Stats {
        let c = &self.counters;
        let mut statuses = c.others.lock().unwrap().clone();
        if c.good.load(Relaxed) > 0 {
            statuses.insert(200, c.good.load(Relaxed));
        }
        let arrivals = c.arrivals.lock().unwrap();
        let since = |at: &Instant| (*at - self.started).as_secs_f64() * 1e3;
        Stats {
            calls: c.calls.load(Relaxed),
            streams: c.streams.load(Relaxed),
            in_flight: c.in_flight.load(Relaxed),
            in_flight_max: c.in_flight_max.load(Relaxed),
            connections: c.connections.load(Relaxed),
            connections_open: c.connections_open.load(Relaxed),
            statuses,
            cancelled: c.cancelled.load(Relaxed),
            hung: c.hung.load(Relaxed),
            faults: c.faults.load(Relaxed),
            arrivals_ms: arrivals.iter().map(since).collect(),
        }
    }

    fn forget(&self) {
        let c = &self.counters;
        let zero = [
            &c.calls,
            &c.streams,
            &c.connections,
            &c.cancelled,
            &c.hung,
            &c.faults,
            &c.good,
        ];
        zero.iter().for_each(|counter| counter.store(0, Relaxed));
        c.in_flight_max.store(c.in_flight.load(Relaxed), Relaxed);
        c.others.lock().unwrap().clear();
        c.arrivals.lock().unwrap().clear();
        *self.credits.lock().unwrap() = [0.0; 4];
    }

    fn begin(&self, status: u16) {
        if status == 200 {
            self.counters.good.fetch_add(1, Relaxed);
        } else {
            *self
                .counters
                .others
                .lock()
                .unwrap()
                .entry(status)
                .or_default() += 1;
        }
    }
}
