//! One call to one deployment, up to its first semantic delta.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use super::contained::Contained;
use super::live::{self, Live};
use crate::answer::{Answer, Delta, Deltas};
use crate::error::{Error, ErrorKind, Result};
use crate::learning::Latency;
use crate::provider::{Call, Cell, Guard, Outcome, Report, Timeouts, Want};
use crate::query::Query;

/// An answer that has begun.
#[allow(
    clippy::large_enum_variant,
    reason = "moved a few times a query; a box would cost more"
)]
pub enum Committed {
    /// All of it.
    Whole(Answer),
    /// Its deltas; the first is semantic or follows at once.
    Stream(Deltas),
}

impl Committed {
    /// As a stream; a whole answer becomes one delta a choice.
    pub fn into_deltas(self) -> Deltas {
        match self {
            Self::Whole(answer) => live::replay(answer),
            Self::Stream(deltas) => deltas,
        }
    }
}

/// What is known of a call when its first phase ends.
#[allow(
    clippy::large_enum_variant,
    reason = "moved a few times a query; a box would cost more"
)]
enum First {
    Whole(Answer),
    Stream(Vec<Delta>, Contained<Deltas>),
}

/// Learned latencies count as known from this many samples on.
const EVIDENCE: f64 = 20.0;
/// Times the learned p99 that a first delta may take.
const PATIENCE: f64 = 3.0;
/// Nobody is given up sooner than this: streamed, and whole, where the length of the answer counts too.
const IMPATIENT: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];
/// An attempt cut by the query's own deadline counts against the deployment from this silence on; otherwise short
/// deadlines would hide a deployment that hangs. Not from less: a deadline is whatever one caller likes.
const SUSPICIOUS: Duration = Duration::from_secs(5);

/// What an upstream may send before it says anything.
const LONGEST_OPENING: usize = 1 << 20;

/// How long to wait for the first sign of an answer. The `last` to be asked is given more time: nobody else would be
/// faster, and an answer may be longer, or thought about for longer, than any before.
pub(super) fn patience(
    timeouts: &Timeouts,
    latency: &Latency,
    stream: bool,
    last: bool,
) -> Duration {
    let (learned, floor, most) = if stream {
        (&latency.ttft, IMPATIENT[0], timeouts.first_token)
    } else {
        (&latency.total, IMPATIENT[1], timeouts.answer)
    };
    let p99 = learned.quantile(0.99);
    match p99.filter(|_| learned.evidence() >= EVIDENCE) {
        _ if last && !stream => timeouts.answer,
        None if last => timeouts.answer.max(most),
        Some(p99) => Duration::from_secs_f64(PATIENCE * p99).clamp(floor.min(most), most),
        None => most,
    }
}

/// After how long a silence a call that the query's own deadline cuts counts against the deployment.
fn suspicious(patience: Duration, latency: &Latency) -> Duration {
    if latency.ttft.evidence() >= EVIDENCE || latency.total.evidence() >= EVIDENCE {
        SUSPICIOUS.max(patience / 2)
    } else {
        SUSPICIOUS
    }
}

/// Asks `cell` once. Whole answers are complete when this returns unless `stream` is set.
pub(super) async fn attempt(
    cell: &Arc<Cell>,
    query: &Arc<Query>,
    stream: bool,
    want: Want,
    last: bool,
    deadline: Instant,
) -> Result<Committed> {
    let deployment = cell.deployment.load_full();
    let span = tracing::info_span!(
        "attempt",
        gen_ai.operation.name = "chat",
        gen_ai.provider.name = %deployment.vendor,
        gen_ai.request.model = %deployment.model,
        quorate.deployment = %deployment.id,
        gen_ai.usage.input_tokens = tracing::field::Empty,
        gen_ai.usage.output_tokens = tracing::field::Empty,
        error.type = tracing::field::Empty,
    );
    let entered = span.clone();
    async move {
        let tokens = query
            .estimated_input_tokens()
            .saturating_add(query.params.max_tokens.unwrap_or(EXPECTED_OUTPUT));
        let mut guard = cell.admit(query, tokens, want, deadline).await?;
        let (patience, suspicious) = {
            let snapshot = cell.snapshot.load();
            let latency = &snapshot.latency;
            let patience = patience(&deployment.timeouts, latency, stream, last);
            (patience, suspicious(patience, latency))
        };
        let started = Instant::now();
        let call = Call {
            query: Arc::clone(query),
            model: deployment.model.as_str().into(),
            stream,
            deadline,
        };
        guard.listen(stream);
        let first = first_sign(cell, call, started + patience, deadline);
        match first.await {
            Ok(first) => {
                guard.heard(true);
                commit(
                    first,
                    guard,
                    started,
                    stream,
                    deployment.timeouts.idle,
                    deadline,
                    entered,
                )
                .await
            }
            Err(error) => Err(failed(guard, error, started.elapsed(), suspicious)),
        }
    }
    .instrument(span)
    .await
}

