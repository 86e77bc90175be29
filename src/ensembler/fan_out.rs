//! One ensemble: asks its members at once, stops as soon as the outcome stands, merges.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::merge::compare;
use super::merge::{self, Strategy, Vote, judge, synthesize};
use super::steering::{Heard, Progress, Steering, Step, Why};
use super::vectors::Vectors;
use super::{Job, Lesson, Merged};
use crate::answer::{Answer, EnsembleReport, MemberReport};
use crate::error::{Attempt, Error, ErrorKind, Result};
use crate::executor::{self, Committed, Executed};
use crate::id::DeploymentId;
use crate::provider::Cell;
use crate::query::{Message, Query};
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
    /// Of what it says, where the ensemble wants one.
    vector: Option<Box<[f32]>>,
}

pub(super) async fn run(job: Job, vectors: &Vectors) -> Result<Merged> {
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
    let steering = Steering::new(&job.plan, &job.query, job.course.as_ref());
    let polled = poll(&job, &steering, vectors, &asked, deadline).await;
    conclude(&job, &steering, polled).await
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
                let begun = job.executor.run(&cells, &job.query, true, deadline).await;
                match begun {
                    Ok(begun) => (index, speaking(begun).await),
                    Err(error) => (index, Err(error)),
                }
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
                    let asked = asked.contains(&place);
                    let why = if asked { None } else { Some("max_cost") };
                    members.push(absent(member, why, error, started.elapsed()));
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
                    group: None,
                    tokens: None,
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
                    report: None,
                    lesson: None,
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

/// What was asked, and what came of it.
struct Polled {
    ballots: Vec<Ballot>,
    /// Who was asked, by place, in order.
    asked: Vec<usize>,
    /// Who could be afforded.
    open: Vec<usize>,
    /// Why no more; `None` at the deadline, or when the quorum is out of reach.
    why: Option<Why>,
}

/// Asks members as steering says, and gathers what they say until it is enough.
async fn poll(
    job: &Job,
    steering: &Steering<'_>,
    vectors: &Vectors,
    open: &[usize],
    deadline: Instant,
) -> Polled {
    let started = Instant::now();
    let ask = |place: usize| {
        let cells = job.plan.members[place].cells();
        async move {
            let result = job.executor.run(&cells, &job.query, false, deadline).await;
            let result = match result {
                Ok(executed) => executed.whole().await,
                Err(error) => Err(error),
            };
            let took = started.elapsed();
            let result = match result {
                Ok((answer, cell, attempts)) => Ok(Given {
                    vector: vector(steering, vectors, &answer, deadline).await,
                    answer,
                    cell,
                    attempts,
                }),
                Err(error) => Err(error),
            };
            Ballot {
                index: place,
                took,
                result,
            }
        }
    };
    let mut running = FuturesUnordered::new();
    let mut polled = Polled {
        ballots: Vec::new(),
        asked: Vec::new(),
        open: open.to_vec(),
        why: None,
    };
    // Until when each is waited for.
    let mut patience: Vec<(usize, Instant)> = Vec::new();
    loop {
        let now = Instant::now();
        patience.retain(|(place, _)| polled.ballots.iter().all(|ballot| ballot.index != *place));
        let late = patience.iter().filter(|(_, until)| *until <= now).count();
        let heard = heard(&polled.ballots, job.plan.merge);
        let progress = Progress {
            open,
            asked: &polled.asked,
            heard: &heard,
            failed: polled.ballots.len() - heard.len(),
            late,
        };
        if heard.len() + open.len() - polled.ballots.len() < job.plan.quorum {
            return polled;
        }
        match steering.step(&progress) {
            // There is no time left to answer.
            Step::Ask(_) if now >= deadline => return polled,
            Step::Ask(members) => {
                polled.asked.extend(&members);
                let unasked = |at: &usize| !polled.asked.contains(at);
                let unasked: Vec<usize> = open.iter().copied().filter(unasked).collect();
                for place in members {
                    running.push(ask(place));
                    let own = job.plan.members[place].cells();
                    let own = own
                        .first()
                        .map_or(Duration::MAX, |cell| executor::patience(cell));
                    let given = steering.patience(own, deadline - now, &unasked);
                    patience.push((place, now + given.min(deadline - now)));
                }
            }
            Step::Wait => {
                let next = patience.iter().map(|(_, until)| *until);
                let until = next.filter(|until| *until > now).min();
                let until = until.map_or(deadline, |until| until.min(deadline));
                match timeout_at(until, running.next()).await {
                    Ok(Some(ballot)) => polled.ballots.push(ballot),
                    Ok(None) => return polled,
                    Err(_) if until >= deadline => return polled,
                    // Somebody is late.
                    Err(_) => {}
                }
            }
            Step::Stop(why) => {
                polled.why = Some(why);
                return polled;
            }
        }
    }
}

/// The answers among the ballots, in order of arrival.
fn heard(ballots: &[Ballot], merge: Strategy) -> Vec<Heard<'_>> {
    // Who judges or writes sees everything.
    let whole = matches!(merge, Strategy::Judge | Strategy::Synthesize);
    let given = ballots
        .iter()
        .filter_map(|ballot| Some((ballot.index, ballot.result.as_ref().ok()?)));
    given
        .map(|(place, given)| Heard {
            place,
            speaks: !given.answer.is_empty(),
            text: said(&given.answer).map(|text| if whole { text } else { end_of(text) }),
            tokens: given.answer.usage.map(|usage| usage.output),
            input: given.answer.usage.map(|usage| usage.input),
            vector: given.vector.as_deref(),
        })
        .collect()
}

