//! The methods, and the shape of JSON-RPC 2.0.
//!
//! | method | params | result |
//! |---|---|---|
//! | `ask` | a chat request | the chat completion |
//! | `stream` | a chat request | notifications `delta` with `{"id", "chunk"}`, then the report |
//! | `cancel` | `{"id"}` of a request of this connection | `{"cancelled": bool}` |
//! | `models` | | the list of models |
//! | `status` | | the status |
//! | `feedback` | `{"decision", "score", "source"}` | what became of it |
//! | `explain` | a chat request | its plan |
//! | `state` | `{"action"}`: `show`, `export`, `import`, `evidence`, `pin`, `rollback` | learned state, or what became of it |
//! | `replay` | `{"decision"}` | the decision made again |
//! | `reload` | | what changed |
//! | `shutdown` | | `{}`, and the daemon ends |
//!
//! Error codes: -32700 no JSON, -32600 no request, -32601 no such method, -32602 wrong params, and -32000 for every
//! other error; `data` says which, as the HTTP door would.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::connection::Peer;
use super::state;
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::http::{body, chat, ops};
use crate::wire::openai;

const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
const SERVER_ERROR: i32 = -32000;

const METHODS: &str =
    "ask, stream, cancel, models, status, feedback, explain, state, replay, reload, shutdown";

/// One request of a peer.
pub(super) struct Request {
    /// As the peer wrote it: text, a number or null. `None` for a notification, which gets no reply.
    id: Option<String>,
    method: String,
    params: Bytes,
}

/// A line that is no request.
pub(super) struct Refusal {
    id: Option<String>,
    code: i32,
    message: String,
}

impl Refusal {
    pub async fn send(self, peer: &Peer) {
        let id = self.id.as_deref().unwrap_or("null");
        let message = Value::from(self.message);
        let code = self.code;
        let line = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":{code},\"message\":{message}}}}}\n"
        );
        write(peer, line.into()).await;
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default, borrow)]
    jsonrpc: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "given")]
    id: Option<&'a RawValue>,
    #[serde(default, borrow)]
    method: Option<&'a RawValue>,
    #[serde(default, borrow)]
    params: Option<&'a RawValue>,
}

/// A member that is there, if only as `null`.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(from).map(Some)
}

/// The text that `json` is, if it is one.
fn as_text(json: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(json?.get()).ok()
}

impl Request {
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Reads a line.
    pub fn parse(line: Bytes) -> Result<Self, Refusal> {
        let refusal = |id: Option<String>, code, message: String| Refusal { id, code, message };
        if let Err(error) = body::check(&line) {
            return Err(refusal(None, PARSE_ERROR, error.message().to_owned()));
        }
        let text = std::str::from_utf8(&line).map_err(|error| {
            let message = format!("the line is no JSON-RPC request: invalid unicode: {error}");
            refusal(None, PARSE_ERROR, message)
        })?;
        let is_object = line.trim_ascii_start().starts_with(b"{");
        if !is_object && serde_json::from_str::<IgnoredAny>(text).is_ok() {
            // Of an array, serde would take the entries for our fields in their order.
            let message = "a request must be an object; batches are not taken".to_owned();
            return Err(refusal(None, INVALID_REQUEST, message));
        }
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| {
            let code = if error.is_data() {
                INVALID_REQUEST
            } else {
                PARSE_ERROR
            };
            refusal(
                None,
                code,
                format!("the line is no JSON-RPC request: {error}"),
            )
        })?;
        let id = envelope.id.map(|id| id.get().to_owned());
        let id_is_scalar = id.as_ref().is_none_or(|id| {
            id.len() <= 256
                && id.starts_with(|c: char| {
                    c == '"' || c == '-' || c.is_ascii_digit() || id == "null"
                })
        });
        if !id_is_scalar {
            let message = "id must be text or a number of at most 256 bytes".to_owned();
            return Err(refusal(None, INVALID_REQUEST, message));
        }
        if as_text(envelope.jsonrpc).as_deref() != Some("2.0") {
            return Err(refusal(
                id,
                INVALID_REQUEST,
                "jsonrpc must be \"2.0\"".into(),
            ));
        }
        let Some(method) = as_text(envelope.method) else {
            return Err(refusal(
                id,
                INVALID_REQUEST,
                format!("method must be one of {METHODS}"),
            ));
        };
        let params = envelope.params.map_or_else(
            || Bytes::from_static(b"{}"),
            |params| line.slice_ref(params.get().as_bytes()),
        );
        Ok(Self { method, id, params })
    }
}

/// Makes a request cancellable by its id.
pub(super) fn register(peer: &Peer, request: &Request) -> oneshot::Receiver<()> {
    let (cancel, cancelled) = oneshot::channel();
    if let Some(id) = &request.id {
        peer.running.lock().insert(id.clone(), cancel);
    }
    cancelled
}

/// Runs a request and replies. Whatever happens, a request with an id gets exactly one reply.
pub(super) async fn run(request: Request, peer: Arc<Peer>, cancelled: oneshot::Receiver<()>) {
    let id = request.id.clone();
    let outcome = tokio::select! {
        outcome = dispatch(&request, &peer) => outcome,
        Ok(()) = cancelled => Err(Failure::Query(Error::new(ErrorKind::Cancelled, "cancelled by the caller"))),
    };
    if let Some(id) = &id {
        peer.running.lock().remove(id);
    }
    match (outcome, id) {
        (Ok(result), Some(id)) => {
            let mut line = BytesMut::with_capacity(result.len() + 64);
            line.put_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
            line.put_slice(id.as_bytes());
            line.put_slice(b",\"result\":");
            put_in_one_line(&mut line, &result);
            line.put_slice(b"}\n");
            write(&peer, line.freeze()).await;
        }
        (Err(Failure::Method(method)), Some(id)) => {
            let message = format!("no method is called '{method}'; there is {METHODS}");
            Refusal {
                id: Some(id),
                code: METHOD_NOT_FOUND,
                message,
            }
            .send(&peer)
            .await;
        }
        (Err(Failure::Query(error)), Some(id)) => refuse(&peer, Some(&id), &error).await,
        (_, None) => {}
    }
}

