//! JSON answers: equal by structure, near by their fields.

use std::collections::BTreeMap;

use serde_json::Value;

use super::quantity;

/// The JSON value of an answer: all of it, what a fence holds, or the first object or list in the prose.
pub fn value(text: &str) -> Option<Value> {
    /// Where a value may begin is tried so often.
    const TRIES: usize = 8;
    let text = text.trim();
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let starts = text.match_indices(['{', '[']).map(|(at, _)| at).take(TRIES);
    for start in starts {
        let mut stream = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
        if let Some(Ok(value)) = stream.next()
            && (value.is_object() || value.is_array())
        {
            return Some(value);
        }
    }
    None
}

/// The value written with sorted keys, numbers by value, and without layout. Strings keep their case.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (key, value) in entries {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(values) => {
            out.push('[');
            for value in values {
                write(value, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Number(given) => {
            let text = given.to_string();
            out.push_str(&quantity::read(&text, None, false).unwrap_or(text));
        }
        Value::Null | Value::Bool(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}

/// Each leaf by its path, in the one way to write it. Empty objects and lists are leaves.
fn leaves(value: &Value) -> BTreeMap<String, String> {
    fn walk(value: &Value, path: &str, out: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, inner) in map {
                    walk(inner, &format!("{path}/{}", Value::from(key.as_str())), out);
                }
            }
            Value::Array(values) if !values.is_empty() => {
                for (at, inner) in values.iter().enumerate() {
                    walk(inner, &format!("{path}/{at}"), out);
                }
            }
            _ => {
                out.insert(path.to_owned(), canonical(value));
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(value, "", &mut out);
    out
}

/// How much two values agree, field by field: equal leaves as a share of all paths in either, 0..=1. 1 exactly
/// if their [`canonical`] forms are equal.
pub fn agreement(a: &Value, b: &Value) -> f64 {
    let (a, b) = (leaves(a), leaves(b));
    let equal = a
        .iter()
        .filter(|(path, leaf)| b.get(*path) == Some(*leaf))
        .count();
    let shared = a.keys().filter(|path| b.contains_key(*path)).count();
    equal as f64 / (a.len() + b.len() - shared) as f64
}

/// The value on which weighted voters agree most, field by field: of objects, the fields that more than half of
/// the weight has, each by the same rule; of all else, the heaviest value. Of equals, the earlier. `None`
/// without voters. Weights that are no positive number count as nothing.
pub fn consensus(voters: &[(&Value, f64)]) -> Option<Value> {
    let weight = |weight: f64| if weight > 0.0 { weight } else { 0.0 };
    let all: f64 = voters.iter().map(|(_, w)| weight(*w)).sum();
    let objects = voters.iter().filter(|(value, _)| value.is_object());
    let in_objects: f64 = objects.map(|(_, w)| weight(*w)).sum();
    if in_objects * 2.0 > all {
        let mut keys: Vec<&String> = Vec::new();
        for key in voters
            .iter()
            .filter_map(|(v, _)| v.as_object())
            .flat_map(|map| map.keys())
        {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let field = |key: &String| {
            let having: Vec<(&Value, f64)> = voters
                .iter()
                .filter_map(|(value, w)| Some((value.get(key)?, *w)))
                .collect();
            let weighs: f64 = having.iter().map(|(_, w)| weight(*w)).sum();
            let value = (weighs * 2.0 > in_objects).then(|| consensus(&having))??;
            Some((key.clone(), value))
        };
        return Some(Value::Object(keys.into_iter().filter_map(field).collect()));
    }
    let mut tally: Vec<(String, f64, &Value)> = Vec::new();
    for (value, w) in voters {
        let form = canonical(value);
        match tally.iter_mut().find(|(other, ..)| *other == form) {
            Some(entry) => entry.1 += weight(*w),
            None => tally.push((form, weight(*w), value)),
        }
    }
    let heaviest = tally
        .into_iter()
        .reduce(|best, next| if next.1 > best.1 { next } else { best });
    heaviest.map(|(.., value)| value.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_found_in_prose_and_fences() {
        for text in [
            "{\"a\": 1}",
            "```json\n{\"a\": 1.0}\n```",
            "Here [as asked] it is: {\"a\": 1} - enjoy {it}.",
        ] {
            assert_eq!(canonical(&value(text).unwrap()), "{\"a\":1,}", "{text}");
        }
        assert_eq!(value("{\"a\": "), None);
        assert_eq!(value("none"), None);
    }

    #[test]
    fn fields_agree_one_by_one() {
        let a = json!({"x": 1, "y": ["a", "b"], "z": {}});
        assert_eq!(
            agreement(&a, &json!({"z": {}, "y": ["a", "b"], "x": 1.0})),
            1.0
        );
        assert_eq!(
            agreement(&a, &json!({"x": 1, "y": ["a", "c"], "z": {}})),
            0.75
        );
        assert_eq!(agreement(&json!({"x": 1}), &json!({"y": 1})), 0.0);
        assert_eq!(agreement(&json!("X"), &json!("x")), 0.0);
    }

    #[test]
    fn the_consensus_takes_each_field_by_its_weight() {
        let (a, b, c) = (
            json!({"x": 1, "y": 2}),
            json!({"x": 1, "y": 3, "w": 0}),
            json!({"x": 5, "y": 3}),
        );
        let voters = [(&a, 1.0), (&b, 1.0), (&c, 1.0)];
        assert_eq!(consensus(&voters), Some(json!({"x": 1, "y": 3})));
        let weighted = [(&a, 1.0), (&b, 1.0), (&c, 2.5)];
        assert_eq!(consensus(&weighted), Some(c.clone()));
        assert_eq!(consensus(&[]), None);
        assert_eq!(
            consensus(&[(&json!([1, 2]), f64::NAN)]),
            Some(json!([1, 2]))
        );
    }
}
