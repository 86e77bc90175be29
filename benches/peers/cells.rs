//! The cells of the table: each measures a gateway and, right beside it, its upstream without it.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use crate::figures::Figures;
use crate::gateways::{Gateway, Peer};
use crate::load::Job;
use crate::mocks::Mocks;
use crate::{Result, closed};

/// A row of the table.
pub struct Metric {
    pub key: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    /// What Quorate aims at, and whether that is a most (or else a least).
    pub aim: Option<(f64, bool)>,
}

const fn metric(
    key: &'static str,
    title: &'static str,
    unit: &'static str,
    aim: Option<(f64, bool)>,
) -> Metric {
    Metric {
        key,
        title,
        unit,
        aim,
    }
}

pub const METRICS: &[Metric] = &[
    metric(
        "added_p50_1",
        "added p50, 1 connection, instant upstream",
        "ms",
        Some((0.07, true)),
    ),
    metric(
        "added_p99_1",
        "added p99, 1 connection, instant upstream",
        "ms",
        Some((0.15, true)),
    ),
    metric(
        "added_p50_32",
        "added p50, 32 connections, 50 ms upstream",
        "ms",
        Some((0.45, true)),
    ),
    metric(
        "added_p99_32",
        "added p99, 32 connections, 50 ms upstream",
        "ms",
        Some((1.0, true)),
    ),
    metric("rate_32", "requests a second, 32 connections", "/s", None),
    metric(
        "share_32",
        "share of direct, 32 connections",
        "",
        Some((0.2, false)),
    ),
    metric("rate_256", "requests a second, 256 connections", "/s", None),
    metric(
        "share_256",
        "share of direct, 256 connections",
        "",
        Some((0.2, false)),
    ),
    metric(
        "cpu",
        "CPU a request, 32 connections",
        "µs",
        Some((40.0, true)),
    ),
    metric(
        "added_first",
        "added time to first token p50, 1 stream",
        "ms",
        Some((0.1, true)),
    ),
    metric(
        "chunks",
        "streamed chunks a second, 32 streams",
        "/s",
        Some((400_000.0, false)),
    ),
    metric("share_chunks", "share of direct, 32 streams", "", None),
    metric("rss_idle", "memory idle", "MB", Some((15.0, true))),
    metric("rss_peak", "memory at most", "MB", Some((35.0, true))),
    metric(
        "start",
        "first good answer after start",
        "s",
        Some((0.05, true)),
    ),
    metric(
        "ensemble",
        "added by an ensemble of three to its slowest member, p50",
        "ms",
        Some((0.2, true)),
    ),
    metric(
        "idle_stream",
        "memory of an idle open stream",
        "kB",
        Some((20.0, true)),
    ),
    metric(
        "idle_streams",
        "idle streams open at once",
        "",
        Some((10_000.0, false)),
    ),
    metric(
        "overhead_said",
        "quorate_overhead_seconds, mean, 5 ms upstream",
        "µs",
        None,
    ),
    metric("overhead_seen", "the same from outside, mean", "µs", None),
    metric("overhead_ratio", "said / seen", "", Some((0.8, false))),
    metric(
        "overhead_median",
        "the same from outside, median",
        "µs",
        None,
    ),
];

/// A number of the table, from one round.
#[derive(Clone, Debug, Serialize)]
pub struct Value {
    pub peer: &'static str,
    pub round: usize,
    pub metric: &'static str,
    pub value: f64,
}

/// What lies behind the numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Raw {
    pub peer: &'static str,
    pub round: usize,
    pub cell: &'static str,
    pub direct: Figures,
    pub through: Figures,
}

#[derive(Default, Serialize)]
pub struct Results {
    pub values: Vec<Value>,
    pub cells: Vec<Raw>,
}

pub struct Pair {
    pub direct: Figures,
    pub through: Figures,
    /// Of the gateway's processes, per request.
    pub cpu_us: f64,
}

