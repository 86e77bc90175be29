//! What was gathered becomes one answer, with its report and with what there is to learn from it.

use std::collections::HashMap;

use super::consult::{consult, judged};
use super::merge::{self, Strategy, Vote, compare, synthesize};
use super::poll::{Ballot, Given, Polled, heard};
use super::steering::{Heard, Steering, Why};
use super::told::members;
use super::unanswered::{no_quorum, nothing_said, speaking};
use super::{Ending, Job, Lesson, Merged};
use crate::answer::{Answer, EnsembleReport, MemberReport};
use crate::error::{Error, ErrorKind, Result};
use crate::executor::{Committed, Executed};
use crate::learning::votes::Round;
use crate::provider::Cell;
use crate::telemetry;

/// The ballots as votes.
struct Count<'a> {
    heard: Vec<Heard<'a>>,
    votes: Vec<Vote<'a>>,
    /// Of each vote, its place among those heard.
    orders: Vec<usize>,
    round: Round,
    /// What each member says, by its place; equal numbers say the same.
    groups: HashMap<usize, u8>,
}

impl<'a> Count<'a> {
    fn of(steering: &'a Steering<'_>, ballots: &'a [Ballot], merge: Strategy) -> Self {
        let heard = heard(ballots, merge);
        let (votes, orders) = steering.votes(&heard);
        let (round, groups) = steering.round(&heard);
        Self {
            heard,
            votes,
            orders,
            round,
            groups,
        }
    }

    /// The place of the member who gave a vote.
    fn place(&self, vote: usize) -> usize {
        self.heard[self.orders[vote]].place
    }
}

/// Whose answer it is, and how sure that is.
struct Verdict {
    /// By place.
    winner: usize,
    /// Who says the same, the winner among them.
    chosen: Vec<usize>,
    agreement: f64,
    confidence: f64,
    /// Whether a judge decided.
    judged: bool,
}

impl Verdict {
    fn new(job: &Job, steering: &Steering<'_>, count: &Count<'_>, merged: &merge::Merged) -> Self {
        let winner = count.place(merged.winner);
        let agreeing = merged.groups.first().map(|group| group.members.as_slice());
        let agreeing = agreeing.unwrap_or(std::slice::from_ref(&merged.winner));
        let mut verdict = Self {
            winner,
            chosen: agreeing.iter().map(|vote| count.place(*vote)).collect(),
            agreement: merged.agreement,
            confidence: merged.confidence,
            judged: false,
        };
        if job.plan.merge.is_fitted() || steering.is_learned() {
            let number = count.groups.get(&winner);
            let posterior = steering.posterior(&count.round);
            let of = |(answer, _): &&(u8, f64)| Some(answer) == number;
            verdict.confidence = posterior.answers.iter().find(of).map_or(0.0, |(_, p)| *p);
        }
        telemetry::agreement(job.plan.merge.name(), verdict.agreement);
        verdict
    }
}

/// Merges the ballots into one answer.
pub(super) async fn conclude(job: &Job, steering: &Steering<'_>, polled: Polled) -> Result<Merged> {
    let count = Count::of(steering, &polled.ballots, job.plan.merge);
    let answered = count.heard.len();
    let speaks = count.heard.iter().any(|one| one.speaks);
    if answered < job.plan.quorum || !speaks {
        drop(count);
        let waits = polled.asked.len() > polled.ballots.len();
        let ballots = polled.ballots.into_iter();
        let errors = ballots.filter_map(|ballot| ballot.result.err()).collect();
        return Err(if answered < job.plan.quorum {
            no_quorum(answered, job.plan.quorum, errors)
        } else {
            nothing_said(waits, errors)
        });
    }
    let (merged, written, note) = decide(job, steering, &count).await;
    if let Some(note) = &note {
        tracing::warn!(note, "ensemble");
    }
    let Some(merged) = merged else {
        return Err(Error::new(ErrorKind::Internal, "the merge found no answer"));
    };
    let mut verdict = Verdict::new(job, steering, &count, &merged);
    verdict.judged = job.plan.merge == Strategy::Judge && note.is_none();
    let lesson = lesson(job, steering, &count, &verdict);
    let members = members(job, &polled, &count.groups, &verdict.chosen);
    drop(count);
    let merged = close(job, polled, verdict, members, lesson)?;
    let Some(written) = written else {
        return Ok(Merged { note, ..merged });
    };
    let mut cost = merged.cost;
    if let Committed::Whole(answer) = &written.committed {
        add_cost(&mut cost, &written.cell, answer);
    }
    let mut attempts = merged.attempts;
    attempts.extend(written.attempts);
    Ok(Merged {
        committed: written.committed,
        model: written.cell.deployment.load().id.clone(),
        attempts,
        cost,
        note,
        ..merged
    })
}

