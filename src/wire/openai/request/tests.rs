use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::error::ErrorKind;
use crate::query::{Content, Original, Role};
use crate::wire::openai::splice::tests::json as any_json;

fn parse(body: Value) -> Result<Request> {
    read(body.to_string().into())
}

fn value(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

/// Everything that the wire says of a question, in one body.
fn full() -> Value {
    json!({
        "model": "fast",
        "messages": [
            {"role": "system", "content": "be brief", "name": "ops"},
            {"role": "user", "content": [
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}}
            ]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"a\":"}}
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "a cat"}
        ],
        "temperature": 0.5, "top_p": 1, "max_tokens": 10, "stop": ["\n", "END"], "seed": -7, "n": 2,
        "presence_penalty": -2, "frequency_penalty": 2.0, "logprobs": true, "top_logprobs": 20,
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
        "logit_bias": {"50256": -100}, "metadata": {"a": "b"}
    })
}

#[test]
fn everything_the_wire_can_say_is_read() {
    let mut body = full();
    let extra = json!({
        "stream": true, "stream_options": {"include_usage": true}, "user": "ann",
        "reasoning_effort": "low", "quorate": {"lane": "batch"}
    });
    body.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    let request = parse(body).unwrap();
    assert!(request.stream && request.include_usage);
    assert_eq!(request.user.as_deref(), Some("ann"));
    let query = request.query;
    assert_eq!(query.model, "fast");
    assert_eq!(query.lane, crate::query::Lane::Batch);
    let roles: Vec<Role> = query.messages.iter().map(|message| message.role).collect();
    assert_eq!(
        roles,
        [Role::System, Role::User, Role::Assistant, Role::Tool]
    );
    assert_eq!(query.messages[0].rest["name"], "ops");
    assert!(matches!(&query.messages[1].content, Some(Content::Parts(parts)) if parts.len() == 2));
    assert_eq!(
        query.messages[2].tool_calls[0].function.arguments,
        "{\"a\":"
    );
    assert_eq!(query.messages[3].tool_call_id.as_deref(), Some("c1"));
    let params = &query.params;
    assert_eq!(
        (params.temperature, params.top_p, params.max_tokens),
        (Some(0.5), Some(1.0), Some(10))
    );
    assert_eq!(
        (params.seed, params.n, params.top_logprobs),
        (Some(-7), Some(2), Some(20))
    );
    assert_eq!(
        (params.presence_penalty, params.frequency_penalty),
        (Some(-2.0), Some(2.0))
    );
    assert_eq!(
        (params.logprobs, params.reasoning_effort.as_deref()),
        (Some(true), Some("low"))
    );
    assert_eq!(params.stop, ["\n", "END"]);
    assert!(query.needs().tools && query.needs().vision && query.needs().json_schema);
    let rest: Vec<&String> = query.rest.keys().collect();
    assert_eq!(rest, ["logit_bias", "metadata"]);
}

#[test]
fn null_is_as_good_as_left_out() {
    let body = json!({
        "model": "m", "messages": [{"role": "user", "content": "hi", "tool_calls": null}], "temperature": null,
        "stop": null, "tools": null, "tool_choice": null, "response_format": null, "stream": null,
        "stream_options": null, "user": null, "max_tokens": null, "n": null, "quorate": null
    });
    let request = parse(body).unwrap();
    assert_eq!(request.query.params, Params::default());
    assert!(!request.stream && request.user.is_none() && request.query.tools.is_empty());
}

#[test]
fn the_newer_name_of_the_token_limit_wins() {
    let messages = json!([{"role": "user", "content": "hi"}]);
    for (body, limit) in [
        (json!({"max_tokens": 5, "max_completion_tokens": 7}), 7),
        (json!({"max_completion_tokens": 7, "max_tokens": 5}), 7),
        (json!({"max_tokens": 5}), 5),
    ] {
        let mut body = body;
        body["model"] = json!("m");
        body["messages"] = messages.clone();
        assert_eq!(parse(body).unwrap().query.params.max_tokens, Some(limit));
    }
}

