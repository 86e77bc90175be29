//! The one way to start a task.

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::Instrument;

/// Starts `work` in the caller's span. Whoever calls this owns the task: it keeps the handle and aborts it,
/// or the work ends by itself when what it serves is gone.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the wrapper the ban points to"
)]
pub fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(work.in_current_span())
}

/// Aborts its task when dropped.
#[derive(Debug)]
pub struct AbortOnDrop(pub JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
