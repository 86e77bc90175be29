//! One table, whose keys are taken out one by one so that what remains is unknown.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{Reader, hint, list};
use super::tree::{Node, Origin, Table, Value};
use super::{Env, units};

/// One table while its keys are taken out.
pub(super) struct Section<'a> {
    pub reader: &'a Reader<'a>,
    path: String,
    origin: Origin,
    entries: Table,
    asked: Vec<(&'static str, Option<Origin>)>,
}

impl<'a> Section<'a> {
    /// A table and where it is.
    pub fn new(reader: &'a Reader<'a>, path: String, origin: Origin, entries: Table) -> Self {
        Self {
            reader,
            path,
            origin,
            entries,
            asked: Vec::new(),
        }
    }

    /// Reads the table, then complains about the keys nobody asked for.
    pub fn read<T>(mut self, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let result = read(&mut self);
        for (key, node) in &self.entries {
            let known = || self.asked.iter().map(|(key, _)| *key);
            let message = format!(
                "unknown key{}; known: {}",
                hint(key, known()),
                list(known())
            );
            // An empty key is one too, and must be seen.
            let shown = if key.is_empty() { "''" } else { key };
            self.reader.fail(&node.origin, &self.key(shown), message);
        }
        result
    }

    fn below(&self, path: String, origin: &Origin, entries: Table) -> Section<'a> {
        Section::new(self.reader, path, origin.clone(), entries)
    }

    /// The dotted name of a key in here.
    pub fn key(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    /// Changes what the section is called in messages, once its name is known.
    pub fn rename(&mut self, path: &str) {
        path.clone_into(&mut self.path);
    }

    /// The environment that references and defaults look into.
    pub fn env(&self) -> &'a Env {
        self.reader.env
    }

    /// Whether a key is set, rightly or wrongly.
    pub fn given(&self, key: &str) -> bool {
        self.place(key).is_some() || self.entries.contains_key(key)
    }

    fn place(&self, key: &str) -> Option<&Origin> {
        self.asked
            .iter()
            .find(|(asked, _)| *asked == key)
            .and_then(|(_, origin)| origin.as_ref())
    }

    /// Complains about a key, at its place or at the section's if it is not set.
    pub fn fail(&self, key: &str, message: impl Into<String>) {
        self.reader.fail(
            self.place(key).unwrap_or(&self.origin),
            &self.key(key),
            message,
        );
    }

    /// Complains if the first is greater than the second.
    pub fn ordered(&self, low: (&str, Duration), high: (&str, Duration)) {
        if low.1 <= high.1 {
            return;
        }
        let key = if self.given(low.0) { low.0 } else { high.0 };
        let (low_value, high_value) = (units::show(low.1), units::show(high.1));
        let message = format!(
            "{} ({low_value}) is longer than {} ({high_value})",
            low.0, high.0
        );
        self.fail(key, message);
    }

    /// Reads a key that must be there.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Self, &'static str) -> Option<T>,
    ) -> Option<T> {
        let value = read(self, key);
        if !self.given(key) {
            self.fail(key, "is missing");
        }
        value
    }

    fn take(&mut self, key: &'static str) -> Option<Node> {
        let node = self.entries.remove(key);
        self.asked
            .push((key, node.as_ref().map(|node| node.origin.clone())));
        node
    }

    /// Reads a key, and complains in the words of `read`.
    pub fn get<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Self, &Node) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.take(key)?;
        read(self, &node)
            .map_err(|message| self.fail(key, message))
            .ok()
    }

    /// A table, read as empty if it is not there.
    pub fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let entries = self.get(key, |_, node| entries(node)).unwrap_or_default();
        let origin = self.place(key).unwrap_or(&self.origin);
        self.below(self.key(key), origin, entries).read(read)
    }

    /// A table that may be absent.
    pub fn table_if<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> Option<T> {
        let entries = self.get(key, |_, node| entries(node))?;
        let origin = self.place(key).unwrap_or(&self.origin);
        Some(self.below(self.key(key), origin, entries).read(read))
    }

    /// An array of tables, without those that cannot be read.
    pub fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        let items = self.get(key, |_, node| match &node.value {
            Value::List(items) => Ok(items.clone()),
            _ => Err(format!("must be an array of tables, [[{key}]]")),
        });
        self.each(key, &items.unwrap_or_default(), &mut read)
    }

    /// A list of so many tables, without those that cannot be read.
    pub fn counted_tables<T>(
        &mut self,
        key: &'static str,
        count: RangeInclusive<usize>,
        mut read: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let (from, to) = (count.start(), count.end());
        let items = self.get(key, |_, node| match &node.value {
            Value::List(items) if count.contains(&items.len()) => Ok(items.clone()),
            Value::List(items) => Err(format!(
                "must be a list of {from} to {to} tables, not {}",
                items.len()
            )),
            _ => Err(format!("must be a list of {from} to {to} tables")),
        })?;
        Some(self.each(key, &items, &mut read))
    }

    fn each<T>(
        &self,
        key: &str,
        items: &[Node],
        read: &mut impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        let mut found = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = self.key(&format!("{key}[{index}]"));
            match entries(item) {
                Ok(entries) => {
                    found.extend(self.below(path, &item.origin, entries).read(&mut *read));
                }
                Err(message) => self.reader.fail(&item.origin, &path, message),
            }
        }
        found
    }

    /// A list of at least one table or, for short, name, which `read` is handed.
    pub fn tables_or_names<T>(
        &mut self,
        key: &'static str,
        check: impl Fn(&str) -> Result<String, String>,
        mut read: impl FnMut(&mut Section<'_>, Option<String>) -> Option<T>,
    ) -> Vec<T> {
        let items = self.get(key, |_, node| match &node.value {
            Value::List(items) if !items.is_empty() => Ok(items.clone()),
            Value::List(_) => Err("is empty: at least one".to_owned()),
            _ => Err("must be a list of names or tables".to_owned()),
        });
        let mut found = Vec::new();
        for (index, item) in items.unwrap_or_default().iter().enumerate() {
            let path = self.key(&format!("{key}[{index}]"));
            let named = match &item.value {
                Value::Table(entries) => Ok((entries.clone(), None)),
                Value::Text(text) => check(text).map(|name| (Table::new(), Some(name))),
                other => Err(format!(
                    "must be a name or a table with a name, not {other}"
                )),
            };
            match named {
                Ok((entries, name)) => {
                    let section = self.below(path, &item.origin, entries);
                    found.extend(section.read(|section| read(section, name)));
                }
                Err(message) => self.reader.fail(&item.origin, &path, message),
            }
        }
        found
    }

    /// A table of tables whose keys the operator chooses.
    pub fn named_tables<T>(
        &mut self,
        key: &'static str,
        check: impl Fn(&str) -> Result<(), String>,
        mut read: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> BTreeMap<String, T> {
        let mut found = BTreeMap::new();
        for (name, node) in self.get(key, |_, node| entries(node)).unwrap_or_default() {
            let path = format!("{}.{name}", self.key(key));
            match check(&name).and_then(|()| entries(&node)) {
                Ok(entries) => {
                    let read = self.below(path, &node.origin, entries).read(&mut read);
                    found.extend(read.map(|value| (name, value)));
                }
                Err(message) => self.reader.fail(&node.origin, &path, message),
            }
        }
        found
    }
}

/// Never says what it found instead: it may be a secret in the wrong place.
pub(super) fn entries(node: &Node) -> Result<Table, String> {
    match &node.value {
        Value::Table(entries) => Ok(entries.clone()),
        _ => Err("must be a table".into()),
    }
}
