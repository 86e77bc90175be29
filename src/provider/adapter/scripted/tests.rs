use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::*;
use crate::answer::{FinishReason, Usage};
use crate::error::ErrorKind;
use crate::query::{Message, Query, Role};

fn double(script: Value) -> ScriptedProvider {
    ScriptedProvider::new(script).expect("a good script")
}

fn call(prompt: &str, stream: bool) -> Call {
    let query = Arc::new(Query::new("scripted/m1", prompt));
    Call {
        query,
        model: "m1".into(),
        stream,
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

async fn answer(double: &ScriptedProvider, prompt: &str) -> Result<Answer, Error> {
    match double.call(call(prompt, false)).await? {
        Outcome::Whole(answer) => Ok(answer),
        Outcome::Stream(_) => panic!("streamed unasked"),
    }
}

async fn text(double: &ScriptedProvider, prompt: &str) -> String {
    answer(double, prompt)
        .await
        .expect("answered")
        .content()
        .to_owned()
}

async fn kind(double: &ScriptedProvider) -> Option<ErrorKind> {
    answer(double, "hi").await.err().map(|error| error.kind())
}

async fn stream(double: &ScriptedProvider, prompt: &str) -> Deltas {
    match double.call(call(prompt, true)).await {
        Ok(Outcome::Stream(deltas)) => deltas,
        Ok(Outcome::Whole(_)) => panic!("not streamed"),
        Err(error) => panic!("{error}"),
    }
}

/// What each delta says and when, in milliseconds; a failure by its kind.
async fn timeline(double: &ScriptedProvider, prompt: &str) -> Vec<(u64, String)> {
    let start = Instant::now();
    let deltas = stream(double, prompt).await;
    let said = deltas.map(|delta| {
        let said = match delta {
            Err(error) => error.kind().to_string(),
            Ok(delta) if delta.finishes() => "end".into(),
            Ok(delta) => delta.content().to_owned(),
        };
        (start.elapsed().as_millis() as u64, said)
    });
    said.collect().await
}

fn said(timeline: &[(u64, String)]) -> Vec<(u64, &str)> {
    timeline
        .iter()
        .map(|(at, text)| (*at, text.as_str()))
        .collect()
}

#[tokio::test]
async fn an_empty_script_names_what_was_asked() {
    let double = double(json!({}));
    let query = Query::of(
        "m",
        vec![
            Message::user("first"),
            Message::new(Role::Assistant, "said"),
            Message::user("second"),
            Message::system("never mind"),
        ],
    );
    let call = Call {
        query: Arc::new(query),
        ..call("", false)
    };
    let Ok(Outcome::Whole(answer)) = double.call(call).await else {
        panic!("not answered")
    };
    assert_eq!(answer.content(), "scripted answer to: second");
    assert_eq!(answer.choices[0].finish, Some(FinishReason::Stop));
    assert_eq!(answer.model, "m1");
    assert_eq!(double.calls(), 1);
}

#[tokio::test]
async fn answers_rotate_and_echo_repeats_the_prompt() {
    let rotating = double(json!({ "answer": ["a", "b"] }));
    for expected in ["a", "b", "a"] {
        assert_eq!(text(&rotating, "hi").await, expected);
    }
    assert_eq!(
        text(&double(json!({ "echo": true })), "hi  there\n").await,
        "hi  there\n"
    );
    assert_eq!(text(&double(json!({ "answer": "" })), "hi").await, "");
}

#[tokio::test(start_paused = true)]
async fn a_stream_takes_its_time_and_says_the_whole_answer() {
    let double = double(json!({ "answer": "one two  three", "latency_ms": 200, "chunk_ms": 10 }));
    let streamed = timeline(&double, "hi").await;
    assert_eq!(
        said(&streamed),
        [
            (200, "one "),
            (210, "two "),
            (220, " "),
            (230, "three"),
            (230, "end")
        ]
    );
    let start = Instant::now();
    assert_eq!(text(&double, "hi").await, "one two  three");
    assert_eq!(start.elapsed().as_millis(), 230);
}

#[tokio::test]
async fn a_text_splits_into_as_many_pieces_as_asked() {
    for (chunks, pieces) in [(1, 1), (3, 3), (7, 7), (99, 7)] {
        let double = double(json!({ "answer": "äbcdéf✓", "chunks": chunks }));
        let streamed = timeline(&double, "hi").await;
        assert_eq!(streamed.len(), pieces + 1);
        let joined: String = streamed[..pieces]
            .iter()
            .map(|(_, text)| text.as_str())
            .collect();
        assert_eq!(joined, "äbcdéf✓");
    }
}

#[tokio::test]
async fn usage_is_estimated_unless_given() {
    let estimated = answer(&double(json!({ "answer": "12345678" })), "12345678")
        .await
        .expect("answered");
    assert_eq!(
        estimated.usage,
        Some(Usage {
            input: 6,
            output: 2,
            ..Usage::default()
        })
    );
    let given = double(json!({ "usage": { "input": 5, "output": 3, "cached": 2 } }));
    let given = answer(&given, "hi").await.expect("answered").usage;
    assert_eq!(
        given,
        Some(Usage {
            input: 5,
            output: 3,
            cached: 2,
            reasoning: 0
        })
    );
}

#[tokio::test]
async fn an_answer_without_a_finish_breaks_off() {
    let double = double(json!({ "answer": "a b", "finish": "none" }));
    assert_eq!(said(&timeline(&double, "hi").await), [(0, "a "), (0, "b")]);
    assert_eq!(
        answer(&double, "hi").await.expect("answered").choices[0].finish,
        None
    );
    let double = self::double(json!({ "finish": "length" }));
    let finish = answer(&double, "hi")
        .await
        .expect("answered")
        .choices
        .remove(0)
        .finish;
    assert_eq!(finish, Some(FinishReason::Length));
}

#[tokio::test(start_paused = true)]
async fn a_failure_comes_instead_of_the_answer_with_all_that_was_said_of_it() {
    let double = double(json!({ "latency_ms": 50, "fail": {
        "kind": "rate-limited", "status": 429, "message": "slow down", "retry_after_ms": 1500
    }}));
    let start = Instant::now();
    let error = double.call(call("hi", true)).await.err().expect("refused");
    assert_eq!(start.elapsed().as_millis(), 50);
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!(error.message(), "slow down");
    assert_eq!(error.retry_after(), Some(Duration::from_millis(1500)));
    let upstream = error.upstream().expect("a status");
    assert_eq!(
        (upstream.status, upstream.body.as_str()),
        (429, "slow down")
    );
}

#[tokio::test]
async fn every_kind_of_failure_can_be_scripted() {
    for name in [
        "upstream",
        "connect",
        "timeout",
        "auth",
        "context-length",
        "content-filter",
        "internal",
    ] {
        let kind = kind(&double(json!({ "fail": { "kind": name } })))
            .await
            .expect("failed");
        assert_eq!(kind.name(), name);
    }
    assert_eq!(
        kind(&double(json!({ "fail": {} }))).await,
        Some(ErrorKind::Upstream)
    );
}

#[tokio::test]
async fn a_failure_strikes_between_the_pieces() {
    for (after, expected) in [
        (0, vec!["truncated"]),
        (1, vec!["a ", "truncated"]),
        (2, vec!["a ", "b", "truncated"]),
        (9, vec!["a ", "b", "truncated"]),
    ] {
        let fail = json!({ "kind": "truncated", "after_chunks": after });
        let double = double(json!({ "answer": "a b", "fail": fail }));
        let streamed = timeline(&double, "hi").await;
        let texts: Vec<&str> = streamed.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, expected);
        assert_eq!(kind(&double).await, Some(ErrorKind::Truncated));
    }
}

#[tokio::test]
async fn a_failure_ends_after_its_times() {
    let double = double(json!({ "fail": { "times": 2 } }));
    let mut failed = Vec::new();
    for _ in 0..4 {
        failed.push(kind(&double).await.is_some());
    }
    assert_eq!(failed, [true, true, false, false]);
}

#[tokio::test]
async fn a_ratio_strikes_its_share_and_the_same_calls_each_time() {
    let run = async |ratio: f64, seed: u64| {
        let double = double(json!({ "fail": { "ratio": ratio, "seed": seed } }));
        let mut failed = Vec::new();
        for _ in 0..1000 {
            failed.push(kind(&double).await.is_some());
        }
        failed
    };
    let count = |failed: &[bool]| failed.iter().filter(|failed| **failed).count();
    let some = run(0.3, 7).await;
    assert!((250..350).contains(&count(&some)), "{}", count(&some));
    assert_eq!(some, run(0.3, 7).await);
    assert_ne!(some, run(0.3, 8).await);
    assert_eq!(count(&run(0.0, 7).await), 0);
    assert_eq!(count(&run(1.0, 7).await), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_hang_says_nothing_more_and_is_gone_when_dropped() {
    let before = double(json!({ "hang": "before" }));
    let day = Duration::from_secs(86_400);
    assert!(timeout(day, before.call(call("hi", true))).await.is_err());
    assert_eq!((before.in_flight(), before.calls()), (0, 1));

    let within = double(json!({ "answer": "a b c", "hang": "after_chunks:2" }));
    let mut deltas = stream(&within, "hi").await;
    for expected in ["a ", "b "] {
        let delta = deltas.next().await.expect("more").expect("no failure");
        assert_eq!(delta.content(), expected);
    }
    assert!(timeout(day, deltas.next()).await.is_err());
    assert_eq!(within.in_flight(), 1);
    drop(deltas);
    assert_eq!(within.in_flight(), 0);
}

#[tokio::test]
async fn a_panic_happens_where_it_is_told_and_leaves_nothing_in_flight() {
    let before = double(json!({ "panic": true }));
    let panicked = std::panic::AssertUnwindSafe(before.call(call("hi", true)))
        .catch_unwind()
        .await;
    assert!(panicked.is_err());
    assert_eq!(before.in_flight(), 0);

    let within = double(json!({ "answer": "a b", "panic": { "after_chunks": 1 } }));
    let mut deltas = stream(&within, "hi").await;
    assert!(deltas.next().await.expect("more").is_ok());
    let panicked = std::panic::AssertUnwindSafe(deltas.next())
        .catch_unwind()
        .await;
    assert!(panicked.is_err());
    drop(deltas);
    assert_eq!(within.in_flight(), 0);
    assert_eq!(
        text(&double(json!({ "answer": "fine", "panic": false })), "hi").await,
        "fine"
    );
}

#[tokio::test]
async fn what_comes_first_of_several_ends_happens() {
    let script =
        json!({ "answer": "a b c", "hang": "after_chunks:2", "fail": { "after_chunks": 1 } });
    let streamed = timeline(&double(script), "hi").await;
    assert_eq!(said(&streamed), [(0, "a "), (0, "upstream")]);
}

#[tokio::test]
async fn tool_calls_come_whole_or_as_pieces() {
    let tool = json!({ "id": "c1", "function": { "name": "add", "arguments": "{\"a\":1}" } });
    let double = double(json!({ "tool_calls": [tool, tool] }));
    let answer = answer(&double, "hi").await.expect("answered");
    let choice = &answer.choices[0];
    assert_eq!(choice.finish, Some(FinishReason::ToolCalls));
    assert_eq!(choice.message.content, None);
    let called = &choice.message.tool_calls;
    assert_eq!(called.len(), 2);
    assert_eq!(
        (called[1].kind.as_str(), called[1].function.name.as_str()),
        ("function", "add")
    );
    assert_eq!(called[1].function.arguments, "{\"a\":1}");

    let deltas: Vec<_> = stream(&double, "hi").await.collect().await;
    let second = deltas[1].as_ref().expect("no failure");
    assert_eq!(second.choices[0].tool_calls[0].index, 1);
    assert!(deltas[2].as_ref().expect("no failure").finishes());
}

#[tokio::test]
async fn each_call_has_its_script_and_the_last_repeats() {
    let double = double(json!({ "answer": "base", "by_call": [
        { "fail": { "kind": "connect" } },
        { "answer": ["x", "y"] },
        {},
        { "answer": null },
    ]}));
    assert_eq!(kind(&double).await, Some(ErrorKind::Connect));
    for expected in [
        "x",
        "base",
        "scripted answer to: q",
        "scripted answer to: q",
    ] {
        assert_eq!(text(&double, "q").await, expected);
    }
}

#[tokio::test]
async fn the_longest_text_found_in_the_prompt_decides() {
    let double = double(json!({ "answer": "else", "by_prompt": {
        "capital": { "answer": "a city" },
        "capital of France": { "answer": "Paris" },
    }}));
    assert_eq!(text(&double, "the capital of France?").await, "Paris");
    assert_eq!(text(&double, "the capital of Spain?").await, "a city");
    assert_eq!(text(&double, "hello").await, "else");
}

#[tokio::test]
async fn an_inner_script_counts_its_own_calls() {
    let double = double(json!({ "by_prompt": { "flaky": { "fail": { "times": 1 } } } }));
    for _ in 0..3 {
        assert_eq!(text(&double, "calm").await, "scripted answer to: calm");
    }
    assert!(answer(&double, "flaky").await.is_err());
    assert!(answer(&double, "flaky").await.is_ok());
}

#[tokio::test]
async fn a_new_script_serves_new_calls_and_a_bad_one_changes_nothing() {
    let double = double(json!({ "answer": "old one" }));
    let mut running = stream(&double, "hi").await;
    assert_eq!(
        running
            .next()
            .await
            .expect("more")
            .expect("no failure")
            .content(),
        "old "
    );
    double
        .set_script(json!({ "answer": "new" }))
        .expect("a good script");
    assert_eq!(
        running
            .next()
            .await
            .expect("more")
            .expect("no failure")
            .content(),
        "one"
    );
    assert_eq!(text(&double, "hi").await, "new");
    assert!(double.set_script(json!({ "answer": 7 })).is_err());
    assert_eq!(text(&double, "hi").await, "new");
    assert_eq!(double.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_counted_in_all_and_per_user() {
    let double = double(json!({ "latency_ms": 100 }));
    let from = |user: &str| {
        let query = Query {
            user: user.into(),
            ..Query::new("m", "hi")
        };
        double.call(Call {
            query: Arc::new(query),
            ..call("", false)
        })
    };
    let calls = vec![from("ann"), from("ann"), from("bob")];
    assert_eq!(double.in_flight(), 3);
    futures_util::future::join_all(calls).await;
    assert_eq!(double.in_flight(), 0);
    drop(from("bob"));
    assert_eq!((double.in_flight(), double.calls()), (0, 4));
    assert_eq!(
        (double.max_in_flight(), double.max_in_flight_per_user()),
        (3, 2)
    );
}

#[test]
fn a_bad_script_is_refused_with_the_field_and_what_it_may_be() {
    for (script, message) in [
        (json!([]), "script must be an object, not []"),
        (
            json!({ "anser": 1 }),
            "anser is no field of a script here: answer, echo, latency_ms,",
        ),
        (
            json!({ "answer": [] }),
            "answer must be a text or a list of at least one, not []",
        ),
        (
            json!({ "answer": ["a", 1] }),
            "answer[1] must be a text, not 1",
        ),
        (
            json!({ "echo": "yes" }),
            "echo must be true or false, not \"yes\"",
        ),
        (
            json!({ "latency_ms": -1 }),
            "latency_ms must be a whole number from 0 to 86400000, not -1",
        ),
        (
            json!({ "chunk_ms": 1.5 }),
            "chunk_ms must be a whole number",
        ),
        (
            json!({ "chunks": 0 }),
            "chunks must be a whole number from 1 to 1000000, not 0",
        ),
        (
            json!({ "usage": { "out": 1 } }),
            "usage.out is no field of a script here: input, output,",
        ),
        (json!({ "finish": 1 }), "finish must be a text, not 1"),
        (
            json!({ "tool_calls": [{}] }),
            "tool_calls must be a list of {id, function",
        ),
        (
            json!({ "hang": "soon" }),
            "hang must be \"before\" or \"after_chunks:n\", not \"soon\"",
        ),
        (
            json!({ "panic": 1 }),
            "panic must be true, false or {\"after_chunks\": n}, not 1",
        ),
        (
            json!({ "fail": { "kind": "bad" } }),
            "fail.kind must be one of rate-limited, overloaded,",
        ),
        (
            json!({ "fail": { "status": 42 } }),
            "fail.status must be a whole number from 100 to 599, not 42",
        ),
        (
            json!({ "fail": { "ratio": 2 } }),
            "fail.ratio must be a number from 0 to 1, not 2",
        ),
        (
            json!({ "by_call": [] }),
            "by_call must be a list of at least one script, not []",
        ),
        (
            json!({ "by_call": [{}, 1] }),
            "by_call[1] must be a script, not 1",
        ),
        (
            json!({ "by_call": [{ "fail": { "times": "x" } }] }),
            "by_call[0].fail.times must be",
        ),
        (
            json!({ "by_prompt": { "hi": { "x": 1 } } }),
            "by_prompt.hi.x is no field",
        ),
        (
            json!({ "by_prompt": [] }),
            "by_prompt must be an object of text: script, not []",
        ),
    ] {
        let error = ScriptedProvider::new(script).expect_err("refused");
        assert!(error.starts_with(message), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn however_a_text_is_split_streamed_and_whole_answers_are_the_same(
        text in "[ a-cé✓\n]{0,40}",
        chunks in proptest::option::of(1..50usize),
    ) {
        let double = double(json!({ "answer": text, "chunks": chunks }));
        let streamed = timeline(&double, "hi").now_or_never().expect("no waiting");
        let pieces = &streamed[..streamed.len() - 1];
        proptest::prop_assert!(pieces.iter().all(|(_, piece)| !piece.is_empty()));
        proptest::prop_assert!(pieces.len() <= chunks.unwrap_or(usize::MAX));
        let joined: String = pieces.iter().map(|(_, piece)| piece.as_str()).collect();
        let whole = answer(&double, "hi").now_or_never().expect("no waiting").expect("answered");
        proptest::prop_assert_eq!(&joined, &text);
        proptest::prop_assert_eq!(whole.content(), &text);
    }
}
