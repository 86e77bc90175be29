//! A mock upstream that speaks enough of OpenAI's chat wire for a gateway to believe it, fast enough to stand
//! behind a benchmark, and able to fail in every way an upstream fails, down to the byte.
//!
//! In a test: `Upstream::start("127.0.0.1:0", Behaviour::default()).await`, then [`Upstream::behave`] and
//! [`Upstream::stats`]. From outside the process: `POST /__behave` with the fields of [`Behaviour`] that are to
//! change, `GET /__stats`, `DELETE /__stats`; `?port=N` means another upstream of the same process, so that
//! one which refuses connections can be woken.
#![allow(dead_code, reason = "each user takes its part")]
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test double: real sockets, real time, and it may stop"
)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

/// What an upstream does. Shares are of all calls, 0 to 1, spread evenly and not at random, so that two runs see the
/// same; together they are at most 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Behaviour {
    /// From the whole request to the first byte of the answer.
    pub delay_ms: u64,
    /// From the head of a stream to its first event.
    pub first_chunk_ms: u64,
    /// Between two chunks of a stream.
    pub chunk_ms: u64,
    /// Chunks with content in a stream; each is a word of `text`, from the start again when they run out. 0: as many as
    /// there are words, so that the stream says `text`.
    pub chunks: usize,
    pub text: String,
    /// Answer with the last message of the request instead of `text`.
    pub echo: bool,
    /// Calls answered at once; the others wait in the order they came. 0: any number.
    pub at_once: usize,
    /// Those others are answered with `status` instead, and do not wait.
    pub refuse: bool,
    /// Calls answered with `status`.
    pub error_share: f64,
    pub status: u16,
    /// The header of that name, on answers with `status`.
    pub retry_after: Option<String>,
    /// `delay_ms` of answers with `status`, where it differs.
    pub error_delay_ms: Option<u64>,
    /// Calls that are read and never answered.
    pub hang_share: f64,
    /// Calls whose answer goes wrong as `fault` says.
    pub fault_share: f64,
    pub fault: Fault,
    pub accept: Accept,
}

/// How an answer goes wrong. In an answer that is not streamed, "after some chunks" is half way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    #[default]
    None,
    /// After so many chunks the body ends as if it were whole: no finish reason, no `[DONE]`.
    EndAfter(usize),
    /// After so many chunks the connection closes.
    CutAfter(usize),
    /// After so many chunks nothing comes any more.
    StallAfter(usize),
    /// After so many chunks an error event, and the end.
    ErrorAfter(usize),
    /// The connection closes after so many bytes of the answer, its head included.
    CloseAt(usize),
    /// The same with a reset.
    ResetAt(usize),
    /// A body that is no JSON; in a stream, its second event.
    Malformed,
}

/// What happens to connections. Anything but `Serve` closes those that are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    #[default]
    Serve,
    /// Nobody listens.
    Refuse,
    /// Closed as soon as accepted.
    Close,
    /// Reset as soon as accepted.
    Reset,
    /// Accepted and never read.
    Ignore,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            delay_ms: 0,
            first_chunk_ms: 0,
            chunk_ms: 0,
            chunks: 0,
            text: "An answer of ordinary length, the same for every question, so that what is measured is the way it \
                   takes and not what it says."
                .into(),
            echo: false,
            at_once: 0,
            refuse: false,
            error_share: 0.0,
            status: 500,
            retry_after: None,
            error_delay_ms: None,
            hang_share: 0.0,
            fault_share: 1.0,
            fault: Fault::None,
            accept: Accept::Serve,
        }
    }
}

/// What an upstream has seen since its start or since [`Upstream::forget`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Chat requests read to their end.
    pub calls: u64,
    /// Of those, how many asked for a stream.
    pub streams: u64,
    /// Being answered now, and at most at once.
    pub in_flight: i64,
    pub in_flight_max: i64,
    /// Accepted in all, and open now.
    pub connections: u64,
    pub connections_open: i64,
    /// Answers begun, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Calls whose client left before the end of the answer.
    pub cancelled: u64,
    /// Calls that were left without an answer, and calls whose answer went wrong on purpose.
    pub hung: u64,
    pub faults: u64,
    /// When the latest calls arrived, in milliseconds since the start; at most 4,096 of them.
    pub arrivals_ms: Vec<f64>,
}

