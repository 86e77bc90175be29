//! `[routing]`: what a good choice is.

use super::reader::Target;
use super::section::Section;

/// What a good choice is. The three weights matter only relative to each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    /// Weight of learned quality, 0 to 100. Default 1.
    pub quality: f64,
    /// Weight of expected latency, 0 to 100. Default 0.3.
    pub latency: f64,
    /// Weight of expected cost, 0 to 100. Default 0.3.
    pub cost: f64,
    /// Deployments in the order they are tried where scores cannot tell; empty (the default) is the
    /// order of the providers.
    pub order: Vec<String>,
}

impl Default for Routing {
    fn default() -> Self {
        Self {
            quality: 1.0,
            latency: 0.3,
            cost: 0.3,
            order: Vec::new(),
        }
    }
}

impl Routing {
    pub(super) fn read(root: &mut Section<'_>) -> Self {
        let defaults = Self::default();
        root.table("routing", |section| {
            let weights = 0.0..=100.0;
            let routing = Self {
                quality: section
                    .float("quality", weights.clone())
                    .unwrap_or(defaults.quality),
                latency: section
                    .float("latency", weights.clone())
                    .unwrap_or(defaults.latency),
                cost: section.float("cost", weights).unwrap_or(defaults.cost),
                order: section
                    .names("order", Target::Deployment, 0..=1000)
                    .unwrap_or(defaults.order),
            };
            if routing.quality + routing.latency + routing.cost <= 0.0 {
                section.fail(
                    "quality",
                    "quality, latency and cost are all 0: one must be greater",
                );
            }
            routing
        })
    }
}
