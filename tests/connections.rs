//! Connections to upstreams that are full, are told goodbye, or are closed without a word: users notice nothing.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;
use support::{Daemon, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

const MANY: &str = "[admission]\nper_user = 1000\ntotal = 1000\n";

/// How an HTTP/2 server behaves, and what it has seen.
struct Server {
    /// Calls it allows on one connection.
    streams: u32,
    /// It says goodbye to a connection after so many calls.
    goodbye: usize,
    takes: Duration,
    connections: AtomicUsize,
    calls: AtomicUsize,
}

impl Server {
    fn new(streams: u32, goodbye: usize, takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            streams,
            goodbye,
            takes,
            connections: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
        })
    }

    /// Listens, with a certificate of its own below `dir`.
    async fn start(self: &Arc<Self>, dir: &Path) -> (String, PathBuf) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = dir.join("certificate.pem");
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let mut tls = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&server).serve(tls.clone(), stream));
            }
        });
        (format!("https://localhost:{port}/v1"), certificate)
    }

    async fn serve(self: Arc<Self>, tls: TlsAcceptor, stream: TcpStream) {
        let Ok(stream) = tls.accept(stream).await else {
            return;
        };
        self.connections.fetch_add(1, Ordering::Relaxed);
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(self.streams);
        let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
        let mut calls = 0;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            calls += 1;
            self.calls.fetch_add(1, Ordering::Relaxed);
            if calls == self.goodbye {
                connection.graceful_shutdown();
            }
            let takes = self.takes;
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut asked = Vec::new();
                while let Some(Ok(data)) = body.data().await {
                    asked.extend_from_slice(&data);
                    let _ = body.flow_control().release_capacity(data.len());
                }
                if String::from_utf8_lossy(&asked).contains(ENDLESS) {
                    return endless(respond).await;
                }
                sleep(takes).await;
                let head = http::Response::builder().header("content-type", "application/json");
                let head = head.body(()).unwrap();
                if let Ok(mut send) = respond.send_response(head, false) {
                    let _ = send.send_data(answer().into(), true);
                }
            });
        }
    }
}

/// A question whose answer never ends.
const ENDLESS: &str = "all of it";

/// Streams as fast as it is let.
async fn endless(mut respond: h2::server::SendResponse<Bytes>) {
    let head = http::Response::builder().header("content-type", "text/event-stream");
    let Ok(mut send) = respond.send_response(head.body(()).unwrap(), false) else {
        return;
    };
    let delta = json!({ "content": "more ".repeat(1000) });
    let event = json!({ "choices": [{ "index": 0, "delta": delta }] });
    let event = Bytes::from(format!("data: {event}\n\n"));
    loop {
        send.reserve_capacity(event.len());
        while send.capacity() < event.len() {
            let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await;
            let Some(Ok(_)) = room else { return };
        }
        if send.send_data(event.clone(), false).is_err() {
            return;
        }
    }
}

