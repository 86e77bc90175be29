//! The command line: what a person or a script says to Quorate, and what it says back.
//!
//! Whoever asks or looks does so through the socket of a daemon. `ask` and `chat` need none: without
//! one they start the same orchestrator and the same socket in their own process, so that there is
//! one way of an answer and not two.
//!
//! # Layout
//!
//! - `global`: the flags every command takes, and the configuration they lead to; `discover` makes
//!   one up where there is no file, `weights` fetches the model it may need.
//! - `client`: JSON-RPC over the socket; `host`: the daemon's inside; `connection`: a client, and a
//!   host in this process if nobody else is one.
//! - `request`: flags and prompts to a request's body, `image` for its pictures; `reply`: an answer
//!   as it arrives, `footer` for what is told about it, `explain` for a plan.
//! - `output`: what is written where, `table` for columns; `failure`: what went wrong, and the exit
//!   code.
//! - `state`: learned state as files, `testimony`: evidence to be sent; `replay`: plans and decisions made again.
//! - `serve`, `ask`, `chat`, `models`, `status`, `check`, `reload`, `stop`, `keys`, `feedback`,
//!   `eval`, `completions`: one command each; `log` and `metrics` are what only `serve` installs.
//!
//! # Exit codes
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done, or the reader of the output has left |
//! | 1 | the query, or another request, failed |
//! | 2 | the command line is wrong |
//! | 69 | no daemon, or no provider, can be reached |
//! | 75 | overloaded or rate-limited: try again later |
//! | 78 | the configuration is wrong |
//! | 130 | interrupted |
//! | 143 | terminated, by a second signal |

mod ask;
mod chat;
mod check;
mod client;
mod completions;
mod connection;
mod discover;
mod download;
mod eval;
mod explain;
mod failure;
mod feedback;
mod footer;
mod global;
mod host;
mod image;
mod keys;
mod log;
mod metrics;
mod models;
mod output;
mod reload;
mod replay;
mod reply;
mod request;
mod serve;
mod state;
mod status;
mod stop;
mod table;
mod testimony;
mod weights;

use std::ffi::OsString;
use std::fmt::Display;

use clap::{CommandFactory, Parser, Subcommand};

use failure::{Exit, Failure};
use global::Global;
use output::Output;

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  the query, or another request, failed
    2  the command line is wrong
   69  no daemon, or no provider, can be reached
   75  overloaded or rate-limited: try again later
   78  the configuration is wrong
  130  interrupted (143: terminated)";

/// What the process was called with.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, about, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon until it is told to stop
    Serve(serve::Serve),
    /// Ask one question
    Ask(ask::Ask),
    /// Talk with a model
    Chat(chat::Chat),
    /// List the models, or fetch one that runs in this process
    Models(models::Models),
    /// Show what the daemon is doing
    Status(status::Status),
    /// Check the configuration and report every mistake
    Check(check::Check),
    /// Have the daemon read its configuration again
    Reload(reload::Reload),
    /// Have the daemon finish what is running and end
    Stop(stop::Stop),
    /// Make keys that open HTTP
    Keys(keys::Keys),
    /// Tell who would be asked, and why; or make an earlier choice again
    Explain(replay::Explain),
    /// Show, move, compare, pin and restore what the daemon has learned
    State(state::States),
    /// Tell how good an answer was
    Feedback(feedback::Feedback),
    /// Replay recorded answers and measure routing and ensembles
    Eval(eval::Eval),
    /// Print a completion script for a shell
    Completions(completions::Completions),
}

impl Args {
    /// Reads the process's arguments. What is wrong with them, or the help asked for, has been printed
    /// if there is an `Err`.
    pub fn read() -> Result<Self, Exit> {
        Self::try_parse().map_err(|error| {
            if error.use_stderr() && asks_for_json(std::env::args_os()) {
                return Output::new(true).failed(&refusal(&error));
            }
            // With nobody to read it there is nobody to tell.
            let _ = error.print();
            if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            }
        })
    }
}

/// Whether `--json` is among arguments that could not be read as a whole.
fn asks_for_json(args: impl Iterator<Item = OsString>) -> bool {
    args.take_while(|arg| arg != "--")
        .any(|arg| arg == "--json")
}

