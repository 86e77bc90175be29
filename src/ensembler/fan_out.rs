//! One ensemble: asks its members at once, stops as soon as the outcome stands, merges.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::merge::{self, Strategy, Vote, judge, plurality, synthesize};
use super::{Job, Merged};
use crate::answer::{Answer, MemberReport};
use crate::error::{Attempt, Error, ErrorKind, Result};
use crate::executor::{Committed, Executed};
use crate::id::DeploymentId;
use crate::provider::Cell;
use crate::query::{Message, Query, Role};
use crate::router::Plan;
use crate::telemetry;

/// What a member came to.
struct Ballot {
    /// Its place in the plan.
    index: usize,
    took: Duration,
    result: Result<Given>,
}

/// A member's answer.
struct Given {
    answer: Answer,
    cell: Arc<Cell>,
    attempts: Vec<Attempt>,
}

pub(super) async fn run(job: Job) -> Result<Merged> {
    let deadline = match job.plan.deadline {
        Some(within) => job.deadline.min(Instant::now() + within),
        None => job.deadline,
    };
    let asked = affordable(&job);
    if asked.len() < job.plan.quorum {
        let message = format!(
            "max_cost allows {} members, the quorum is {}",
            asked.len(),
            job.plan.quorum
        );
        return Err(Error::invalid("max_cost", message));
    }
    if job.plan.merge == Strategy::First && job.stream {
        return race(&job, &asked, deadline).await;
    }
    let ballots = poll(&job, &asked, deadline).await;
    conclude(job, ballots, &asked).await
}

/// The members that the cost cap lets us ask, in the plan's order. What has no price costs nothing here.
fn affordable(job: &Job) -> Vec<usize> {
    let mut left = job.plan.max_cost.unwrap_or(f64::INFINITY);
    let mut asked = Vec::new();
    for (index, member) in job.plan.members.iter().enumerate() {
        let cost = member
            .candidates
            .first()
            .and_then(|first| first.expected.dollars)
            .unwrap_or(0.0);
        if cost <= left {
            left -= cost;
            asked.push(index);
        }
    }
    asked
}

/// The first member to begin an answer has the floor; the others are cancelled.
async fn race(job: &Job, asked: &[usize], deadline: Instant) -> Result<Merged> {
    let started = Instant::now();
    let mut running: FuturesUnordered<_> = asked
        .iter()
        .map(|&index| {
            let cells = job.plan.members[index].cells();
            async move {
                (
                    index,
                    job.executor.run(&cells, &job.query, true, deadline).await,
                )
            }
        })
        .collect();
    let mut failures: Vec<(usize, Error)> = Vec::new();
    while let Some((index, result)) = running.next().await {
        match result {
            Ok(executed) => {
                drop(running);
                let mut members = Vec::new();
                for (place, member) in job.plan.members.iter().enumerate() {
                    let failure = failures.iter().find(|(failed, _)| *failed == place);
                    let error = failure.map(|(_, error)| error);
                    members.push(absent(
                        member,
                        asked.contains(&place),
                        error,
                        started.elapsed(),
                    ));
                }
                let Executed {
                    committed,
                    cell,
                    attempts,
                    ..
                } = executed;
                let model = cell.deployment.load().id.clone();
                members[index] = MemberReport {
                    model: model.clone(),
                    outcome: "ok",
                    content: None,
                    error: None,
                    chosen: true,
                    ms: started.elapsed().as_secs_f64() * 1e3,
                };
                return Ok(Merged {
                    committed,
                    model,
                    members,
                    agreement: None,
                    confidence: None,
                    attempts,
                    note: None,
                    cost: None,
                });
            }
            Err(error) => failures.push((index, error)),
        }
    }
    Err(no_quorum(
        0,
        1,
        failures.into_iter().map(|(_, error)| error).collect(),
    ))
}

/// Asks every member and gathers what they say until the outcome stands.
async fn poll(job: &Job, asked: &[usize], deadline: Instant) -> Vec<Ballot> {
    let started = Instant::now();
    let mut running: FuturesUnordered<_> = asked
        .iter()
        .map(|&index| {
            let cells = job.plan.members[index].cells();
            async move {
                let result = job.executor.run(&cells, &job.query, false, deadline).await;
                let result = match result {
                    Ok(executed) => executed.whole().await,
                    Err(error) => Err(error),
                };
                let result = result.map(|(answer, cell, attempts)| Given {
                    answer,
                    cell,
                    attempts,
                });
                Ballot {
                    index,
                    took: started.elapsed(),
                    result,
                }
            }
        })
        .collect();
    let mut ballots = Vec::new();
    while let Ok(Some(ballot)) = timeout_at(deadline, running.next()).await {
        ballots.push(ballot);
        let given = ballots
            .iter()
            .filter(|ballot| ballot.result.is_ok())
            .count();
        if given + running.len() < job.plan.quorum
            || (given >= job.plan.quorum && settled(job, &ballots, asked))
        {
            break;
        }
    }
    ballots
}

