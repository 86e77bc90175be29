//! `POST /v1/chat/completions`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Frame;

use super::{Asked, Body, X_QUORATE_DECISION, X_QUORATE_MODEL, header, json};
use crate::answer::{Delta, Report};
use crate::error::Result;
use crate::gateway::Doors;
use crate::gateway::auth::Caller;
use crate::orchestrator::Streaming;
use crate::query::Query;
use crate::wire::{openai, sse};

/// A chat request, bounded, parsed and bound to its user.
pub(in crate::gateway) struct Chat {
    pub query: Query,
    pub stream: bool,
    pub include_usage: bool,
}

/// Reads a chat request and settles who asks.
pub(in crate::gateway) fn read(body: Bytes, caller: &Caller) -> Result<Chat> {
    let openai::request::Request {
        mut query,
        stream,
        include_usage,
        user,
    } = openai::request::read(body)?;
    caller.check_lane(query.lane)?;
    query.user = caller.user(user.as_deref());
    Ok(Chat {
        query,
        stream,
        include_usage,
    })
}

pub(super) async fn complete(asked: Asked) -> Result<Response<Body>> {
    let arrived = asked.arrived;
    let (body, caller, doors) = asked.body().await?;
    let mut chat = read(body, &caller)?;
    chat.query.arrived = Some(arrived);
    if chat.stream {
        streamed(&doors, chat).await
    } else {
        whole(&doors, chat.query).await
    }
}

async fn whole(doors: &Doors, query: Query) -> Result<Response<Body>> {
    let decision = query.id.clone();
    let answer = doors.orchestrator.ask(query).await?;
    let body = openai::answer::write(&answer, decision.as_str(), unix_seconds());
    let mut response = json(StatusCode::OK, body);
    response
        .headers_mut()
        .insert(X_QUORATE_DECISION, header(decision.as_str()));
    if let Some(model) = &answer.report.model {
        response
            .headers_mut()
            .insert(X_QUORATE_MODEL, header(model.as_str()));
    }
    Ok(response)
}

async fn streamed(doors: &Doors, chat: Chat) -> Result<Response<Body>> {
    let deltas = doors.orchestrator.stream(chat.query).await?;
    let decision = header(deltas.decision.as_str());
    let model = header(deltas.model.as_str());
    let body = Events {
        chunks: Chunks::new(deltas, chat.include_usage),
        done: false,
    };
    let mut response = Response::new(body.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_QUORATE_DECISION, decision);
    headers.insert(X_QUORATE_MODEL, model);
    Ok(response)
}

pub(in crate::gateway) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs())
}

/// Deltas as the JSON of chunks, as the client asked for them: the report on the last, the usage on a chunk of
/// its own if asked for and nowhere if not.
pub(in crate::gateway) struct Chunks {
    deltas: Streaming,
    include_usage: bool,
    context: openai::chunk::Context,
    /// The delta that finishes, until it is known what follows.
    held: Option<Delta>,
    ready: VecDeque<Delta>,
    report: Option<Box<Report>>,
}

impl Chunks {
    pub fn new(deltas: Streaming, include_usage: bool) -> Self {
        let id = format!("chatcmpl-{}", deltas.decision);
        let context = openai::chunk::Context::new(id, unix_seconds(), deltas.model.as_str());
        Self {
            deltas,
            include_usage,
            context,
            held: None,
            ready: VecDeque::new(),
            report: None,
        }
    }

    /// The report, once the last chunk is out.
    pub fn report(&self) -> Option<&Report> {
        self.report.as_deref()
    }

    /// The next chunk's JSON, appended to `out`. False at the end.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) -> Poll<Result<bool>> {
        loop {
            if let Some(delta) = self.ready.pop_front() {
                openai::chunk::write(&delta, &mut self.context, out);
                self.report = delta.report.or(self.report.take());
                return Poll::Ready(Ok(true));
            }
            match Pin::new(&mut self.deltas).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(false)),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Some(Ok(delta))) => self.arrange(delta),
            }
        }
    }

    fn arrange(&mut self, mut delta: Delta) {
        let last = delta.report.is_some();
        if delta.choices.is_empty() && !self.include_usage {
            // Clients that did not ask for the usage index into `choices` of every chunk.
            match &mut self.held {
                Some(held) => held.report = delta.report.take(),
                None if last => self.held = Some(delta),
                None => return,
            }
            if last {
                self.ready.extend(self.held.take());
            }
            return;
        }
        self.ready.extend(self.held.take());
        if !self.include_usage && delta.usage.take().is_some() {
            // Counted for us, by a provider that tells it on a chunk with text.
            if let Some(original) = &mut delta.original
                && let Some(body) = openai::splice::rewrite(&original.body, &[], &["usage"])
            {
                original.body = body;
            }
        }
        if !delta.finishes() {
            self.ready.push_back(delta);
        } else if !last {
            self.held = Some(delta);
        } else if self.include_usage && delta.usage.is_some() && delta.original.is_none() {
            // One delta says both; the client expects two chunks, the usage last.
            let usage = Delta {
                usage: delta.usage.take(),
                report: delta.report.take(),
                ..Delta::default()
            };
            self.ready.extend([delta, usage]);
        } else {
            self.ready.push_back(delta);
        }
    }
}

/// Chunks as server-sent events.
struct Events {
    chunks: Chunks,
    done: bool,
}

/// Ready events are sent together up to this size.
const BLOCK: usize = 16 * 1024;

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut block = BytesMut::new();
        let mut chunk = BytesMut::new();
        while !self.done && block.len() < BLOCK {
            chunk.clear();
            match self.chunks.poll_chunk(cx, &mut chunk) {
                Poll::Pending if block.is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(Ok(true)) => sse::frame(&chunk, &mut block),
                Poll::Ready(Ok(false)) => {
                    sse::frame(b"[DONE]", &mut block);
                    self.done = true;
                }
                Poll::Ready(Err(error)) => {
                    // The status is long sent: an error event, and no [DONE], since this is not an end.
                    let (_, body) = openai::error::write(&error);
                    sse::frame(&body, &mut block);
                    self.done = true;
                }
            }
        }
        if block.is_empty() {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(block.freeze()))))
    }
}
