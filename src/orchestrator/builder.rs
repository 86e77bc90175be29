//! From a configuration to a running orchestrator, and from one configuration to the next.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ractor::Actor;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Event, Inner, Orchestrator, Reloaded, feedback};
use crate::config::{Config, ProviderConfig};
use crate::dispatcher::{self, Dispatcher};
use crate::ensembler::Ensembler;
use crate::error::{Error, ErrorKind, Result};
use crate::executor::{Executor, Policy};
use crate::id::DeploymentId;
use crate::learner::Learner;
use crate::ledger::learned::{self, Learned};
use crate::ledger::{self, Awaited, Ledger, Store};
use crate::provider::{Cell, Deployment, Fleet, Provider, Served, adapter};
use crate::resilience::{Backoff, HedgeConfig};
use crate::router::{self, Catalogue};
use crate::supervisor::{Exhausted, Intensity, Settings, Strategy, Supervisor, Tree, task};

/// Events a slow subscriber may lag behind.
const EVENTS: usize = 1024;
/// The tree as a whole may restart its children this often before the orchestrator ends.
const ROOT_INTENSITY: Intensity = Intensity {
    max_restarts: 10,
    window: Duration::from_secs(60),
};

/// Builds an [`Orchestrator`].
pub struct Builder {
    config: Config,
    host: Vec<Served>,
    learns_by_itself: bool,
}

/// Who makes the calls of what is configured.
pub(super) struct Adapters {
    client: adapter::openai::Client,
    connect_timeout: Duration,
    /// As configured, with what was built of it. What does not change is kept, a loaded model for one.
    built: Vec<(ProviderConfig, Vec<Served>)>,
    /// The host's own.
    host: Vec<Served>,
}

impl Adapters {
    /// Everything that `config` wants served, in its order, the host's own last.
    fn build(&mut self, config: &Config) -> Result<Vec<Served>> {
        if self.connect_timeout != config.resilience.connect_timeout {
            self.connect_timeout = config.resilience.connect_timeout;
            self.client = adapter::openai::Client::new(self.connect_timeout).map_err(unbuilt)?;
            self.built.clear();
        }
        let mut built = Vec::new();
        for provider in &config.providers {
            let known = self.built.iter().find(|(known, _)| known == provider);
            let served = match known {
                Some((_, served)) => served.clone(),
                None => adapter::build(provider, &self.client).map_err(unbuilt)?,
            };
            built.push((provider.clone(), served));
        }
        self.built = built;
        let configured = self.built.iter().flat_map(|(_, served)| served);
        Ok(configured.chain(&self.host).cloned().collect())
    }
}

/// See [`Orchestrator::mistakes`].
pub(super) fn mistakes(config: &Config) -> Vec<String> {
    let client = match adapter::openai::Client::new(config.resilience.connect_timeout) {
        Ok(client) => client,
        Err(why) => return vec![why],
    };
    let providers = config.providers.iter();
    providers
        .filter_map(|provider| adapter::build(provider, &client).err())
        .collect()
}

fn unbuilt(why: String) -> Error {
    Error::new(ErrorKind::Invalid, why)
}

