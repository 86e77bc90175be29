//! Sleep that is exact enough to be measured against.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Sleeps to within some 60 µs. The runtime's own timer ticks in milliseconds, which would round an upstream's
/// delay up and so hide what a gateway adds to it.
pub async fn sleep(duration: Duration) {
    type Timers = (Mutex<BinaryHeap<Reverse<Timer>>>, Condvar);
    static TIMERS: OnceLock<&'static Timers> = OnceLock::new();
    let (heap, earlier) = TIMERS.get_or_init(|| {
        let timers: &Timers = Box::leak(Box::default());
        std::thread::spawn(|| {
            let (heap, earlier) = timers;
            let mut heap = heap.lock().unwrap();
            loop {
                let now = Instant::now();
                heap = match heap.peek() {
                    Some(Reverse(next)) if next.at <= now => {
                        if let Some(Reverse(due)) = heap.pop() {
                            let _ = due.wake.send(());
                        }
                        continue;
                    }
                    Some(Reverse(next)) => {
                        let wait = next.at - now;
                        earlier.wait_timeout(heap, wait).unwrap().0
                    }
                    None => earlier.wait(heap).unwrap(),
                };
            }
        });
        timers
    });
    let (wake, woken) = oneshot::channel();
    let at = Instant::now() + duration;
    {
        let mut heap = heap.lock().unwrap();
        let first = heap.peek().is_none_or(|Reverse(next)| at < next.at);
        heap.push(Reverse(Timer { at, wake }));
        if first {
            earlier.notify_one();
        }
    }
    let _ = woken.await;
}

struct Timer {
    at: Instant,
    wake: oneshot::Sender<()>,
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}
