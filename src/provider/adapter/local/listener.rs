//! The way of deltas from the model's thread to the caller.

use tokio::sync::mpsc::Sender;

use crate::answer::{Delta, FinishReason, Usage};
use crate::error::{Error, Result};

/// Who waits for the answer.
///
/// A listener that reads slowly must not hold up the queries behind it, so nothing here ever waits: while the
/// channel is full, text gathers (the token limit bounds it) and goes out as one piece later. The channel's
/// last place is kept for the end.
pub(super) struct Listener {
    deltas: Sender<Result<Delta>>,
    gathered: String,
}

impl Listener {
    /// Who receives from the other end of `deltas`, which holds two deltas at least.
    pub(super) fn new(deltas: Sender<Result<Delta>>) -> Self {
        Self {
            deltas,
            gathered: String::new(),
        }
    }

    /// Whether nobody listens any more.
    pub(super) fn is_gone(&self) -> bool {
        self.deltas.is_closed()
    }

    /// More of the answer.
    pub(super) fn say(&mut self, text: &str) {
        self.gathered.push_str(text);
        if !self.gathered.is_empty() && self.deltas.capacity() > 1 {
            let text = std::mem::take(&mut self.gathered);
            self.send(Ok(Delta::text(text)));
        }
    }

    /// Ends the answer.
    pub(super) fn finish(&mut self, reason: FinishReason, usage: Usage) {
        let mut last = Delta::finish(reason, Some(usage));
        if let Some(choice) = last
            .choices
            .first_mut()
            .filter(|_| !self.gathered.is_empty())
        {
            choice.content = Some(std::mem::take(&mut self.gathered));
        }
        self.send(Ok(last));
    }

    /// Ends the answer with an error.
    pub(super) fn fail(&self, error: Error) {
        self.send(Err(error));
    }

    /// There is always a free place, so this fails only when nobody listens, which is no error.
    fn send(&self, delta: Result<Delta>) {
        let _ = self.deltas.try_send(delta);
    }
}
