//! The mock upstream does what it is told: tests that stand on it can believe it.
#[path = "support/upstream/mod.rs"]
mod upstream;

use std::io::ErrorKind;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use upstream::{Accept, Behaviour, Fault, Upstream};

const PATIENCE: Duration = Duration::from_secs(20);

async fn upstream(behaviour: Behaviour) -> Upstream {
    Upstream::start("127.0.0.1:0", behaviour).await.unwrap()
}

fn post(path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn chat(stream: bool) -> String {
    let messages = json!([{"role": "user", "content": "the very same"}]);
    post(
        "/v1/chat/completions",
        &json!({"model": "m", "stream": stream, "messages": messages}),
    )
}

/// Everything that came, and how the connection ended.
async fn exchange(upstream: &Upstream, request: &str) -> (String, Result<(), ErrorKind>) {
    let mut tcp = TcpStream::connect(upstream.addr()).await.unwrap();
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let end = timeout(PATIENCE, tcp.read_to_end(&mut all)).await.unwrap();
    let end = end.map(drop).map_err(|error| error.kind());
    (String::from_utf8(all).unwrap(), end)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let all = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(PATIENCE, all).await.is_ok(), "{what}");
}

fn said(events: &str) -> String {
    let events = events
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    let events = events.filter_map(|data| serde_json::from_str::<Value>(data).ok());
    let deltas = events.map(|event| {
        event["choices"][0]["delta"]["content"]
            .as_str()
            .unwrap_or("")
            .to_owned()
    });
    deltas.collect()
}

#[tokio::test]
async fn a_stream_says_the_text_and_ends_properly() {
    let text = "one  two three \u{e9} \"four\"";
    let up = upstream(Behaviour {
        text: text.into(),
        ..Behaviour::default()
    })
    .await;
    let (answer, _) = exchange(&up, &chat(true)).await;
    assert_eq!(said(&answer), text);
    assert!(answer.contains("\"finish_reason\":\"stop\"") && answer.contains("data: [DONE]"));
    assert!(answer.ends_with("0\r\n\r\n") && !answer.contains("usage"));
    let (answer, _) = exchange(&up, &chat(false)).await;
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], text);
    assert_eq!(
        (
            up.stats().calls,
            up.stats().streams,
            up.stats().statuses[&200]
        ),
        (2, 1, 2)
    );
    assert_eq!(up.stats().arrivals_ms.len(), 2);
}

#[tokio::test]
async fn words_are_said_again_until_there_are_as_many_chunks_as_asked_for() {
    let up = upstream(Behaviour {
        text: "a b".into(),
        chunks: 40,
        echo: false,
        ..Behaviour::default()
    })
    .await;
    let (answer, _) = exchange(&up, &chat(true)).await;
    assert_eq!(said(&answer), "a b".repeat(20));
    up.behave(Behaviour {
        echo: true,
        ..Behaviour::default()
    })
    .await;
    for stream in [true, false] {
        let (answer, _) = exchange(&up, &chat(stream)).await;
        assert!(answer.contains(" same") && (!stream || said(&answer) == "the very same"));
    }
}

#[tokio::test]
async fn usage_comes_when_it_is_asked_for_and_a_chunked_request_is_read() {
    let up = upstream(Behaviour::default()).await;
    let body = json!({"stream": true, "stream_options": {"include_usage": true}, "messages": []})
        .to_string();
    let (a, b) = body.split_at(7);
    let request = format!(
        "POST /chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
         {:x}\r\n{a}\r\n{:X};x=y\r\n{b}\r\n0\r\n\r\n",
        a.len(),
        b.len()
    );
    let (answer, _) = exchange(&up, &request).await;
    assert!(
        answer.contains("\"usage\":{\"prompt_tokens\":21"),
        "{answer}"
    );
}

