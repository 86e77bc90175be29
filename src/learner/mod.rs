//! What is learned of several deployments together: the worth of their votes, and experiments.
//!
//! What one deployment has shown is its own actor's; this is about ensembles and experiments.
//!
//! - [`Learner`]: the handle. Rounds and marks go in, [`Course`]s come out as snapshots.
//! - `actor`: gathers rounds, and has models fitted on a blocking thread.
//! - [`recent`]: the answers of the last decisions, so that a reference can be held against them.
//! - [`experiments`]: the register of experiments.

mod actor;
pub mod experiments;
pub mod recent;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::id::DecisionId;
use crate::learning::votes::{History, Model, Plan, Said, Target, Truth};
use crate::ledger::{Cell, learned};
use crate::provider::{Price, Schooling};
use crate::supervisor::{Address, ChildSpec};

pub use experiments::Experiments;
pub use recent::Recent;

use actor::Message;

/// Ensembles whose votes are learned from; the votes of any further are only counted.
pub(crate) const MOST_ENSEMBLES: usize = 256;

/// One past ensemble.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The name under which it is learned from.
    pub ensemble: String,
    /// The decision.
    pub decision: DecisionId,
    /// The kind of work: the caller's topic, or the kind's name.
    pub kind: Option<String>,
    /// Who said what, by the deployment's name, in order of arrival.
    pub ballots: Vec<(String, Said)>,
    /// How many options the question offered, of a multiple choice.
    pub options: Option<u8>,
    /// The question's length in tokens, about.
    pub prompt_tokens: f32,
    /// What the providers counted for it, on average; their own framing makes it longer.
    pub input_tokens: Option<f32>,
    /// The right answer, if it is known already.
    pub truth: Truth,
}

/// How an ensemble is set up, as far as fitting must know.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// Each member by its deployment's name, with its declared quality and its price.
    pub members: Vec<(String, f64, Option<Price>)>,
    /// How its next member is chosen.
    pub plan: Plan,
    /// What that is tuned to, if it is.
    pub target: Option<Target>,
    /// Whether members are asked one after the other.
    pub stepwise: bool,
}

impl Setup {
    /// Whether any member has a price; else calls are counted instead of dollars.
    pub fn has_prices(&self) -> bool {
        self.members.iter().any(|(_, _, price)| price.is_some())
    }
}

/// What was learned of an ensemble: published as a whole.
#[derive(Clone, Debug)]
pub struct Course {
    /// What votes are worth.
    pub model: Model,
    /// What a right answer must be worth to meet the target, where one is set.
    pub tuned: Option<f64>,
    /// How many more input tokens providers count than we estimate, mean.
    pub framing: f64,
    /// Mean output tokens of a member on a kind of work, and of all its answers under "".
    pub outputs: BTreeMap<(String, String), f64>,
    /// Digest of the model, in 16 hexadecimal digits.
    pub digest: String,
}

impl Course {
    fn new(model: Model) -> Self {
        let json = serde_json::to_vec(&model).unwrap_or_default();
        Self {
            digest: blake3::hash(&json).to_hex()[..16].to_owned(),
            model,
            tuned: None,
            framing: 0.0,
            outputs: BTreeMap::new(),
        }
    }

    /// Output tokens to be expected of a member, if any were seen.
    pub fn output(&self, member: &str, kind: Option<&str>) -> Option<f64> {
        let of = |kind: &str| self.outputs.get(&(member.to_owned(), kind.to_owned()));
        kind.and_then(of).or_else(|| of("")).copied()
    }
}

/// The handle to the learner. Cheap to clone.
#[derive(Clone)]
pub struct Learner {
    address: Address<Message>,
    shared: Arc<Shared>,
}

/// What outlives an incarnation of the actor.
struct Shared {
    courses: ArcSwap<BTreeMap<String, Arc<Course>>>,
    classes: Mutex<BTreeMap<String, actor::Class>>,
    /// Counts the states that were restored. What began under an earlier one is dropped when it is done. Changes, and
    /// is compared where that matters, under the lock of `classes`.
    era: AtomicU64,
    /// The Unix millisecond up to which rounds were forgotten.
    forgotten: AtomicI64,
    schooling: Arc<Schooling>,
    experiments: Experiments,
    recent: Recent,
    /// Whether models are fitted whenever enough has come, or only when somebody says so.
    by_itself: bool,
}

