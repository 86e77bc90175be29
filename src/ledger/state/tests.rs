use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn cell(key: &str, payload: &str) -> Cell {
    Cell {
        key: key.into(),
        version: 1,
        payload: payload.into(),
    }
}

fn state() -> State {
    State::new(vec![
        cell("topics", "{}"),
        cell("deployment:a/x:ability", r#"{"mean":0.1,"n":3}"#),
    ])
}

fn document(state: &State) -> Value {
    serde_json::from_str(&state.to_json(7)).unwrap()
}

fn refused(document: &Value) -> StateError {
    State::parse(document.to_string().as_bytes()).unwrap_err()
}

#[test]
fn what_is_written_is_read_back() {
    let (back, at) = State::parse(state().to_json(-7).as_bytes()).unwrap();
    assert_eq!((back, at), (state(), -7));
    let none = State::default();
    assert_eq!(State::parse(none.to_json(0).as_bytes()).unwrap(), (none, 0));
}

#[test]
fn order_and_spacing_of_the_document_do_not_matter() {
    let document = document(&state());
    let spaced = format!("\n{document:#}\n");
    assert_eq!(State::parse(spaced.as_bytes()).unwrap(), (state(), 7));
}

#[test]
fn the_digest_is_of_the_cells_alone_and_shows_where_one_ends() {
    assert_eq!(state().digest().len(), 64);
    assert_eq!(state().short(), state().digest()[..16]);
    let one = |key: &str, payload: &str| State::new(vec![cell(key, payload)]).digest();
    assert_ne!(one("ab", "c"), one("a", "bc"));
    let newer = Cell {
        version: 2,
        ..cell("a", "b")
    };
    assert_ne!(State::new(vec![newer]).digest(), one("a", "b"));
    // Written down, so that a digest of today means the same tomorrow.
    assert_eq!(
        State::default().digest(),
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    );
}

#[test]
fn of_cells_with_one_key_the_last_counts() {
    let twice = State::new(vec![cell("a", "1"), cell("b", "2"), cell("a", "3")]);
    assert_eq!(twice.cells(), [cell("a", "3"), cell("b", "2")]);
}

#[test]
fn what_is_wrong_with_a_document_is_told() {
    let with = |key: &str, value: Value| {
        let mut document = document(&state());
        document[key] = value;
        refused(&document)
    };
    assert_eq!(
        with("format", json!("zip")),
        StateError::Format("zip".into())
    );
    // Whatever the other version has besides.
    let mut newer = document(&state());
    newer["version"] = json!(2);
    newer["leaves"] = json!([]);
    assert_eq!(refused(&newer), StateError::Version(2));
    assert!(matches!(
        with("digest", json!("00")),
        StateError::Digest { said, .. } if said == "00"
    ));
    assert_eq!(
        with(
            "cells",
            json!([cell("a", "1"), cell("b", "1"), cell("a", "1")])
        ),
        StateError::Duplicate("a".into())
    );
    let long = "k".repeat(LONGEST_KEY + 1);
    assert_eq!(
        with("cells", json!([cell("a", "1"), cell(&long, "1")])),
        StateError::Key {
            index: 1,
            bytes: LONGEST_KEY + 1
        }
    );
    for (key, value, why) in [
        ("extra", json!(1), "extra"),
        ("at", json!("noon"), "at line"),
        ("format", Value::Null, "format"),
        ("version", Value::Null, "version"),
        ("cells", json!({}), "cells"),
    ] {
        let told = with(key, value).to_string();
        assert!(told.contains(why), "{key}: {told}");
    }
    for bytes in ["", "[]", "7", "{", "{} {}"] {
        let error = State::parse(bytes.as_bytes()).unwrap_err();
        assert!(matches!(error, StateError::Shape(_)), "{bytes}: {error}");
    }
}

#[test]
fn a_document_is_bounded() {
    let one = r#"{"key":"","version":1,"payload":""}"#;
    let many = vec![one; MOST_CELLS + 1].join(",");
    let document = format!(
        r#"{{"format":"{FORMAT}","version":1,"crate":"","at":0,"digest":"","cells":[{many}]}}"#
    );
    let told = State::parse(document.as_bytes()).unwrap_err().to_string();
    assert!(told.contains("more than 100000 cells"), "{told}");
    let large = vec![b' '; MOST_BYTES + 1];
    assert_eq!(State::parse(&large), Err(StateError::Large(MOST_BYTES + 1)));
}

#[test]
fn cells_that_come_and_go_and_change_are_told_apart() {
    let after = State::new(vec![
        cell(
            "deployment:a/x:ability",
            r#"{"mean":0.2,"n":3,"new":[1,2]}"#,
        ),
        cell("experiment:e", "{}"),
    ]);
    let diff = state().diff(&after);
    assert_eq!(diff.added, ["experiment:e"]);
    assert_eq!(diff.removed, ["topics"]);
    let [change] = diff.changed.as_slice() else {
        panic!("{diff:?}")
    };
    assert_eq!((change.leaves, change.version), (3, None));
    let moved = Moved {
        path: "/mean".into(),
        before: 0.1,
        after: 0.2,
    };
    assert_eq!(change.most, [moved]);
}

#[test]
fn the_numbers_that_moved_most_come_first_and_eight_are_named() {
    let numbers = |at: &dyn Fn(usize) -> f64| {
        let numbers: Vec<f64> = (0..20).map(at).collect();
        State::new(vec![cell("c", &json!({ "a/b": numbers }).to_string())])
    };
    let before = numbers(&|_| 100.0);
    let after = numbers(&|n| 100.0 + n as f64);
    let diff = before.diff(&after);
    let change = &diff.changed[0];
    assert_eq!((change.leaves, change.most.len()), (19, 8));
    assert_eq!(change.most[0].path, "/a~1b/19");
    assert_eq!(change.most[7].path, "/a~1b/12");

    let one = |number: &str| State::new(vec![cell("c", number)]);
    let huge = one("1e308").diff(&one("-1e308"));
    assert_eq!(huge.changed[0].most[0].path, "");
}

#[test]
fn payloads_that_are_no_json_or_only_spaced_otherwise_are_compared_too() {
    let one = |payload: &str, version| {
        State::new(vec![Cell {
            version,
            ..cell("c", payload)
        }])
    };
    let leaves = |a: &str, b: &str| one(a, 1).diff(&one(b, 1)).changed[0].leaves;
    assert_eq!(leaves("{", "1"), 1);
    assert_eq!(leaves("[1]", "[ 1]"), 0);
    assert_eq!(leaves("{}", r#"{"a":[1,{}],"b":null}"#), 3);
    let newer = one("1", 1).diff(&one("1", 2));
    assert_eq!(newer.changed[0].version, Some([1, 2]));
}

fn any_cell() -> impl Strategy<Value = Cell> {
    ("\\PC{1,40}", any::<u32>(), any::<String>()).prop_map(|(key, version, payload)| Cell {
        key,
        version,
        payload,
    })
}

fn any_cells() -> impl Strategy<Value = Vec<Cell>> {
    prop::collection::vec(any_cell(), 0..12)
}

proptest! {
    #[test]
    fn export_and_parse_keep_every_cell_and_the_digest(cells in any_cells(), at in any::<i64>()) {
        let state = State::new(cells);
        let (back, then) = State::parse(state.to_json(at).as_bytes()).unwrap();
        prop_assert_eq!(back.digest(), state.digest());
        prop_assert_eq!((back, then), (state, at));
    }

    #[test]
    fn the_order_cells_come_in_makes_no_difference(mut cells in any_cells()) {
        let state = State::new(cells.clone());
        cells = state.clone().into_cells();
        cells.reverse();
        prop_assert_eq!(State::new(cells).digest(), state.digest());
    }

    #[test]
    fn any_bytes_are_borne(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(State::parse(&bytes).is_err());
    }

    #[test]
    fn a_document_with_bytes_replaced_is_borne(at in any::<prop::sample::Index>(), with in any::<Vec<u8>>()) {
        let mut document = state().to_json(7).into_bytes();
        let at = at.index(document.len());
        document.splice(at..(at + with.len()).min(document.len()), with);
        let _ = State::parse(&document);
    }

    #[test]
    fn a_flipped_byte_of_the_cells_is_noticed(
        cells in prop::collection::vec(any_cell(), 1..6),
        at in any::<prop::sample::Index>(),
        mask in 1u8..,
    ) {
        let state = State::new(cells);
        let mut document = state.to_json(7).into_bytes();
        let begin = document.windows(8).position(|bytes| bytes == b"\"cells\":").unwrap() + 8;
        let at = begin + at.index(document.len() - 1 - begin);
        document[at] ^= mask;
        // The other way to write a character changes no cell.
        if let Ok((back, _)) = State::parse(&document) {
            prop_assert_eq!(back, state);
        }
    }

    #[test]
    fn a_state_differs_from_itself_in_nothing_and_from_others_in_something(
        one in any_cells(),
        other in any_cells(),
    ) {
        let (one, other) = (State::new(one), State::new(other));
        prop_assert!(one.diff(&one).is_empty());
        let (there, back) = (one.diff(&other), other.diff(&one));
        prop_assert_eq!(there.is_empty(), one == other);
        prop_assert_eq!(&there.added, &back.removed);
        prop_assert_eq!(&there.removed, &back.added);
        prop_assert_eq!(there.changed.len(), back.changed.len());
    }
}
