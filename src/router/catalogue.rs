//! What a query's `model` may mean, and the making of plans.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::choice::{Basis, Standing, decide};
use super::plan::{Candidate, EnsemblePlan, Excluded, Plan, State};
use super::policy::{Derived, Policy};
use super::score::{Expectation, Weights, scores};
use crate::config::{self, Alias, DEFAULT_STOP, Ensemble, Order};
use crate::ensembler::merge::Strategy;
use crate::error::{Error, ErrorKind, Result};
use crate::id::DeploymentId;
use crate::learning::aptitude::Traits;
use crate::learning::chance::word;
use crate::learning::{Bounds, Spot};
use crate::provider::{Cell, Health};
use crate::query::{Lane, Query, TaskKind};

/// Output tokens assumed where the query sets no limit, for time and cost.
const EXPECTED_OUTPUT: u32 = 256;
/// Who has served a session wins ties with newcomers by this much, so that a session does not wander.
const LOYALTY: f64 = 0.01;

/// Everything a name can lead to. Published as a whole; a reload makes a new one.
pub struct Catalogue {
    /// Every deployment, in configured order.
    pub cells: Vec<Arc<Cell>>,
    by_id: HashMap<DeploymentId, usize>,
    /// Aliases by name.
    pub aliases: BTreeMap<String, Alias>,
    /// Ensembles by name.
    pub ensembles: BTreeMap<String, Ensemble>,
    /// Names of experiments.
    pub experiments: Vec<String>,
    /// What a good choice is.
    pub weights: Weights,
    /// How far exploring may go.
    pub bounds: Bounds,
    /// What each query's draws are derived from, with its id.
    pub seed: u64,
    /// What is kept between queries.
    pub policy: Arc<Policy>,
}

impl Catalogue {
    /// A catalogue of `cells` in their configured order.
    pub fn new(
        cells: Vec<Arc<Cell>>,
        aliases: BTreeMap<String, Alias>,
        ensembles: BTreeMap<String, Ensemble>,
        experiments: Vec<String>,
        routing: &config::Routing,
        policy: Arc<Policy>,
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
            experiments,
            weights: Weights {
                quality: routing.quality,
                latency: routing.latency,
                cost: routing.cost,
            },
            bounds: Bounds {
                explore: routing.explore > 0.0,
                share: routing.explore,
                floor: routing.floor,
                ..Bounds::default()
            },
            seed: routing.seed,
            policy,
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
        let experiments = self.experiments.iter();
        names.extend(experiments.map(|name| format!("experiment/{name}")));
        names.extend(
            self.cells
                .iter()
                .map(|cell| cell.deployment.load().id.to_string()),
        );
        names
    }

