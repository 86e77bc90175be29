//! The embeddable handle: everything a host program, the socket and the HTTP door can ask for.
//!
//! - [`Orchestrator`]: the handle itself.
//! - [`Builder`]: from a configuration, and providers of the host's own.
//! - `run`: one query's way.
//! - `record`: what is written down of it, however it ends.
//! - [`status`]: what is going on.

mod builder;
mod record;
mod run;
pub mod status;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ractor::ActorRef;
use serde::Serialize;
use tokio::sync::{broadcast, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, Delta, Deltas};
use crate::config::Config;
use crate::dispatcher::Dispatcher;
use crate::ensembler::Ensembler;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::Executor;
use crate::id::{DecisionId, DeploymentId, UserId};
use crate::ledger::{DecisionRow, FeedbackOutcome, Ledger};
use crate::provider::{Cell, Fleet};
use crate::query::{Query, TaskKind};
use crate::router::{Catalogue, Plan};
use crate::supervisor::{self, ChildSpec, Tree};

pub use builder::Builder;
pub use status::Status;

/// One running orchestrator. Cheap to clone; all clones are the same one.
///
/// It installs nothing global: no logger, no metrics exporter, no signal handler. Several can live in one
/// process and do not meet.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use quorate::{Config, Orchestrator, Query};
///
/// let config = Config::load(Some("quorate.toml".as_ref()), std::env::vars(), &[])?;
/// let orchestrator = Orchestrator::builder(config).start().await?;
/// let answer = orchestrator.ask(Query::new("auto", "What is the capital of France?")).await?;
/// println!("{}", answer.content());
/// orchestrator.shutdown(std::time::Duration::from_secs(5)).await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Orchestrator(Arc<Inner>);

struct Inner {
    started: Instant,
    config: ArcSwap<Config>,
    catalogue: ArcSwap<Catalogue>,
    executor: Arc<Executor>,
    dispatcher: Dispatcher,
    ensembler: Ensembler,
    ledger: Ledger,
    fleet: Arc<Fleet>,
    tree: Tree,
    root: ActorRef<supervisor::Message>,
    instance: String,
    events: broadcast::Sender<Event>,
    closing: AtomicBool,
    /// Cancelled when the patience with running queries is over.
    cut: CancellationToken,
    /// Who serves what, to be kept across a reload that does not change it.
    adapters: Mutex<builder::Adapters>,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
    /// Held for as long as the ledger's file is ours.
    _ledger_lock: Option<std::fs::File>,
}

/// An answer being streamed: a stream of deltas, the last of which carries the report.
pub struct Streaming {
    /// Names the decision, for feedback.
    pub decision: DecisionId,
    /// Who answers.
    pub model: DeploymentId,
    deltas: Deltas,
}

impl futures_util::Stream for Streaming {
    type Item = Result<Delta>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.deltas.as_mut().poll_next(cx)
    }
}

/// Something a host may want to know as it happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// A query ended; its row as the ledger will have it.
    Decided(Arc<DecisionRow>),
    /// A new configuration is in force.
    Reloaded,
    /// No new queries from now on.
    Closing,
}

/// A judgement of an answer.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feedback {
    /// The decision, as the answer's report names it.
    pub decision: String,
    /// How good the answer was, 0 (useless) to 1 (right).
    pub score: f64,
    /// Who judges; judgements of one source replace each other. `user` if not given.
    #[serde(default)]
    pub source: Option<String>,
    /// Only this user's decisions may be judged; `None`: anybody's.
    #[serde(skip)]
    pub by: Option<UserId>,
}

/// What became of a judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FeedbackReport {
    /// The deployment that learned from it.
    pub deployment: DeploymentId,
    /// `recorded`; or `changed` or `repeated` if there was one before, and nothing was learned again.
    pub outcome: &'static str,
}

/// What a reload changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Deployments that are new.
    pub added: Vec<DeploymentId>,
    /// Deployments that drain and go.
    pub removed: Vec<DeploymentId>,
    /// Keys whose change takes effect at the next start.
    pub at_next_start: Vec<String>,
}

impl Orchestrator {
    /// Begins to build one.
    pub fn builder(config: Config) -> Builder {
        Builder::new(config)
    }

    /// Answers a query as a whole.
    ///
    /// Dropping the future cancels it: the permit returns and upstream calls are closed at once.
    ///
    /// # Errors
    /// See [`ErrorKind`]; the error carries every attempt that was made.
    pub async fn ask(&self, query: Query) -> Result<Answer> {
        run::ask(&self.0, query).await
    }

    /// Answers a query as a stream of deltas. It returns once the first semantic delta is there, so that a
    /// failure before it has already been taken to another deployment.
    ///
    /// The stream holds the permit; dropping it cancels the query.
    ///
    /// # Errors
    /// As [`ask`](Self::ask); a failure after the first delta is the stream's last item.
    pub async fn stream(&self, query: Query) -> Result<Streaming> {
        run::stream(&self.0, query).await
    }

    /// Who would answer `query` and why, without asking anybody.
    pub fn explain(&self, query: &Query, stream: bool) -> Result<Plan> {
        self.0.catalogue.load().plan(query, stream)
    }