impl Builder {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            host: Vec::new(),
            learns_by_itself: true,
        }
    }

    /// Adds a deployment that the host itself serves. It gets a breaker, limits and learned state like any
    /// other.
    pub fn provider(mut self, deployment: Deployment, provider: Arc<dyn Provider>) -> Self {
        self.host.push(Served {
            deployment,
            provider,
        });
        self
    }

    /// Models of votes are fitted only by [`Orchestrator::fit`], not whenever enough has come: for runs that must be
    /// repeatable.
    pub fn fits_on_demand(mut self) -> Self {
        self.learns_by_itself = false;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a provider that cannot be built or two deployments of one name,
    /// [`Internal`](ErrorKind::Internal) if the ledger's file can neither be opened nor set aside.
    pub async fn start(self) -> Result<Orchestrator> {
        let Self {
            config,
            host,
            learns_by_itself,
        } = self;
        let started = Instant::now();
        let connect_timeout = config.resilience.connect_timeout;
        let client = adapter::openai::Client::new(connect_timeout).map_err(unbuilt)?;
        let mut adapters = Adapters {
            client,
            connect_timeout,
            built: Vec::new(),
            host,
        };
        let served = adapters.build(&config)?;
        no_doubles(&served)?;

        let (mut store, lock, awaited) = open_store(config.ledger.path.as_deref())?;
        let mut learned = load_learned(&mut store);

        let instance = format!("quorate-{:08x}", rand::random::<u32>());
        let tree = Tree::default();
        let (fleet, fleet_child) = Fleet::new(&instance, tree.clone(), started);
        let schooling = Arc::clone(&fleet.schooling);
        let (learner, learner_child) =
            Learner::new("root/learner", Arc::clone(&schooling), learns_by_itself);
        schooling.restore_topics(std::mem::take(&mut learned.topics));
        schooling.pin(learned.pinned);
        let ensembles = std::mem::take(&mut learned.ensembles).into_iter();
        let (configured, others): (Vec<_>, Vec<_>) =
            ensembles.partition(|(name, _)| config.ensembles.contains_key(name));
        learner.restore(configured.into_iter().chain(others), learned.forgotten);
        let kept = std::mem::take(&mut learned.experiments);
        learner.experiments().remember(kept, &learned.retired);
        let gone = experiment_keys(learner.experiments().configure(&config.experiments));
        if let Err(error) = store.replace_cells(&[], &gone) {
            tracing::warn!(%error, "the evidence of old experiments could not be deleted");
        }
        let (source, taught) = (Arc::clone(&fleet), learner.clone());
        let cells = Arc::new(move || {
            // Half of one state and half of another must not come to the disk.
            if source.schooling.is_replacing() {
                return Vec::new();
            }
            kept_cells(&source, &taught)
        });
        let settings = ledger_settings(&config);
        let (ledger, ledger_child) = Ledger::new("root/ledger", store, awaited, settings, cells);
        let (dispatcher, dispatcher_child) = Dispatcher::new("root/dispatcher", limits(&config));
        let (ensembler, ensembler_child) = Ensembler::new("root/ensembler");
        let settings = Settings {
            instance: instance.clone(),
            path: "root".into(),
            strategy: Strategy::OneForOne,
            intensity: ROOT_INTENSITY,
            exhausted: Exhausted::Escalate,
            tree: tree.clone(),
        };
        // The order of start; the reverse is the order of stop, so the ledger hears of everything.
        let children = vec![
            ledger_child,
            fleet_child,
            learner_child,
            dispatcher_child,
            ensembler_child,
        ];
        let (root, _) = Actor::spawn(
            Some(format!("{instance}/root")),
            Supervisor,
            (settings, children),
        )
        .await
        .map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                format!("the actors do not start: {error}"),
            )
        })?;
        let cells = fleet
            .apply(served, config.resilience.breaker, &mut learned.deployments)
            .await?;
        let (events, _) = broadcast::channel(EVENTS);
        let routing = Arc::new(router::Policy::new(schooling));
        let inner = Arc::new(Inner {
            started,
            catalogue: ArcSwap::from_pointee(catalogue(&config, cells, routing)),
            learner,
            executor: Arc::new(Executor::new(policy(&config), started)),
            config: ArcSwap::from_pointee(config),
            dispatcher,
            ensembler,
            ledger,
            fleet,
            tree,
            root,
            instance,
            events,
            meters: crate::telemetry::QueryMeters::new(),
            closing: AtomicBool::new(false),
            cut: CancellationToken::new(),
            adapters: Mutex::new(adapters),
            reloading: tokio::sync::Mutex::new(()),
            _ledger_lock: lock,
        });
        recall(&inner);
        Ok(Orchestrator(inner))
    }
}

