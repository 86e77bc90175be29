//! What answers show of their deployments without anybody's judgement: checks, and agreement with others; and evidence
//! that is brought in from elsewhere.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Inner;
use crate::answer::{Answer, FinishReason, MemberReport};
use crate::ensembler::Lesson;
use crate::ensembler::merge::compare::Form;
use crate::ensembler::merge::compare::checks::{Check, checks};
use crate::error::{Error, Result};
use crate::id::DeploymentId;
use crate::learning::MAX_WEIGHT;
use crate::learning::aptitude::Traits;
use crate::learning::topics::LONGEST;
use crate::provider::{Cell, Judgement};
use crate::query::{Query, TaskKind};

/// What a failed check weighs, against a user's judgement of 1.
const FAILED_CHECK: f64 = 0.5;
/// What a check that was passed weighs: it shows form, not truth.
const PASSED_CHECK: f64 = 0.1;
/// Longer answers, in bytes, are not checked: it would take longer than a query may be held up.
const LONGEST_CHECKED: usize = 16 * 1024;
/// What a judge's choice weighs.
const JUDGE: f64 = 0.3;
/// What the agreement of the others weighs.
const AGREEMENT: f64 = 0.2;

/// What our own judgements are called. Nobody else's is: weights differ.
pub(super) const OWN_SOURCES: [&str; 3] = ["check", "agreement", "judge"];

/// A judgement from elsewhere: a test's result, an external judge's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The deployment that was tested.
    pub deployment: String,
    /// How well it did, 0..=1.
    pub score: f64,
    /// What that weighs against a user's judgement of 1; above 0, at most 10. Default 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// Who judged, 1 to 64 bytes.
    pub source: String,
    /// The kind of work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskKind>,
    /// The caller's own name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// What was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}

fn one() -> f64 {
    1.0
}

/// Takes in evidence from elsewhere: all of it, or none if something is wrong with one.
pub(super) fn import(inner: &Inner, all: &[Evidence]) -> Result<()> {
    let schooling = &inner.fleet.schooling;
    if schooling.is_pinned() {
        let message = "is pinned: nothing is learned until it is unpinned";
        return Err(Error::invalid("state", message));
    }
    let catalogue = inner.catalogue.load();
    let mut checked = Vec::with_capacity(all.len());
    for (at, one) in all.iter().enumerate() {
        let cell = catalogue.get(&DeploymentId::from(one.deployment.as_str()));
        match check_one(one, cell) {
            Ok(cell) => checked.push((one, cell)),
            Err((field, message)) if all.len() == 1 => return Err(Error::invalid(field, message)),
            Err((field, message)) => {
                return Err(Error::invalid(format!("evidence[{at}].{field}"), message));
            }
        }
    }
    schooling.advance();
    for (one, cell) in checked {
        if let Some(topic) = &one.topic {
            schooling.learn_topic(topic);
        }
        cell.judge(Judgement {
            place: schooling.place_of(one.task, one.topic.as_deref()),
            traits: one.prompt.as_deref().map(Traits::of),
            score: one.score,
            weight: one.weight,
            source: one.source.as_str().into(),
            expected: None,
        });
    }
    Ok(())
}

fn check_one<'a>(
    one: &Evidence,
    cell: Option<&'a Arc<Cell>>,
) -> Result<&'a Arc<Cell>, (&'static str, String)> {
    let Some(cell) = cell else {
        let shown: String = one.deployment.chars().take(80).collect();
        return Err(("deployment", format!("no deployment is called '{shown}'")));
    };
    if !(0.0..=1.0).contains(&one.score) {
        return Err(("score", "must be a number from 0 to 1".into()));
    }
    if !(one.weight > 0.0 && one.weight <= MAX_WEIGHT) {
        let message = format!("must be a number above 0, at most {MAX_WEIGHT}");
        return Err(("weight", message));
    }
    if !(1..=64).contains(&one.source.len()) {
        return Err(("source", "must be 1 to 64 bytes".into()));
    }
    let topic = one.topic.as_ref();
    if topic.is_some_and(|topic| !(1..=LONGEST).contains(&topic.len())) {
        return Err(("topic", format!("must be 1 to {LONGEST} bytes")));
    }
    Ok(cell)
}

