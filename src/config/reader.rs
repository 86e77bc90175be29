//! Gathers mistakes, and looks up names once all are known.
//!
//! Nothing stops at a mistake: it is noted with its place, whoever reads goes on with a default, and
//! [`Reader::finish`] hands out either the configuration or every mistake.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::section::Section;
use super::tree::{Origin, Table};
use super::{ConfigError, ConfigErrors, Env, units};

/// At most this many names are listed in a message.
const LISTED: usize = 20;

/// What is common to all sections: where they come from, and what was wrong in them.
pub(super) struct Reader<'a> {
    pub file: &'a str,
    pub env: &'a Env,
    errors: RefCell<Vec<ConfigError>>,
    references: RefCell<Vec<Reference>>,
}

/// What a name may refer to, each more than the one before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// `provider/model`.
    Deployment,
    /// That, or an alias.
    Model,
    /// That, or `auto`.
    Single,
    /// That, or an ensemble.
    Any,
}

/// A name to be looked up once everything is known.
pub(super) struct Reference {
    pub key: String,
    pub origin: Origin,
    pub name: String,
    pub target: Target,
}

impl<'a> Reader<'a> {
    pub fn new(file: &'a str, env: &'a Env, errors: Vec<ConfigError>) -> Self {
        Self {
            file,
            env,
            errors: errors.into(),
            references: RefCell::default(),
        }
    }

    /// Reads the whole tree.
    pub fn read<T>(&self, root: Table, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        Section::new(self, String::new(), Origin::Line(1), root).read(read)
    }

    /// Notes a mistake.
    pub fn fail(&self, origin: &Origin, key: &str, message: impl Into<String>) {
        let (file, line) = match origin {
            Origin::Line(line) => (self.file, Some(*line)),
            Origin::Layer(layer) => (&**layer, None),
        };
        let error = ConfigError::new(file, line, key, &message.into());
        self.errors.borrow_mut().push(error);
    }

    /// Notes a name that must exist in the end.
    pub fn refer(&self, reference: Reference) {
        self.references.borrow_mut().push(reference);
    }

    /// Complains about every name that refers to nothing.
    pub fn check_references(
        &self,
        deployments: &BTreeSet<String>,
        aliases: &BTreeSet<String>,
        ensembles: &BTreeSet<String>,
    ) {
        let auto = "auto".to_owned();
        for reference in self.references.borrow().iter() {
            let name = &reference.name;
            let reach = reference.target;
            let offered = || {
                let aliases = aliases.iter().filter(|_| reach >= Target::Model);
                let auto = Some(&auto).filter(|_| reach >= Target::Single);
                let ensembles = ensembles.iter().filter(|_| reach >= Target::Any);
                deployments
                    .iter()
                    .chain(aliases)
                    .chain(auto)
                    .chain(ensembles)
            };
            if offered().any(|known| known == name) {
                continue;
            }
            let wrong = match reference.target {
                Target::Deployment => format!("no provider offers '{name}'"),
                Target::Model => format!("'{name}' is neither a deployment nor an alias"),
                Target::Single => format!("'{name}' is no deployment, alias or 'auto'"),
                Target::Any => format!("'{name}' is no deployment, alias, ensemble or 'auto'"),
            };
            let hint = hint(name, offered().map(String::as_str));
            let message = format!("{wrong}{hint}; offered: {}", list(offered()));
            self.fail(&reference.origin, &reference.key, message);
        }
    }

    /// What was read if nothing was wrong, or else all that was, by line.
    pub fn finish<T>(self, read: T) -> Result<T, ConfigErrors> {
        let mut errors = self.errors.into_inner();
        if errors.is_empty() {
            return Ok(read);
        }
        errors.sort_by_key(|error| error.line.unwrap_or(usize::MAX));
        Err(ConfigErrors(errors))
    }
}

/// Asks whether another word was meant.
pub(super) fn hint<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    units::meant(word, known).map_or(String::new(), |known| format!("; did you mean '{known}'?"))
}

/// Names as a message lists them.
pub(super) fn list<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let mut names = names.into_iter();
    let mut listed: Vec<String> = names
        .by_ref()
        .take(LISTED)
        .map(|name| name.as_ref().to_owned())
        .collect();
    if names.next().is_some() {
        listed.push("…".into());
    }
    if listed.is_empty() {
        "nothing".into()
    } else {
        listed.join(", ")
    }
}