const ARRIVALS: usize = 4096;
/// Events that a server without pauses writes at once.
const AT_ONCE: usize = 16;

/// One listener; it ends when this is dropped.
pub struct Upstream {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

impl Upstream {
    /// `addr` may have port 0.
    pub async fn start(addr: &str, behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let shared = Arc::new(Shared {
            addr: listener.local_addr()?,
            plan: watch::Sender::new(Arc::new(Plan::new(behaviour, 0))),
            applied: watch::Sender::new(0),
            counters: Counters::default(),
            credits: Mutex::default(),
            started: Instant::now(),
        });
        let mut all = registry().lock().unwrap();
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&shared));
        drop(all);
        let task = tokio::spawn(listen(Arc::clone(&shared), listener));
        Ok(Self {
            shared,
            task: Some(task),
        })
    }

    pub fn addr(&self) -> SocketAddr {
        self.shared.addr
    }

    /// What a gateway's configuration calls the base URL.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.shared.addr)
    }

    pub fn behaviour(&self) -> Behaviour {
        self.shared.plan.borrow().behaviour.clone()
    }

    /// From the next call on; returns when connections are treated accordingly.
    pub async fn behave(&self, behaviour: Behaviour) {
        self.shared.behave(behaviour).await;
    }

    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Counts from zero again; what is in flight stays counted.
    pub fn forget(&self) {
        self.shared.forget();
    }

    /// Closes everything and waits until the port is free.
    pub async fn stop(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

struct Shared {
    addr: SocketAddr,
    plan: watch::Sender<Arc<Plan>>,
    /// The version of the plan that the listener goes by.
    applied: watch::Sender<u64>,
    counters: Counters,
    credits: Mutex<[f64; 4]>,
    started: Instant,
}

#[derive(Default)]
struct Counters {
    calls: AtomicU64,
    streams: AtomicU64,
    in_flight: AtomicI64,
    in_flight_max: AtomicI64,
    connections: AtomicU64,
    connections_open: AtomicI64,
    cancelled: AtomicU64,
    hung: AtomicU64,
    faults: AtomicU64,
    /// Almost every answer is a 200; the others may wait for a lock.
    good: AtomicU64,
    others: Mutex<BTreeMap<u16, u64>>,
    arrivals: Mutex<VecDeque<Instant>>,
}

fn registry() -> &'static Mutex<Vec<Weak<Shared>>> {
    static ALL: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());
    &ALL
}

/// What becomes of one call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Good,
    Error,
    Hang,
    Fault,
}

impl Shared {
    async fn behave(&self, behaviour: Behaviour) {
        let mut version = 0;
        self.plan.send_modify(|plan| {
            version = plan.version + 1;
            *plan = Arc::new(Plan::new(behaviour, version));
        });
        let mut applied = self.applied.subscribe();
        let _ = applied.wait_for(|applied| *applied >= version).await;
    }

    /// Smooth weighted round robin: exact shares, evenly spread.
    fn fate(&self, b: &Behaviour) -> Fate {
        let fault = if b.fault == Fault::None {
            0.0
        } else {
            b.fault_share
        };
        let shares = [
            1.0 - b.error_share - b.hang_share - fault,
            b.error_share,
            b.hang_share,
            fault,
        ];
        if shares[0] >= 1.0 {
            return Fate::Good;
        }
        let mut credits = self.credits.lock().unwrap();
        let mut best = 0;
        for kind in 0..4 {
            credits[kind] += shares[kind].max(0.0);
            if credits[kind] > credits[best] + 1e-9 {
                best = kind;
            }
        }
        credits[best] -= 1.0;
        [Fate::Good, Fate::Error, Fate::Hang, Fate::Fault][best]
    }

    fn stats(&self) -> Stats {
        let c = &self.counters;
        let mut statuses = c.others.lock().unwrap().clone();
        if c.good.load(Relaxed) > 0 {
            statuses.insert(200, c.good.load(Relaxed));
        }
        let arrivals = c.arrivals.lock().unwrap();
        let since = |at: &Instant| (*at - self.started).as_secs_f64() * 1e3;
        Stats {
            calls: c.calls.load(Relaxed),
            streams: c.streams.load(Relaxed),
            in_flight: c.in_flight.load(Relaxed),
            in_flight_max: c.in_flight_max.load(Relaxed),
            connections: c.connections.load(Relaxed),
            connections_open: c.connections_open.load(Relaxed),
            statuses,
            cancelled: c.cancelled.load(Relaxed),
            hung: c.hung.load(Relaxed),
            faults: c.faults.load(Relaxed),
            arrivals_ms: arrivals.iter().map(since).collect(),
        }
    }

