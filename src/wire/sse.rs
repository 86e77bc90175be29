//! Server-sent events, read incrementally and written.
//!
//! The format is WHATWG's ("HTML", section 9.2, server-sent events). Of its fields only `event` and `data`
//! matter here: `id` and `retry` serve reconnection, which a model's answer does not have.

#[cfg(test)]
mod tests;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr2;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its `event` field. `None` for the unnamed events of most streams.
    pub name: Option<Bytes>,
    /// Its `data` lines, joined by line feeds.
    pub data: Bytes,
}

/// An event is longer than it may be; the stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// How many bytes an event may have.
    pub max: usize,
}

/// Turns pieces of a byte stream, cut anywhere, into events.
///
/// Push a piece, take events until there is none, push the next. An event's data is a slice of the piece it
/// came in; only a line that spans pieces, or data of several lines, is copied.
#[derive(Debug)]
pub struct Parser {
    max: usize,
    /// What was pushed and not read yet.
    input: Bytes,
    /// The start of a line whose end has not been pushed yet.
    partial: BytesMut,
    /// The last line ended with a carriage return: a line feed that comes next belongs to it.
    after_return: bool,
    /// No line has been read yet, so that one may start with a byte order mark.
    first_line: bool,
    /// An event was too long.
    failed: bool,
    event: Pending,
}

/// The lines of an event so far.
#[derive(Debug, Default)]
struct Pending {
    /// Bytes of its lines, without comments and line ends.
    size: usize,
    name: Option<Bytes>,
    data: Data,
}

#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    One(Bytes),
    Several(BytesMut),
}

impl Parser {
    /// A parser for one stream whose events have at most `max_event_bytes`, line ends not counted.
    pub fn new(max_event_bytes: usize) -> Self {
        Self {
            max: max_event_bytes,
            input: Bytes::new(),
            partial: BytesMut::new(),
            after_return: false,
            first_line: true,
            failed: false,
            event: Pending::default(),
        }
    }

    /// Adds the next piece of the stream.
    pub fn push(&mut self, bytes: Bytes) {
        if self.input.is_empty() {
            self.input = bytes;
        } else {
            let mut joined = BytesMut::from(&*self.input);
            joined.extend_from_slice(&bytes);
            self.input = joined.freeze();
        }
    }

    /// The next event that is complete. `None`: push more. Nothing follows [`TooLong`].
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator that goes on after None would mislead"
    )]
    pub fn next(&mut self) -> Option<Result<Event, TooLong>> {
        while !self.failed {
            if self.after_return && !self.input.is_empty() {
                self.after_return = false;
                if self.input[0] == b'\n' {
                    self.input.advance(1);
                }
            }
            let Some(end) = memchr2(b'\n', b'\r', &self.input) else {
                return self.keep_partial().err().map(Err);
            };
            let mut line = self.input.split_to(end);
            self.after_return = self.input[0] == b'\r';
            self.input.advance(1);
            if !self.partial.is_empty() {
                self.partial.extend_from_slice(&line);
                line = self.partial.split().freeze();
            }
            match self.line(line) {
                Ok(None) => {}
                Ok(Some(event)) => return Some(Ok(event)),
                Err(too_long) => return Some(Err(too_long)),
            }
        }
        None
    }

    /// The event that the stream's end cut off before its blank line, if there is one. Call it when
    /// [`next`](Self::next) yields nothing any more.
    pub fn finish(&mut self) -> Option<Result<Event, TooLong>> {
        if self.failed {
            return None;
        }
        let line = self.partial.split().freeze();
        if !line.is_empty()
            && let Err(too_long) = self.line(line)
        {
            return Some(Err(too_long));
        }
        self.event.take().map(Ok)
    }

    /// Sets the rest of the input aside as the start of a line.
    fn keep_partial(&mut self) -> Result<(), TooLong> {
        self.fits(self.partial.len() + self.input.len())?;
        self.partial.extend_from_slice(&self.input);
        self.input.clear();
        Ok(())
    }

    fn fits(&mut self, line: usize) -> Result<(), TooLong> {
        self.failed = self.event.size + line > self.max;
        if self.failed {
            Err(TooLong { max: self.max })
        } else {
            Ok(())
        }
    }

    fn line(&mut self, mut line: Bytes) -> Result<Option<Event>, TooLong> {
        self.fits(line.len())?;
        if std::mem::take(&mut self.first_line) && line.starts_with(b"\xef\xbb\xbf") {
            line.advance(3);
        }
        if line.is_empty() {
            return Ok(self.event.take());
        }
        let size = line.len();
        let colon = memchr::memchr(b':', &line).unwrap_or(size);
        let field = line.split_to(colon);
        if field.is_empty() {
            // A comment, sent to keep the connection open.
            return Ok(None);
        }
        self.event.size += size;
        line.advance(line.len().min(1));
        if line.first() == Some(&b' ') {
            line.advance(1);
        }
        match &*field {
            b"data" => self.event.data.add(line),
            b"event" => self.event.name = Some(line).filter(|name| !name.is_empty()),
            _ => {}
        }
        Ok(None)
    }
}

impl Pending {
    /// The event, and a fresh start. An event without data is none.
    fn take(&mut self) -> Option<Event> {
        let Self { name, data, .. } = std::mem::take(self);
        let data = match data {
            Data::None => return None,
            Data::One(data) => data,
            Data::Several(data) => data.freeze(),
        };
        Some(Event { name, data })
    }
}

impl Data {
    fn add(&mut self, line: Bytes) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(line),
            Self::One(first) => {
                let mut lines = BytesMut::with_capacity(first.len() + 1 + line.len());
                lines.extend_from_slice(&first);
                lines.extend_from_slice(b"\n");
                lines.extend_from_slice(&line);
                Self::Several(lines)
            }
            Self::Several(mut lines) => {
                lines.extend_from_slice(b"\n");
                lines.extend_from_slice(&line);
                Self::Several(lines)
            }
        };
    }
}

/// Writes `data` as an unnamed event; data of several lines becomes several `data` lines.
pub fn frame(data: &[u8], out: &mut BytesMut) {
    let mut rest = data;
    while let Some(end) = memchr2(b'\n', b'\r', rest) {
        put_line(&rest[..end], out);
        let pair = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + if pair { 2 } else { 1 }..];
    }
    put_line(rest, out);
    out.extend_from_slice(b"\n");
}

fn put_line(line: &[u8], out: &mut BytesMut) {
    out.reserve(line.len() + 8);
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(line);
    out.extend_from_slice(b"\n");
}