/// See [`Orchestrator::reload`].
pub(super) async fn reload(inner: &Arc<Inner>, mut config: Config) -> Result<Reloaded> {
    let _one_at_a_time = inner.reloading.lock().await;
    let old = inner.config.load_full();
    let at_next_start = keep(&mut config, &old);
    if config.keys.is_empty() && old.server.http.is_some_and(|at| !at.ip().is_loopback()) {
        return Err(unbuilt(
            "keys: server.http stays reachable from other machines until the next start, and without [[keys]] is open \
             to everybody: keep a key, or restart"
                .into(),
        ));
    }
    let served = inner.adapters.lock().build(&config)?;
    no_doubles(&served)?;
    let before = ids(&inner.catalogue.load().cells);
    let cells = inner
        .fleet
        .apply(served, config.resilience.breaker, &mut HashMap::new())
        .await?;
    let after = ids(&cells);
    let routing = Arc::clone(&inner.catalogue.load().policy);
    let chosen_from = catalogue(&config, cells.clone(), routing);
    inner.catalogue.store(Arc::new(chosen_from));
    inner.fleet.retire_all_but(&cells);
    let experiments = inner.learner.experiments();
    let gone = experiment_keys(experiments.configure(&config.experiments));
    if !gone.is_empty() {
        // Behind what is on its way to the disk.
        inner.ledger.flush().await;
        if let Err(error) = inner.ledger.replace_cells(Vec::new(), gone).await {
            tracing::warn!(%error, "the evidence of old experiments could not be deleted");
        }
    }
    if limits(&old) != limits(&config) {
        inner.dispatcher.configure(limits(&config));
    }
    if policy(&old) != policy(&config) {
        inner.executor.configure(policy(&config));
    }
    inner.ledger.configure(ledger_settings(&config));
    inner.config.store(Arc::new(config));
    let _ = inner.events.send(Event::Reloaded);
    let added = after
        .iter()
        .filter(|id| !before.contains(id))
        .cloned()
        .collect();
    let removed = before
        .iter()
        .filter(|id| !after.contains(id))
        .cloned()
        .collect();
    tracing::info!(?added, ?removed, ?at_next_start, "configuration reloaded");
    Ok(Reloaded {
        added,
        removed,
        at_next_start,
    })
}

/// Keeps what changes at the next start only as it is in force, and tells which keys would have changed.
fn keep(config: &mut Config, in_force: &Config) -> Vec<String> {
    fn keep<T: PartialEq + Clone>(wanted: &mut T, in_force: &T) -> bool {
        let changed = wanted != in_force;
        wanted.clone_from(in_force);
        changed
    }
    let changed = [
        (
            "server.http",
            keep(&mut config.server.http, &in_force.server.http),
        ),
        (
            "server.socket",
            keep(&mut config.server.socket, &in_force.server.socket),
        ),
        (
            "ledger.path",
            keep(&mut config.ledger.path, &in_force.ledger.path),
        ),
        ("log", keep(&mut config.log, &in_force.log)),
    ];
    let changed = changed.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| key.to_owned()).collect()
}

fn ids(cells: &[Arc<Cell>]) -> Vec<DeploymentId> {
    cells
        .iter()
        .map(|cell| cell.deployment.load().id.clone())
        .collect()
}

fn no_doubles(served: &[Served]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    match served.iter().find(|one| !seen.insert(&one.deployment.id)) {
        Some(double) => Err(unbuilt(format!(
            "the deployment {} is there twice",
            double.deployment.id
        ))),
        None => Ok(()),
    }
}

fn limits(config: &Config) -> dispatcher::Limits {
    let admission = &config.admission;
    dispatcher::Limits {
        per_user: admission.per_user,
        total: admission.total,
        queue: admission.queue,
        aging: admission.aging,
    }
}

fn policy(config: &Config) -> Policy {
    let resilience = &config.resilience;
    Policy {
        retries: resilience.retries,
        backoff: Backoff {
            base: resilience.backoff_base,
            cap: resilience.backoff_cap,
        },
        retry_ratio: resilience.retry_budget,
        hedge: HedgeConfig {
            enabled: resilience.hedge,
            ..HedgeConfig::default()
        },
        hedge_ratio: resilience.hedge_budget,
    }
}

fn ledger_settings(config: &Config) -> ledger::Settings {
    let ledger = &config.ledger;
    ledger::Settings {
        flush: ledger.flush,
        checkpoint: ledger.checkpoint,
        max_age: ledger.max_age,
        max_rows: ledger.max_rows,
    }
}