    fn forget(&self) {
        let c = &self.counters;
        let zero = [
            &c.calls,
            &c.streams,
            &c.connections,
            &c.cancelled,
            &c.hung,
            &c.faults,
            &c.good,
        ];
        zero.iter().for_each(|counter| counter.store(0, Relaxed));
        c.in_flight_max.store(c.in_flight.load(Relaxed), Relaxed);
        c.others.lock().unwrap().clear();
        c.arrivals.lock().unwrap().clear();
        *self.credits.lock().unwrap() = [0.0; 4];
    }

    fn begin(&self, status: u16) {
        if status == 200 {
            self.counters.good.fetch_add(1, Relaxed);
        } else {
            *self
                .counters
                .others
                .lock()
                .unwrap()
                .entry(status)
                .or_default() += 1;
        }
    }
}

/// A behaviour with its answers built.
struct Plan {
    behaviour: Behaviour,
    version: u64,
    whole: Bytes,
    error: Bytes,
    words: Vec<Bytes>,
    places: Option<Semaphore>,
}

impl Plan {
    fn new(behaviour: Behaviour, version: u64) -> Self {
        let retry = behaviour.retry_after.as_ref();
        let retry = retry.map(|after| format!("retry-after: {after}\r\n"));
        let error = json!({"error": {"message": "the upstream was told to fail", "type": "server_error",
            "param": null, "code": "told_to_fail"}});
        Self {
            whole: whole(&behaviour.text),
            error: response(
                behaviour.status,
                &retry.unwrap_or_default(),
                &error.to_string(),
            ),
            words: words(&behaviour.text),
            places: (behaviour.at_once > 0).then(|| Semaphore::new(behaviour.at_once)),
            behaviour,
            version,
        }
    }
}

fn response(status: u16, headers: &str, body: &str) -> Bytes {
    format!(
        "HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        if status == 200 { "OK" } else { "As Told" },
        body.len()
    )
    .into()
}

fn whole(text: &str) -> Bytes {
    let words = text.split_whitespace().count();
    let usage =
        json!({"prompt_tokens": 21, "completion_tokens": words, "total_tokens": 21 + words});
    let message = json!({"role": "assistant", "content": text, "refusal": null, "annotations": []});
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
    let body = json!({"id": "chatcmpl-00000000000000000000000001", "object": "chat.completion",
        "created": 1_760_000_000, "model": "mock-1", "choices": [choice], "usage": usage,
        "service_tier": "default", "system_fingerprint": "fp_0000000001"});
    response(200, "", &body.to_string())
}

/// One piece of a chunked body.
fn piece(data: &str) -> Bytes {
    format!("{:x}\r\n{data}\r\n", data.len()).into()
}

fn event(choices: &str, usage: &str) -> Bytes {
    piece(&format!(
        "data: {{\"id\":\"chatcmpl-00000000000000000000000001\",\"object\":\"chat.completion.chunk\",\
         \"created\":1760000000,\"model\":\"mock-1\",\"service_tier\":\"default\",\
         \"system_fingerprint\":\"fp_0000000001\",\"choices\":[{choices}]{usage}}}\n\n"
    ))
}

fn delta(delta: &Value, finish: &str) -> Bytes {
    event(
        &format!(r#"{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}"#),
        "",
    )
}

/// The content events of `text`: its words, each with the space before it.
fn words(text: &str) -> Vec<Bytes> {
    let mut words: Vec<Bytes> = Vec::new();
    let mut from = 0;
    for (at, _) in text.match_indices(' ').chain([(text.len(), "")]) {
        if at > from {
            words.push(delta(&json!({ "content": text[from..at] }), "null"));
            from = at;
        }
    }
    words
}

const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
    cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";

fn opening() -> &'static Bytes {
    static EVENT: OnceLock<Bytes> = OnceLock::new();
    EVENT.get_or_init(|| {
        delta(
            &json!({"role": "assistant", "content": "", "refusal": null}),
            "null",
        )
    })
}

