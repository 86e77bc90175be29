//! All deployments: their cells, and the supervisors above their actors.

use std::collections::HashSet;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::cell::Cell;
use super::{Deployment, Provider, Schooling, Snapshot, actor};
use crate::error::{Error, ErrorKind, Result};
use crate::id::DeploymentId;
use crate::resilience::BreakerConfig;
use crate::supervisor::{
    self, Address, ChildSpec, ChildState, Exhausted, Intensity, Settings, Strategy, Supervisor,
    Tree, task,
};

/// A deployment to be served, and who makes its calls.
#[derive(Clone)]
pub struct Served {
    /// The deployment.
    pub deployment: Deployment,
    /// Who calls it.
    pub provider: Arc<dyn Provider>,
}

/// The set of deployments and the part of the tree that serves them.
pub struct Fleet {
    instance: String,
    tree: Tree,
    epoch: Instant,
    /// The supervisor of all providers' supervisors.
    root: Address<supervisor::Message>,
    members: Mutex<HashMap<DeploymentId, Arc<Cell>>>,
    providers: Mutex<HashMap<String, Address<supervisor::Message>>>,
    /// Deployments that are served no more, and since when: their actors stay while somebody may still ask them.
    draining: Mutex<HashMap<DeploymentId, (Arc<Cell>, Instant)>>,
    /// Held while actors are added or removed.
    changing: tokio::sync::Mutex<()>,
    /// What was learned of deployments that are gone, should they come back.
    retired: Mutex<HashMap<DeploymentId, Arc<Snapshot>>>,
    /// What the learning of all deployments shares.
    pub schooling: Arc<Schooling>,
}

/// A deployment whose actor dies more often than this has its provider's supervisor give up …
const DEPLOYMENT_INTENSITY: Intensity = Intensity {
    max_restarts: 5,
    window: Duration::from_secs(30),
};
/// … and a provider whose supervisor gives up more often than this is left down until a reload.
const PROVIDER_INTENSITY: Intensity = Intensity {
    max_restarts: 5,
    window: Duration::from_secs(600),
};
/// A query whose plan was made before the deployment was removed has so long to begin its call.
const GRACE: Duration = Duration::from_secs(2);
/// How long a removed deployment's calls may take to end before its actor is stopped regardless.
const DRAIN: Duration = Duration::from_secs(600);

const PATH: &str = "root/providers";

impl Fleet {
    /// An empty fleet, and the child to be supervised by the root.
    pub fn new(instance: &str, tree: Tree, epoch: Instant) -> (Arc<Self>, ChildSpec) {
        let root = Address::vacant();
        let settings = Settings {
            instance: instance.into(),
            path: PATH.into(),
            strategy: Strategy::OneForOne,
            intensity: PROVIDER_INTENSITY,
            exhausted: Exhausted::Abandon,
            tree: tree.clone(),
        };
        let child = ChildSpec::new("providers", root.clone(), move || {
            (Supervisor, (settings.clone(), Vec::new()))
        })
        .shutdown(Duration::from_secs(15));
        let fleet = Self {
            instance: instance.into(),
            tree,
            epoch,
            root,
            members: Mutex::default(),
            providers: Mutex::default(),
            draining: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            retired: Mutex::default(),
            schooling: Arc::default(),
        };
        (Arc::new(fleet), child)
    }

    /// Makes the fleet be `served`, in that order: new deployments start with what `learned` knows of them,
    /// known ones keep their state and go on under the new configuration. The others stay until
    /// [`retire_all_but`](Self::retire_all_but): first nobody must choose them any more. Returns the cells.
    pub async fn apply(
        self: &Arc<Self>,
        served: Vec<Served>,
        breaker: BreakerConfig,
        learned: &mut HashMap<DeploymentId, Snapshot>,
    ) -> Result<Vec<Arc<Cell>>> {
        let _alone = self.changing.lock().await;
        let mut cells = Vec::new();
        let mut fresh: Vec<(String, Arc<Cell>)> = Vec::new();
        {
            let mut members = self.members.lock();
            for Served {
                deployment,
                provider,
            } in served
            {
                let id = deployment.id.clone();
                let back = || Some(self.draining.lock().remove(&id)?.0);
                let cell = match members.get(&id).cloned().or_else(back) {
                    Some(cell) => {
                        cell.configure(deployment, breaker, provider);
                        members.insert(id, Arc::clone(&cell));
                        cell
                    }
                    None => {
                        let retired = self.retired.lock().remove(&id).map(Arc::unwrap_or_clone);
                        let learned = learned.remove(&id).or(retired).unwrap_or_default();
                        self.schooling.resume(learned.ability.step());
                        let schooling = Arc::clone(&self.schooling);
                        let cell = Cell::new(
                            deployment, breaker, provider, learned, schooling, self.epoch,
                        );
                        members.insert(id.clone(), Arc::clone(&cell));
                        fresh.push((id.provider().to_owned(), Arc::clone(&cell)));
                        cell
                    }
                };
                cells.push(cell);
            }
        }
        self.schooling.changed();
        let mut made = HashSet::new();
        for (provider, cell) in fresh {
            // A new supervisor starts all deployments of its provider itself.
            if made.contains(&provider) {
                continue;
            }
            if !self.providers.lock().contains_key(&provider) {
                made.insert(provider.clone());
            }
            self.start(&provider, Some(cell)).await?;
        }
        for provider in self.abandoned() {
            self.providers.lock().remove(&provider);
            self.start(&provider, None).await?;
        }
        Ok(cells)
    }

