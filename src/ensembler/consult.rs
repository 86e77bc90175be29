//! A further model judges the answers of an ensemble, or writes one out of them.

use std::sync::Arc;

use futures_util::FutureExt;

use super::Job;
use super::merge::{Vote, judge};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Executed;
use crate::query::{Message, Query};

/// Lets a model choose.
pub(super) async fn judged(
    job: &Job,
    question: &str,
    votes: &[Vote<'_>],
    seed: u64,
) -> Result<usize> {
    let texts: Vec<&str> = votes.iter().map(|vote| vote.text).collect();
    let prompt = judge::prompt(question, &texts, seed);
    let verdict = consult(job, prompt.system, prompt.user, false).await?;
    let (verdict, ..) = verdict.whole().await?;
    judge::parse(verdict.content(), &prompt.order)
        .ok_or_else(|| Error::new(ErrorKind::Malformed, "its reply names no answer"))
}

/// Asks the plan's judge. It sees the query's user and lane, none of its tools or formats.
pub(super) async fn consult(
    job: &Job,
    system: String,
    user: String,
    stream: bool,
) -> Result<Executed> {
    let Some(plan) = &job.plan.judge else {
        return Err(Error::new(
            ErrorKind::NoCandidate,
            "the ensemble has no judge",
        ));
    };
    let mut query = Query::of(
        plan.asked.clone(),
        vec![Message::system(system), Message::user(user)],
    );
    query.id = job.query.id.clone();
    query.user = job.query.user.clone();
    query.lane = job.query.lane;
    query.params.temperature = Some(0.0);
    query.params.max_tokens = job.query.params.max_tokens.map(|max| max.max(64));
    job.executor
        .run(&plan.cells(), &Arc::new(query), stream, false, job.deadline)
        .boxed()
        .await
}
