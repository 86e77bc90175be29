//! Judgements of answers, and what is learned from them.
//!
//! A judgement may be a score, a thumb, the member that was right, or the right answer itself. It may come late and
//! in parts: each source has one judgement of a decision, and only its first is learned from. While learned state is
//! pinned judgements are kept and not learned from; they do not count as a first one.

use std::collections::HashSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Inner, evidence, unix_ms};
use crate::ensembler::merge::compare;
use crate::error::{Error, Result};
use crate::id::{DecisionId, DeploymentId, UserId};
use crate::learner::Seen;
use crate::learning::aptitude::Traits;
use crate::learning::votes::{Said, Truth};
use crate::ledger::{DecisionRow, FeedbackOutcome};
use crate::provider::Judgement;
use crate::query::TaskKind;
use crate::router::Trial;

/// A merged answer judged this good or better is taken to be right.
const RIGHT: f64 = 0.75;
/// The longest reference, in bytes.
const LONGEST_REFERENCE: usize = 64 * 1024;

/// A judgement of an answer: one of `score`, `thumb`, `chosen` and `reference`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feedback {
    /// The decision, as the answer's report names it.
    pub decision: String,
    /// How good the answer was, 0 (useless) to 1 (right).
    #[serde(default)]
    pub score: Option<f64>,
    /// `up` or `down`: a score of 1 or 0.
    #[serde(default)]
    pub thumb: Option<Thumb>,
    /// Of an ensemble, a member whose answer is right, whoever was chosen.
    #[serde(default)]
    pub chosen: Option<String>,
    /// The right answer: whoever gave it was right.
    #[serde(default)]
    pub reference: Option<String>,
    /// Who judges; judgements of one source replace each other. `user` if not given.
    #[serde(default)]
    pub source: Option<String>,
    /// Only this user's decisions may be judged; `None`: anybody's.
    #[serde(skip)]
    pub by: Option<UserId>,
}

/// A judgement by one finger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thumb {
    /// Good.
    Up,
    /// Bad.
    Down,
}

impl Feedback {
    /// The decision's answer was this good, 0..=1.
    pub fn score(decision: impl Into<String>, score: f64) -> Self {
        Self {
            decision: decision.into(),
            score: Some(score),
            ..Self::default()
        }
    }

    /// This is the right answer to the decision's question.
    pub fn reference(decision: impl Into<String>, answer: impl Into<String>) -> Self {
        Self {
            decision: decision.into(),
            reference: Some(answer.into()),
            ..Self::default()
        }
    }
}

/// What became of a judgement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeedbackReport {
    /// The deployment whose answer it was.
    pub deployment: DeploymentId,
    /// `recorded`; or `changed` or `repeated` if there was one before, and nothing was learned again.
    pub outcome: &'static str,
    /// What the judgement comes to, 0..=1.
    pub score: f64,
    /// Deployments that learned from it.
    pub learned: usize,
    /// Why nobody did though it might have been learned from: `pinned`. The source may judge again once it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// What a decision's row says of its plan.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PlanView {
    task: Option<String>,
    topic: Option<String>,
    traits: Option<Traits>,
    trial: Option<Trial>,
    candidates: Vec<CandidateView>,
    ensemble: Option<EnsembleView>,
}

#[derive(Debug, Deserialize)]
struct CandidateView {
    deployment: DeploymentId,
    quality: f64,
}

#[derive(Debug, Deserialize)]
struct EnsembleView {
    key: String,
    members: Vec<PlanView>,
    #[serde(default)]
    prompt_tokens: u32,
}

/// What a row says of a member.
#[derive(Debug, Deserialize)]
struct MemberView {
    model: DeploymentId,
    outcome: String,
    #[serde(default)]
    chosen: bool,
    #[serde(default)]
    group: Option<u8>,
    #[serde(default)]
    tokens: Option<u32>,
}

impl PlanView {
    pub(super) fn of(row: &DecisionRow) -> Self {
        serde_json::from_str(&row.candidates).unwrap_or_default()
    }

    /// The members of an ensemble, with the quality that was expected of each.
    pub(super) fn declared(&self) -> Vec<(&str, f64)> {
        let members = self.ensemble.iter().flat_map(|ensemble| &ensemble.members);
        let first = members.filter_map(|member| member.candidates.first());
        first
            .map(|candidate| (candidate.deployment.as_str(), candidate.quality))
            .collect()
    }

    /// The quality that was expected of a deployment.
    fn expected(&self, of: &DeploymentId) -> Option<f64> {
        let members = self.ensemble.iter().flat_map(|ensemble| &ensemble.members);
        let all = self
            .candidates
            .iter()
            .chain(members.flat_map(|member| &member.candidates));
        all.into_iter()
            .find(|candidate| candidate.deployment == *of)
            .map(|candidate| candidate.quality)
    }

    fn label(&self) -> Option<String> {
        self.topic.clone().or_else(|| self.task.clone())
    }
}