enum Failure {
    Method(String),
    Query(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Query(error)
    }
}

async fn dispatch(request: &Request, peer: &Arc<Peer>) -> Result<Bytes, Failure> {
    let doors = &peer.doors;
    let orchestrator = &doors.orchestrator;
    let params = || request.params.clone();
    if request.params.starts_with(b"[") {
        // Serde would take the entries for our fields in their order.
        let message = "expected an object of named params: they are not taken by position";
        return Err(Error::invalid("params", message).into());
    }
    Ok(match request.method.as_str() {
        "ask" => {
            let chat = chat::read(params(), &peer.caller)?;
            let decision = chat.query.id.clone();
            let answer = orchestrator.ask(chat.query).await?;
            openai::answer::write(&answer, decision.as_str(), chat::unix_seconds())
        }
        "stream" => stream(request, peer).await?,
        "cancel" => cancel(&request.params, peer)?,
        "models" => ops::list(doors).to_string().into(),
        "status" => bytes(&orchestrator.status())?,
        "feedback" => bytes(
            &orchestrator
                .feedback(ops::parse_feedback(&params())?)
                .await?,
        )?,
        "explain" => {
            let chat = chat::read(params(), &peer.caller)?;
            bytes(&orchestrator.explain(&chat.query, chat.stream)?)?
        }
        "state" => state::run(orchestrator, &params()).await?,
        "replay" => {
            let params: Replay = serde_json::from_slice(&params()).map_err(|error| {
                Error::invalid("params", format!("expected {{\"decision\": id}}: {error}"))
            })?;
            bytes(&orchestrator.replay(&params.decision.into()).await?)?
        }
        "reload" => {
            let Some(reload) = &doors.hooks.reload else {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "this host does not reload by itself",
                )
                .into());
            };
            let outcome = reload()
                .await
                .map_err(|why| Error::invalid("configuration", why))?;
            bytes(&outcome)?
        }
        "shutdown" => {
            tracing::info!(user = %peer.caller.user, "asked to shut down");
            doors.asked_to_stop.send_replace(true);
            Bytes::from_static(b"{}")
        }
        other => return Err(Failure::Method(other.chars().take(64).collect())),
    })
}

#[derive(Deserialize)]
struct Replay {
    decision: String,
}

pub(super) fn bytes(value: &impl serde::Serialize) -> Result<Bytes> {
    let bytes = serde_json::to_vec(value);
    bytes
        .map(Bytes::from)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("not written: {error}")))
}

/// Sends the deltas of an answer, then yields its report.
async fn stream(request: &Request, peer: &Arc<Peer>) -> Result<Bytes> {
    let chat = chat::read(request.params.clone(), &peer.caller)?;
    let deltas = peer.doors.orchestrator.stream(chat.query).await?;
    let (decision, model) = (deltas.decision.clone(), deltas.model.clone());
    let mut chunks = chat::Chunks::new(deltas, chat.include_usage);
    let id = request.id.as_deref().unwrap_or("null");
    let mut chunk = BytesMut::new();
    loop {
        chunk.clear();
        if !std::future::poll_fn(|cx| chunks.poll_chunk(cx, &mut chunk)).await? {
            break;
        }
        let mut line = BytesMut::with_capacity(chunk.len() + 96);
        line.put_slice(b"{\"jsonrpc\":\"2.0\",\"method\":\"delta\",\"params\":{\"id\":");
        line.put_slice(id.as_bytes());
        line.put_slice(b",\"chunk\":");
        put_in_one_line(&mut line, &chunk);
        line.put_slice(b"}}\n");
        write(peer, line.freeze()).await;
    }
    Ok(
        json!({ "quorate": chunks.report(), "decision": decision, "model": model })
            .to_string()
            .into(),
    )
}

fn cancel(params: &[u8], peer: &Peer) -> Result<Bytes> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let params: Params<'_> = serde_json::from_slice(params).map_err(|error| {
        Error::invalid(
            "params",
            format!("expected {{\"id\": the request's id}}: {error}"),
        )
    })?;
    let cancel = peer.running.lock().remove(params.id.get());
    let cancelled = cancel.is_some_and(|cancel| cancel.send(()).is_ok());
    Ok(json!({ "cancelled": cancelled }).to_string().into())
}

/// Replies with an error.
pub(super) async fn refuse(peer: &Peer, id: Option<&str>, error: &Error) {
    let code = if error.kind() == ErrorKind::Invalid {
        INVALID_PARAMS
    } else {
        SERVER_ERROR
    };
    let (_, body) = openai::error::write(error);
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let data = &body["error"];
    let id = id.unwrap_or("null");
    let message = Value::from(error.explained());
    let line = format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":{code},\"message\":{message},\"data\":{data}}}}}\n"
    );
    write(peer, line.into()).await;
}

/// Upstreams may break lines between the members of their JSON; inside its texts they cannot.
fn put_in_one_line(line: &mut BytesMut, json: &[u8]) {
    let start = line.len();
    line.put_slice(json);
    for byte in &mut line[start..] {
        if *byte == b'\n' || *byte == b'\r' {
            *byte = b' ';
        }
    }
}

async fn write(peer: &Peer, line: Bytes) {
    // Closed: the peer is gone, and this task is about to be.
    let _ = peer.lines.send(line).await;
}
