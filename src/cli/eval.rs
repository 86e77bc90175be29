//! `quorate eval`: recorded answers through the code that serves queries, measured.

mod ensemble;
mod files;
mod frontier;
mod generate;
mod measure;
mod range;
mod record;
mod route;

use clap::Subcommand;

use super::failure::Failure;
use super::global::Global;
use super::output::Output;

/// Replay recorded answers through the code that serves queries, and measure what comes out.
#[derive(Debug, clap::Args)]
pub struct Eval {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Measure an ensemble: learned on one recorded set, measured on another
    Ensemble(ensemble::Ensemble),
    /// Measure routing: queries drawn at random, feedback for the chosen model only
    Route(route::Route),
    /// Measure cost against accuracy of single models, cascades, votes and adaptive ensembles
    Frontier(frontier::Frontier),
    /// Turn the ledger of a daemon that keeps prompts into a recorded set
    Record(record::Record),
    /// Make a synthetic recorded set, with prices
    Generate(generate::Generate),
}

impl Eval {
    /// Measures.
    pub async fn run(self, global: &Global, out: Output) -> Result<(), Failure> {
        match self.action {
            Action::Ensemble(run) => run.run(out).await,
            Action::Route(run) => run.run(out).await,
            Action::Frontier(run) => run.run(out).await,
            Action::Record(run) => run.run(global, out),
            Action::Generate(run) => run.run(out),
        }
    }
}
