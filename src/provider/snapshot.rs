//! What a provider actor publishes: everything it knows, copied after each change.
//!
//! The router reads it without asking anybody, and a restarted actor begins with it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::learning::{Latency, QualityTable};
use crate::resilience::{Breaker, BreakerState, Cooldown};

/// The published state of one deployment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Whether calls go through.
    pub breaker: Breaker,
    /// Whether the upstream asked for a pause.
    pub cooldown: Cooldown,
    /// Why the operator must act before it serves again: a refused credential.
    pub disabled: Option<Arc<str>>,
    /// How fast it is.
    pub latency: Latency,
    /// How good it is, per task kind.
    pub quality: QualityTable,
    /// What became of its calls.
    pub calls: Calls,
    /// The last failure in words.
    pub last_error: Option<Arc<str>>,
}

/// Counts since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Answered.
    pub ok: u64,
    /// Failed by the upstream's fault.
    pub failed: u64,
    /// Refused by a rate limit.
    pub rate_limited: u64,
    /// Ended without evidence: cancelled, or the caller's own fault.
    pub neutral: u64,
}

/// Whether a deployment can be asked now.
#[derive(Clone, Debug, PartialEq)]
pub enum Health {
    /// Yes.
    Ready,
    /// Its breaker is half-open and a probe may go.
    Probing,
    /// Not before some time has passed.
    Resting {
        /// In words, for the plan.
        why: String,
        /// How long.
        rest: Duration,
    },
    /// Not before the operator acts.
    Disabled(Arc<str>),
}

impl Snapshot {
    /// Nothing known yet.
    pub fn new() -> Self {
        Self {
            breaker: Breaker::new(),
            cooldown: Cooldown::default(),
            disabled: None,
            latency: Latency::default(),
            quality: QualityTable::default(),
            calls: Calls::default(),
            last_error: None,
        }
    }

    /// Whether it can be asked at `now`.
    pub fn health(&self, now: Duration) -> Health {
        if let Some(why) = &self.disabled {
            return Health::Disabled(Arc::clone(why));
        }
        let rest = self.cooldown.remaining(now);
        if !rest.is_zero() {
            return Health::Resting {
                why: format!("cooling down for {:.1} s", rest.as_secs_f64()),
                rest,
            };
        }
        match self.breaker.state(now) {
            BreakerState::Closed => Health::Ready,
            BreakerState::HalfOpen => Health::Probing,
            BreakerState::Open => {
                let rest = self.breaker.rest(now);
                Health::Resting {
                    why: format!("breaker open for {:.1} s", rest.as_secs_f64()),
                    rest,
                }
            }
        }
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new()
    }
}