#[test]
fn what_is_wrong_is_named_with_what_is_allowed() {
    let user = json!({"role": "user", "content": "hi"});
    let table = [
        (json!({"messages": [user]}), "model", "is missing"),
        (json!({"model": null}), "model", "expected a string"),
        (json!({"model": ""}), "model", "1 to 512"),
        (json!({"messages": null}), "messages", "at least one"),
        (json!({"messages": []}), "messages", "at least one"),
        (json!({"messages": "hi"}), "messages", "expected an array"),
        (
            json!({"messages": [user, "hi"]}),
            "messages[1]",
            "expected an object",
        ),
        (
            json!({"messages": [user, {"content": "hi"}]}),
            "messages[1].role",
            "system, developer, user",
        ),
        (
            json!({"messages": [user, user, {"role": "robot"}]}),
            "messages[2].role",
            "expected one of",
        ),
        (
            json!({"messages": [{"role": "user", "content": 1}]}),
            "messages[0].content",
            "a string or an array of parts",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
            "messages[0].content",
            "`type`",
        ),
        (
            json!({"messages": [{"role": "user", "tool_calls": [{}]}]}),
            "messages[0].tool_calls",
            "`id`",
        ),
        (
            json!({"messages": vec![user.clone(); 4097]}),
            "messages",
            "at most 4096",
        ),
        (
            json!({"tools": [{"type": "function"}, {}]}),
            "tools[1]",
            "`type`",
        ),
        (json!({"tools": {}}), "tools", "expected an array"),
        (json!({"tool_choice": 1}), "tool_choice", "required"),
        (
            json!({"response_format": "json"}),
            "response_format",
            "json_schema",
        ),
        (
            json!({"response_format": {}}),
            "response_format",
            "json_schema",
        ),
        (
            json!({"temperature": "hot"}),
            "temperature",
            "expected a number",
        ),
        (json!({"temperature": 2.1}), "temperature", "from 0 to 2"),
        (json!({"top_p": -0.1}), "top_p", "from 0 to 1"),
        (
            json!({"presence_penalty": 3}),
            "presence_penalty",
            "from -2 to 2",
        ),
        (
            json!({"frequency_penalty": -3}),
            "frequency_penalty",
            "from -2 to 2",
        ),
        (json!({"n": 0}), "n", "from 1 to 16"),
        (json!({"n": 17}), "n", "from 1 to 16"),
        (json!({"top_logprobs": 21}), "top_logprobs", "from 0 to 20"),
        (json!({"max_tokens": 0}), "max_tokens", "at least 1"),
        (
            json!({"max_tokens": -1}),
            "max_tokens",
            "expected an integer",
        ),
        (json!({"seed": 1.5}), "seed", "expected an integer"),
        (json!({"stop": vec!["a"; 17]}), "stop", "at most 16"),
        (json!({"stop": 1}), "stop", "a string or an array"),
        (json!({"logprobs": 1}), "logprobs", "boolean"),
        (json!({"stream": "yes"}), "stream", "boolean"),
        (
            json!({"stream_options": {"include_usage": 1}}),
            "stream_options",
            "boolean",
        ),
        (json!({"reasoning_effort": 1}), "reasoning_effort", "string"),
        (json!({"user": ""}), "user", "1 to 512"),
        (
            json!({"quorate": {"lane": "fast"}}),
            "quorate.lane",
            "urgent, normal or batch",
        ),
    ];
    for (change, param, message) in table {
        let mut body = json!({"model": "m", "messages": [user]});
        body.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        if param == "model" && change.get("model").is_none() {
            body.as_object_mut().unwrap().remove("model");
        }
        let error = parse(body).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{change}");
        assert_eq!(error.param(), Some(param), "{change}: {}", error.message());
        assert!(
            error.message().contains(message),
            "{change}: {}",
            error.message()
        );
    }
}

/// Fifty thousand objects, which as a tree take more than thirty megabytes.
fn large() -> Value {
    json!(vec![json!({"": 0}); 50_000])
}

