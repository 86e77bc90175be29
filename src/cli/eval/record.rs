//! `quorate eval record`: what a daemon was asked, as a recorded set.

use std::path::PathBuf;

use quorate::eval::ledger;
use quorate::eval::record::Recorded;
use quorate::ledger::Store;

use super::super::failure::Failure;
use super::super::global::Global;
use super::super::output::Output;
use super::files::write_records;
use super::range::count;

#[derive(Debug, clap::Args)]
pub(super) struct Record {
    /// The ledger; default: the configuration's
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Decisions at most, the latest
    #[arg(long, default_value_t = 100_000, value_parser = count(1..=10_000_000))]
    most: usize,
    /// Where the recorded set goes
    out: PathBuf,
}

impl Record {
    pub fn run(self, global: &Global, out: Output) -> Result<(), Failure> {
        let path = match self.ledger {
            Some(path) => Some(path),
            None => global.load()?.ledger.path,
        };
        let path =
            path.ok_or_else(|| Failure::usage("the ledger is off: name a file with --ledger"))?;
        let store = Store::look(&path).map_err(|error| Failure::query(error.to_string()))?;
        let rows = store
            .judged(self.most)
            .map_err(|error| Failure::query(error.to_string()))?;
        let records: Vec<Recorded> = rows
            .iter()
            .filter_map(|(row, score)| ledger::recorded(row, *score))
            .collect();
        if records.is_empty() {
            return Err(Failure::query(format!(
                "none of {} decisions kept its prompt and answers: set ledger.keep_prompts = true",
                rows.len()
            )));
        }
        write_records(&self.out, &records)?;
        let told = serde_json::json!({ "decisions": rows.len(), "recorded": records.len(), "file": self.out });
        if out.json {
            return Ok(out.value(&told)?);
        }
        let file = self.out.display();
        Ok(out.line(format_args!(
            "{} of {} decisions in {file}",
            records.len(),
            rows.len()
        ))?)
    }
}