fn members(row: &DecisionRow) -> Vec<MemberView> {
    let text = row.members.as_deref().unwrap_or("[]");
    let members: Vec<MemberView> = serde_json::from_str(text).unwrap_or_default();
    members
        .into_iter()
        .filter(|member| member.outcome == "ok")
        .collect()
}

/// The round of votes that a row tells of, if it tells of one.
pub(super) fn round(row: &DecisionRow, truth: Truth) -> Option<Seen> {
    let plan = PlanView::of(row);
    let members = members(row);
    let ensemble = plan.ensemble.as_ref()?;
    let (key, prompt_tokens) = (ensemble.key.clone(), ensemble.prompt_tokens as f32);
    Some(Seen {
        ensemble: key,
        decision: row.id.clone(),
        kind: plan.label(),
        ballots: members
            .into_iter()
            .map(|member| {
                let said = match member.group {
                    Some(cluster) => Said::Answer {
                        cluster,
                        tokens: member.tokens.map(|tokens| tokens as f32),
                    },
                    None => Said::Nothing,
                };
                (member.model.to_string(), said)
            })
            .collect(),
        options: None,
        prompt_tokens,
        input_tokens: Some(row.input_tokens as f32),
        truth,
    })
}

/// The group of answers that a row says won.
pub(super) fn chosen_group(row: &DecisionRow) -> Option<u8> {
    members(row).into_iter().find(|member| member.chosen)?.group
}

/// What a judgement comes to.
struct Finding {
    /// Of the answer that was given.
    score: f64,
    /// Which group of an ensemble is right.
    truth: Truth,
    /// Of each deployment.
    each: Vec<(DeploymentId, f64)>,
}

pub(super) async fn take(inner: &Arc<Inner>, feedback: Feedback) -> Result<FeedbackReport> {
    let given = [
        feedback.score.is_some(),
        feedback.thumb.is_some(),
        feedback.chosen.is_some(),
        feedback.reference.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        let message = "one of score (0 to 1), thumb (up or down), chosen (a member) and reference (the right answer) \
                       must be given";
        return Err(Error::invalid("score", message));
    }
    if feedback
        .score
        .is_some_and(|score| !(0.0..=1.0).contains(&score))
    {
        let message = "score must be a number from 0 (useless) to 1 (right)";
        return Err(Error::invalid("score", message));
    }
    if feedback
        .reference
        .as_ref()
        .is_some_and(|text| !(1..=LONGEST_REFERENCE).contains(&text.len()))
    {
        let message =
            format!("reference must have at least 1 and be at most {LONGEST_REFERENCE} bytes");
        return Err(Error::invalid("reference", message));
    }
    let source = feedback.source.clone().unwrap_or_else(|| "user".into());
    if source.is_empty() || source.len() > 64 {
        return Err(Error::invalid("source", "source must be 1 to 64 bytes"));
    }
    if evidence::OWN_SOURCES.contains(&source.as_str()) {
        let message = format!("source {source} is our own: name whoever judged");
        return Err(Error::invalid("source", message));
    }
    let unknown = || {
        Error::invalid(
            "decision",
            "no decision of this id is known; it may be too old",
        )
    };
    let decision = DecisionId::from(feedback.decision.as_str());
    let row = inner
        .ledger
        .find(decision.clone())
        .await?
        .ok_or_else(unknown)?;
    if feedback.by.as_ref().is_some_and(|by| *by != row.user) {
        return Err(unknown());
    }
    let Some(deployment) = row.chosen.clone() else {
        return Err(Error::invalid(
            "decision",
            "this decision had no answer to judge",
        ));
    };
    let members = members(&row);
    let finding = find(inner, &feedback, &row, &deployment, &members)?;
    let truth = match finding.truth {
        Truth::Unknown => None,
        Truth::NoneOfThem => Some(-1),
        Truth::Cluster(group) => Some(i64::from(group)),
    };
    let pinned = inner.fleet.schooling.is_pinned();
    let (score, now) = (finding.score, unix_ms());
    let judged = inner
        .ledger
        .feedback(decision, score, truth, source.clone(), now, !pinned)
        .await?;
    let outcome = match judged {
        FeedbackOutcome::Unknown => return Err(unknown()),
        FeedbackOutcome::Repeated => "repeated",
        FeedbackOutcome::Recorded => "recorded",
        FeedbackOutcome::Changed { .. } => "changed",
    };
    let mut learned = 0;
    // One judgement a source moves what is learned once, however often it is changed.
    if outcome == "recorded" && !pinned {
        learned = learn(inner, &row, &finding, &source.into());
    }
    Ok(FeedbackReport {
        deployment,
        outcome,
        score,
        learned,
        reason: pinned.then_some("pinned"),
    })
}