#[tokio::test]
async fn shares_are_exact_and_spread_evenly() {
    let up = upstream(Behaviour {
        error_share: 0.3,
        status: 429,
        retry_after: Some("5".into()),
        fault_share: 0.2,
        fault: Fault::Malformed,
        ..Behaviour::default()
    })
    .await;
    let mut errors = 0;
    for asked in 1..=50 {
        let (answer, _) = exchange(&up, &chat(false)).await;
        if answer.starts_with("HTTP/1.1 429") {
            assert!(answer.contains("\r\nretry-after: 5\r\n"), "{answer}");
            errors += 1;
        }
        let due = 0.3 * f64::from(asked);
        assert!(
            (f64::from(errors) - due).abs() <= 1.0,
            "{errors} of {asked}"
        );
    }
    let stats = up.stats();
    assert_eq!(
        (stats.statuses[&429], stats.statuses[&200], stats.faults),
        (15, 35, 10)
    );
}

#[tokio::test]
async fn a_stream_ends_early_in_each_of_its_ways() {
    let ways = [
        (Fault::EndAfter(3), true),
        (Fault::CutAfter(3), false),
        (Fault::ErrorAfter(3), true),
    ];
    for (fault, whole) in ways {
        let up = upstream(Behaviour {
            text: "a b c d e".into(),
            fault,
            ..Behaviour::default()
        })
        .await;
        let (answer, end) = exchange(&up, &chat(true)).await;
        assert_eq!(
            (said(&answer).as_str(), end),
            ("a b c", Ok(())),
            "{fault:?}"
        );
        assert!(
            !answer.contains("[DONE]") && !answer.contains("\"stop\""),
            "{fault:?}"
        );
        assert_eq!(answer.ends_with("0\r\n\r\n"), whole, "{fault:?}");
        assert_eq!(
            answer.contains("data: {\"error\""),
            fault == Fault::ErrorAfter(3)
        );
        let (answer, _) = exchange(&up, &chat(false)).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(!head.contains(&format!("content-length: {}\r", body.len())));
    }
}

#[tokio::test]
async fn an_answer_is_cut_or_reset_at_any_byte() {
    let up = upstream(Behaviour::default()).await;
    for stream in [true, false] {
        for bytes in [0, 1, 20, 150, 400] {
            for (fault, end) in [
                (Fault::CloseAt(bytes), Ok(())),
                (Fault::ResetAt(bytes), Err(ErrorKind::ConnectionReset)),
            ] {
                up.behave(Behaviour {
                    fault,
                    ..Behaviour::default()
                })
                .await;
                let (answer, ended) = exchange(&up, &chat(stream)).await;
                assert_eq!((answer.len(), ended), (bytes, end), "{fault:?}");
            }
        }
    }
    assert_eq!(up.stats().cancelled, 0, "the client did not leave");
}

#[tokio::test]
async fn malformed_is_no_json() {
    let up = upstream(Behaviour {
        fault: Fault::Malformed,
        ..Behaviour::default()
    })
    .await;
    let (answer, _) = exchange(&up, &chat(false)).await;
    assert!(serde_json::from_str::<Value>(answer.split_once("\r\n\r\n").unwrap().1).is_err());
    let (answer, _) = exchange(&up, &chat(true)).await;
    let events = answer
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    assert_eq!(
        events
            .filter(|data| serde_json::from_str::<Value>(data).is_err())
            .count(),
        2,
        "and [DONE]"
    );
}

#[tokio::test]
async fn hanging_and_stalled_calls_are_in_flight_until_the_client_leaves() {
    let hangs = Behaviour {
        hang_share: 1.0,
        ..Behaviour::default()
    };
    let stalls = Behaviour {
        fault: Fault::StallAfter(2),
        text: "a b c d".into(),
        ..Behaviour::default()
    };
    let slow = Behaviour {
        delay_ms: 60_000,
        ..Behaviour::default()
    };
    for (behaviour, said_first) in [(hangs, ""), (stalls, "a b"), (slow, "")] {
        let up = upstream(behaviour).await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut tcp = TcpStream::connect(up.addr()).await.unwrap();
            tcp.write_all(chat(true).as_bytes()).await.unwrap();
            clients.push(tcp);
        }
        until("three are in flight", || up.stats().in_flight == 3).await;
        if !said_first.is_empty() {
            let mut all = String::new();
            while said(&all) != said_first {
                let mut some = [0; 4096];
                let n = timeout(PATIENCE, clients[0].read(&mut some))
                    .await
                    .unwrap()
                    .unwrap();
                all += std::str::from_utf8(&some[..n]).unwrap();
            }
        }
        drop(clients);
        until("nobody is", || up.stats().in_flight == 0).await;
        let stats = up.stats();
        assert_eq!(
            (stats.calls, stats.cancelled, stats.in_flight_max),
            (3, 3, 3)
        );
        up.forget();
        assert_eq!((up.stats().calls, up.stats().in_flight_max), (0, 0));
    }
}

