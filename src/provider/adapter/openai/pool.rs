//! The connections to one upstream.
//!
//! An HTTP/1.1 connection is driven by whoever uses it: there is no task behind it, so that an answer's bytes pass
//! from the socket to their reader without waking anybody, and dropping the reader closes the socket. Unused
//! connections lie in a pool and are looked at when they are taken out. An HTTP/2 connection serves up to a hundred
//! calls at once and does have a task of its own.

use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connection as _, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::unconstrained;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use super::client::{KEEP_ALIVE, unanswered, unconnected};
use crate::error::{Error, ErrorKind, Result};
use crate::supervisor::task;

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(90);
/// Unused connections kept to one upstream: as many as calls may run at once in a large installation, since a
/// connection that is closed for want of room costs the next call two or three round trips.
const MOST_IDLE: usize = 1024;

/// Calls on one HTTP/2 connection, which is what servers allow at least (RFC 9113, 6.5.2). Beyond what a server allows,
/// calls would wait in hyper, unseen.
const MOST_STREAMS: usize = 100;
/// Of each of them so many bytes may come before they are read.
const WINDOW: u32 = 64 * 1024;

/// Connections that go away under one request are replaced so often.
const REPLACED: u32 = 3;

type Asked = Request<Full<Bytes>>;
type Io = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Where calls go, and the connections there.
pub(super) struct Upstream {
    origin: Uri,
    host: HeaderValue,
    connector: HttpsConnector<HttpConnector>,
    connect_timeout: Duration,
    /// The one used last is on top.
    idle: Mutex<Vec<(Box<Line>, Instant)>>,
    shared: Mutex<Vec<Shared>>,
    /// Set once a server has chosen HTTP/2: connections to it are then made one after the other, as the next serves many.
    multiplexes: AtomicBool,
    joining: Arc<tokio::sync::Mutex<()>>,
    watched: AtomicBool,
}

/// One HTTP/2 connection. Its handles are those of the calls on it, and one more in the pool.
#[derive(Clone)]
struct Shared {
    sender: http2::SendRequest<Full<Bytes>>,
    handles: Arc<()>,
}

impl Shared {
    fn calls(&self) -> usize {
        Arc::strong_count(&self.handles) - 1
    }
}

/// One HTTP/1.1 connection, and the way to have it carry a request.
struct Line {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Gone once it has ended, which gives a request back that nobody has seen.
    connection: Option<http1::Connection<Io, Full<Bytes>>>,
}

/// A connection just made, or taken out of the pool.
enum Taken {
    Line(Box<Line>),
    Shared(Shared),
}

/// Progress of a line is made by polling its connection, never by what hyper's halves tell each other: their
/// wake-ups would only have the task polled once more.
fn unheard() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Line {
    /// Does what can be done without waiting. False: the connection has ended.
    fn advance(&mut self) -> bool {
        self.wait(&mut unheard())
    }

    /// The same, and has `cx` woken when there is more to do.
    fn wait(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(connection) = &mut self.connection
            && Pin::new(connection).poll(cx).is_ready()
        {
            self.connection = None;
        }
        self.connection.is_some()
    }

    /// Sends a request and waits for the head of the answer. With the error comes the request, if nobody can have
    /// seen it.
    async fn exchange(
        &mut self,
        request: Asked,
    ) -> Result<Response<Incoming>, (hyper::Error, Option<Asked>)> {
        // Out of tokio's budget it would be pending without having been looked at, and nobody would wake it.
        let mut answered = pin!(unconstrained(self.sender.try_send_request(request)));
        let answer = std::future::poll_fn(|cx| {
            self.wait(cx);
            answered.as_mut().poll(&mut unheard())
        });
        answer.await.map_err(|mut error| {
            let unseen = error.take_message();
            (error.into_error(), unseen)
        })
    }
}

/// Whether a connection used before ended in the way in which servers end idle ones: without a word, or over HTTP/2
/// with a GOAWAY or a refusal, which say that nobody has looked at the request.
fn went_away(error: &hyper::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            let graceful =
                h2.is_go_away() && h2.is_remote() && h2.reason() == Some(h2::Reason::NO_ERROR);
            return graceful || h2.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && matches!(
                io.kind(),
                ConnectionReset | BrokenPipe | UnexpectedEof | NotConnected
            )
        {
            return true;
        }
        next = cause.source();
    }
    error.is_incomplete_message()
}

impl Upstream {
    pub fn new(
        scheme: &Scheme,
        authority: &Authority,
        connector: HttpsConnector<HttpConnector>,
        connect_timeout: Duration,
    ) -> Result<Arc<Self>, String> {
        let said = |error: &dyn std::fmt::Display| format!("'{authority}': {error}");
        // A port that goes without saying is not said: some servers compare.
        let usual = if *scheme == Scheme::HTTPS {
            ":443"
        } else {
            ":80"
        };
        let host = authority.as_str();
        let host = host.strip_suffix(usual).unwrap_or(host);
        let origin = Uri::builder()
            .scheme(scheme.clone())
            .authority(authority.clone())
            .path_and_query("/");
        Ok(Arc::new(Self {
            origin: origin.build().map_err(|error| said(&error))?,
            host: HeaderValue::from_str(host).map_err(|error| said(&error))?,
            connector,
            connect_timeout,
            idle: Mutex::default(),
            shared: Mutex::default(),
            multiplexes: AtomicBool::new(false),
            joining: Arc::default(),
            watched: AtomicBool::new(false),
        }))
    }

