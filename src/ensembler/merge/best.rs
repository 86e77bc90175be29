//! The answer of the member we trust most.

use super::compare::Form;
use super::{Merged, Vote, best_of, chosen};

/// Chooses the vote of highest quality, of several the earliest. `None` without votes.
pub fn merge(votes: &[Vote<'_>], form: &Form) -> Option<Merged> {
    let mut arrival: Vec<usize> = (0..votes.len()).collect();
    arrival.sort_by_key(|&index| votes[index].order);
    chosen(votes, best_of(votes, &arrival)?, form)
}