    /// Whether who answers `query` is chosen by what is known of them, and not named or listed.
    pub fn chooses(&self, query: &Query) -> bool {
        let alias = |name: &str| self.aliases.get(name).map(|alias| alias.order);
        !query.routing.ensemble.is_empty()
            || query.model == "auto"
            || query.model.starts_with("ensemble/")
            || alias(&query.model) == Some(Order::Scored)
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
                key: name.to_owned(),
                wave: ensemble.wave,
                everyone: query.routing.everyone,
                stop: ensemble.stop,
                aim: ensemble.aim,
                state: None,
                prompt_tokens: query.estimated_input_tokens(),
                vectors: ensemble.vectors,
            };
            let plan = match query.routing.merge {
                // Another merge wants its own way of asking.
                Some(merge) if merge != ensemble.merge => EnsemblePlan {
                    wave: merge.wave(ensemble.members.len()),
                    quorum: query
                        .routing
                        .quorum
                        .unwrap_or(merge.quorum(ensemble.members.len())),
                    ..plan
                },
                _ => plan,
            };
            return self.ensemble(query, plan, ensemble.judge.as_deref(), stream);
        }
        let plan = self.single(&query.model, query, stream, query.routing.max_cost)?;
        let asks = [
            (query.routing.merge.is_some(), "merge"),
            (query.routing.quorum.is_some(), "quorum"),
            (query.routing.everyone, "everyone"),
        ];
        if let Some((_, field)) = asks.iter().find(|(asked, _)| *asked) {
            let message = format!(
                "{field} is for ensembles: name members in `ensemble`, or ask for model ensemble/<name>"
            );
            return Err(Error::invalid(*field, message));
        }
        Ok(plan)
    }

    fn ad_hoc(&self, query: &Query, stream: bool) -> Result<Plan> {
        let names = &query.routing.ensemble;
        let merge = query.routing.merge.unwrap_or(Strategy::Plurality);
        let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        let plan = EnsemblePlan {
            members: self.members(names, query)?,
            merge,
            quorum: query.routing.quorum.unwrap_or(merge.quorum(names.len())),
            deadline: None,
            max_cost: query.routing.max_cost,
            judge: None,
            key: sorted.join("+"),
            wave: merge.wave(names.len()),
            everyone: query.routing.everyone,
            stop: DEFAULT_STOP,
            aim: None,
            state: None,
            prompt_tokens: query.estimated_input_tokens(),
            vectors: false,
        };
        self.ensemble(query, plan, None, stream)
    }

    /// The members of an ensemble: nobody is one twice, by whatever names.
    fn members(&self, names: &[String], query: &Query) -> Result<Vec<Plan>> {
        let mut taken = Vec::new();
        let mut members = Vec::with_capacity(names.len());
        for name in names {
            let mut member = self.single(name, query, false, None)?;
            // Whoever is a member already is this one's last resort.
            member
                .candidates
                .sort_by_key(|candidate| taken.contains(&candidate.deployment));
            let first = member.candidates.first().map(|first| &first.deployment);
            if let Some(twice) = first.filter(|first| taken.contains(first)) {
                let message = format!("ensemble has {twice} twice: each member must be another");
                return Err(Error::invalid("ensemble", message));
            }
            taken.extend(first.cloned());
            members.push(member);
        }
        Ok(members)
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
            let judge = self.single(judge.unwrap_or("auto"), query, stream, None)?;
            plan.judge = Some(Box::new(judge));
        }
        let place = self.policy.schooling().place(query);
        Ok(Plan {
            state: self.policy.derived(&self.cells).digest.clone(),
            place,
            task: query.task.map(TaskKind::name),
            topic: query.topic.clone(),
            traits: traits(query),
            asked: query.model.clone(),
            order: "listed",
            ensemble: Some(plan),
            ..Plan::default()
        })
    }

    /// The candidates of a name that means one answer, without those that are expected to cost more than `max_cost`
    /// dollars. What has no price costs nothing here.
    fn single(
        &self,
        name: &str,
        query: &Query,
        stream: bool,
        max_cost: Option<f64>,
    ) -> Result<Plan> {
        let (cells, order) = self.resolve(name)?;
        let needs = query.needs();
        let place = self.policy.schooling().place(query);
        let outlook = Outlook {
            derived: self.policy.derived(&self.cells),
            traits: traits(query),
            incumbent: query
                .session
                .as_deref()
                .and_then(|session| self.policy.incumbent(session)),
            query,
        };
        let spots = outlook.derived.pool.spots(place.row, place.cluster);
        let mut standings = Vec::new();
        let mut candidates = Vec::new();
        let mut excluded = Vec::new();
        for cell in cells {
            let deployment = cell.deployment.load();
            let health = cell.health();
            let missing = deployment.capabilities.missing(&needs, stream);
            let at = self.by_id.get(&deployment.id).copied().unwrap_or(0);
            let spot = spots.get(at).copied().unwrap_or(IGNORANCE);
            let standing = outlook.standing(cell, at as u64, spot, place.row);
            let dear = |most: &f64| standing.expected.dollars.filter(|cost| cost > most);
            let reason = missing
                .or(match health {
                    Health::Disabled(ref why) => Some(format!("disabled until a reload: {why}")),
                    _ => None,
                })
                .or_else(|| {
                    let (most, cost) = max_cost.and_then(|most| Some((most, dear(&most)?)))?;
                    Some(format!(
                        "is expected to cost ${cost:.6}, max_cost is ${most}"
                    ))
                });
            if let Some(reason) = reason {
                excluded.push(Excluded {
                    deployment: deployment.id.clone(),
                    reason,
                });
                continue;
            }
            let inherited = outlook.derived.pool.inherited(at);
            candidates.push(Candidate {
                inherited: (inherited > 0.0).then_some(inherited),
                ..candidate(cell, standing, health)
            });
            standings.push(standing);
        }
        if candidates.is_empty() {
            return Err(nobody(name, &excluded));
        }
        let mut plan = Plan {
            asked: name.into(),
            order: "listed",
            candidates,
            excluded,
            state: outlook.derived.digest.clone(),
            place,
            task: query.task.map(TaskKind::name),
            topic: query.topic.clone(),
            traits: outlook.traits,
            ..Plan::default()
        };
        self.order(
            &mut plan,
            standings,
            order,
            query,
            outlook.incumbent.is_some(),
        );
        Ok(plan)
    }

    /// Puts the candidates into the order in which they are asked.
    fn order(
        &self,
        plan: &mut Plan,
        standings: Vec<Standing>,
        order: Order,
        query: &Query,
        in_session: bool,
    ) {
        if order == Order::Listed {
            let expected: Vec<Expectation> = standings.iter().map(|one| one.expected).collect();
            let scores = scores(&expected, self.weights);
            for (candidate, score) in plan.candidates.iter_mut().zip(scores) {
                candidate.score = score;
            }
        } else {
            self.choose(plan, standings, query, in_session);
        }
        // Who rests is asked last, in any order. The sort is stable.
        plan.candidates
            .sort_by_key(|candidate| candidate.state == State::Resting);
    }

    /// Puts first whom the scores, or the wish to learn, choose.
    fn choose(&self, plan: &mut Plan, standings: Vec<Standing>, query: &Query, in_session: bool) {
        let resting = |plan: &Plan, at: usize| plan.candidates[at].state == State::Resting;
        // Who rests is not chosen, but is asked last.
        let ready: Vec<usize> = (0..standings.len())
            .filter(|at| !resting(plan, *at))
            .collect();
        let everybody: Vec<usize> = (0..standings.len()).collect();
        let eligible = if ready.is_empty() { everybody } else { ready };
        // Where nobody is judged, exploring teaches nothing but speed.
        let judged = eligible.iter().any(|at| standings[*at].spot.evidence > 0.0);
        let share = self.bounds.share * if judged { 1.0 } else { 0.5 };
        let mut basis = Basis {
            seed: seed(self.seed, query.id.as_str()),
            weights: self.weights,
            bounds: Bounds {
                explore: self.bounds.explore && query.lane != Lane::Urgent && !in_session,
                share,
                ..self.bounds
            },
            credit: self.policy.credit(plan.place),
            deployments: eligible
                .iter()
                .map(|at| plan.candidates[*at].deployment.clone())
                .collect(),
            standings: eligible.iter().map(|at| standings[*at]).collect(),
        };
        let verdict = decide(&basis);
        // Scores of those who rest, for the reader.
        basis.standings = standings;
        let scores = decide(&basis).map(|verdict| verdict.expected);
        for (at, candidate) in plan.candidates.iter_mut().enumerate() {
            candidate.score = scores.as_ref().map_or(f64::NAN, |scores| scores[at]);
        }
        match verdict {
            Some(verdict) => {
                for (place, at) in eligible.iter().enumerate() {
                    plan.candidates[*at].sampled = Some(verdict.sampled[place]);
                    plan.candidates[*at].interval = Some(verdict.interval[place]);
                }
                let first = plan.candidates[eligible[verdict.index]].deployment.clone();
                basis.standings = eligible.iter().map(|at| basis.standings[*at]).collect();
                plan.why = Some(verdict.why);
                plan.choice = Some(first.clone());
                plan.basis = Some(basis);
                plan.order = "scored";
                rank(&mut plan.candidates, &first, query.lane);
            }
            // What was learned makes no sense: the operator's order still does.
            None => {
                tracing::error!(
                    model = plan.asked,
                    "a score is not a number, using the configured order"
                );
                plan.order = "configured";
            }
        }
    }

    /// Whether a name leads to somebody.
    pub fn knows(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn resolve(&self, name: &str) -> Result<(Vec<&Arc<Cell>>, Order)> {
        self.find(name).ok_or_else(|| self.unknown(name))
    }

    fn find(&self, name: &str) -> Option<(Vec<&Arc<Cell>>, Order)> {
        if name == "auto" && !self.cells.is_empty() {
            return Some((self.cells.iter().collect(), Order::Scored));
        }
        if let Some(alias) = self.aliases.get(name) {
            let ids = alias
                .candidates
                .iter()
                .map(|id| DeploymentId::from(id.as_str()));
            let cells: Vec<&Arc<Cell>> = ids.filter_map(|id| self.get(&id)).collect();
            return Some((cells, alias.order));
        }
        if let Some(cell) = self.get(&DeploymentId::from(name)) {
            return Some((vec![cell], Order::Listed));
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
        (!cells.is_empty()).then_some((cells, Order::Listed))
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

/// What is believed of a deployment that no pool holds.
const IGNORANCE: Spot = Spot {
    centre: 0.0,
    deviation: 2.0,
    reach: 0.0,
    evidence: 0.0,
};

/// What one query's candidates are looked at with.
struct Outlook<'a> {
    derived: Arc<Derived>,
    traits: Option<Traits>,
    incumbent: Option<DeploymentId>,
    query: &'a Query,
}

impl Outlook<'_> {
    fn standing(&self, cell: &Cell, at: u64, spot: Spot, row: Option<usize>) -> Standing {
        let deployment = cell.deployment.load();
        let snapshot = cell.snapshot.load();
        let params = &self.query.params;
        // Without a limit to go by, answers are as long as they were.
        let usual = snapshot
            .tokens
            .mean_output()
            .map_or(EXPECTED_OUTPUT, |tokens| tokens as u32);
        let output = params.max_tokens.map_or(usual, |max| max.min(usual.max(1)));
        let input = self.query.estimated_input_tokens();
        let stays = self.incumbent.as_ref() == Some(&deployment.id);
        // A session that moves on leaves the cache of its prompt behind.
        let cached = if stays {
            (f64::from(input) * snapshot.tokens.cached_share()) as u32
        } else {
            0
        };
        let usage = crate::answer::Usage {
            input,
            output,
            cached,
            ..Default::default()
        };
        let adjustment = self.traits.map_or(0.0, |traits| {
            let row = row.and_then(|row| u16::try_from(row).ok());
            let landscape = &self.derived.landscape;
            landscape.adjustment(&snapshot.aptitude, row, traits).mean
        });
        let expected = Expectation {
            quality: 0.0,
            seconds: match params.max_tokens {
                Some(_) => snapshot
                    .latency
                    .expected_total(Some(output))
                    .map(|seconds| seconds * snapshot.latency.drift()),
                None => snapshot.latency.recent(),
            },
            dollars: deployment.price.map(|price| price.of(usage)),
            failure_rate: snapshot.breaker.failure_rate(cell.now()),
            in_flight: cell.in_flight(),
        };
        let loyalty = if stays { LOYALTY } else { 0.0 };
        Standing::new(at, spot, adjustment + loyalty, expected)
    }
}

fn candidate(cell: &Arc<Cell>, standing: Standing, health: Health) -> Candidate {
    let deployment = cell.deployment.load();
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
        sampled: None,
        interval: None,
        evidence: standing.spot.evidence,
        family: deployment.family.clone(),
        inherited: None,
        expected: standing.expected,
        state,
        reason,
        cell: Arc::clone(cell),
    }
}