fn ending(usage: Option<usize>) -> Bytes {
    let mut bytes = BytesMut::from(&delta(&json!({}), "\"stop\"")[..]);
    if let Some(words) = usage {
        let usage = format!(
            ",\"usage\":{{\"prompt_tokens\":21,\"completion_tokens\":{words},\"total_tokens\":{}}}",
            21 + words
        );
        bytes.extend_from_slice(&event("", &usage));
    }
    bytes.extend_from_slice(&piece("data: [DONE]\n\n"));
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes.freeze()
}

/// Accepts as the plan says, and takes a changed plan over.
async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let mut plans = shared.plan.subscribe();
    let mut connections = JoinSet::new();
    let mut listener = Some(listener);
    loop {
        let plan = Arc::clone(&plans.borrow_and_update());
        let accept = plan.behaviour.accept;
        if accept == Accept::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(shared.addr).await.ok();
        }
        if accept != Accept::Serve {
            connections.shutdown().await;
        }
        shared.applied.send_replace(plan.version);
        loop {
            let accepted = async {
                match &listener {
                    Some(listener) => listener.accept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = plans.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(_) = connections.join_next() => {}
                accepted = accepted => match accepted {
                    Ok((tcp, _)) => {
                        shared.counters.connections.fetch_add(1, Relaxed);
                        connections.spawn(connection(Arc::clone(&shared), tcp, accept));
                    }
                    // Out of descriptors: those that are open may end meanwhile.
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                },
            }
        }
    }
}

async fn connection(shared: Arc<Shared>, tcp: TcpStream, accept: Accept) {
    struct Open(Arc<Shared>);
    impl Drop for Open {
        fn drop(&mut self) {
            self.0.counters.connections_open.fetch_sub(1, Relaxed);
        }
    }
    shared.counters.connections_open.fetch_add(1, Relaxed);
    let open = Open(shared);
    let _ = tcp.set_nodelay(true);
    match accept {
        Accept::Close => return,
        Accept::Reset => {
            let _ = tcp.set_zero_linger();
            return;
        }
        Accept::Ignore => std::future::pending().await,
        Accept::Serve | Accept::Refuse => {}
    }
    let mut wire = Wire {
        tcp,
        inbox: BytesMut::with_capacity(4096),
        left: usize::MAX,
    };
    let mut plans = open.0.plan.subscribe();
    while let Some(request) = wire.request().await {
        let plan = Arc::clone(&plans.borrow_and_update());
        let end = serve(&open.0, &plan, &mut wire, &request).await;
        if matches!(end, Err(End::Reset)) {
            // What was written should be read before the reset overtakes it.
            sleep(Duration::from_millis(1)).await;
            let _ = wire.tcp.set_zero_linger();
        }
        if end.is_err() || request.close {
            return;
        }
    }
}

/// Why a connection ends.
enum End {
    /// The client left.
    Gone,
    /// On purpose.
    Close,
    Reset,
}

struct Request {
    /// Method and target, as in the request line.
    line: String,
    body: Bytes,
    close: bool,
}

struct Wire {
    tcp: TcpStream,
    inbox: BytesMut,
    /// Bytes that may still be written.
    left: usize,
}

impl Wire {
    async fn request(&mut self) -> Option<Request> {
        loop {
            if let Some(request) = request(&mut self.inbox) {
                return Some(request);
            }
            self.inbox.reserve(4096);
            if self.tcp.read_buf(&mut self.inbox).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        let some = bytes.len().min(self.left);
        self.left = self.left.saturating_sub(some);
        match self.tcp.write_all(&bytes[..some]).await {
            Err(_) => Err(End::Gone),
            Ok(()) if some < bytes.len() => Err(End::Close),
            Ok(()) => Ok(()),
        }
    }

    /// Waits, unless the client leaves meanwhile.
    async fn pause(&mut self, ms: u64) -> Result<(), End> {
        if ms == 0 {
            return Ok(());
        }
        let over = sleep(Duration::from_millis(ms));
        tokio::select! {
            () = over => Ok(()),
            () = gone(&self.tcp, &mut self.inbox) => Err(End::Gone),
        }
    }

    async fn hang(&mut self) -> End {
        gone(&self.tcp, &mut self.inbox).await;
        End::Gone
    }
}

/// Returns when the client has closed its side; keeps what it sends.
async fn gone(tcp: &TcpStream, inbox: &mut BytesMut) {
    while tcp.readable().await.is_ok() {
        inbox.reserve(4096);
        match tcp.try_read_buf(inbox) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
            Ok(_) | Err(_) => {}
        }
    }
}