/// The vector of what an answer says, if that is prose and the ensemble wants vectors. It may take half of the time
/// that is left: an answer must not miss the deadline for its vector.
async fn vector(
    steering: &Steering<'_>,
    vectors: &Vectors,
    answer: &Answer,
    deadline: Instant,
) -> Option<Box<[f32]>> {
    let text = said(answer).filter(|text| steering.wants_vector(text))?;
    let left = deadline.saturating_duration_since(Instant::now());
    timeout(left / 2, vectors.of(text)).await.ok().flatten()
}

/// Of longer answers only this much of the end is compared, in bytes: time for it is time of the query.
const LONGEST_COMPARED: usize = 32 * 1024;

/// The end of a text, as far as it is compared.
fn end_of(text: &str) -> &str {
    let mut from = text.len().saturating_sub(LONGEST_COMPARED);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// What an answer says, if anything; tools to be called are said in their own words.
fn said(answer: &Answer) -> Option<&str> {
    answer.choices.first()?.message.content.as_deref()
}

/// Merges the ballots into one answer.
async fn conclude(job: &Job, steering: &Steering<'_>, polled: Polled) -> Result<Merged> {
    let Polled {
        ballots,
        asked,
        open,
        why,
    } = polled;
    let heard = heard(&ballots, job.plan.merge);
    let answered = heard.len();
    let speaks = heard.iter().any(|one| one.speaks);
    if answered < job.plan.quorum || !speaks {
        drop(heard);
        let waits = asked.len() > ballots.len();
        let errors = ballots
            .into_iter()
            .filter_map(|ballot| ballot.result.err())
            .collect();
        return Err(if answered < job.plan.quorum {
            no_quorum(answered, job.plan.quorum, errors)
        } else {
            nothing_said(waits, errors)
        });
    }
    let (votes, orders) = steering.votes(&heard);
    let form = &steering.form;
    let (round, groups) = steering.round(&heard);
    let question = job.query.question().unwrap_or_default();
    let seed = rand::random();
    let mut note = None;
    let (merged, written) = match job.plan.merge {
        Strategy::Judge => match judged(job, &question, &votes, seed).await {
            Ok(winner) => (merge::chosen(&votes, winner, form), None),
            Err(why) => {
                note = Some(format!("the judge did not decide ({why}): weighted vote"));
                (merge::merge(Strategy::Weighted, &votes, form), None)
            }
        },
        Strategy::Synthesize => {
            let texts: Vec<&str> = votes.iter().map(|vote| vote.text).collect();
            let prompt = synthesize::prompt(&question, &texts, seed);
            let written = match consult(job, prompt.system, prompt.user, job.stream).await {
                Ok(written) => speaking(written).await,
                Err(error) => Err(error),
            };
            if let Err(why) = &written {
                note = Some(format!(
                    "nobody could write the merged answer ({why}): weighted vote"
                ));
            }
            (merge::merge(Strategy::Weighted, &votes, form), written.ok())
        }
        strategy if strategy.is_fitted() => {
            let posterior = steering.posterior(&round);
            let likeliest = posterior.winner();
            let member = |number: u8| {
                let behind = (0..votes.len())
                    .filter(|vote| groups.get(&heard[orders[*vote]].place) == Some(&number));
                compare::spokesman(&votes, &behind.collect::<Vec<_>>())
            };
            let winner = likeliest.and_then(|(number, _)| member(number));
            let winner = winner.or((!votes.is_empty()).then_some(0));
            (
                winner.and_then(|winner| merge::chosen(&votes, winner, form)),
                None,
            )
        }
        strategy => (merge::merge(strategy, &votes, form), None),
    };
    if let Some(note) = &note {
        tracing::warn!(note, "ensemble");
    }
    let Some(mut merged) = merged else {
        return Err(Error::new(ErrorKind::Internal, "the merge found no answer"));
    };
    let winner = heard[orders[merged.winner]].place;
    if job.plan.merge.is_fitted() || steering.is_learned() {
        let number = groups.get(&winner);
        let posterior = steering.posterior(&round);
        let of = |(answer, _): &&(u8, f64)| Some(answer) == number;
        merged.confidence = posterior.answers.iter().find(of).map_or(0.0, |(_, p)| *p);
    }
    telemetry::agreement(job.plan.merge.name(), merged.agreement);
    let agreeing: Vec<usize> = merged
        .groups
        .first()
        .map(|group| group.members.clone())
        .unwrap_or_else(|| vec![merged.winner]);
    let chosen: Vec<usize> = agreeing
        .iter()
        .map(|vote| heard[orders[*vote]].place)
        .collect();
    let mut lesson = lesson(job, steering, &heard, &groups);
    if job.plan.merge == Strategy::Judge && note.is_none() {
        let judged = job.plan.members[winner].candidates.first();
        lesson.judged = judged.map(|candidate| candidate.deployment.clone());
    }
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
                group: groups.get(&place).copied(),
                tokens: given.answer.usage.map(|usage| usage.output),
                ms: took.as_secs_f64() * 1e3,
            },
            Some((Err(error), took)) => absent(member, None, Some(error), took),
            None => {
                let not_asked = if !open.contains(&place) {
                    Some("max_cost")
                } else if !asked.contains(&place) {
                    Some("not needed")
                } else {
                    None
                };
                absent(member, not_asked, None, longest)
            }
        }
    });
    let members = members.collect();
    drop(heard);
    let report = EnsembleReport {
        calls: asked.len(),
        saved: open.len() - ballots.len(),
        stopped: why.map_or("deadline", Why::name),
        state: job.course.as_ref().map(|course| course.digest.clone()),
    };
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
        report: Some(report),
        lesson: Some(lesson),
    })
}