/// Whether what is still to come cannot change the outcome.
fn settled(job: &Job, ballots: &[Ballot], asked: &[usize]) -> bool {
    let answered: Vec<&Ballot> = ballots
        .iter()
        .filter(|ballot| ballot.result.is_ok())
        .collect();
    let outstanding: Vec<usize> = asked
        .iter()
        .copied()
        .filter(|index| ballots.iter().all(|ballot| ballot.index != *index))
        .collect();
    let quality = |index: usize| {
        job.plan.members[index]
            .candidates
            .first()
            .map_or(0.0, |c| c.expected.quality)
    };
    match job.plan.merge {
        Strategy::First => !answered.is_empty(),
        Strategy::Plurality => plurality::decided(&votes(job, &answered), outstanding.len()),
        Strategy::Best => {
            let best = answered
                .iter()
                .map(|ballot| quality(ballot.index))
                .fold(0.0, f64::max);
            outstanding.iter().all(|index| quality(*index) < best)
        }
        Strategy::Weighted | Strategy::Judge | Strategy::Synthesize => outstanding.is_empty(),
    }
}

/// The answers as votes, in order of arrival.
fn votes<'a>(job: &'a Job, answered: &[&'a Ballot]) -> Vec<Vote<'a>> {
    let given = answered.iter().filter_map(|ballot| {
        ballot
            .result
            .as_ref()
            .ok()
            .map(|given| (ballot.index, given))
    });
    given
        .enumerate()
        .map(|(order, (index, given))| {
            let candidate = job.plan.members[index].candidates.first();
            let quality = candidate.map_or(0.5, |candidate| candidate.expected.quality);
            Vote {
                text: given.answer.content(),
                quality,
                family: candidate.and_then(|candidate| candidate.family.as_deref()),
                order,
            }
        })
        .collect()
}

/// Merges the ballots into one answer.
async fn conclude(job: Job, ballots: Vec<Ballot>, asked: &[usize]) -> Result<Merged> {
    let answered: Vec<&Ballot> = ballots
        .iter()
        .filter(|ballot| ballot.result.is_ok())
        .collect();
    if answered.len() < job.plan.quorum {
        let answered = answered.len();
        let errors = ballots
            .into_iter()
            .filter_map(|ballot| ballot.result.err())
            .collect();
        return Err(no_quorum(answered, job.plan.quorum, errors));
    }
    let votes = votes(&job, &answered);
    let question = job
        .query
        .messages
        .iter()
        .rev()
        .find(|message| message.role == Role::User);
    let question = question.map(Message::text).unwrap_or_default();
    let seed = rand::random();
    let mut note = None;
    let (merged, written) = match job.plan.merge {
        Strategy::Judge => match judged(&job, &question, &votes, seed).await {
            Ok(winner) => (merge::chosen(&votes, winner), None),
            Err(why) => {
                note = Some(format!("the judge did not decide ({why}): weighted vote"));
                (merge::merge(Strategy::Weighted, &votes), None)
            }
        },
        Strategy::Synthesize => {
            let texts: Vec<&str> = votes.iter().map(|vote| vote.text).collect();
            let prompt = synthesize::prompt(&question, &texts, seed);
            let written = consult(&job, prompt.system, prompt.user, job.stream).await;
            if let Err(why) = &written {
                note = Some(format!(
                    "nobody could write the merged answer ({why}): weighted vote"
                ));
            }
            (merge::merge(Strategy::Weighted, &votes), written.ok())
        }
        strategy => (merge::merge(strategy, &votes), None),
    };
    if let Some(note) = &note {
        tracing::warn!(note, "ensemble");
    }
    let Some(merged) = merged else {
        return Err(Error::new(ErrorKind::Internal, "the merge found no answer"));
    };
    telemetry::agreement(job.plan.merge.name(), merged.agreement);
    let agreeing: Vec<usize> = merged
        .groups
        .first()
        .map(|group| group.members.clone())
        .unwrap_or_else(|| vec![merged.winner]);
    let chosen: Vec<usize> = agreeing.iter().map(|vote| answered[*vote].index).collect();
    let winner = answered[merged.winner].index;
    let longest = ballots
        .iter()
        .map(|ballot| ballot.took)
        .max()
        .unwrap_or_default();
    let members = job.plan.members.iter().enumerate().map(|(place, member)| {
        let ballot = ballots.iter().find(|ballot| ballot.index == place);
        match ballot.map(|ballot| (&ballot.result, ballot.took)) {
            Some((Ok(given), took)) => MemberReport {
                model: given.cell.deployment.load().id.clone(),
                outcome: "ok",
                content: Some(given.answer.content().to_owned()),
                error: None,
                chosen: chosen.contains(&place),
                ms: took.as_secs_f64() * 1e3,
            },
            Some((Err(error), took)) => absent(member, true, Some(error), took),
            None => absent(member, asked.contains(&place), None, longest),
        }
    });
    let members = members.collect();
    let mut attempts = Vec::new();
    let mut cost = None;
    let mut answer = None;
    for ballot in ballots {
        match ballot.result {
            Ok(given) => {
                add_cost(&mut cost, &given.cell, &given.answer);
                attempts.extend(given.attempts);
                if ballot.index == winner {
                    answer = Some((given.answer, given.cell));
                }
            }
            Err(error) => attempts.extend(error.attempts().iter().cloned()),
        }
    }
    let Some((answer, cell)) = answer else {
        return Err(Error::new(
            ErrorKind::Internal,
            "the chosen answer is missing",
        ));
    };
    let (committed, cell) = match written {
        Some(executed) => {
            attempts.extend(executed.attempts);
            if let Committed::Whole(answer) = &executed.committed {
                add_cost(&mut cost, &executed.cell, answer);
            }
            (executed.committed, executed.cell)
        }
        None => (Committed::Whole(answer), cell),
    };
    Ok(Merged {
        committed,
        model: cell.deployment.load().id.clone(),
        members,
        agreement: Some(merged.agreement),
        confidence: Some(merged.confidence),
        attempts,
        note,
        cost,
    })
}

/// Lets a model choose.
async fn judged(job: &Job, question: &str, votes: &[Vote<'_>], seed: u64) -> Result<usize> {
    let texts: Vec<&str> = votes.iter().map(|vote| vote.text).collect();
    let prompt = judge::prompt(question, &texts, seed);
    let verdict = consult(job, prompt.system, prompt.user, false).await?;
    let (verdict, ..) = verdict.whole().await?;
    judge::parse(verdict.content(), &prompt.order)
        .ok_or_else(|| Error::new(ErrorKind::Malformed, "its reply names no answer"))
}

/// Asks the plan's judge. It sees the query's user and lane, none of its tools or formats.
async fn consult(job: &Job, system: String, user: String, stream: bool) -> Result<Executed> {
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
        .run(&plan.cells(), &Arc::new(query), stream, job.deadline)
        .boxed()
        .await
}

fn add_cost(cost: &mut Option<f64>, cell: &Cell, answer: &Answer) {
    if let (Some(price), Some(usage)) = (cell.deployment.load().price, answer.usage) {
        *cost.get_or_insert(0.0) += price.of(usage);
    }
}

/// A member without an answer.
fn absent(member: &Plan, asked: bool, error: Option<&Error>, took: Duration) -> MemberReport {
    let model = member.candidates.first().map_or_else(
        || DeploymentId::from(member.asked.as_str()),
        |candidate| candidate.deployment.clone(),
    );
    let outcome = match (asked, error) {
        (false, _) => "not asked: max_cost",
        (true, Some(error)) => error.kind().name(),
        (true, None) => ErrorKind::Cancelled.name(),
    };
    MemberReport {
        model,
        outcome,
        content: None,
        error: error.map(|error| error.message().to_owned()),
        chosen: false,
        ms: took.as_secs_f64() * 1e3,
    }
}

fn no_quorum(answered: usize, quorum: usize, errors: Vec<Error>) -> Error {
    let attempts: Vec<Attempt> = errors
        .iter()
        .flat_map(|error| error.attempts().iter().cloned())
        .collect();
    let message = format!("the quorum of {quorum} was not reached: {answered} answered");
    let Some(cause) = Error::most_useful(errors) else {
        return Error::new(ErrorKind::Deadline, format!("{message} in time"))
            .with_attempts(attempts);
    };
    let kind = cause.kind();
    let mut error = Error::new(kind, format!("{message}; {}", cause.message()))
        .with_retry_after(cause.retry_after())
        .with_attempts(attempts);
    if let Some(upstream) = cause.upstream() {
        error = error.with_upstream(upstream.status, upstream.body.as_bytes());
    }
    error
}
