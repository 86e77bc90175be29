//! Every metric and span name, in one place.
//!
//! The library records through the `metrics` and `tracing` facades and installs no exporter: a host sees
//! these in its own, the daemon in its `/metrics`. No label holds a user, a prompt or any text without bound.
//!
//! Metrics of every query are looked up in the recorder once: install it before the orchestrator starts.
//!
//! | metric | kind | labels | meaning |
//! |---|---|---|---|
//! | `quorate_permits_in_use` | gauge | | queries admitted and not yet ended |
//! | `quorate_queue_depth` | gauge | `lane` | queries waiting for a permit |
//! | `quorate_queue_seconds` | histogram | `lane` | time waited for a permit |
//! | `quorate_queries_total` | counter | `lane`, `outcome` | queries ended; outcome `ok` or the error's kind |
//! | `quorate_overhead_seconds` | histogram | | time in Quorate until the answer, or its first delta: waiting for a permit and for upstreams excluded |
//! | `quorate_breaker_state` | gauge | `deployment` | 0 closed, 1 half-open, 2 open |
//! | `quorate_breaker_transitions_total` | counter | `deployment`, `to` | changes of the breaker |
//! | `quorate_attempts_total` | counter | `deployment`, `outcome` | calls ended; outcome `ok`, `cancelled` or the error's kind |
//! | `quorate_in_flight` | gauge | `deployment` | calls under way |
//! | `quorate_retries_total` | counter | | attempts beyond the first round |
//! | `quorate_hedges_total` | counter | | second calls sent because the first was slow |
//! | `quorate_cost_dollars` | gauge, only grows | `deployment` | cost where prices are configured |
//! | `quorate_ensemble_agreement` | histogram | `merge` | agreement of ensembles |
//! | `quorate_quality_changes_total` | counter | `deployment` | times a deployment's answers were noticed to have become worse |
//! | `quorate_fits_total` | counter | `outcome` | models of votes fitted anew, or not |
//! | `quorate_actor_restarts_total` | counter | `actor` | restarts by supervisors |
//! | `quorate_actor_mailbox_seconds` | gauge | `actor` | age of the last heartbeat when the actor came to it |
//! | `quorate_ledger_pending` | gauge | | decision rows not yet written |
//! | `quorate_ledger_dropped_total` | counter | | decision rows given up because the disk did not keep up |
//! | `quorate_ledger_errors_total` | counter | | failed writes |
//! | `quorate_ledger_healthy` | gauge | | 1 if the last write succeeded, and to the file that was asked for |
//! | `quorate_connections` | gauge | `listener` | open connections |
//! | `gen_ai.client.operation.duration` | histogram | `gen_ai.provider.name`, `gen_ai.request.model`, `deployment` | seconds per successful call, as OpenTelemetry names it |
//! | `gen_ai.client.token.usage` | histogram | the same, and `gen_ai.token.type` | tokens per call |
//!
//! Spans: `query` (fields `quorate.decision`, `gen_ai.request.model`, `quorate.lane`) and, inside it,
//! `attempt` (`gen_ai.operation.name`, `gen_ai.provider.name`, `quorate.deployment`, `gen_ai.response.model`,
//! `gen_ai.usage.input_tokens`, `gen_ai.usage.output_tokens`, `error.type`).

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Label, Unit, counter, describe_counter, describe_gauge,
    describe_histogram, gauge, histogram,
};

use crate::answer::Usage;
use crate::error::ErrorKind;
use crate::provider::Deployment;
use crate::query::Lane;
use crate::resilience::BreakerState;

const PERMITS_IN_USE: &str = "quorate_permits_in_use";
const QUEUE_DEPTH: &str = "quorate_queue_depth";
const QUEUE_SECONDS: &str = "quorate_queue_seconds";
const QUERIES: &str = "quorate_queries_total";
const OVERHEAD_SECONDS: &str = "quorate_overhead_seconds";
const BREAKER_STATE: &str = "quorate_breaker_state";
const BREAKER_TRANSITIONS: &str = "quorate_breaker_transitions_total";
const ATTEMPTS: &str = "quorate_attempts_total";
const IN_FLIGHT: &str = "quorate_in_flight";
const RETRIES: &str = "quorate_retries_total";
const HEDGES: &str = "quorate_hedges_total";
const COST: &str = "quorate_cost_dollars";
const AGREEMENT: &str = "quorate_ensemble_agreement";
const QUALITY_CHANGES: &str = "quorate_quality_changes_total";
const FITS: &str = "quorate_fits_total";
const ACTOR_RESTARTS: &str = "quorate_actor_restarts_total";
const MAILBOX_SECONDS: &str = "quorate_actor_mailbox_seconds";
const LEDGER_PENDING: &str = "quorate_ledger_pending";
const LEDGER_DROPPED: &str = "quorate_ledger_dropped_total";
const LEDGER_ERRORS: &str = "quorate_ledger_errors_total";
const LEDGER_HEALTHY: &str = "quorate_ledger_healthy";
const CONNECTIONS: &str = "quorate_connections";
const OPERATION_SECONDS: &str = "gen_ai.client.operation.duration";
const TOKEN_USAGE: &str = "gen_ai.client.token.usage";

