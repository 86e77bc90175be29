//! Black box: the adapter against a server that says exactly what each test wants, byte by byte.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::*;
use crate::answer::{Answer, Delta};
use crate::query::Query;
use crate::supervisor::task::{AbortOnDrop, spawn};

/// What the server does with one request.
#[derive(Clone)]
enum Step {
    Send(Vec<u8>),
    /// A byte at a time, each in a packet of its own.
    Drip(Vec<u8>),
    Wait(Duration),
    /// Until the client is gone.
    Hang,
    Close,
}

struct Upstream {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    /// Told when a client is gone in [`Step::Hang`].
    gone: Arc<Notify>,
    _server: AbortOnDrop,
}

/// A server that answers its first request with the first script, and so on; connections are kept.
async fn upstream(scripts: Vec<Vec<Step>>) -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let gone = Arc::new(Notify::new());
    let scripts = Arc::new(Mutex::new(scripts.into_iter()));
    let (counter, seen, notify) = (
        Arc::clone(&accepted),
        Arc::clone(&requests),
        Arc::clone(&gone),
    );
    let server = spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            let (scripts, seen, notify) =
                (Arc::clone(&scripts), Arc::clone(&seen), Arc::clone(&notify));
            spawn(async move {
                while let Some(request) = read_request(&mut socket).await {
                    seen.lock().push(request);
                    let Some(script) = scripts.lock().next() else {
                        return;
                    };
                    for step in script {
                        match step {
                            Step::Send(bytes) => socket.write_all(&bytes).await.unwrap(),
                            Step::Drip(bytes) => {
                                for byte in bytes {
                                    socket.write_all(&[byte]).await.unwrap();
                                    tokio::task::yield_now().await;
                                }
                            }
                            Step::Wait(time) => tokio::time::sleep(time).await,
                            Step::Hang => {
                                while socket.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
                                notify.notify_one();
                                return;
                            }
                            Step::Close => return,
                        }
                    }
                }
            });
        }
    });
    Upstream {
        address,
        accepted,
        requests,
        gone,
        _server: AbortOnDrop(server),
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let read = socket
            .read(&mut buffer)
            .await
            .ok()
            .filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return Some(text);
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> Step {
    Step::Send(
        format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            body.len()
        )
        .into_bytes(),
    )
}

fn json_answer(body: &Value) -> Step {
    answer(
        "200 OK",
        "content-type: application/json\r\n",
        &body.to_string(),
    )
}

/// A chunked event stream; without `end`, its last chunk is not said to be the last.
fn events(datas: &[&str], end: bool) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for data in datas {
        let event = format!("data: {data}\n\n");
        bytes.extend_from_slice(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
    }
    if end {
        bytes.extend_from_slice(b"0\r\n\r\n");
    }
    bytes
}

fn piece(text: &str) -> String {
    json!({"choices": [{"index": 0, "delta": {"content": text}}]}).to_string()
}

const FINISH: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

fn completion() -> Value {
    json!({"model": "m", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]})
}

fn provider_at(base_url: &str) -> OpenAiProvider {
    let key = Secret::new("sk-test-0123456789").unwrap();
    let headers = BTreeMap::from([("x-extra".to_owned(), Secret::new("yes").unwrap())]);
    let client = Client::new(Duration::from_millis(300)).unwrap();
    OpenAiProvider::new(client, base_url, Some(&key), &headers).unwrap()
}

fn provider(upstream: &Upstream) -> OpenAiProvider {
    provider_at(&format!("http://{}/v1/", upstream.address))
}

fn call(stream: bool) -> Call {
    let query = Arc::new(Query::new("m", "hi"));
    Call {
        query,
        model: "up".into(),
        stream,
        deadline: Instant::now() + Duration::from_secs(60),
    }
}

async fn whole(provider: &OpenAiProvider) -> Result<Answer> {
    match provider.call(call(false)).await? {
        Outcome::Whole(answer) => Ok(answer),
        Outcome::Stream(_) => panic!("a stream"),
    }
}

/// The texts of a stream, and how it ended.
async fn streamed(provider: &OpenAiProvider) -> (Vec<String>, Option<ErrorKind>) {
    let Outcome::Stream(mut deltas) = provider.call(call(true)).await.unwrap() else {
        panic!("whole")
    };
    let mut texts = Vec::new();
    while let Some(delta) = deltas.next().await {
        match delta {
            Ok(delta) => texts.push(delta.content().to_owned()),
            Err(error) => return (texts, Some(error.kind())),
        }
    }
    assert!(deltas.next().await.is_none(), "the end stays the end");
    (texts, None)
}