/// Takes one request off the front, if all of it is there.
fn request(inbox: &mut BytesMut) -> Option<Request> {
    let head = memmem::find(inbox, b"\r\n\r\n")? + 4;
    let (mut length, mut chunked, mut close) = (0, false, false);
    let mut lines = inbox[..head].split(|byte| *byte == b'\n');
    let line = String::from_utf8_lossy(lines.next()?).trim().to_owned();
    for line in lines {
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let value = line[colon + 1..].trim_ascii();
        match colon {
            14 if line[..colon].eq_ignore_ascii_case(b"content-length") => {
                length = std::str::from_utf8(value).ok()?.parse().ok()?;
            }
            17 if line[..colon].eq_ignore_ascii_case(b"transfer-encoding") => chunked = true,
            10 if line[..colon].eq_ignore_ascii_case(b"connection") => {
                close = value.eq_ignore_ascii_case(b"close");
            }
            _ => {}
        }
    }
    let body = if chunked {
        let (body, used) = dechunked(&inbox[head..])?;
        inbox.advance(head + used);
        body.into()
    } else {
        if inbox.len() < head + length {
            return None;
        }
        inbox.advance(head);
        inbox.split_to(length).freeze()
    };
    Some(Request { line, body, close })
}

/// The body, and how many bytes it took; `None` while its end is not there.
fn dechunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = memmem::find(&bytes[at..], b"\r\n")?;
        let size = std::str::from_utf8(&bytes[at..at + line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        at += line + 2;
        body.extend_from_slice(bytes.get(at..at + size)?);
        at += size + 2;
        if size == 0 {
            return (bytes.len() >= at).then_some((body, at));
        }
    }
}

async fn serve(
    shared: &Arc<Shared>,
    plan: &Plan,
    wire: &mut Wire,
    request: &Request,
) -> Result<(), End> {
    let mut line = request.line.split(' ');
    let (method, target) = (line.next().unwrap_or(""), line.next().unwrap_or(""));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if method == "POST" && path.ends_with("/chat/completions") {
        return call(shared, plan, wire, &request.body).await;
    }
    let port = query
        .strip_prefix("port=")
        .and_then(|port| port.parse().ok());
    let port: u16 = port.unwrap_or(shared.addr.port());
    let all: Vec<Arc<Shared>> = registry()
        .lock()
        .unwrap()
        .iter()
        .filter_map(Weak::upgrade)
        .collect();
    let meant = all.iter().find(|one| one.addr.port() == port);
    let answer = match (method, path, meant) {
        ("GET", "/v1/models" | "/models", _) => Ok(json!({"object": "list", "data": [
            {"id": "mock-1", "object": "model", "created": 1_760_000_000, "owned_by": "mock"}]})),
        ("GET", "/__stats", Some(meant)) => Ok(json!(meant.stats())),
        ("DELETE", "/__stats", Some(meant)) => {
            meant.forget();
            Ok(json!({}))
        }
        ("POST", "/__behave", Some(meant)) => match changed(meant, &request.body) {
            Ok(behaviour) => {
                meant.behave(behaviour.clone()).await;
                Ok(json!(behaviour))
            }
            Err(error) => Err((400, error.to_string())),
        },
        _ => Err((404, format!("nothing is here: {method} {target}"))),
    };
    let answer = match answer {
        Ok(body) => response(200, "", &body.to_string()),
        Err((status, message)) => response(
            status,
            "",
            &json!({"error": {"message": message}}).to_string(),
        ),
    };
    wire.send(&answer).await
}

/// The present behaviour with the fields of `patch` changed.
fn changed(shared: &Shared, patch: &[u8]) -> serde_json::Result<Behaviour> {
    let mut all = json!(shared.plan.borrow().behaviour);
    let patch: serde_json::Map<String, Value> = serde_json::from_slice(patch)?;
    for (key, value) in patch {
        all[key] = value;
    }
    serde_json::from_value(all)
}

