//! Circuit breaker: closed, open, half-open.
//!
//! 1. Closed, every call passes. The breaker trips after `min_calls` failures in a row, whatever went well
//!    before; one that leaves no doubt (no connection, no sign of an answer) counts twice. It also trips
//!    when `failure_ratio` of the last `window` failed, once there are five times `min_calls` results.
//! 2. Open, nothing passes for `open_for`, doubled with each trip in a row up to `open_max`.
//! 3. Half-open, up to `probes` calls are out at once. The first success closes, the first failure
//!    trips again, and so does a probe that has said nothing by `probe_deadline`.
//!
//! Whom nobody else can serve need not wait for that: one such call a second makes it half-open before its time
//! ([`Breaker::admit_alone`]), so that a deployment that is well again is found out where it matters.
//!
//! The pattern is M. Nygard's (*Release It!*); ratio and minimum over a time window follow
//! resilience4j, the generation number that voids results from before a change of state follows
//! sony/gobreaker. A probe's slot cannot be lost: a neutral result returns it, silence trips.

use std::time::Duration;

use super::window::Window;
use super::{doubled, scale, unit};

/// More probes than this are never out at once, whatever the configuration says.
pub const MAX_PROBES: usize = 8;

/// The ratio means something from so many times `min_calls` results on: of ten calls to a deployment that fails three
/// in ten, five fail once in seven times.
const RATIO_CALLS: u32 = 5;

/// Who has nobody else to ask is let through so often while nothing else passes.
const EARLY: Duration = Duration::from_secs(1);

/// What a breaker is told by its operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerConfig {
    /// How far back results count. Default 60 s.
    pub window: Duration,
    /// Failures in a row that trip; five times as many results give the ratio a meaning. Default 10.
    pub min_calls: u32,
    /// Share of failures that trips, above 0 to 1. Default 0.5.
    pub failure_ratio: f64,
    /// How long the first trip in a row stays open. Default 30 s.
    pub open_for: Duration,
    /// The longest open time, jitter included. Default 5 min.
    pub open_max: Duration,
    /// By what share the open time is varied up and down, 0 to 1. Default 0.2.
    pub jitter: f64,
    /// Calls out at once while half-open, 1 to [`MAX_PROBES`]. Default 2.
    pub probes: usize,
    /// A probe that has not reported by then counts as failed. Default 30 s.
    pub probe_deadline: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            min_calls: 10,
            failure_ratio: 0.5,
            open_for: Duration::from_secs(30),
            open_max: Duration::from_secs(300),
            jitter: 0.2,
            probes: 2,
            probe_deadline: Duration::from_secs(30),
        }
    }
}

impl BreakerConfig {
    fn open_time(&self, earlier_trips: u32, jitter: f64) -> Duration {
        let swing = unit(self.jitter) * (2.0 * unit(jitter) - 1.0);
        let plain = doubled(self.open_for, earlier_trips, self.open_max);
        scale(plain, 1.0 + swing).min(self.open_max)
    }
}

/// What a breaker does with a call just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// A few probes pass.
    HalfOpen,
    /// Nothing passes.
    Open,
}

impl BreakerState {
    /// The state as status pages and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

/// Why a breaker opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TripReason {
    /// Too many failures within the window.
    FailureRatio,
    /// Too many failures in a row.
    InARow,
    /// A probe failed.
    ProbeFailed,
    /// A probe did not report in time.
    ProbeDeadline,
}

impl TripReason {
    /// The reason as logs and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FailureRatio => "failure_ratio",
            Self::InARow => "in_a_row",
            Self::ProbeFailed => "probe_failed",
            Self::ProbeDeadline => "probe_deadline",
        }
    }
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state left.
    pub from: BreakerState,
    /// The state entered.
    pub to: BreakerState,
    /// Set when `to` is open. Closing has one cause only, a probe's success, and so has half-opening, time.
    pub reason: Option<TripReason>,
}

