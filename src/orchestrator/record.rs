//! What is written down of a query, however it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Event, Inner, unix_ms};
use crate::answer::{MemberReport, Usage};
use crate::error::{Attempt, Error, ErrorKind};
use crate::id::DeploymentId;
use crate::ledger::DecisionRow;
use crate::query::{Lane, Query, TaskKind};
use crate::router::Plan;

/// A decision in the making. Dropped unfinished, it is written as cancelled: the caller went away.
pub(super) struct Record {
    inner: Arc<Inner>,
    row: Option<Box<DecisionRow>>,
    lane: Lane,
    started: Instant,
    waited: Duration,
    /// Spent on upstreams and pauses, of a query that one deployment answers.
    elsewhere: Option<Duration>,
}

impl Record {
    pub fn begin(inner: &Arc<Inner>, query: &Query, started: Instant) -> Self {
        let keep = inner.config.load().ledger.keep_prompts;
        let prompt = keep.then(|| serde_json::to_string(&query.messages).unwrap_or_default());
        let row = DecisionRow {
            id: query.id.clone(),
            at: 0,
            user: query.user.clone(),
            lane: query.lane.name().to_owned(),
            task: query.task.map(|task| TaskKind::name(task).to_owned()),
            asked: query.model.clone(),
            chosen: None,
            candidates: "[]".into(),
            attempts: "[]".into(),
            members: None,
            outcome: String::new(),
            ttft_ms: None,
            total_ms: 0.0,
            queue_ms: 0.0,
            input_tokens: 0,
            output_tokens: 0,
            cached_tokens: None,
            cost: None,
            prompt,
            answer: None,
        };
        Self {
            inner: Arc::clone(inner),
            row: Some(Box::new(row)),
            lane: query.lane,
            started,
            waited: Duration::ZERO,
            elsewhere: None,
        }
    }

    fn edit(&mut self, edit: impl FnOnce(&mut DecisionRow)) {
        if let Some(row) = &mut self.row {
            edit(row);
        }
    }

    /// Whose it is.
    pub fn inner(&self) -> &Inner {
        &self.inner
    }

    /// So long was spent on upstreams and pauses until the answer, or its first delta.
    pub fn elsewhere(&mut self, spent: Duration) {
        self.elsewhere = Some(spent);
    }

    /// Tells how long we ourselves took, once: until an answer is ready to be written, or its first delta.
    fn overhead(&mut self) {
        if let Some(elsewhere) = self.elsewhere.take() {
            let ours = self.started.elapsed();
            let ours = ours.saturating_sub(self.waited + elsewhere);
            self.inner.meters.overhead(ours);
        }
    }

    pub fn admitted(&mut self, waited: Duration) {
        self.waited = waited;
        self.edit(|row| row.queue_ms = waited.as_secs_f64() * 1e3);
    }

    pub fn planned(&mut self, plan: &Plan) {
        self.edit(|row| row.candidates = serde_json::to_string(plan).unwrap_or_default());
    }

    pub fn chosen(&mut self, model: &DeploymentId, attempts: &[Attempt], members: &[MemberReport]) {
        let keep = self.inner.config.load().ledger.keep_prompts;
        self.edit(|row| {
            row.chosen = Some(model.clone());
            row.attempts = attempts_json(attempts, keep);
            row.members = (!members.is_empty()).then(|| members_json(members, keep));
        });
    }

    pub fn first_delta(&mut self) {
        self.overhead();
        let ttft = self.started.elapsed();
        self.edit(|row| row.ttft_ms = row.ttft_ms.or(Some(ttft.as_secs_f64() * 1e3)));
    }

    pub fn used(&mut self, usage: Option<Usage>, cost: Option<f64>) {
        self.edit(|row| {
            if let Some(usage) = usage {
                row.input_tokens = usage.input;
                row.output_tokens = usage.output;
                row.cached_tokens = Some(usage.cached);
            }
            row.cost = cost;
        });
    }

    pub fn said(&mut self, answer: &str) {
        if self.inner.config.load().ledger.keep_prompts {
            self.edit(|row| row.answer = Some(answer.to_owned()));
        }
    }

    pub fn succeeded(mut self) {
        self.overhead();
        self.end(None);
    }

    pub fn failed(mut self, error: &Error) {
        let keep = self.inner.config.load().ledger.keep_prompts;
        self.edit(|row| {
            if row.chosen.is_none() {
                row.attempts = attempts_json(error.attempts(), keep);
            }
        });
        self.end(Some(error.kind()));
    }

    fn end(&mut self, failed: Option<ErrorKind>) {
        let Some(mut row) = self.row.take() else {
            return;
        };
        row.at = unix_ms();
        row.outcome = failed.map_or("ok", ErrorKind::name).to_owned();
        row.total_ms = self.started.elapsed().as_secs_f64() * 1e3;
        self.inner.meters.ended(self.lane, failed);
        if self.inner.events.receiver_count() > 0 {
            let _ = self
                .inner
                .events
                .send(Event::Decided(Arc::new((*row).clone())));
        }
        self.inner.ledger.record(*row);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.end(Some(ErrorKind::Cancelled));
    }
}

/// The attempts without what upstreams said, who may repeat the prompt: the ledger keeps none unless asked to.
fn attempts_json(attempts: &[Attempt], keep: bool) -> String {
    if keep || attempts.iter().all(|attempt| attempt.error.is_none()) {
        return serde_json::to_string(attempts).unwrap_or_default();
    }
    let bare: Vec<Attempt> = attempts.iter().map(Attempt::unquoted).collect();
    serde_json::to_string(&bare).unwrap_or_default()
}

/// The members without what they said: the ledger keeps no answers unless asked to.
fn members_json(members: &[MemberReport], keep: bool) -> String {
    let bare: Vec<MemberReport> = members
        .iter()
        .map(|member| MemberReport {
            content: member.content.clone().filter(|_| keep),
            error: member.error.clone().filter(|_| keep),
            ..member.clone()
        })
        .collect();
    serde_json::to_string(&bare).unwrap_or_default()
}
