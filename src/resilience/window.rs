//! Counts over a sliding time window, kept in sub-buckets.

use std::time::Duration;

/// Two counts over the last `span`, in `N` buckets of a ring.
///
/// The bucket being filled belongs to the window, so the window reaches back between `(N − 1) / N` of
/// the span and the whole of it. A time before the newest one seen counts as that newest one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window<const N: usize> {
    span: Duration,
    /// The newest bucket's number, counted from time zero.
    head: u128,
    buckets: [[u32; 2]; N],
}

impl<const N: usize> Window<N> {
    pub(super) fn new(span: Duration) -> Self {
        Self {
            span,
            head: 0,
            buckets: [[0; 2]; N],
        }
    }

    pub(super) fn span(&self) -> Duration {
        self.span
    }

    /// Adds to both counts at `now`.
    pub(super) fn add(&mut self, counts: [u32; 2], now: Duration) {
        let newest = self.number(now);
        // N steps clear the whole ring, however long the silence was.
        for number in (self.head + 1..=newest).take(N) {
            self.buckets[Self::place(number)] = [0; 2];
        }
        self.head = newest;
        let bucket = &mut self.buckets[Self::place(newest)];
        *bucket = sum(*bucket, counts);
    }

    /// Both counts over the window that ends at `now`.
    pub(super) fn totals(&self, now: Duration) -> [u32; 2] {
        let silent = self.number(now) - self.head;
        (silent..N as u128)
            .map(|age| self.buckets[Self::place(self.head + silent + N as u128 - age)])
            .fold([0; 2], sum)
    }

    fn number(&self, now: Duration) -> u128 {
        let width = (self.span.as_nanos() / N as u128).max(1);
        (now.as_nanos() / width).max(self.head)
    }

    fn place(number: u128) -> usize {
        (number % N as u128) as usize
    }
}

fn sum(left: [u32; 2], right: [u32; 2]) -> [u32; 2] {
    [
        left[0].saturating_add(right[0]),
        left[1].saturating_add(right[1]),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn totals_are_those_of_a_plain_list_of_events(
            steps in prop::collection::vec((0_u64..400, 0_u32..3, 0_u32..3), 1..80),
            rest in 0_u64..2_000,
        ) {
            let mut window = Window::<10>::new(Duration::from_millis(1_000));
            let mut now = 0;
            let mut events = Vec::new();
            for (wait, first, second) in steps {
                now += wait;
                window.add([first, second], Duration::from_millis(now));
                events.push((now / 100, first, second));
            }
            now += rest;
            let expected = events
                .iter()
                .filter(|(bucket, ..)| now / 100 - bucket < 10)
                .fold([0; 2], |total, (_, first, second)| sum(total, [*first, *second]));
            prop_assert_eq!(window.totals(Duration::from_millis(now)), expected);
        }
    }

    #[test]
    fn a_step_back_in_time_counts_as_the_newest_time() {
        let mut window = Window::<10>::new(Duration::from_secs(10));
        window.add([1, 0], Duration::from_secs(100));
        window.add([1, 0], Duration::from_secs(1));
        assert_eq!(window.totals(Duration::from_secs(109)), [2, 0]);
        assert_eq!(window.totals(Duration::from_secs(110)), [0, 0]);
    }
}
