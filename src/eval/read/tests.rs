use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;
use crate::eval::record::write;

const SMALL: Limits = Limits {
    file: 2_000,
    line: 500,
    records: 5,
};
const WIDE: Limits = Limits {
    file: MAX_FILE,
    line: MAX_LINE,
    records: MAX_RECORDS,
};

fn given(bytes: &[u8], limits: Limits) -> Result<Vec<Recorded>, String> {
    read_from(Path::new("set.jsonl"), bytes, limits).map_err(|error| error.to_string())
}

fn line(id: &str) -> String {
    format!("{{\"id\":\"{id}\",\"prompt\":\"p\",\"answers\":{{}}}}\n")
}

#[test]
fn a_line_with_every_field_is_read_and_unknown_fields_are_passed_over() {
    let text = r#"
        {"id":"a","task":"t","prompt":"p","options":["x","y"],"reference":"B","extra":[1],
         "answers":{"m":{"answer":"B","output_chars":7,"seconds":1.5},"n":{"answer":null},"o":{"score":0.25}}}"#
        .replace("\n         ", "");
    let record = given(text.as_bytes(), WIDE).unwrap().remove(0);
    assert_eq!(record.options, ["x", "y"]);
    assert_eq!(record.reference.as_deref(), Some("B"));
    assert_eq!(record.answers["m"].output_chars, Some(7));
    assert!(record.answers["n"].abstained());
    assert_eq!(record.answers["o"].score, Some(0.25));
}

