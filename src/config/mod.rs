//! What the operator writes: one file per section, every default beside its field.
//!
//! A configuration is built in layers, each of which overrides the one before: the defaults, a TOML
//! file, the environment (`QUORATE_ADMISSION__PER_USER=5`: section and key in upper case, a double
//! underscore between levels) and overrides from the command line (`admission.per_user` = `5`). The
//! last two reach the keys of the plain sections; providers, models, ensembles and keys are the
//! file's alone. Every mistake in every layer is collected and reported at once, with its place and
//! with what would be right.
//!
//! - [`Config`]: all of it, checked; [`Config::load`] and [`Config::parse`] make one.
//! - `tree`: a TOML document that knows where each value was written; `layers` sets the others on top.
//! - `reader`: gathers mistakes, and looks up names once all are known.
//! - `section`: one table, whose keys are taken out one by one so that what remains is unknown.
//! - `values`: what a key may hold, each with its bounds and its complaint.
//! - `units`: durations and sizes as an operator writes them.
//! - [`presets`]: vendors and local servers that need no more than a key.
//! - [`Secret`]: a credential that shows itself to nobody.

mod admission;
mod ensembles;
mod experiments;
mod keys;
mod layers;
mod ledger;
mod log;
mod models;
pub mod presets;
mod provider;
mod reader;
mod resilience;
mod routing;
mod secret;
mod section;
mod server;
#[cfg(test)]
mod tests;
mod tree;
mod units;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::provider::deployment::Deployment;

pub use admission::Admission;
pub use ensembles::{Aim, DEFAULT_STOP, Ensemble};
pub use experiments::{Experiment, ExperimentVariant};
pub use keys::Key;
pub use layers::PLAIN;
pub use ledger::Ledger;
pub use log::{Format, Log};
pub use models::{Alias, Order};
pub use provider::{Kind, ModelConfig, ProviderConfig};
pub use resilience::Resilience;
pub use routing::Routing;
pub use secret::Secret;
pub use server::Server;
pub(crate) use server::uid;

use reader::Reader;
use section::Section;

/// Environment variables by name.
type Env = BTreeMap<String, String>;

/// Everything an operator can say, checked as a whole: every name a section refers to exists, every
/// value is within its bounds, every secret was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[server]`: the doors and their limits.
    pub server: Server,
    /// `[[keys]]`: who may enter over HTTP; nobody is asked for a key if there is none.
    pub keys: Vec<Key>,
    /// `[admission]`: how much at once, and who waits.
    pub admission: Admission,
    /// `[routing]`: what a good choice is.
    pub routing: Routing,
    /// `[resilience]`: what is done about failure.
    pub resilience: Resilience,
    /// `[ledger]`: what is remembered, and for how long.
    pub ledger: Ledger,
    /// `[log]`: what is logged, and how.
    pub log: Log,
    /// `[[providers]]`, in the order they are written.
    pub providers: Vec<ProviderConfig>,
    /// `[models.<name>]`: aliases by name.
    pub models: BTreeMap<String, Alias>,
    /// `[ensembles.<name>]`: ensembles by name.
    pub ensembles: BTreeMap<String, Ensemble>,
    /// `[experiments.<name>]`: experiments by name.
    pub experiments: BTreeMap<String, Experiment>,
}

impl Default for Config {
    /// The defaults of every section, and no provider. Socket and ledger lie where this process's
    /// environment says.
    fn default() -> Self {
        Self::defaults(&environment().collect())
    }
}

impl Config {
    fn defaults(env: &Env) -> Self {
        Self {
            server: Server::defaults(env),
            keys: Vec::new(),
            admission: Admission::default(),
            routing: Routing::default(),
            resilience: Resilience::default(),
            ledger: Ledger::defaults(env),
            log: Log::default(),
            providers: Vec::new(),
            models: BTreeMap::new(),
            ensembles: BTreeMap::new(),
            experiments: BTreeMap::new(),
        }
    }

    /// Reads a configuration from a file, or from the other layers alone if there is none.
    ///
    /// `env` is usually [`environment`]; `overrides` are dotted keys with their values. Relative paths
    /// in the file are relative to its directory, those of the other layers to the working directory.
    ///
    /// # Errors
    ///
    /// All mistakes there are.
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Self, ConfigErrors> {
        let Some(path) = file else {
            return Self::parse("", "", env, overrides);
        };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let message = format!("cannot be read: {error}");
            ConfigErrors(vec![ConfigError::new(&name, None, "", &message)])
        })?;
        Self::parse(&text, &name, env, overrides)
    }

    /// Reads a configuration from TOML text; `name` is the path it goes by in error messages, and its
    /// directory is what relative paths are relative to.
    ///
    /// # Errors
    ///
    /// All mistakes there are.
    pub fn parse(
        text: &str,
        name: &str,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Self, ConfigErrors> {
        let env: Env = env.into_iter().collect();
        let mut root = tree::document(text).map_err(|errors| ConfigErrors::syntax(name, errors))?;
        let mut errors = Vec::new();
        layers::environment(&mut root, &env, &mut errors);
        layers::overrides(&mut root, overrides, &mut errors);

        let reader = Reader::new(name, &env, errors);
        let config = reader.read(root, Self::read);
        let offered = config
            .deployments()
            .map(|deployment| deployment.id.to_string())
            .collect();
        let aliases = config.models.keys().cloned().collect();
        let ensembles = config.ensembles.keys();
        let ensembles = ensembles.map(|name| format!("ensemble/{name}")).collect();
        reader.check_references(&offered, &aliases, &ensembles);
        reader.finish(config)
    }

    fn read(root: &mut Section<'_>) -> Self {
        let keys = keys::read(root);
        let resilience = Resilience::read(root);
        let mut config = Self {
            server: Server::read(root, !keys.is_empty()),
            keys,
            admission: Admission::read(root),
            routing: Routing::read(root),
            ledger: Ledger::read(root),
            log: Log::read(root),
            providers: provider::read(root, &resilience),
            resilience,
            models: models::read(root),
            ensembles: ensembles::read(root),
            experiments: BTreeMap::new(),
        };
        config.experiments = experiments::read(root, &config.ensembles);
        config
    }

    /// Every deployment of every provider, in the order of the configuration.
    pub fn deployments(&self) -> impl Iterator<Item = Deployment> {
        self.providers.iter().flat_map(ProviderConfig::deployments)
    }
}

/// This process's environment, without the variables that are not UTF-8.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// A directory that the environment names. The XDG base directory specification has relative ones
/// ignored.
fn directory(env: &Env, name: &str) -> Option<PathBuf> {
    env.get(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

/// One mistake, its place and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigError {
    /// The file as it was named, the environment variable, or `command line`.
    pub file: String,
    /// The line within the file, from 1; `None` in other layers.
    pub line: Option<usize>,
    /// The dotted key, e.g. `admission.per_user`; empty if the mistake is not about a key.
    pub key: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl ConfigError {
    /// Names, keys and values come from outside; a line break in one must not make two errors of one.
    fn new(file: &str, line: Option<usize>, key: &str, message: &str) -> Self {
        let printable = |text: &str| text.replace(char::is_control, "\u{fffd}");
        Self {
            file: printable(file),
            line,
            key: printable(key),
            message: printable(message),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Every mistake in a configuration, at least one, by line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    fn syntax(file: &str, errors: Vec<tree::SyntaxError>) -> Self {
        let error = |(line, message)| {
            ConfigError::new(
                file,
                Some(line),
                "",
                &format!("is no valid TOML: {message}"),
            )
        };
        Self(errors.into_iter().map(error).collect())
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
