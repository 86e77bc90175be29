//! `quorate eval generate`: a recorded set that nobody recorded.

use std::collections::BTreeSet;
use std::path::PathBuf;

use quorate::eval::synthetic;

use super::super::failure::Failure;
use super::super::output::Output;
use super::files::{save, write_records};
use super::range::count;

#[derive(Debug, clap::Args)]
pub(super) struct Generate {
    /// Questions
    #[arg(long, default_value_t = 1000, value_parser = count(1..=synthetic::MAX_QUESTIONS))]
    questions: usize,
    /// Models
    #[arg(long, default_value_t = 6, value_parser = count(1..=synthetic::MAX_MODELS))]
    models: usize,
    /// What everything drawn comes from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write what the models cost here
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Where the recorded set goes; with --split, its first half, and the second to the file given there
    out: PathBuf,
    /// Where the second half goes
    #[arg(long, value_name = "FILE")]
    split: Option<PathBuf>,
}

impl Generate {
    pub fn run(self, out: Output) -> Result<(), Failure> {
        let files = [Some(&self.out), self.split.as_ref(), self.prices.as_ref()];
        let files = files.into_iter().flatten();
        let apart: BTreeSet<PathBuf> = files.clone().flat_map(std::path::absolute).collect();
        if apart.len() < files.count() {
            let message =
                "OUT, --split and --prices must be files of their own: one would overwrite another";
            return Err(Failure::usage(message));
        }
        let records = synthetic::generate(self.questions, self.models, self.seed);
        match &self.split {
            Some(second) => {
                let (first, rest) = records.split_at(records.len() / 2);
                write_records(&self.out, first)?;
                write_records(second, rest)?;
            }
            None => write_records(&self.out, &records)?,
        }
        if let Some(path) = &self.prices {
            save(path, &synthetic::prices(self.models).to_toml())?;
        }
        let models = synthetic::names(self.models).join(",");
        if out.json {
            let told = serde_json::json!({ "questions": records.len(), "models": models });
            return Ok(out.value(&told)?);
        }
        Ok(out.line(format_args!("{} questions to {models}", records.len()))?)
    }
}