#[derive(Deserialize)]
struct Ask {
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// A call being answered: counted while it is, and as cancelled if its client was the one to end it.
struct Call<'a> {
    counters: &'a Counters,
    ours: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.counters.in_flight.fetch_sub(1, Relaxed);
        if !self.ours {
            self.counters.cancelled.fetch_add(1, Relaxed);
        }
    }
}

async fn call(shared: &Shared, plan: &Plan, wire: &mut Wire, body: &[u8]) -> Result<(), End> {
    let counters = &shared.counters;
    counters.calls.fetch_add(1, Relaxed);
    let now = counters.in_flight.fetch_add(1, Relaxed) + 1;
    counters.in_flight_max.fetch_max(now, Relaxed);
    {
        let mut arrivals = counters.arrivals.lock().unwrap();
        if arrivals.len() == ARRIVALS {
            arrivals.pop_front();
        }
        arrivals.push_back(Instant::now());
    }
    let mut call = Call {
        counters,
        ours: false,
    };
    let end = answer(shared, plan, wire, body).await;
    call.ours = !matches!(end, Err(End::Gone));
    wire.left = usize::MAX;
    end
}

async fn answer(shared: &Shared, plan: &Plan, wire: &mut Wire, body: &[u8]) -> Result<(), End> {
    let b = &plan.behaviour;
    let Ok(ask) = serde_json::from_slice::<Ask>(body) else {
        shared.begin(400);
        let error = json!({"error": {"message": "the body is no chat request", "type": "invalid_request_error"}});
        return wire.send(&response(400, "", &error.to_string())).await;
    };
    let _place = match &plan.places {
        Some(places) if b.refuse => match places.try_acquire() {
            Ok(place) => Some(place),
            Err(_) => {
                shared.begin(b.status);
                return wire.send(&plan.error).await;
            }
        },
        Some(places) => tokio::select! {
            place = places.acquire() => place.ok(),
            () = gone(&wire.tcp, &mut wire.inbox) => return Err(End::Gone),
        },
        None => None,
    };
    let fate = shared.fate(b);
    match fate {
        Fate::Hang => {
            shared.counters.hung.fetch_add(1, Relaxed);
            return Err(wire.hang().await);
        }
        Fate::Error => {
            wire.pause(b.error_delay_ms.unwrap_or(b.delay_ms)).await?;
            shared.begin(b.status);
            return wire.send(&plan.error).await;
        }
        Fate::Fault => {
            shared.counters.faults.fetch_add(1, Relaxed);
        }
        Fate::Good => {}
    }
    let fault = if fate == Fate::Fault {
        b.fault
    } else {
        Fault::None
    };
    if let Fault::CloseAt(bytes) | Fault::ResetAt(bytes) = fault {
        wire.left = bytes;
    }
    wire.pause(b.delay_ms).await?;
    shared.begin(200);
    let echo = b.echo.then(|| last_message(body));
    let sent = if ask.stream == Some(true) {
        shared.counters.streams.fetch_add(1, Relaxed);
        let own = echo.map(|text| words(&text));
        let usage = ask
            .stream_options
            .is_some_and(|options| options.include_usage);
        stream(
            plan,
            own.as_ref().unwrap_or(&plan.words),
            usage,
            fault,
            wire,
        )
        .await
    } else {
        let own = echo.map(|text| whole(&text));
        complete(own.as_ref().unwrap_or(&plan.whole), fault, wire).await
    };
    match (sent, fault) {
        (Err(End::Close), Fault::ResetAt(_)) => Err(End::Reset),
        (Ok(()), Fault::CloseAt(_)) => Err(End::Close),
        (Ok(()), Fault::ResetAt(_)) => Err(End::Reset),
        (sent, _) => sent,
    }
}

async fn complete(answer: &Bytes, fault: Fault, wire: &mut Wire) -> Result<(), End> {
    let half = &answer[..answer.len() - answer.len() / 4];
    match fault {
        Fault::None | Fault::CloseAt(_) | Fault::ResetAt(_) => wire.send(answer).await,
        Fault::Malformed => {
            let body = r#"{"id":"chatcmpl-1","choices":[{"index":0,"message":"#;
            wire.send(&response(200, "", body)).await
        }
        Fault::StallAfter(_) => {
            wire.send(half).await?;
            Err(wire.hang().await)
        }
        Fault::EndAfter(_) | Fault::CutAfter(_) | Fault::ErrorAfter(_) => {
            wire.send(half).await?;
            Err(End::Close)
        }
    }
}

