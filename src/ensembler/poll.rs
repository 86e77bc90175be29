//! Asks the members of an ensemble as steering says, and gathers what they say until it is enough.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::Job;
use super::merge::Strategy;
use super::steering::{Heard, Progress, Steering, Step, Why};
use super::unanswered::speaking;
use super::vectors::Vectors;
use crate::answer::Answer;
use crate::error::{Attempt, Result};
use crate::executor::{self, Committed, Executed};
use crate::provider::{Cell, Health};

/// What a member came to.
pub(super) struct Ballot {
    /// Its place in the plan.
    pub index: usize,
    pub took: Duration,
    pub result: Result<Given>,
}

/// A member's answer.
pub(super) struct Given {
    pub answer: Answer,
    pub cell: Arc<Cell>,
    pub attempts: Vec<Attempt>,
    /// Of what it says, where the ensemble wants one.
    pub vector: Option<Box<[f32]>>,
}

/// What was asked, and what came of it.
pub(super) struct Polled {
    pub ballots: Vec<Ballot>,
    /// Who was asked, by place, in order.
    pub asked: Vec<usize>,
    /// Who could be afforded.
    pub open: Vec<usize>,
    /// Why no more; `None` at the deadline, or when the quorum is out of reach.
    pub why: Option<Why>,
    /// A member whose answer is the outcome and has begun, by its place.
    pub floor: Option<(usize, Executed)>,
    pub started: Instant,
}

enum Event {
    /// A member begins to say something, and its answer can be streamed.
    Began(usize, Box<Executed>),
    Ended(Box<Ballot>),
}

/// What the futures of one poll share.
#[derive(Clone, Copy)]
struct Poll<'a> {
    job: &'a Job,
    steering: &'a Steering<'a>,
    vectors: &'a Vectors,
    started: Instant,
    deadline: Instant,
    /// Fewer are ready than the quorum wants.
    sole: bool,
}

impl<'a> Poll<'a> {
    /// Asks a member; `live` says that it may come to stream its answer.
    fn ask(self, place: usize, live: bool) -> BoxFuture<'a, Event> {
        let cells = self.job.plan.members[place].cells();
        async move {
            let run =
                (self.job.executor).run(&cells, &self.job.query, live, self.sole, self.deadline);
            let begun = match run.await {
                Ok(begun) if live => speaking(begun).await,
                begun => begun,
            };
            match begun {
                Ok(begun) if matches!(begun.committed, Committed::Stream(_)) => {
                    Event::Began(place, Box::new(begun))
                }
                Ok(begun) => self.whole(place, begun).await,
                Err(error) => self.ended(place, Err(error)),
            }
        }
        .boxed()
    }

    /// Hears an answer to its end.
    async fn whole(self, place: usize, begun: Executed) -> Event {
        let result = match begun.whole().await {
            Ok((answer, cell, attempts)) => Ok(Given {
                vector: vector(self.steering, self.vectors, &answer, self.deadline).await,
                answer,
                cell,
                attempts,
            }),
            Err(error) => Err(error),
        };
        self.ended(place, result)
    }

    fn ended(self, index: usize, result: Result<Given>) -> Event {
        Event::Ended(Box::new(Ballot {
            index,
            took: self.started.elapsed(),
            result,
        }))
    }
}

/// Asks members as steering says, and gathers what they say until it is enough.
pub(super) async fn poll(
    job: &Job,
    steering: &Steering<'_>,
    vectors: &Vectors,
    open: &[usize],
    deadline: Instant,
) -> Polled {
    let ready = open.iter().filter(|place| {
        let cells = job.plan.members[**place].cells();
        cells.iter().any(|cell| cell.health() == Health::Ready)
    });
    let ready = ready.count();
    let poll = Poll {
        job,
        steering,
        vectors,
        started: Instant::now(),
        deadline,
        sole: ready < job.plan.quorum,
    };
    let mut running = FuturesUnordered::new();
    let mut polled = Polled {
        ballots: Vec::new(),
        asked: Vec::new(),
        open: open.to_vec(),
        why: None,
        floor: None,
        started: poll.started,
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
                let live = job.stream && steering.may_stream(open, &polled.asked, &members);
                polled.asked.extend(&members);
                let unasked = |at: &usize| !polled.asked.contains(at);
                let unasked: Vec<usize> = open.iter().copied().filter(unasked).collect();
                for place in members {
                    running.push(poll.ask(place, live));
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
                    Ok(Some(Event::Ended(ballot))) => polled.ballots.push(*ballot),
                    Ok(Some(Event::Began(place, begun))) => {
                        let failed = polled.ballots.iter().filter(|one| one.result.is_err());
                        let failed: Vec<usize> = failed.map(|ballot| ballot.index).collect();
                        if let Some(why) = steering.floor(place, open, &polled.asked, &failed) {
                            polled.why = Some(why);
                            polled.floor = Some((place, *begun));
                            return polled;
                        }
                        running.push(poll.whole(place, *begun).boxed());
                    }
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
pub(super) fn heard(ballots: &[Ballot], merge: Strategy) -> Vec<Heard<'_>> {
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
