//! Faults of the daemon's surroundings and of its clients: whatever breaks around it, queries are answered or told
//! why not, nothing that is lent out leaks, and the daemon recovers by itself.
//!
//! `cargo test --test chaos_daemon` is the short form; `QUORATE_CHAOS=long` repeats more and lasts longer.
//! A test that needs what this machine does not give says so on standard error and passes.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod actors;
mod clients;
mod clock;
mod descriptors;
mod disk;
mod kill;
mod place;
mod providers;
mod reload;
mod soak;
#[path = "../../support/mod.rs"]
mod support;
mod upstream;

/// `short`, or `long` where QUORATE_CHAOS asks for the long form.
fn so_much<T>(short: T, long: T) -> T {
    if std::env::var("QUORATE_CHAOS").is_ok_and(|form| form == "long") {
        long
    } else {
        short
    }
}

/// Says past the test harness's capture that something is not shown on this machine.
fn skipped(what: &str, why: &str) {
    use std::io::Write;
    let _ = writeln!(
        std::io::stderr(),
        "\n*** SKIPPED, so not shown on this machine: {what}: {why}\n"
    );
}

/// A scripted provider with a model `m1`; `script` is TOML.
fn provider(name: &str, script: &str) -> String {
    format!(
        "[[providers]]\nname = \"{name}\"\nkind = \"scripted\"\nmodels = [\"m1\"]\nscript = {script}\n"
    )
}