fn refusal(error: &clap::Error) -> Failure {
    let told = error.render().to_string();
    Failure::usage(told.trim_start_matches("error: ").trim_end())
}

/// Does what `args` say.
pub async fn run(args: Args) -> Exit {
    let Args { global, command } = args;
    let out = Output::new(global.json);
    let done = match command {
        Command::Serve(serve) => serve.run(global, out).await,
        Command::Ask(ask) => ask.run(&global, out).await,
        Command::Chat(chat) => chat.run(&global, out).await,
        Command::Models(models) => models.run(&global, out).await,
        Command::Status(status) => status.run(&global, out).await,
        Command::Check(check) => check.run(&global, out),
        Command::Reload(reload) => reload.run(&global, out).await,
        Command::Stop(stop) => stop.run(&global, out).await,
        Command::Keys(keys) => keys.run(out),
        Command::Explain(explain) => explain.run(&global, out).await,
        Command::State(state) => state.run(&global, out).await,
        Command::Feedback(feedback) => feedback.run(&global, out).await,
        Command::Eval(eval) => eval.run(&global, out).await,
        Command::Completions(completions) => completions.run(&mut Args::command(), out),
    };
    done.map_or_else(|failure| out.failed(&failure), |()| Exit::Done)
}

/// Tells that not even a runtime could be had.
pub fn cannot_start(error: &impl Display) -> Exit {
    Output::new(false).failed(&Failure::query(format!("cannot start: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_commands_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        let args =
            parse("quorate --json status --socket /run/q.sock --set a.b=c --set d=e=f").unwrap();
        assert!(args.global.json);
        assert_eq!(
            args.global.socket.as_deref(),
            Some(std::path::Path::new("/run/q.sock"))
        );
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(args.global.set, [pair("a.b", "c"), pair("d", "e=f")]);
    }

    #[test]
    fn a_wrong_command_line_is_refused() {
        for line in [
            "quorate",
            "quorate dance",
            "quorate ask --lane fast hello",
            "quorate ask --merge vote hello",
            "quorate ask --deadline 0 hello",
            "quorate ask --deadline -3 hello",
            "quorate ask --temperature warm hello",
            "quorate ask --model a --ensemble b,c hello",
            "quorate ask --quorum 0 hello",
            "quorate status --watch=0",
            "quorate feedback 0192",
            "quorate feedback 0192 1.5",
            "quorate feedback 0192 1 --thumb up",
            "quorate eval ensemble --test b",
            "quorate eval ensemble --test b --members x,y --stop 0.2",
            "quorate eval route --data b --shift best:x:2",
            "quorate explain --replay 0192 hello",
            "quorate feedback 0192 nan",
            "quorate check --set per_user",
            "quorate keys new",
            "quorate completions word",
        ] {
            let refused = parse(line).err().map(|error| error.exit_code());
            assert_eq!(refused, Some(2), "{line}");
        }
    }

    #[test]
    fn a_right_command_line_is_taken() {
        for line in [
            "quorate serve",
            "quorate ask why is the sky blue",
            "quorate ask --ensemble a/x,b/y --merge plurality --quorum 2 hello",
            "quorate ask --image a.png --image https://x.test/b.png --deadline 0.5 --explain hello",
            "quorate chat --model fast --system terse",
            "quorate models",
            "quorate models list",
            "quorate models fetch smollm2-135m --from /tmp/file.gguf",
            "quorate status --watch",
            "quorate status --watch=5",
            "quorate check --config x.toml",
            "quorate stop",
            "quorate keys new alice --admin --lane normal",
            "quorate feedback 0192 0.5",
            "quorate feedback 0192 --thumb up",
            "quorate feedback 0192 --reference 42 --source grader",
            "quorate state diff a.json",
            "quorate explain --replay 0192",
            "quorate eval ensemble --learn a --test b --members x,y --merge adaptive --stop 0.9 --labels 100",
            "quorate eval route --data b --policy fixed:x --shift best:500:0.4",
            "quorate completions zsh",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }
}
