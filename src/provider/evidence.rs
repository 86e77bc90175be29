//! What the end of a call says about its deployment. Pure.

use std::time::Duration;

use super::actor::Report;
use crate::error::{Error, ErrorKind};
use crate::learning::Latency;
use crate::resilience::Signal;

/// What a failure says about the deployment.
pub(super) enum Evidence {
    /// It is not well.
    Unwell,
    /// It is asked too much.
    Busy(Option<Duration>),
    /// It does not accept us.
    Refused,
    /// Nothing: the caller's own fault, or a limit of our own.
    None,
}

pub(super) fn evidence(error: &Error) -> Evidence {
    match error.kind() {
        ErrorKind::Upstream
        | ErrorKind::Timeout
        | ErrorKind::Connect
        | ErrorKind::Truncated
        | ErrorKind::Malformed
        | ErrorKind::Internal => Evidence::Unwell,
        ErrorKind::RateLimited => Evidence::Busy(error.retry_after()),
        // An account without credit stays so for longer than any Retry-After.
        ErrorKind::Quota => {
            Evidence::Busy(Some(error.retry_after().unwrap_or(Duration::from_secs(60))))
        }
        ErrorKind::Auth => Evidence::Refused,
        _ => Evidence::None,
    }
}

/// What the end of a call says about crowding.
pub(super) fn signal(report: &Report, latency: &Latency) -> Option<Signal> {
    match report {
        Report::Success { ttft, .. } => Some(Signal::Answered {
            ttft: ttft.map(|ttft| ttft.as_secs_f64()),
            usual: (latency.ttft.evidence() >= KNOWN)
                .then(|| latency.ttft.quantile(0.5))
                .flatten(),
        }),
        Report::Failure(error) => match error.kind() {
            ErrorKind::RateLimited if error.retry_after().is_none() => Some(Signal::Refused),
            ErrorKind::RateLimited => Some(Signal::Crowded),
            ErrorKind::Timeout => Some(Signal::Late),
            _ => None,
        },
        Report::Neutral => None,
    }
}

/// Samples from which on the usual time to a first token counts as known.
const KNOWN: f64 = 20.0;
