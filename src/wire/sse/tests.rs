use proptest::prelude::*;

use super::*;

type Read = Result<(Option<String>, String), TooLong>;

fn events(pieces: &[&[u8]], max: usize) -> Vec<Read> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let mut parser = Parser::new(max);
    let mut read = Vec::new();
    for piece in pieces {
        parser.push(Bytes::copy_from_slice(piece));
        while let Some(event) = parser.next() {
            read.push(event.map(|e| (e.name.as_ref().map(text), text(&e.data))));
        }
    }
    read.extend(
        parser
            .finish()
            .map(|r| r.map(|e| (e.name.as_ref().map(text), text(&e.data)))),
    );
    read
}

fn data(stream: &[u8]) -> Vec<String> {
    events(&[stream], 1000)
        .into_iter()
        .map(|event| event.unwrap().1)
        .collect()
}

#[test]
fn every_line_end_of_the_format_ends_a_line() {
    assert_eq!(
        data(b"data: a\n\ndata: b\r\n\r\ndata: c\r\rdata: d\r\n\n"),
        ["a", "b", "c", "d"]
    );
}

#[test]
fn a_carriage_return_and_its_line_feed_end_one_line_and_not_two() {
    assert_eq!(data(b"data: a\r\ndata: b\r\n\r\n"), ["a\nb"]);
    let apart = events(&[b"data: a\r", b"\ndata: b\r\n\r", b"\n"], 100);
    assert_eq!(apart, [Ok((None, "a\nb".into()))]);
}

#[test]
fn data_of_several_lines_is_joined_and_one_space_is_dropped() {
    assert_eq!(data(b"data: a\ndata:b\ndata:  c\ndata\n\n"), ["a\nb\n c\n"]);
}

#[test]
fn comments_and_unknown_fields_and_events_without_data_are_nothing() {
    assert_eq!(
        data(b": ping\n\n:\n\nid: 7\nretry: 10\ndata: a\n\nevent: e\n\ndata: b\n\n"),
        ["a", "b"]
    );
    assert_eq!(data(b"data:\n\n"), [""]);
}

#[test]
fn a_byte_order_mark_is_skipped_at_the_start_only() {
    assert_eq!(
        data(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n"),
        ["a"]
    );
}

#[test]
fn an_event_has_the_last_name_given_to_it() {
    let read = events(
        &[b"event: x\nevent: error\ndata: a\n\nevent:\ndata: b\n\n"],
        100,
    );
    assert_eq!(
        read,
        [
            Ok((Some("error".into()), "a".into())),
            Ok((None, "b".into()))
        ]
    );
}

#[test]
fn an_unterminated_last_event_is_handed_out_at_the_end() {
    assert_eq!(data(b"data: a\n\ndata: [DONE]"), ["a", "[DONE]"]);
    assert_eq!(data(b"data: a\n"), ["a"]);
    assert_eq!(data(b"data: a\n\n: bye"), ["a"]);
}

#[test]
fn an_event_within_one_piece_is_not_copied() {
    let piece = Bytes::from_static(b"data: hello\n\ndata: x");
    let mut parser = Parser::new(100);
    parser.push(piece.clone());
    let event = parser.next().unwrap().unwrap();
    assert_eq!(event.data.as_ptr(), piece[6..].as_ptr());
    assert!(parser.next().is_none());
}

#[test]
fn an_event_too_long_ends_the_stream_even_if_its_line_never_does() {
    let too_long = Err(TooLong { max: 10 });
    assert_eq!(
        events(&[b"data: 123456789\n\ndata: a\n\n"], 10),
        vec![too_long.clone()]
    );
    assert_eq!(
        events(&[b"data: 1", b"23456789"], 10),
        vec![too_long.clone()]
    );
    assert_eq!(events(&[b"data:1\ndata:2\n\n"], 10), [too_long]);
    assert_eq!(events(&[b"data:12345\n\ndata:12345\n\n"], 10).len(), 2);
}

#[test]
fn comments_do_not_add_up_to_an_event_too_long() {
    let stream = b": keep\n".repeat(100);
    assert_eq!(
        events(&[&stream, b"data: a\n\n"], 10),
        [Ok((None, "a".into()))]
    );
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let pieces: [&[u8]; 12] = [
        b"data: ",
        b"data:",
        b"event: x",
        b":",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"hello",
        b" ",
        b"\xef\xbb\xbf",
        b"\xff",
    ];
    let piece = prop::sample::select(pieces.to_vec());
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_of_the_bytes_gives_the_same_events(
        stream in stream(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        max in 5usize..80,
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let mut pieces = Vec::new();
        let mut from = 0;
        for cut in cuts {
            pieces.push(&stream[from..cut]);
            from = cut;
        }
        pieces.push(&stream[from..]);
        let whole = events(&[&stream], max);
        prop_assert_eq!(&events(&pieces, max), &whole);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(&events(&bytes, max), &whole);
    }

    #[test]
    fn what_is_framed_is_read_back(datas in proptest::collection::vec("[a-z \n]{0,20}", 0..8)) {
        let mut out = BytesMut::new();
        for data in &datas {
            frame(data.as_bytes(), &mut out);
        }
        let read: Vec<String> = data(&out);
        prop_assert_eq!(read, datas);
    }
}
