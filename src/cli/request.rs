//! From flags and prompts to the body of a request, as the OpenAI wire writes it.

use std::io::{IsTerminal, Read};
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use quorate::query::Lane;
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::failure::Failure;
use super::output::Output;

/// How long standard input may be silent until whoever waits is told why.
const SILENCE: Duration = Duration::from_secs(2);

/// How a question is to be answered.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Manner {
    /// Who answers: a deployment (groq/llama-3.3-70b), an alias, ensemble/NAME, or auto [default: auto]
    #[arg(short, long)]
    pub model: Option<String>,
    /// What to tell the model beforehand
    #[arg(short, long, value_name = "TEXT")]
    system: Option<String>,
    /// How urgent it is
    #[arg(long, value_parser = PossibleValuesParser::new(Lane::ALL.map(Lane::name)))]
    lane: Option<String>,
    /// Seconds after which the answer is worth nothing any more
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    deadline: Option<Duration>,
    /// The most tokens to generate
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: Option<u32>,
    /// How freely to choose words, from 0 to 2
    #[arg(long, value_name = "NUMBER", value_parser = temperature)]
    temperature: Option<f64>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let duration = text
        .parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let range = Duration::from_millis(1)..=Duration::from_secs(86_400);
    duration
        .filter(|duration| range.contains(duration))
        .ok_or_else(|| "must be a number of seconds from 0.001 to 86400".into())
}

fn temperature(text: &str) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|number| (0.0..=2.0).contains(number));
    number.ok_or_else(|| "must be a number from 0 to 2".into())
}

impl Manner {
    /// The body that asks for an answer to `turns`, which come after the system's word.
    pub fn body(&self, turns: &[Value]) -> Value {
        let system = self
            .system
            .iter()
            .map(|text| json!({ "role": "system", "content": text }));
        let messages: Vec<Value> = system.chain(turns.iter().cloned()).collect();
        let mut body = json!({
            "model": self.model.as_deref().unwrap_or("auto"),
            "messages": messages,
            "quorate": {},
        });
        set(&mut body, "max_tokens", self.max_tokens);
        set(&mut body, "temperature", self.temperature);
        let ours = &mut body["quorate"];
        set(ours, "lane", self.lane.as_deref());
        set(
            ours,
            "deadline_ms",
            self.deadline.map(|deadline| deadline.as_millis() as u64),
        );
        body
    }
}

/// Sets a field that has a value.
pub fn set(object: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object[key] = value.into();
    }
}

/// A user's turn: a text, and pictures by their URLs.
pub fn turn(prompt: &str, images: &[String]) -> Value {
    if images.is_empty() {
        return json!({ "role": "user", "content": prompt });
    }
    let images = images
        .iter()
        .map(|url| json!({ "type": "image_url", "image_url": { "url": url } }));
    let parts: Vec<Value> = std::iter::once(json!({ "type": "text", "text": prompt }))
        .chain(images)
        .collect();
    json!({ "role": "user", "content": parts })
}

/// What is asked: the words of the command line, and what was piped in after them.
pub fn prompt(words: &[String], piped: Option<&str>) -> Result<String, Failure> {
    let words = words.join(" ");
    let parts = [words.trim(), piped.unwrap_or_default().trim_end()];
    let said: Vec<&str> = parts
        .into_iter()
        .filter(|part| !part.trim().is_empty())
        .collect();
    if said.is_empty() {
        return Err(Failure::usage(
            "nothing is asked: give a prompt, or pipe one in",
        ));
    }
    Ok(said.join("\n\n"))
}

/// What was piped in; `None` if standard input is a terminal.
pub async fn piped(out: Output) -> Result<Option<String>, Failure> {
    if std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut reading = spawn_blocking(|| {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    });
    let read = match timeout(SILENCE, &mut reading).await {
        Ok(read) => read,
        Err(_) => {
            out.note("reading standard input to its end …");
            reading.await
        }
    };
    let bytes = read.map_err(std::io::Error::from).flatten();
    let bytes =
        bytes.map_err(|error| Failure::usage(format!("standard input cannot be read: {error}")))?;
    let text = String::from_utf8(bytes);
    text.map(Some)
        .map_err(|_| Failure::usage("standard input must be text in UTF-8; pictures go by --image"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_prompt_is_the_words_and_then_what_was_piped_in() {
        assert_eq!(
            prompt(&words("what is this?"), None).unwrap(),
            "what is this?"
        );
        assert_eq!(
            prompt(&words("sum up"), Some("  a\n b\n")).unwrap(),
            "sum up\n\n  a\n b"
        );
        assert_eq!(prompt(&[], Some("why?\n")).unwrap(), "why?");
        for nothing in [None, Some(""), Some(" \n")] {
            let failure = prompt(&[], nothing).unwrap_err();
            assert_eq!(failure.exit, crate::cli::failure::Exit::Usage);
        }
    }

    #[test]
    fn a_body_says_what_was_said_and_no_more() {
        let plain = Manner::default().body(&[turn("hi", &[])]);
        assert_eq!(plain["model"], "auto");
        assert_eq!(
            plain["messages"],
            json!([{ "role": "user", "content": "hi" }])
        );
        assert_eq!(plain.get("temperature"), None);
        assert_eq!(plain["quorate"], json!({}));
        let manner = Manner {
            model: Some("fast".into()),
            system: Some("be terse".into()),
            lane: Some("urgent".into()),
            deadline: Some(Duration::from_millis(1500)),
            max_tokens: Some(9),
            temperature: Some(0.0),
        };
        let body = manner.body(&[turn("hi", &[])]);
        assert_eq!(
            body["messages"][0],
            json!({ "role": "system", "content": "be terse" })
        );
        assert_eq!(
            (&body["max_tokens"], &body["temperature"]),
            (&json!(9), &json!(0.0))
        );
        assert_eq!(
            body["quorate"],
            json!({ "lane": "urgent", "deadline_ms": 1500 })
        );
    }

    #[test]
    fn pictures_follow_the_text() {
        let turn = turn("what?", &["https://x.test/a.png".into()]);
        assert_eq!(
            turn["content"][0],
            json!({ "type": "text", "text": "what?" })
        );
        assert_eq!(
            turn["content"][1]["image_url"]["url"],
            "https://x.test/a.png"
        );
    }
}
