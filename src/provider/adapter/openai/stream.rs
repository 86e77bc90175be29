//! Server-sent events as deltas.
//!
//! Nothing runs on its own here: who polls the stream reads from the connection, and who drops it closes the
//! connection (HTTP/2: resets the stream), which is how the upstream learns that nobody listens any more.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use http_body_util::BodyExt;
use hyper::body::Body as _;

use super::client::broken;
use super::pool::Body;
use crate::answer::{Delta, Deltas};
use crate::error::{Error, ErrorKind, Result};
use crate::supervisor::task;
use crate::wire::openai::chunk::{self, Read};
use crate::wire::sse::{Event, Parser, TooLong};

/// An event may carry an image inline.
const LONGEST_EVENT: usize = 8 << 20;
/// How long the connection of a complete answer may take to become free again.
const DRAIN: Duration = Duration::from_secs(1);

/// The deltas in `body`.
///
/// They end after the wire's end mark, or with an error: the provider's own, [`Malformed`](ErrorKind::Malformed)
/// for what cannot be read, [`Truncated`](ErrorKind::Truncated) if the bytes end with neither the mark nor a
/// finish reason. Errors are told as `hide` leaves them.
pub(super) fn deltas(body: Body, hide: impl Fn(Error) -> Error + Send + Unpin + 'static) -> Deltas {
    let parser = Parser::new(LONGEST_EVENT);
    Chunks {
        body: Some(body),
        parser,
        hide,
        finished: false,
        last: None,
    }
    .boxed()
}

struct Chunks<H> {
    /// `None` when the stream is over.
    body: Option<Body>,
    parser: Parser,
    hide: H,
    /// A finish reason has come.
    finished: bool,
    /// What is left to be said when the stream is over.
    last: Option<Error>,
}

impl<H: Fn(Error) -> Error + Unpin> Stream for Chunks<H> {
    type Item = Result<Delta>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let Some(body) = &mut this.body else {
                return Poll::Ready(this.last.take().map(|error| Err((this.hide)(error))));
            };
            if let Some(event) = this.parser.next() {
                match read(event) {
                    Ok(Read::Delta(delta)) => {
                        this.finished |= delta.finishes();
                        return Poll::Ready(Some(Ok(delta)));
                    }
                    Ok(Read::Nothing) => continue,
                    Ok(Read::Done) => {
                        drain(this.body.take(), cx);
                        return Poll::Ready(None);
                    }
                    Ok(Read::Error(error)) | Err(error) => {
                        this.body = None;
                        return Poll::Ready(Some(Err((this.hide)(error))));
                    }
                }
            }
            let error = match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        this.parser.push(data);
                    }
                    continue;
                }
                Some(Err(error)) => broken(&error),
                None => Error::new(
                    ErrorKind::Truncated,
                    "the upstream's stream ended without a finish reason",
                ),
            };
            if let Some(delta) = this.end(error) {
                return Poll::Ready(Some(Ok(delta)));
            }
        }
    }
}

impl<H> Chunks<H> {
    /// The bytes have ended: with what a last event without its blank line says, and with `error` unless the
    /// answer has finished. An event cut in two is the truncation that `error` tells of.
    fn end(&mut self, error: Error) -> Option<Delta> {
        self.body = None;
        let (delta, error) = match self.parser.finish().map(read) {
            Some(Ok(Read::Delta(delta))) => (Some(delta), Some(error)),
            Some(Ok(Read::Done)) => (None, None),
            Some(Ok(Read::Error(reported))) => (None, Some(reported)),
            Some(Ok(Read::Nothing) | Err(_)) | None => (None, Some(error)),
        };
        self.finished |= delta.as_ref().is_some_and(Delta::finishes);
        self.last = error.filter(|_| !self.finished);
        delta
    }
}

fn read(event: Result<Event, TooLong>) -> Result<Read> {
    let event = event.map_err(|TooLong { max }| {
        Error::new(
            ErrorKind::Malformed,
            format!("the upstream's stream has an event of more than {max} bytes"),
        )
    })?;
    match event.name.as_deref() {
        Some(b"error") => Ok(Read::Error(chunk::read_error(&event.data))),
        _ => chunk::read(event.data),
    }
}

/// Reads the end of a body whose answer is complete, so that its connection can serve the next call. The end
/// is seldom there at once, since servers send it on its own, and nobody should wait for it.
fn drain(body: Option<Body>, cx: &mut Context<'_>) {
    let Some(mut body) = body else { return };
    let pending = match Pin::new(&mut body).poll_frame(cx) {
        Poll::Ready(Some(Ok(_))) | Poll::Pending => !body.is_end_stream(),
        Poll::Ready(_) => false,
    };
    if pending && tokio::runtime::Handle::try_current().is_ok() {
        // Ends by itself: nothing but trailers may follow the mark.
        task::spawn(tokio::time::timeout(DRAIN, async move {
            body.frame().await.is_some()
        }));
    }
}