/// The cells in the order that `auto` falls back to: `routing.order` first, the others as configured.
fn catalogue(
    config: &Config,
    mut cells: Vec<Arc<Cell>>,
    routing: Arc<router::Policy>,
) -> Catalogue {
    let order = &config.routing.order;
    cells.sort_by_key(|cell| {
        let id = cell.deployment.load().id.clone();
        order
            .iter()
            .position(|name| name == id.as_str())
            .unwrap_or(usize::MAX)
    });
    Catalogue::new(
        cells,
        config.models.clone(),
        config.ensembles.clone(),
        config.experiments.keys().cloned().collect(),
        &config.routing,
        routing,
    )
}

/// Everything that is learned, as cells.
pub(super) fn learned_cells(fleet: &Fleet, learner: &Learner) -> Vec<ledger::Cell> {
    let mut cells = learned::cells(&fleet.cells(), &fleet.schooling.topics());
    cells.extend(learner.cells());
    cells
}

/// Everything that is kept: what is learned, and how it is held.
pub(super) fn kept_cells(fleet: &Fleet, learner: &Learner) -> Vec<ledger::Cell> {
    let mut cells = learned_cells(fleet, learner);
    cells.extend(learned::named(
        learned::PINNED,
        &fleet.schooling.is_pinned(),
    ));
    cells.extend(learned::named(learned::FORGOTTEN, &learner.forgotten()));
    let retired = learner.experiments().retired();
    cells.extend(learned::named(learned::RETIRED, &retired));
    cells
}

fn experiment_keys(names: Vec<String>) -> Vec<String> {
    let key = |name| format!("experiment:{name}");
    names.into_iter().map(key).collect()
}

/// Past ensembles that the votes' models go on from.
const RECALLED: usize = 4_096;

/// Has the learner remember the ensembles of before the start, unless they were forgotten. Not on the way of the first
/// query.
fn recall(inner: &Arc<Inner>) {
    let (ledger, learner) = (inner.ledger.clone(), inner.learner.clone());
    let (era, forgotten) = (learner.era(), learner.forgotten());
    // Ends by itself, after one read of the ledger.
    task::spawn(async move {
        match ledger.ensembles(RECALLED, forgotten).await {
            Ok(rows) => {
                let rounds = rows
                    .iter()
                    .filter_map(|(row, truth)| feedback::round(row, feedback::truth(*truth)));
                learner.recall(era, rounds.collect());
            }
            Err(error) => tracing::warn!(%error, "past ensembles cannot be read"),
        }
    });
}

/// The ledger's store, the lock that makes its file ours, and the file that the store stands in for where that cannot be
/// used.
fn open_store(path: Option<&Path>) -> Result<(Store, Option<File>, Option<Awaited>)> {
    let failed = |error| Error::new(ErrorKind::Internal, format!("no ledger in memory: {error}"));
    let Some(path) = path else {
        return Ok((Store::in_memory().map_err(failed)?, None, None));
    };
    match ledger::claim(path) {
        Ok((store, warnings, lock)) => {
            for warning in warnings {
                tracing::warn!(path = %path.display(), "{warning}");
            }
            Ok((store, Some(lock), None))
        }
        Err(error) => {
            let (store, awaited) = Awaited::stand_in(path, &error).map_err(failed)?;
            let path = path.display();
            tracing::warn!(%path, %error, "the ledger's file cannot be used; what is learned is kept in memory only until it can");
            Ok((store, None, Some(awaited)))
        }
    }
}

fn load_learned(store: &mut Store) -> Learned {
    let (cells, mut bad) = match store.load_cells() {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::warn!(%error, "learned state cannot be read, starting without it");
            return Learned::default();
        }
    };
    let (learned, refused) = learned::restore(cells);
    for cell in &refused {
        if let Err(error) = store.quarantine(&cell.key, &cell.reason) {
            tracing::warn!(%error, "a damaged cell could not be set aside");
        }
    }
    bad.extend(refused);
    for cell in bad {
        tracing::warn!(
            key = cell.key,
            reason = cell.reason,
            "a cell of learned state is damaged and left out"
        );
    }
    learned
}
