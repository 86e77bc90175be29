//! One peer that speaks JSON-RPC: reads lines, runs each request as a task, writes replies as they come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::Instrument;

use super::rpc::{self, Request};
use crate::error::{Error, ErrorKind};
use crate::gateway::auth::Caller;
use crate::gateway::{Doors, Entry};

/// Requests of one peer under way at once.
const IN_FLIGHT: usize = 1024;
/// Lines that wait for a slow peer before its requests wait too.
const LINES: usize = 256;
/// A peer that says nothing and waits for nothing is let go after this.
pub(super) const IDLE: Duration = Duration::from_secs(3600);
/// After its last line a peer may only be waiting for answers, or be gone: this often we look.
const PULSE: Duration = Duration::from_millis(50);

/// What the requests of one connection share.
pub(super) struct Peer {
    pub doors: Arc<Doors>,
    pub caller: Caller,
    /// Lines to be written. Bounded: a peer that does not read stops its own requests.
    pub lines: mpsc::Sender<Bytes>,
    /// Cancels a request by its id.
    pub running: Mutex<HashMap<String, oneshot::Sender<()>>>,
}

pub(super) async fn serve(stream: UnixStream, first: BytesMut, caller: Caller, entry: Entry) {
    let (mut read, write) = stream.into_split();
    let (lines, to_write) = mpsc::channel(LINES);
    let doors = Arc::clone(&entry.doors);
    let patience = doors.server().write_timeout;
    let peer = Arc::new(Peer {
        doors,
        caller,
        lines,
        running: Mutex::default(),
    });
    // Dropped with this future, and with it every query of this peer.
    let mut requests = JoinSet::new();
    let reading = async {
        read_lines(&mut read, first, &peer, &mut requests).await;
        // No more lines, but answers may still be awaited.
        while requests.join_next().await.is_some() {}
        drop(peer);
    };
    // The writer ends when the last line is written, or the peer is gone or takes nothing.
    let writing = write_lines(write, to_write, patience);
    tokio::pin!(reading, writing);
    tokio::select! {
        () = &mut reading => { writing.await; }
        () = &mut writing => {}
    }
    drop(entry);
}

async fn write_lines(
    mut write: OwnedWriteHalf,
    mut lines: mpsc::Receiver<Bytes>,
    patience: Duration,
) {
    let mut block = BytesMut::new();
    loop {
        let line = tokio::select! {
            line = lines.recv() => line,
            () = gone(&write) => return,
        };
        let Some(line) = line else { return };
        block.extend_from_slice(&line);
        while block.len() < 64 * 1024
            && let Ok(line) = lines.try_recv()
        {
            block.extend_from_slice(&line);
        }
        while block.has_remaining() {
            match timeout(patience, write.write_buf(&mut block)).await {
                Ok(Ok(1..)) => {}
                _ => return,
            }
        }
    }
}

/// Returns when the peer has closed both directions. One that closed only its own, as `nc` does at the end of
/// its input, still waits for answers.
async fn gone(write: &OwnedWriteHalf) {
    loop {
        match write.ready(Interest::WRITABLE).await {
            Ok(ready) if !ready.is_write_closed() => sleep(PULSE).await,
            _ => return,
        }
    }
}

async fn read_lines(
    read: &mut OwnedReadHalf,
    first: BytesMut,
    peer: &Arc<Peer>,
    requests: &mut JoinSet<()>,
) {
    let server = peer.doors.server();
    let mut buffer = first;
    let mut scanned = 0;
    // When the line that was begun must be there.
    let mut due = None;
    loop {
        let end = memchr::memchr(b'\n', &buffer[scanned..]).map(|end| scanned + end);
        if end.unwrap_or(buffer.len()) > server.max_body {
            let message = format!("the line is longer than {} bytes", server.max_body);
            rpc::refuse(peer, None, &Error::invalid("line", message)).await;
            return;
        }
        if let Some(end) = end {
            let line = buffer.split_to(end + 1).freeze();
            (scanned, due) = (0, None);
            take_line(line, peer, requests).await;
            continue;
        }
        scanned = buffer.len();
        // A line that was begun must be ended; between lines a peer may take its time.
        let until = if buffer.is_empty() {
            Instant::now() + IDLE
        } else {
            *due.get_or_insert_with(|| Instant::now() + server.read_timeout)
        };
        let read = tokio::select! {
            read = timeout_at(until, read.read_buf(&mut buffer)) => read,
            () = peer.doors.closed() => return,
        };
        match read {
            Ok(Ok(1..)) => {}
            Ok(_) => {
                // The last line may lack its end.
                if !buffer.is_empty() {
                    take_line(buffer.split().freeze(), peer, requests).await;
                }
                return;
            }
            Err(_) if buffer.is_empty() && !peer.running.lock().is_empty() => {}
            Err(_) => {
                let message = "the line did not arrive in time";
                rpc::refuse(peer, None, &Error::invalid("line", message)).await;
                return;
            }
        }
    }
}

async fn take_line(line: Bytes, peer: &Arc<Peer>, requests: &mut JoinSet<()>) {
    let line = line.slice(..line.trim_ascii_end().len());
    if line.is_empty() {
        return;
    }
    while requests.try_join_next().is_some() {}
    let request = match Request::parse(line) {
        Ok(request) => request,
        Err(refusal) => return refusal.send(peer).await,
    };
    if requests.len() >= IN_FLIGHT {
        let error = Error::new(
            ErrorKind::Overloaded,
            format!("{IN_FLIGHT} requests of this connection are under way"),
        )
        .with_retry_after(Some(Duration::from_secs(1)));
        return rpc::refuse(peer, request.id(), &error).await;
    }
    if let Some(id) = request
        .id()
        .filter(|id| peer.running.lock().contains_key(*id))
    {
        let error = Error::invalid("id", "a request of this id is under way");
        return rpc::refuse(peer, Some(id), &error).await;
    }
    let peer = Arc::clone(peer);
    // Registered before the next line is read, which may be its cancellation.
    let cancelled = rpc::register(&peer, &request);
    requests.spawn(rpc::run(request, peer, cancelled).in_current_span());
}
