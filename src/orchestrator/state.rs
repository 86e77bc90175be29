//! Learned state as something one can hold: exported, imported, pinned, rolled back; and decisions made again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Inner, builder, feedback, unix_ms};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DecisionId, DeploymentId};
use crate::learner::MOST_ENSEMBLES;
use crate::learning::Why;
use crate::learning::votes::{Ballot, Model, Round, Truth};
use crate::ledger::state::State;
use crate::ledger::{Cell, Quarantined, Saved, learned};
use crate::router::choice::decide;
use crate::router::{Basis, Verdict};
use crate::supervisor::task;

/// What is held.
#[derive(Clone, Debug, Serialize)]
pub struct Held {
    /// Digest of all learned state, in 16 hexadecimal digits.
    pub digest: String,
    /// Whether it is pinned: it serves, and nothing is learned.
    pub pinned: bool,
    /// Its parts.
    pub cells: usize,
    /// States that can be gone back to, the latest first.
    pub saved: Vec<Saved>,
}

/// Parts of a state that are named of those left out for one reason.
const NAMED: usize = 100;
/// Characters of a reason that are shown.
const LONGEST_REASON: usize = 200;

/// What became of a state that was brought in.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    /// Digest of the learned state in force now, in 16 hexadecimal digits.
    pub digest: String,
    /// Parts that are in force now.
    pub restored: usize,
    /// Parts about what is not here, which were left out, and parts that are not learned; at most 100 are named.
    pub unknown: Vec<String>,
    /// Parts that say what cannot be, and were left out; at most 100 are named.
    pub refused: Vec<Quarantined>,
    /// Further parts of both that were left out.
    pub unnamed: usize,
}

/// A decision made again.
#[derive(Clone, Debug, Serialize)]
pub struct Again {
    /// The decision.
    pub decision: DecisionId,
    /// Whether the same came out, bit for bit.
    pub same: bool,
    /// What kind of choice it was: `sampled`, `listed`, or `votes`.
    pub kind: &'static str,
    /// Digest of the learned state it was made with, and of the one in force now.
    pub state: Option<String>,
    /// See `state`.
    pub state_now: String,
    /// Whom it chose.
    pub chosen_then: Option<DeploymentId>,
    /// Whom it chooses.
    pub chosen_again: Option<DeploymentId>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// Why it could not be made again, or what is different.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What was known and drawn of each.
    pub candidates: Vec<Considered>,
}

/// One candidate of a decision made again.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names say it; see the plan")]
pub struct Considered {
    pub deployment: DeploymentId,
    pub score: f64,
    pub sampled: f64,
    pub low: f64,
    pub high: f64,
    pub evidence: f64,
    pub quality: f64,
}

fn current(inner: &Inner) -> State {
    State::new(builder::learned_cells(&inner.fleet, &inner.learner))
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::invalid("state", error.to_string())
}

/// The whole of it as a document.
pub(super) fn export(inner: &Inner) -> String {
    current(inner).to_json(unix_ms())
}

pub(super) async fn held(inner: &Inner) -> Result<Held> {
    let state = current(inner);
    Ok(Held {
        digest: state.short(),
        pinned: inner.fleet.schooling.is_pinned(),
        cells: state.cells().len(),
        saved: inner.ledger.states().await?,
    })
}

async fn save(inner: &Inner, why: &str) -> Result<()> {
    let state = current(inner);
    let now = unix_ms();
    inner
        .ledger
        .save_state(state.digest(), now, why.to_owned(), state.to_json(now))
        .await
}

/// Puts a document in force; what was in force is saved.
pub(super) async fn import(
    inner: &Arc<Inner>,
    document: &[u8],
    why: &'static str,
) -> Result<Restored> {
    let (state, _) = State::parse(document).map_err(refused)?;
    let inner = Arc::clone(inner);
    // A caller who leaves must not leave half of it: the task ends by itself, and all is replaced then.
    let replaced = task::spawn(async move { replace(&inner, state, why).await });
    replaced
        .await
        .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?
}

