//! The earliest answer.

use super::{Merged, Vote, chosen};

/// Chooses the vote that arrived first. `None` without votes.
pub fn merge(votes: &[Vote<'_>]) -> Option<Merged> {
    let winner = (0..votes.len()).min_by_key(|&index| votes[index].order)?;
    chosen(votes, winner)
}