#[test]
fn what_would_be_too_large_as_a_tree_is_refused_where_it_is_needed() {
    let user = json!({"role": "user", "content": "hi"});
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}, "x": large()});
    let calls = json!([{"role": "assistant", "tool_calls": [call]}]);
    let parts = json!([{"role": "user", "content": [{"type": "text", "text": "a", "x": large()}]}]);
    for (field, value, param) in [
        (
            "tools",
            json!([{"type": "function", "function": {"parameters": large()}}]),
            "tools[0]",
        ),
        (
            "tools",
            json!(vec![
                json!({"type": "f", "x": [{}, {}, {}, {}, {}, {}, {}]});
                4096
            ]),
            "tools[",
        ),
        ("tool_choice", json!({"x": large()}), "tool_choice"),
        (
            "response_format",
            json!({"type": "json_schema", "json_schema": large()}),
            "response_format",
        ),
        ("messages", calls, "messages[0].tool_calls"),
        ("messages", parts, "messages[0].content"),
        ("quorate", large(), "quorate"),
    ] {
        let mut body = json!({"model": "m", "messages": [user]});
        body[field] = value;
        let error = parse(body).unwrap_err();
        assert!(error.param().unwrap().starts_with(param), "{error}");
        assert!(error.message().contains("is too large"), "{error}");
    }
}

#[test]
fn what_nobody_needs_rides_in_the_original_bytes_alone_if_it_is_too_large_as_a_tree() {
    let body = json!({
        "model": "m", "large": large(), "small": [1],
        "messages": [{"role": "user", "content": "hi", "large": large(), "text": "x".repeat(1 << 20)}]
    });
    let query = parse(body).unwrap().query;
    assert_eq!(query.rest.keys().collect::<Vec<_>>(), ["small"]);
    assert_eq!(query.messages[0].rest.keys().collect::<Vec<_>>(), ["text"]);
    let sent = value(&write(&query, "up", false));
    assert_eq!(
        (&sent["large"], &sent["messages"][0]["large"]),
        (&large(), &large())
    );
}

#[test]
fn a_large_set_of_tools_is_taken() {
    let property = json!({"type": "string", "description": "what it is", "enum": ["a", "b", "c"]});
    let properties: Map<String, Value> = (0..20)
        .map(|n| (format!("p{n}"), property.clone()))
        .collect();
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": properties}}});
    let user = json!({"role": "user", "content": "hi"});
    let body = json!({"model": "m", "messages": [user], "tools": vec![tool; 500]});
    assert_eq!(parse(body).unwrap().query.tools.len(), 500);
}

#[test]
fn bytes_that_are_no_json_object_are_refused_with_their_place() {
    for (body, message) in [
        (
            &b"{\"model\":"[..],
            "not valid JSON: EOF while parsing a value at line 1 column 9",
        ),
        (
            b"{\"model\":\"m\"} x",
            "not valid JSON: trailing characters",
        ),
        (b"\xff", "not valid JSON"),
        (b"{\"model\":\"\xff\"}", "not valid JSON"),
        (
            b"[]",
            "the body is wrong: invalid type: sequence, expected an object",
        ),
        (b"", "not valid JSON"),
    ] {
        let error = read(Bytes::from_static(body)).unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::Invalid, None));
        assert!(error.message().contains(message), "{}", error.message());
    }
}

#[test]
fn what_is_passed_on_unread_must_be_text_too() {
    let body =
        b"{\"model\":\"m\",\"messages\":[{\"role\":\"user\"}],\"stream_options\":{\"x\":\"\xff\"}}";
    let error = read(Bytes::from_static(body)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("invalid unicode"), "{error:?}");
}

#[test]
fn a_long_wrong_value_is_not_repeated_at_length() {
    let error = parse(json!({"model": "m", "temperature": "é".repeat(100_000)})).unwrap_err();
    assert!(error.message().len() < 400);
    assert!(
        error.message().ends_with("expected a number"),
        "{}",
        error.message()
    );
}

