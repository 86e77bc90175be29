//! Connections to upstreams: how they are made, and what their failures mean.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Body as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use parking_lot::Mutex;
use serde_json::Value;

use super::pool::{Body, Upstream};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::openai::error;

/// A connection without a sign of life is asked for one this often, so that a dead one is found before a call
/// is sent on it.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// For an answer about the models of a server on this machine.
const PROBE_TIMEOUT: Duration = Duration::from_millis(200);
const LONGEST_PROBE: usize = 1 << 20;

/// The HTTP client that all providers share: pooled connections, HTTP/1.1 or, where TLS negotiates it, HTTP/2.
///
/// Cheap to clone; clones share their connections. Redirects are not followed.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    connector: HttpsConnector<HttpConnector>,
    connect_timeout: Duration,
    /// By scheme and authority, for as long as somebody calls them.
    upstreams: Mutex<HashMap<String, Weak<Upstream>>>,
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
        let connector = tls
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        Ok(Self(Arc::new(Shared {
            connector,
            connect_timeout,
            upstreams: Mutex::default(),
        })))
    }

    /// The connections to where `url` is; whoever asks for the same place shares them.
    ///
    /// # Errors
    /// If `url` names no host.
    pub(super) fn upstream(&self, url: &Uri) -> Result<Arc<Upstream>, String> {
        let no_host = || format!("'{url}' names no host");
        let authority = url.authority().ok_or_else(no_host)?;
        let scheme = url.scheme().ok_or_else(no_host)?;
        let mut upstreams = self.0.upstreams.lock();
        upstreams.retain(|_, upstream| upstream.strong_count() > 0);
        let key = format!("{scheme}://{authority}");
        if let Some(known) = upstreams.get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let upstream = Upstream::new(
            scheme,
            authority,
            self.0.connector.clone(),
            self.0.connect_timeout,
        )?;
        upstreams.insert(key, Arc::downgrade(&upstream));
        Ok(upstream)
    }
}

/// Why there is no connection.
pub(super) fn unconnected(error: &(dyn StdError + 'static), authority: &str) -> Error {
    let why = match causes(error) {
        causes if causes.is_empty() => named(error),
        causes => format!("{}: {causes}", named(error)),
    };
    if exhausted(error) {
        let message = format!("this machine has no resources left for a connection: {why}");
        return Error::new(ErrorKind::Overloaded, message)
            .with_retry_after(Some(Duration::from_secs(1)));
    }
    Error::new(
        ErrorKind::Connect,
        format!("no connection to {authority}: {why}"),
    )
}

/// Why a connection brought no answer.
pub(super) fn unanswered(error: &hyper::Error, authority: &str) -> Error {
    let why = match causes(error) {
        causes if causes.is_empty() => error.to_string(),
        causes => format!("{error}: {causes}"),
    };
    let (kind, message) = if error.is_parse() {
        let message = format!("{authority} does not answer in HTTP: {why}");
        (ErrorKind::Malformed, message)
    } else if error.is_canceled() {
        let message = format!("the connection to {authority} was lost: {why}");
        (ErrorKind::Connect, message)
    } else {
        let message = format!("{authority} closed the connection before it answered: {why}");
        (ErrorKind::Truncated, message)
    };
    Error::new(kind, message)
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
pub(super) async fn read_whole(mut body: Body, longest: usize) -> Result<Bytes> {
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
pub(super) async fn read_start(mut body: Body, longest: usize) -> Bytes {
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
    *request.uri_mut() = uri.clone();
    let work = async {
        let upstream = client.upstream(&uri);
        let upstream = upstream.map_err(|why| Error::new(ErrorKind::Invalid, why))?;
        let response = upstream.send(request).await?;
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