/// What a call's end says about the deployment's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It answered.
    Success,
    /// It is to blame.
    Failure,
    /// It is to blame, and in a way that does not come and go: there was no connection, or no sign of an answer.
    Unreachable,
    /// Nothing is learned: cancelled, the caller's fault, a rate signal, or nobody reported.
    Neutral,
}

/// Leave to make one call. Hand it back to [`Breaker::record`] whatever happens to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    generation: u64,
    /// When the call began.
    began: Duration,
    probe: Option<u64>,
}

impl Ticket {
    /// Whether the call decides the fate of a half-open breaker.
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

/// The call may not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// While open, the rest of the open time. While half-open with all probes out, the time by which
    /// they are decided at the latest.
    pub retry_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Probe {
    serial: u64,
    due: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Closed {
        since: Duration,
    },
    Open {
        until: Duration,
    },
    HalfOpen {
        probes: [Option<Probe>; MAX_PROBES],
        /// The open time should a probe miss its deadline, fixed beforehand so that
        /// [`Breaker::state`] can tell the time of reopening without configuration or jitter.
        reopen_for: Duration,
    },
}

/// The automaton. One per deployment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    phase: Phase,
    /// Calls and failures.
    window: Window<12>,
    /// Failures in a row, and when the last of them was.
    row: (u32, Duration),
    /// When a call last succeeded. A failure of one that began before says nothing of the time since: calls that hang
    /// fail long after others have gone well.
    well: Duration,
    /// Counts changes of state.
    generation: u64,
    /// Counts probes, so that a ticket handed in twice does not free the slot of another.
    serial: u64,
    /// Trips in a row.
    trips: u32,
    /// When the next probe before its time may be.
    early: Duration,
    /// The last trip's draw: a missed deadline comes without one of its own.
    jitter: f64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

impl Breaker {
    /// A closed breaker that has seen nothing.
    pub fn new() -> Self {
        Self {
            phase: Phase::Closed {
                since: Duration::ZERO,
            },
            window: Window::new(Duration::ZERO),
            row: (0, Duration::ZERO),
            well: Duration::ZERO,
            generation: 0,
            serial: 0,
            trips: 0,
            early: Duration::ZERO,
            jitter: 0.5,
        }
    }