#[tokio::test]
async fn a_whole_answer_comes_back_and_the_request_says_who_asks_what() {
    let upstream = upstream(vec![vec![json_answer(&completion())]]).await;
    let provider = provider(&upstream);
    let call = call(false);
    let id = call.query.id.clone();
    let Ok(Outcome::Whole(answer)) = provider.call(call).await else {
        panic!()
    };
    assert_eq!(answer.content(), "hi");
    let request = upstream.requests.lock()[0].clone();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"),
        "{head}"
    );
    for line in [
        "authorization: Bearer sk-test-0123456789",
        "content-type: application/json",
        "accept: application/json",
        &format!("user-agent: quorate/{}", env!("CARGO_PKG_VERSION")),
        &format!("x-request-id: {id}"),
        "x-extra: yes",
        &format!("host: {}", upstream.address),
    ] {
        assert!(head.lines().any(|given| given == line), "{line} in {head}");
    }
    assert_eq!(serde_json::from_str::<Value>(body).unwrap()["model"], "up");
}

#[tokio::test]
async fn calls_one_after_the_other_share_a_connection() {
    let first = vec![
        Step::Send(events(&[&piece("a"), FINISH, "[DONE]"], false)),
        Step::Wait(Duration::from_millis(30)),
        Step::Send(b"0\r\n\r\n".to_vec()),
    ];
    let upstream = upstream(vec![
        first,
        vec![json_answer(&completion())],
        vec![json_answer(&completion())],
    ])
    .await;
    let provider = provider(&upstream);
    assert_eq!(
        streamed(&provider).await,
        (vec!["a".to_owned(), String::new()], None)
    );
    // The end of the first answer follows its mark, and is read without anybody waiting for it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    whole(&provider).await.unwrap();
    whole(&provider).await.unwrap();
    assert_eq!(upstream.accepted.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_stream_that_drips_in_byte_by_byte_is_the_same_stream() {
    let datas = [&*piece("hé"), &piece("llo"), FINISH, "[DONE]"];
    let upstream = upstream(vec![vec![Step::Drip(events(&datas, true))]]).await;
    let (texts, end) = streamed(&provider(&upstream)).await;
    assert_eq!((texts.concat(), end), ("héllo".to_owned(), None));
    let request = upstream.requests.lock()[0].clone();
    assert!(
        request.contains("accept: text/event-stream")
            && request.contains(r#""include_usage":true"#)
    );
}

#[tokio::test]
async fn deltas_arrive_while_the_upstream_still_speaks() {
    let upstream = upstream(vec![vec![
        Step::Send(events(&[&piece("a")], false)),
        Step::Hang,
    ]])
    .await;
    let Ok(Outcome::Stream(mut deltas)) = provider(&upstream).call(call(true)).await else {
        panic!()
    };
    let delta: Delta = timeout(Duration::from_secs(5), deltas.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(delta.content(), "a");
}

#[tokio::test]
async fn a_stream_that_ends_too_early_is_truncated_however_it_ends() {
    let a = piece("a");
    let half = format!(
        "{}data: {}",
        "data: {\"choices\":[]}\n\n",
        &a[..a.len() - 4]
    );
    let cut = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{half}");
    for (script, texts) in [
        (
            vec![Step::Send(events(&[&a], false)), Step::Close],
            vec!["a"],
        ),
        (vec![Step::Send(events(&[&a], true))], vec!["a"]),
        (vec![Step::Send(events(&[], true))], vec![]),
        (vec![Step::Send(cut.into_bytes()), Step::Close], vec![""]),
    ] {
        let upstream = upstream(vec![script]).await;
        let (got, end) = streamed(&provider(&upstream)).await;
        assert_eq!(
            (got, end),
            (
                texts.into_iter().map(String::from).collect(),
                Some(ErrorKind::Truncated)
            )
        );
    }
}

#[tokio::test]
async fn a_finish_reason_or_the_mark_is_an_end_enough() {
    let a = piece("a");
    let unterminated = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {a}\n\ndata: {FINISH}"
    );
    for (script, texts) in [
        (vec![Step::Send(events(&[&a, FINISH], true))], vec!["a", ""]),
        (
            vec![Step::Send(events(&[&a, FINISH], false)), Step::Close],
            vec!["a", ""],
        ),
        (vec![Step::Send(events(&[&a, "[DONE]"], true))], vec!["a"]),
        (
            vec![Step::Send(unterminated.into_bytes()), Step::Close],
            vec!["a", ""],
        ),
    ] {
        let upstream = upstream(vec![script]).await;
        let (got, end) = streamed(&provider(&upstream)).await;
        assert_eq!(
            (got, end),
            (texts.into_iter().map(String::from).collect(), None)
        );
    }
}

#[tokio::test]
async fn errors_and_nonsense_in_the_middle_end_the_stream() {
    let a = piece("a");
    for (event, kind) in [
        (
            r#"{"error":{"message":"boom","code":429}}"#,
            ErrorKind::RateLimited,
        ),
        ("{\"choices\":[", ErrorKind::Malformed),
        ("hello", ErrorKind::Malformed),
    ] {
        let upstream = upstream(vec![vec![Step::Send(events(
            &[&a, "{\"type\":\"ping\"}", event, &a],
            true,
        ))]])
        .await;
        assert_eq!(
            streamed(&provider(&upstream)).await,
            (vec!["a".to_owned()], Some(kind)),
            "{event}"
        );
    }
    let named = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: ping\n\nevent: error\ndata: boom\n\n";
    let upstream = upstream(vec![vec![Step::Send(named.into()), Step::Close]]).await;
    assert_eq!(
        streamed(&provider(&upstream)).await,
        (vec![], Some(ErrorKind::Upstream))
    );
}

#[tokio::test]
async fn what_comes_is_read_as_what_it_is() {
    let upstream = upstream(vec![
        vec![json_answer(&completion())],
        vec![Step::Send(events(&[FINISH, "[DONE]"], true))],
        vec![answer("200 OK", "content-type: text/html\r\n", "<html>")],
        vec![answer("200 OK", "", &completion().to_string())],
    ])
    .await;
    let provider = provider(&upstream);
    assert!(matches!(
        provider.call(call(true)).await,
        Ok(Outcome::Whole(_))
    ));
    let Ok(Outcome::Stream(deltas)) = provider.call(call(false)).await else {
        panic!()
    };
    assert_eq!(deltas.count().await, 1);
    let error = provider.call(call(true)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.message().contains("text/html") && error.message().contains("base_url"));
    assert!(whole(&provider).await.is_ok());
}

#[tokio::test]
async fn refusals_are_errors_with_what_the_upstream_said() {
    let limited = answer(
        "429 Too Many Requests",
        "retry-after: 5\r\n",
        r#"{"error":{"message":"slow"}}"#,
    );
    let upstream = upstream(vec![
        vec![limited],
        vec![answer("503 Service Unavailable", "", "")],
        vec![answer(
            "301 Moved Permanently",
            "location: https://new/v1\r\n",
            "",
        )],
        vec![answer("401 Unauthorized", "", "bad key sk-test-0123456789")],
        vec![answer(
            "500 Internal Server Error",
            "",
            &"x".repeat(1 << 20),
        )],
    ])
    .await;
    let provider = provider(&upstream);
    let error = whole(&provider).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_after()),
        (ErrorKind::RateLimited, Some(Duration::from_secs(5)))
    );
    assert_eq!(error.upstream().unwrap().status, 429);
    assert_eq!(
        whole(&provider).await.unwrap_err().kind(),
        ErrorKind::Upstream
    );
    let error = whole(&provider).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Malformed && error.message().contains("https://new/v1"));
    let error = whole(&provider).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    assert!(!format!("{error:?}").contains("0123456789"), "{error:?}");
    assert_eq!(
        whole(&provider).await.unwrap_err().kind(),
        ErrorKind::Upstream
    );
}

