//! A future that wakes itself, polled again at once instead of by the scheduler.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Rounds in a row before the scheduler has its turn: other tasks want theirs, and who is out of tokio's budget would
/// wake itself for ever.
const MOST_ROUNDS: usize = 8;

/// Holds back the wake-ups that `inner` gives itself while it is polled.
///
/// The parts of one HTTP connection tell each other of bytes by waking their task, from within it. Tokio takes that
/// for a wish to yield, and wakes a second thread to have the task moved there: with one client on two cores that was
/// more than one futex call a query. Here such a wake-up means one more round.
pub(super) struct Calm<F> {
    inner: F,
    bell: Arc<Bell>,
    waker: Waker,
}

const QUIET: u8 = 0;
const POLLING: u8 = 1;
const RUNG: u8 = 2;

struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let ring = |state| (state != QUIET).then_some(RUNG);
        let heard = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, ring);
        if heard.is_err() {
            self.task.wake();
        }
    }
}

impl<F> Calm<F> {
    pub fn new(inner: F) -> Self {
        let bell = Arc::new(Bell {
            state: AtomicU8::new(QUIET),
            task: AtomicWaker::new(),
        });
        Self {
            inner,
            waker: Waker::from(Arc::clone(&bell)),
            bell,
        }
    }
}

impl<F: Future + Unpin> Future for Calm<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.bell.task.register(cx.waker());
        for _ in 0..MOST_ROUNDS {
            this.bell.state.store(POLLING, Ordering::Release);
            let polled = Pin::new(&mut this.inner).poll(&mut Context::from_waker(&this.waker));
            let rung = this.bell.state.swap(QUIET, Ordering::AcqRel) == RUNG;
            if polled.is_ready() || !rung {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls it once, and says whether it is ready and how often it woke its task.
    fn poll_once(future: &mut (impl Future<Output = ()> + Unpin)) -> (bool, usize) {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let ready = Pin::new(future)
            .poll(&mut Context::from_waker(&waker))
            .is_ready();
        (ready, count.0.load(Ordering::Relaxed))
    }

    #[test]
    fn who_wakes_itself_is_polled_again_without_waking_its_task() {
        let mut rounds = 0;
        let mut calm = Calm::new(poll_fn(move |cx| {
            rounds += 1;
            cx.waker().wake_by_ref();
            if rounds == 3 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
        assert_eq!(poll_once(&mut calm), (true, 0));
    }

    #[test]
    fn who_never_stops_waking_itself_yields_to_the_others() {
        let mut calm = Calm::new(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        assert_eq!(poll_once(&mut calm), (false, 1));
    }

    #[test]
    fn a_wake_up_from_outside_reaches_the_task() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let kept = Arc::new(std::sync::Mutex::new(None));
        let keep = Arc::clone(&kept);
        let mut calm = Calm::new(poll_fn(move |cx| {
            *keep.lock().unwrap() = Some(cx.waker().clone());
            Poll::<()>::Pending
        }));
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut calm).poll(&mut cx).is_pending());
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        kept.lock().unwrap().take().unwrap().wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
