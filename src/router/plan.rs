//! The outcome of routing, with its reasons.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::choice::Basis;
use super::score::Expectation;
use crate::config::Aim;
use crate::ensembler::merge::Strategy;
use crate::id::DeploymentId;
use crate::learning::aptitude::Traits;
use crate::learning::{Place, Why};
use crate::provider::{Cell, Price};

/// Who is to be asked, in which order, and who is not and why.
#[derive(Clone, Default, Serialize)]
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
    /// How the first was chosen, where scores decide the order; enough to choose again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// Whom that chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<DeploymentId>,
    /// Why the first stands first: `greedy`, `explored` or `bounded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// Digest of the learned state the plan was made with.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Where evidence on the answer belongs.
    #[serde(skip)]
    pub place: Place,
    /// The kind of work, told or found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<&'static str>,
    /// The caller's own name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// How the question is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traits: Option<Traits>,
    /// The experiment it is part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
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

/// Part in an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// The experiment's name.
    pub experiment: String,
    /// The variant's name.
    pub variant: String,
    /// What the variant was.
    pub fingerprint: u64,
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
    /// The quality that was drawn for it, where scores decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled: Option<f64>,
    /// Low and high end of its quality, about 95 % of belief.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
    /// Observations behind it on this kind of work, older ones counting less.
    pub evidence: f64,
    /// Its family of models, if the operator named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// How far, 0..1, it began at what the others of its family have shown, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inherited: Option<f64>,
    /// Whether it can be asked now.
    pub state: State,
    /// Why it stands where it stands.
    pub reason: String,
    #[serde(skip)]
    pub(super) cell: Arc<Cell>,
}

impl Candidate {
    /// What it costs, if anybody said.
    pub(crate) fn price(&self) -> Option<Price> {
        self.cell.deployment.load().price
    }
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
    /// The name under which is learned what its votes are worth.
    pub key: String,
    /// How many are asked at first.
    pub wave: usize,
    /// Whether everybody is asked and heard, whatever is decided before: to learn from it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub everyone: bool,
    /// Confidence at which nobody more is asked; above 1 for never.
    pub stop: f64,
    /// What asking one member after the other is to come to, if anybody said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aim: Option<Aim>,
    /// The question's length in tokens, as it is estimated.
    pub prompt_tokens: u32,
    /// Digest of what was learned of its votes when it was asked; none if nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Whether answers in prose are compared by sentence vectors too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub vectors: bool,
    /// Dollars all calls may cost, estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost: Option<f64>,
    /// Who judges or writes the merged answer, where the merge needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<Box<Plan>>,
}