#[tokio::test]
async fn a_whole_answer_that_breaks_off_is_truncated_and_nonsense_is_malformed() {
    let short = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"choices\":[".to_vec();
    for (script, kind) in [
        (vec![Step::Send(short), Step::Close], ErrorKind::Truncated),
        (vec![Step::Close], ErrorKind::Truncated),
        (
            vec![Step::Send(b"SSH-2.0-OpenSSH\r\n".to_vec()), Step::Close],
            ErrorKind::Malformed,
        ),
        (vec![answer("200 OK", "", "{}")], ErrorKind::Malformed),
    ] {
        let upstream = upstream(vec![script]).await;
        assert_eq!(whole(&provider(&upstream)).await.unwrap_err().kind(), kind);
    }
}

#[tokio::test]
async fn a_pooled_connection_that_the_peer_closed_costs_no_call() {
    let upstream = upstream(vec![
        vec![json_answer(&completion()), Step::Close],
        vec![json_answer(&completion())],
    ])
    .await;
    let provider = provider(&upstream);
    whole(&provider).await.unwrap();
    whole(&provider).await.unwrap();
    assert_eq!(upstream.accepted.load(Ordering::SeqCst), 2);
}

/// A task that has used up what tokio gives it at a time sees nothing as ready, a closed connection neither: the
/// request goes to it, and must come back.
#[tokio::test]
async fn a_task_out_of_its_budget_is_not_left_waiting_on_a_closed_connection() {
    let upstream = upstream(vec![
        vec![json_answer(&completion()), Step::Close],
        vec![json_answer(&completion())],
    ])
    .await;
    let provider = provider(&upstream);
    whole(&provider).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let mut again = std::pin::pin!(whole(&provider));
    let mut spent = false;
    let again = std::future::poll_fn(|cx| {
        while !spent {
            match tokio::task::coop::poll_proceed(cx) {
                std::task::Poll::Ready(unit) => unit.made_progress(),
                std::task::Poll::Pending => spent = true,
            }
        }
        again.as_mut().poll(cx)
    });
    let again = tokio::time::timeout(std::time::Duration::from_secs(5), again);
    again.await.expect("an answer in time").unwrap();
}

