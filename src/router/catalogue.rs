//! What a query's `model` may mean, and the making of plans.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::plan::{Candidate, EnsemblePlan, Excluded, Plan, State};
use super::score::{Expectation, Weights, scores};
use crate::config::{Alias, Ensemble, Order};
use crate::ensembler::merge::Strategy;
use crate::error::{Error, ErrorKind, Result};
use crate::id::DeploymentId;
use crate::learning::Prior;
use crate::provider::{Cell, Health};
use crate::query::{Lane, Query, TaskKind};

/// Output tokens assumed where the query sets no limit, for time and cost.
const EXPECTED_OUTPUT: u32 = 256;
/// How many observations a declared quality is worth.
pub(crate) const PRIOR_STRENGTH: f64 = 10.0;

/// Everything a name can lead to. Published as a whole; a reload makes a new one.
#[derive(Default)]
pub struct Catalogue {
    /// Every deployment, in configured order.
    pub cells: Vec<Arc<Cell>>,
    by_id: HashMap<DeploymentId, usize>,
    /// Aliases by name.
    pub aliases: BTreeMap<String, Alias>,
    /// Ensembles by name.
    pub ensembles: BTreeMap<String, Ensemble>,
    /// What a good choice is.
    pub weights: Option<Weights>,
}

impl Catalogue {
    /// A catalogue of `cells` in their configured order.
    pub fn new(
        cells: Vec<Arc<Cell>>,
        aliases: BTreeMap<String, Alias>,
        ensembles: BTreeMap<String, Ensemble>,
        weights: Weights,
    ) -> Self {
        let by_id = cells
            .iter()
            .enumerate()
            .map(|(index, cell)| (cell.deployment.load().id.clone(), index))
            .collect();
        Self {
            cells,
            by_id,
            aliases,
            ensembles,
            weights: Some(weights),
        }
    }

    /// The deployment of this name.
    pub fn get(&self, id: &DeploymentId) -> Option<&Arc<Cell>> {
        self.by_id.get(id).map(|index| &self.cells[*index])
    }

    /// Every name a query may ask for.
    pub fn names(&self) -> Vec<String> {
        let mut names = vec!["auto".to_owned()];
        names.extend(self.aliases.keys().cloned());
        names.extend(self.ensembles.keys().map(|name| format!("ensemble/{name}")));
        names.extend(
            self.cells
                .iter()
                .map(|cell| cell.deployment.load().id.to_string()),
        );
        names
    }

    /// Decides who is to answer `query`; `stream` says that deltas are wanted.
    ///
    /// # Errors
    /// [`NoCandidate`](ErrorKind::NoCandidate) for a name that leads nowhere,
    /// [`Unsupported`](ErrorKind::Unsupported) if nobody it leads to can do what the query needs.
    pub fn plan(&self, query: &Query, stream: bool) -> Result<Plan> {
        if !query.routing.ensemble.is_empty() {
            return self.ad_hoc(query, stream);
        }
        if let Some(name) = query.model.strip_prefix("ensemble/") {
            let Some(ensemble) = self.ensembles.get(name) else {
                return Err(self.unknown(&query.model));
            };
            let plan = EnsemblePlan {
                members: self.members(&ensemble.members, query)?,
                merge: query.routing.merge.unwrap_or(ensemble.merge),
                quorum: query.routing.quorum.unwrap_or(ensemble.quorum),
                deadline: ensemble.deadline,
                max_cost: query.routing.max_cost.or(ensemble.max_cost),
                judge: None,
            };
            return self.ensemble(query, plan, ensemble.judge.as_deref(), stream);
        }
        self.single(&query.model, query, stream)
    }

    fn ad_hoc(&self, query: &Query, stream: bool) -> Result<Plan> {
        let names = &query.routing.ensemble;
        let plan = EnsemblePlan {
            members: self.members(names, query)?,
            merge: query.routing.merge.unwrap_or(Strategy::Plurality),
            quorum: query.routing.quorum.unwrap_or(names.len() / 2 + 1),
            deadline: None,
            max_cost: query.routing.max_cost,
            judge: None,
        };
        self.ensemble(query, plan, None, stream)
    }

    fn members(&self, names: &[String], query: &Query) -> Result<Vec<Plan>> {
        names
            .iter()
            .map(|name| self.single(name, query, false))
            .collect()
    }

    fn ensemble(
        &self,
        query: &Query,
        mut plan: EnsemblePlan,
        judge: Option<&str>,
        stream: bool,
    ) -> Result<Plan> {
        if plan.quorum == 0 || plan.quorum > plan.members.len() {
            let message = format!(
                "quorum must be 1 to {}, the number of members",
                plan.members.len()
            );
            return Err(Error::invalid("quorum", message));
        }
        if matches!(plan.merge, Strategy::Judge | Strategy::Synthesize) {
            let judge = self.single(judge.unwrap_or("auto"), query, stream)?;
            plan.judge = Some(Box::new(judge));
        }
        Ok(Plan {
            asked: query.model.clone(),
            order: "listed",
            candidates: Vec::new(),
            excluded: Vec::new(),
            ensemble: Some(plan),
        })
    }

