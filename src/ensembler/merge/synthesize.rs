//! A further model writes one answer out of all.
//!
//! The aggregator of Wang et al., "Mixture-of-Agents", 2024, with the judge's quoting.

use super::judge::{JudgePrompt, compose};

/// Asks for one answer to `question` made of `answers`. The caller draws `seed` at random and keeps it to
/// itself.
pub fn prompt(question: &str, answers: &[&str], seed: u64) -> JudgePrompt {
    let task = "Write the one answer that the question deserves. Judge each given answer critically: some may be \
                wrong, and what most of them say is not true for that. Keep what is right, correct what is not, \
                and keep to the form the question asks for. Reply with that answer only; mention neither the given \
                answers nor their letters.";
    compose(question, answers, seed, task)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ensembler::merge::judge;

    #[test]
    fn answers_are_shown_as_to_a_judge_under_another_task() {
        let answers = ["one", "two", "three"];
        let (ours, judges) = (prompt("q", &answers, 5), judge::prompt("q", &answers, 5));
        assert_eq!((ours.user, ours.order), (judges.user, judges.order));
        assert_ne!(ours.system, judges.system);
    }
}
