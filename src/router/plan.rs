//! The outcome of routing, with its reasons.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::score::Expectation;
use crate::ensembler::merge::Strategy;
use crate::id::DeploymentId;
use crate::provider::Cell;

/// Who is to be asked, in which order, and who is not and why.
#[derive(Clone, Serialize)]
pub struct Plan {
    /// The name the query gave.
    pub asked: String,
    /// What decided the order: `listed` (the configuration's), `scored`, or `configured` when scoring failed.
    pub order: &'static str,
    /// In the order they are asked.
    pub candidates: Vec<Candidate>,
    /// Who cannot serve the query.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<Excluded>,
    /// Several are asked and their answers merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ensemble: Option<EnsemblePlan>,
}

impl Plan {
    /// The deployments to ask, in order.
    pub fn cells(&self) -> Vec<Arc<Cell>> {
        self.candidates
            .iter()
            .map(|candidate| Arc::clone(&candidate.cell))
            .collect()
    }
}

/// One deployment that may serve the query.
#[derive(Clone, Serialize)]
pub struct Candidate {
    /// Who.
    pub deployment: DeploymentId,
    /// Higher is better.
    pub score: f64,
    /// What the score is made of.
    #[serde(flatten)]
    pub expected: Expectation,
    /// Its family of models, if the operator named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Whether it can be asked now.
    pub state: State,
    /// Why it stands where it stands.
    pub reason: String,
    #[serde(skip)]
    pub(super) cell: Arc<Cell>,
}

/// A candidate's health, for its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It can.
    Ready,
    /// Its breaker lets a probe through.
    Probing,
    /// Not now: asked last.
    Resting,
}

/// A deployment that cannot serve the query.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Excluded {
    /// Who.
    pub deployment: DeploymentId,
    /// Why not.
    pub reason: String,
}

/// How several are asked.
#[derive(Clone, Serialize)]
pub struct EnsemblePlan {
    /// One plan a member.
    pub members: Vec<Plan>,
    /// How their answers become one.
    pub merge: Strategy,
    /// How many must have answered.
    pub quorum: usize,
    /// How long to wait for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// Dollars all calls may cost, estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<f64>,
    /// Who judges or writes the merged answer, where the merge needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<Box<Plan>>,
}