async fn replace(inner: &Inner, state: State, why: &str) -> Result<Restored> {
    // Nor may a reload change meanwhile who there is.
    let _one_at_a_time = inner.reloading.lock().await;
    save(inner, &format!("before {why}")).await?;
    let (cells, mut unknown) = ours(inner, state);
    let total = cells.len();
    let (mut known, mut bad) = learned::restore(cells);
    let schooling = &inner.fleet.schooling;
    let replacing = schooling.replace();
    // What is on its way to the disk comes before; until all is replaced nothing follows.
    inner.ledger.flush().await;
    let had = current(inner).into_cells().into_iter().map(|cell| cell.key);
    let had: Vec<String> = had.collect();
    schooling.restore_topics(known.topics);
    inner.learner.restore(known.ensembles, unix_ms());
    inner.learner.experiments().restore(known.experiments);
    for cell in inner.fleet.cells() {
        let id = cell.deployment.load().id.clone();
        // What the document does not know begins anew: a state is whole.
        let learned = known.deployments.remove(&id).unwrap_or_default();
        schooling.resume(learned.ability.step());
        cell.restore(learned).await;
    }
    let kept = builder::kept_cells(&inner.fleet, &inner.learner);
    // What the document does not have must not come back with the next start.
    let keys: HashSet<&String> = kept.iter().map(|cell| &cell.key).collect();
    let gone = had.into_iter().filter(|key| !keys.contains(key)).collect();
    inner.ledger.replace_cells(kept, gone).await?;
    drop(replacing);
    let digest = current(inner).short();
    tracing::info!(digest, why, "learned state replaced");
    let restored = total - bad.len();
    let unnamed = unknown.len().saturating_sub(NAMED) + bad.len().saturating_sub(NAMED);
    unknown.truncate(NAMED);
    bad.truncate(NAMED);
    for cell in &mut bad {
        cell.reason = cell.reason.chars().take(LONGEST_REASON).collect();
    }
    Ok(Restored {
        digest,
        restored,
        unknown,
        refused: bad,
        unnamed,
    })
}

/// The parts of a state that are about what is here, and the keys of the others.
fn ours(inner: &Inner, state: State) -> (Vec<Cell>, Vec<String>) {
    let catalogue = inner.catalogue.load();
    let mut ensembles = 0;
    let mut is_ours = |key: &str| match key.split_once(':') {
        Some(("deployment", rest)) => rest
            .rsplit_once(':')
            .is_none_or(|(id, _)| catalogue.get(&DeploymentId::from(id)).is_some()),
        Some(("ensemble", name)) => {
            // An ensemble of one query is called by its members.
            let known = catalogue.ensembles.contains_key(name)
                || inner.learner.course(name).is_some()
                || name.split('+').all(|member| catalogue.knows(member));
            ensembles += usize::from(known);
            known && ensembles <= MOST_ENSEMBLES
        }
        Some(("experiment", name)) => inner.learner.experiments().knows(name),
        // How it is held here is not part of what is learned. What is nothing at all is refused where it is read.
        _ => ![learned::PINNED, learned::FORGOTTEN, learned::RETIRED].contains(&key),
    };
    let cells = state.into_cells().into_iter();
    let (ours, others): (Vec<Cell>, Vec<Cell>) = cells.partition(|cell| is_ours(&cell.key));
    (ours, others.into_iter().map(|cell| cell.key).collect())
}

/// Pins, and saves what is pinned; or lets learning go on.
pub(super) async fn pin(inner: &Inner, pinned: bool) -> Result<Held> {
    inner.fleet.schooling.pin(pinned);
    if pinned && let Err(error) = save(inner, "pinned").await {
        // It is pinned all the same.
        tracing::warn!(%error, "the pinned state could not be saved");
    }
    held(inner).await
}

/// Goes back to a saved state.
pub(super) async fn rollback(inner: &Arc<Inner>, digest: &str) -> Result<Restored> {
    if !(4..=64).contains(&digest.len()) || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Error::invalid(
            "digest",
            "must be 4 to 64 hexadecimal digits of a saved state",
        ));
    }
    let document = inner.ledger.state(digest.to_ascii_lowercase()).await?;
    let document = document.ok_or_else(|| {
        Error::invalid(
            "digest",
            format!("no state '{digest}' is saved; 'state show' lists them"),
        )
    })?;
    import(inner, document.as_bytes(), "rollback").await
}

