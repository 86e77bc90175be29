//! Whether a JSON value has the shape a schema asks for: a check of answers, not a validator.
//!
//! Checked are `type`, `enum`, `const`, `required`, `properties`, `additionalProperties: false`, `items`, `minItems`,
//! `maxItems`, `minimum`, `maximum`, `minLength`, `maxLength`, `anyOf`, `oneOf` (as `anyOf`), `allOf` and local `$ref`s.
//! Other words of JSON Schema are not looked at, so that a schema beyond these is never broken for being unknown.

use serde_json::{Map, Value};

/// How deep schemas and values are followed; beyond it everything fits.
const DEEPEST: usize = 48;
/// How many steps are taken; beyond it everything fits.
const STEPS: usize = 20_000;

/// Whether `value` fits `schema`; what is no schema fits everything. `Err` names the first place that does not fit, as
/// a path such as `/items/0/name`, empty for the whole.
pub fn fits(value: &Value, schema: &Value) -> Result<(), String> {
    let mut walk = Walk {
        root: schema,
        left: STEPS,
    };
    walk.fits(value, schema, &mut String::new(), DEEPEST)
}

struct Walk<'a> {
    root: &'a Value,
    left: usize,
}

impl Walk<'_> {
    fn fits(
        &mut self,
        value: &Value,
        schema: &Value,
        path: &mut String,
        depth: usize,
    ) -> Result<(), String> {
        let (Some(rules), true) = (schema.as_object(), depth > 0 && self.left > 0) else {
            return if *schema == Value::Bool(false) {
                Err(path.clone())
            } else {
                Ok(())
            };
        };
        self.left -= 1;
        if let Some(reference) = rules.get("$ref").and_then(Value::as_str) {
            let root = self.root;
            let target = reference
                .strip_prefix('#')
                .and_then(|pointer| root.pointer(pointer));
            if let Some(target) = target {
                self.fits(value, target, path, depth - 1)?;
            }
        }
        let typed = match rules.get("type") {
            Some(Value::String(name)) => is(value, name),
            Some(Value::Array(names)) => names
                .iter()
                .filter_map(Value::as_str)
                .any(|name| is(value, name)),
            _ => true,
        };
        let listed = rules
            .get("enum")
            .and_then(Value::as_array)
            .is_none_or(|all| all.iter().any(|one| equal(one, value)));
        let constant = rules.get("const").is_none_or(|one| equal(one, value));
        if !(typed && listed && constant && sized(value, rules)) {
            return Err(path.clone());
        }
        for (word, all) in [("anyOf", false), ("oneOf", false), ("allOf", true)] {
            let Some(parts) = rules.get(word).and_then(Value::as_array) else {
                continue;
            };
            let mut last = Ok(());
            for part in parts {
                last = self.fits(value, part, path, depth - 1);
                if last.is_ok() != all {
                    break;
                }
            }
            last?;
        }
        self.fields(value, rules, path, depth)?;
        if let (Some(values), Some(items)) = (value.as_array(), rules.get("items")) {
            for (at, inner) in values.iter().enumerate() {
                self.below(inner, items, path, &at.to_string(), depth)?;
            }
        }
        Ok(())
    }

    fn fields(
        &mut self,
        value: &Value,
        rules: &Map<String, Value>,
        path: &mut String,
        depth: usize,
    ) -> Result<(), String> {
        let Some(fields) = value.as_object() else {
            return Ok(());
        };
        let required = rules.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                return Err(format!("{path}/{name}"));
            }
        }
        let known = rules.get("properties").and_then(Value::as_object);
        let closed = rules.get("additionalProperties") == Some(&Value::Bool(false))
            && !rules.contains_key("patternProperties");
        for (name, inner) in fields {
            match known.and_then(|known| known.get(name)) {
                Some(schema) => self.below(inner, schema, path, name, depth)?,
                None if closed => return Err(format!("{path}/{name}")),
                None => {}
            }
        }
        Ok(())
    }

    fn below(
        &mut self,
        value: &Value,
        schema: &Value,
        path: &mut String,
        name: &str,
        depth: usize,
    ) -> Result<(), String> {
        let length = path.len();
        path.push('/');
        path.push_str(name);
        let fits = self.fits(value, schema, path, depth - 1);
        path.truncate(length);
        fits
    }
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        // 1.0 is an integer since draft 6.
        "integer" => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
        }
        _ => true,
    }
}

/// Numbers are equal by value.
fn equal(a: &Value, b: &Value) -> bool {
    a == b || a.is_number() && b.is_number() && a.as_f64() == b.as_f64()
}

fn sized(value: &Value, rules: &Map<String, Value>) -> bool {
    let within = |size: f64, least: &str, most: &str| {
        let bound = |word: &str| rules.get(word).and_then(Value::as_f64);
        bound(least).is_none_or(|least| size >= least)
            && bound(most).is_none_or(|most| size <= most)
    };
    match value {
        Value::Number(number) => number
            .as_f64()
            .is_none_or(|number| within(number, "minimum", "maximum")),
        Value::String(text) => within(text.chars().count() as f64, "minLength", "maxLength"),
        Value::Array(values) => within(values.len() as f64, "minItems", "maxItems"),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_fit_or_say_where_they_do_not() {
        let schema = json!({
            "type": "object",
            "required": ["name", "tags"],
            "additionalProperties": false,
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "age": {"type": ["integer", "null"], "minimum": 0},
                "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "maxItems": 2},
                "kind": {"enum": ["a", 1]},
                "size": {"anyOf": [{"type": "number"}, {"const": "big"}]},
            },
            "$defs": {"tag": {"type": "string"}},
        });
        let at = |value| fits(&value, &schema).err();
        assert_eq!(
            at(json!({"name": "x", "tags": ["t"], "age": null, "kind": 1.0, "size": "big"})),
            None
        );
        assert_eq!(at(json!({"name": "x"})).as_deref(), Some("/tags"));
        assert_eq!(
            at(json!({"name": "", "tags": []})).as_deref(),
            Some("/name")
        );
        assert_eq!(
            at(json!({"name": "x", "tags": ["t", 1]})).as_deref(),
            Some("/tags/1")
        );
        assert_eq!(
            at(json!({"name": "x", "tags": ["t", "t", "t"]})).as_deref(),
            Some("/tags")
        );
        assert_eq!(
            at(json!({"name": "x", "tags": [], "age": -1})).as_deref(),
            Some("/age")
        );
        assert_eq!(
            at(json!({"name": "x", "tags": [], "kind": "b"})).as_deref(),
            Some("/kind")
        );
        assert_eq!(
            at(json!({"name": "x", "tags": [], "size": "small"})).as_deref(),
            Some("/size")
        );
        assert_eq!(
            at(json!({"name": "x", "tags": [], "more": 1})).as_deref(),
            Some("/more")
        );
        assert_eq!(at(json!([])).as_deref(), Some(""));
        assert_eq!(fits(&json!(1), &json!("no schema")), Ok(()));
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"$ref": "#", "anyOf": [{"$ref": "#"}, {"$ref": "#"}]});
        assert_eq!(fits(&json!({"a": 1}), &schema), Ok(()));
    }
}