/// What one answer shows, and keeps it for a reference to come.
pub(super) fn of_answer(
    inner: &Inner,
    query: &Query,
    traits: Option<Traits>,
    cell: &Cell,
    answer: &Answer,
) {
    let question = query.question().unwrap_or_default();
    let form = Form::of(&question, query.response_format.as_ref());
    let Some(choice) = answer.choices.first() else {
        return;
    };
    let text = choice.message.content.as_deref();
    if choice.message.tool_calls.is_empty() {
        let finish = choice.finish.as_ref().map(FinishReason::as_str);
        check(
            inner,
            query,
            traits,
            cell,
            &form,
            text.unwrap_or_default(),
            finish,
        );
    }
    let id = cell.deployment.load().id.clone();
    let recent = inner.learner.recent();
    recent.keep(&query.id, &question, form, [(id, text)]);
}

/// What an ensemble shows of its members.
pub(super) fn of_ensemble(
    inner: &Inner,
    query: &Query,
    traits: Option<Traits>,
    lesson: Lesson,
    members: &[MemberReport],
) {
    let catalogue = inner.catalogue.load();
    for member in members {
        if let (Some(text), Some(cell)) = (&member.content, catalogue.get(&member.model)) {
            check(inner, query, traits, cell, &lesson.form, text, None);
        }
    }
    if let Some(winner) = &lesson.judged {
        // A judge compares: who says the same as the winner wins with it.
        for member in members.iter().filter(|member| member.outcome == "ok") {
            let won = member.chosen || member.model == *winner;
            if let Some(cell) = catalogue.get(&member.model) {
                judge(
                    inner,
                    query,
                    traits,
                    cell,
                    f64::from(u8::from(won)),
                    JUDGE,
                    "judge",
                );
            }
        }
    }
    for (id, belief) in &lesson.agreement {
        if let Some(cell) = catalogue.get(id) {
            judge(inner, query, traits, cell, *belief, AGREEMENT, "agreement");
        }
    }
    let said = members
        .iter()
        .filter(|member| member.outcome == "ok")
        .map(|member| (member.model.clone(), member.content.as_deref()));
    let question = query.question().unwrap_or_default();
    let recent = inner.learner.recent();
    recent.keep(&query.id, &question, lesson.form, said);
    inner.learner.saw(lesson.seen, lesson.setup);
}

fn check(
    inner: &Inner,
    query: &Query,
    traits: Option<Traits>,
    cell: &Cell,
    form: &Form,
    text: &str,
    finish: Option<&str>,
) {
    if text.len() > LONGEST_CHECKED {
        return;
    }
    let findings = checks(text, form, query.response_format.as_ref(), finish);
    if findings.iter().any(|finding| !finding.passed) {
        return judge(inner, query, traits, cell, 0.0, FAILED_CHECK, "check");
    }
    // Most answers are not empty: that shows nothing. That a schema fits does.
    let telling = [Check::JsonParses, Check::SchemaFits, Check::CodeBalanced];
    if findings
        .iter()
        .any(|finding| telling.contains(&finding.check))
    {
        judge(inner, query, traits, cell, 1.0, PASSED_CHECK, "check");
    }
}

fn judge(
    inner: &Inner,
    query: &Query,
    traits: Option<Traits>,
    cell: &Cell,
    score: f64,
    weight: f64,
    source: &str,
) {
    let kind = super::run::kind(inner, query);
    cell.judge(Judgement {
        place: inner.fleet.schooling.place_of(kind, query.topic.as_deref()),
        traits,
        score,
        weight,
        source: source.into(),
        expected: None,
    });
}
