//! `quorate ask`: one question, one answer.

use clap::builder::PossibleValuesParser;
use quorate::ensembler::merge::Strategy;
use serde_json::{Value, json};

use super::connection::Connection;
use super::failure::Failure;
use super::global::Global;
use super::output::Output;
use super::request::{self, Manner};
use super::{explain, footer, image, reply};

/// Ask one question.
///
/// The answer goes to standard output as it arrives, and what is told about it to standard error. Standard
/// input is read too unless it is a terminal, and follows the prompt.
#[derive(Debug, clap::Args)]
pub struct Ask {
    /// The question; its words are joined by spaces
    prompt: Vec<String>,
    #[command(flatten)]
    manner: Manner,
    /// Ask several and merge their answers: deployments or aliases, or the name of one ensemble
    #[arg(
        short,
        long,
        value_name = "A,B,C",
        value_delimiter = ',',
        conflicts_with = "model"
    )]
    ensemble: Vec<String>,
    /// How an ensemble's answers become one
    #[arg(long, value_parser = PossibleValuesParser::new(Strategy::ALL.map(Strategy::name)))]
    merge: Option<String>,
    /// How many of an ensemble must have answered
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=32))]
    quorum: Option<u32>,
    /// A picture to go with the question: a PNG, JPEG, GIF or WebP file, or a URL; repeatable
    #[arg(short, long, value_name = "FILE|URL")]
    image: Vec<String>,
    /// Tell who would be asked, and why, without asking
    #[arg(long)]
    explain: bool,
    /// Show the answer as a whole once it is there, as it is if nobody asked can stream
    #[arg(long)]
    no_stream: bool,
}

impl Ask {
    /// Asks, shows, and tells.
    pub async fn run(self, global: &Global, out: Output) -> Result<(), Failure> {
        let body = self.body(request::piped(out).await?.as_deref())?;
        let mut connection = Connection::open(global, out).await?;
        let done = self.answer(&mut connection, body, out).await;
        connection.close().await;
        done
    }

    async fn answer(
        &self,
        connection: &mut Connection,
        body: Value,
        out: Output,
    ) -> Result<(), Failure> {
        let client = &mut connection.client;
        let stream = !self.no_stream && !out.json;
        if self.explain {
            let plan = explain::ask(client, body, stream).await?;
            if out.json {
                out.value(&plan)?;
            } else {
                out.text(&explain::plan(&plan))?;
            }
            return Ok(());
        }
        let reply = reply::receive(client, body, stream, out).await?.whole()?;
        if out.json {
            out.value(&reply.result)?;
        } else {
            out.note(footer::lines(&reply).join("\n"));
        }
        Ok(())
    }

    fn body(&self, piped: Option<&str>) -> Result<Value, Failure> {
        let prompt = request::prompt(&self.prompt, piped)?;
        let turn = request::turn(&prompt, &image::urls(&self.image)?);
        let mut body = self.manner.body(&[turn]);
        match self.ensemble.as_slice() {
            [] => {}
            [name] if !name.contains('/') => body["model"] = format!("ensemble/{name}").into(),
            [name] if name.starts_with("ensemble/") => body["model"] = name.as_str().into(),
            members => body["quorate"]["ensemble"] = json!(members),
        }
        request::set(&mut body["quorate"], "merge", self.merge.as_deref());
        request::set(&mut body["quorate"], "quorum", self.quorum);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        ask: Ask,
    }

    fn body(line: &str) -> Value {
        Line::parse_from(line.split(' ')).ask.body(None).unwrap()
    }

    #[test]
    fn one_name_is_a_configured_ensemble_and_several_are_members() {
        let named = body("ask --ensemble panel --merge weighted hello there");
        assert_eq!(named["model"], "ensemble/panel");
        assert_eq!(named["quorate"], json!({ "merge": "weighted" }));
        assert_eq!(named["messages"][0]["content"], "hello there");

        assert_eq!(body("ask -e ensemble/panel hi")["model"], "ensemble/panel");

        let several = body("ask -e a/x,b/y,fast --quorum 2 hello");
        assert_eq!(several["model"], "auto");
        assert_eq!(
            several["quorate"],
            json!({ "ensemble": ["a/x", "b/y", "fast"], "quorum": 2 })
        );
    }
}
