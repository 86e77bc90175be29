//! One chat request over one connection, timed and judged.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use http::{HeaderName, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use tokio::net::TcpStream;

const QUESTION: &str =
    "Say hello to whoever reads this, in one or two plain sentences, and add nothing else.";

/// What is asked of whom.
#[derive(Clone)]
pub struct Job {
    pub addr: SocketAddr,
    uri: Uri,
    headers: HeaderMap,
    model: String,
    user: Option<String>,
    pub stream: bool,
    pub timeout: Duration,
    /// Ask something different every time and look for it in the answer; the upstream has to echo.
    pub verify: bool,
    body: Bytes,
}

impl Job {
    pub fn new(addr: SocketAddr, model: &str) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(host) = HeaderValue::from_str(&addr.to_string()) {
            headers.insert(HOST, host);
        }
        let mut job = Self {
            addr,
            uri: Uri::from_static("/v1/chat/completions"),
            headers,
            model: model.to_owned(),
            user: None,
            stream: false,
            timeout: Duration::from_secs(30),
            verify: false,
            body: Bytes::new(),
        };
        job.body = job.question(QUESTION);
        job
    }

    #[must_use]
    pub fn stream(mut self, stream: bool) -> Self {
        self.stream = stream;
        let accept = ["application/json", "text/event-stream"][usize::from(stream)];
        self.headers
            .insert(ACCEPT, HeaderValue::from_static(accept));
        self.body = self.question(QUESTION);
        self
    }

    /// The `user` of OpenAI's wire.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        self.body = self.question(QUESTION);
        self
    }

    #[must_use]
    pub fn bearer(self, key: &str) -> Self {
        self.header(AUTHORIZATION.as_str(), &format!("Bearer {key}"))
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = name.parse::<HeaderName>().expect("a header's name");
        let value = HeaderValue::from_str(value).expect("a header's value");
        self.headers.insert(name, value);
        self
    }

    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    #[must_use]
    pub fn verified(mut self) -> Self {
        self.verify = true;
        self
    }

    /// The request as it is sent, unless it is to be verified.
    pub fn request(&self) -> Request<Full<Bytes>> {
        self.with(self.body.clone())
    }

    fn with(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    fn question(&self, text: &str) -> Bytes {
        let mut body = json!({"model": self.model, "temperature": 0.2, "max_tokens": 256, "stream": self.stream,
            "messages": [{"role": "system", "content": "You are a helpful assistant."},
                         {"role": "user", "content": text}]});
        if let Some(user) = &self.user {
            body["user"] = json!(user);
        }
        body.to_string().into()
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Status(u16),
    /// A stream that ended with an error event.
    ErrorEvent,
    /// An answer that ended early: no `[DONE]`, or fewer bytes than promised.
    Truncated,
    /// An answer to something else.
    Wrong,
    NoConnection,
    /// Closed before there was a status.
    Closed,
    Timeout,
}

impl Outcome {
    pub fn good(self) -> bool {
        self == Self::Status(200)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "{status}"),
            Self::ErrorEvent => f.write_str("error event"),
            Self::Truncated => f.write_str("truncated"),
            Self::Wrong => f.write_str("wrong answer"),
            Self::NoConnection => f.write_str("no connection"),
            Self::Closed => f.write_str("closed"),
            Self::Timeout => f.write_str("timeout"),
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One request as the client saw it; times in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sample {
    /// When it was to be sent, since the start of the run.
    pub at: u64,
    /// From then to the end of the answer.
    pub latency: u64,
    /// From then to the first event with content; 0 without one.
    pub first: u64,
    pub chunks: u32,
    pub outcome: Outcome,
    /// What Quorate calls the answer, of verified ones.
    #[serde(skip)]
    pub decision: Option<u128>,
}

type Sender = SendRequest<Full<Bytes>>;

/// A connection that is made when it is needed, and again when it was lost.
#[derive(Default)]
pub struct Connection {
    sender: Option<Sender>,
}

async fn connect(addr: SocketAddr) -> Option<Sender> {
    let tcp = TcpStream::connect(addr).await.ok()?;
    tcp.set_nodelay(true).ok()?;
    let (sender, connection) = http1::handshake(TokioIo::new(tcp)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

impl Connection {
    /// Asks once. `number` makes a verified question unlike all others.
    pub async fn ask(
        &mut self,
        job: &Job,
        start: Instant,
        intended: Instant,
        number: u64,
    ) -> Sample {
        let mut sample = Sample {
            at: nanos(intended, start),
            latency: 0,
            first: 0,
            chunks: 0,
            outcome: Outcome::Timeout,
            decision: None,
        };
        let asked = self.exchange(job, intended, number, &mut sample);
        if let Ok(outcome) = tokio::time::timeout(job.timeout, asked).await {
            sample.outcome = outcome;
        }
        sample.latency = nanos(Instant::now(), intended);
        sample
    }

    async fn exchange(
        &mut self,
        job: &Job,
        intended: Instant,
        number: u64,
        sample: &mut Sample,
    ) -> Outcome {
        let mut kept = self.sender.take();
        if let Some(sender) = &mut kept
            && sender.ready().await.is_err()
        {
            kept = None;
        }
        if kept.is_none() {
            kept = connect(job.addr).await;
        }
        let Some(mut sender) = kept else {
            return Outcome::NoConnection;
        };
        let marker = job.verify.then(|| format!("question-{number}-of-this-run"));
        let body = marker
            .as_ref()
            .map_or_else(|| job.body.clone(), |marker| job.question(marker));
        let Ok(response) = sender.send_request(job.with(body)).await else {
            return Outcome::Closed;
        };
        let status = response.status().as_u16();
        if job.verify {
            let decision = response.headers().get("x-quorate-decision");
            let decision = decision.and_then(|id| id.to_str().ok());
            sample.decision = decision.and_then(|id| u128::from_str_radix(id, 16).ok());
        }
        let mut body = response.into_body();
        let events = job.stream && status == 200;
        let mut reader = Reader {
            keep: job.verify,
            ..Reader::default()
        };
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return Outcome::Truncated;
            };
            let Some(data) = frame.data_ref() else {
                continue;
            };
            if events {
                reader.events(data);
                if sample.chunks == 0 && reader.chunks > 0 {
                    sample.first = nanos(Instant::now(), intended);
                }
                sample.chunks = reader.chunks;
            } else if job.verify {
                reader.kept.extend_from_slice(data);
            }
        }
        self.sender = Some(sender);
        if events && reader.error {
            return Outcome::ErrorEvent;
        }
        if events && !reader.done {
            return Outcome::Truncated;
        }
        match marker {
            Some(marker) if status == 200 && !reader.says(&marker, events) => Outcome::Wrong,
            _ => Outcome::Status(status),
        }
    }
}

fn nanos(now: Instant, since: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(since).as_nanos()).unwrap_or(u64::MAX)
}

/// Reads events line by line, without parsing what nobody asked for.
#[derive(Default)]
pub struct Reader {
    pub chunks: u32,
    pub done: bool,
    pub error: bool,
    keep: bool,
    /// The beginning of a line whose end has not come.
    rest: Vec<u8>,
    kept: Vec<u8>,
}

impl Reader {
    pub fn events(&mut self, data: &[u8]) {
        let Some(end) = memchr::memrchr(b'\n', data) else {
            self.rest.extend_from_slice(data);
            return;
        };
        let (now, later) = data.split_at(end + 1);
        if self.rest.is_empty() {
            self.lines(now);
        } else {
            let mut lines = std::mem::take(&mut self.rest);
            lines.extend_from_slice(now);
            self.lines(&lines);
        }
        self.rest.extend_from_slice(later);
    }

    fn lines(&mut self, lines: &[u8]) {
        const CONTENT: &[u8] = b"\"content\":";
        for at in memmem::find_iter(lines, CONTENT) {
            let value = lines[at + CONTENT.len()..].trim_ascii_start();
            self.chunks += u32::from(value.starts_with(b"\"") && !value.starts_with(b"\"\""));
        }
        self.done |= memmem::find(lines, b"[DONE]").is_some();
        self.error |= memmem::find(lines, b"data: {\"error\"").is_some();
        if self.keep {
            self.kept.extend_from_slice(lines);
        }
    }

    /// Whether the answer that was kept is `text` and nothing else.
    fn says(&self, text: &str, events: bool) -> bool {
        if !events {
            let answer: Value = serde_json::from_slice(&self.kept).unwrap_or_default();
            return answer["choices"][0]["message"]["content"] == text;
        }
        let mut said = String::new();
        for line in self.kept.split(|byte| *byte == b'\n') {
            let data = line.strip_prefix(b"data: ").unwrap_or_default();
            let event: Value = serde_json::from_slice(data).unwrap_or_default();
            said += event["choices"][0]["delta"]["content"]
                .as_str()
                .unwrap_or("");
        }
        said == text
    }
}
