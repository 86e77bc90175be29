//! Server-sent events: the same events however the stream is cut, those that WHATWG's rules say, and none longer
//! than allowed. The first byte chooses the cuts and the limit.

use bytes::{Bytes, BytesMut};
use quorate::wire::sse::{Event, Parser, TooLong, frame};

/// The law.
pub fn holds(bytes: &[u8]) {
    let Some((&seed, stream)) = bytes.split_first() else {
        return;
    };
    let max = if seed % 2 == 0 { 24 } else { 1 << 20 };
    let expected = by_the_book(stream, max);
    assert_eq!(read(&[stream], max), expected, "in one piece");
    assert_eq!(
        read(&super::pieces(stream, seed, 7), max),
        expected,
        "in pieces"
    );
    let single: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(read(&single, max), expected, "byte by byte");
    for event in expected.iter().flatten() {
        let name = event.name.as_ref().map_or(0, Bytes::len);
        assert!(event.data.len() + name <= max, "{event:?} of at most {max}");
        let mut framed = BytesMut::new();
        frame(&event.data, &mut framed);
        let back = read(&[&framed], usize::MAX);
        let unnamed = Event {
            name: None,
            data: event.data.clone(),
        };
        assert_eq!(back, [Ok(unnamed)], "framed and read back");
    }
}

fn read(pieces: &[&[u8]], max: usize) -> Vec<Result<Event, TooLong>> {
    let mut parser = Parser::new(max);
    let mut events = Vec::new();
    for piece in pieces {
        parser.push(Bytes::copy_from_slice(piece));
        while let Some(event) = parser.next() {
            events.push(event);
        }
    }
    events.extend(parser.finish());
    events
}

/// "HTML", section 9.2.6, line by line over the whole stream; but the last event needs no blank line.
fn by_the_book(stream: &[u8], max: usize) -> Vec<Result<Event, TooLong>> {
    let mut events = Vec::new();
    let (mut size, mut name, mut data) = (0, None, Vec::new());
    let mut rest = stream;
    let mut first = true;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let mut line = &rest[..end.unwrap_or(rest.len())];
        if size + line.len() > max {
            events.push(Err(TooLong { max }));
            return events;
        }
        if std::mem::take(&mut first) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if !line.is_empty() && !line.starts_with(b":") {
            size += line.len();
            let colon = line.iter().position(|byte| *byte == b':');
            let value = colon.map_or(&b""[..], |colon| &line[colon + 1..]);
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &line[..colon.unwrap_or(line.len())] {
                b"data" => data.push(value),
                b"event" => name = Some(value).filter(|name| !name.is_empty()),
                _ => {}
            }
        }
        // The stream's end ends its last event too.
        if line.is_empty() || end.is_none() {
            let named = name.take().map(Bytes::copy_from_slice);
            if !data.is_empty() {
                let data = data.join(&b'\n').into();
                events.push(Ok(Event { name: named, data }));
            }
            (size, data) = (0, Vec::new());
        }
        let Some(end) = end else { return events };
        let pair = rest[end..].starts_with(b"\r\n");
        rest = &rest[end + if pair { 2 } else { 1 }..];
    }
}
