//! Quorate inside a Rust program: `cargo run --example embed`.
//!
//! The provider is scripted, so that the example runs anywhere; put your own into the configuration.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::time::Duration;

use futures_util::StreamExt;
use quorate::{Config, Orchestrator, Query};

const CONFIG: &str = r#"
[ledger]
path = "off"
[[providers]]
name = "demo"
kind = "scripted"
models = ["parrot"]
script = { echo = true }
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::parse(CONFIG, "embedded", std::env::vars(), &[])?;
    let orchestrator = Orchestrator::builder(config).start().await?;

    let answer = orchestrator.ask(Query::new("auto", "Hello!")).await?;
    println!(
        "{} says: {}",
        answer.report.model.as_ref().map_or("?", |m| m.as_str()),
        answer.content()
    );

    let mut deltas = orchestrator
        .stream(Query::new("demo/parrot", "word by word"))
        .await?;
    while let Some(delta) = deltas.next().await {
        print!("{}|", delta?.content());
    }
    println!();
    orchestrator.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