/// Histograms of seconds, and the bounds their buckets want: from 10 µs of overhead to ten minutes of answer.
pub const SECONDS_BUCKETS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
];

/// Bounds for histograms of tokens, as OpenTelemetry advises.
pub const TOKEN_BUCKETS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
];

/// Bounds for shares.
pub const SHARE_BUCKETS: &[f64] = &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

/// Name, unit-specific bounds: which histogram wants which buckets.
pub const BUCKETS: &[(&str, &[f64])] = &[
    (QUEUE_SECONDS, SECONDS_BUCKETS),
    (OVERHEAD_SECONDS, SECONDS_BUCKETS),
    (OPERATION_SECONDS, SECONDS_BUCKETS),
    (TOKEN_USAGE, TOKEN_BUCKETS),
    (AGREEMENT, SHARE_BUCKETS),
];

/// Tells the installed recorder what each metric means. The daemon calls it after installing its exporter.
pub fn describe() {
    describe_counter!(QUALITY_CHANGES, "times a deployment's answers became worse");
    describe_counter!(FITS, "models of votes fitted anew, by outcome");
    describe_gauge!(PERMITS_IN_USE, "queries admitted and not yet ended");
    describe_gauge!(QUEUE_DEPTH, "queries waiting for a permit");
    describe_histogram!(QUEUE_SECONDS, Unit::Seconds, "time waited for a permit");
    describe_counter!(QUERIES, "queries ended, by outcome");
    describe_histogram!(
        OVERHEAD_SECONDS,
        Unit::Seconds,
        "time in quorate, waiting for permits and upstreams excluded"
    );
    describe_gauge!(BREAKER_STATE, "0 closed, 1 half-open, 2 open");
    describe_counter!(BREAKER_TRANSITIONS, "changes of the breaker");
    describe_counter!(ATTEMPTS, "calls to deployments ended, by outcome");
    describe_gauge!(IN_FLIGHT, "calls under way");
    describe_counter!(RETRIES, "attempts beyond the first round");
    describe_counter!(HEDGES, "second calls sent because the first was slow");
    describe_gauge!(COST, "dollars spent, where prices are configured");
    describe_histogram!(
        AGREEMENT,
        "share of an ensemble's members behind its answer"
    );
    describe_counter!(ACTOR_RESTARTS, "restarts by supervisors");
    describe_gauge!(
        MAILBOX_SECONDS,
        Unit::Seconds,
        "age of the last heartbeat when the actor came to it"
    );
    describe_gauge!(LEDGER_PENDING, "decision rows not yet written");
    describe_counter!(LEDGER_DROPPED, "decision rows given up");
    describe_counter!(LEDGER_ERRORS, "failed writes of the ledger");
    describe_gauge!(LEDGER_HEALTHY, "1 if the ledger's last write succeeded");
    describe_gauge!(CONNECTIONS, "open connections");
    describe_histogram!(
        OPERATION_SECONDS,
        Unit::Seconds,
        "duration of successful calls"
    );
    describe_histogram!(TOKEN_USAGE, "tokens per call");
}

/// Admission's state after a change.
pub fn admission(in_use: usize, depths: [usize; 3]) {
    gauge!(PERMITS_IN_USE).set(in_use as f64);
    for (lane, depth) in Lane::ALL.into_iter().zip(depths) {
        gauge!(QUEUE_DEPTH, "lane" => lane.name()).set(depth as f64);
    }
}

/// Counters by outcome, each made at its first event: `ok`, or the error's kind.
#[derive(Default)]
struct Outcomes([OnceLock<Counter>; ErrorKind::COUNT + 1]);

impl Outcomes {
    fn count(&self, failed: Option<ErrorKind>, make: impl FnOnce(&'static str) -> Counter) {
        let at = failed.map_or(0, |kind| kind as usize + 1);
        if let Some(counter) = self.0.get(at) {
            let name = failed.map_or("ok", ErrorKind::name);
            counter.get_or_init(|| make(name)).increment(1);
        }
    }
}

/// The metrics of every query.
pub(crate) struct QueryMeters {
    ended: [Outcomes; Lane::ALL.len()],
    overhead: Histogram,
}

impl QueryMeters {
    pub fn new() -> Self {
        Self {
            ended: Default::default(),
            overhead: histogram!(OVERHEAD_SECONDS),
        }
    }

    /// A query ended: answered, or failed in this way.
    pub fn ended(&self, lane: Lane, failed: Option<ErrorKind>) {
        self.ended[lane as usize].count(
            failed,
            |outcome| counter!(QUERIES, "lane" => lane.name(), "outcome" => outcome),
        );
    }

    /// Our own time on the way to an answer's start.
    pub fn overhead(&self, time: Duration) {
        self.overhead.record(time.as_secs_f64());
    }
}

/// The metrics of every admission.
pub(crate) struct AdmissionMeters([Histogram; Lane::ALL.len()]);

impl AdmissionMeters {
    pub fn new() -> Self {
        Self(Lane::ALL.map(|lane| histogram!(QUEUE_SECONDS, "lane" => lane.name())))
    }

