use serde_json::json;

use super::*;
use crate::answer::{FinishReason, FunctionDelta};

fn delta(chunk: Value) -> Delta {
    match read(chunk.to_string().into()).unwrap() {
        Read::Delta(delta) => delta,
        other => panic!("{other:?}"),
    }
}

fn written(delta: &Delta, context: &mut Context) -> Value {
    let mut out = BytesMut::new();
    write(delta, context, &mut out);
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn a_chunk_is_read_piece_by_piece() {
    let delta = delta(json!({
        "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 1, "finish_reason": "length", "logprobs": {"content": []}, "delta": {
            "role": "assistant", "content": "a", "reasoning_content": "r", "refusal": "n",
            "tool_calls": [{"index": 2, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{"}}]
        }}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2}
    }));
    let choice = &delta.choices[0];
    assert_eq!(
        (
            choice.index,
            choice.content.as_deref(),
            choice.reasoning.as_deref()
        ),
        (1, Some("a"), Some("r"))
    );
    assert_eq!(
        (choice.refusal.as_deref(), &choice.finish),
        (Some("n"), &Some(FinishReason::Length))
    );
    let function = FunctionDelta {
        name: Some("f".into()),
        arguments: Some("{".into()),
    };
    assert_eq!(choice.tool_calls[0].function, Some(function));
    assert_eq!(
        (choice.tool_calls[0].index, choice.logprobs.is_some()),
        (2, true)
    );
    assert_eq!(
        delta.usage,
        Some(Usage {
            input: 3,
            output: 2,
            ..Usage::default()
        })
    );
    assert_eq!(delta.model.as_deref(), Some("m"));
}

#[test]
fn the_end_is_known_by_its_mark_and_nothing_else() {
    assert!(matches!(
        read(Bytes::from_static(b"[DONE]")),
        Ok(Read::Done)
    ));
    assert!(matches!(
        read(Bytes::from_static(b" [DONE] ")),
        Ok(Read::Done)
    ));
    assert!(read(Bytes::from_static(b"[DON")).is_err());
}

#[test]
fn sparse_chunks_are_deltas_that_say_nothing() {
    for chunk in [
        json!({"choices": []}),
        json!({"choices": [{}], "usage": null, "error": null}),
        json!({"choices": [{"delta": {"role": "assistant", "content": "", "tool_calls": null}, "finish_reason": ""}]}),
    ] {
        assert!(!delta(chunk).is_semantic());
    }
}

#[test]
fn what_has_neither_choices_nor_usage_is_no_piece_of_the_answer() {
    for event in [
        json!({}),
        json!({"type": "ping"}),
        json!({"choices": null, "object": "ping"}),
    ] {
        assert!(
            matches!(read(event.to_string().into()), Ok(Read::Nothing)),
            "{event}"
        );
    }
}

#[test]
fn usage_inside_a_choice_counts() {
    let delta = delta(json!({"choices": [{"delta": {}, "finish_reason": "stop",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "cached_tokens": 1}}]}));
    assert_eq!(
        delta.usage,
        Some(Usage {
            input: 3,
            output: 2,
            cached: 1,
            reasoning: 0
        })
    );
}

