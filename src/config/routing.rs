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
    /// Share of the queries of each kind of work that may go to others than the best known, to learn of them; 0
    /// to 1. Default 0.1. The first few of each kind are free. Urgent queries and sessions never explore.
    pub explore: f64,
    /// Nobody is tried whose quality is surely below this share of the best's, 0 to 1. Default 0.8.
    pub floor: f64,
    /// Whether the kind of work is found out where a query does not say it. Default true.
    pub classify: bool,
    /// What the draws of exploring are derived from, with each query's id. Default 0.
    pub seed: u64,
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
            explore: 0.1,
            floor: 0.8,
            classify: true,
            seed: 0,
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
                explore: section
                    .float("explore", 0.0..=1.0)
                    .unwrap_or(defaults.explore),
                floor: section.float("floor", 0.0..=1.0).unwrap_or(defaults.floor),
                classify: section.flag("classify").unwrap_or(defaults.classify),
                seed: section
                    .integer("seed", 0..=u64::from(u32::MAX))
                    .unwrap_or(defaults.seed),
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
