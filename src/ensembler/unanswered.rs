//! Why an ensemble has no answer, and how an answer that says nothing is told from one.

use futures_util::{StreamExt, stream};

use crate::error::{Attempt, Error, ErrorKind, Result};
use crate::executor::{Committed, Executed};

/// Too few answered.
pub(super) fn no_quorum(answered: usize, quorum: usize, errors: Vec<Error>) -> Error {
    let message = format!("the quorum of {quorum} was not reached: {answered} answered");
    let otherwise = Error::new(ErrorKind::Deadline, format!("{message} in time"));
    unanswered(&message, otherwise, errors)
}

/// Whoever answered said nothing. `waits` tells that others were still to come.
pub(super) fn nothing_said(waits: bool, errors: Vec<Error>) -> Error {
    let otherwise = if waits {
        Error::new(ErrorKind::Deadline, "no member said anything in time")
    } else {
        silent()
    };
    unanswered("no member said anything", otherwise, errors)
}

/// The most useful of the errors, told with a message; `otherwise` if there are none.
fn unanswered(message: &str, otherwise: Error, errors: Vec<Error>) -> Error {
    let attempts: Vec<Attempt> = errors
        .iter()
        .flat_map(|error| error.attempts().iter().cloned())
        .collect();
    let Some(cause) = Error::most_useful(errors) else {
        return otherwise;
    };
    let mut error = Error::new(cause.kind(), format!("{message}; {}", cause.message()))
        .with_retry_after(cause.retry_after())
        .with_attempts(attempts);
    if let Some(upstream) = cause.upstream() {
        error = error.with_upstream(upstream.status, upstream.body.as_bytes());
    }
    error
}

fn silent() -> Error {
    Error::new(ErrorKind::Malformed, "the answer is empty")
}

/// An answer brought to where it says something, so that no empty one is chosen for having been the first.
///
/// # Errors
/// If it ends before.
pub(super) async fn speaking(executed: Executed) -> Result<Executed> {
    let committed = match executed.committed {
        Committed::Whole(answer) if answer.is_empty() => {
            return Err(silent().with_attempts(executed.attempts));
        }
        Committed::Stream(mut deltas) => {
            let mut opening = Vec::new();
            loop {
                match deltas.next().await {
                    Some(Ok(delta)) => {
                        let says = delta.says();
                        opening.push(Ok(delta));
                        if says {
                            break;
                        }
                    }
                    Some(Err(error)) => return Err(error.with_attempts(executed.attempts)),
                    None => return Err(silent().with_attempts(executed.attempts)),
                }
            }
            Committed::Stream(stream::iter(opening).chain(deltas).boxed())
        }
        whole => whole,
    };
    Ok(Executed {
        committed,
        ..executed
    })
}