/// Output tokens assumed where the caller set no limit.
const EXPECTED_OUTPUT: u32 = 512;

/// Makes the call and waits for a whole answer or a semantic delta. A panic becomes an error.
async fn first_sign(
    cell: &Cell,
    call: Call,
    patience: Instant,
    deadline: Instant,
) -> Result<First> {
    let provider = Arc::clone(&cell.provider.load());
    let work = AssertUnwindSafe(async move {
        match Contained::new(provider.call(call)).await? {
            Outcome::Whole(answer) => Ok(First::Whole(answer)),
            Outcome::Stream(deltas) => {
                let mut deltas = Contained::new(deltas);
                let mut opening = Vec::new();
                let mut size = 0;
                loop {
                    match deltas.next().await {
                        None => return Err(live::truncated()),
                        Some(Err(error)) => return Err(error),
                        Some(Ok(delta)) => {
                            let semantic = delta.is_semantic();
                            size += delta.weight();
                            if size > LONGEST_OPENING && !semantic {
                                let message = "the upstream sends much and says nothing";
                                return Err(Error::new(ErrorKind::Malformed, message));
                            }
                            opening.push(delta);
                            if semantic {
                                return Ok(First::Stream(opening, deltas));
                            }
                        }
                    }
                }
            }
        }
    })
    .catch_unwind();
    match timeout_at(patience.min(deadline), work).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(panicked("provider", &*panic)),
        Err(_) if patience < deadline => Err(Error::new(
            ErrorKind::Timeout,
            "the upstream did not begin to answer in time",
        )),
        Err(_) => Err(Error::deadline("waiting for the upstream")),
    }
}

/// Reports a failed first phase and hands the error on.
fn failed(mut guard: Guard, error: Error, took: Duration, suspicious: Duration) -> Error {
    let report = match error.kind() {
        ErrorKind::Deadline if took >= suspicious => Report::Failure(Error::new(
            ErrorKind::Timeout,
            "silent until the query's deadline",
        )),
        ErrorKind::Cancelled => Report::Neutral,
        _ => Report::Failure(error.clone()),
    };
    tracing::Span::current().record("error.type", error.kind().name());
    tracing::info!(%error, took_ms = took.as_millis() as u64, "attempt failed");
    guard.report(report);
    error
}

/// Turns the first sign into an answer that has begun.
async fn commit(
    first: First,
    mut guard: Guard,
    started: Instant,
    stream: bool,
    idle: Duration,
    deadline: Instant,
    span: tracing::Span,
) -> Result<Committed> {
    match first {
        First::Whole(answer) => {
            let fault = if answer.choices.is_empty() {
                Some(Error::new(
                    ErrorKind::Malformed,
                    "the upstream's answer has no choices",
                ))
            } else if answer.choices.iter().any(|choice| choice.finish.is_none()) {
                Some(live::truncated())
            } else {
                None
            };
            if let Some(error) = fault {
                guard.report(Report::Failure(error.clone()));
                return Err(error);
            }
            live::record_usage(&span, answer.usage);
            guard.report(Report::Success {
                ttft: None,
                total: started.elapsed(),
                usage: answer.usage,
            });
            Ok(Committed::Whole(answer))
        }
        First::Stream(opening, rest) => {
            let live = Live::new(opening, rest, guard, started, idle, deadline, span).boxed();
            if stream {
                return Ok(Committed::Stream(live));
            }
            live::collect(live).await.map(Committed::Whole)
        }
    }
}

/// A panic of `who` as an error; its message is ours to log, not the caller's to read.
pub(crate) fn panicked(who: &str, panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("?");
    tracing::error!(who, panic = text, "panicked");
    Error::new(ErrorKind::Internal, format!("the {who} panicked"))
}