    fn authority(&self) -> &str {
        self.origin.authority().map_or("?", Authority::as_str)
    }

    /// Sends a request, whose URI is absolute, and waits for the head of its answer.
    ///
    /// A pooled connection that the peer had closed before it saw the request, or that goes away without a byte of an
    /// answer, is replaced by another, a few times at most; that is no retry, and says nothing of the deployment.
    pub async fn send(self: &Arc<Self>, mut request: Asked) -> Result<Response<Body>> {
        let mut replaced = 0;
        loop {
            let pooled = if replaced > 0 { None } else { self.take() };
            let (taken, used) = match pooled {
                Some(taken) => (taken, true),
                // Boxed: seldom needed, and several times as large as the rest.
                None => Box::pin(self.connect()).await?,
            };
            // A copy costs little, its body is shared.
            let copy = used.then(|| request.clone());
            let failed = match taken {
                Taken::Line(mut line) => {
                    self.as_http1(&mut request);
                    match line.exchange(request).await {
                        Ok(response) => return Ok(self.answer(response, Some(line), None)),
                        Err(failed) => failed,
                    }
                }
                Taken::Shared(mut shared) => {
                    self.as_http2(&mut request);
                    match shared.sender.try_send_request(request).await {
                        Ok(response) => return Ok(self.answer(response, None, Some(shared))),
                        Err(mut error) => {
                            let unseen = error.take_message();
                            let error = error.into_error();
                            if went_away(&error) {
                                self.leave(&shared);
                            }
                            (error, unseen)
                        }
                    }
                }
            };
            match failed {
                (_, Some(unseen)) if used => request = unseen,
                (error, _) => match copy.filter(|_| went_away(&error) && replaced < REPLACED) {
                    // It was closing while it was taken, and so may be others of its age.
                    Some(again) => {
                        replaced += 1;
                        self.idle.lock().clear();
                        request = again;
                    }
                    None => return Err(unanswered(&error, self.authority())),
                },
            }
        }
    }

    /// HTTP/1.1 says where it goes in a header, and of the URI no more than the path.
    fn as_http1(&self, request: &mut Asked) {
        if request.uri().authority().is_none() {
            return;
        }
        let headers = request.headers_mut();
        headers.entry(HOST).or_insert_with(|| self.host.clone());
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    }

    /// HTTP/2 has all of it in the URI; undoes the other.
    fn as_http2(&self, request: &mut Asked) {
        if request.uri().authority().is_some() {
            return;
        }
        request.headers_mut().remove(HOST);
        let mut parts = self.origin.clone().into_parts();
        parts.path_and_query = request.uri().path_and_query().cloned();
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }

    fn answer(
        self: &Arc<Self>,
        answer: Response<Incoming>,
        line: Option<Box<Line>>,
        shared: Option<Shared>,
    ) -> Response<Body> {
        answer.map(|incoming| {
            let mut body = Body {
                incoming,
                line,
                _shared: shared,
                upstream: Arc::clone(self),
            };
            if body.incoming.is_end_stream() {
                body.give_back();
            }
            body
        })
    }

    /// A connection that can be used at once.
    fn take(&self) -> Option<Taken> {
        if self.multiplexes.load(Ordering::Relaxed) {
            return self.join();
        }
        loop {
            let (mut line, since) = self.idle.lock().pop()?;
            // What the peer did meanwhile shows now.
            if since.elapsed() < IDLE && line.advance() && line.sender.is_ready() {
                return Some(Taken::Line(line));
            }
        }
    }

    /// A place on an HTTP/2 connection. The first that has room, so that those behind it fall idle and are closed.
    fn join(&self) -> Option<Taken> {
        let mut shared = self.shared.lock();
        shared.retain(|one| !one.sender.is_closed());
        let with_room = shared.iter().find(|one| one.calls() < MOST_STREAMS);
        with_room.cloned().map(Taken::Shared)
    }

    /// Nobody joins it any more.
    fn leave(&self, gone: &Shared) {
        let mut shared = self.shared.lock();
        shared.retain(|one| !Arc::ptr_eq(&one.handles, &gone.handles));
    }

