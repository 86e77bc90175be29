//! Answers that break off, at each of their bytes, and answers that are none.

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::chat;
use crate::upstream::{Behaviour, Fault, Upstream};
use crate::users::{End, Form, ask, eight_ask, eight_for, failures};
use crate::world::{Pair, fault, is_long, well};

/// The breaker would keep us from seeing each byte: it opens after ten failures by default.
const PATIENT: &str = "[resilience.breaker]\nmin_calls = 10000\n";
/// Small, and of several pieces.
const TEXT: &str = "to be or";

fn broken(fault: Fault) -> Behaviour {
    Behaviour { fault, ..well(0) }
}

/// The bytes of an answer to [`TEXT`], as they come over the wire.
async fn bytes(upstream: &Upstream, streamed: bool) -> Vec<u8> {
    let mut request = chat("m1", TEXT);
    request["stream"] = streamed.into();
    let body = request.to_string();
    let mut tcp = TcpStream::connect(upstream.addr()).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    tcp.write_all((head + &body).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tcp.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_whole_answer_cut_at_any_byte_comes_whole_from_another() {
    let pair = Pair::start(PATIENT, well(0), well(0)).await;
    let length = bytes(&pair.east, false).await.len();
    let mut asked = 0;
    for at in 0..=length {
        for fault in [Fault::CloseAt(at), Fault::ResetAt(at)] {
            pair.east.behave(broken(fault)).await;
            let seen = ask(&pair.world, "fast", "u", TEXT, false).await;
            assert!(seen.is_answered(), "{fault:?}: {seen:?}");
            let by = if at < length { "west/m1" } else { "east/m1" };
            assert_eq!(seen.by, by, "{fault:?} of {length}");
            asked += 1;
        }
    }
    println!("{length} bytes, {asked} queries");
    assert_eq!(pair.failed(), 2 * length as u64);
    pair.end(asked).await;
}

#[tokio::test]
async fn a_stream_cut_at_any_byte_falls_back_before_its_first_word_and_tells_of_it_after() {
    let pair = Pair::start(PATIENT, well(0), well(0)).await;
    let whole = bytes(&pair.east, true).await;
    // Where an event's last byte is: before its two line feeds it may or may not count, after them it does.
    let ends = |of: &[u8]| {
        let at = memmem::find(&whole, of).unwrap();
        let end = at + memmem::find(&whole[at..], b"\n\n").unwrap();
        (end, end + 2)
    };
    let (first, finish) = (
        ends(b"\"content\":\"to\""),
        ends(b"\"finish_reason\":\"stop\""),
    );
    let (mut asked, mut cuts) = (0, 0);
    for at in 0..=finish.1 {
        for fault in [Fault::ResetAt(at), Fault::CloseAt(at)] {
            // The short form closes at every eighth byte only.
            if fault == Fault::CloseAt(at) && at % 8 > 0 && !is_long() {
                continue;
            }
            pair.east.behave(broken(fault)).await;
            let seen = ask(&pair.world, "fast", "u", TEXT, true).await;
            asked += 1;
            match &seen.end {
                End::Answered if seen.by == "west/m1" => assert!(at < first.1, "{fault:?}"),
                End::Answered => assert!(at >= finish.0, "{fault:?}: {seen:?}"),
                End::Cut { kind, .. } => {
                    assert!((first.0..finish.1).contains(&at), "{fault:?}: {seen:?}");
                    assert_eq!((kind.as_str(), &*seen.by), ("truncated", "east/m1"));
                    cuts += 1;
                }
                End::Refused(_) => panic!("{fault:?}: {seen:?}"),
            }
        }
    }
    println!(
        "{} bytes, {asked} queries, {cuts} error events",
        whole.len()
    );
    pair.end(asked).await;
}

#[tokio::test]
async fn streams_cut_half_way_are_detected_every_time() {
    let pair = Pair::start(PATIENT, well(2), well(2)).await;
    let mut asked = 0;
    for way in [Fault::EndAfter(4), Fault::CutAfter(4), Fault::ErrorAfter(4)] {
        pair.east.behave(broken(way)).await;
        pair.east.forget();
        let failed = pair.failed();
        let seen = eight_for(&pair.world, "fast", Form::Both, fault() / 4).await;
        failures(&format!("{way:?}"), &seen);
        for one in &seen {
            match &one.end {
                End::Answered => assert_eq!((one.streamed, &*one.by), (false, "west/m1")),
                End::Cut { said, .. } => assert_eq!(said.split(' ').count(), 4, "{one:?}"),
                End::Refused(_) => panic!("{one:?}"),
            }
        }
        asked += seen.len();
        pair.world.until_all_returned().await;
        let faults = pair.east.stats().faults;
        assert_eq!(
            (faults, pair.failed() - failed),
            (seen.len() as u64, faults),
            "{way:?}"
        );
    }
    pair.end(asked).await;
}

#[tokio::test]
async fn streams_cut_before_their_first_word_come_from_another() {
    let pair = Pair::start("", well(2), well(2)).await;
    let mut asked = 0;
    for fault in [Fault::EndAfter(0), Fault::CutAfter(0), Fault::ErrorAfter(0)] {
        pair.east.behave(broken(fault)).await;
        let seen = eight_ask(&pair.world, "fast", Form::Streamed, 40).await;
        assert_eq!(failures(&format!("{fault:?}"), &seen), 0);
        asked += seen.len();
    }
    pair.end(asked).await;
}

#[tokio::test]
async fn with_the_defaults_a_truncating_upstream_is_soon_left_alone() {
    let pair = Pair::start("", broken(Fault::EndAfter(4)), well(2)).await;
    let seen = eight_for(&pair.world, "fast", Form::Streamed, fault()).await;
    let cut = failures("truncating", &seen);
    assert!((1..=17).contains(&cut), "{cut} answers cut");
    assert_eq!(pair.world.deployment("east/m1")["breaker"], "open");
    let status = seen.iter().map(|one| one.status).max();
    assert_eq!(status, Some(200), "what began is told of by an event");
    pair.end(seen.len()).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_never_passed_on() {
    let pair = Pair::start(PATIENT, broken(Fault::Malformed), well(2)).await;
    let seen = eight_ask(&pair.world, "fast", Form::Both, 64).await;
    failures("malformed", &seen);
    for one in &seen {
        match &one.end {
            End::Answered => assert_eq!((one.streamed, &*one.by), (false, "west/m1")),
            // Its second event is the one that cannot be read.
            End::Cut { said, kind } => assert_eq!((&**said, &**kind), ("question", "malformed")),
            End::Refused(_) => panic!("{one:?}"),
        }
    }
    let alone = ask(&pair.world, "east/m1", "u", "?", false).await;
    let told = (alone.status, alone.end);
    assert_eq!(told, (502, End::Refused("malformed".into())));
    pair.end(seen.len() + 1).await;
}
