//! The process's log, on standard error.

use std::io;

use quorate::config::{Format, Log};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use super::failure::{Exit, Failure};
use super::output::Output;

/// Installs the process's log; a library must not, so the command line does.
pub fn install(config: &Log, out: Output) -> Result<(), Failure> {
    // The actor system wraps every handler in a span of its own; ours say more. What the operator says of it
    // comes later and wins.
    let filter = EnvFilter::try_new(format!("ractor=warn,{}", config.level))
        .map_err(|error| Failure::new(Exit::Config, format!("log.level: {error}")))?;
    // Reports of internal errors go to the very stream that cannot be written.
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .log_internal_errors(false);
    let colours = out.watched && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines: Box<dyn Layer<_> + Send + Sync> = match config.format {
        Format::Text => lines.with_ansi(colours).boxed(),
        Format::Json => lines.json().boxed(),
    };
    let installed = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    installed.map_err(|error| Failure::query(format!("the log cannot be set up: {error}")))
}