#[test]
fn the_callers_bytes_go_out_but_for_what_must_change() {
    let body =
        br#"{"model":"fast", "messages":[{"role":"user","content":"h\u0069"}], "temperature":1.50,
        "stream":false, "quorate":{"lane":"urgent"}, "x":{"y":[1e3]}}"#;
    let query = read(Bytes::from_static(body)).unwrap().query;
    let whole = write(&query, "m\"1", false);
    let kept =
        r#""messages":[{"role":"user","content":"h\u0069"}],"temperature":1.50,"x":{"y":[1e3]}"#;
    assert_eq!(whole, format!(r#"{{"model":"m\"1",{kept}}}"#));
    let stream = write(&query, "m", true);
    let sent = value(&stream);
    assert_eq!(
        (&sent["stream"], &sent["stream_options"]),
        (&json!(true), &json!({"include_usage": true}))
    );
    assert_eq!(sent.get("quorate"), None);
    assert!(stream.windows(8).any(|bytes| bytes == br#"h\u0069""#));
}

#[test]
fn the_callers_other_stream_options_survive() {
    let body = json!({
        "model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true,
        "stream_options": {"include_usage": false, "include_obfuscation": false}
    });
    let query = parse(body).unwrap().query;
    let options = json!({"include_usage": true, "include_obfuscation": false});
    assert_eq!(value(&write(&query, "m", true))["stream_options"], options);
    let whole = value(&write(&query, "m", false));
    assert_eq!(
        (whole.get("stream"), whole.get("stream_options")),
        (None, None)
    );
}

#[test]
fn a_query_without_bytes_of_its_own_is_written_whole() {
    let mut query = parse(full()).unwrap().query;
    query.original = None;
    let mut expected = full();
    expected["model"] = json!("up");
    // What is `null` may as well be left out, and numbers are floats where the wire has floats.
    expected["messages"][2]
        .as_object_mut()
        .unwrap()
        .remove("content");
    for (key, number) in [("top_p", 1.0), ("presence_penalty", -2.0)] {
        expected[key] = json!(number);
    }
    assert_eq!(value(&write(&query, "up", false)), expected);
    expected["stream"] = json!(true);
    expected["stream_options"] = json!({"include_usage": true});
    assert_eq!(value(&write(&query, "up", true)), expected);
}

#[test]
fn a_reasoning_query_states_its_limit_by_the_newer_name() {
    let mut query = Query::new("m", "hi");
    query.params.max_tokens = Some(9);
    assert_eq!(value(&write(&query, "m", false))["max_tokens"], 9);
    query.params.reasoning_effort = Some("low".into());
    let body = value(&write(&query, "m", false));
    assert_eq!(
        (body.get("max_tokens"), &body["max_completion_tokens"]),
        (None, &json!(9))
    );
}

proptest! {
    #[test]
    fn what_is_written_from_the_types_reads_back_as_the_same_query(
        texts in proptest::collection::vec(".{0,12}", 1..4),
        temperature in proptest::option::of((0..=16u8).prop_map(|eighths| f64::from(eighths) / 8.0)),
        stop in proptest::collection::vec(".{1,4}", 0..4),
        seed in proptest::option::of(any::<i64>()),
        extra in any_json(),
    ) {
        let mut query = Query::of("m", texts.iter().map(Message::user).collect());
        query.params = Params { temperature, stop, seed, ..Params::default() };
        query.rest.insert("extra".into(), extra.clone());
        query.messages[0].rest.insert("extra".into(), extra);
        let back = read(write(&query, "m", false)).unwrap().query;
        prop_assert_eq!(back.messages, query.messages);
        prop_assert_eq!(back.params, query.params);
        prop_assert_eq!(back.rest, query.rest);
    }

    #[test]
    fn no_bytes_make_reading_panic(body in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = read(body.into());
    }

    #[test]
    fn a_body_cut_anywhere_is_an_error_and_no_more(at in 0usize..400) {
        let body = full().to_string();
        let cut = body.floor_char_boundary(at);
        prop_assert!(read(body.as_bytes()[..cut].to_vec().into()).is_err());
    }
}

#[test]
fn bytes_that_cannot_be_spliced_are_not_forwarded() {
    let mut query = Query::new("m", "hi");
    query.original = Some(Original {
        wire: Wire::OpenAiChat,
        body: Bytes::from_static(b"[]"),
    });
    assert_eq!(
        value(&write(&query, "up", false))["messages"][0]["content"],
        "hi"
    );
}
