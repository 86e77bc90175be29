//! What changed since an earlier result.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

const MAX_FILE: u64 = 64 << 20;
/// How deep a result nests.
const MAX_DEPTH: usize = 16;
/// Standard errors a difference must exceed to count as more than chance.
const BEYOND: f64 = 2.0;

/// Why an earlier result could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The file could not be read.
    #[error("result file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("result file {}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is allowed.
        reason: String,
    },
}

/// How a number changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Which: `accuracy`; within an object `shares.small`; in a list of things with a `label` or `name`
    /// `points[auto].cost`.
    pub field: String,
    /// Its value in the earlier result.
    pub before: f64,
    /// Its value in the later.
    pub after: f64,
    /// After less before.
    pub difference: f64,
    /// The standard error of the difference, `sqrt(before² + after²)`, where `<field>_se` is in both. As of
    /// independent runs: of the same questions asked again it is too large, and so on the careful side.
    pub standard_error: Option<f64>,
    /// Whether the difference exceeds two of them.
    pub beyond_chance: Option<bool>,
}

/// A text, truth value or list that is not what it was: the two results may not be of the same thing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Differing {
    /// Which.
    pub field: String,
    /// Its value in the earlier result.
    pub before: Value,
    /// Its value in the later.
    pub after: Value,
}

/// Two results side by side; everything is in order of the fields' names.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Every number that is in both, changed or not.
    pub changes: Vec<Change>,
    /// What is in both, is no number, and differs.
    pub differing: Vec<Differing>,
    /// Fields of the earlier result only.
    pub only_before: Vec<String>,
    /// Fields of the later result only.
    pub only_after: Vec<String>,
}

/// Reads an earlier result: one JSON object, as it was printed, of at most 64 MiB.
///
/// # Errors
///
/// If it cannot be read, or is no JSON object.
pub fn read(path: &Path) -> Result<Value, CompareError> {
    let io = |source| CompareError::Io {
        path: path.to_owned(),
        source,
    };
    let invalid = |reason| CompareError::Invalid {
        path: path.to_owned(),
        reason,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(invalid(format!("larger than the {MAX_FILE} bytes allowed")));
    }
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|error| invalid(format!("is not JSON: {error}")))?;
    if !value.is_object() {
        return Err(invalid("must be one JSON object, as it was printed".into()));
    }
    Ok(value)
}

/// Compares two results field by field. Standard errors (`accuracy_se` beside `accuracy`) are no changes of
/// their own. `null` counts as absent.
pub fn compare(before: &Value, after: &Value) -> Comparison {
    let (mut earlier, mut later) = (BTreeMap::new(), BTreeMap::new());
    flatten(before, String::new(), 0, &mut earlier);
    flatten(after, String::new(), 0, &mut later);
    let mut found = Comparison::default();
    for (field, &was) in &earlier {
        if is_error_of_another(field, &earlier) {
            continue;
        }
        let Some(&is) = later.get(field) else {
            found.only_before.push(field.clone());
            continue;
        };
        match (was.as_f64(), is.as_f64()) {
            (Some(was), Some(is)) => {
                let error = |fields: &Fields<'_>| fields.get(&format!("{field}_se"))?.as_f64();
                let errors = error(&earlier).zip(error(&later));
                found.changes.push(change(field.clone(), was, is, errors));
            }
            _ if was != is => found.differing.push(Differing {
                field: field.clone(),
                before: was.clone(),
                after: is.clone(),
            }),
            _ => {}
        }
    }
    let new = later
        .keys()
        .filter(|field| !earlier.contains_key(*field) && !is_error_of_another(field, &later));
    found.only_after = new.cloned().collect();
    found
}

fn change(field: String, before: f64, after: f64, errors: Option<(f64, f64)>) -> Change {
    let difference = after - before;
    let standard_error = errors.map(|(a, b)| a.hypot(b));
    Change {
        field,
        before,
        after,
        difference,
        standard_error,
        beyond_chance: standard_error.map(|error| difference.abs() > BEYOND * error),
    }
}

type Fields<'a> = BTreeMap<String, &'a Value>;

fn is_error_of_another(field: &str, fields: &Fields<'_>) -> bool {
    field
        .strip_suffix("_se")
        .is_some_and(|of| fields.contains_key(of))
}

