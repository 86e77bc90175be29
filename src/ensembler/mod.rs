//! The ensembler: asks several models and makes one answer of theirs.
//!
//! - [`Ensembler`]: the handle; a query with an ensemble plan goes in, an answer comes out.
//! - `actor`: owns the lives of the running ensembles, so that all end with it.
//! - `fan_out`: one ensemble, start to end: `poll` asks and gathers, `conclude` makes an answer of it, with the help
//!   of a further model (`consult`) where the merge wants one; `told` is its report, `unanswered` says why there is none.
//! - `steering`: whom to ask next and when to stop, pure.
//! - [`merge`]: the strategies, pure.
//! - [`confidence`]: how sure to be, pure.
//! - [`vectors`]: sentence vectors of answers, where an ensemble wants them.

mod actor;
mod conclude;
pub mod confidence;
mod consult;
mod fan_out;
pub mod merge;
mod poll;
mod steering;
mod told;
mod unanswered;
pub mod vectors;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::time::Instant;

use crate::answer::{Answer, EnsembleReport, MemberReport};
use crate::error::{Attempt, Error, ErrorKind, Result};
use crate::executor::{Committed, Executor, panicked};
use crate::id::DeploymentId;
use crate::learner::{Course, Seen, Setup};
use crate::query::Query;
use crate::router::EnsemblePlan;
use crate::supervisor::{Address, ChildSpec};
use actor::Life;
use merge::compare::Form;
use vectors::Vectors;

/// One ensemble to run.
pub struct Job {
    /// What is asked; a `user` message of it is the question a judge sees.
    pub query: Arc<Query>,
    /// Whom, and how their answers become one.
    pub plan: EnsemblePlan,
    /// Whether the caller takes deltas, where the merge has any.
    pub stream: bool,
    /// When the answer is worth nothing any more.
    pub deadline: Instant,
    /// What was learned of its members' votes.
    pub course: Option<Arc<Course>>,
    /// Who makes the calls.
    pub executor: Arc<Executor>,
}

/// What came of it.
pub struct Merged {
    /// The answer, or its stream.
    pub committed: Committed,
    /// Who gave or wrote it.
    pub model: DeploymentId,
    /// What every member did, in the order of the plan.
    pub members: Vec<MemberReport>,
    /// Share of the answers that say the same as the chosen one.
    pub agreement: Option<f64>,
    /// How sure to be, 0..=1.
    pub confidence: Option<f64>,
    /// Every call of every member.
    pub attempts: Vec<Attempt>,
    /// What did not go as planned: a judge that did not decide.
    pub note: Option<String>,
    /// Dollars of all calls whose price is known.
    pub cost: Option<f64>,
    /// How it went.
    pub report: Option<EnsembleReport>,
    /// What there is to learn from it.
    pub lesson: Option<Lesson>,
    /// Of a member's answer that is streamed while it is written: tells all this again at its end, when it is known.
    pub ending: Option<Ending>,
}

/// What an ensemble comes to once the answer that it streams is whole.
pub struct Ending(Box<dyn FnOnce(Answer) -> Option<Merged> + Send>);

impl Ending {
    /// Told of the whole answer.
    pub fn of(self, answer: Answer) -> Option<Merged> {
        (self.0)(answer)
    }
}

/// What there is to learn from an ensemble.
pub struct Lesson {
    /// The round of votes.
    pub seen: Seen,
    /// How the ensemble is set up.
    pub setup: Setup,
    /// The form that the question asked for.
    pub form: Form,
    /// Whom a judge chose, if there was one.
    pub judged: Option<DeploymentId>,
    /// Of each member that answered, how likely it is right going by what the others say, 0..=1. Empty where too few
    /// answered.
    pub agreement: Vec<(DeploymentId, f64)>,
}

/// The handle to the ensembler. Cheap to clone.
#[derive(Clone)]
pub struct Ensembler {
    address: Address<actor::Message>,
    life: Life,
    vectors: Vectors,
}

impl Ensembler {
    /// An ensembler, and the child to be supervised.
    pub fn new(path: &str) -> (Self, ChildSpec) {
        let (address, life) = (Address::vacant(), Life::unborn());
        let child = actor::child(path, address.clone(), life.clone());
        let ensembler = Self {
            address,
            life,
            vectors: Vectors::default(),
        };
        (ensembler, child)
    }

    /// Runs an ensemble. Dropping the future cancels every call of it.
    ///
    /// # Errors
    /// The most useful failure of its members when the quorum cannot be reached;
    /// [`Internal`](ErrorKind::Internal) if the ensembler ends meanwhile.
    pub async fn run(&self, job: Job) -> Result<Merged> {
        let life = self.life.current();
        let work = AssertUnwindSafe(fan_out::run(job, &self.vectors)).catch_unwind();
        tokio::select! {
            biased;
            () = life.cancelled() => {
                let why = "the ensembler was restarted, try again";
                Err(Error::new(ErrorKind::Internal, why))
            }
            merged = work => merged.unwrap_or_else(|panic| Err(panicked("ensemble", &*panic))),
        }
    }

    #[doc(hidden)]
    pub fn poison(&self) {
        let _ = self.address.send(actor::Message::Poison);
    }
}