    /// A query was admitted after `waited`.
    pub fn admitted(&self, lane: Lane, waited: Duration) {
        self.0[lane as usize].record(waited.as_secs_f64());
    }
}

/// The metrics of every call to one deployment.
pub(crate) struct DeploymentMeters {
    id: String,
    in_flight: Gauge,
    attempts: Outcomes,
    seconds: Histogram,
    tokens: [Histogram; 2],
    /// Only of who has a price.
    cost: OnceLock<Gauge>,
}

impl DeploymentMeters {
    pub fn new(deployment: &Deployment) -> Self {
        let labels = [
            Label::new("gen_ai.provider.name", deployment.vendor.clone()),
            Label::new("gen_ai.request.model", deployment.model.clone()),
            Label::new("deployment", deployment.id.to_string()),
        ];
        let tokens = ["input", "output"].map(|kind| {
            let mut labels = labels.to_vec();
            labels.push(Label::new("gen_ai.token.type", kind));
            histogram!(TOKEN_USAGE, labels)
        });
        Self {
            id: deployment.id.to_string(),
            in_flight: gauge!(IN_FLIGHT, "deployment" => deployment.id.to_string()),
            attempts: Outcomes::default(),
            seconds: histogram!(OPERATION_SECONDS, labels.iter()),
            tokens,
            cost: OnceLock::new(),
        }
    }

    /// Calls under way.
    pub fn in_flight(&self, calls: u32) {
        self.in_flight.set(calls);
    }

    /// A call ended: answered, or failed in this way.
    pub fn attempt_ended(&self, failed: Option<ErrorKind>) {
        self.attempts.count(
            failed,
            |outcome| counter!(ATTEMPTS, "deployment" => self.id.clone(), "outcome" => outcome),
        );
    }

    /// What a successful call took and used, and its dollars, where they are known.
    pub fn succeeded(&self, took: Duration, usage: Option<Usage>, cost: Option<f64>) {
        self.seconds.record(took.as_secs_f64());
        if let Some(usage) = usage {
            let [input, output] = &self.tokens;
            input.record(f64::from(usage.input));
            output.record(f64::from(usage.output));
        }
        if let Some(cost) = cost {
            // Counters of the facade are whole numbers, so this is a gauge that only grows.
            let gauge = || gauge!(COST, "deployment" => self.id.clone());
            self.cost.get_or_init(gauge).increment(cost);
        }
    }
}

/// A breaker is in `state`.
pub fn breaker_state(deployment: &str, state: BreakerState) {
    let value = match state {
        BreakerState::Closed => 0.0,
        BreakerState::HalfOpen => 1.0,
        BreakerState::Open => 2.0,
    };
    gauge!(BREAKER_STATE, "deployment" => deployment.to_owned()).set(value);
}

/// A breaker changed.
pub fn breaker_changed(deployment: &str, to: &'static str) {
    counter!(BREAKER_TRANSITIONS, "deployment" => deployment.to_owned(), "to" => to).increment(1);
}

/// One retry.
pub fn retried() {
    counter!(RETRIES).increment(1);
}

/// One hedge.
pub fn hedged() {
    counter!(HEDGES).increment(1);
}

/// An ensemble agreed to this share.
pub fn agreement(merge: &'static str, share: f64) {
    histogram!(AGREEMENT, "merge" => merge).record(share);
}

/// A supervisor restarted an actor.
pub fn actor_restarted(path: &str) {
    counter!(ACTOR_RESTARTS, "actor" => path.to_owned()).increment(1);
}

/// An actor came to a heartbeat of this age.
pub fn mailbox_delay(path: &str, age: Duration) {
    gauge!(MAILBOX_SECONDS, "actor" => path.to_owned()).set(age.as_secs_f64());
}

/// Rows that wait to be written.
pub fn ledger_pending(rows: usize) {
    gauge!(LEDGER_PENDING).set(rows as f64);
}

/// Rows were given up.
pub fn ledger_dropped(rows: u64) {
    counter!(LEDGER_DROPPED).increment(rows);
}

/// The ledger wrote, or could not; what it keeps in memory only is not `durable`.
pub fn ledger_wrote(written: bool, durable: bool) {
    gauge!(LEDGER_HEALTHY).set(if written && durable { 1.0 } else { 0.0 });
    if !written {
        counter!(LEDGER_ERRORS).increment(1);
    }
}

/// Open connections of a listener changed by `by`.
pub fn connections(listener: &'static str, by: f64) {
    gauge!(CONNECTIONS, "listener" => listener).increment(by);
}

/// A deployment's answers have become worse.
pub fn quality_changed(deployment: &str) {
    counter!(QUALITY_CHANGES, "deployment" => deployment.to_owned()).increment(1);
}

/// A model of votes was fitted, or could not be.
pub fn fitted(done: bool) {
    counter!(FITS, "outcome" => if done { "ok" } else { "failed" }).increment(1);
}