#[test]
fn what_is_wrong_is_said_with_file_line_field_and_what_is_allowed() {
    for (text, expected) in [
        ("[]", "set.jsonl, line 1: must be one JSON object"),
        ("{", "set.jsonl, line 1: is not JSON"),
        (
            "\n\n{}",
            "line 3, field answers: is missing; it must be an object",
        ),
        (
            r#"{"id":"a","answers":{}}"#,
            "field prompt: is missing or empty",
        ),
        (
            r#"{"id":7,"prompt":"p","answers":{}}"#,
            "field id: is 7; it must be a text",
        ),
        (
            r#"{"id":"a","prompt":"p","answers":{"m":{"score":1.5}}}"#,
            "field answers.m.score: is 1.5; it must be a number from 0 to 1",
        ),
        (
            r#"{"id":"a","prompt":"p","answers":{"m":{"score":-0.1}}}"#,
            "field answers.m.score",
        ),
        (
            r#"{"id":"a","prompt":"p","answers":{"m":{"output_chars":-3}}}"#,
            "field answers.m.output_chars: is -3; it must be a whole number",
        ),
        (
            r#"{"id":"a","prompt":"p","answers":{"m":{"answer":4}}}"#,
            "field answers.m.answer: is 4; it must be a text",
        ),
        (
            r#"{"id":"a","prompt":"p","answers":{"m":4}}"#,
            "field answers.m: is 4",
        ),
        (
            r#"{"id":"a","prompt":"p","answers":{"":{}}}"#,
            "a model's name has 1 to 512 bytes",
        ),
        (
            r#"{"id":"a","prompt":"p","options":[1],"answers":{}}"#,
            "field options[0]: is 1; it must be a text",
        ),
    ] {
        let error = given(text.as_bytes(), WIDE).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn ids_do_not_repeat() {
    let error = given((line("a") + &line("b") + &line("a")).as_bytes(), WIDE).unwrap_err();
    assert!(
        error.contains("line 3, field id: \"a\" is taken"),
        "{error}"
    );
}

#[test]
fn everything_is_bounded() {
    let cases = [
        (line(&"x".repeat(600)), "line 1: longer than the 500 bytes"),
        ("\n".repeat(2_001), "larger than the 2000 bytes"),
        (
            (0..6).map(|id| line(&id.to_string())).collect(),
            "more than the 5 records",
        ),
    ];
    for (text, expected) in cases {
        let error = given(text.as_bytes(), SMALL).unwrap_err();
        assert!(error.contains(expected), "{error}");
        let packed = compress_to_vec(text.as_bytes(), CompressionLevel::Fastest);
        assert_eq!(given(&packed, SMALL).unwrap_err(), error);
    }
    let options = vec!["o"; 27];
    let text =
        format!("{{\"id\":\"a\",\"prompt\":\"p\",\"options\":{options:?},\"answers\":{{}}}}");
    let error = given(text.as_bytes(), WIDE).unwrap_err();
    assert!(error.contains("has 27 texts; allowed are 26"), "{error}");
}

#[test]
fn a_line_and_a_file_just_as_long_as_allowed_are_read() {
    let short = line("").len();
    let text = line(&"x".repeat(501 - short));
    assert_eq!(text.len(), 501);
    assert_eq!(given(text.as_bytes(), SMALL).unwrap().len(), 1);
    assert_eq!(given(text.trim_end().as_bytes(), SMALL).unwrap().len(), 1);
    let filled = text.clone() + &"\n".repeat(2_000 - text.len());
    assert_eq!(given(filled.as_bytes(), SMALL).unwrap().len(), 1);
}

#[test]
fn packed_files_are_known_by_their_first_bytes_and_may_have_several_frames() {
    let mut packed = compress_to_vec(line("a").as_bytes(), CompressionLevel::Fastest);
    // A frame to pass over, of three bytes.
    packed.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    packed.extend(compress_to_vec(
        line("b").as_bytes(),
        CompressionLevel::Fastest,
    ));
    let ids: Vec<_> = given(&packed, WIDE)
        .unwrap()
        .into_iter()
        .map(|record| record.id)
        .collect();
    assert_eq!(ids, ["a", "b"]);
}

#[test]
fn a_torn_or_damaged_packed_file_is_refused() {
    let text: String = (0..200).map(|id| line(&id.to_string())).collect();
    let packed = compress_to_vec(text.as_bytes(), CompressionLevel::Fastest);
    assert_eq!(given(&packed, WIDE).unwrap().len(), 200);
    for cut in [5, packed.len() / 2, packed.len() - 1] {
        assert!(given(&packed[..cut], WIDE).is_err(), "cut at {cut}");
    }
    let mut damaged = packed.clone();
    if let Some(last) = damaged.last_mut() {
        *last ^= 1;
    }
    let error = given(&damaged, WIDE).unwrap_err();
    assert!(error.contains("checksum"), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let error = read(Path::new("no/such/set.jsonl")).unwrap_err();
    assert!(error.to_string().starts_with("no/such/set.jsonl"));
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    assert!(
        given(b"{\"id\":\"\xff\"}", WIDE)
            .unwrap_err()
            .contains("line 1: is not UTF-8")
    );
}

fn replies() -> impl Strategy<Value = Reply> {
    let answer = proptest::option::of("[ -~äß\n]{0,12}");
    // Exact in binary: the last bit of other numbers may be lost in text.
    let score = proptest::option::of((0..=1024_u16).prop_map(|score| f64::from(score) / 1024.0));
    (answer, proptest::option::of(any::<u64>()), score).prop_map(|(answer, output_chars, score)| {
        Reply {
            answer,
            output_chars,
            score,
        }
    })
}

fn records() -> impl Strategy<Value = Recorded> {
    let texts = (
        proptest::option::of("[a-z]{1,8}"),
        "[ -~ü\n]{1,40}",
        proptest::collection::vec("[ -~]{0,9}", 0..5),
        proptest::option::of("[ -~]{0,9}"),
    );
    let answers = proptest::collection::btree_map("[a-z0-9.-]{1,9}", replies(), 0..5);
    (texts, answers).prop_map(|((task, prompt, options, reference), answers)| Recorded {
        task,
        prompt,
        options,
        reference,
        answers,
        ..Recorded::default()
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back_the_same_plain_and_packed(
        mut records in proptest::collection::vec(records(), 0..6)
    ) {
        for (at, record) in records.iter_mut().enumerate() {
            record.id = format!("q{at}");
        }
        let mut out = Vec::new();
        write(&records, &mut out).unwrap();
        prop_assert_eq!(&given(&out, WIDE).unwrap(), &records);
        let packed = compress_to_vec(&out[..], CompressionLevel::Fastest);
        prop_assert_eq!(&given(&packed, WIDE).unwrap(), &records);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), packed: bool) {
        let mut bytes = bytes;
        if packed {
            bytes.splice(0..0, MAGIC);
        }
        let _ = given(&bytes, SMALL);
    }
}
