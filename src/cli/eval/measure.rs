//! What every measurement has: prices, a seed, a result to keep or to compare with; and paused time to run in.

use std::io::IsTerminal;
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use quorate::eval::compare;
use quorate::eval::prices::Prices;
use serde::Serialize;
use serde_json::Value;

use super::super::failure::Failure;
use super::super::output::Output;

#[derive(Debug, clap::Args)]
pub(super) struct Measure {
    /// What the models cost: TOML, "model" = { input = …, output = … } in dollars per million tokens
    #[arg(long, value_name = "FILE")]
    pub prices: Option<PathBuf>,
    /// What everything drawn comes from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Keep the result here as JSON, for a later run to be compared with
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Tell what changed since the result in this file, of the same command
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

impl Measure {
    /// What the models cost, if anybody said.
    pub fn prices(&self) -> Result<Option<Prices>, Failure> {
        let read =
            |path: &PathBuf| Prices::read(path).map_err(|error| Failure::query(error.to_string()));
        self.prices.as_ref().map(read).transpose()
    }

    /// The result to compare with, if there is to be one. It must have the field `mark`, by which the results of
    /// one command are known: those of two have nothing in common that could be compared.
    pub fn earlier(&self, mark: &str) -> Result<Option<Value>, Failure> {
        let Some(path) = &self.against else {
            return Ok(None);
        };
        let earlier = compare::read(path).map_err(|error| Failure::query(error.to_string()))?;
        if earlier.get(mark).is_none() {
            let path = path.display();
            let why = "is the result of another command: only this one's can be compared with it";
            return Err(Failure::usage(format!("--against {path}: {why}")));
        }
        Ok(Some(earlier))
    }

    /// Prints a result, keeps it where that is wanted, and tells what changed since an earlier one.
    pub fn finish(
        &self,
        result: &impl Serialize,
        shown: &str,
        earlier: Option<Value>,
        out: Output,
    ) -> Result<(), Failure> {
        let broken = |error: &dyn std::fmt::Display| Failure::query(error.to_string());
        let value = serde_json::to_value(result).map_err(|error| broken(&error))?;
        if let Some(path) = &self.out {
            std::fs::write(path, format!("{value:#}\n"))
                .map_err(|error| broken(&format!("{}: {error}", path.display())))?;
        }
        let changes = earlier.map(|before| compare::compare(&before, &value));
        if out.json {
            let mut value = value;
            if let (Some(changes), Value::Object(fields)) = (&changes, &mut value) {
                let changes = serde_json::to_value(changes).map_err(|error| broken(&error))?;
                fields.insert("changes".into(), changes);
            }
            return Ok(out.value(&value)?);
        }
        out.text(shown)?;
        for change in changes.iter().flat_map(|changes| &changes.changes) {
            out.line(change)?;
        }
        Ok(())
    }
}

/// What 1,000 questions cost, for people; nothing where nobody gave a price.
pub(super) fn cost(per_1000: Option<f64>, unpriced: &[String]) -> Option<String> {
    match per_1000 {
        Some(cost) => Some(format!("{cost:.3}")),
        None if unpriced.is_empty() => None,
        None => Some(format!("unknown: no price of {}", unpriced.join(", "))),
    }
}

/// Runs something under paused time, on a thread of its own, with a progress bar that the terminal sees.
pub(super) async fn paused<T: Send + 'static>(
    out: Output,
    work: impl FnOnce(&dyn Fn(usize, usize), &tokio::runtime::Runtime) -> quorate::Result<T>
    + Send
    + 'static,
) -> Result<T, Failure> {
    let bar = if out.watched && std::io::stderr().is_terminal() {
        ProgressBar::new(0)
    } else {
        ProgressBar::hidden()
    };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    let done = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        let runtime = runtime.map_err(|error| {
            quorate::Error::new(
                quorate::ErrorKind::Internal,
                format!("cannot start: {error}"),
            )
        })?;
        let told = |done: usize, total: usize| {
            if done.is_multiple_of(16) || done == total {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            }
        };
        let result = work(&told, &runtime);
        bar.finish_and_clear();
        result
    });
    let done = done
        .await
        .map_err(|error| Failure::query(format!("the run ended: {error}")))?;
    done.map_err(|error| {
        let field = error
            .param()
            .map(|param| format!("{param}: "))
            .unwrap_or_default();
        Failure::query(format!("{field}{}", error.message()))
    })
}
