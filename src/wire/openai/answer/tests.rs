use serde_json::json;

use super::*;
use crate::answer::FinishReason;
use crate::id::DeploymentId;

fn completion() -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-x",
        "choices": [{
            "index": 0, "finish_reason": "tool_calls", "logprobs": {"content": []},
            "message": {
                "role": "assistant", "content": "hé", "refusal": null, "annotations": [],
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
            }
        }],
        "usage": {
            "prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12,
            "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 3}
        },
        "system_fingerprint": "fp"
    })
}

fn parse(body: Value) -> Result<Answer> {
    read(body.to_string().into())
}

#[test]
fn an_answer_is_read_with_its_usage_and_tool_calls() {
    let answer = parse(completion()).unwrap();
    assert_eq!((answer.content(), &*answer.model), ("hé", "gpt-x"));
    assert_eq!(
        answer.usage,
        Some(Usage {
            input: 7,
            output: 5,
            cached: 4,
            reasoning: 3
        })
    );
    let choice = &answer.choices[0];
    assert_eq!(choice.finish, Some(FinishReason::ToolCalls));
    assert_eq!(choice.logprobs, Some(json!({"content": []})));
    assert_eq!(choice.message.tool_calls[0].function.name, "f");
    assert_eq!(
        choice.message.rest.keys().collect::<Vec<_>>(),
        ["annotations"]
    );
}

#[test]
fn what_servers_do_differently_is_understood() {
    let message = |message: Value| {
        let answer =
            parse(json!({"choices": [{"message": message, "finish_reason": ""}]})).unwrap();
        answer.choices[0].clone()
    };
    let both = message(
        json!({"content": null, "tool_calls": null, "reasoning": "r", "reasoning_content": "r"}),
    );
    assert_eq!(
        both.message,
        Reply {
            reasoning_content: Some("r".into()),
            ..Reply::default()
        }
    );
    assert_eq!(both.finish, None);
    let parts = json!([{"type": "thinking", "thinking": []}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    assert_eq!(
        message(json!({"content": parts}))
            .message
            .content
            .as_deref(),
        Some("ab")
    );
    let call = message(json!({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}));
    assert_eq!(
        (
            &*call.message.tool_calls[0].id,
            &*call.message.tool_calls[0].kind
        ),
        ("", "function")
    );
}

#[test]
fn a_fault_in_an_extra_costs_its_function_and_not_the_answer() {
    let table = [
        (
            json!({"prompt_tokens": -1, "completion_tokens": 5}),
            Some((0, 5)),
        ),
        (
            json!({"prompt_tokens": 12.0, "completion_tokens": 4.9}),
            Some((12, 4)),
        ),
        (
            json!({"prompt_tokens": 5_000_000_000_u64, "completion_tokens": 5}),
            Some((u32::MAX, 5)),
        ),
        (
            json!({"prompt_tokens": "3", "completion_tokens": "5.0"}),
            Some((3, 5)),
        ),
        (
            json!({"prompt_tokens": {}, "completion_tokens": [5]}),
            Some((0, 0)),
        ),
        (
            json!({"prompt_tokens": true, "completion_tokens": 5, "prompt_tokens_details": 1}),
            Some((0, 5)),
        ),
        (
            json!({"prompt_tokens": "many", "completion_tokens": null}),
            Some((0, 0)),
        ),
        (json!([]), None),
        (json!("none"), None),
        (json!(null), None),
    ];
    for (usage, tokens) in table {
        let mut body = completion();
        body["usage"] = usage.clone();
        let told = parse(body)
            .unwrap()
            .usage
            .map(|told| (told.input, told.output));
        assert_eq!(told, tokens, "{usage}");
    }
    let mut body = completion();
    body["model"] = json!(5);
    body["error"] = json!(false);
    body["choices"][0]["index"] = json!(null);
    body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = json!({"a": [1]});
    let answer = parse(body).unwrap();
    assert_eq!((answer.choices[0].index, &*answer.model), (0, ""));
    let call = &answer.choices[0].message.tool_calls[0];
    assert_eq!(call.function.arguments, r#"{"a":[1]}"#);
}

#[test]
fn cached_tokens_are_found_where_each_vendor_puts_them() {
    for usage in [
        json!({"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 6}}),
        json!({"prompt_tokens": 9, "completion_tokens": 1, "cached_tokens": 6}),
        json!({"prompt_tokens": 9, "completion_tokens": 1, "prompt_cache_hit_tokens": 6,
               "prompt_tokens_details": null}),
    ] {
        let answer = parse(json!({"choices": [], "usage": usage})).unwrap();
        assert_eq!(
            answer.usage,
            Some(Usage {
                input: 9,
                output: 1,
                cached: 6,
                reasoning: 0
            })
        );
    }
}

#[test]
fn what_is_no_completion_is_malformed_and_says_why() {
    for (body, why) in [
        (&b"<html>"[..], "no object"),
        (b"[]", "no object"),
        (b"{\"id\":\"\xff\",\"choices\":[]}", "utf-8"),
        (b"{}", "no choices"),
        (b"{\"choices\":null}", "no choices"),
        (b"{\"choices\":[{}]}", "missing field `message`"),
        (b"{\"choices\":[{\"message\":{\"content\":\"a\"", "EOF"),
    ] {
        let error = read(Bytes::from_static(body)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
        assert!(error.message().contains(why), "{}", error.message());
        assert!(error.upstream().is_some());
    }
}

#[test]
fn an_error_in_an_answers_clothes_is_an_error() {
    let error = parse(json!({"error": {"message": "slow down", "code": 429}})).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert!(error.message().contains("slow down"));
}

#[test]
fn the_providers_bytes_go_out_with_the_report_spliced_in() {
    let mut answer = parse(completion()).unwrap();
    answer.report.model = Some(DeploymentId::from("east/m1"));
    let mut expected = completion();
    expected["quorate"] = json!({"model": "east/m1", "attempts": []});
    let written = write(&answer, "unused", 0);
    assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), expected);
    let original = answer.original.unwrap().body;
    assert!(written.starts_with(&original[..original.len() - 1]));
}

#[test]
fn an_answer_without_bytes_is_composed_to_the_same_shape() {
    let mut answer = parse(completion()).unwrap();
    answer.original = None;
    let written: Value = serde_json::from_slice(&write(&answer, "id-1", 99)).unwrap();
    let mut expected = completion();
    expected["id"] = json!("id-1");
    expected["created"] = json!(99);
    expected
        .as_object_mut()
        .unwrap()
        .remove("system_fingerprint");
    expected["usage"]["prompt_tokens_details"] = json!({"cached_tokens": 4});
    expected["quorate"] = json!({"attempts": []});
    assert_eq!(written, expected);
}

#[test]
fn a_composed_answer_has_every_field_the_schema_wants() {
    let mut answer = Answer::text("hi");
    answer.report.model = Some(DeploymentId::from("local/tiny"));
    let written: Value = serde_json::from_slice(&write(&answer, "id-1", 99)).unwrap();
    assert_eq!(written["model"], "local/tiny");
    assert_eq!(written.get("usage"), None);
    let choice = json!({
        "index": 0, "finish_reason": "stop", "logprobs": null,
        "message": {"role": "assistant", "content": "hi", "refusal": null}
    });
    assert_eq!(written["choices"], json!([choice]));
}