    /// Every deployment's cell.
    pub fn cells(&self) -> Vec<Arc<Cell>> {
        self.members.lock().values().cloned().collect()
    }

    /// Providers that were left down.
    fn abandoned(&self) -> Vec<String> {
        let mut names: Vec<String> = self.providers.lock().keys().cloned().collect();
        names.retain(|name| {
            self.tree.state(&format!("{PATH}/{name}")) == Some(ChildState::Abandoned)
        });
        names
    }

    /// Starts `cell` below its provider's supervisor, or that supervisor with all its deployments.
    async fn start(self: &Arc<Self>, provider: &str, cell: Option<Arc<Cell>>) -> Result<()> {
        let path = format!("{PATH}/{provider}");
        let existing = self.providers.lock().get(provider).cloned();
        if let (Some(supervisor), Some(cell)) = (existing, cell) {
            let spec = deployment_child(&path, provider, cell);
            return call(&supervisor, |reply| supervisor::Message::Start(spec, reply))
                .await?
                .map_err(internal);
        }
        let address = Address::vacant();
        let settings = Settings {
            instance: self.instance.clone(),
            path: path.clone(),
            strategy: Strategy::OneForOne,
            intensity: DEPLOYMENT_INTENSITY,
            exhausted: Exhausted::Escalate,
            tree: self.tree.clone(),
        };
        let name = provider.to_owned();
        // A supervisor that is restarted takes the deployments of that moment.
        let fleet = Arc::downgrade(self);
        let spec = ChildSpec::new(provider, address.clone(), move || {
            let cells = fleet
                .upgrade()
                .map(|fleet| fleet.cells())
                .unwrap_or_default();
            let ours = cells
                .into_iter()
                .filter(|cell| cell.deployment.load().id.provider() == name);
            let children = ours
                .map(|cell| deployment_child(&path, &name, cell))
                .collect();
            (Supervisor, (settings.clone(), children))
        })
        .shutdown(Duration::from_secs(10));
        call(&self.root, |reply| supervisor::Message::Start(spec, reply))
            .await?
            .map_err(internal)?;
        self.providers.lock().insert(provider.into(), address);
        Ok(())
    }

    /// Lets everyone not among `kept` go; their actors stop when their calls have ended.
    pub fn retire_all_but(self: &Arc<Self>, kept: &[Arc<Cell>]) {
        let mut gone = Vec::new();
        self.members.lock().retain(|id, cell| {
            let keep = kept.iter().any(|kept| Arc::ptr_eq(kept, cell));
            if !keep {
                gone.push((id.clone(), Arc::clone(cell)));
            }
            keep
        });
        if gone.is_empty() {
            return;
        }
        self.schooling.changed();
        let since = Instant::now();
        for (id, cell) in gone {
            let mut draining = self.draining.lock();
            draining.insert(id.clone(), (Arc::clone(&cell), since));
            let fleet = Arc::clone(self);
            // Ends by itself: the drain has a deadline, and the supervisor is gone when the runtime is.
            task::spawn(async move { fleet.drain(id, cell, since).await });
        }
    }

    async fn drain(&self, id: DeploymentId, cell: Arc<Cell>, since: Instant) {
        sleep(GRACE).await;
        while cell.in_flight() > 0 && since.elapsed() < DRAIN {
            sleep(Duration::from_millis(100)).await;
        }
        cell.gauge();
        let _alone = self.changing.lock().await;
        match self.draining.lock().entry(id.clone()) {
            Entry::Occupied(still) if still.get().1 == since => still.remove(),
            // Configured again meanwhile.
            _ => return,
        };
        let provider = id.provider().to_owned();
        let Some(supervisor) = self.providers.lock().get(&provider).cloned() else {
            return;
        };
        let name = child_name(&provider, &id);
        let _ = call(&supervisor, |reply| {
            supervisor::Message::Remove(name, reply)
        })
        .await;
        self.retired
            .lock()
            .insert(id.clone(), cell.snapshot.load_full());
        tracing::info!(deployment = %id, "deployment drained and removed");
        let last = !self
            .members
            .lock()
            .keys()
            .any(|id| id.provider() == provider);
        if last {
            self.providers.lock().remove(&provider);
            let _ = call(&self.root, |reply| {
                supervisor::Message::Remove(provider, reply)
            })
            .await;
        }
    }
}

fn child_name(provider: &str, id: &DeploymentId) -> String {
    id.as_str()
        .strip_prefix(provider)
        .map_or(id.as_str(), |rest| rest.trim_start_matches('/'))
        .to_owned()
}

fn deployment_child(path: &str, provider: &str, cell: Arc<Cell>) -> ChildSpec {
    let name = child_name(provider, &cell.deployment.load().id);
    actor::child(path, &name, cell)
}

fn internal(why: String) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("the provider could not be started: {why}"),
    )
}

/// Asks a supervisor and waits for its answer, at most half a minute.
async fn call<R: Send + 'static>(
    to: &Address<supervisor::Message>,
    message: impl FnOnce(oneshot::Sender<R>) -> supervisor::Message,
) -> Result<R> {
    let (reply, answer) = oneshot::channel();
    let gone = || {
        Error::new(
            ErrorKind::Internal,
            "the supervisor of the providers does not answer",
        )
    };
    to.send(message(reply)).map_err(|_| gone())?;
    match tokio::time::timeout(Duration::from_secs(30), answer).await {
        Ok(Ok(answer)) => Ok(answer),
        _ => Err(gone()),
    }
}
