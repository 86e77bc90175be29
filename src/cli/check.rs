//! `quorate check`: is the configuration right?

use quorate::Orchestrator;
use serde_json::json;

use super::failure::{Exit, Failure};
use super::global::Global;
use super::output::Output;

/// Check the configuration and report every mistake, one a line: the file's, the environment's and the
/// flags'.
#[derive(Debug, clap::Args)]
pub struct Check {}

impl Check {
    /// Reads it and says what was found.
    pub fn run(self, global: &Global, out: Output) -> Result<(), Failure> {
        let config = global.load()?;
        let mistakes = Orchestrator::mistakes(&config);
        if !mistakes.is_empty() {
            return Err(Failure::new(Exit::Config, mistakes.join("\n")));
        }
        let file = global.file().map(|path| path.display().to_string());
        let (providers, deployments) = (config.providers.len(), config.deployments().count());
        let (aliases, ensembles) = (config.models.len(), config.ensembles.len());
        if out.json {
            let found = json!({
                "file": file,
                "providers": providers,
                "deployments": deployments,
                "aliases": aliases,
                "ensembles": ensembles,
            });
            return Ok(out.value(&found)?);
        }
        let file = file.as_deref().unwrap_or("no file");
        Ok(out.line(format_args!(
            "{file}: no mistake; providers: {providers}, deployments: {deployments}, aliases: {aliases}, \
             ensembles: {ensembles}"
        ))?)
    }
}