    /// The candidates of a name that means one answer.
    fn single(&self, name: &str, query: &Query, stream: bool) -> Result<Plan> {
        let (cells, order) = self.resolve(name)?;
        let needs = query.needs();
        let mut candidates = Vec::new();
        let mut excluded = Vec::new();
        for cell in cells {
            let deployment = cell.deployment.load();
            let health = cell.snapshot.load().health(cell.now());
            let missing = deployment.capabilities.missing(&needs, stream);
            let reason = missing.or(match health {
                Health::Disabled(ref why) => Some(format!("disabled: {why}")),
                _ => None,
            });
            match reason {
                Some(reason) => excluded.push(Excluded {
                    deployment: deployment.id.clone(),
                    reason,
                }),
                None => candidates.push(candidate(cell, query, health)),
            }
        }
        if candidates.is_empty() {
            return Err(nobody(name, &excluded));
        }
        let weights = self.weights.unwrap_or(Weights {
            quality: 1.0,
            latency: 0.0,
            cost: 0.0,
        });
        let expectations: Vec<Expectation> = candidates.iter().map(|c| c.expected).collect();
        let scores = scores(&expectations, weights);
        let sound = scores.iter().all(|score| score.is_finite());
        for (candidate, score) in candidates.iter_mut().zip(scores) {
            candidate.score = score;
        }
        let order = match order {
            Order::Scored if sound => {
                rank(&mut candidates, query.lane);
                "scored"
            }
            // What was learned makes no sense: the operator's order still does.
            Order::Scored => {
                tracing::error!(
                    model = name,
                    "a score is not a number, using the configured order"
                );
                "configured"
            }
            Order::Listed => "listed",
        };
        // Who rests is asked last, in any order. The sort is stable.
        candidates.sort_by_key(|candidate| candidate.state == State::Resting);
        Ok(Plan {
            asked: name.into(),
            order,
            candidates,
            excluded,
            ensemble: None,
        })
    }

    fn resolve(&self, name: &str) -> Result<(Vec<&Arc<Cell>>, Order)> {
        if name == "auto" && !self.cells.is_empty() {
            return Ok((self.cells.iter().collect(), Order::Scored));
        }
        if let Some(alias) = self.aliases.get(name) {
            let ids = alias
                .candidates
                .iter()
                .map(|id| DeploymentId::from(id.as_str()));
            let cells: Vec<&Arc<Cell>> = ids.filter_map(|id| self.get(&id)).collect();
            return Ok((cells, alias.order));
        }
        if let Some(cell) = self.get(&DeploymentId::from(name)) {
            return Ok((vec![cell], Order::Listed));
        }
        // A bare model name, as clients of one vendor write it, means everyone who serves it.
        let serves = |cell: &&Arc<Cell>| {
            let deployment = cell.deployment.load();
            deployment
                .id
                .as_str()
                .split_once('/')
                .is_some_and(|(_, model)| model == name)
                || deployment.model == name
        };
        let cells: Vec<&Arc<Cell>> = self.cells.iter().filter(serves).collect();
        if cells.is_empty() {
            Err(self.unknown(name))
        } else {
            Ok((cells, Order::Listed))
        }
    }

    fn unknown(&self, name: &str) -> Error {
        let mut names = self.names();
        let more = names.len().saturating_sub(12);
        names.truncate(12);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let shown: String = name.chars().take(80).collect();
        let message = format!(
            "no model is called '{shown}'; there is {}{more}",
            names.join(", ")
        );
        Error::new(ErrorKind::NoCandidate, message)
    }
}

fn candidate(cell: &Arc<Cell>, query: &Query, health: Health) -> Candidate {
    let deployment = cell.deployment.load();
    let snapshot = cell.snapshot.load();
    let output = query
        .params
        .max_tokens
        .unwrap_or(EXPECTED_OUTPUT)
        .min(4 * EXPECTED_OUTPUT);
    let prior = Prior::new(deployment.quality, PRIOR_STRENGTH);
    let quality = snapshot
        .quality
        .estimate_from(prior, query.task.map(TaskKind::index));
    let usage = crate::answer::Usage {
        input: query.estimated_input_tokens(),
        output,
        ..Default::default()
    };
    let (state, reason) = match health {
        Health::Ready | Health::Disabled(_) => (State::Ready, "ready".to_owned()),
        Health::Probing => (
            State::Probing,
            "breaker half-open: a probe may go".to_owned(),
        ),
        Health::Resting { why, .. } => (State::Resting, format!("{why}: asked last")),
    };
    Candidate {
        deployment: deployment.id.clone(),
        score: 0.0,
        family: deployment.family.clone(),
        expected: Expectation {
            quality: quality.mean,
            // Without a limit to go by, answers are as long as they were.
            seconds: match query.params.max_tokens {
                Some(_) => snapshot.latency.expected_total(Some(output)),
                None => snapshot.latency.total.mean(),
            },
            dollars: deployment.price.map(|price| price.of(usage)),
            failure_rate: snapshot.breaker.failure_rate(cell.now()),
            in_flight: cell.in_flight(),
        },
        state,
        reason,
        cell: Arc::clone(cell),
    }
}

/// Best first. A deployment whose breaker waits for a probe goes before the others, or it would never be
/// asked again; an urgent query does not take that risk.
fn rank(candidates: &mut [Candidate], lane: Lane) {
    let probe_first =
        |candidate: &Candidate| lane != Lane::Urgent && candidate.state == State::Probing;
    candidates.sort_by(|a, b| {
        probe_first(b)
            .cmp(&probe_first(a))
            .then(b.score.total_cmp(&a.score))
    });
}

fn nobody(name: &str, excluded: &[Excluded]) -> Error {
    let reasons: Vec<String> = excluded
        .iter()
        .take(8)
        .map(|one| format!("{} {}", one.deployment, one.reason))
        .collect();
    let kind = if excluded
        .iter()
        .all(|one| one.reason.starts_with("disabled"))
    {
        ErrorKind::Auth
    } else {
        ErrorKind::Unsupported
    };
    Error::new(
        kind,
        format!(
            "nobody behind '{name}' can serve this query: {}",
            reasons.join("; ")
        ),
    )
}