    /// Keeps an unused connection.
    fn give_back(&self, mut line: Box<Line>) {
        if !(line.advance() && line.sender.is_ready()) {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < MOST_IDLE {
            idle.push((line, Instant::now()));
        }
    }

    /// Closes connections that the peer has closed, and those unused for long.
    fn tidy(&self) {
        // Taken out meanwhile, so that no call waits for the lock while connections close.
        let mut idle = std::mem::take(&mut *self.idle.lock());
        idle.retain_mut(|(line, since)| since.elapsed() < IDLE && line.advance());
        self.idle.lock().splice(0..0, idle);
        let mut first = true;
        self.shared.lock().retain(|one| {
            !one.sender.is_closed() && (std::mem::take(&mut first) || one.calls() > 0)
        });
    }

    /// Whether a connection comes about; it is kept.
    pub async fn is_reachable(self: &Arc<Self>) -> bool {
        match timeout(self.connect_timeout, self.handshake()).await {
            Ok(Ok(Taken::Line(line))) => {
                self.give_back(line);
                true
            }
            Ok(Ok(Taken::Shared(_))) => true,
            _ => false,
        }
    }

    /// A connection for a call, and whether it was used before.
    async fn connect(self: &Arc<Self>) -> Result<(Taken, bool)> {
        let late = |_| {
            let (to, limit) = (self.authority(), self.connect_timeout);
            Error::new(
                ErrorKind::Connect,
                format!("no connection to {to} within {limit:?}"),
            )
        };
        // The connector's own limit ends with TCP, and a TLS handshake may hang as well.
        let limit = self.connect_timeout;
        if !self.multiplexes.load(Ordering::Relaxed) {
            let made = timeout(limit, self.handshake()).await.map_err(late)?;
            return Ok((made?, false));
        }
        let turn = Arc::clone(&self.joining).lock_owned();
        let turn = timeout(limit, turn).await.map_err(late)?;
        if let Some(made_meanwhile) = self.join() {
            return Ok((made_meanwhile, true));
        }
        // A task: others wait for it, and this caller may leave.
        let upstream = Arc::clone(self);
        let making = task::spawn(async move {
            let _turn = turn;
            timeout(limit, upstream.handshake()).await
        });
        let gone = |error| Error::new(ErrorKind::Internal, format!("connecting failed: {error}"));
        let made = making.await.map_err(gone)?.map_err(late)?;
        Ok((made?, false))
    }

    async fn handshake(self: &Arc<Self>) -> Result<Taken> {
        let to = self.authority();
        let mut connector = self.connector.clone();
        let io = connector.call(self.origin.clone()).await;
        let io = io.map_err(|error| unconnected(&*error, to))?;
        if io.connected().is_negotiated_h2() {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                // Who does not read its answer holds its own window up, and never the connection's.
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW * MOST_STREAMS as u32)
                .keep_alive_interval(KEEP_ALIVE)
                .keep_alive_while_idle(true);
            let made = builder.handshake(io).await;
            let (sender, connection) = made.map_err(|error| unanswered(&error, to))?;
            // Ends when the peer closes it, or nobody holds the sender any more.
            task::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection ended");
                }
            });
            let shared = Shared {
                sender,
                handles: Arc::default(),
            };
            self.multiplexes.store(true, Ordering::Relaxed);
            self.shared.lock().push(shared.clone());
            self.watch();
            return Ok(Taken::Shared(shared));
        }
        // A server may choose anew with each connection.
        self.multiplexes.store(false, Ordering::Relaxed);
        let made = http1::handshake(io).await;
        let (sender, connection) = made.map_err(|error| unanswered(&error, to))?;
        let mut line = Box::new(Line {
            sender,
            connection: Some(connection),
        });
        line.advance();
        self.watch();
        Ok(Taken::Line(line))
    }

    /// Has the pool tidied while there is one.
    fn watch(self: &Arc<Self>) {
        if self.watched.swap(true, Ordering::Relaxed) {
            return;
        }
        let upstream = Arc::downgrade(self);
        // Ends with the upstream.
        task::spawn(async move {
            loop {
                tokio::time::sleep(KEEP_ALIVE).await;
                match upstream.upgrade() {
                    Some(upstream) => upstream.tidy(),
                    None => return,
                }
            }
        });
    }
}

/// The body of an answer. Read to its end, its connection serves the next call; dropped before, the connection
/// closes (HTTP/2: the stream is reset), which is how the upstream learns that nobody listens any more.
pub(super) struct Body {
    incoming: Incoming,
    line: Option<Box<Line>>,
    /// Counts as a call on it.
    _shared: Option<Shared>,
    upstream: Arc<Upstream>,
}

impl Body {
    fn give_back(&mut self) {
        if let Some(line) = self.line.take() {
            self.upstream.give_back(line);
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(line) = &mut this.line else {
            return Pin::new(&mut this.incoming).poll_frame(cx);
        };
        line.advance();
        let mut polled = Pin::new(&mut this.incoming).poll_frame(&mut unheard());
        if polled.is_pending() {
            line.wait(cx);
            polled = Pin::new(&mut this.incoming).poll_frame(&mut unheard());
        }
        if let Poll::Ready(frame) = &polled {
            match frame {
                None => this.give_back(),
                Some(Ok(_)) if this.incoming.is_end_stream() => this.give_back(),
                Some(Ok(_)) => {}
                Some(Err(_)) => this.line = None,
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