/// How the question is asked: the last thing that the user said.
fn traits(query: &Query) -> Option<Traits> {
    query.question().map(|question| Traits::of(&question))
}

/// A seed for one query's draws: the same for the same id.
fn seed(seed: u64, id: &str) -> u64 {
    // JSON's readers in other languages hold 53 bits exactly.
    word(&[&seed.to_le_bytes(), id.as_bytes()]) >> 11
}

/// The chosen one first, then the best. A deployment whose breaker waits for a probe goes before all others, or it
/// would never be asked again; an urgent query does not take that risk.
fn rank(candidates: &mut [Candidate], first: &DeploymentId, lane: Lane) {
    let probe_first =
        |candidate: &Candidate| lane != Lane::Urgent && candidate.state == State::Probing;
    candidates.sort_by(|a, b| {
        probe_first(b)
            .cmp(&probe_first(a))
            .then((b.deployment == *first).cmp(&(a.deployment == *first)))
            .then(b.score.total_cmp(&a.score))
    });
}

fn nobody(name: &str, excluded: &[Excluded]) -> Error {
    let reasons: Vec<String> = excluded
        .iter()
        .take(8)
        .map(|one| format!("{} {}", one.deployment, one.reason))
        .collect();
    let message = format!(
        "nobody behind '{name}' can serve this query: {}",
        reasons.join("; ")
    );
    let disabled = |one: &Excluded| one.reason.starts_with("disabled");
    if excluded.iter().all(disabled) {
        // Our credentials were refused, not the caller's.
        return Error::new(ErrorKind::Auth, message).with_upstream(401, &[]);
    }
    Error::new(ErrorKind::Unsupported, message)
}
