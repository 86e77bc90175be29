//! What a key may hold, each with its bounds and its complaint.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::{Reference, Target};
use super::section::{Section, entries};
use super::tree::{Node, Origin, Value};
use super::{Secret, units};

impl Section<'_> {
    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.get(key, |_, node| {
            node.value
                .flag()
                .ok_or_else(|| format!("must be true or false, not {}", node.value))
        })
    }

    /// An integer within a range.
    pub fn integer<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + Display,
    {
        self.get(key, |_, node| {
            let number = node
                .value
                .integer()
                .and_then(|number| T::try_from(number).ok());
            number
                .filter(|number| range.contains(number))
                .ok_or_else(|| {
                    let (from, to) = (range.start(), range.end());
                    format!("must be an integer from {from} to {to}, not {}", node.value)
                })
        })
    }

    /// A number within a range.
    pub fn float(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        self.get(key, |_, node| {
            node.value
                .float()
                .filter(|number| range.contains(number))
                .ok_or_else(|| {
                    let (from, to) = (range.start(), range.end());
                    format!("must be a number from {from} to {to}, not {}", node.value)
                })
        })
    }

    /// A duration within a range.
    pub fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.get(key, |_, node| {
            let duration = node.value.text().and_then(units::duration);
            duration
                .filter(|duration| range.contains(duration))
                .ok_or_else(|| {
                    let (from, to) = (units::show(*range.start()), units::show(*range.end()));
                    let wanted = format!("must be a duration from {from} to {to}, such as \"30s\"");
                    format!("{wanted}, not {}", node.value)
                })
        })
    }

    /// A size in bytes within a range.
    pub fn size(&mut self, key: &'static str, range: RangeInclusive<usize>) -> Option<usize> {
        self.get(key, |_, node| {
            let plain = node
                .value
                .integer()
                .and_then(|number| usize::try_from(number).ok());
            let worded = || usize::try_from(node.value.text().and_then(units::size)?).ok();
            plain
                .or_else(worded)
                .filter(|size| range.contains(size))
                .ok_or_else(|| {
                    let (from, to) = (range.start(), range.end());
                    let wanted =
                        format!("must be a size from {from} to {to} bytes, such as \"10MB\"");
                    format!("{wanted}, not {}", node.value)
                })
        })
    }

    /// Text that `check` accepts.
    pub fn text<T>(
        &mut self,
        key: &'static str,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.get(key, |_, node| check(text(node)?))
    }

    /// One of several words.
    pub fn choice<T: Copy, N: AsRef<str>>(
        &mut self,
        key: &'static str,
        all: impl IntoIterator<Item = T> + Clone,
        name: impl Fn(T) -> N,
    ) -> Option<T> {
        self.get(key, |_, node| {
            let is_it = |one: &T| node.value.text() == Some(name(*one).as_ref());
            all.clone().into_iter().find(is_it).ok_or_else(|| {
                let quoted = |one: T| format!("\"{}\"", name(one).as_ref());
                let allowed: Vec<String> = all.into_iter().map(quoted).collect();
                format!("must be one of {}, not {}", allowed.join(", "), node.value)
            })
        })
    }

    /// A path; in the file, relative to the file's directory.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.get(key, |section, node| section.resolve(node))
    }

    /// A path, or `"off"` for none.
    #[expect(
        clippy::option_option,
        reason = "not set and set to nothing are two things"
    )]
    pub fn path_or_off(&mut self, key: &'static str) -> Option<Option<PathBuf>> {
        self.get(key, |section, node| match node.value.text() {
            Some("off") => Ok(None),
            _ => section.resolve(node).map(Some),
        })
    }

    fn resolve(&self, node: &Node) -> Result<PathBuf, String> {
        let path = text(node)?;
        if path.is_empty() || path.contains('\0') {
            return Err("must be a path".into());
        }
        let beside = match node.origin {
            Origin::Line(_) => Path::new(self.reader.file).parent(),
            Origin::Layer(_) => None,
        };
        Ok(beside.unwrap_or(Path::new("")).join(path))
    }

    /// One name of something that must exist.
    pub fn name(&mut self, key: &'static str, target: Target) -> Option<String> {
        self.get(key, |section, node| section.refer(key, node, target))
    }

    /// A list of names of things that must exist, none twice.
    pub fn names(
        &mut self,
        key: &'static str,
        target: Target,
        count: RangeInclusive<usize>,
    ) -> Option<Vec<String>> {
        self.get(key, |section, node| {
            let items = match &node.value {
                Value::List(items) => items.clone(),
                Value::Untyped(text) => split(text, &node.origin),
                other => return Err(format!("must be a list of names, not {other}")),
            };
            if !count.contains(&items.len()) {
                let (from, to) = (count.start(), count.end());
                return Err(format!(
                    "must be a list of {from} to {to} names, not {}",
                    items.len()
                ));
            }
            let mut names: Vec<String> = Vec::new();
            for item in &items {
                let name = section.refer(key, item, target).and_then(|name| {
                    let twice = names.contains(&name);
                    if twice {
                        Err(format!("'{name}' is named twice"))
                    } else {
                        Ok(name)
                    }
                });
                match name {
                    Ok(name) => names.push(name),
                    Err(message) => section
                        .reader
                        .fail(&item.origin, &section.key(key), message),
                }
            }
            Ok(names)
        })
    }

    fn refer(&self, key: &str, node: &Node, target: Target) -> Result<String, String> {
        let name = text(node)?.to_owned();
        let origin = node.origin.clone();
        let reference = Reference {
            key: self.key(key),
            origin,
            name: name.clone(),
            target,
        };
        self.reader.refer(reference);
        Ok(name)
    }

    /// Any value, as JSON.
    pub fn json(&mut self, key: &'static str) -> Option<serde_json::Value> {
        self.get(key, |_, node| {
            node.value
                .json()
                .ok_or_else(|| "holds a number that JSON has not".to_owned())
        })
    }

    /// A secret.
    pub fn secret(&mut self, key: &'static str) -> Option<Secret> {
        self.get(key, Self::reveal)
    }

    /// A table of secrets; `check` gives each key the form it is kept in.
    pub fn secrets(
        &mut self,
        key: &'static str,
        check: impl Fn(&str) -> Result<String, String>,
    ) -> BTreeMap<String, Secret> {
        let mut secrets = BTreeMap::new();
        for (name, node) in self.get(key, |_, node| entries(node)).unwrap_or_default() {
            let read = check(&name).and_then(|name| Ok((name, self.reveal(&node)?)));
            match read {
                Ok((name, secret)) => {
                    secrets.insert(name, secret);
                }
                Err(message) => {
                    let key = self.key(&format!("{key}.{name}"));
                    self.reader.fail(&node.origin, &key, message);
                }
            }
        }
        secrets
    }

    /// Never says what it found: that may be the secret.
    fn reveal(&self, node: &Node) -> Result<Secret, String> {
        let wanted = || "must be a string, \"${NAME}\" or { file = \"…\" }".to_owned();
        match &node.value {
            Value::Text(text) => Secret::from_text(self.env(), text),
            Value::Table(table) if table.len() == 1 => {
                let file = table.get("file").ok_or_else(wanted)?;
                Secret::from_file(&self.resolve(file)?)
            }
            _ => Err(wanted()),
        }
    }
}

/// Whether `name` is 1 to 64 of `a-z0-9._-`.
pub(super) fn is_name(name: &str) -> bool {
    let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

fn text(node: &Node) -> Result<&str, String> {
    node.value
        .text()
        .ok_or_else(|| format!("must be a string, not {}", node.value))
}

fn split(text: &str, origin: &Origin) -> Vec<Node> {
    let item = |part: &str| Node {
        value: Value::Text(part.into()),
        origin: origin.clone(),
    };
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(item)
        .collect()
}
