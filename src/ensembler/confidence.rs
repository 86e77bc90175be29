//! How sure we may be of a merged answer, before calibration against outcomes.

/// Confidence of an answer that `count` of `votes` members gave.
///
/// The share is smoothed as by Laplace, `(count + 1) / (votes + 2)`, then shrunk towards one half by
/// `votes / (votes + 1)`, since few members that agree may do so by chance. In (0, 1), increasing in
/// `count`, and at unanimity in `votes`. Nothing voted gives one half; `count` beyond `votes` counts as `votes`.
pub fn of_agreement(count: usize, votes: usize) -> f64 {
    let n = votes as f64;
    let share = (count.min(votes) as f64 + 1.0) / (n + 2.0);
    0.5 + (share - 0.5) * n / (n + 1.0)
}

/// Posterior of the first of several answers whose evidence is `weights` (log-odds, finite): the softmax
/// over all `answers` plausible ones. Those nobody gave weigh 0. In (0, 1); `answers` counts as at least 2,
/// and as many as there are weights.
pub fn posterior(weights: &[f64], answers: usize) -> f64 {
    let Some(&first) = weights.first() else {
        return 0.5;
    };
    let unseen = answers.max(2).saturating_sub(weights.len());
    let rest: f64 = weights[1..]
        .iter()
        .map(|weight| (weight - first).exp())
        .sum();
    let odds_against = rest + unseen as f64 * (-first).exp();
    // Beyond these the quotient rounds to certainty, which no vote gives.
    (1.0 / (1.0 + odds_against)).clamp(1e-9, 1.0 - 1e-9)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_votes_leave_us_undecided() {
        assert_eq!(of_agreement(0, 0), 0.5);
        assert_eq!(posterior(&[], 2), 0.5);
    }

    #[test]
    fn one_member_of_quality_four_fifths_is_believed_four_times_in_five() {
        assert!((posterior(&[4.0_f64.ln()], 2) - 0.8).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn confidence_rises_with_agreement_and_is_never_certain(votes in 1usize..500, count in 0usize..500) {
            let count = count % votes;
            let (less, more) = (of_agreement(count, votes), of_agreement(count + 1, votes));
            prop_assert!(0.0 < less && less < more && more < 1.0);
        }

        #[test]
        fn more_members_in_unison_are_worth_more(votes in 1usize..500) {
            prop_assert!(of_agreement(votes, votes) < of_agreement(votes + 1, votes + 1));
        }

        #[test]
        fn the_posterior_rises_with_the_evidence_for_and_falls_with_that_against(
            weights in proptest::collection::vec(0.0f64..4.0, 1..6),
            other in 0.0f64..4.0,
            more in 0.01f64..4.0,
        ) {
            let base = posterior(&weights, weights.len());
            prop_assert!(0.0 < base && base < 1.0);
            let mut stronger = weights.clone();
            stronger[0] += more;
            prop_assert!(posterior(&stronger, weights.len()) > base);
            let mut contested = weights.clone();
            contested.push(other);
            contested.push(other);
            prop_assert!(posterior(&contested, contested.len()) < base);
        }
    }
}
