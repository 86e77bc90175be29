//! One query's way: permit, plan, answer, report.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tracing::Instrument;

use super::record::Record;
use super::{Inner, Streaming, closing, evidence};
use crate::answer::{Answer, Delta, Deltas, FinishReason, Report, Usage};
use crate::dispatcher::Permit;
use crate::ensembler::{Ending, Job, Merged};
use crate::error::{Error, Result};
use crate::executor::{self, Committed, Executed};
use crate::id::DeploymentId;
use crate::learning::aptitude::Traits;
use crate::learning::task;
use crate::provider::Cell;
use crate::query::{Query, TaskKind};
use crate::router::Trial;

/// Of a streamed answer at most so many bytes are kept, where answers are kept.
const MOST_KEPT: usize = 32 << 20;
/// Longer streamed answers, in bytes, are not held against a reference, nor checked.
const MOST_SAID: usize = 16 * 1024;

/// A plan made longer ago is made again.
const STALE: Duration = Duration::from_millis(1);

/// An answer that has begun, and what belongs to it.
struct Begun {
    committed: Committed,
    report: Report,
    record: Record,
    permit: Permit,
    /// Who gives it, for its price.
    cell: Option<Arc<Cell>>,
    /// What was asked of whom, of one deployment's answer: what it shows is evidence.
    asked: Option<Asked>,
}

/// A query that one deployment answers.
struct Asked {
    query: Arc<Query>,
    traits: Option<Traits>,
    /// Where it is a member of an ensemble.
    ending: Option<Ending>,
}

pub(super) async fn ask(inner: &Arc<Inner>, query: Query) -> Result<Answer> {
    let span = span(&query);
    async {
        let Begun {
            committed,
            mut report,
            mut record,
            permit,
            cell,
            asked: _,
        } = begin(inner, query, false).await?;
        let outcome = match committed {
            Committed::Whole(answer) => Ok(answer),
            // The executor reads streams to their end when nobody wants deltas, so this is a merge's own.
            Committed::Stream(deltas) => executor::collect(deltas).await,
        };
        drop(permit);
        match outcome {
            Ok(mut answer) => {
                report.cost = report.cost.or_else(|| cost(cell.as_deref(), answer.usage));
                record.used(answer.usage, report.cost);
                record.said(answer.content());
                record.succeeded();
                answer.report = report;
                Ok(answer)
            }
            Err(error) => {
                record.failed(&error);
                Err(error)
            }
        }
    }
    .instrument(span)
    .await
}

pub(super) async fn stream(inner: &Arc<Inner>, query: Query) -> Result<Streaming> {
    let decision = query.id.clone();
    let span = span(&query);
    let begun = begin(inner, query, true).instrument(span).await?;
    let Begun {
        committed,
        report,
        mut record,
        permit,
        cell,
        asked,
    } = begun;
    record.first_delta();
    let deltas = committed.into_deltas();
    let running = Running {
        deltas,
        held: None,
        failure: None,
        report,
        record: Some(record),
        permit: Some(permit),
        cell,
        asked,
        finish: None,
        usage: None,
        said: String::new(),
        cut: Box::pin(inner.cut.clone().cancelled_owned()),
        most: if inner.config.load().ledger.keep_prompts {
            MOST_KEPT
        } else {
            MOST_SAID
        },
    };
    let model = running
        .report
        .model
        .clone()
        .unwrap_or_else(|| DeploymentId::from("?"));
    Ok(Streaming {
        decision,
        model,
        deltas: running.boxed(),
    })
}

fn span(query: &Query) -> tracing::Span {
    tracing::info_span!(
        "query",
        quorate.decision = %query.id,
        gen_ai.request.model = %query.model,
        quorate.lane = query.lane.name(),
    )
}

fn cost(cell: Option<&Cell>, usage: Option<crate::answer::Usage>) -> Option<f64> {
    Some(cell?.deployment.load().price?.of(usage?))
}

/// Admits the query, plans it, and brings its answer to its beginning.
async fn begin(inner: &Arc<Inner>, mut query: Query, stream: bool) -> Result<Begun> {
    let started = query.arrived.unwrap_or_else(Instant::now);
    let trial = prepare(inner, &mut query, true);
    if inner.closing.load(Ordering::Relaxed) {
        return Err(closing());
    }
    let mut record = Record::begin(inner, &query, started);
    // Boxed, since what is awaited by value is copied into each of those who await it.
    let begun = Box::pin(proceed(inner, query, trial, stream, started, &mut record));
    let begun = tokio::select! {
        begun = begun => begun,
        () = inner.cut.cancelled() => Err(closing()),
    };
    match begun {
        Ok((committed, report, permit, cell, asked)) => Ok(Begun {
            committed,
            report,
            record,
            permit,
            cell,
            asked,
        }),
        Err(error) => {
            tracing::info!(%error, "query failed");
            record.failed(&error);
            Err(error)
        }
    }
}

