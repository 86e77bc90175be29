//! The ways an actor ends.

use std::fmt;

use ractor::{ActorCell, SupervisionEvent};

/// Why an actor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// It was stopped or drained, or stopped itself.
    Stopped(Option<String>),
    /// It was killed. The actor system reports this as an ordinary end with the reason `killed`.
    Killed,
    /// A handler returned an error or panicked.
    Failed(String),
}

impl ExitReason {
    /// Reads a supervision event; `None` if it is not the end of an actor.
    pub fn of(event: SupervisionEvent) -> Option<(ActorCell, Self)> {
        match event {
            SupervisionEvent::ActorTerminated(cell, _, Some(reason)) if reason == "killed" => {
                Some((cell, Self::Killed))
            }
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                Some((cell, Self::Stopped(reason)))
            }
            SupervisionEvent::ActorFailed(cell, error) => {
                Some((cell, Self::Failed(error.to_string())))
            }
            _ => None,
        }
    }

    /// Whether it is a fault, as opposed to an intended end.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Self::Stopped(_))
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(None) => f.write_str("stopped"),
            Self::Stopped(Some(reason)) => write!(f, "stopped: {reason}"),
            Self::Killed => f.write_str("killed"),
            Self::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}
