//! Requests off a connection, and bytes onto it.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::clock::sleep;

/// Why a connection ends.
pub(super) enum End {
    /// The client left.
    Gone,
    /// On purpose.
    Close,
    Reset,
}

pub(super) struct Request {
    /// Method and target, as in the request line.
    pub(super) line: String,
    pub(super) body: Bytes,
    pub(super) close: bool,
}

pub(super) struct Wire {
    pub(super) tcp: TcpStream,
    pub(super) inbox: BytesMut,
    /// Bytes that may still be written.
    pub(super) left: usize,
}

impl Wire {
    pub(super) async fn request(&mut self) -> Option<Request> {
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

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        let some = bytes.len().min(self.left);
        self.left = self.left.saturating_sub(some);
        match self.tcp.write_all(&bytes[..some]).await {
            Err(_) => Err(End::Gone),
            Ok(()) if some < bytes.len() => Err(End::Close),
            Ok(()) => Ok(()),
        }
    }

    /// Waits, unless the client leaves meanwhile.
    pub(super) async fn pause(&mut self, ms: u64) -> Result<(), End> {
        if ms == 0 {
            return Ok(());
        }
        let over = sleep(Duration::from_millis(ms));
        tokio::select! {
            () = over => Ok(()),
            () = gone(&self.tcp, &mut self.inbox) => Err(End::Gone),
        }
    }

    pub(super) async fn hang(&mut self) -> End {
        gone(&self.tcp, &mut self.inbox).await;
        End::Gone
    }
}

/// Returns when the client has closed its side; keeps what it sends.
pub(super) async fn gone(tcp: &TcpStream, inbox: &mut BytesMut) {
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
