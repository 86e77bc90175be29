use std::time::Duration;

use serde_json::json;

use super::*;

fn kind_of(status: u16, body: &str) -> ErrorKind {
    read(status, &HeaderMap::new(), body.as_bytes()).kind()
}

fn coded(code: &str) -> String {
    json!({"error": {"message": "no", "type": "t", "code": code}}).to_string()
}

#[test]
fn a_status_means_what_it_says_where_the_body_is_silent() {
    let table = [
        (301, ErrorKind::Malformed),
        (400, ErrorKind::Invalid),
        (401, ErrorKind::Auth),
        (402, ErrorKind::Quota),
        (403, ErrorKind::Auth),
        (404, ErrorKind::Unsupported),
        (408, ErrorKind::Timeout),
        (409, ErrorKind::Invalid),
        (413, ErrorKind::Invalid),
        (415, ErrorKind::Invalid),
        (422, ErrorKind::Invalid),
        (429, ErrorKind::RateLimited),
        (500, ErrorKind::Upstream),
        (502, ErrorKind::Upstream),
        (503, ErrorKind::Upstream),
        (504, ErrorKind::Timeout),
        (529, ErrorKind::RateLimited),
    ];
    for (status, kind) in table {
        for body in ["", "<html>no</html>", "{}", "null", "[]"] {
            assert_eq!(kind_of(status, body), kind, "{status} {body}");
        }
    }
}

