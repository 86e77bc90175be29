//! When to ask a second deployment because the first is slow to begin.

use std::time::Duration;

/// Hedged requests (J. Dean and L. Barroso, "The Tail at Scale", 2013): a second call once the first
/// has been silent for longer than 95 % of calls are. Whether it is affordable says
/// [`Budget::hedge`](super::Budget::hedge). Off by default, since every hedge is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HedgeConfig {
    /// Whether to hedge at all. Default false.
    pub enabled: bool,
    /// Calls that must have been seen before their percentile is trusted. Default 20.
    pub min_evidence: u32,
    /// The shortest wait, so that a very fast deployment is not hedged at once. Default 50 ms.
    pub min_delay: Duration,
}

impl Default for HedgeConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            min_evidence: 20,
            min_delay: Duration::from_millis(50),
        }
    }
}

impl HedgeConfig {
    /// How long to wait for the first delta before hedging, or `None` for not at all. `p95_ttft` is
    /// the rolling 95th percentile of the time to first token, `evidence` the calls it rests on.
    pub fn delay(&self, p95_ttft: Option<Duration>, evidence: u32) -> Option<Duration> {
        let known = self.enabled && evidence >= self.min_evidence;
        p95_ttft
            .filter(|_| known)
            .map(|p95| p95.max(self.min_delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P95: Option<Duration> = Some(Duration::from_secs(2));

    #[test]
    fn nothing_is_hedged_unless_the_operator_says_so() {
        assert_eq!(HedgeConfig::default().delay(P95, 1_000), None);
    }

    #[test]
    fn hedges_follow_the_percentile_once_it_rests_on_enough_calls() {
        let on = HedgeConfig {
            enabled: true,
            ..HedgeConfig::default()
        };
        assert_eq!(on.delay(P95, 19), None);
        assert_eq!(on.delay(P95, 20), P95);
        assert_eq!(on.delay(None, 1_000), None);
        assert_eq!(
            on.delay(Some(Duration::ZERO), 20),
            Some(Duration::from_millis(50))
        );
    }
}