fn find(
    inner: &Inner,
    feedback: &Feedback,
    row: &DecisionRow,
    deployment: &DeploymentId,
    members: &[MemberView],
) -> Result<Finding> {
    if let Some(reference) = &feedback.reference {
        return against(inner, reference, row, deployment, members);
    }
    if let Some(chosen) = &feedback.chosen {
        let right = members
            .iter()
            .find(|member| member.model.as_str() == chosen);
        let Some(group) = right.and_then(|member| member.group) else {
            let names: Vec<&str> = members.iter().map(|member| member.model.as_str()).collect();
            let message = format!(
                "chosen must be a member of the ensemble that gave an answer: {}",
                if names.is_empty() {
                    "this decision had none".into()
                } else {
                    names.join(", ")
                }
            );
            return Err(Error::invalid("chosen", message));
        };
        return Ok(of_group(members, Truth::Cluster(group)));
    }
    let by_thumb = feedback
        .thumb
        .map(|thumb| f64::from(u8::from(thumb == Thumb::Up)));
    let score = feedback.score.or(by_thumb).unwrap_or_default();
    let behind = members.iter().filter(|member| member.chosen);
    let group = behind.clone().find_map(|member| member.group);
    let groups: HashSet<u8> = members.iter().filter_map(|member| member.group).collect();
    let truth = match group {
        Some(group) if score >= RIGHT => Truth::Cluster(group),
        // The only answer was wrong.
        Some(_) if score <= 1.0 - RIGHT && groups.len() == 1 => Truth::NoneOfThem,
        _ => Truth::Unknown,
    };
    let mut each: Vec<(DeploymentId, f64)> =
        behind.map(|member| (member.model.clone(), score)).collect();
    if members.is_empty() {
        each.push((deployment.clone(), score));
    } else if truth != Truth::Unknown {
        // Who said something else than the right answer was wrong.
        let others = members.iter().filter(|member| !member.chosen);
        each.extend(others.map(|member| (member.model.clone(), 0.0)));
    }
    Ok(Finding { score, truth, each })
}

/// The members of a group were right, the others wrong.
fn of_group(members: &[MemberView], truth: Truth) -> Finding {
    let right = |member: &MemberView| match (truth, member.group) {
        (Truth::Cluster(group), Some(own)) => f64::from(u8::from(own == group)),
        _ => 0.0,
    };
    let winner = members.iter().find(|member| member.chosen);
    Finding {
        score: winner.map_or(0.0, right),
        truth,
        each: members
            .iter()
            .map(|member| (member.model.clone(), right(member)))
            .collect(),
    }
}

/// Holds the answers against the right one.
fn against(
    inner: &Inner,
    reference: &str,
    row: &DecisionRow,
    deployment: &DeploymentId,
    members: &[MemberView],
) -> Result<Finding> {
    let Some(answers) = inner.learner.recent().get(&row.id) else {
        let message =
            "the answers of this decision are not at hand any more: give score, thumb or chosen";
        return Err(Error::invalid("reference", message));
    };
    let right = |text: &Option<String>| {
        let text = text.as_deref();
        text.is_some_and(|text| compare::matches(reference, text, &answers.form))
    };
    if members.is_empty() {
        let said = answers.said.iter().find(|(id, _)| id == deployment);
        let score = f64::from(u8::from(said.is_some_and(|(_, text)| right(text))));
        return Ok(Finding {
            score,
            truth: Truth::Unknown,
            each: vec![(deployment.clone(), score)],
        });
    }
    let found = answers.said.iter().find(|(_, text)| right(text));
    let group = found.and_then(|(id, _)| members.iter().find(|member| member.model == *id)?.group);
    let truth = group.map_or(Truth::NoneOfThem, Truth::Cluster);
    Ok(of_group(members, truth))
}

/// Teaches everyone concerned; how many deployments that is.
fn learn(inner: &Inner, row: &DecisionRow, finding: &Finding, source: &Arc<str>) -> usize {
    let plan = PlanView::of(row);
    if let Some(trial) = &plan.trial {
        let now = std::time::Duration::from_millis(unix_ms().unsigned_abs());
        inner
            .learner
            .experiments()
            .observe(trial, finding.score, now);
    }
    if finding.truth != Truth::Unknown
        && let Some(seen) = round(row, finding.truth)
    {
        inner.learner.mark(seen);
    }
    let schooling = &inner.fleet.schooling;
    if let Some(topic) = &plan.topic {
        schooling.learn_topic(topic);
    }
    let task = row
        .task
        .as_deref()
        .and_then(|task| task.parse::<TaskKind>().ok())
        .or_else(|| {
            // It did not matter when it was asked.
            let answers = inner.learner.recent().get(&row.id)?;
            super::run::kind_of(inner, answers.question.as_deref()?, false)
        });
    let place = schooling.place_of(task, plan.topic.as_deref());
    let catalogue = inner.catalogue.load();
    let mut learned = 0;
    for (id, score) in &finding.each {
        if let Some(cell) = catalogue.get(id) {
            cell.judge(Judgement {
                place,
                traits: plan.traits,
                score: *score,
                weight: 1.0,
                source: Arc::clone(source),
                expected: plan.expected(id),
            });
            learned += 1;
        }
    }
    learned
}

/// What a value in the ledger says of the right group.
pub(super) fn truth(stored: Option<i64>) -> Truth {
    match stored {
        None => Truth::Unknown,
        Some(group) => u8::try_from(group).map_or(Truth::NoneOfThem, Truth::Cluster),
    }
}
