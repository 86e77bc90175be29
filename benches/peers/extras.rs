//! What only Quorate has: an ensemble, ten thousand idle streams, and what it says of its own overhead.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cells::{Results, pair};
use crate::gateways::Peer;
use crate::load::Job;
use crate::mocks::Mocks;
use crate::process::descriptor_limit;
use crate::{Result, daemon};

const ENSEMBLE: &str = "[ensembles.three]\nmembers = [\"a/mock-1\", \"b/mock-1\", \"c/mock-1\"]\n\
    merge = \"plurality\"\nquorum = 3\n";
/// Streams that say nothing must not be taken for dead.
const PATIENT: &str = "[resilience]\nidle_timeout = \"1h\"\nfirst_token_timeout = \"1h\"\n";
const STREAMS: usize = 10_000;

impl Results {
    /// Needs three mocks.
    pub async fn extras(
        &mut self,
        round: usize,
        mocks: &Mocks,
        dir: &Path,
        during: Duration,
        tick: impl Fn(&str),
    ) -> Result<()> {
        tick("ensemble of three");
        self.ensemble(round, mocks, &dir.join("ensemble"), during)
            .await?;
        tick("what it says of its overhead");
        self.overhead(round, mocks, &dir.join("overhead"), during)
            .await?;
        tick("idle streams");
        self.idle_streams(round, mocks, &dir.join("idle")).await
    }

    /// Members take 20, 25 and 30 ms; all three are waited for.
    async fn ensemble(
        &mut self,
        round: usize,
        mocks: &Mocks,
        dir: &Path,
        during: Duration,
    ) -> Result<()> {
        let upstreams: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .zip(mocks.addrs().iter().copied())
            .collect();
        mocks.behave_all(&json!({})).await?;
        let (mut gateway, addr) =
            daemon::start(dir, &upstreams, &format!("{}{ENSEMBLE}", daemon::OPEN)).await?;
        for (index, delay) in [20, 25, 30].into_iter().enumerate() {
            mocks.behave(index, &json!({"delay_ms": delay})).await?;
        }
        gateway.job = Job::new(addr, "ensemble/three");
        let pair = pair(&gateway, &Job::new(mocks.addr(2), "mock-1"), 1, during).await;
        let added = pair.through.latency_ms.p50 - pair.direct.latency_ms.p50;
        self.push(Peer::Quorate, round, "ensemble", added);
        Ok(())
    }

    async fn overhead(
        &mut self,
        round: usize,
        mocks: &Mocks,
        dir: &Path,
        during: Duration,
    ) -> Result<()> {
        mocks.behave(0, &json!({"delay_ms": 5})).await?;
        let (gateway, addr) = daemon::start(dir, &[("up", mocks.addr(0))], daemon::OPEN).await?;
        let said = async |part: &str| {
            daemon::metric(addr, &format!("quorate_overhead_seconds_{part}"))
                .await
                .ok_or("no metrics")
        };
        let before = (said("sum").await?, said("count").await?);
        let pair = pair(&gateway, &Job::new(mocks.addr(0), "mock-1"), 1, during).await;
        let after = (said("sum").await?, said("count").await?);
        let inside = (after.0 - before.0) / (after.1 - before.1) * 1e6;
        let outside = (pair.through.latency_ms.mean - pair.direct.latency_ms.mean) * 1e3;
        self.push(Peer::Quorate, round, "overhead_said", inside);
        self.push(Peer::Quorate, round, "overhead_seen", outside);
        self.push(Peer::Quorate, round, "overhead_ratio", inside / outside);
        let median = (pair.through.latency_ms.p50 - pair.direct.latency_ms.p50) * 1e3;
        self.push(Peer::Quorate, round, "overhead_median", median);
        Ok(())
    }

    /// Streams that have begun and then say nothing.
    async fn idle_streams(&mut self, round: usize, mocks: &Mocks, dir: &Path) -> Result<()> {
        // The daemon has two descriptors a stream, we and the upstream one.
        let limit = descriptor_limit();
        let streams = STREAMS.min(limit.saturating_sub(200) / 2);
        if streams < STREAMS && round == 1 {
            anstream::eprintln!(
                "only {streams} idle streams instead of {STREAMS}: the limit of descriptors is {limit} and {} are \
                 needed (ulimit -n)",
                2 * STREAMS + 200
            );
        }
        let silent = json!({"fault": {"stall_after": 1}});
        mocks.behave(0, &json!({})).await?;
        let (gateway, addr) = daemon::start(
            dir,
            &[("up", mocks.addr(0))],
            &format!("{}{PATIENT}", daemon::OPEN),
        )
        .await?;
        mocks.behave(0, &silent).await?;
        let before = gateway.tree.rss_mb();
        let places = Arc::new(Semaphore::new(64));
        let mut tasks = JoinSet::new();
        for _ in 0..streams {
            let places = Arc::clone(&places);
            tasks.spawn(async move {
                let _place = places.acquire().await;
                tokio::time::timeout(Duration::from_secs(20), open(addr))
                    .await
                    .ok()?
            });
        }
        let held: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let counted = mocks.stats(0).await.map_or(0, |stats| stats.in_flight);
        let after = gateway.tree.rss_mb();
        self.push(
            Peer::Quorate,
            round,
            "idle_streams",
            held.len().min(usize::try_from(counted)?) as f64,
        );
        self.push(
            Peer::Quorate,
            round,
            "idle_stream",
            (after - before) * 1000.0 / held.len() as f64,
        );
        drop(held);
        let begun = Instant::now();
        loop {
            let status = daemon::status(addr).await.unwrap_or_default();
            if status["admission"]["in_use"] == 0 {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(
                    format!("permits of streams that are gone: {}", status["admission"]).into(),
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A stream that has begun; it lives as long as both are held.
type Held = (http1::SendRequest<Full<Bytes>>, Incoming);

async fn open(addr: SocketAddr) -> Option<Held> {
    let tcp = TcpStream::connect(addr).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.ok()?;
    tokio::spawn(connection);
    let request = Job::new(addr, "up/mock-1").stream(true).request();
    let response = sender.send_request(request).await.ok()?;
    let mut body = (response.status() == 200).then(|| response.into_body())?;
    let mut read = Vec::new();
    while memchr::memmem::find(&read, b"\"content\":\"An").is_none() {
        read.extend_from_slice(body.frame().await?.ok()?.data_ref()?);
    }
    Some((sender, body))
}