fn answer() -> String {
    let choice = json!({
        "index": 0,
        "message": { "role": "assistant", "content": "well" },
        "finish_reason": "stop",
    });
    let usage = json!({ "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 });
    json!({ "id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage })
        .to_string()
}

fn provider(url: &str) -> String {
    format!(
        "[[providers]]\nname = \"up\"\nkind = \"openai\"\nbase_url = \"{url}\"\nmodels = [\"m\"]\n"
    )
}

async fn daemon(dir: &Path, server: &Arc<Server>) -> Daemon {
    let (url, certificate) = server.start(dir).await;
    let toml = format!("{MANY}{}", provider(&url));
    Daemon::start_with(dir, &toml, &[("SSL_CERT_FILE", &certificate)]).await
}

/// Waits for the connection that a daemon opens at its start.
async fn connected(server: &Server) {
    let until = Instant::now() + Duration::from_secs(20);
    while server.connections.load(Ordering::Relaxed) == 0 {
        assert!(Instant::now() < until, "no connection comes");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Asks, and is answered at the first attempt.
async fn well(daemon: &Daemon) {
    let reply = daemon.chat("up/m", "?").await.unwrap();
    assert_eq!(reply.content(), "well", "{}", reply.body);
    let attempts = reply.json()["quorate"]["attempts"].clone();
    assert_eq!(attempts.as_array().unwrap().len(), 1, "{attempts}");
}

#[tokio::test]
async fn more_calls_at_once_than_one_connection_carries_go_over_several() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(100, usize::MAX, Duration::from_secs(3));
    let daemon = daemon(dir.path(), &server).await;
    well(&daemon).await;
    join_all((0..250).map(|_| well(&daemon))).await;
    assert_eq!(server.connections.load(Ordering::Relaxed), 3);
    assert_eq!(server.calls.load(Ordering::Relaxed), 251);
}

#[tokio::test]
async fn connections_that_are_told_goodbye_are_replaced_and_nobody_notices() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(100, 10, Duration::from_millis(2));
    let daemon = daemon(dir.path(), &server).await;
    for _ in 0..50 {
        well(&daemon).await;
    }
    let clients = (0..8).map(async |_| {
        for _ in 0..40 {
            well(&daemon).await;
        }
    });
    join_all(clients).await;
    assert!(server.connections.load(Ordering::Relaxed) > 20);
}

#[tokio::test]
async fn who_does_not_read_its_answer_holds_up_nobody_else_on_the_same_connection() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(100, usize::MAX, Duration::ZERO);
    let daemon = daemon(dir.path(), &server).await;
    connected(&server).await;
    well(&daemon).await;
    let mut client = TcpStream::connect(daemon.http).await.unwrap();
    let asks = support::chat_stream("up/m", ENDLESS).to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        asks.len()
    );
    client.write_all((head + &asks).as_bytes()).await.unwrap();
    // Long enough to fill all that lies between.
    for _ in 0..30 {
        sleep(Duration::from_millis(100)).await;
        let answered = tokio::time::timeout(Duration::from_secs(5), well(&daemon));
        answered.await.expect("held up by who does not read");
    }
}

#[tokio::test]
async fn a_daemon_has_a_connection_before_the_first_query_comes() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new(100, usize::MAX, Duration::ZERO);
    let daemon = daemon(dir.path(), &server).await;
    connected(&server).await;
    assert_eq!(server.calls.load(Ordering::Relaxed), 0);
    well(&daemon).await;
}

/// A server that closes each connection after its second answer, and does not say so.
#[tokio::test]
async fn connections_that_are_closed_without_a_word_are_replaced_and_nobody_notices() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                for _ in 0..2 {
                    read_request(&mut stream).await?;
                    let body = answer();
                    let head = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                        body.len()
                    );
                    stream.write_all((head + &body).as_bytes()).await.ok()?;
                }
                Some(())
            });
        }
    });
    let world = World::start(&format!("{MANY}{}", provider(&url)), Vec::new()).await;
    let clients = (0..8).map(async |_| {
        for _ in 0..100 {
            let reply = world.chat("up/m", "?").await;
            assert_eq!(reply.content(), "well", "{}", reply.body);
        }
    });
    join_all(clients).await;
    let calls = &world.deployment("up/m")["calls"];
    assert_eq!((&calls["ok"], &calls["failed"]), (&json!(800), &json!(0)));
    world.until_all_returned().await;
}

/// Reads a request to the end of its body; `None` once there is no more.
async fn read_request(stream: &mut TcpStream) -> Option<()> {
    let mut seen = Vec::new();
    loop {
        if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&seen[..end]).to_lowercase();
            let length = head.split("content-length: ").nth(1)?;
            let length: usize = length.lines().next()?.trim().parse().ok()?;
            if seen.len() >= end + 4 + length {
                return Some(());
            }
        }
        if stream.read_buf(&mut seen).await.ok()? == 0 {
            return None;
        }
    }
}