async fn stream(
    plan: &Plan,
    words: &[Bytes],
    usage: bool,
    fault: Fault,
    wire: &mut Wire,
) -> Result<(), End> {
    let b = &plan.behaviour;
    let chunks = if b.chunks == 0 || words.is_empty() {
        words.len()
    } else {
        b.chunks
    };
    let broken = match fault {
        Fault::EndAfter(k) | Fault::CutAfter(k) | Fault::StallAfter(k) | Fault::ErrorAfter(k) => k,
        _ => usize::MAX,
    };
    let mut out = BytesMut::with_capacity(AT_ONCE * 320);
    out.extend_from_slice(STREAM);
    if b.first_chunk_ms > 0 {
        wire.send(&out.split()).await?;
        wire.pause(b.first_chunk_ms).await?;
    }
    out.extend_from_slice(opening());
    for at in 0..chunks.min(broken) {
        if fault == Fault::Malformed && at == 1 {
            out.extend_from_slice(&piece("data: {\"choices\":[{\"delta\":{\"content\":\n\n"));
        } else {
            out.extend_from_slice(&words[at % words.len()]);
        }
        let pause = b.chunk_ms > 0 && at + 1 < chunks;
        if pause || at % AT_ONCE == AT_ONCE - 1 {
            wire.send(&out).await?;
            out.clear();
        }
        if pause {
            wire.pause(b.chunk_ms).await?;
        }
    }
    match fault {
        Fault::EndAfter(_) => out.extend_from_slice(b"0\r\n\r\n"),
        Fault::ErrorAfter(_) => {
            let error = r#"{"error":{"message":"the upstream was told to fail","type":"server_error","code":500}}"#;
            out.extend_from_slice(&piece(&format!("data: {error}\n\n")));
            out.extend_from_slice(b"0\r\n\r\n");
        }
        Fault::CutAfter(_) | Fault::StallAfter(_) => {}
        _ => out.extend_from_slice(&ending(usage.then_some(chunks))),
    }
    wire.send(&out).await?;
    match fault {
        Fault::CutAfter(_) => Err(End::Close),
        Fault::StallAfter(_) => Err(wire.hang().await),
        _ => Ok(()),
    }
}

/// The content of the request's last message, if that is a string.
fn last_message(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let last = body["messages"].as_array().and_then(|all| all.last());
    let content = last.and_then(|message| message["content"].as_str());
    content.unwrap_or_default().to_owned()
}

/// Sleeps to within some 60 µs. The runtime's own timer ticks in milliseconds, which would round an upstream's
/// delay up and so hide what a gateway adds to it.
pub async fn sleep(duration: Duration) {
    type Timers = (Mutex<BinaryHeap<Reverse<Timer>>>, Condvar);
    static TIMERS: OnceLock<&'static Timers> = OnceLock::new();
    let (heap, earlier) = TIMERS.get_or_init(|| {
        let timers: &Timers = Box::leak(Box::default());
        std::thread::spawn(|| {
            let (heap, earlier) = timers;
            let mut heap = heap.lock().unwrap();
            loop {
                let now = Instant::now();
                heap = match heap.peek() {
                    Some(Reverse(next)) if next.at <= now => {
                        if let Some(Reverse(due)) = heap.pop() {
                            let _ = due.wake.send(());
                        }
                        continue;
                    }
                    Some(Reverse(next)) => {
                        let wait = next.at - now;
                        earlier.wait_timeout(heap, wait).unwrap().0
                    }
                    None => earlier.wait(heap).unwrap(),
                };
            }
        });
        timers
    });
    let (wake, woken) = oneshot::channel();
    let at = Instant::now() + duration;
    {
        let mut heap = heap.lock().unwrap();
        let first = heap.peek().is_none_or(|Reverse(next)| at < next.at);
        heap.push(Reverse(Timer { at, wake }));
        if first {
            earlier.notify_one();
        }
    }
    let _ = woken.await;
}

struct Timer {
    at: Instant,
    wake: oneshot::Sender<()>,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}