#[tokio::test]
async fn connections_are_refused_closed_reset_or_ignored_and_served_again() {
    let up = upstream(Behaviour::default()).await;
    let mut idle = TcpStream::connect(up.addr()).await.unwrap();
    until("it is accepted", || up.stats().connections_open == 1).await;
    let accept = |accept| Behaviour {
        accept,
        ..Behaviour::default()
    };
    up.behave(accept(Accept::Refuse)).await;
    assert!(TcpStream::connect(up.addr()).await.is_err());
    assert_eq!(
        timeout(PATIENCE, idle.read(&mut [0]))
            .await
            .unwrap()
            .unwrap(),
        0
    );
    up.behave(accept(Accept::Close)).await;
    for (kind, empty) in [
        (Accept::Close, true),
        (Accept::Reset, true),
        (Accept::Ignore, false),
    ] {
        up.behave(accept(kind)).await;
        let mut tcp = TcpStream::connect(up.addr()).await.unwrap();
        let read = timeout(Duration::from_millis(300), tcp.read(&mut [0])).await;
        assert_eq!(
            matches!(read, Ok(Ok(0) | Err(_))),
            empty,
            "{kind:?}: {read:?}"
        );
    }
    up.behave(Behaviour::default()).await;
    assert!(
        exchange(&up, &chat(false))
            .await
            .0
            .starts_with("HTTP/1.1 200")
    );
    let addr = up.addr();
    up.stop().await;
    assert!(
        Upstream::start(&addr.to_string(), Behaviour::default())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn it_is_told_and_asked_over_http_and_by_way_of_another() {
    let (one, two) = (
        upstream(Behaviour::default()).await,
        upstream(Behaviour::default()).await,
    );
    let path = format!("/__behave?port={}", two.addr().port());
    let patch = json!({"accept": "refuse", "fault": {"reset_at": 7}, "delay_ms": 3});
    let (answer, _) = exchange(&one, &post(&path, &patch)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(TcpStream::connect(two.addr()).await.is_err());
    assert_eq!(
        (two.behaviour().fault, two.behaviour().delay_ms),
        (Fault::ResetAt(7), 3)
    );
    let (answer, _) = exchange(&one, &post("/__behave", &json!({"delay": 3}))).await;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("unknown field"),
        "{answer}"
    );
    let get = "GET /__stats HTTP/1.1\r\nConnection: close\r\n\r\n";
    let (answer, _) = exchange(&one, get).await;
    let stats: upstream::Stats =
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(stats.connections, 3);
}

#[tokio::test]
async fn delays_are_kept() {
    let up = upstream(Behaviour {
        delay_ms: 30,
        first_chunk_ms: 20,
        chunk_ms: 10,
        text: "a b c".into(),
        error_delay_ms: Some(1),
        ..Behaviour::default()
    })
    .await;
    let begun = Instant::now();
    let _ = exchange(&up, &chat(true)).await;
    assert!(begun.elapsed() >= Duration::from_millis(70));
}

#[tokio::test]
async fn no_more_than_asked_for_are_answered_at_once() {
    let up = upstream(Behaviour {
        delay_ms: 30,
        at_once: 2,
        ..Behaviour::default()
    })
    .await;
    let begun = Instant::now();
    let request = chat(false);
    let call = || exchange(&up, &request);
    let answers = tokio::join!(call(), call(), call(), call(), call(), call());
    assert!(answers.5.0.starts_with("HTTP/1.1 200"));
    assert!(begun.elapsed() >= Duration::from_millis(90));
    assert_eq!(up.stats().in_flight_max, 6);
}
