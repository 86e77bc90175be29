//! An answer as it arrives.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::signal::ctrl_c;
use tokio::time::{Instant, timeout};

use super::client::{Client, Event};
use super::failure::{Exit, Failure};
use super::output::Output;

/// How long a daemon may take to confirm that it has given up.
const CANCELLING: Duration = Duration::from_secs(2);

/// An answer, and what is known about it.
#[derive(Debug, Default)]
pub struct Reply {
    /// What was said.
    pub text: String,
    /// The last message of it: OpenAI's whole answer, or what ends a stream.
    pub result: Value,
    /// How it came about: the wire's `quorate` object.
    pub report: Value,
    /// Tokens, if they were counted: the wire's `usage`.
    pub usage: Value,
    /// Why it ended, in the wire's word.
    pub finish: Option<String>,
    /// From the question to the first word.
    pub first: Option<Duration>,
    /// From the question to the end.
    pub total: Duration,
    /// Whether Ctrl-C cut it.
    pub cancelled: bool,
}

/// Asks with `body`, as a stream (unless nobody asked can) or for the whole answer, and shows what is said as it
/// arrives, ended by a line break. Ctrl-C cancels the query, and what there is of an answer remains.
pub async fn receive(
    client: &mut Client,
    body: Value,
    stream: bool,
    out: Output,
) -> Result<Reply, Failure> {
    let mut reply = Reply::default();
    let received = if stream {
        let mut streamed = body.clone();
        streamed["stream"] = true.into();
        streamed["stream_options"] = json!({ "include_usage": true });
        match reply.follow(client, "stream", streamed, out).await {
            Err(failure) if cannot_stream(&failure) => reply.follow(client, "ask", body, out).await,
            received => received,
        }
    } else {
        reply.follow(client, "ask", body, out).await
    };
    if !reply.text.is_empty() && !reply.text.ends_with('\n') && !out.json {
        out.piece("\n")?;
    }
    received.map(|()| reply)
}

/// Whether nobody who is asked can stream: then the answer may still come whole.
pub fn cannot_stream(failure: &Failure) -> bool {
    failure
        .details
        .get("kind")
        .is_some_and(|kind| kind == "unsupported")
        && failure.message.contains("cannot do streaming")
}

impl Reply {
    async fn follow(
        &mut self,
        client: &mut Client,
        method: &str,
        body: Value,
        out: Output,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        let id = client.send(method, body).await?;
        let mut interrupt = std::pin::pin!(ctrl_c());
        loop {
            let event = tokio::select! {
                event = client.next(id) => event?,
                _ = &mut interrupt => {
                    self.cancelled = true;
                    self.total = started.elapsed();
                    client.cancel(id).await?;
                    let confirmed = async { while let Ok(Event::Chunk(_)) = client.next(id).await {} };
                    // Told or not, nobody waits for the answer any more.
                    let _ = timeout(CANCELLING, confirmed).await;
                    return Ok(());
                }
            };
            let (message, is_last) = match event {
                Event::Chunk(chunk) => (chunk, false),
                Event::Done(result) => (result, true),
            };
            self.take(&message, out)?;
            if self.first.is_none() && !self.text.is_empty() {
                self.first = Some(started.elapsed());
            }
            if is_last {
                self.total = started.elapsed();
                self.result = message;
                return Ok(());
            }
        }
    }

    /// Takes in a chunk, a whole answer, or what ends a stream, which may repeat the answer.
    fn take(&mut self, message: &Value, out: Output) -> Result<(), Failure> {
        for (field, known) in [("quorate", &mut self.report), ("usage", &mut self.usage)] {
            if let Some(value) = message.get(field).filter(|value| !value.is_null()) {
                *known = value.clone();
            }
        }
        let choice = &message["choices"][0];
        if let Some(finish) = choice["finish_reason"].as_str() {
            self.finish = Some(finish.to_owned());
        }
        let is_whole = choice.get("message").is_some();
        if is_whole && !self.text.is_empty() {
            return Ok(());
        }
        let said = if is_whole {
            &choice["message"]
        } else {
            &choice["delta"]
        };
        // Providers have two names for it, and some send both.
        let mut thoughts = ["reasoning_content", "reasoning"].into_iter();
        let thought = thoughts.find_map(|field| said[field].as_str());
        if let Some(thought) = thought.filter(|_| !out.json) {
            out.aside(thought);
        }
        for field in ["content", "refusal"] {
            let Some(piece) = said[field].as_str() else {
                continue;
            };
            self.text.push_str(piece);
            if !out.json {
                out.piece(piece)?;
            }
        }
        Ok(())
    }

    /// The reply, if nobody cut it.
    pub fn whole(self) -> Result<Self, Failure> {
        if self.cancelled {
            Err(Failure::silent(Exit::Interrupted))
        } else {
            Ok(self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if `--json` was given, which keeps the test's own output clean.
    const QUIET: Output = Output {
        json: true,
        terminal: false,
        watched: false,
    };

    #[test]
    fn a_stream_is_gathered_and_its_end_does_not_repeat_it() {
        let mut reply = Reply::default();
        for message in [
            json!({ "choices": [{ "delta": { "role": "assistant", "content": "" } }] }),
            json!({ "choices": [{ "delta": { "content": "Pa" } }], "usage": null }),
            json!({ "choices": [{ "delta": { "content": "ris" }, "finish_reason": "length" }] }),
            json!({ "choices": [], "usage": { "completion_tokens": 2 }, "quorate": { "model": "a/x" } }),
            json!({ "choices": [{ "message": { "content": "Paris" } }] }),
        ] {
            reply.take(&message, QUIET).unwrap();
        }
        assert_eq!(reply.text, "Paris");
        assert_eq!(reply.finish.as_deref(), Some("length"));
        assert_eq!(reply.usage["completion_tokens"], 2);
        assert_eq!(reply.report["model"], "a/x");
    }

    #[test]
    fn a_whole_answer_is_taken_at_once_and_a_refusal_is_an_answer() {
        let mut reply = Reply::default();
        let message = json!({ "choices": [{ "message": { "content": null, "refusal": "no" } }] });
        reply.take(&message, QUIET).unwrap();
        assert_eq!(reply.text, "no");
    }
}