/// Direct before and after, half each, so that a machine that slows down or speeds up meanwhile favours nobody.
pub async fn pair(gateway: &Gateway, direct: &Job, connections: usize, during: Duration) -> Pair {
    let warm = during / 4;
    closed::run(direct, connections, warm).await;
    let mut alone = closed::run(direct, connections, during / 2).await;
    closed::run(&gateway.job, connections, warm).await;
    let before = gateway.tree.cpu_micros();
    let through = closed::run(&gateway.job, connections, during).await;
    let cpu = gateway.tree.cpu_micros() - before;
    alone.extend(closed::run(direct, connections, during / 2).await);
    Pair {
        direct: Figures::new(&alone, during.as_secs_f64()),
        cpu_us: cpu / through.len() as f64,
        through: Figures::new(&through, during.as_secs_f64()),
    }
}

impl Results {
    pub fn push(&mut self, peer: Peer, round: usize, metric: &'static str, value: f64) {
        debug_assert!(METRICS.iter().any(|known| known.key == metric));
        self.values.push(Value {
            peer: peer.name(),
            round,
            metric,
            value,
        });
    }

    /// All cells that every gateway has. `tick` is told what comes next.
    pub async fn measure(
        &mut self,
        (peer, round): (Peer, usize),
        gateway: &mut Gateway,
        mocks: &Mocks,
        during: Duration,
        tick: impl Fn(&str),
    ) -> Result<()> {
        self.push(peer, round, "start", gateway.started.as_secs_f64());
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.push(peer, round, "rss_idle", gateway.tree.rss_mb());
        let plain = gateway.job.clone();
        let cells = [
            ("1 connection, instant", 1, false, json!({})),
            ("32 connections, 50 ms", 32, false, json!({"delay_ms": 50})),
            ("32 connections, instant", 32, false, json!({})),
            ("256 connections, instant", 256, false, json!({})),
            ("1 stream", 1, true, json!({"chunks": 8, "chunk_ms": 1})),
            ("32 streams", 32, true, json!({"chunks": 64})),
        ];
        for (cell, connections, stream, behaviour) in cells {
            tick(cell);
            mocks.behave(0, &behaviour).await?;
            gateway.job = plain.clone().stream(stream);
            let direct = Job::new(mocks.addr(0), "mock-1").stream(stream);
            let Pair {
                direct,
                through,
                cpu_us,
            } = pair(gateway, &direct, connections, during).await;
            let added = |of: fn(&Figures) -> f64| {
                if through.good == 0 {
                    f64::NAN
                } else {
                    of(&through) - of(&direct)
                }
            };
            let mut both = |metric, of: fn(&Figures) -> f64| {
                self.push(Peer::Direct, round, metric, of(&direct));
                self.push(peer, round, metric, of(&through));
            };
            match (connections, stream) {
                (1, false) => {
                    self.push(peer, round, "added_p50_1", added(|f| f.latency_ms.p50));
                    self.push(peer, round, "added_p99_1", added(|f| f.latency_ms.p99));
                }
                (1, true) => self.push(peer, round, "added_first", added(|f| f.first_ms.p50)),
                (_, true) => {
                    both("chunks", |f| f.chunks);
                    self.push(peer, round, "share_chunks", through.chunks / direct.chunks);
                }
                _ if behaviour["delay_ms"] == 50 => {
                    self.push(peer, round, "added_p50_32", added(|f| f.latency_ms.p50));
                    self.push(peer, round, "added_p99_32", added(|f| f.latency_ms.p99));
                }
                (32, _) => {
                    both("rate_32", |f| f.rate);
                    self.push(peer, round, "share_32", through.rate / direct.rate);
                    self.push(peer, round, "cpu", cpu_us);
                }
                _ => {
                    both("rate_256", |f| f.rate);
                    self.push(peer, round, "share_256", through.rate / direct.rate);
                }
            }
            self.cells.push(Raw {
                peer: peer.name(),
                round,
                cell,
                direct,
                through,
            });
        }
        gateway.job = plain;
        self.push(peer, round, "rss_peak", gateway.tree.peak_mb());
        Ok(())
    }
}