/// What there is to learn. A member is judged by what the others say alone: else it would be its own witness.
fn lesson(
    job: &Job,
    steering: &Steering<'_>,
    heard: &[Heard<'_>],
    groups: &HashMap<usize, u8>,
) -> Lesson {
    /// With fewer others there is no agreement.
    const OTHERS: usize = 2;
    let mut agreement = Vec::new();
    for member in heard {
        let others: Vec<Heard<'_>> = heard
            .iter()
            .filter(|other| other.place != member.place)
            .copied()
            .collect();
        let counted = others
            .iter()
            .filter(|other| groups.contains_key(&other.place));
        if counted.count() < OTHERS {
            continue;
        }
        let (round, their) = steering.round(&others);
        let own = groups.get(&member.place);
        // The others' group that says what this one says.
        let same = others
            .iter()
            .find(|other| own.is_some() && groups.get(&other.place) == own)
            .and_then(|other| their.get(&other.place));
        let posterior = steering.posterior(&round);
        let of = |(answer, _): &&(u8, f64)| Some(answer) == same;
        let belief = posterior.answers.iter().find(of).map_or(0.0, |(_, p)| *p);
        if let Some(candidate) = job.plan.members[member.place].candidates.first() {
            agreement.push((candidate.deployment.clone(), belief));
        }
    }
    Lesson {
        seen: steering.seen(&job.query, heard, groups),
        setup: steering.setup(),
        form: steering.form.clone(),
        judged: None,
        agreement,
    }
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

/// A member without an answer; `not_asked` says why it was not asked.
fn absent(
    member: &Plan,
    not_asked: Option<&'static str>,
    error: Option<&Error>,
    took: Duration,
) -> MemberReport {
    let model = member.candidates.first().map_or_else(
        || DeploymentId::from(member.asked.as_str()),
        |candidate| candidate.deployment.clone(),
    );
    let outcome = match (not_asked, error) {
        (Some("max_cost"), _) => "not asked: max_cost",
        (Some(_), _) => "not asked: not needed",
        (None, Some(error)) => error.kind().name(),
        (None, None) => ErrorKind::Cancelled.name(),
    };
    MemberReport {
        model,
        outcome,
        content: None,
        error: error.map(|error| error.message().to_owned()),
        chosen: false,
        group: None,
        tokens: None,
        ms: took.as_secs_f64() * 1e3,
    }
}

fn no_quorum(answered: usize, quorum: usize, errors: Vec<Error>) -> Error {
    let message = format!("the quorum of {quorum} was not reached: {answered} answered");
    let otherwise = Error::new(ErrorKind::Deadline, format!("{message} in time"));
    unanswered(&message, otherwise, errors)
}

/// Whoever answered said nothing. `waits` tells that others were still to come.
fn nothing_said(waits: bool, errors: Vec<Error>) -> Error {
    let otherwise = if waits {
        Error::new(ErrorKind::Deadline, "no member said anything in time")
    } else {
        silent()
    };
    unanswered("no member said anything", otherwise, errors)
}

/// The most useful of the errors, told with a message; `otherwise` if there are none.
fn unanswered(message: &str, otherwise: Error, errors: Vec<Error>) -> Error {
    let attempts: Vec<Attempt> = errors
        .iter()
        .flat_map(|error| error.attempts().iter().cloned())
        .collect();
    let Some(cause) = Error::most_useful(errors) else {
        return otherwise;
    };
    let mut error = Error::new(cause.kind(), format!("{message}; {}", cause.message()))
        .with_retry_after(cause.retry_after())
        .with_attempts(attempts);
    if let Some(upstream) = cause.upstream() {
        error = error.with_upstream(upstream.status, upstream.body.as_bytes());
    }
    error
}

fn silent() -> Error {
    Error::new(ErrorKind::Malformed, "the answer is empty")
}

/// An answer brought to where it says something, so that no empty one is chosen for having been the first.
///
/// # Errors
/// If it ends before.
async fn speaking(executed: Executed) -> Result<Executed> {
    let committed = match executed.committed {
        Committed::Whole(answer) if answer.is_empty() => {
            return Err(silent().with_attempts(executed.attempts));
        }
        Committed::Stream(mut deltas) => {
            let mut opening = Vec::new();
            loop {
                match deltas.next().await {
                    Some(Ok(delta)) => {
                        let says = delta.says();
                        opening.push(Ok(delta));
                        if says {
                            break;
                        }
                    }
                    Some(Err(error)) => return Err(error.with_attempts(executed.attempts)),
                    None => return Err(silent().with_attempts(executed.attempts)),
                }
            }
            Committed::Stream(stream::iter(opening).chain(deltas).boxed())
        }
        whole => whole,
    };
    Ok(Executed {
        committed,
        ..executed
    })
}
