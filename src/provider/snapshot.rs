//! What a provider actor publishes: everything it knows, copied after each change.
//!
//! The router reads it without asking anybody, and a restarted actor begins with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::answer::Usage;
use crate::learning::aptitude::Aptitude;
use crate::learning::{Ability, Latency};
use crate::resilience::{Aimd, Breaker, BreakerState, Cooldown, Ticket};

/// The published state of one deployment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Whether calls go through.
    pub breaker: Breaker,
    /// Whether the upstream asked for a pause.
    pub cooldown: Cooldown,
    /// How many calls at once it was found to bear.
    pub aimd: Aimd,
    /// Why the operator must act before it serves again: a refused credential.
    pub disabled: Option<Arc<str>>,
    /// How fast it is.
    pub latency: Latency,
    /// Evidence on how good it is, per kind of task.
    pub ability: Arc<Ability>,
    /// Evidence on the forms of question it takes to.
    pub aptitude: Arc<Aptitude>,
    /// Where the evidence came from.
    pub sources: Arc<Sources>,
    /// How many tokens its calls read and write, and how many its provider had cached.
    pub tokens: Tokens,
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
            aimd: Aimd::default(),
            disabled: None,
            latency: Latency::default(),
            ability: Arc::default(),
            aptitude: Arc::default(),
            sources: Arc::default(),
            tokens: Tokens::default(),
            calls: Calls::default(),
            last_error: None,
        }
    }

    /// Leave to call it that needs no asking: nothing about its health stands in the way.
    pub(super) fn pass(&self, now: Duration) -> Option<Ticket> {
        let calm = self.disabled.is_none() && self.cooldown.remaining(now).is_zero();
        self.breaker.pass(now).filter(|_| calm)
    }

    /// The same with what another has learned: health and counts stay.
    pub fn with_learned(&self, learned: Self) -> Self {
        let Self {
            latency,
            ability,
            aptitude,
            sources,
            tokens,
            ..
        } = learned;
        Self {
            latency,
            ability,
            aptitude,
            sources,
            tokens,
            ..self.clone()
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

/// Sources of evidence that are told apart; what comes from others counts as `other`.
const MOST_SOURCES: usize = 32;

/// Judgements by where they came from: `user`, `check`, `agreement`, `judge`, or an import's name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sources(BTreeMap<String, Trace>);

/// What one source has said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Judgements.
    pub count: u64,
    /// Their weights, summed.
    pub weight: f64,
    /// Their scores times weights, summed.
    pub reward: f64,
}

impl Sources {
    /// One more judgement of a source.
    pub fn note(&mut self, source: &str, score: f64, weight: f64) {
        let known = self.0.len() < MOST_SOURCES || self.0.contains_key(source);
        let source = if known { source } else { "other" };
        let trace = self.0.entry(source.to_owned()).or_default();
        trace.count = trace.count.saturating_add(1);
        trace.weight += weight;
        trace.reward += weight * score;
    }

    /// Every source and what it has said.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Trace)> {
        self.0.iter().map(|(name, trace)| (name.as_str(), trace))
    }

    /// Whether this can have come from judgements.
    pub fn validate(&self) -> Result<(), String> {
        let sound = |trace: &Trace| {
            trace.weight.is_finite()
                && trace.reward.is_finite()
                && (0.0..=trace.weight * 1.000_001 + 1e-9).contains(&trace.reward)
        };
        if self.0.len() > MOST_SOURCES + 1 || !self.0.values().all(sound) {
            return Err("impossible sums of a source of evidence".into());
        }
        Ok(())
    }
}

/// Tokens of a deployment's calls, older ones counting less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tokens {
    calls: f64,
    input: f64,
    cached: f64,
    output: f64,
}

impl Tokens {
    /// A memory of about fifty calls.
    const KEEP: f64 = 0.98;

    /// One more call.
    pub fn observe(&mut self, usage: Usage) {
        let Usage {
            input,
            cached,
            output,
            ..
        } = usage;
        self.calls = self.calls * Self::KEEP + 1.0;
        self.input = self.input * Self::KEEP + f64::from(input);
        self.cached = self.cached * Self::KEEP + f64::from(cached.min(input));
        self.output = self.output * Self::KEEP + f64::from(output);
    }

    /// Output tokens of a call, on average; `None` before five calls.
    pub fn mean_output(&self) -> Option<f64> {
        (self.calls >= 4.5).then(|| self.output / self.calls)
    }

    /// The share of the input that was cached, 0..=1; 0 without evidence.
    pub fn cached_share(&self) -> f64 {
        if self.input > 0.0 {
            (self.cached / self.input).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// Whether this can have come from calls.
    pub fn validate(&self) -> Result<(), String> {
        let most = 0.0..=1e12;
        let sums = [self.input, self.cached, self.output];
        let sound = sums.iter().all(|sum| most.contains(sum)) && self.cached <= self.input;
        if sound && (0.0..=51.0).contains(&self.calls) {
            return Ok(());
        }
        Err("impossible sums of tokens".into())
    }
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new()
    }
}
