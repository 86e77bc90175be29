//! Pure automata that keep a failing provider away from users.
//!
//! - [`Breaker`]: stops calling what keeps failing, and probes whether it is back.
//! - [`Cooldown`]: heeds a provider that says "too fast"; [`RateLimit`] avoids being told so.
//! - [`Backoff`] says how long to wait before a retry, [`Budget`] whether a retry or hedge is affordable.
//! - [`Aimd`]: how many calls at once a provider bears, where it does not say so.
//! - [`HedgeConfig`]: when a second deployment is asked because the first is slow to begin.
//! - [`Deadline`]: when an answer is worth nothing any more.
//!
//! None of them knows a clock, a random source, an actor or any I/O. Time comes in as `now`, a
//! monotonic [`Duration`] since an epoch of the caller's choice, the same for all calls; jitter comes
//! in as a uniform draw from 0 to 1. All states are `Copy`, so that an owner can publish them whole.

pub mod aimd;
pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod cooldown;
pub mod deadline;
pub mod hedge;
pub mod rate_limit;
mod window;

use std::time::Duration;

pub use aimd::{Aimd, Signal};
pub use backoff::Backoff;
pub use breaker::{
    Breaker, BreakerConfig, BreakerState, Rejected, Ticket, Transition, TripReason, Verdict,
};
pub use budget::Budget;
pub use cooldown::Cooldown;
pub use deadline::Deadline;
pub use hedge::HedgeConfig;
pub use rate_limit::RateLimit;

/// A draw of jitter brought into 0 to 1; what is not a number counts as the middle.
fn unit(jitter: f64) -> f64 {
    if jitter.is_nan() {
        0.5
    } else {
        jitter.clamp(0.0, 1.0)
    }
}

/// `duration` times a factor of at least 0. Saturates where `Duration::mul_f64` would panic.
fn scale(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

/// `base` doubled `times` times, at most `cap`.
fn doubled(base: Duration, times: u32, cap: Duration) -> Duration {
    base.saturating_mul(2_u32.saturating_pow(times)).min(cap)
}