impl Learner {
    /// A learner, and the child to be supervised. With `by_itself`, models are fitted whenever enough rounds and
    /// marks have come.
    pub fn new(path: &str, schooling: Arc<Schooling>, by_itself: bool) -> (Self, ChildSpec) {
        let address = Address::vacant();
        let shared = Arc::new(Shared {
            courses: ArcSwap::default(),
            classes: Mutex::default(),
            era: AtomicU64::new(0),
            forgotten: AtomicI64::new(0),
            schooling,
            experiments: Experiments::default(),
            recent: Recent::default(),
            by_itself,
        });
        let child = actor::child(path, address.clone(), Arc::clone(&shared));
        (Self { address, shared }, child)
    }

    /// What was learned of an ensemble.
    pub fn course(&self, ensemble: &str) -> Option<Arc<Course>> {
        self.shared.courses.load().get(ensemble).cloned()
    }

    /// Every ensemble that something was learned of.
    pub fn courses(&self) -> Arc<BTreeMap<String, Arc<Course>>> {
        self.shared.courses.load_full()
    }

    /// Takes in a round. Nothing while learned state is pinned.
    pub fn saw(&self, seen: Seen, setup: Setup) {
        if !self.shared.schooling.is_pinned() {
            let message = Message::Seen(self.era(), Box::new((seen, setup)));
            let _ = self.address.send(message);
        }
    }

    /// Says what the right answer of a round was; `round` stands in if it is not known any more.
    pub fn mark(&self, round: Seen) {
        if !self.shared.schooling.is_pinned() {
            let message = Message::Mark(self.era(), Box::new(round));
            let _ = self.address.send(message);
        }
    }

    /// Which of the states that were restored is in force.
    pub fn era(&self) -> u64 {
        self.shared.era.load(Ordering::Relaxed)
    }

    /// The Unix millisecond up to which rounds were forgotten.
    pub fn forgotten(&self) -> i64 {
        self.shared.forgotten.load(Ordering::Relaxed)
    }

    /// Takes in rounds from before a restart, read in this era.
    pub fn recall(&self, era: u64, rounds: Vec<Seen>) {
        let _ = self.address.send(Message::Recall(era, rounds));
    }

    /// Fits an ensemble's model to all rounds so far, and returns when it is in force; `false` if there is nothing
    /// to fit it to.
    pub async fn fit(&self, ensemble: &str) -> bool {
        let (reply, fitted) = oneshot::channel();
        let message = Message::Fit(ensemble.to_owned(), reply);
        self.address.send(message).is_ok() && fitted.await.unwrap_or(false)
    }

    /// The experiments.
    pub fn experiments(&self) -> &Experiments {
        &self.shared.experiments
    }

    /// The last decisions' answers.
    pub fn recent(&self) -> &Recent {
        &self.shared.recent
    }

    /// Puts models in force that were kept, and forgets the rounds up to this Unix millisecond, that others were fitted
    /// to: a fit under way is dropped, and a restart does not bring them back. Of too many models the first are kept.
    pub fn restore(&self, models: impl IntoIterator<Item = (String, Model)>, forgotten: i64) {
        let courses = models
            .into_iter()
            .take(MOST_ENSEMBLES)
            .map(|(name, model)| (name, Arc::new(Course::new(model))));
        let courses = courses.collect();
        let mut classes = self.shared.classes.lock();
        classes.clear();
        self.shared.era.fetch_add(1, Ordering::Relaxed);
        self.shared.forgotten.store(forgotten, Ordering::Relaxed);
        self.shared.courses.store(Arc::new(courses));
    }

    /// Rounds in memory of an ensemble.
    pub fn rounds(&self, ensemble: &str) -> usize {
        let classes = self.shared.classes.lock();
        classes.get(ensemble).map_or(0, |class| class.history.len())
    }

    /// What is to be kept.
    pub fn cells(&self) -> Vec<Cell> {
        let courses = self.courses();
        let models = courses.iter().filter_map(|(name, course)| {
            learned::named(&format!("ensemble:{name}"), &course.model)
        });
        models.chain(self.shared.experiments.cells()).collect()
    }
}

/// A history of named rounds.
fn add(history: &mut History, seen: &Seen) -> Result<u64, String> {
    use crate::learning::votes::{Ballot, Round};
    let round = Round {
        kind: seen.kind.as_deref().map(|kind| history.kind(kind)),
        ballots: seen
            .ballots
            .iter()
            .map(|(name, said)| Ballot {
                member: history.member(name),
                said: *said,
            })
            .collect(),
        options: seen.options,
        prompt_tokens: Some(seen.prompt_tokens),
        truth: seen.truth,
    };
    history.push(round)
}
