//! The laws of `fuzz/`, which fuzzers look for breaches of with all the time they get, held here against its corpora:
//! every file as it is, files damaged, and bytes without a meaning.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{TestError, TestRunner};

#[path = "../fuzz/laws/mod.rs"]
mod laws;

/// Cases for a law that is pure, and for one that talks to a daemon.
const PURE: u32 = 400;
const SPOKEN: u32 = 100;

#[test]
fn a_stream_of_events_reads_the_same_however_it_is_cut() {
    check("sse", PURE, laws::sse::holds);
}

#[test]
fn every_line_of_json_rpc_gets_one_reply_however_it_is_cut() {
    check("rpc", SPOKEN, laws::rpc::holds);
}

#[test]
fn any_bytes_are_answered_in_http_and_the_next_request_is_served() {
    check("head", SPOKEN, laws::head::holds);
}

#[test]
fn an_upstream_is_asked_what_the_client_asked() {
    check("chat", PURE, laws::chat::holds);
}

#[test]
fn an_upstreams_answer_says_to_us_what_a_parse_of_it_says() {
    check("answer", PURE, laws::answer::holds);
}

#[test]
fn a_wrong_configuration_is_refused_with_the_places_of_its_mistakes() {
    check("config", PURE, laws::config::holds);
}

#[test]
fn a_cell_of_learned_state_is_refused_or_can_be_worked_with() {
    check("cells", PURE, laws::cells::holds);
}

#[test]
fn recorded_answers_are_refused_or_written_as_they_were_read() {
    check("recorded", PURE, laws::recorded::holds);
}

#[test]
fn dates_are_the_calendars_and_no_header_makes_us_wait_for_more_than_a_day() {
    check("retry_after", PURE, laws::retry_after::holds);
}

/// Holds a law against the target's corpus, as it is, damaged and mixed, and against noise.
fn check(target: &str, cases: u32, holds: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut corpus = Vec::new();
    for file in fs::read_dir(&folder).unwrap() {
        let path = file.unwrap().path();
        // Shown if the law is broken.
        println!("{}", path.display());
        let bytes = fs::read(&path).unwrap();
        holds(&bytes);
        corpus.push(bytes);
    }
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    let changes = prop::collection::vec((any::<Index>(), any::<Index>(), change(&corpus)), 1..6);
    let damaged = (select(corpus), changes).prop_map(|(mut bytes, changes)| {
        for (from, length, put) in changes {
            let from = from.index(bytes.len() + 1);
            let length = length.index(8).min(bytes.len() - from);
            bytes.splice(from..from + length, put);
        }
        bytes
    });
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let ran = TestRunner::new(config).run(&prop_oneof![7 => damaged, 1 => noise], |bytes| {
        holds(&bytes);
        Ok(())
    });
    match ran {
        Ok(()) => {}
        Err(TestError::Fail(why, bytes)) => panic!("{why}: b\"{}\"", bytes.escape_ascii()),
        Err(other) => panic!("{other}"),
    }
}

/// What stands in place of a few bytes: nothing, a byte that means something, any, a number on the edge, or a part of
/// the corpus.
fn change(corpus: &[Vec<u8>]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let telling = select(b"\"\\{}[]:,\r\n\0 0-e'=.$\xff".to_vec()).prop_map(|byte| vec![byte]);
    let edges = [
        "-1",
        "1e999",
        "1e308",
        "5e-324",
        "18446744073709551616",
        "null",
        "{}",
        "[]",
        "\\ud800",
    ];
    let edges = select(edges.to_vec()).prop_map(|text| text.as_bytes().to_vec());
    let part = (select(corpus.to_vec()), any::<Index>(), any::<Index>());
    let part = part.prop_map(|(bytes, from, length)| {
        let from = from.index(bytes.len() + 1);
        let length = length.index(64).min(bytes.len() - from);
        bytes[from..from + length].to_vec()
    });
    let any = any::<u8>().prop_map(|byte| vec![byte]);
    prop_oneof![Just(Vec::new()), telling, any, edges, part]
}
