//! `quorate completions`: a completion script for a shell.

use clap_complete::{Shell, generate};

use super::failure::Failure;
use super::output::Output;

/// Print a completion script for a shell, to be sourced by it.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    /// Prints it.
    pub fn run(self, command: &mut clap::Command, out: Output) -> Result<(), Failure> {
        // Into memory first: the generator panics where it cannot write.
        let mut script = Vec::new();
        generate(self.shell, command, "quorate", &mut script);
        Ok(out.piece(&String::from_utf8_lossy(&script))?)
    }
}
