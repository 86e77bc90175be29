//! What is going on, for people and scripts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Inner;
use crate::dispatcher::Occupancy;
use crate::id::DeploymentId;
use crate::learning::experiment::Report as ExperimentReport;
use crate::learning::latency::Decayed;
use crate::learning::{Draw, draw};
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
    /// Ensembles, and what was learned of their votes.
    pub ensembles: BTreeMap<String, EnsembleStatus>,
    /// Experiments.
    pub experiments: BTreeMap<String, ExperimentReport>,
    /// What was learned as a whole.
    pub learned: LearnedStatus,
    /// The ledger.
    pub ledger: ledger::Health,
}

/// What was learned as a whole.
#[derive(Clone, Debug, Serialize)]
pub struct LearnedStatus {
    /// Digest of what routing reads of it.
    pub digest: String,
    /// Whether it is pinned: it serves, and nothing is learned.
    pub pinned: bool,
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

/// A learned quality, 0..=1, with its 95 % interval: read together with the evidence on all other deployments.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Quality {
    pub mean: f64,
    pub low: f64,
    pub high: f64,
    /// Judgements behind it, older ones counting less.
    pub evidence: f64,
    /// How often its answers were noticed to have become worse.
    pub changes: u32,
    /// Per source: how many judgements, their weight, and what they say on average.
    pub sources: BTreeMap<String, Source>,
}

/// What one source of evidence has said of a deployment.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Source {
    pub count: u64,
    pub weight: f64,
    pub mean: f64,
}

/// What was learned of an ensemble.
#[derive(Clone, Debug, Serialize)]
pub struct EnsembleStatus {
    /// Its members.
    pub members: Vec<String>,
    /// Rounds of votes in memory.
    pub rounds: usize,
    /// Rounds that its weights rest on, and of these how many with a known answer; none before the first fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learned: Option<(u64, u64)>,
    /// Digest of its weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What a right answer must be worth to meet its target, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuned_worth: Option<f64>,
}

pub(super) fn of(inner: &Inner) -> Status {
    let catalogue = inner.catalogue.load();
    let aliases = catalogue
        .aliases
        .iter()
        .map(|(name, alias)| (name.clone(), alias.candidates.clone()));
    let ensembles = catalogue.ensembles.iter().map(|(name, configured)| {
        let course = inner.learner.course(name);
        let course = course.as_ref();
        let ensemble = EnsembleStatus {
            members: configured.members.clone(),
            rounds: inner.learner.rounds(name),
            learned: course.map(|course| course.model.evidence()),
            state: course.map(|course| course.digest.clone()),
            tuned_worth: course.and_then(|course| course.tuned),
        };
        (name.clone(), ensemble)
    });
    let derived = catalogue.policy.derived(&catalogue.cells);
    let draws = draw(&derived.pool, None, None, 0);
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
            .enumerate()
            .map(|(at, cell)| deployment(cell, draws.get(at)))
            .collect(),
        aliases: aliases.collect(),
        ensembles: ensembles.collect(),
        experiments: inner.learner.experiments().reports(),
        learned: LearnedStatus {
            digest: derived.digest.clone(),
            pinned: inner.fleet.schooling.is_pinned(),
        },
        ledger: inner.ledger.health(),
    }
}

fn deployment(cell: &Cell, draw: Option<&Draw>) -> DeploymentStatus {
    let deployment = cell.deployment.load();
    let snapshot = cell.snapshot.load();
    let now = cell.now();
    let (state, why) = match snapshot.health(now) {
        Health::Ready => ("ready", None),
        Health::Probing => ("probing", None),
        Health::Resting { why, .. } => ("resting", Some(why)),
        Health::Disabled(why) => ("disabled", Some(why.to_string())),
    };
    let sources = snapshot.sources.iter().map(|(name, trace)| {
        let mean = if trace.weight > 0.0 {
            trace.reward / trace.weight
        } else {
            0.0
        };
        let source = Source {
            count: trace.count,
            weight: trace.weight,
            mean,
        };
        (name.to_owned(), source)
    });
    let quality = Quality {
        mean: draw.map_or(deployment.expected_quality(), |draw| draw.mean),
        low: draw.map_or(0.0, |draw| draw.low),
        high: draw.map_or(1.0, |draw| draw.high),
        evidence: snapshot.ability.evidence(),
        changes: snapshot.ability.changes(),
        sources: sources.collect(),
    };
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
        quality,
        last_error: snapshot.last_error.as_deref().map(str::to_owned),
        price: deployment.price,
    }
}