#[tokio::test]
async fn whoever_cannot_be_reached_is_named_with_the_reason() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = whole(&provider_at(&format!("http://{free}/v1")))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Connect);
    assert!(
        refused.message().contains(&free.to_string()) && refused.message().contains("refused"),
        "{refused}"
    );

    let unknown = whole(&provider_at("http://quorate.invalid/v1"))
        .await
        .unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Connect);
    assert!(
        unknown.message().contains("quorate.invalid: dns error"),
        "{unknown}"
    );

    let plain = upstream(vec![]).await;
    let hanging = provider_at(&format!("https://{}/v1", plain.address));
    let silent = timeout(Duration::from_secs(10), whole(&hanging))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(
        silent.kind(),
        ErrorKind::Connect,
        "a TLS handshake that hangs"
    );
    assert!(silent.message().contains("within 300ms"), "{silent}");
}

#[tokio::test]
async fn a_peer_that_speaks_no_tls_is_a_failure_to_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _server = AbortOnDrop(spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        let _ = socket.read(&mut [0; 64]).await;
    }));
    let error = whole(&provider_at(&format!("https://{address}/v1")))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.message().contains("tls: "), "{error}");
}

#[tokio::test]
async fn dropping_a_call_or_its_stream_hangs_up_on_the_upstream() {
    let scripts = vec![
        vec![Step::Hang],
        vec![Step::Send(events(&[&piece("a")], false)), Step::Hang],
    ];
    let upstream = upstream(scripts).await;
    let provider = provider(&upstream);

    let waiting = timeout(Duration::from_millis(100), provider.call(call(false))).await;
    assert!(waiting.is_err());
    timeout(Duration::from_secs(5), upstream.gone.notified())
        .await
        .unwrap();

    let Ok(Outcome::Stream(mut deltas)) = provider.call(call(true)).await else {
        panic!()
    };
    deltas.next().await.unwrap().unwrap();
    drop(deltas);
    timeout(Duration::from_secs(5), upstream.gone.notified())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_local_server_is_asked_for_its_models_and_given_up_soon() {
    let models = json!({"data": [{"id": "m"}]});
    let upstream = upstream(vec![
        vec![json_answer(&models)],
        vec![answer("404 Not Found", "", "")],
        vec![answer("200 OK", "", "<html>")],
        vec![Step::Hang],
    ])
    .await;
    let client = Client::new(Duration::from_secs(5)).unwrap();
    let url = format!("http://{}/v1/models", upstream.address);
    assert_eq!(get_json(&client, &url).await.unwrap(), models);
    assert!(upstream.requests.lock()[0].starts_with("GET /v1/models HTTP/1.1\r\n"));
    for kind in [
        ErrorKind::Unsupported,
        ErrorKind::Malformed,
        ErrorKind::Timeout,
    ] {
        assert_eq!(get_json(&client, &url).await.unwrap_err().kind(), kind);
    }
}

#[test]
fn a_wrong_configuration_names_its_field() {
    let client = Client::new(Duration::from_secs(1)).unwrap();
    let none = BTreeMap::new();
    for url in [
        "",
        "host/v1",
        "ftp://host/v1",
        "http://",
        "http://u:p@host/v1",
        "http://host/v1?x=1",
        "http://ho st",
    ] {
        let error = OpenAiProvider::new(client.clone(), url, None, &none)
            .err()
            .unwrap();
        assert!(
            error.starts_with("base_url must be http:// or https://"),
            "{url}: {error}"
        );
    }
    let headers = BTreeMap::from([("bad name".to_owned(), Secret::new("x").unwrap())]);
    let error = OpenAiProvider::new(client, "http://host/v1", None, &headers)
        .err()
        .unwrap();
    assert!(error.starts_with("headers.bad name"), "{error}");
}

#[test]
fn the_path_follows_the_base_url_with_or_without_a_slash() {
    for base in ["https://host/v1", "https://host/v1/"] {
        assert_eq!(
            completions(base).unwrap(),
            "https://host/v1/chat/completions"
        );
    }
}