    /// The state at `now`, steps that time alone takes included.
    pub fn state(&self, now: Duration) -> BreakerState {
        match self.open_until(now) {
            None if matches!(self.phase, Phase::Closed { .. }) => BreakerState::Closed,
            Some(until) if now < until => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    /// How long it stays open from `now` on; zero if it is not open.
    pub fn rest(&self, now: Duration) -> Duration {
        self.open_until(now)
            .map_or(Duration::ZERO, |until| until.saturating_sub(now))
    }

    /// The end of the open time that `now` falls into or has passed, if there is one.
    fn open_until(&self, now: Duration) -> Option<Duration> {
        match self.phase {
            Phase::Closed { .. } => None,
            Phase::Open { until } => Some(until),
            Phase::HalfOpen { probes, reopen_for } => first_due(&probes)
                .filter(|due| *due <= now)
                .map(|due| due.saturating_add(reopen_for)),
        }
    }

    /// Takes the next step that time alone brings: open to half-open, or open again because a probe
    /// missed its deadline. [`admit`](Self::admit) takes these steps too, but does not report them;
    /// who wants to see them calls this first, until it returns `None`.
    pub fn advance(&mut self, config: &BreakerConfig, now: Duration) -> Option<Transition> {
        match self.phase {
            Phase::Open { until } if until <= now => {
                let half_open = Phase::HalfOpen {
                    probes: [None; MAX_PROBES],
                    reopen_for: config.open_time(self.trips, self.jitter),
                };
                Some(self.enter(half_open, None))
            }
            Phase::HalfOpen { probes, reopen_for } => {
                let due = first_due(&probes).filter(|due| *due <= now)?;
                Some(self.open(due, reopen_for, TripReason::ProbeDeadline))
            }
            _ => None,
        }
    }

    /// Leave that needs no asking: while it is closed every call passes, and none changes it.
    pub fn pass(&self, now: Duration) -> Option<Ticket> {
        matches!(self.phase, Phase::Closed { .. }).then_some(Ticket {
            generation: self.generation,
            began: now,
            probe: None,
        })
    }

    /// Ends the open time: something else has shown that the deployment may be back.
    pub fn hasten(&mut self, now: Duration) {
        if let Phase::Open { until } = &mut self.phase {
            *until = now.min(*until);
        }
    }

    /// Asks to make a call.
    pub fn admit(&mut self, config: &BreakerConfig, now: Duration) -> Result<Ticket, Rejected> {
        while self.advance(config, now).is_some() {}
        match &self.phase {
            Phase::Closed { .. } => Ok(Ticket {
                generation: self.generation,
                began: now,
                probe: None,
            }),
            Phase::Open { until } => Err(Rejected {
                retry_after: until.saturating_sub(now),
            }),
            Phase::HalfOpen { probes, .. } => {
                let retry_after = first_due(probes).unwrap_or(now).saturating_sub(now);
                let probe = self.probe(config.probes.max(1), config, now);
                probe.ok_or(Rejected { retry_after })
            }
        }
    }

    /// Asks to make a call that nobody else can make. Where [`admit`](Self::admit) refuses, one such call a second is
    /// a probe before its time. If it fails, the open time begins anew and is no longer for it.
    pub fn admit_alone(
        &mut self,
        config: &BreakerConfig,
        now: Duration,
    ) -> Result<Ticket, Rejected> {
        self.hasten_alone(now);
        let rejected = match self.admit(config, now) {
            Ok(ticket) => return Ok(ticket),
            Err(rejected) => rejected,
        };
        if now < self.early {
            return Err(Rejected {
                retry_after: rejected.retry_after.min(self.early - now),
            });
        }
        self.early = now.saturating_add(EARLY);
        self.probe(MAX_PROBES, config, now).ok_or(rejected)
    }

    /// The first half of [`admit_alone`](Self::admit_alone), so that an owner who then calls [`advance`](Self::advance)
    /// is told of the step: ends the open time before its time, once a second.
    pub fn hasten_alone(&mut self, now: Duration) {
        if matches!(self.phase, Phase::Open { until } if until > now) && now >= self.early {
            self.trips = self.trips.saturating_sub(1);
            self.early = now.saturating_add(EARLY);
            self.hasten(now);
        }
    }

    /// One more probe, if fewer than `most` are out.
    fn probe(&mut self, most: usize, config: &BreakerConfig, now: Duration) -> Option<Ticket> {
        let Phase::HalfOpen { probes, .. } = &mut self.phase else {
            return None;
        };
        let out = probes.iter().flatten().count();
        let free = probes.iter_mut().find(|slot| slot.is_none());
        let slot = free.filter(|_| out < most)?;
        self.serial += 1;
        *slot = Some(Probe {
            serial: self.serial,
            due: now.saturating_add(config.probe_deadline),
        });
        Some(Ticket {
            generation: self.generation,
            began: now,
            probe: Some(self.serial),
        })
    }

    /// Reports how a call ended; `jitter` is a uniform draw from 0 to 1, used if this trips.
    pub fn record(
        &mut self,
        config: &BreakerConfig,
        ticket: Ticket,
        verdict: Verdict,
        now: Duration,
        jitter: f64,
    ) -> Option<Transition> {
        // A step of time makes every ticket stale, this one too.
        if let Some(step) = self.advance(config, now) {
            return Some(step);
        }
        if ticket.generation != self.generation {
            return None;
        }
        match (&mut self.phase, ticket.probe) {
            (Phase::Closed { since }, None) => {
                if verdict == Verdict::Neutral {
                    return None;
                }
                if self.window.span() != config.window {
                    self.window = Window::new(config.window);
                }
                self.window
                    .add([1, u32::from(verdict != Verdict::Success)], now);
                let (row, last) = self.row;
                let fresh = now.saturating_sub(last) < config.window;
                let row = if fresh { row } else { 0 };
                let old = ticket.began < self.well;
                self.row = match verdict {
                    Verdict::Success | Verdict::Neutral => {
                        self.well = now;
                        (0, now)
                    }
                    _ if old => self.row,
                    Verdict::Failure => (row.saturating_add(1), now),
                    Verdict::Unreachable => (row.saturating_add(2), now),
                };
                let calm = now.saturating_sub(*since) >= config.window;
                let min_calls = config.min_calls.max(1);
                let reason = if self.row.0 >= min_calls {
                    TripReason::InARow
                } else if self.calls(now) >= min_calls.saturating_mul(RATIO_CALLS)
                    && self.failure_rate(now) >= config.failure_ratio
                {
                    TripReason::FailureRatio
                } else {
                    return None;
                };
                if calm {
                    self.trips = 0;
                }
                Some(self.trip(config, reason, now, jitter))
            }
            (Phase::HalfOpen { probes, .. }, Some(serial)) => {
                let slot = probes
                    .iter_mut()
                    .find(|slot| slot.is_some_and(|probe| probe.serial == serial))?;
                match verdict {
                    Verdict::Neutral => {
                        *slot = None;
                        None
                    }
                    Verdict::Success => {
                        self.window = Window::new(config.window);
                        Some(self.enter(Phase::Closed { since: now }, None))
                    }
                    Verdict::Failure | Verdict::Unreachable => {
                        Some(self.trip(config, TripReason::ProbeFailed, now, jitter))
                    }
                }
            }
            _ => None,
        }
    }

    /// Share of failures among the results within the window, 0 to 1; 0 without any. While open and
    /// half-open these are the results that led to the trip, as far as the window still holds them.
    pub fn failure_rate(&self, now: Duration) -> f64 {
        let [calls, failures] = self.window.totals(now);
        f64::from(failures) / f64::from(calls.max(1))
    }

    /// Results within the window, neutral ones not counted.
    pub fn calls(&self, now: Duration) -> u32 {
        self.window.totals(now)[0]
    }

    /// Probes out and not yet reported.
    pub fn probes_out(&self) -> usize {
        match &self.phase {
            Phase::HalfOpen { probes, .. } => probes.iter().flatten().count(),
            _ => 0,
        }
    }

    fn trip(
        &mut self,
        config: &BreakerConfig,
        reason: TripReason,
        now: Duration,
        jitter: f64,
    ) -> Transition {
        let open_for = config.open_time(self.trips, jitter);
        self.jitter = jitter;
        self.open(now, open_for, reason)
    }

    fn open(&mut self, since: Duration, open_for: Duration, reason: TripReason) -> Transition {
        self.trips = self.trips.saturating_add(1);
        self.early = since.saturating_add(EARLY);
        let until = since.saturating_add(open_for);
        self.enter(Phase::Open { until }, Some(reason))
    }

    fn enter(&mut self, phase: Phase, reason: Option<TripReason>) -> Transition {
        let from = self.phase.state();
        self.phase = phase;
        self.row = (0, Duration::ZERO);
        self.generation += 1;
        Transition {
            from,
            to: phase.state(),
            reason,
        }
    }
}

impl Phase {
    fn state(&self) -> BreakerState {
        match self {
            Self::Closed { .. } => BreakerState::Closed,
            Self::Open { .. } => BreakerState::Open,
            Self::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

fn first_due(probes: &[Option<Probe>]) -> Option<Duration> {
    probes.iter().flatten().map(|probe| probe.due).min()
}

#[cfg(test)]
mod tests;
