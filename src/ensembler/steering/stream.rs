//! Whose answer may be streamed while it is written: where the outcome is certain before it is whole.

use super::{Steering, Why, name, quality};
use crate::ensembler::merge::Strategy;

impl Steering<'_> {
    /// Whether the answers of `members`, who are to be asked after `asked`, may be the outcome before they are whole:
    /// of the first to begin or of the best, or where one member is asked and no other will be, whatever it says.
    pub fn may_stream(&self, open: &[usize], asked: &[usize], members: &[usize]) -> bool {
        if self.plan.quorum > 1 || self.plan.everyone {
            return false;
        }
        match (self.plan.merge, members) {
            (Strategy::First | Strategy::Best, _) => true,
            (Strategy::Adaptive | Strategy::Cascade, [only]) => {
                asked.is_empty() && self.is_alone(open, *only)
            }
            _ => false,
        }
    }

    /// Whether the answer of the member at `place`, which [may be streamed](Self::may_stream) and has begun, is the
    /// outcome, and why nobody else is needed then.
    pub fn floor(
        &self,
        place: usize,
        open: &[usize],
        asked: &[usize],
        failed: &[usize],
    ) -> Option<Why> {
        let of = |at: &usize| quality(self.plan, *at);
        match self.plan.merge {
            Strategy::First => Some(Why::Decided),
            Strategy::Best => open
                .iter()
                .all(|at| failed.contains(at) || of(at) <= of(&place))
                .then_some(Why::Decided),
            _ => (asked == [place]).then_some(Why::NotWorth),
        }
    }

    /// Whether nobody is worth asking after the member at `place`, whatever it says.
    fn is_alone(&self, open: &[usize], place: usize) -> bool {
        let others: Vec<usize> = open.iter().copied().filter(|at| *at != place).collect();
        let others = self.in_reach(&others, &[place]);
        let (round, _) = self.round(&[]);
        let member = self.model.member(name(self.plan, place));
        (self.model).settles(&round, member, &self.candidates(&others), &self.setup.plan)
    }
}
