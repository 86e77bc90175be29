//! The embeddable handle: everything a host program, the socket and the HTTP door can ask for.
//!
//! - [`Orchestrator`]: the handle itself.
//! - [`Builder`]: from a configuration, and providers of the host's own.
//! - `feedback`: judgements of answers, and what is learned from them; `evidence`: what answers themselves show.
//! - `run`: one query's way.
//! - `record`: what is written down of it, however it ends.
//! - `state`: learned state as something one can hold, and decisions made again.
//! - [`status`]: what is going on.

mod builder;
mod evidence;
mod feedback;
mod record;
mod run;
mod state;
pub mod status;

use std::collections::HashSet;
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
use crate::id::{DecisionId, DeploymentId};
use crate::learner::Learner;
use crate::ledger::{DecisionRow, Ledger};
use crate::provider::{Cell, Fleet};
use crate::query::Query;
use crate::router::{Catalogue, Plan};
use crate::supervisor::{self, ChildSpec, Tree};
use crate::telemetry;

pub use builder::Builder;
pub use evidence::Evidence;
pub use feedback::{Feedback, FeedbackReport, Thumb};
pub use state::{Again, Considered, Held, Restored};
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
    learner: Learner,
    ledger: Ledger,
    fleet: Arc<Fleet>,
    tree: Tree,
    root: ActorRef<supervisor::Message>,
    instance: String,
    events: broadcast::Sender<Event>,
    meters: telemetry::QueryMeters,
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
        let mut query = query.clone();
        let trial = run::prepare(&self.0, &mut query, false);
        let mut plan = self.0.catalogue.load().plan(&query, stream)?;
        plan.trial = trial;
        Ok(plan)
    }

    /// Takes a judgement of an earlier answer; whoever gave it, or part of it, learns from it. Repeating a
    /// judgement changes nothing, and it may come late.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a score out of range, for none or several judgements in one, and for a
    /// decision that is not known or had no answer.
    pub async fn feedback(&self, feedback: Feedback) -> Result<FeedbackReport> {
        feedback::take(&self.0, feedback).await
    }

    /// Takes in evidence on deployments from elsewhere, tests' results or an external judge's: all of it, or none.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid), naming the place and the field; and while learned state is pinned.
    pub fn import(&self, evidence: &[Evidence]) -> Result<()> {
        evidence::import(&self.0, evidence)
    }

    /// Fits the model of an ensemble's votes to all its rounds so far, and returns when it is in force; `false` if
    /// there were none. The ensemble's name, or for one that a query put together its members, sorted and joined
    /// by `+`.
    pub async fn fit(&self, ensemble: &str) -> bool {
        self.0.learner.fit(ensemble).await
    }

    /// Pins what was learned, or lets learning go on: pinned, it serves and nothing changes it.
    pub fn pin(&self, pinned: bool) {
        self.0.fleet.schooling.pin(pinned);
    }

    /// Pins as [`pin`](Self::pin) does, and saves what is pinned so that one can go back to it.
    ///
    /// # Errors
    /// If it cannot be saved; it is pinned all the same.
    pub async fn pin_and_save(&self, pinned: bool) -> Result<Held> {
        state::pin(&self.0, pinned).await
    }

    /// Learned state as a document: JSON with a digest of its own.
    pub fn export(&self) -> String {
        state::export(&self.0)
    }

    /// Puts an exported state in force, in place of all that was learned; that is saved before.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a document that is none; then nothing changes. Parts of it that say what
    /// cannot be are left out and named.
    pub async fn restore(&self, document: &[u8]) -> Result<Restored> {
        state::import(&self.0, document, "import").await
    }

    /// Goes back to a saved state, named by the first digits of its digest.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if no state, or more than one, begins so.
    pub async fn rollback(&self, digest: &str) -> Result<Restored> {
        state::rollback(&self.0, digest).await
    }

    /// What is held, and what can be gone back to.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub async fn held(&self) -> Result<Held> {
        state::held(&self.0).await
    }

    /// Makes a decision again from what was written of it, and says whether the same came out, bit for bit.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a decision that is not known.
    pub async fn replay(&self, id: &DecisionId) -> Result<Again> {
        state::again(&self.0, id).await
    }

    /// What is going on.
    pub fn status(&self) -> Status {
        status::of(&self.0)
    }

    /// Brings gauges up to date, which otherwise follow within seconds: for whoever is about to read them.
    pub fn gauge(&self) {
        let occupancy = self.0.dispatcher.occupancy();
        telemetry::admission(occupancy.in_use, occupancy.waiting);
        for cell in &self.0.catalogue.load().cells {
            cell.gauge();
        }
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

    /// What `config` asks of providers that none can do, such as a script with a mistake: each would fail a start.
    pub fn mistakes(config: &Config) -> Vec<String> {
        builder::mistakes(config)
    }

    /// Puts a new configuration in force as a whole: running queries end under the old one, deployments that
    /// remain keep their state, removed ones drain.
    ///
    /// # Errors
    /// If a provider cannot be built, or a door that stays open to other machines would be left without keys; the old
    /// configuration stays.
    pub async fn reload(&self, config: Config) -> Result<Reloaded> {
        builder::reload(&self.0, config).await
    }

    /// Whether queries are accepted.
    pub fn is_ready(&self) -> bool {
        !self.0.closing.load(Ordering::Relaxed) && !self.0.catalogue.load().cells.is_empty()
    }

    /// Opens a connection to each upstream, in the background, so that first queries need not wait for one. An upstream
    /// that cannot be reached is none the worse for it.
    pub fn warm(&self) {
        let mut known = HashSet::new();
        for cell in &self.0.catalogue.load().cells {
            if known.insert(cell.deployment.load().id.provider().to_owned()) {
                // Ends within the time that connecting may take.
                supervisor::task::spawn(cell.provider.load().is_reachable());
            }
        }
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