    /// Takes a judgement of an earlier answer; the deployment that gave it learns from it. Repeating a
    /// judgement changes nothing.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a score out of range, and for a decision that is not known or had no
    /// answer.
    pub async fn feedback(&self, feedback: Feedback) -> Result<FeedbackReport> {
        if !(0.0..=1.0).contains(&feedback.score) {
            return Err(Error::invalid(
                "score",
                "score must be a number from 0 (useless) to 1 (right)",
            ));
        }
        let source = feedback.source.unwrap_or_else(|| "user".into());
        if source.is_empty() || source.len() > 64 {
            return Err(Error::invalid("source", "source must be 1 to 64 bytes"));
        }
        let unknown = || {
            Error::invalid(
                "decision",
                "no decision of this id is known; it may be too old",
            )
        };
        let decision = DecisionId::from(feedback.decision);
        let row = self
            .0
            .ledger
            .find(decision.clone())
            .await?
            .ok_or_else(unknown)?;
        if feedback.by.is_some_and(|by| by != row.user) {
            return Err(unknown());
        }
        let Some(chosen) = row.chosen else {
            return Err(Error::invalid(
                "decision",
                "this decision had no answer to judge",
            ));
        };
        let deployment = chosen;
        let outcome = self
            .0
            .ledger
            .feedback(decision, feedback.score, source, unix_ms())
            .await?;
        let outcome = match outcome {
            FeedbackOutcome::Unknown => return Err(unknown()),
            FeedbackOutcome::Repeated => "repeated",
            FeedbackOutcome::Recorded => "recorded",
            FeedbackOutcome::Changed { .. } => "changed",
        };
        // One judgement a source moves what is learned once, however often it is changed.
        if outcome == "recorded" {
            let task = row.task.and_then(|task| task.parse::<TaskKind>().ok());
            if let Some(cell) = self.0.catalogue.load().get(&deployment) {
                cell.feedback(task, feedback.score, 1.0);
            }
        }
        Ok(FeedbackReport {
            deployment,
            outcome,
        })
    }

    /// What is going on.
    pub fn status(&self) -> Status {
        status::of(&self.0)
    }

    /// Every name a query may ask for: `auto`, aliases, ensembles, deployments.
    pub fn models(&self) -> Vec<String> {
        self.0.catalogue.load().names()
    }

    /// The decision of this id, if the ledger still has it.
    pub async fn decision(&self, id: &DecisionId) -> Result<Option<DecisionRow>> {
        self.0.ledger.find(id.clone()).await
    }

    /// What happens from now on. A receiver that falls far behind is told how much it missed.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.events.subscribe()
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.0.config.load_full()
    }

    /// Puts a new configuration in force as a whole: running queries end under the old one, deployments that
    /// remain keep their state, removed ones drain.
    ///
    /// # Errors
    /// If a provider cannot be built; the old configuration stays.
    pub async fn reload(&self, config: Config) -> Result<Reloaded> {
        builder::reload(&self.0, config).await
    }

    /// Whether queries are accepted.
    pub fn is_ready(&self) -> bool {
        !self.0.closing.load(Ordering::Relaxed) && !self.0.catalogue.load().cells.is_empty()
    }

    /// Closes the doors: who waits is answered `overloaded`, who runs may end within `patience`, what was
    /// learned is written. Afterwards every query is refused.
    pub async fn shutdown(&self, patience: Duration) {
        if self.0.closing.swap(true, Ordering::Relaxed) {
            return self.closed().await;
        }
        let _ = self.0.events.send(Event::Closing);
        self.0.dispatcher.close();
        let until = Instant::now() + patience;
        while self.0.dispatcher.occupancy().in_use > 0 && Instant::now() < until {
            sleep(Duration::from_millis(10)).await;
        }
        // Who still runs is told so: an error, never a silent end.
        self.0.cut.cancel();
        let until = Instant::now() + LAST_WORDS;
        while self.0.dispatcher.occupancy().in_use > 0 && Instant::now() < until {
            sleep(Duration::from_millis(10)).await;
        }
        // The rows of the last queries are sent when their streams drop, a moment after their permits return.
        self.0.ledger.flush().await;
        self.0.root.stop(Some("shutting down".into()));
        self.closed().await;
    }

    /// Returns when the orchestrator has ended: after a shutdown, or because its root supervisor gave up.
    pub async fn closed(&self) {
        // No timeout, so the only way to return is the end.
        let _ = self.0.root.wait(None).await;
    }

    /// Hangs a child of the host's own into the tree: it is restarted when it dies and stopped before everything
    /// else at a shutdown.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn supervise(&self, child: ChildSpec) -> Result<()> {
        let failed = |why: String| Error::new(ErrorKind::Internal, why);
        let gone = || failed("the root supervisor has ended".into());
        let (reply, started) = oneshot::channel();
        self.0
            .root
            .send_message(supervisor::Message::Start(child, reply))
            .map_err(|_| gone())?;
        started.await.map_err(|_| gone())?.map_err(failed)
    }

    /// What sets this orchestrator's actors apart from another's in the same process.
    pub fn instance(&self) -> &str {
        &self.0.instance
    }

    /// The supervision tree.
    pub fn tree(&self) -> &Tree {
        &self.0.tree
    }

    #[doc(hidden)]
    pub fn poison(&self, actor: &str) -> bool {
        match actor {
            "dispatcher" => self.0.dispatcher.poison(),
            "ensembler" => self.0.ensembler.poison(),
            deployment => {
                let id = DeploymentId::from(deployment);
                match self.0.catalogue.load().get(&id) {
                    Some(cell) => cell.poison(),
                    None => return false,
                }
            }
        }
        true
    }

    /// The deployment of this name, for a host that wants its snapshot.
    pub fn deployment(&self, id: &DeploymentId) -> Option<Arc<Cell>> {
        self.0.catalogue.load().get(id).cloned()
    }
}

/// How long queries that are cut off at a shutdown may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(1);

fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_millis() as i64)
}

fn closing() -> Error {
    Error::new(ErrorKind::Overloaded, "shutting down")
        .with_retry_after(Some(Duration::from_secs(1)))
}
