//! What went wrong, and the exit code it leads to.

use std::io;
use std::process::ExitCode;

use quorate::ErrorKind;
use quorate::config::ConfigErrors;
use serde_json::{Map, Value, json};

/// How the process ends; the numbers are those of BSD's `sysexits.h` where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Done = 0,
    /// The query, or another request, failed.
    Query = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No daemon, or no provider, can be reached.
    Unavailable = 69,
    /// Try again later.
    Busy = 75,
    /// The configuration is wrong.
    Config = 78,
    /// Ctrl-C.
    Interrupted = 130,
    /// SIGTERM while already ending.
    Terminated = 143,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// One line (or, for a configuration, one a mistake) with cause and way out; empty if there is
    /// nothing to tell.
    pub message: String,
    /// What a script may want to know besides.
    pub details: Map<String, Value>,
}

impl Failure {
    /// Ends with `exit` and tells `message`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            details: Map::new(),
        }
    }

    /// The query, or another request, failed.
    pub fn query(message: impl Into<String>) -> Self {
        Self::new(Exit::Query, message)
    }

    /// The command line is wrong in a way that only shows when it is carried out.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// No daemon, or no provider, can be reached.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, message)
    }

    /// Ends with `exit` and says nothing: whoever did it knows.
    pub fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// The daemon's answer was an error: a JSON-RPC error object. Its `data` is OpenAI's error with our
    /// own `quorate` object in it, whose fields say what kind it is.
    pub fn from_rpc(error: &Value) -> Self {
        let mut message = error["message"]
            .as_str()
            .unwrap_or("the daemon gave no reason")
            .to_owned();
        let mut details = error["data"].as_object().cloned().unwrap_or_default();
        if let Some(Value::Object(ours)) = details.remove("quorate") {
            details.extend(ours);
        }
        details.insert("rpc_code".into(), error["code"].clone());
        let attempts = details.get("attempts").and_then(Value::as_array);
        let attempts = attempts.into_iter().flatten();
        let told = |one: &Value| {
            Some(format!(
                "{} {}",
                one["deployment"].as_str()?,
                one["outcome"].as_str()?
            ))
        };
        let tried: Vec<String> = attempts.filter_map(told).collect();
        if !tried.is_empty() {
            message += &format!(" (tried: {})", tried.join(", "));
        }
        if let Some(wait) = details.get("retry_after_ms").and_then(Value::as_f64) {
            message += &format!(" (try again in {} s)", (wait / 1000.0).ceil());
        }
        let kind = details
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default();
        Self {
            exit: exit_of(kind),
            message,
            details,
        }
    }

    /// The same, if it was about a decision that nobody knows: one whose id cannot be one is not too old.
    pub fn of_decision(mut self, id: &str) -> Self {
        let could_be = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !could_be && self.message.starts_with("no decision of this id") {
            self.message = format!(
                "'{id}' is no decision's id: one is 32 hexadecimal digits, told below each answer"
            );
        }
        self
    }

    /// Whether nothing that follows can succeed: the daemon or the reader is gone.
    pub fn is_final(&self) -> bool {
        let by_daemon = self.details.contains_key("rpc_code");
        !by_daemon && matches!(self.exit, Exit::Unavailable | Exit::Done)
    }

    /// The object that `--json` prints.
    pub fn to_json(&self) -> Value {
        let mut error = self.details.clone();
        error.insert("message".into(), self.message.as_str().into());
        error.insert("exit".into(), (self.exit as u8).into());
        json!({ "error": error })
    }
}

fn exit_of(kind: &str) -> Exit {
    let is = |kinds: &[ErrorKind]| kinds.iter().any(|one| one.name() == kind);
    if is(&[
        ErrorKind::RateLimited,
        ErrorKind::Overloaded,
        ErrorKind::BreakerOpen,
    ]) {
        Exit::Busy
    } else if is(&[ErrorKind::Connect]) {
        Exit::Unavailable
    } else if is(&[ErrorKind::Cancelled]) {
        Exit::Interrupted
    } else {
        Exit::Query
    }
}

/// Writing failed. A reader that has left (`quorate models | head`) is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent(Exit::Done);
        }
        Self::query(format!("the output cannot be written: {error}"))
    }
}

impl From<quorate::Error> for Failure {
    fn from(error: quorate::Error) -> Self {
        Self::new(exit_of(error.kind().name()), error.message())
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        let mut failure = Self::new(Exit::Config, errors.to_string());
        failure.details.insert("kind".into(), "config".into());
        let list = errors.0.iter().map(|error| json!(error)).collect();
        failure.details.insert("errors".into(), Value::Array(list));
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_an_error_decides_the_exit_code() {
        let error = |kind: &str| json!({ "data": { "quorate": { "kind": kind } } });
        let exit = |kind: &str| Failure::from_rpc(&error(kind)).exit;
        assert_eq!(exit("overloaded"), Exit::Busy);
        assert_eq!(exit("rate-limited"), Exit::Busy);
        assert_eq!(exit("connect"), Exit::Unavailable);
        assert_eq!(exit("cancelled"), Exit::Interrupted);
        assert_eq!(exit("context-length"), Exit::Query);
        assert_eq!(exit("a kind of tomorrow"), Exit::Query);
        assert_eq!(Failure::from_rpc(&Value::Null).exit, Exit::Query);
    }

    #[test]
    fn an_error_keeps_its_details_for_scripts_and_tells_people_what_was_tried_and_when_to_come_back()
     {
        let attempts = json!([{ "deployment": "a/x", "outcome": "timeout", "ms": 3.0 }]);
        let ours = json!({ "kind": "overloaded", "retry_after_ms": 1500, "attempts": attempts });
        let data = json!({ "type": "server_error", "quorate": ours });
        let failure =
            Failure::from_rpc(&json!({ "code": -32000, "message": "full", "data": data }));
        assert_eq!(
            failure.message,
            "full (tried: a/x timeout) (try again in 2 s)"
        );
        let told = failure.to_json();
        assert_eq!(told["error"]["kind"], "overloaded");
        assert_eq!(told["error"]["type"], "server_error");
        assert_eq!(told["error"]["rpc_code"], -32000);
        assert_eq!(told["error"]["exit"], 75);
    }

    #[test]
    fn what_a_daemon_refuses_is_not_the_end_and_a_daemon_that_is_gone_is() {
        let refused = json!({ "code": -32000, "data": { "quorate": { "kind": "connect" } } });
        assert!(!Failure::from_rpc(&refused).is_final());
        assert!(Failure::unavailable("gone").is_final());
    }

    #[test]
    fn an_id_that_cannot_be_one_is_not_too_old() {
        let old = "no decision of this id is known; it may be too old";
        let told = |id: &str| Failure::query(old).of_decision(id).message;
        assert_eq!(told(&"0af1".repeat(8)), old);
        assert!(told("0af1").starts_with("'0af1' is no decision's id"));
    }

    #[test]
    fn a_reader_that_has_left_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Done, ""));
        assert_eq!(
            Failure::from(io::Error::other("disk full")).exit,
            Exit::Query
        );
    }
}