fn flatten<'a>(value: &'a Value, path: String, depth: usize, into: &mut Fields<'a>) {
    let within = |name: &str| match path.as_str() {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    match value {
        Value::Null => {}
        Value::Object(fields) if depth < MAX_DEPTH => {
            for (name, value) in fields {
                flatten(value, within(name), depth + 1, into);
            }
        }
        Value::Array(items) if depth < MAX_DEPTH && named(items).is_some() => {
            for (name, item) in named(items).into_iter().flatten().zip(items) {
                flatten(item, format!("{path}[{name}]"), depth + 1, into);
            }
        }
        _ => {
            into.insert(path, value);
        }
    }
}

/// The names of a list's items, if each has one: then they can be told apart whatever their order.
fn named(items: &[Value]) -> Option<Vec<&str>> {
    let name = |item: &'_ Value| -> Option<usize> {
        ["label", "name"]
            .iter()
            .position(|key| item.get(key).is_some_and(Value::is_string))
    };
    if items.is_empty() {
        return None;
    }
    items
        .iter()
        .map(|item| {
            let key = ["label", "name"].get(name(item)?)?;
            item.get(key)?.as_str()
        })
        .collect()
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            before,
            after,
            difference,
            ..
        } = self;
        write!(f, "{field}: {before:.4} → {after:.4} ({difference:+.4}")?;
        match (self.standard_error, self.beyond_chance) {
            (Some(error), Some(true)) => write!(f, ", beyond 2 standard errors of {error:.4})"),
            (Some(error), _) => write!(f, ", within 2 standard errors of {error:.4})"),
            (None, _) => write!(f, ")"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_is_held_against_the_errors_of_both() {
        let before = json!({"accuracy": 80.0, "accuracy_se": 3.0, "calls": 3});
        for (after, beyond) in [(89.0, false), (90.0, false), (90.5, true), (69.5, true)] {
            let after = json!({"accuracy": after, "accuracy_se": 4.0, "calls": 2});
            let found = compare(&before, &after);
            assert_eq!(found.changes.len(), 2);
            assert_eq!(found.changes[0].standard_error, Some(5.0));
            assert_eq!(found.changes[0].beyond_chance, Some(beyond), "{after}");
            assert_eq!(found.changes[1].difference, -1.0);
            assert_eq!(found.changes[1].beyond_chance, None);
        }
    }

    #[test]
    fn fields_within_objects_and_named_lists_are_told_apart() {
        let before = json!({"shares": {"a": 0.5}, "points": [{"label": "x", "y": 1}, {"label": "z", "y": 5}]});
        let after = json!({"shares": {"a": 0.7}, "points": [{"label": "z", "y": 6}, {"label": "x", "y": 1}]});
        let found = compare(&before, &after);
        let lines: Vec<_> = found.changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "points[x].y: 1.0000 → 1.0000 (+0.0000)",
                "points[z].y: 5.0000 → 6.0000 (+1.0000)",
                "shares.a: 0.5000 → 0.7000 (+0.2000)",
            ]
        );
        assert!(found.differing.is_empty());
    }

    #[test]
    fn what_is_in_one_only_or_differs_otherwise_is_told() {
        let before = json!({"merge": "fitted", "gone": 1, "auroc": null, "x": 1, "lone_se": 1});
        let after = json!({"merge": "plurality", "new": 2, "auroc": 0.5, "x": "one"});
        let found = compare(&before, &after);
        assert_eq!(found.only_before, ["gone", "lone_se"]);
        assert_eq!(found.only_after, ["auroc", "new"]);
        let fields: Vec<_> = found.differing.iter().map(|it| it.field.as_str()).collect();
        assert_eq!(fields, ["merge", "x"]);
        assert!(found.changes.is_empty());
    }

    #[test]
    fn a_file_that_is_no_result_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("earlier.json");
        for (text, part) in [("[1]", "one JSON object"), ("{", "is not JSON")] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(
                error.contains(part) && error.contains("earlier.json"),
                "{error}"
            );
        }
        std::fs::write(&path, "{\"accuracy\": 1}").unwrap();
        assert_eq!(read(&path).unwrap(), json!({"accuracy": 1}));
        assert!(read(&folder.path().join("none.json")).is_err());
    }

    proptest! {
        #[test]
        fn a_result_has_not_changed_against_itself(
            fields in proptest::collection::btree_map("[a-z_.]{1,6}", -1e9..1e9f64, 0..9)
        ) {
            let value = json!(fields);
            let found = compare(&value, &value);
            prop_assert!(found.differing.is_empty() && found.only_before.is_empty());
            prop_assert!(found.only_after.is_empty());
            prop_assert!(found.changes.iter().all(|change| change.difference == 0.0));
        }
    }
}