#[test]
fn a_fault_in_an_extra_costs_its_function_and_not_the_chunk() {
    let piece = delta(json!({
        "model": 5, "error": false, "usage": {"prompt_tokens": 12.0, "completion_tokens": "x"},
        "choices": [{"index": null, "usage": 1, "finish_reason": "stop", "delta": {"content": "a", "tool_calls": [
            {"index": null, "function": {"name": "f", "arguments": {"b": 1}}}, {"index": 1.0, "function": {"arguments": null}}
        ]}}]
    }));
    let usage = Usage {
        input: 12,
        ..Usage::default()
    };
    assert_eq!((piece.usage, piece.model.as_deref()), (Some(usage), None));
    assert_eq!((piece.choices[0].index, piece.content()), (0, "a"));
    let calls = &piece.choices[0].tool_calls;
    let arguments = |call: &ToolCallDelta| call.function.clone().unwrap().arguments;
    assert_eq!(
        (calls[0].index, arguments(&calls[0]).as_deref()),
        (0, Some(r#"{"b":1}"#))
    );
    assert_eq!((calls[1].index, arguments(&calls[1])), (1, None));
}

#[test]
fn an_error_in_the_middle_is_the_upstreams_error() {
    for (event, kind) in [
        (
            json!({"error": {"message": "boom", "type": "server_error"}}),
            ErrorKind::Upstream,
        ),
        (
            json!({"error": {"message": "boom", "code": 429}, "choices": []}),
            ErrorKind::RateLimited,
        ),
        (json!({"error": "boom"}), ErrorKind::Upstream),
        (
            json!({"object": "error", "message": "boom", "code": 400}),
            ErrorKind::Invalid,
        ),
    ] {
        let Read::Error(error) = read(event.to_string().into()).unwrap() else {
            panic!("{event}")
        };
        assert_eq!(error.kind(), kind);
        assert!(error.message().contains("boom"));
    }
}

#[test]
fn an_event_named_error_is_one_whatever_it_holds() {
    for data in [
        &br#"{"error":{"message":"boom"}}"#[..],
        br#"{"message":"boom"}"#,
        b"boom",
        br#""boom""#,
    ] {
        let error = read_error(data);
        assert_eq!(error.message(), "the upstream reported an error: boom");
    }
}

#[test]
fn bytes_that_are_no_chunk_are_malformed() {
    for data in [
        &b"{\"choices\":[{\"delta\":"[..],
        b"hello",
        b"",
        b"[]",
        b"{\"choices\":[{\"delta\":{\"content\":1}}]}",
    ] {
        let error = read(Bytes::from_static(data)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
}

#[test]
fn the_providers_bytes_go_out_as_they_came() {
    let data = Bytes::from_static(br#"{"id":"c", "choices":[{"delta":{"content":"h\u0069"}}]}"#);
    let Ok(Read::Delta(mut delta)) = read(data.clone()) else {
        panic!()
    };
    let mut context = Context::new("id", 1, "m");
    let mut out = BytesMut::new();
    write(&delta, &mut context, &mut out);
    assert_eq!(out, data);
    delta.report = Some(Box::default());
    out.clear();
    write(&delta, &mut context, &mut out);
    assert_eq!(
        out,
        &br#"{"id":"c", "choices":[{"delta":{"content":"h\u0069"}}],"quorate":{"attempts":[]}}"#[..]
    );
}

#[test]
fn a_choice_tells_its_role_once() {
    let mut context = Context::new("id", 7, "m");
    let first = written(&Delta::text("a"), &mut context);
    assert_eq!(
        first,
        json!({
            "id": "id", "object": "chat.completion.chunk", "created": 7, "model": "m",
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": null, "logprobs": null}]
        })
    );
    let second = written(&Delta::text("b"), &mut context);
    assert_eq!(second["choices"][0]["delta"], json!({"content": "b"}));
    let mut other = Delta::text("c");
    other.choices[0].index = 1;
    assert_eq!(
        written(&other, &mut context)["choices"][0]["delta"]["role"],
        "assistant"
    );
    other.choices[0].index = 4_000_000_000;
    assert_eq!(
        written(&other, &mut context)["choices"][0]["delta"].get("role"),
        None
    );
}

#[test]
fn the_end_and_the_usage_are_chunks_of_their_own_shape() {
    let mut context = Context::new("id", 7, "m");
    written(&Delta::text("a"), &mut context);
    let end = written(&Delta::finish(FinishReason::Stop, None), &mut context);
    assert_eq!(end["choices"][0]["finish_reason"], "stop");
    assert_eq!(end["choices"][0]["delta"], json!({}));
    let usage = Usage {
        input: 3,
        output: 2,
        ..Usage::default()
    };
    let usage = Delta {
        usage: Some(usage),
        report: Some(Box::default()),
        ..Delta::default()
    };
    let last = written(&usage, &mut context);
    assert_eq!(
        (&last["choices"], &last["usage"]["total_tokens"]),
        (&json!([]), &json!(5))
    );
    assert_eq!(last["quorate"], json!({"attempts": []}));
}

#[test]
fn what_is_composed_reads_back_the_same() {
    let mut delta = Delta::finish(
        FinishReason::Other("pause".into()),
        Some(Usage {
            input: 1,
            output: 2,
            cached: 1,
            reasoning: 2,
        }),
    );
    delta.choices[0].content = Some("é\n".into());
    delta.choices[0].reasoning = Some("r".into());
    delta.choices[0].tool_calls = vec![ToolCallDelta {
        index: 3,
        ..ToolCallDelta::default()
    }];
    let mut out = BytesMut::new();
    write(&delta, &mut Context::new("id", 7, "m"), &mut out);
    let Ok(Read::Delta(back)) = read(out.freeze()) else {
        panic!()
    };
    assert_eq!(
        format!("{:?}", back.choices),
        format!("{:?}", delta.choices)
    );
    assert_eq!(back.usage, delta.usage);
}
