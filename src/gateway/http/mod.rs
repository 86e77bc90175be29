//! HTTP: the OpenAI wire, health, metrics. The same service answers on TCP and on the Unix socket.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/chat/completions` | OpenAI's chat completion, whole or streamed |
//! | `GET /v1/models`, `/v1/models/{id}` | every name a query may ask for |
//! | `POST /v1/explain` | the plan of a chat request, nobody asked |
//! | `POST /v1/feedback` | takes a judgement of an answer |
//! | `GET /v1/status` | what is going on; where keys are configured, for admins' |
//! | `GET /healthz` | 200 while the process lives |
//! | `GET /readyz` | 200 while queries are accepted, else 503 |
//! | `GET /metrics` | Prometheus text; likewise |
//!
//! What takes `GET` takes `HEAD` too.

pub(in crate::gateway) mod body;
pub(in crate::gateway) mod chat;
pub(in crate::gateway) mod ops;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, HOST, HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::auth::{Auth, Caller};
use super::calm::Calm;
use super::io::Patient;
use super::listener::{Loop, Slot};
use super::{Doors, Entry};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DecisionId, UserId};
use crate::supervisor::task;
use crate::wire::openai;

/// The body of every response.
type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_QUORATE_MODEL: HeaderName = HeaderName::from_static("x-quorate-model");
const X_QUORATE_DECISION: HeaderName = HeaderName::from_static("x-quorate-decision");

/// Request line and headers together must fit.
const HEAD_BYTES: usize = 64 * 1024;

/// Where a connection comes from.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// TCP, from this address, which is the user of who shows no key.
    Tcp(UserId),
    /// The Unix socket, from this user.
    Socket(Caller),
}

pub(super) fn accept_loop(listener: Slot<TcpListener>, doors: Arc<Doors>) -> Loop {
    Arc::new(move || {
        let (slot, doors) = (listener.clone(), Arc::clone(&doors));
        Box::pin(async move {
            let Some(listener) = slot.get() else {
                return std::future::pending().await;
            };
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    // Whoever comes now is refused by the system, and goes elsewhere.
                    () = doors.closed() => {
                        slot.close();
                        drop(listener);
                        return std::future::pending().await;
                    }
                };
                match accepted {
                    Ok((stream, peer)) => {
                        // Without it, small writes wait for the peer's delayed acknowledgement: 40 ms a token.
                        let _ = stream.set_nodelay(true);
                        let Some(entry) = doors.enter("http") else {
                            continue;
                        };
                        let origin = Origin::Tcp(peer.ip().to_string().into());
                        task::spawn(serve(stream, Bytes::new(), origin, entry));
                    }
                    Err(error) => accept_failed("http", &error, &doors).await,
                }
            }
        })
    })
}

