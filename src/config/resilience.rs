//! `[resilience]` and `[resilience.breaker]`: what is done about failure.

use std::time::Duration;

use crate::provider::deployment::Timeouts;
use crate::resilience::BreakerConfig;
use crate::resilience::breaker::MAX_PROBES;

use super::section::Section;

/// The longest of most durations here.
const HOUR: Duration = Duration::from_secs(3600);

/// What is done about failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Resilience {
    /// `[resilience.breaker]`: when a deployment is left alone.
    pub breaker: BreakerConfig,
    /// Further rounds among the candidates whose failure may pass, 0 to 10. Default 3.
    pub retries: u32,
    /// The longest pause before the first retry, doubled for each further one, 1 ms to 1 min. Default
    /// 500 ms.
    pub backoff_base: Duration,
    /// The longest pause before any retry, 1 ms to 10 min. Default 20 s.
    pub backoff_cap: Duration,
    /// Retries as a share of calls, 0 to 1. Default 0.2.
    pub retry_budget: f64,
    /// Whether a slow first delta starts the same query elsewhere. Default `false`.
    pub hedge: bool,
    /// Hedges as a share of calls, 0 to 1. Default 0.05.
    pub hedge_budget: f64,
    /// To the established connection, 1 ms to 1 h. Default 5 s.
    pub connect_timeout: Duration,
    /// Whether calls in flight are limited by what a deployment was found to bear. Default `true`.
    pub adaptive_limit: bool,
    /// To the first semantic delta of a streamed answer, 1 ms to 1 h. Default 30 s.
    pub first_token_timeout: Duration,
    /// To an answer that is not streamed, 1 ms to 1 h. Default 120 s.
    pub answer_timeout: Duration,
    /// Between two deltas, 1 ms to 1 h. Default 60 s.
    pub idle_timeout: Duration,
}

impl Default for Resilience {
    fn default() -> Self {
        let timeouts = Timeouts::default();
        Self {
            breaker: BreakerConfig::default(),
            retries: 3,
            backoff_base: Duration::from_millis(500),
            backoff_cap: Duration::from_secs(20),
            retry_budget: 0.2,
            hedge: false,
            hedge_budget: 0.05,
            connect_timeout: timeouts.connect,
            adaptive_limit: true,
            first_token_timeout: timeouts.first_token,
            answer_timeout: timeouts.answer,
            idle_timeout: timeouts.idle,
        }
    }
}

impl Resilience {
    /// How long a provider may be silent that says nothing of its own.
    pub fn timeouts(&self) -> Timeouts {
        Timeouts {
            connect: self.connect_timeout,
            first_token: self.first_token_timeout,
            answer: self.answer_timeout,
            idle: self.idle_timeout,
        }
    }

    pub(super) fn read(root: &mut Section<'_>) -> Self {
        let defaults = Self::default();
        root.table("resilience", |section| {
            let millisecond = Duration::from_millis(1);
            let timeouts = read_timeouts(section, defaults.timeouts());
            let resilience = Self {
                breaker: section.table("breaker", breaker),
                retries: section
                    .integer("retries", 0..=10)
                    .unwrap_or(defaults.retries),
                backoff_base: section
                    .duration("backoff_base", millisecond..=Duration::from_secs(60))
                    .unwrap_or(defaults.backoff_base),
                backoff_cap: section
                    .duration("backoff_cap", millisecond..=Duration::from_secs(600))
                    .unwrap_or(defaults.backoff_cap),
                retry_budget: section
                    .float("retry_budget", 0.0..=1.0)
                    .unwrap_or(defaults.retry_budget),
                hedge: section.flag("hedge").unwrap_or(defaults.hedge),
                hedge_budget: section
                    .float("hedge_budget", 0.0..=1.0)
                    .unwrap_or(defaults.hedge_budget),
                connect_timeout: timeouts.connect,
                adaptive_limit: section
                    .flag("adaptive_limit")
                    .unwrap_or(defaults.adaptive_limit),
                first_token_timeout: timeouts.first_token,
                answer_timeout: timeouts.answer,
                idle_timeout: timeouts.idle,
            };
            section.ordered(
                ("backoff_base", resilience.backoff_base),
                ("backoff_cap", resilience.backoff_cap),
            );
            resilience
        })
    }
}

/// The timeouts, which providers may set for themselves under the same names.
pub(super) fn read_timeouts(section: &mut Section<'_>, defaults: Timeouts) -> Timeouts {
    let range = Duration::from_millis(1)..=HOUR;
    Timeouts {
        connect: section
            .duration("connect_timeout", range.clone())
            .unwrap_or(defaults.connect),
        first_token: section
            .duration("first_token_timeout", range.clone())
            .unwrap_or(defaults.first_token),
        answer: section
            .duration("answer_timeout", range.clone())
            .unwrap_or(defaults.answer),
        idle: section
            .duration("idle_timeout", range)
            .unwrap_or(defaults.idle),
    }
}

fn breaker(section: &mut Section<'_>) -> BreakerConfig {
    let defaults = BreakerConfig::default();
    let hundredth = Duration::from_millis(10);
    let breaker = BreakerConfig {
        window: section
            .duration("window", 10 * hundredth..=HOUR)
            .unwrap_or(defaults.window),
        min_calls: section
            .integer("min_calls", 1..=10_000)
            .unwrap_or(defaults.min_calls),
        failure_ratio: section
            .float("failure_ratio", 0.01..=1.0)
            .unwrap_or(defaults.failure_ratio),
        open_for: section
            .duration("open_for", hundredth..=HOUR)
            .unwrap_or(defaults.open_for),
        open_max: section
            .duration("open_max", hundredth..=24 * HOUR)
            .unwrap_or(defaults.open_max),
        jitter: section
            .float("jitter", 0.0..=1.0)
            .unwrap_or(defaults.jitter),
        probes: section
            .integer("probes", 1..=MAX_PROBES)
            .unwrap_or(defaults.probes),
        probe_deadline: section
            .duration("probe_deadline", hundredth..=HOUR)
            .unwrap_or(defaults.probe_deadline),
    };
    section.ordered(
        ("open_for", breaker.open_for),
        ("open_max", breaker.open_max),
    );
    breaker
}
