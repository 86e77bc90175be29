//! The layers above the file: the environment, then the command line.

use super::reader::hint;
use super::tree::{Node, Origin, Table, Value};
use super::{ConfigError, Env};

/// The sections that these layers reach; the keys of all others are named by the operator, in which a
/// variable's name in upper case cannot follow.
pub const PLAIN: [&str; 6] = [
    "admission",
    "ledger",
    "log",
    "resilience",
    "routing",
    "server",
];

/// The sections that only the file has.
const FILE_ONLY: [&str; 5] = ["ensembles", "experiments", "keys", "models", "providers"];

/// Sets what `QUORATE_SECTION__KEY` variables say.
///
/// Variables without a double underscore, and those that begin with `QUORATE_SKIP_`, belong to others.
pub(super) fn environment(root: &mut Table, env: &Env, errors: &mut Vec<ConfigError>) {
    for (name, value) in env {
        let Some(path) = name.strip_prefix("QUORATE_") else {
            continue;
        };
        if path.starts_with("SKIP_") || !path.contains("__") {
            continue;
        }
        let path = path.to_ascii_lowercase().replace("__", ".");
        set(root, &path, value, name, errors);
    }
}

/// Sets what the command line says, each a dotted key and its value; the last one wins.
pub(super) fn overrides(
    root: &mut Table,
    overrides: &[(String, String)],
    errors: &mut Vec<ConfigError>,
) {
    for (key, value) in overrides {
        set(root, key, value, "command line", errors);
    }
}

fn set(root: &mut Table, path: &str, value: &str, layer: &str, errors: &mut Vec<ConfigError>) {
    let fail = |message: &str| ConfigError::new(layer, None, path, message);
    let section = path.split('.').next().unwrap_or_default();
    if FILE_ONLY.contains(&section) {
        errors.push(fail(&format!("{section} can be set only in the file")));
        return;
    }
    if !PLAIN.contains(&section) {
        let (hint, known) = (hint(section, PLAIN), PLAIN.join(", "));
        errors.push(fail(&format!(
            "unknown section '{section}'{hint}; known: {known}"
        )));
        return;
    }
    let origin = Origin::Layer(layer.into());
    if !insert(root, path, Value::Untyped(value.to_owned()), &origin) {
        errors.push(fail("is below a key that is no table"));
    }
}

/// Puts a value at a dotted path; `false` if a value is in the way.
fn insert(table: &mut Table, path: &str, value: Value, origin: &Origin) -> bool {
    let node = |value| Node {
        value,
        origin: origin.clone(),
    };
    let Some((first, rest)) = path.split_once('.') else {
        table.insert(path.to_owned(), node(value));
        return true;
    };
    let below = table
        .entry(first.to_owned())
        .or_insert_with(|| node(Value::Table(Table::new())));
    match &mut below.value {
        Value::Table(inner) => insert(inner, rest, value, origin),
        _ => false,
    }
}
