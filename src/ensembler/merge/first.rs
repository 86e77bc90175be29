//! The earliest answer.

use super::compare::Form;
use super::{Merged, Vote, chosen};

/// Chooses the vote that arrived first. `None` without votes.
pub fn merge(votes: &[Vote<'_>], form: &Form) -> Option<Merged> {
    let winner = (0..votes.len()).min_by_key(|&index| votes[index].order)?;
    chosen(votes, winner, form)
}
