//! The answer most members gave.

use super::compare::{self, Form, Similarity};
use super::{Merged, Vote, chosen, leading, summed_quality};

/// Chooses the largest group; of several, the one of higher summed quality, then the earliest. Its text is
/// the one that most of it gave, of several that of the member of highest quality. `None` without votes.
pub fn merge(votes: &[Vote<'_>], form: &Form) -> Option<Merged> {
    let groups = compare::group(votes, form, Similarity::between(votes).as_ref());
    let leader = leading(&groups, |group| {
        (group.weight, summed_quality(votes, group))
    })?;
    chosen(
        votes,
        compare::spokesman(votes, &groups[leader].members)?,
        form,
    )
}
