//! The adapter for everything that speaks OpenAI's chat completions over HTTP(S).
//!
//! - `client`: how connections are made, shared by all providers; `pool`: those to one upstream.
//! - `stream`: server-sent events as deltas.
//!
//! What the bytes mean is [`wire::openai`](crate::wire::openai)'s to say.

mod client;
mod pool;
mod stream;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use http::{Method, Request, Uri};
use http_body_util::Full;

use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result, without};
use crate::provider::{Call, Outcome, Provider};
use crate::wire::openai::{answer, error, request};

pub use client::{Client, get_json};

use client::read_whole;
use pool::Upstream;

/// A whole answer is at most this long.
const LONGEST_ANSWER: usize = 32 << 20;
/// Of a refusal at most this much is read, and for at most this long.
const LONGEST_REFUSAL: usize = 64 << 10;
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(5);
/// A shorter secret is not looked for in refusals: it would be found in innocent text.
const SHORTEST_REDACTED: usize = 8;

const USER_AGENT_VALUE: HeaderValue =
    HeaderValue::from_static(concat!("quorate/", env!("CARGO_PKG_VERSION")));
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// One provider: where it is, and the credential it wants.
pub struct OpenAiProvider(Arc<Endpoint>);

struct Endpoint {
    upstream: Arc<Upstream>,
    url: Uri,
    /// Of every request. Cloned for each call, so that nothing is parsed again.
    headers: HeaderMap,
    /// What must not come back out of a refusal that repeats its request.
    secrets: Vec<Secret>,
}

impl OpenAiProvider {
    /// A provider at `base_url`, such as `https://api.openai.com/v1`. `api_key` is sent as a bearer token,
    /// `headers` as they are.
    ///
    /// # Errors
    /// What is wrong, naming the field.
    pub fn new(
        client: Client,
        base_url: &str,
        api_key: Option<&Secret>,
        headers: &BTreeMap<String, Secret>,
    ) -> Result<Self, String> {
        let mut every = HeaderMap::new();
        every.insert(USER_AGENT, USER_AGENT_VALUE);
        every.insert(CONTENT_TYPE, JSON);
        if let Some(key) = api_key {
            every.insert(
                AUTHORIZATION,
                sensitive("api_key", &format!("Bearer {}", key.expose()))?,
            );
        }
        for (name, value) in headers {
            let field = format!("headers.{name}");
            let name = HeaderName::from_bytes(name.as_bytes());
            let name = name
                .map_err(|_| format!("{field} is no name of a header: letters, digits and '-'"))?;
            every.insert(name, sensitive(&field, value.expose())?);
        }
        let secrets = api_key.into_iter().chain(headers.values());
        let secrets = secrets
            .filter(|secret| secret.expose().len() >= SHORTEST_REDACTED)
            .cloned()
            .collect();
        let url = completions(base_url)?;
        Ok(Self(Arc::new(Endpoint {
            upstream: client.upstream(&url)?,
            url,
            headers: every,
            secrets,
        })))
    }
}

fn completions(base_url: &str) -> Result<Uri, String> {
    let wanted = || {
        "base_url must be http:// or https:// with a host and a path, such as \"https://host/v1\""
            .to_owned()
    };
    let url: Uri = format!("{}/chat/completions", base_url.trim_end_matches('/'))
        .parse()
        .map_err(|_| wanted())?;
    let scheme = matches!(url.scheme_str(), Some("http" | "https"));
    let plain = url.query().is_none() && !base_url.contains(['#', '@']);
    let host = url.host().unwrap_or_default();
    if scheme && plain && !host.is_empty() {
        Ok(url)
    } else {
        Err(wanted())
    }
}

fn sensitive(field: &str, value: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| format!("{field} must be printable ASCII on one line"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Provider for OpenAiProvider {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Outcome>> {
        let endpoint = Arc::clone(&self.0);
        async move {
            let outcome = endpoint.call(&call).await;
            outcome.map_err(|error| endpoint.hide(error))
        }
        .boxed()
    }

    fn is_reachable(&self) -> BoxFuture<'static, bool> {
        let endpoint = Arc::clone(&self.0);
        async move { endpoint.upstream.is_reachable().await }.boxed()
    }
}

impl Endpoint {
    async fn call(self: &Arc<Self>, call: &Call) -> Result<Outcome> {
        let response = self.upstream.send(self.request(call)).await?;
        let (head, body) = response.into_parts();
        if !head.status.is_success() {
            let refusal =
                tokio::time::timeout(REFUSAL_TIMEOUT, client::read_start(body, LONGEST_REFUSAL))
                    .await;
            let refusal = self.redact(refusal.unwrap_or_default());
            return Err(error::read(head.status.as_u16(), &head.headers, &refusal));
        }
        let given = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let given = given.unwrap_or_default().to_ascii_lowercase();
        let streamed = given.starts_with("text/event-stream") || (given.is_empty() && call.stream);
        // Whatever was asked for, what came is read as what it is.
        if streamed {
            let endpoint = Arc::clone(self);
            let hide = move |error| endpoint.hide(error);
            return Ok(Outcome::Stream(stream::deltas(body, hide)));
        }
        let body = read_whole(body, LONGEST_ANSWER).await?;
        if !given.is_empty() && !given.contains("json") {
            let message =
                format!("the upstream answered with {given} instead of JSON: check base_url");
            return Err(Error::new(ErrorKind::Malformed, message)
                .with_upstream(head.status.as_u16(), &body));
        }
        answer::read(body).map(Outcome::Whole)
    }

    fn request(&self, call: &Call) -> Request<Full<Bytes>> {
        let body = request::write(&call.query, &call.model, call.stream);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        let mut headers = self.headers.clone();
        headers
            .entry(ACCEPT)
            .or_insert(if call.stream { EVENTS } else { JSON });
        if let Ok(id) = HeaderValue::from_str(call.query.id.as_str()) {
            headers.entry(REQUEST_ID).or_insert(id);
        }
        *request.headers_mut() = headers;
        request
    }

    /// An error without our secrets, which some servers repeat.
    fn hide(&self, error: Error) -> Error {
        let secrets = self.secrets.iter();
        secrets.fold(error, |error, secret| error.redacted(secret.expose()))
    }

    /// A refusal without our secrets, before it is cut: some servers repeat the key that they refuse, and the caller
    /// sees the refusal.
    fn redact(&self, mut body: Bytes) -> Bytes {
        for secret in &self.secrets {
            let text = String::from_utf8_lossy(&body);
            if let Cow::Owned(hidden) = without(&text, secret.expose()) {
                body = hidden.into();
            }
        }
        body
    }
}
