//! `quorate chat`: a conversation.

use std::io::IsTerminal;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin, stdin};
use tokio::signal::ctrl_c;

use super::connection::Connection;
use super::failure::{Exit, Failure};
use super::global::Global;
use super::output::Output;
use super::request::{self, Manner};
use super::{footer, reply};

const HELP: &str = "/model [NAME]  show or choose who answers
/reset         forget the conversation
/quit          leave (or Ctrl-D)
Ctrl-C         cut the answer that is running, or else leave";

/// Talk with a model.
///
/// Commands: /model [NAME], /reset, /help, /quit. Ctrl-C cuts a running answer; without one it leaves.
/// Lines may be piped in: then the exit code is that of the last question that failed, if one did.
#[derive(Debug, clap::Args)]
pub struct Chat {
    #[command(flatten)]
    manner: Manner,
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Say(&'a str),
    Model(&'a str),
    Reset,
    Help,
    Quit,
    Unknown(&'a str),
    Nothing,
}

impl<'a> From<&'a str> for Line<'a> {
    fn from(line: &'a str) -> Self {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        match word {
            "" => Self::Nothing,
            "/model" => Self::Model(rest.trim()),
            "/reset" => Self::Reset,
            "/help" => Self::Help,
            "/quit" | "/exit" => Self::Quit,
            // A path is no command.
            _ if word.starts_with('/') && !word[1..].contains('/') => Self::Unknown(word),
            _ => Self::Say(line),
        }
    }
}

impl Chat {
    /// Talks until whoever talks leaves.
    pub async fn run(self, global: &Global, out: Output) -> Result<(), Failure> {
        if out.json {
            return Err(Failure::usage(
                "chat is for people: a program uses 'ask --json' or the socket",
            ));
        }
        let mut connection = Connection::open(global, out).await?;
        let done = self.talk(&mut connection, out).await;
        connection.close().await;
        done
    }

    async fn talk(mut self, connection: &mut Connection, out: Output) -> Result<(), Failure> {
        let mut lines = BufReader::new(stdin()).lines();
        let mut turns = Vec::new();
        let mut failed = None;
        if out.watched {
            out.note("/help tells what there is");
        }
        while let Some(line) = next(&mut lines, out).await? {
            match Line::from(line.as_str()) {
                Line::Nothing => {}
                Line::Quit => break,
                Line::Help => out.note(HELP),
                Line::Unknown(word) => out.note(format_args!("{word} is no command\n{HELP}")),
                Line::Reset => {
                    turns.clear();
                    out.note("forgotten");
                }
                Line::Model("") => out.note(self.manner.model.as_deref().unwrap_or("auto")),
                Line::Model(name) => self.manner.model = Some(name.to_owned()),
                Line::Say(text) => {
                    let exit = self.say(text, &mut turns, connection, out).await?;
                    failed = exit.or(failed);
                }
            }
        }
        // Whoever types has seen it and gone on.
        match failed.filter(|_| !std::io::stdin().is_terminal()) {
            Some(exit) => Err(Failure::silent(exit)),
            None => Ok(()),
        }
    }

    /// One turn of each. A question that failed is forgotten, so that it can be put again; how it failed is told.
    async fn say(
        &self,
        text: &str,
        turns: &mut Vec<Value>,
        connection: &mut Connection,
        out: Output,
    ) -> Result<Option<Exit>, Failure> {
        turns.push(request::turn(text, &[]));
        let body = self.manner.body(turns);
        match reply::receive(&mut connection.client, body, true, out).await {
            Ok(reply) => {
                if reply.text.is_empty() {
                    turns.pop();
                } else {
                    turns.push(json!({ "role": "assistant", "content": reply.text }));
                }
                if reply.cancelled {
                    out.note("cut");
                } else if out.watched {
                    out.note(footer::lines(&reply).join("\n"));
                }
                Ok(None)
            }
            // Without a connection nothing more can be said, without a reader nothing be heard.
            Err(failure) if failure.is_final() => Err(failure),
            Err(failure) => {
                turns.pop();
                Ok(Some(out.failed(&failure)))
            }
        }
    }
}

/// The next line, or nothing at the end of the input. Ctrl-C leaves.
async fn next(lines: &mut Lines<BufReader<Stdin>>, out: Output) -> Result<Option<String>, Failure> {
    out.aside("> ");
    tokio::select! {
        line = lines.next_line() => {
            let line = line.map_err(|error| Failure::usage(format!("standard input: {error}")))?;
            if line.is_none() && out.watched {
                out.note("");
            }
            Ok(line)
        }
        _ = ctrl_c() => {
            out.note("");
            Err(Failure::silent(Exit::Interrupted))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_command_or_something_to_say() {
        assert_eq!(Line::from(" /model  groq/x "), Line::Model("groq/x"));
        assert_eq!(Line::from("/model"), Line::Model(""));
        assert_eq!(Line::from("/quit"), Line::Quit);
        assert_eq!(Line::from("/quti"), Line::Unknown("/quti"));
        assert_eq!(
            Line::from("/etc/passwd holds what?"),
            Line::Say("/etc/passwd holds what?")
        );
        assert_eq!(Line::from("  "), Line::Nothing);
        assert_eq!(Line::from("hello /quit"), Line::Say("hello /quit"));
    }
}