/// Leads a query of an experiment to its variant, which `keep` holds for whoever asked, and finds out what kind of work
/// it is, if that matters to who is asked.
pub(super) fn prepare(inner: &Inner, query: &mut Query, keep: bool) -> Option<Trial> {
    let keep = keep && !inner.fleet.schooling.is_pinned();
    let trial = inner.learner.experiments().enter(query, keep);
    if inner.catalogue.load().chooses(query) {
        query.task = kind(inner, query);
    }
    trial
}

/// What kind of work a query is: as its caller says, or as it is found to be. Finding out takes some 10 µs, which is
/// spent where there is a choice to be made or something to be learned.
pub(super) fn kind(inner: &Inner, query: &Query) -> Option<TaskKind> {
    query.task.or_else(|| {
        let question = query.question()?;
        kind_of(inner, &question, !query.tools.is_empty())
    })
}

/// What kind of work a question is found to be, if the operator wants that found.
pub(super) fn kind_of(inner: &Inner, question: &str, has_tools: bool) -> Option<TaskKind> {
    let classify = inner.config.load().routing.classify;
    // Without tools nobody is asked to use them, whatever the words are like.
    let found = classify.then(|| task::classify(question, has_tools).kind);
    match found {
        Some(TaskKind::ToolUse) if !has_tools => Some(TaskKind::Other),
        found => found,
    }
}

async fn proceed(
    inner: &Arc<Inner>,
    query: Query,
    trial: Option<Trial>,
    stream: bool,
    started: Instant,
    record: &mut Record,
) -> Result<(Committed, Report, Permit, Option<Arc<Cell>>, Option<Asked>)> {
    if query.messages.is_empty() {
        return Err(Error::invalid("messages", "messages must not be empty"));
    }
    let deadline = {
        let admission = &inner.config.load().admission;
        let asked = query.deadline.unwrap_or(started + admission.deadline);
        asked.min(started + admission.max_deadline)
    };
    // A name that leads nowhere is told at once, not after a wait.
    let mut catalogue = inner.catalogue.load_full();
    let mut plan = catalogue.plan(&query, stream)?;
    let knocked = Instant::now();
    let permit = inner
        .dispatcher
        .admit(&query.user, query.lane, deadline)
        .await?;
    let waited = knocked.elapsed();
    record.admitted(waited);
    if waited > STALE {
        // What was true before the wait may not be now.
        catalogue = inner.catalogue.load_full();
        plan = catalogue.plan(&query, stream)?;
    }
    plan.trial = trial;
    inner.fleet.schooling.advance();
    let course = plan
        .ensemble
        .as_ref()
        .and_then(|ensemble| inner.learner.course(&ensemble.key));
    if let Some(ensemble) = &mut plan.ensemble {
        ensemble.state = course.as_ref().map(|course| course.digest.clone());
    }
    if let (Some(why), Some(basis)) = (plan.why, &plan.basis) {
        catalogue.policy.note(plan.place, why, basis.bounds);
    }
    record.planned(&plan);
    let mut report = Report {
        decision: Some(query.id.clone()),
        ..Report::default()
    };
    if query.routing.explain {
        report.plan = serde_json::to_value(&plan).ok();
    }
    let query = Arc::new(query);
    let cells = plan.cells();
    let traits = plan.traits;
    let Some(ensemble) = plan.ensemble else {
        let executed = inner
            .executor
            .run(&cells, &query, stream, true, deadline)
            .await?;
        let Executed {
            committed,
            cell,
            attempts,
            elsewhere,
        } = executed;
        record.elsewhere(elsewhere);
        report.model = Some(cell.deployment.load().id.clone());
        report.note = cell.provider.load().note();
        record.chosen(&cell.deployment.load().id, &attempts, &[]);
        report.attempts = attempts;
        if let Some(session) = &query.session {
            catalogue.policy.served(session, &cell.deployment.load().id);
        }
        if let Committed::Whole(answer) = &committed {
            evidence::of_answer(inner, &query, traits, &cell, answer);
        }
        let asked = Asked {
            query,
            traits,
            ending: None,
        };
        return Ok((committed, report, permit, Some(cell), Some(asked)));
    };
    let executor = Arc::clone(&inner.executor);
    let job = Job {
        query: Arc::clone(&query),
        course,
        plan: ensemble,
        stream,
        deadline,
        executor,
    };
    let mut merged = Box::pin(inner.ensembler.run(job)).await?;
    record.chosen(&merged.model, &merged.attempts, &merged.members);
    if let Some(lesson) = merged.lesson.take() {
        evidence::of_ensemble(inner, &query, traits, lesson, &merged.members);
    }
    let cell = inner.catalogue.load().get(&merged.model).cloned();
    report.note = cell.as_ref().and_then(|cell| cell.provider.load().note());
    let ending = merged.ending.take();
    let asked = ending.map(|ending| Asked {
        query,
        traits,
        ending: Some(ending),
    });
    let committed = tell(&mut report, merged);
    Ok((committed, report, permit, cell, asked))
}

