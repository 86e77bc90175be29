//! Connections to upstreams.

use std::error::Error as StdError;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::openai::error;

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// Unused connections kept to one upstream: as many as calls may run at once in a large installation, since a
/// connection that is closed for want of room costs the next call two or three round trips.
const MOST_IDLE: usize = 1024;
/// A connection without a sign of life is asked for one this often, so that a dead one is found before a call
/// is sent on it.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// For an answer about the models of a server on this machine.
const PROBE_TIMEOUT: Duration = Duration::from_millis(200);
const LONGEST_PROBE: usize = 1 << 20;

/// The HTTP client that all providers share: pooled connections, HTTP/1.1 or, where TLS negotiates it, HTTP/2.
///
/// Cheap to clone; clones share their connections. Redirects are not followed.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    connect_timeout: Duration,
}

impl Client {
    /// A client that gives up a connection, TLS included, that is not there after `connect_timeout`.
    ///
    /// Servers are trusted by the system's certificates, or by Mozilla's list where the system has none.
    ///
    /// # Errors
    /// If TLS cannot be set up at all.
    pub fn new(connect_timeout: Duration) -> Result<Self, String> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEP_ALIVE));
        tcp.set_connect_timeout(Some(connect_timeout));
        let crypto = || rustls::crypto::ring::default_provider();
        let tls = HttpsConnectorBuilder::new();
        let tls = tls.with_provider_and_native_roots(crypto()).or_else(|_| {
            let mozilla = HttpsConnectorBuilder::new().with_provider_and_webpki_roots(crypto());
            mozilla.map_err(|error| format!("tls cannot be set up: {error}"))
        })?;
        let https = tls
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MOST_IDLE)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .build(https);
        Ok(Self(Arc::new(Shared {
            http,
            connect_timeout,
        })))
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// A pooled connection that the peer had closed before it saw the request is replaced once, by hyper
    /// itself; that is no retry, since nobody has worked on the request.
    pub(super) async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>> {
        let authority = request.uri().authority().cloned();
        let authority = || {
            authority
                .as_ref()
                .map_or("?", |authority| authority.as_str())
        };
        let mut capture = capture_connection(&mut request);
        let mut response = pin!(self.0.http.request(request));
        // The connector's own limit ends with TCP, and a TLS handshake may hang as well.
        let connected = tokio::time::timeout(self.0.connect_timeout, async {
            capture.wait_for_connection_metadata().await;
        });
        let answered = tokio::select! {
            biased;
            answered = &mut response => answered,
            connected = connected => {
                if connected.is_err() {
                    let message = format!("no connection to {} within {:?}", authority(), self.0.connect_timeout);
                    return Err(Error::new(ErrorKind::Connect, message));
                }
                response.await
            }
        };
        answered.map_err(|error| unanswered(&error, authority()))
    }
}

/// Why there is no answer at all.
fn unanswered(error: &legacy::Error, authority: &str) -> Error {
    let why = causes(error);
    if exhausted(error) {
        let message = format!("this machine has no resources left for a connection: {why}");
        return Error::new(ErrorKind::Overloaded, message)
            .with_retry_after(Some(Duration::from_secs(1)));
    }
    if error.is_connect() {
        return Error::new(
            ErrorKind::Connect,
            format!("no connection to {authority}: {why}"),
        );
    }
    let cause = error
        .source()
        .and_then(|source| source.downcast_ref::<hyper::Error>());
    match cause {
        Some(cause) if cause.is_parse() => Error::new(
            ErrorKind::Malformed,
            format!("{authority} does not answer in HTTP: {why}"),
        ),
        Some(cause) if cause.is_canceled() => Error::new(
            ErrorKind::Connect,
            format!("the connection to {authority} was lost: {why}"),
        ),
        _ => Error::new(
            ErrorKind::Truncated,
            format!("{authority} closed the connection before it answered: {why}"),
        ),
    }
}

/// Whether our own descriptors, memory or ports ran out, which says nothing of the upstream.
fn exhausted(error: &(dyn StdError + 'static)) -> bool {
    // Of Linux: ENFILE, EMFILE, ENOMEM, EADDRNOTAVAIL.
    const OURS: [i32; 4] = [23, 24, 12, 99];
    let mut next = Some(error);
    while let Some(error) = next {
        let code = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error);
        if code.is_some_and(|code| OURS.contains(&code)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The chain below an error, outermost first.
fn causes(error: &dyn StdError) -> String {
    let mut chain = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        chain.push(named(cause));
        next = cause.source();
    }
    chain.join(": ")
}

fn named(cause: &(dyn StdError + 'static)) -> String {
    if is_tls(cause) {
        format!("tls: {cause}")
    } else {
        cause.to_string()
    }
}

/// Whether it is TLS's own error, which comes wrapped into I/O errors.
fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    let inner = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref);
    error.is::<rustls::Error>() || inner.is_some_and(|inner| is_tls(inner))
}

/// What a body that breaks off means.
pub(super) fn broken(error: &hyper::Error) -> Error {
    let why = match causes(error) {
        causes if causes.is_empty() => error.to_string(),
        causes => format!("{error}: {causes}"),
    };
    Error::new(
        ErrorKind::Truncated,
        format!("the upstream's answer broke off: {why}"),
    )
}

/// Reads a body to its end. A body of one frame is not copied.
pub(super) async fn read_whole(mut body: Incoming, longest: usize) -> Result<Bytes> {
    let expected = usize::try_from(body.size_hint().lower())
        .unwrap_or(usize::MAX)
        .min(longest);
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else {
            continue;
        };
        if first.len() + all.len() + data.len() > longest {
            let message = format!("the upstream's answer is longer than {longest} bytes");
            return Err(Error::new(ErrorKind::Malformed, message));
        }
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.reserve(expected.max(first.len() + data.len()));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Reads the start of a body, or what there is of it.
pub(super) async fn read_start(mut body: Incoming, longest: usize) -> Bytes {
    let mut start = BytesMut::new();
    while start.len() < longest
        && let Some(Ok(frame)) = body.frame().await
    {
        start.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
    }
    start.truncate(longest);
    start.freeze()
}

/// Asks `url` for a JSON document of at most 1 MB, within 200 ms: meant for the `/models` of a server that may
/// or may not run on this machine.
///
/// # Errors
/// [`Connect`](ErrorKind::Connect) if nobody is there, [`Timeout`](ErrorKind::Timeout) if nobody answers in time,
/// else what the answer's status means; [`Malformed`](ErrorKind::Malformed) if it is no JSON.
pub async fn get_json(client: &Client, url: &str) -> Result<Value> {
    let uri: Uri = url
        .parse()
        .map_err(|_| Error::new(ErrorKind::Invalid, format!("'{url}' is no url")))?;
    let mut request = Request::new(Full::default());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = uri;
    let work = async {
        let response = client.send(request).await?;
        let (head, body) = response.into_parts();
        let body = read_whole(body, LONGEST_PROBE).await?;
        if !head.status.is_success() {
            return Err(error::read(head.status.as_u16(), &head.headers, &body));
        }
        serde_json::from_slice(&body).map_err(|why| {
            Error::new(
                ErrorKind::Malformed,
                format!("the answer of {url} is no JSON: {why}"),
            )
        })
    };
    let late = |_| {
        Error::new(
            ErrorKind::Timeout,
            format!("{url} did not answer within {PROBE_TIMEOUT:?}"),
        )
    };
    tokio::time::timeout(PROBE_TIMEOUT, work)
        .await
        .map_err(late)?
}
