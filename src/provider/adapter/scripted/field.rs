//! Reading a script's fields, with errors that say where and what is allowed.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// A value and its place in the script, e.g. `by_call[1].fail.kind`.
pub(super) struct Field<'a> {
    pub path: String,
    pub value: &'a Value,
}

impl<'a> Field<'a> {
    pub(super) fn root(value: &'a Value) -> Self {
        Self {
            path: String::new(),
            value,
        }
    }

    pub(super) fn member(&self, name: &str, value: &'a Value) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self {
            path: format!("{}{dot}{name}", self.path),
            value,
        }
    }

    pub(super) fn item(&self, index: usize, value: &'a Value) -> Self {
        Self {
            path: format!("{}[{index}]", self.path),
            value,
        }
    }

    /// That the value is not what is `allowed`.
    pub(super) fn wrong(&self, allowed: &str) -> String {
        let path = if self.path.is_empty() {
            "script"
        } else {
            &self.path
        };
        format!("{path} must be {allowed}, not {}", self.value)
    }

    /// The value as an object with no fields but those named.
    pub(super) fn object(&self, names: &[&str]) -> Result<&'a Map<String, Value>, String> {
        let map = self
            .value
            .as_object()
            .ok_or_else(|| self.wrong("an object"))?;
        match map.keys().find(|name| !names.contains(&name.as_str())) {
            None => Ok(map),
            Some(name) => {
                let place = self.member(name, &Value::Null).path;
                Err(format!(
                    "{place} is no field of a script here: {}",
                    names.join(", ")
                ))
            }
        }
    }

    /// What `read` makes of a field of this object; `default` if it is missing or null.
    pub(super) fn get<T>(
        &self,
        name: &str,
        default: T,
        read: impl FnOnce(&Field<'a>) -> Result<T, String>,
    ) -> Result<T, String> {
        match self.value.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => read(&self.member(name, value)),
        }
    }

    pub(super) fn text(&self) -> Result<&'a str, String> {
        self.value.as_str().ok_or_else(|| self.wrong("a text"))
    }

    pub(super) fn flag(&self) -> Result<bool, String> {
        self.value
            .as_bool()
            .ok_or_else(|| self.wrong("true or false"))
    }

    pub(super) fn ratio(&self) -> Result<f64, String> {
        let ratio = self
            .value
            .as_f64()
            .filter(|ratio| (0.0..=1.0).contains(ratio));
        ratio.ok_or_else(|| self.wrong("a number from 0 to 1"))
    }

    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Result<u64, String> {
        let number = self.value.as_u64().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            self.wrong(&format!(
                "a whole number from {} to {}",
                range.start(),
                range.end()
            ))
        })
    }
}
