//! A provider's call or stream whose end is its own affair: a panic while it is dropped is logged and goes no further.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;

use super::attempt::panicked;

/// Holds what a provider handed out. Only dropping it takes it out.
pub(super) struct Contained<T>(Option<T>);

impl<T> Contained<T> {
    pub fn new(inner: T) -> Self {
        Self(Some(inner))
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        let inner = self.0.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(inner))) {
            panicked("provider", &*panic);
        }
    }
}

impl<T: Future + Unpin> Future for Contained<T> {
    type Output = T::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        match &mut self.0 {
            Some(inner) => Pin::new(inner).poll(cx),
            None => Poll::Pending,
        }
    }
}

impl<T: Stream + Unpin> Stream for Contained<T> {
    type Item = T::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T::Item>> {
        match &mut self.0 {
            Some(inner) => Pin::new(inner).poll_next(cx),
            None => Poll::Ready(None),
        }
    }
}
