use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// Any small JSON value, with text that is awkward to scan.
pub(crate) fn json() -> impl Strategy<Value = Value> {
    let text = "[a-z\"\\\\{}\\[\\],: \n\u{e9}\u{1f600}]{0,8}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Eighths are exact however they are printed and parsed.
        (-9999..9999i32).prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::btree_map(text, inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    let key = prop_oneof!["model|stream|quorate|user", "[a-c\"\\\\:}]{0,3}"];
    proptest::collection::btree_map(key, json(), 0..7)
        .prop_map(|members| members.into_iter().collect())
}

fn parse(body: &[u8]) -> Value {
    serde_json::from_slice(body)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(body)))
}

#[test]
fn members_that_do_not_change_keep_their_bytes() {
    let body = br#" { "a" : 1.50 , "model":"x", "b":[ 1 ,2 ] ,"quorate":{"lane":"urgent"}} "#;
    let out = rewrite(
        body,
        &[("model", br#""y""#), ("stream", b"true")],
        &["quorate"],
    )
    .unwrap();
    assert_eq!(
        out,
        &br#"{"a" : 1.50,"model":"y","b":[ 1 ,2 ],"stream":true}"#[..]
    );
}

#[test]
fn every_occurrence_of_a_key_goes_however_it_is_written() {
    let body = br#"{"model":"x","model":"z","\u006dodel":"w","quo\u0072ate":1,"k":2}"#;
    let out = rewrite(body, &[("model", br#""y""#)], &["quorate"]).unwrap();
    assert_eq!(out, &br#"{"model":"y","k":2}"#[..]);
}

#[test]
fn an_object_may_lose_or_gain_all_its_members() {
    assert_eq!(rewrite(b"{\"a\":1}", &[], &["a"]).unwrap(), &b"{}"[..]);
    assert_eq!(
        rewrite(b"{ }", &[("a", b"1"), ("b", b"2")], &[]).unwrap(),
        &b"{\"a\":1,\"b\":2}"[..]
    );
    assert_eq!(
        append(&Bytes::from_static(b"{ }"), "a", b"1"),
        &b"{\"a\":1}"[..]
    );
}

#[test]
fn appending_keeps_everything_before_and_replaces_a_namesake() {
    let body = Bytes::from_static(b"{\"a\":{}\n}\n");
    assert_eq!(
        append(&body, "quorate", b"{}"),
        &b"{\"a\":{},\"quorate\":{}}\n"[..]
    );
    let chained = Bytes::from_static(br#"{"quorate":{"decision":"1"},"a":1}"#);
    assert_eq!(
        append(&chained, "quorate", b"2"),
        &br#"{"quorate":2,"a":1}"#[..]
    );
    let mentioned = Bytes::from_static(br#"{"text":"a quorate meeting"}"#);
    assert_eq!(parse(&append(&mentioned, "quorate", b"2"))["quorate"], 2);
}

#[test]
fn the_last_of_several_values_is_the_one() {
    assert_eq!(
        get(br#"{"a":1,"b":{"a":3},"a": [2] }"#, "a"),
        Some(&b"[2]"[..])
    );
    assert_eq!(get(br#"{"b":{"a":3}}"#, "a"), None);
}

#[test]
fn what_is_no_object_is_left_alone() {
    for body in [
        &b"[1]"[..],
        b"",
        b"1",
        b"{\"a\"",
        b"{\"a\":",
        b"{\"a\":1",
        b"{1:2}",
        b"{\"a\"}",
        b"{,}",
        b"{\"a\":}",
    ] {
        assert_eq!(
            rewrite(body, &[("m", b"1")], &[]),
            None,
            "{}",
            String::from_utf8_lossy(body)
        );
    }
    assert_eq!(append(&Bytes::from_static(b"[1]"), "a", b"1"), &b"[1]"[..]);
}

proptest! {
    #[test]
    fn rewriting_bytes_is_editing_the_value(members in object(), pretty in any::<bool>(), keep in any::<bool>()) {
        let value = Value::Object(members.clone());
        let body = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        let remove: &[&str] = if keep { &[] } else { &["quorate", "user"] };
        let out = rewrite(&body, &[("model", br#""m""#), ("stream", b"true")], remove).unwrap();
        let mut edited = members;
        for key in remove {
            edited.remove(*key);
        }
        edited.insert("model".into(), json!("m"));
        edited.insert("stream".into(), json!(true));
        prop_assert_eq!(parse(&out), Value::Object(edited));
    }

    #[test]
    fn appending_bytes_is_inserting_into_the_value(members in object(), pretty in any::<bool>()) {
        let value = Value::Object(members.clone());
        let body = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        let mut edited = members;
        edited.insert("quorate".into(), json!({"a": 1}));
        prop_assert_eq!(parse(&append(&body.into(), "quorate", br#"{"a":1}"#)), Value::Object(edited));
    }

    #[test]
    fn getting_bytes_is_getting_from_the_value(members in object()) {
        let body = serde_json::to_vec(&members).unwrap();
        for (key, value) in &members {
            prop_assert_eq!(&parse(get(&body, key).unwrap()), value);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(prop_oneof![
        Just(b'{'), Just(b'}'), Just(b'"'), Just(b'\\'), Just(b':'), Just(b','), Just(b'['), Just(b']'),
        Just(b'a'), Just(b' '), any::<u8>()], 0..40)) {
        let _ = rewrite(&body, &[("a", b"1")], &["b"]);
        let _ = append(&body.clone().into(), "a", b"1");
        let _ = get(&body, "a");
    }
}
