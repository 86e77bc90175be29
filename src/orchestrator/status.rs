//! What is going on, for people and scripts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Inner;
use crate::dispatcher::Occupancy;
use crate::id::DeploymentId;
use crate::learning::latency::Decayed;
use crate::learning::{Estimate, Prior};
use crate::ledger;
use crate::provider::{Calls, Cell, Health, Price};
use crate::supervisor::ChildStatus;

/// The state of everything, at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// This crate's version.
    pub version: &'static str,
    /// Since the start.
    pub uptime_seconds: f64,
    /// Whether queries are accepted.
    pub ready: bool,
    /// Who is in and who waits.
    pub admission: Occupancy,
    /// Every actor of the tree.
    pub actors: Vec<ChildStatus>,
    /// Every deployment, in configured order.
    pub deployments: Vec<DeploymentStatus>,
    /// Aliases and their candidates.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Ensembles and their members.
    pub ensembles: BTreeMap<String, Vec<String>>,
    /// The ledger.
    pub ledger: ledger::Health,
}

/// One deployment.
#[derive(Clone, Debug, Serialize)]
pub struct DeploymentStatus {
    /// `provider/model`.
    pub id: DeploymentId,
    /// `ready`, `probing`, `resting` or `disabled`.
    pub state: &'static str,
    /// Why it rests or is disabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// `closed`, `half-open` or `open`.
    pub breaker: &'static str,
    /// Half-open probes under way.
    pub probes_out: usize,
    /// Calls under way.
    pub in_flight: u32,
    /// What became of its calls.
    pub calls: Calls,
    /// Share of failures in the breaker's window.
    pub failure_rate: f64,
    /// Seconds to the first semantic delta.
    pub ttft: Spread,
    /// Seconds per output token.
    pub per_token: Spread,
    /// Seconds to the whole answer.
    pub total: Spread,
    /// Learned quality over all tasks.
    pub quality: Quality,
    /// The last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What it costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

/// A learned time in seconds; empty while nothing is learned.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Spread {
    pub mean: Option<f64>,
    pub p50: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
    /// How many recent samples stand behind it.
    pub evidence: f64,
}

impl From<&Decayed> for Spread {
    fn from(learned: &Decayed) -> Self {
        Self {
            mean: learned.mean(),
            p50: learned.quantile(0.5),
            p95: learned.quantile(0.95),
            p99: learned.quantile(0.99),
            evidence: learned.evidence(),
        }
    }
}

/// A learned quality, 0..=1, with its 95 % interval.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Quality {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
    pub evidence: f64,
}

impl From<Estimate> for Quality {
    fn from(estimate: Estimate) -> Self {
        let Estimate {
            mean,
            low,
            high,
            evidence,
        } = estimate;
        Self {
            mean,
            low,
            high,
            evidence,
        }
    }
}

pub(super) fn of(inner: &Inner) -> Status {
    let catalogue = inner.catalogue.load();
    let aliases = catalogue
        .aliases
        .iter()
        .map(|(name, alias)| (name.clone(), alias.candidates.clone()));
    let ensembles = catalogue
        .ensembles
        .iter()
        .map(|(name, ensemble)| (name.clone(), ensemble.members.clone()));
    Status {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: inner.started.elapsed().as_secs_f64(),
        ready: !inner.closing.load(std::sync::atomic::Ordering::Relaxed)
            && !catalogue.cells.is_empty(),
        admission: inner.dispatcher.occupancy(),
        actors: inner.tree.children(),
        deployments: catalogue
            .cells
            .iter()
            .map(|cell| deployment(cell))
            .collect(),
        aliases: aliases.collect(),
        ensembles: ensembles.collect(),
        ledger: inner.ledger.health(),
    }
}

fn deployment(cell: &Cell) -> DeploymentStatus {
    let deployment = cell.deployment.load();
    let snapshot = cell.snapshot.load();
    let now = cell.now();
    let (state, why) = match snapshot.health(now) {
        Health::Ready => ("ready", None),
        Health::Probing => ("probing", None),
        Health::Resting { why, .. } => ("resting", Some(why)),
        Health::Disabled(why) => ("disabled", Some(why.to_string())),
    };
    let prior = Prior::new(deployment.quality, crate::router::PRIOR_STRENGTH);
    DeploymentStatus {
        id: deployment.id.clone(),
        state,
        why,
        breaker: snapshot.breaker.state(now).as_str(),
        probes_out: snapshot.breaker.probes_out(),
        in_flight: cell.in_flight(),
        calls: snapshot.calls,
        failure_rate: snapshot.breaker.failure_rate(now),
        ttft: (&snapshot.latency.ttft).into(),
        per_token: (&snapshot.latency.per_token).into(),
        total: (&snapshot.latency.total).into(),
        quality: snapshot.quality.estimate_from(prior, None).into(),
        last_error: snapshot.last_error.as_deref().map(str::to_owned),
        price: deployment.price,
    }
}