/// Out of descriptors, most likely: a pause lets connections end, where a tight loop would not.
pub(super) async fn accept_failed(listener: &'static str, error: &std::io::Error, doors: &Doors) {
    if doors.may_complain() {
        tracing::warn!(listener, %error, "connections cannot be accepted, they wait");
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// Serves one connection to its end. It belongs to nobody but its peer: it ends when the peer leaves, is too
/// slow, or the doors close and its answers are out.
pub(super) async fn serve<S>(stream: S, peeked: Bytes, origin: Origin, entry: Entry)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let doors = Arc::clone(&entry.doors);
    let server = doors.server();
    let io = TokioIo::new(Patient::new(stream, peeked, server.write_timeout));
    let closing = Arc::clone(&doors);
    let service = service_fn(move |request| {
        let (doors, origin) = (Arc::clone(&doors), origin.clone());
        async move { Ok::<_, Infallible>(answer(request, origin, doors).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.read_timeout)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let ended = {
        let mut closed = std::pin::pin!(closing.closed());
        Calm::new(std::future::poll_fn(|cx| {
            let ended = connection.as_mut().poll(cx).map(Some);
            if ended.is_pending() {
                return closed.as_mut().poll(cx).map(|()| None);
            }
            ended
        }))
        .await
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            Calm::new(connection).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
    drop(entry);
}

/// One request, of which everything but its body has been read.
struct Asked {
    request: Request<Incoming>,
    arrived: Instant,
    caller: Caller,
    doors: Arc<Doors>,
}

impl Asked {
    /// Reads the body within the configured bounds.
    async fn body(self) -> Result<(Bytes, Caller, Arc<Doors>)> {
        let config = self.doors.orchestrator.config();
        let server = &config.server;
        let room = body::Room::new(&self.doors.bodies, &self.caller, server);
        let body = body::read(self.request, server.max_body, server.read_timeout, room).await?;
        Ok((body, self.caller, self.doors))
    }
}

async fn answer(request: Request<Incoming>, origin: Origin, doors: Arc<Doors>) -> Response<Body> {
    let arrived = Instant::now();
    let id = request_id(request.headers());
    let mut response = match route(request, arrived, origin, doors).await {
        Ok(response) => response,
        Err(error) => refuse(&error),
    };
    response.headers_mut().insert(X_REQUEST_ID, id);
    response
}

async fn route(
    request: Request<Incoming>,
    arrived: Instant,
    origin: Origin,
    doors: Arc<Doors>,
) -> Result<Response<Body>> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/healthz" => return Ok(text(StatusCode::OK, "ok\n")),
        "/readyz" if doors.orchestrator.is_ready() => return Ok(text(StatusCode::OK, "ready\n")),
        "/readyz" => return Ok(text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n")),
        _ => {}
    }
    let config = doors.orchestrator.config();
    let auth = Auth::new(&config.keys);
    let caller = match origin {
        Origin::Socket(caller) => caller,
        Origin::Tcp(address) => {
            if !auth.asks_for_keys() {
                not_from_a_web_page(request.headers())?;
            }
            let shown = request
                .headers()
                .get(AUTHORIZATION)
                .and_then(|value| value.to_str().ok());
            auth.http(shown, &address)?
        }
    };
    let post = request.method() == Method::POST;
    // Of the answer to HEAD, the connection sends no body.
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    let asked = Asked {
        request,
        arrived,
        caller,
        doors,
    };
    match path.as_str() {
        // Boxed: a connection keeps the room that its largest answer needed.
        "/v1/chat/completions" if post => Box::pin(chat::complete(asked)).await,
        "/v1/explain" if post => ops::explain(asked).await,
        "/v1/feedback" if post => ops::feedback(asked).await,
        "/v1/models" if get => Ok(ops::models(&asked)),
        "/v1/status" if get => ops::status(&asked),
        "/metrics" if get => ops::metrics(&asked),
        _ if get && path.starts_with("/v1/models/") => {
            // Clients escape slashes and what is not ASCII.
            let name = percent_decode_str(&path["/v1/models/".len()..]).decode_utf8_lossy();
            ops::model(&asked, &name)
        }
        "/v1/chat/completions" | "/v1/explain" | "/v1/feedback" => Ok(only("POST", &path)),
        "/v1/models" | "/v1/status" | "/metrics" => Ok(only("GET, HEAD", &path)),
        _ if path.starts_with("/v1/models/") => Ok(only("GET, HEAD", &path)),
        _ => {
            let mut response = refuse(&Error::invalid(
                "path",
                "there is nothing at this path; see /v1/models",
            ));
            *response.status_mut() = StatusCode::NOT_FOUND;
            Ok(response)
        }
    }
}

/// Without keys, whatever runs on this machine may ask; a web page that the user happens to visit may not. Its
/// requests carry an `Origin`, or by DNS rebinding a `Host` that is neither an address nor `localhost`.
fn not_from_a_web_page(headers: &HeaderMap) -> Result<()> {
    let text = |name| {
        headers
            .get(name)
            .map(|value: &HeaderValue| value.to_str().unwrap_or("?"))
    };
    let bare = |host: &str| {
        let host = host
            .rsplit_once(':')
            .filter(|(_, port)| port.parse::<u16>().is_ok())
            .map_or(host, |(host, _)| host);
        host.trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase()
    };
    let address = |host: &str| bare(host).parse::<std::net::IpAddr>().ok();
    // A page served from an address is a page of that machine: only this one's may ask.
    let local =
        |host: &str| bare(host) == "localhost" || address(host).is_some_and(|ip| ip.is_loopback());
    if let Some(origin) = text(ORIGIN)
        && !origin
            .split_once("://")
            .is_some_and(|(_, host)| local(host))
    {
        return Err(Error::new(
            ErrorKind::Auth,
            "requests of web pages need an API key: configure [[keys]]",
        ));
    }
    let local = |host: &str| bare(host) == "localhost" || address(host).is_some();
    match text(HOST) {
        Some(host) if !local(host) => {
            let message = "without configured [[keys]], the Host must be localhost or an address";
            Err(Error::new(ErrorKind::Auth, message))
        }
        _ => Ok(()),
    }
}

/// The caller's own id if it is sane, else a fresh one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(X_REQUEST_ID).filter(|id| {
        (1..=128).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    given
        .cloned()
        .unwrap_or_else(|| header(DecisionId::new().as_str()))
}

/// A header's value; what cannot be one becomes empty.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

/// That this path takes other methods.
fn only(methods: &'static str, path: &str) -> Response<Body> {
    let message = format!("{path} takes {methods} and no other method");
    let mut response = refuse(&Error::invalid("method", message));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    let allowed = HeaderValue::from_static(methods);
    response.headers_mut().insert(ALLOW, allowed);
    response
}

/// An error as the OpenAI wire has it.
fn refuse(error: &Error) -> Response<Body> {
    let (status, body) = openai::error::write(error);
    let mut response = json(
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        body,
    );
    response.headers_mut().extend(openai::error::headers(error));
    response
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    typed(status, "application/json", body)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    let value = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, value);
    response
}
