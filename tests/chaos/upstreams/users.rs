//! Users who ask one question after the other, and what they saw.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Reply, World, chat};

/// Whether answers are asked for in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Whole,
    Streamed,
    /// Now this, now that.
    Both,
}

/// What became of one question.
#[derive(Clone, Debug)]
pub struct Seen {
    pub took: Duration,
    pub streamed: bool,
    pub status: u16,
    /// Who answered, as the reply's header says.
    pub by: String,
    pub end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The whole answer, and the right one.
    Answered,
    /// An error of this kind instead of an answer.
    Refused(String),
    /// The beginning of the right answer, then an error event of this kind.
    Cut { said: String, kind: String },
}

impl Seen {
    pub fn is_answered(&self) -> bool {
        self.end == End::Answered
    }
}

/// Asks one question of an upstream that repeats it.
pub async fn ask(world: &World, model: &str, user: &str, text: &str, streamed: bool) -> Seen {
    let mut request = chat(model, text);
    request["stream"] = streamed.into();
    request["user"] = json!(user);
    let asked = Instant::now();
    let reply = world.post("/v1/chat/completions", &request).await;
    Seen {
        took: asked.elapsed(),
        streamed,
        status: reply.status,
        by: reply.header("x-quorate-model").to_owned(),
        end: judge(&reply, text, streamed),
    }
}

/// How an exchange ended. Fails on what must never happen: a wrong or doubled answer, one half told as whole, a silent
/// end, words after the end.
pub fn judge(reply: &Reply, right: &str, streamed: bool) -> End {
    let kind = |value: &Value| {
        value["error"]["quorate"]["kind"]
            .as_str()
            .map(str::to_owned)
    };
    if reply.status != 200 {
        return End::Refused(kind(&reply.json()).expect("an error with a kind"));
    }
    if !streamed {
        let answer = reply.json();
        assert_eq!(answer["choices"].as_array().unwrap().len(), 1, "{answer}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");
        assert_eq!(reply.content(), right);
        return End::Answered;
    }
    let events = reply.events();
    let (last, before) = events.split_last().expect("an event");
    assert!(!before.iter().any(|event| event == "[DONE]"), "{events:?}");
    let before: Vec<Value> = before
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    assert!(
        before.iter().all(|chunk| kind(chunk).is_none()),
        "{before:?}"
    );
    let pieces = before
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    let said: String = pieces.collect();
    let finishes = before
        .iter()
        .filter(|chunk| chunk["choices"][0]["finish_reason"] == "stop")
        .count();
    if last == "[DONE]" {
        assert_eq!((said.as_str(), finishes), (right, 1), "{}", reply.body);
        return End::Answered;
    }
    let last: Value = serde_json::from_str(last).unwrap();
    let kind = kind(&last).unwrap_or_else(|| panic!("a silent end: {}", reply.body));
    assert!(right.starts_with(&said), "{said:?} of {right:?}");
    assert!(!said.is_empty() && finishes == 0, "{}", reply.body);
    End::Cut { said, kind }
}

/// Eight users ask `model` one question after the other, until `enough` of what was seen so far.
pub async fn eight(
    world: &World,
    model: &str,
    form: Form,
    enough: impl Fn(&[Seen]) -> bool,
) -> Vec<Seen> {
    let seen = RefCell::new(Vec::new());
    let (seen, enough, asked) = (&seen, &enough, Cell::new(0));
    let asked = &asked;
    join_all((0..8).map(async |user| {
        while !enough(&seen.borrow()) {
            let n = asked.replace(asked.get() + 1);
            let streamed = form == Form::Streamed || (form == Form::Both && n % 2 == 1);
            let text = format!("question {n} of user {user}, who has more of them");
            let one = ask(world, model, &format!("user-{user}"), &text, streamed).await;
            seen.borrow_mut().push(one);
        }
    }))
    .await;
    seen.take()
}

/// [`eight`], until so many were answered or not.
pub async fn eight_ask(world: &World, model: &str, form: Form, times: usize) -> Vec<Seen> {
    eight(world, model, form, |seen| seen.len() + 7 >= times).await
}

/// [`eight`], for so long.
pub async fn eight_for(world: &World, model: &str, form: Form, time: Duration) -> Vec<Seen> {
    let until = Instant::now() + time;
    eight(world, model, form, |_| Instant::now() >= until).await
}

/// Prints what was seen, for who looks at the numbers, and returns how many were not answered.
pub fn failures(what: &str, seen: &[Seen]) -> usize {
    let mut took: Vec<Duration> = seen.iter().map(|one| one.took).collect();
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let east = seen.iter().filter(|one| one.by == "east/m1").count();
    let failed: Vec<&Seen> = seen.iter().filter(|one| !one.is_answered()).collect();
    println!(
        "{what}: {} queries, {} not answered, {east} by east; p50 {:?}, p99 {:?}, longest {:?}",
        seen.len(),
        failed.len(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
    for one in failed.iter().take(3) {
        println!("  {one:?}");
    }
    failed.len()
}
