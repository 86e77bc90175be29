//! A test double whose behaviour comes from data.
//!
//! It answers only where a configuration names it. Its script is an object; every field may be left out:
//!
//! | field | meaning |
//! |---|---|
//! | `answer` | the text, or a list of texts to give in turn; default `scripted answer to: <last user text>`, or nothing beside `tool_calls` |
//! | `echo` | `true`: answers with the last user text, whatever `answer` says |
//! | `latency_ms` | before the first delta, or before a failure that comes instead of one |
//! | `chunk_ms` | between two deltas |
//! | `chunks` | how many pieces the text comes in; default one a word |
//! | `usage` | `{input, output, cached, reasoning}` in tokens; default an estimate |
//! | `finish` | the finish reason, or `none` for an answer that breaks off; default `stop`, or `tool_calls` beside those |
//! | `tool_calls` | tools it wants called, as the OpenAI wire writes them; a piece each, after the text |
//! | `fail` | `{kind, status, message, retry_after_ms, after_chunks, times, ratio, seed}`, see below |
//! | `hang` | `before` or `after_chunks:n`: goes silent there |
//! | `panic` | `true` or `{"after_chunks": n}` |
//! | `by_call` | a list of scripts, one for each call in turn; the last repeats |
//! | `by_prompt` | an object of scripts: the longest key that the last user text contains decides, before `by_call` |
//!
//! `fail.kind` is an [`ErrorKind`](crate::ErrorKind)'s name, default `upstream`; `status` is what an upstream
//! would have sent. Without `after_chunks` the call is refused; with it, it is accepted and the answer fails
//! after so many pieces, or after the last if there are fewer, instead of finishing; `hang` and `panic` alike.
//! The failure strikes the first `times` calls (default all), each with the probability `ratio`, drawn from
//! `seed`. What comes first of failure, hang and panic happens.
//!
//! A script inside `by_call` or `by_prompt` begins with the fields beside those two; `null` takes one back.
//! "Calls" are those that came to the script itself, so each inner script counts its own.

mod field;
mod script;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future;
use std::sync::Arc;
use std::vec;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::sleep;

use self::script::{Script, Step};
use crate::answer::{Answer, Choice, Delta, Deltas};
use crate::error::Error;
use crate::id::UserId;
use crate::provider::{Call, Outcome, Provider};
use crate::query::{FunctionCall, ToolCall};

/// The test double.
#[derive(Debug)]
pub struct ScriptedProvider {
    script: ArcSwap<Script>,
    load: Arc<Mutex<Load>>,
}

/// What is asked of the double, for tests to look at.
#[derive(Debug, Default)]
struct Load {
    calls: u64,
    users: HashMap<UserId, u32>,
    in_flight: u32,
    max_in_flight: u32,
    max_per_user: u32,
}

impl ScriptedProvider {
    /// A double that behaves as `script` says; an error names the field and what it may be.
    pub fn new(script: Value) -> Result<Self, String> {
        let script = ArcSwap::from_pointee(Script::read(&script)?);
        Ok(Self {
            script,
            load: Arc::default(),
        })
    }

    /// Behaves otherwise from the next call on; calls under way go on as they began. The new script counts
    /// its calls from none. A script with an error changes nothing.
    pub fn set_script(&self, script: Value) -> Result<(), String> {
        self.script.store(Arc::new(Script::read(&script)?));
        Ok(())
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.load.lock().calls
    }

    /// Calls whose future or stream is alive.
    pub fn in_flight(&self) -> u32 {
        self.load.lock().in_flight
    }

    /// The most calls that were ever in flight at once.
    pub fn max_in_flight(&self) -> u32 {
        self.load.lock().max_in_flight
    }

    /// The most calls of one user that were ever in flight at once.
    pub fn max_in_flight_per_user(&self) -> u32 {
        self.load.lock().max_per_user
    }
}

impl Provider for ScriptedProvider {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Outcome, Error>> {
        let flight = Flight::start(&self.load, &call.query.user);
        let mut steps = self.script.load().steps(&call).into_iter();
        Box::pin(async move {
            for step in steps.by_ref() {
                if matches!(step, Step::Accept) {
                    break;
                }
                if let Some(said) = perform(step).await {
                    said?;
                }
            }
            let deltas = deltas(steps, flight);
            if call.stream {
                return Ok(Outcome::Stream(deltas));
            }
            whole(deltas).await.map(Outcome::Whole)
        })
    }
}

/// Does one step; what it says, if it says anything.
async fn perform(step: Step) -> Option<Result<Delta, Error>> {
    match step {
        Step::Sleep(time) if time.is_zero() => None,
        Step::Sleep(time) => {
            sleep(time).await;
            None
        }
        Step::Accept => None,
        Step::Say(delta) => Some(Ok(delta)),
        Step::Fail(error) => Some(Err(error)),
        Step::Hang => future::pending().await,
        #[allow(clippy::panic, reason = "the purpose of this step")]
        Step::Panic => panic!("scripted panic"),
    }
}

fn deltas(steps: vec::IntoIter<Step>, flight: Flight) -> Deltas {
    let next = |(mut steps, flight): (vec::IntoIter<Step>, Flight)| async move {
        for step in steps.by_ref() {
            if let Some(said) = perform(step).await {
                return Some((said, (steps, flight)));
            }
        }
        None
    };
    stream::unfold((steps, flight), next).boxed()
}

/// The same answer in one piece.
async fn whole(mut deltas: Deltas) -> Result<Answer, Error> {
    let mut choice = Choice::default();
    let mut answer = Answer::default();
    while let Some(delta) = deltas.next().await {
        let delta = delta?;
        answer.model = delta.model.unwrap_or(answer.model);
        answer.usage = delta.usage.or(answer.usage);
        for piece in delta.choices {
            if let Some(text) = piece.content {
                choice
                    .message
                    .content
                    .get_or_insert_default()
                    .push_str(&text);
            }
            choice.finish = piece.finish.or(choice.finish);
            for call in piece.tool_calls {
                let function = call.function.unwrap_or_default();
                choice.message.tool_calls.push(ToolCall {
                    id: call.id.unwrap_or_default(),
                    kind: call.kind.unwrap_or_default(),
                    function: FunctionCall {
                        name: function.name.unwrap_or_default(),
                        arguments: function.arguments.unwrap_or_default(),
                    },
                    ..ToolCall::default()
                });
            }
        }
    }
    answer.choices.push(choice);
    Ok(answer)
}

/// Counts a call for as long as somebody holds it: dropping its future or its stream ends it.
struct Flight {
    user: UserId,
    load: Arc<Mutex<Load>>,
}

impl Flight {
    fn start(load: &Arc<Mutex<Load>>, user: &UserId) -> Self {
        let mut guard = load.lock();
        let now = &mut *guard;
        now.calls += 1;
        now.in_flight += 1;
        now.max_in_flight = now.max_in_flight.max(now.in_flight);
        let theirs = now.users.entry(user.clone()).or_default();
        *theirs += 1;
        now.max_per_user = now.max_per_user.max(*theirs);
        Self {
            user: user.clone(),
            load: Arc::clone(load),
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut load = self.load.lock();
        load.in_flight -= 1;
        if let Some(theirs) = load.users.get_mut(&self.user) {
            *theirs -= 1;
            if *theirs == 0 {
                load.users.remove(&self.user);
            }
        }
    }
}
