//! The answer most members gave.

use super::{Merged, Vote, best_of, chosen, group, leading, summed_quality};

/// Chooses the largest group; of several, the one of higher summed quality, then the earliest. Its text is
/// that of its member of highest quality, of several the earliest. `None` without votes.
pub fn merge(votes: &[Vote<'_>]) -> Option<Merged> {
    let groups = group(votes);
    let leader = leading(&groups, |group| {
        (group.weight, summed_quality(votes, group))
    })?;
    chosen(votes, best_of(votes, &groups[leader].members)?)
}

/// Whether no further `outstanding` votes can change which group wins: its lead is larger than they are
/// many. A tie does not decide, since quality breaks it. Never true without votes.
pub fn decided(votes: &[Vote<'_>], outstanding: usize) -> bool {
    let mut counts: Vec<usize> = group(votes)
        .iter()
        .map(|group| group.members.len())
        .collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let runner_up = counts.get(1).copied().unwrap_or(0);
    counts
        .first()
        .is_some_and(|&most| most > runner_up + outstanding)
}