/// The votes merged; what was written instead of any of them; what did not go as planned.
async fn decide(
    job: &Job,
    steering: &Steering<'_>,
    count: &Count<'_>,
) -> (Option<merge::Merged>, Option<Executed>, Option<String>) {
    let (votes, form) = (&count.votes, &steering.form);
    let question = job.query.question().unwrap_or_default();
    let seed = rand::random();
    match job.plan.merge {
        Strategy::Judge => match judged(job, &question, votes, seed).await {
            Ok(winner) => (merge::chosen(votes, winner, form), None, None),
            Err(why) => {
                let note = format!("the judge did not decide ({why}): weighted vote");
                let merged = merge::merge(Strategy::Weighted, votes, form);
                (merged, None, Some(note))
            }
        },
        Strategy::Synthesize => {
            let texts: Vec<&str> = votes.iter().map(|vote| vote.text).collect();
            let prompt = synthesize::prompt(&question, &texts, seed);
            let written = match consult(job, prompt.system, prompt.user, job.stream).await {
                Ok(written) => speaking(written).await,
                Err(error) => Err(error),
            };
            let note = written
                .as_ref()
                .err()
                .map(|why| format!("nobody could write the merged answer ({why}): weighted vote"));
            let merged = merge::merge(Strategy::Weighted, votes, form);
            (merged, written.ok(), note)
        }
        strategy if strategy.is_fitted() => {
            let posterior = steering.posterior(&count.round);
            let likeliest = posterior.winner();
            let member = |number: u8| {
                let behind = (0..votes.len())
                    .filter(|vote| count.groups.get(&count.place(*vote)) == Some(&number));
                compare::spokesman(votes, &behind.collect::<Vec<_>>())
            };
            let winner = likeliest.and_then(|(number, _)| member(number));
            let winner = winner.or((!votes.is_empty()).then_some(0));
            let merged = winner.and_then(|winner| merge::chosen(votes, winner, form));
            (merged, None, None)
        }
        strategy => (merge::merge(strategy, votes, form), None, None),
    }
}

/// The answer of the member at `place` is the outcome, and is streamed as it is written: the others are cancelled, and
/// what is to be told of it is told at its end.
pub(super) fn live(job: Job, mut polled: Polled, place: usize, begun: Executed) -> Merged {
    let Executed {
        committed,
        cell,
        attempts,
        ..
    } = begun;
    let model = cell.deployment.load().id.clone();
    let mut told = members(&job, &polled, &HashMap::new(), &[]);
    told[place] = MemberReport {
        model: model.clone(),
        outcome: "ok",
        content: None,
        error: None,
        chosen: true,
        group: None,
        tokens: None,
        ms: polled.started.elapsed().as_secs_f64() * 1e3,
    };
    let mut merged = Merged {
        committed,
        model,
        members: told,
        agreement: None,
        confidence: None,
        attempts: attempts.clone(),
        note: None,
        cost: None,
        report: None,
        lesson: None,
        ending: None,
    };
    let ending = move |answer: Answer| {
        polled.ballots.push(Ballot {
            index: place,
            took: polled.started.elapsed(),
            result: Ok(Given {
                answer,
                cell,
                attempts,
                vector: None,
            }),
        });
        let steering = Steering::new(&job.plan, &job.query, job.course.as_ref());
        let count = Count::of(&steering, &polled.ballots, job.plan.merge);
        let vote = (0..count.votes.len()).find(|vote| count.place(*vote) == place);
        let merged = vote.and_then(|vote| merge::chosen(&count.votes, vote, &steering.form));
        let verdict = match merged {
            Some(merged) => Verdict::new(&job, &steering, &count, &merged),
            // It declined, and others did not.
            None => Verdict {
                winner: place,
                chosen: vec![place],
                agreement: 1.0 / count.heard.len() as f64,
                confidence: 0.0,
                judged: false,
            },
        };
        let lesson = lesson(&job, &steering, &count, &verdict);
        let members = members(&job, &polled, &count.groups, &verdict.chosen);
        drop(count);
        close(&job, polled, verdict, members, lesson).ok()
    };
    merged.ending = Some(Ending(Box::new(ending)));
    merged
}

/// All that is told of an ensemble whose outcome is one member's answer.
fn close(
    job: &Job,
    polled: Polled,
    verdict: Verdict,
    members: Vec<MemberReport>,
    lesson: Lesson,
) -> Result<Merged> {
    let report = EnsembleReport {
        calls: polled.asked.len(),
        saved: polled.open.len() - polled.ballots.len(),
        stopped: polled.why.map_or("deadline", Why::name),
        state: job.course.as_ref().map(|course| course.digest.clone()),
    };
    let mut attempts = Vec::new();
    let mut cost = None;
    let mut answer = None;
    for ballot in polled.ballots {
        match ballot.result {
            Ok(given) => {
                add_cost(&mut cost, &given.cell, &given.answer);
                attempts.extend(given.attempts);
                if ballot.index == verdict.winner {
                    answer = Some((given.answer, given.cell));
                }
            }
            Err(error) => attempts.extend(error.attempts().iter().cloned()),
        }
    }
    let Some((answer, cell)) = answer else {
        let message = "the chosen answer is missing";
        return Err(Error::new(ErrorKind::Internal, message));
    };
    Ok(Merged {
        committed: Committed::Whole(answer),
        model: cell.deployment.load().id.clone(),
        members,
        agreement: Some(verdict.agreement),
        confidence: Some(verdict.confidence),
        attempts,
        note: None,
        cost,
        report: Some(report),
        lesson: Some(lesson),
        ending: None,
    })
}

/// What there is to learn. A member is judged by what the others say alone: else it would be its own witness.
fn lesson(job: &Job, steering: &Steering<'_>, count: &Count<'_>, verdict: &Verdict) -> Lesson {
    /// With fewer others there is no agreement.
    const OTHERS: usize = 2;
    let Count { heard, groups, .. } = count;
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
    let judged = job.plan.members[verdict.winner].candidates.first();
    let judged = judged.filter(|_| verdict.judged);
    Lesson {
        seen: steering.seen(&job.query, heard, groups),
        setup: steering.setup(),
        form: steering.form.clone(),
        judged: judged.map(|candidate| candidate.deployment.clone()),
        agreement,
    }
}

fn add_cost(cost: &mut Option<f64>, cell: &Cell, answer: &Answer) {
    if let (Some(price), Some(usage)) = (cell.deployment.load().price, answer.usage) {
        *cost.get_or_insert(0.0) += price.of(usage);
    }
}