/// Reports an ensemble.
fn tell(report: &mut Report, merged: Merged) -> Committed {
    report.ensemble = merged.report;
    report.model = Some(merged.model);
    report.attempts = merged.attempts;
    report.members = merged.members;
    report.agreement = merged.agreement;
    report.confidence = merged.confidence;
    report.cost = merged.cost;
    report.note = merged.note.or(report.note.take());
    merged.committed
}

/// A stream on its way to the caller: holds the permit, and writes the record when it ends or is dropped.
struct Running {
    deltas: Deltas,
    /// The last delta is held back until it is known to be the last, since it carries the report. Only deltas
    /// that finish a choice or do nothing but count tokens can be the last, so no text waits.
    held: Option<Delta>,
    /// An error still to be told.
    failure: Option<Error>,
    report: Report,
    record: Option<Record>,
    /// Until the end, whenever the last of it is read.
    permit: Option<Permit>,
    cell: Option<Arc<Cell>>,
    asked: Option<Asked>,
    finish: Option<FinishReason>,
    usage: Option<Usage>,
    /// What was said so far, up to `most` bytes: past it, it is not whole any more and shows nothing.
    said: String,
    most: usize,
    /// Ready when running queries are cut off.
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Running {
    /// What the whole answer shows of its deployment, and of the ensemble that it decided.
    fn learn(&mut self, record: &mut Record) {
        let (Some(asked), Some(cell)) = (self.asked.take(), &self.cell) else {
            return;
        };
        let said = self.said.len();
        let mut answer = Answer::text(std::mem::take(&mut self.said));
        answer.usage = self.usage;
        if let Some(choice) = answer.choices.first_mut() {
            choice.finish = self.finish.take();
        }
        let Some(ending) = asked.ending else {
            if said <= MOST_SAID {
                evidence::of_answer(record.inner(), &asked.query, asked.traits, cell, &answer);
            }
            return;
        };
        let Some(mut merged) = ending.of(answer) else {
            return;
        };
        if said > self.most {
            // Only its beginning is known.
            for member in merged
                .members
                .iter_mut()
                .filter(|one| one.model == merged.model)
            {
                member.content = None;
            }
        }
        record.chosen(&merged.model, &merged.attempts, &merged.members);
        record.used(self.usage, merged.cost);
        if let Some(lesson) = merged.lesson.take() {
            let (query, traits) = (&asked.query, asked.traits);
            evidence::of_ensemble(record.inner(), query, traits, lesson, &merged.members);
        }
        tell(&mut self.report, merged);
    }

    /// Takes in a delta, and hands out what can be told of what came so far.
    fn pass(&mut self, delta: Delta) -> Option<Delta> {
        if let (Some(usage), Some(record)) = (delta.usage, &mut self.record) {
            self.usage = Some(usage);
            let known = self.report.cost;
            self.report.cost = known.or_else(|| cost(self.cell.as_deref(), Some(usage)));
            record.used(Some(usage), self.report.cost);
        }
        if self.said.len() <= self.most {
            self.said.push_str(delta.content());
        }
        if let Some(choice) = delta.choices.first() {
            if choice.finish.is_some() {
                self.finish.clone_from(&choice.finish);
            }
            if !choice.tool_calls.is_empty() {
                // Tools are called, nothing is said.
                self.asked = None;
            }
        }
        let may_be_last = delta.finishes() || (delta.usage.is_some() && !delta.says());
        match self.held.take() {
            None if !may_be_last => Some(delta),
            before => {
                self.held = Some(delta);
                before
            }
        }
    }

    /// The error, after what was held back, which came before it.
    fn fail(&mut self, error: Error) -> Result<Delta> {
        self.permit = None;
        if let Some(record) = self.record.take() {
            record.failed(&error);
        }
        match self.held.take() {
            None => Err(error),
            Some(held) => {
                self.failure = Some(error);
                Ok(held)
            }
        }
    }

    /// The last delta, which carries the report.
    fn finish(&mut self, mut record: Record) -> Delta {
        self.permit = None;
        record.said(&self.said);
        self.learn(&mut record);
        record.succeeded();
        let mut last = self.held.take().unwrap_or_default();
        last.report = Some(Box::new(std::mem::take(&mut self.report)));
        last
    }
}

impl Stream for Running {
    type Item = Result<Delta>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(error) = this.failure.take() {
                return Poll::Ready(Some(Err(error)));
            }
            let Some(record) = &this.record else {
                // The end has been told.
                return Poll::Ready(None);
            };
            // Also while there is always more to read.
            if record.inner().cut.is_cancelled() {
                return Poll::Ready(Some(this.fail(closing())));
            }
            return Poll::Ready(Some(match this.deltas.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(delta))) => match this.pass(delta) {
                    Some(delta) => Ok(delta),
                    None => continue,
                },
                Poll::Ready(Some(Err(error))) => this.fail(error),
                Poll::Ready(None) => match this.record.take() {
                    Some(record) => Ok(this.finish(record)),
                    None => return Poll::Ready(None),
                },
                Poll::Pending => {
                    ready!(this.cut.as_mut().poll(cx));
                    this.fail(closing())
                }
            }));
        }
    }
}