#[test]
fn codes_and_words_say_more_than_the_status() {
    let table = [
        (429, coded("insufficient_quota"), ErrorKind::Quota),
        (429, coded("rate_limit_exceeded"), ErrorKind::RateLimited),
        (413, coded("rate_limit_exceeded"), ErrorKind::ContextLength),
        (400, coded("context_length_exceeded"), ErrorKind::ContextLength),
        (400, r#"{"error":{"code":400,"message":"request (9 tokens) exceeds the available context size (8 tokens)","type":"exceed_context_size_error"}}"#.into(), ErrorKind::ContextLength),
        (400, r#"{"object":"error","message":"This model's maximum context length is 8 tokens","type":"BadRequestError","code":400}"#.into(), ErrorKind::ContextLength),
        (400, coded("content_filter"), ErrorKind::ContentFilter),
        (400, coded("content_policy_violation"), ErrorKind::ContentFilter),
        (403, r#"{"error":{"code":403,"message":"Your input was flagged"}}"#.into(), ErrorKind::ContentFilter),
        (404, coded("model_not_found"), ErrorKind::Unsupported),
        (400, coded("model_not_found"), ErrorKind::Unsupported),
        (400, r#"{"error":{"message":"x/y is not a valid model ID","code":400}}"#.into(), ErrorKind::Unsupported),
        (400, coded("unsupported_parameter"), ErrorKind::Unsupported),
        (500, coded("context_length_exceeded"), ErrorKind::Upstream),
    ];
    for (status, body, kind) in table {
        assert_eq!(kind_of(status, &body), kind, "{status} {body}");
    }
}

#[test]
fn the_upstreams_words_and_status_stay_with_the_error() {
    for body in [
        r#"{"error":{"message":"bad n","type":"t","param":"n","code":null}}"#,
        r#"{"message":"bad n","param":"n"}"#,
        r#"[{"error":{"message":"bad n","param":"n"}}]"#,
    ] {
        let error = read(422, &HeaderMap::new(), body.as_bytes());
        assert_eq!(error.message(), "the upstream answered 422: bad n");
        assert_eq!(error.param(), Some("n"));
        let upstream = error.upstream().unwrap();
        assert_eq!((upstream.status, &*upstream.body), (422, body));
    }
    for (body, said) in [
        ("Bad Gateway\n", ": Bad Gateway"),
        (r#"{"error":"boom"}"#, ": boom"),
        (r#"{"detail":[1]}"#, ": [1]"),
        ("<p>", ""),
    ] {
        assert_eq!(
            read(502, &HeaderMap::new(), body.as_bytes()).message(),
            format!("the upstream answered 502{said}")
        );
    }
    let long = read(500, &HeaderMap::new(), "é".repeat(9000).as_bytes());
    assert!(long.message().len() < 600);
}

#[test]
fn a_wait_is_taken_from_the_headers_of_a_refusal_that_has_one() {
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, HeaderValue::from(5));
    for (status, wait) in [(429, Some(5)), (529, Some(5)), (503, Some(5)), (400, None)] {
        assert_eq!(
            read(status, &headers, b"").retry_after(),
            wait.map(Duration::from_secs),
            "{status}"
        );
    }
}

#[test]
fn a_redirect_names_where_it_leads() {
    let mut headers = HeaderMap::new();
    headers.insert(LOCATION, HeaderValue::from_static("https://elsewhere/v1"));
    let error = read(308, &headers, b"");
    assert!(
        error.message().contains("https://elsewhere/v1") && error.message().contains("base_url")
    );
}

#[test]
fn each_kind_has_its_status() {
    let table = [
        (ErrorKind::Invalid, 400),
        (ErrorKind::ContextLength, 400),
        (ErrorKind::ContentFilter, 400),
        (ErrorKind::Unsupported, 400),
        (ErrorKind::Auth, 401),
        (ErrorKind::Forbidden, 403),
        (ErrorKind::NoCandidate, 404),
        (ErrorKind::TooLarge, 413),
        (ErrorKind::Quota, 429),
        (ErrorKind::RateLimited, 429),
        (ErrorKind::Cancelled, 499),
        (ErrorKind::Internal, 500),
        (ErrorKind::Connect, 502),
        (ErrorKind::Upstream, 502),
        (ErrorKind::Truncated, 502),
        (ErrorKind::Malformed, 502),
        (ErrorKind::Overloaded, 503),
        (ErrorKind::BreakerOpen, 503),
        (ErrorKind::Deadline, 504),
        (ErrorKind::Timeout, 504),
    ];
    for (kind, status) in table {
        assert_eq!(write(&Error::new(kind, "no")).0, status, "{kind}");
    }
}

#[test]
fn an_upstreams_status_goes_through_where_it_is_the_callers_business() {
    let table = [
        (500, 500),
        (503, 503),
        (422, 422),
        (401, 502),
        (403, 502),
        (529, 429),
        (418, 418),
        (404, 400),
    ];
    for (upstream, status) in table {
        assert_eq!(
            write(&read(upstream, &HeaderMap::new(), b"")).0,
            status,
            "{upstream}"
        );
    }
}

#[test]
fn the_body_is_openais_with_ours_inside() {
    let attempts = vec![Attempt {
        deployment: "east/m".into(),
        outcome: "rate-limited",
        ms: 1.5,
        status: Some(529),
        error: None,
    }];
    let error = Error::new(ErrorKind::RateLimited, "slow down")
        .with_retry_after(Some(Duration::from_millis(1500)))
        .with_upstream(529, b"busy")
        .with_attempts(attempts);
    let (status, body) = write(&error);
    assert_eq!(status, 429);
    assert_eq!(
        serde_json::from_slice::<Value>(&body).unwrap(),
        json!({"error": {
            "message": "slow down", "type": "rate_limit_error", "param": null, "code": "rate_limit_exceeded",
            "quorate": {
                "kind": "rate-limited", "retryable": true, "retry_after_ms": 1500,
                "upstream": {"status": 529, "body": "busy"},
                "attempts": [{"deployment": "east/m", "outcome": "rate-limited", "ms": 1.5, "status": 529}]
            }
        }})
    );
    let headers = headers(&error);
    assert_eq!(headers["retry-after"], "2");
    assert_eq!(headers["retry-after-ms"], "1500");
}

#[test]
fn what_one_quorate_writes_another_understands() {
    for kind in [
        ErrorKind::RateLimited,
        ErrorKind::Quota,
        ErrorKind::ContextLength,
        ErrorKind::ContentFilter,
        ErrorKind::Timeout,
        ErrorKind::Upstream,
        ErrorKind::Invalid,
    ] {
        let (status, body) = write(&Error::new(kind, "no"));
        assert_eq!(read(status, &HeaderMap::new(), &body).kind(), kind);
    }
}