/// Makes a decision again from what was written of it.
pub(super) async fn again(inner: &Inner, id: &DecisionId) -> Result<Again> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Written {
        state: Option<String>,
        basis: Option<Basis>,
        choice: Option<DeploymentId>,
        why: Option<Why>,
        candidates: Vec<Candidate>,
        ensemble: Option<Ensemble>,
    }
    #[derive(Deserialize)]
    struct Candidate {
        deployment: DeploymentId,
        score: Option<f64>,
        sampled: Option<f64>,
    }
    #[derive(Deserialize)]
    struct Ensemble {
        key: String,
        merge: crate::Strategy,
        state: Option<String>,
    }
    let row = inner.ledger.find(id.clone()).await?;
    let row = row.ok_or_else(|| {
        Error::invalid(
            "decision",
            "no decision of this id is known; it may be too old",
        )
    })?;
    let written: Written = serde_json::from_str(&row.candidates).map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            format!("its plan cannot be read: {error}"),
        )
    })?;
    let catalogue = inner.catalogue.load();
    let mut again = Again {
        decision: id.clone(),
        same: true,
        kind: "listed",
        state: written.state,
        state_now: catalogue.policy.derived(&catalogue.cells).digest.clone(),
        chosen_then: written
            .candidates
            .first()
            .map(|first| first.deployment.clone()),
        chosen_again: written
            .candidates
            .first()
            .map(|first| first.deployment.clone()),
        why: None,
        note: Some("the order is the configuration's: nothing was drawn".into()),
        candidates: Vec::new(),
    };
    if let Some(ensemble) = written.ensemble {
        again.kind = "votes";
        again.state = ensemble.state.clone().or(again.state);
        again.chosen_then.clone_from(&row.chosen);
        again.chosen_again.clone_from(&row.chosen);
        again.note = Some(format!(
            "merge {}: the answers decide, nothing was drawn",
            ensemble.merge
        ));
        if ensemble.merge.is_fitted() {
            votes_again(
                inner,
                &row,
                &ensemble.key,
                ensemble.merge != crate::Strategy::Fitted,
                ensemble.state.as_deref(),
                &mut again,
            );
        }
        return Ok(again);
    }
    let Some(basis) = written.basis else {
        return Ok(again);
    };
    again.kind = "sampled";
    again.note = None;
    again.chosen_then = written.choice;
    let Some(verdict) = decide(&basis) else {
        again.same = false;
        again.chosen_again = None;
        again.note = Some("its numbers decide nothing".into());
        return Ok(again);
    };
    again.chosen_again = basis.deployments.get(verdict.index).cloned();
    again.why = Some(verdict.why);
    let of: HashMap<&DeploymentId, &Candidate> = written
        .candidates
        .iter()
        .map(|one| (&one.deployment, one))
        .collect();
    let bits = |number: Option<f64>| number.map(f64::to_bits);
    let identical = basis.deployments.iter().enumerate().all(|(at, id)| {
        of.get(id).is_some_and(|one| {
            bits(one.score) == bits(verdict.expected.get(at).copied())
                && bits(one.sampled) == bits(verdict.sampled.get(at).copied())
        })
    });
    again.same =
        identical && again.chosen_again == again.chosen_then && Some(verdict.why) == written.why;
    again.candidates = considered(&basis, &verdict);
    Ok(again)
}

fn considered(basis: &Basis, verdict: &Verdict) -> Vec<Considered> {
    let each = basis.deployments.iter().zip(&basis.standings).enumerate();
    each.map(|(at, (deployment, standing))| {
        let (low, high) = verdict.interval.get(at).copied().unwrap_or_default();
        Considered {
            deployment: deployment.clone(),
            score: verdict.expected.get(at).copied().unwrap_or(f64::NAN),
            sampled: verdict.sampled.get(at).copied().unwrap_or(f64::NAN),
            low,
            high,
            evidence: standing.spot.evidence,
            quality: standing.expected.quality,
        }
    })
    .collect()
}

/// Counts the votes of a fitted ensemble again, with the weights of then.
fn votes_again(
    inner: &Inner,
    row: &crate::ledger::DecisionRow,
    key: &str,
    stepwise: bool,
    state: Option<&str>,
    again: &mut Again,
) {
    let course = inner.learner.course(key);
    let now = course.as_ref().map(|course| course.digest.as_str());
    again.state_now = now.unwrap_or("none").to_owned();
    let plan = feedback::PlanView::of(row);
    // Where nothing was learned, the weights were those of the expected qualities.
    let prior = Model::prior(&plan.declared());
    let model = match (&course, state) {
        (_, None) => &prior,
        (Some(course), Some(state)) if course.digest == state => &course.model,
        _ => {
            again.same = false;
            again.note = Some(
                "its weights are not in force any more: roll back to a state that holds them"
                    .into(),
            );
            return;
        }
    };
    let Some(seen) = feedback::round(row, Truth::Unknown) else {
        return;
    };
    let round = Round {
        kind: seen.kind.as_deref().map(|kind| model.kind(kind)),
        ballots: seen
            .ballots
            .iter()
            .map(|(name, said)| Ballot {
                member: model.member(name),
                said: *said,
            })
            .collect(),
        options: seen.options,
        prompt_tokens: Some(seen.prompt_tokens),
        truth: Truth::Unknown,
    };
    let posterior = if stepwise {
        model.posterior_when_asked(&round)
    } else {
        model.posterior(&round)
    };
    let winner = posterior.winner().map(|(group, _)| group);
    again.same = winner == feedback::chosen_group(row);
    again.note = Some(format!(
        "the votes were counted again; the winning group is {}",
        winner.map_or("none".into(), |group| group.to_string())
    ));
}
