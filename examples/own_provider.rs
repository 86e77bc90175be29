//! A provider of the host's own, supervised like any other: `cargo run --example own_provider`.
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use quorate::provider::{Capabilities, Deployment, Limits, Timeouts};
use quorate::{Answer, Call, Config, Error, ErrorKind, Orchestrator, Outcome, Provider, Query};

/// Answers with the number of words it was asked with. It refuses questions without any.
struct WordCounter;

impl Provider for WordCounter {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Outcome, Error>> {
        Box::pin(async move {
            let question = call
                .query
                .messages
                .last()
                .map(|message| message.text())
                .unwrap_or_default();
            match question.split_whitespace().count() {
                0 => Err(Error::new(ErrorKind::Invalid, "there is nothing to count")),
                words => Ok(Outcome::Whole(Answer::text(words.to_string()))),
            }
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::parse(
        "[ledger]\npath = \"off\"\n",
        "embedded",
        std::env::vars(),
        &[],
    )?;
    let counter = Deployment {
        id: "host/word-counter".into(),
        model: "word-counter".into(),
        vendor: "host".into(),
        capabilities: Capabilities {
            tools: false,
            vision: false,
            ..Capabilities::default()
        },
        price: None,
        limits: Limits {
            max_in_flight: Some(2),
            ..Limits::default()
        },
        timeouts: Timeouts::default(),
        quality: None,
        family: None,
    };
    let orchestrator = Orchestrator::builder(config)
        .provider(counter, Arc::new(WordCounter))
        .start()
        .await?;
    let answer = orchestrator
        .ask(Query::new("host/word-counter", "how many words are these"))
        .await?;
    println!("{}", answer.content());
    let error = orchestrator
        .ask(Query::new("host/word-counter", ""))
        .await
        .map(|_| ());
    println!("{error:?}");
    orchestrator.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
