//! Request bodies, bounded in size, time and depth, and all together in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::EXPECT;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::config::Server;
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::auth::Caller;
use crate::id::UserId;
use crate::wire::depth;

/// JSON may nest this deep.
pub(in crate::gateway) const MAX_DEPTH: usize = 64;

/// Of a body that is too large, so many times the limit are read and thrown away.
const PATIENCE: usize = 8;

/// Bodies up to this size are not counted: a connection has one, and may hold more than that of a request's head.
const SMALL: usize = 16 * 1024;

/// Bytes of bodies in memory: of all callers, and of each.
#[derive(Default)]
pub(in crate::gateway) struct Bodies {
    all: usize,
    each: HashMap<UserId, usize>,
}

/// The room that a body takes, from before it is read until nobody has it any more.
pub(super) struct Room {
    bodies: Arc<Mutex<Bodies>>,
    caller: UserId,
    /// The most that all may take, and the most that this caller may.
    most: (usize, usize),
    taken: usize,
}

impl Room {
    pub fn new(bodies: &Arc<Mutex<Bodies>>, caller: &Caller, server: &Server) -> Self {
        let all = server.max_bodies.max(server.max_body);
        // Who shows no key is told from nobody else on this machine: one caller, who leaves the rest to the socket.
        let own = all / 4 * if caller.proven { 1 } else { 3 };
        Self {
            bodies: Arc::clone(bodies),
            caller: caller.user.clone(),
            most: (all, own.max(server.max_body)),
            taken: 0,
        }
    }

    /// Takes room for a body of so many bytes, with what is taken already.
    fn take(&mut self, bytes: usize) -> Result<(), Unread> {
        if bytes <= SMALL || bytes <= self.taken {
            return Ok(());
        }
        let more = bytes - self.taken;
        let mut bodies = self.bodies.lock();
        let all = bodies.all + more;
        let own = bodies.each.get(&self.caller).unwrap_or(&0) + more;
        if all > self.most.0 || own > self.most.1 {
            return Err(Unread::NoRoom);
        }
        bodies.all = all;
        bodies.each.insert(self.caller.clone(), own);
        self.taken = bytes;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.taken == 0 {
            return;
        }
        let mut bodies = self.bodies.lock();
        bodies.all -= self.taken;
        if let Some(own) = bodies.each.get_mut(&self.caller) {
            *own -= self.taken;
            if *own == 0 {
                bodies.each.remove(&self.caller);
            }
        }
    }
}

/// A body, which has its room as long as anybody has it.
struct Held {
    body: Vec<u8>,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// Why a body was not read.
enum Unread {
    TooLarge,
    NoRoom,
    Broken(hyper::Error),
}

/// Reads a whole body of JSON.
pub(super) async fn read(
    request: Request<Incoming>,
    max: usize,
    within: Duration,
    room: Room,
) -> Result<Bytes> {
    let expect = request.headers().get(EXPECT);
    let waits = expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let mut body = request.into_body();
    let too_large = || {
        let message = format!("the body is larger than {max} bytes");
        Error::new(ErrorKind::TooLarge, message)
    };
    // Who waits to be told to send is told so by the first look at the body.
    if waits && body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    let until = Instant::now() + within;
    let refused = match timeout_at(until, whole(&mut body, max, room)).await {
        Ok(Ok(body)) => {
            check(&body)?;
            return Ok(body);
        }
        Ok(Err(Unread::TooLarge)) => too_large(),
        Ok(Err(Unread::NoRoom)) => {
            let message = "the bodies of requests under way, yours or everybody's, take all the room they may \
                           (server.max_bodies)";
            Error::new(ErrorKind::Overloaded, message)
                .with_retry_after(Some(Duration::from_secs(1)))
        }
        Ok(Err(Unread::Broken(error))) => {
            // Wrongly framed, or its sender is gone and reads no answer.
            return Err(Error::invalid(
                "body",
                format!("the body broke off: {error}"),
            ));
        }
        Err(_) => {
            let seconds = within.as_secs();
            return Err(Error::invalid(
                "body",
                format!("the body did not arrive within {seconds} s"),
            ));
        }
    };
    // Who still sends when the connection closes is told of a reset, and never reads why.
    let _ = timeout_at(until, discard(&mut body, max.saturating_mul(PATIENCE))).await;
    Err(refused)
}

/// Copies a body out of the connection's buffer, which a long stream would keep alive otherwise.
async fn whole(body: &mut Incoming, max: usize, mut room: Room) -> Result<Bytes, Unread> {
    let told = body.size_hint().exact().unwrap_or(0);
    let told = usize::try_from(told).unwrap_or(usize::MAX);
    if told > max {
        return Err(Unread::TooLarge);
    }
    room.take(told)?;
    let mut whole = Vec::with_capacity(told);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Unread::Broken)?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        let length = whole.len() + data.len();
        if length > max {
            return Err(Unread::TooLarge);
        }
        room.take(length)?;
        whole.extend_from_slice(data);
    }
    whole.shrink_to_fit();
    if room.taken == 0 {
        return Ok(whole.into());
    }
    Ok(Bytes::from_owner(Held {
        body: whole,
        _room: room,
    }))
}

async fn discard(body: &mut Incoming, most: usize) {
    let mut read = 0;
    while read <= most
        && let Some(Ok(frame)) = body.frame().await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}

/// Refuses JSON that nests too deep, before anything recursive sees it.
pub(in crate::gateway) fn check(body: &[u8]) -> Result<()> {
    depth::check(body, MAX_DEPTH).map_err(|_| {
        Error::invalid(
            "body",
            format!("the JSON nests deeper than {MAX_DEPTH} levels"),
        )
    })
}
