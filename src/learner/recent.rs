//! The answers of the last decisions, so that feedback with a reference can be held against them. In memory only:
//! the ledger keeps answers only where the operator says so.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::ensembler::merge::compare::Form;
use crate::id::{DecisionId, DeploymentId};

/// Decisions remembered.
const MOST: usize = 2_048;
/// Bytes of their questions and answers.
const MOST_BYTES: usize = 4 << 20;
/// Longer answers are not kept, in bytes.
const LONGEST: usize = 16 * 1024;

/// What was answered to one query.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The question, unless it was too long to keep.
    pub question: Option<String>,
    /// The form that it asked for.
    pub form: Form,
    /// Who said what; `None` where that was nothing, or too long to keep.
    pub said: Vec<(DeploymentId, Option<String>)>,
}

impl Answers {
    fn bytes(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        length(&self.question)
            + self
                .said
                .iter()
                .map(|(_, text)| length(text))
                .sum::<usize>()
    }
}

/// A bounded memory of answers.
#[derive(Default)]
pub struct Recent(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    known: HashMap<DecisionId, Arc<Answers>>,
    order: VecDeque<DecisionId>,
    bytes: usize,
}

impl Recent {
    /// Remembers the answers of a decision; the oldest make room.
    pub fn keep<'a>(
        &self,
        decision: &DecisionId,
        question: &str,
        form: Form,
        said: impl IntoIterator<Item = (DeploymentId, Option<&'a str>)>,
    ) {
        let fits =
            |text: Option<&str>| text.filter(|text| text.len() <= LONGEST).map(str::to_owned);
        let said = said.into_iter().map(|(id, text)| (id, fits(text)));
        let answers = Arc::new(Answers {
            question: fits(Some(question)),
            form,
            said: said.collect(),
        });
        let memory = &mut *self.0.lock();
        memory.bytes += answers.bytes();
        match memory.known.insert(decision.clone(), answers) {
            None => memory.order.push_back(decision.clone()),
            Some(before) => memory.bytes -= before.bytes(),
        }
        while memory.order.len() > MOST || memory.bytes > MOST_BYTES {
            let Some(old) = memory.order.pop_front() else {
                return;
            };
            if let Some(old) = memory.known.remove(&old) {
                memory.bytes -= old.bytes();
            }
        }
    }

    /// The answers of a decision, if they are still at hand.
    pub fn get(&self, decision: &DecisionId) -> Option<Arc<Answers>> {
        self.0.lock().known.get(decision).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room_and_what_is_too_long_is_not_kept() {
        let recent = Recent::default();
        let long = "x".repeat(LONGEST + 1);
        for at in 0..=MOST {
            let id = DecisionId::from(at.to_string());
            let said = [
                ("a/x".into(), Some("yes")),
                ("b/y".into(), Some(long.as_str())),
            ];
            recent.keep(&id, "really?", Form::FREE, said);
        }
        assert!(recent.get(&DecisionId::from("0")).is_none());
        let last = recent.get(&DecisionId::from("1")).unwrap();
        assert_eq!(last.said[0].1.as_deref(), Some("yes"));
        assert_eq!(last.said[1].1, None);
    }

    #[test]
    fn so_many_bytes_are_kept_and_no_more() {
        let recent = Recent::default();
        let long = "x".repeat(LONGEST);
        let fit = MOST_BYTES / (2 * LONGEST);
        for at in (0..=fit).chain([fit]) {
            let id = DecisionId::from(at.to_string());
            recent.keep(
                &id,
                &long,
                Form::FREE,
                [("a/x".into(), Some(long.as_str()))],
            );
        }
        assert!(recent.get(&DecisionId::from("0")).is_none());
        assert!(recent.get(&DecisionId::from("1")).is_some());
        assert_eq!(recent.0.lock().bytes, MOST_BYTES);
    }
}
