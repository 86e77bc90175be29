//! What the router keeps between queries: how much it explored, who serves which session, and what all
//! deployments' evidence amounts to, read together.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::id::DeploymentId;
use crate::learning::aptitude::Landscape;
use crate::learning::{Bounds, Credit, Member, Place, Pool, Prior, TASKS, Why};
use crate::provider::{Cell, Schooling, Snapshot};

/// How many observations a declared quality is worth.
const PRIOR_STRENGTH: f64 = 10.0;
/// Sessions remembered; past it the half that was idle longest is forgotten.
const MOST_SESSIONS: usize = 20_000;
/// Pools up to this size are read anew whenever evidence comes; it takes some 25 µs.
const SMALL_POOL: usize = 64;
/// Changes of larger pools that are let pass before they are read anew.
const LARGE_POOL_STEPS: u64 = 64;
/// Changes that are let pass before the forms of questions are judged anew.
const LANDSCAPE_STEPS: u64 = 256;

/// Lives as long as the orchestrator; catalogues come and go.
pub struct Policy {
    schooling: Arc<Schooling>,
    credits: Mutex<Vec<Credit>>,
    sessions: Mutex<Sessions>,
    derived: ArcSwap<Derived>,
    deriving: Mutex<()>,
}

/// What the evidence of all deployments amounts to.
#[derive(Default)]
pub struct Derived {
    generation: u64,
    judged: u64,
    /// The cells it was read from, by identity and snapshot, with the digest of each.
    members: Vec<(usize, Arc<Snapshot>, [u8; 32])>,
    /// Qualities by kind of task.
    pub pool: Pool,
    /// Which forms of question matter.
    pub landscape: Arc<Landscape>,
    /// The learned state as a whole, in 16 hexadecimal digits.
    pub digest: String,
}

#[derive(Default)]
struct Sessions {
    known: HashMap<String, (DeploymentId, u64)>,
    clock: u64,
}

impl Policy {
    /// A policy that has seen nothing.
    pub fn new(schooling: Arc<Schooling>) -> Self {
        Self {
            schooling,
            credits: Mutex::new(vec![Credit::default(); TASKS + 1]),
            sessions: Mutex::default(),
            derived: ArcSwap::default(),
            deriving: Mutex::default(),
        }
    }

    /// What the learning of all deployments shares.
    pub fn schooling(&self) -> &Arc<Schooling> {
        &self.schooling
    }

    /// How much was explored on work of this kind.
    pub fn credit(&self, place: Place) -> Credit {
        let row = place.row.unwrap_or(TASKS).min(TASKS);
        self.credits.lock().get(row).copied().unwrap_or_default()
    }

    /// A choice was made and is carried out.
    pub fn note(&self, place: Place, why: Why, bounds: Bounds) {
        let row = place.row.unwrap_or(TASKS).min(TASKS);
        if let Some(credit) = self.credits.lock().get_mut(row) {
            credit.note(why, bounds);
        }
    }

    /// Who served the session last.
    pub fn incumbent(&self, session: &str) -> Option<DeploymentId> {
        let sessions = self.sessions.lock();
        sessions.known.get(session).map(|(id, _)| id.clone())
    }

    /// The session was served.
    pub fn served(&self, session: &str, by: &DeploymentId) {
        let mut sessions = self.sessions.lock();
        sessions.clock += 1;
        let clock = sessions.clock;
        if sessions.known.len() >= MOST_SESSIONS && !sessions.known.contains_key(session) {
            let mut times: Vec<u64> = sessions.known.values().map(|(_, at)| *at).collect();
            times.sort_unstable();
            let middle = times[times.len() / 2];
            sessions.known.retain(|_, (_, at)| *at > middle);
        }
        sessions
            .known
            .insert(session.to_owned(), (by.clone(), clock));
    }

    /// What the evidence of these cells amounts to now.
    pub fn derived(&self, cells: &[Arc<Cell>]) -> Arc<Derived> {
        let current = self.derived.load_full();
        if !self.is_stale(&current, cells) {
            return current;
        }
        // One reads anew; who comes meanwhile takes what there is, unless there is nothing yet.
        let first = current.members.len() != cells.len();
        let guard = if first {
            Some(self.deriving.lock())
        } else {
            self.deriving.try_lock()
        };
        if guard.is_none() {
            return current;
        }
        let current = self.derived.load_full();
        if !self.is_stale(&current, cells) {
            return current;
        }
        let derived = Arc::new(self.derive(cells, &current));
        self.derived.store(Arc::clone(&derived));
        derived
    }

    fn is_stale(&self, derived: &Derived, cells: &[Arc<Cell>]) -> bool {
        let behind = self.schooling.generation().wrapping_sub(derived.generation);
        let patience = if cells.len() <= SMALL_POOL {
            0
        } else {
            LARGE_POOL_STEPS
        };
        derived.members.len() != cells.len() || behind > patience
    }

    fn derive(&self, cells: &[Arc<Cell>], before: &Derived) -> Derived {
        let generation = self.schooling.generation();
        let snapshots: Vec<Arc<Snapshot>> =
            cells.iter().map(|cell| cell.snapshot.load_full()).collect();
        let deployments: Vec<_> = cells
            .iter()
            .map(|cell| cell.deployment.load_full())
            .collect();
        let members: Vec<Member<'_>> = snapshots
            .iter()
            .zip(&deployments)
            .map(|(snapshot, deployment)| Member {
                ability: &snapshot.ability,
                prior: Prior {
                    mean: deployment.expected_quality(),
                    strength: PRIOR_STRENGTH,
                },
                family: deployment.family.as_deref(),
                inherits: deployment.quality.is_none(),
            })
            .collect();
        let judged = generation.wrapping_sub(before.judged);
        let same_cells = before.members.len() == cells.len();
        let (landscape, judged) = if same_cells && judged < LANDSCAPE_STEPS {
            (Arc::clone(&before.landscape), before.judged)
        } else {
            let aptitudes = snapshots.iter().map(|snapshot| &*snapshot.aptitude);
            (Arc::new(Landscape::fit(aptitudes)), generation)
        };
        let mut all = blake3::Hasher::new();
        let mut kept = Vec::with_capacity(cells.len());
        for ((cell, snapshot), deployment) in cells.iter().zip(&snapshots).zip(&deployments) {
            let who = Arc::as_ptr(cell) as usize;
            let known = before
                .members
                .get(kept.len())
                .filter(|(other, of, _)| *other == who && same_learned(of, snapshot));
            let digest = known.map_or_else(|| digest(snapshot), |(_, _, digest)| *digest);
            all.update(deployment.id.as_str().as_bytes());
            all.update(&digest);
            kept.push((who, Arc::clone(snapshot), digest));
        }
        // The list of topics cannot fail to be written.
        let _ = serde_json::to_writer(&mut all, &*self.schooling.topics());
        Derived {
            generation,
            judged,
            pool: Pool::fit(&members),
            members: kept,
            landscape,
            digest: all.finalize().to_hex()[..16].to_owned(),
        }
    }
}

fn same_learned(a: &Arc<Snapshot>, b: &Arc<Snapshot>) -> bool {
    Arc::ptr_eq(a, b) || (a.ability == b.ability && Arc::ptr_eq(&a.aptitude, &b.aptitude))
}

/// Of what routing reads of a deployment's learned quality.
fn digest(snapshot: &Snapshot) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    // Numbers and maps of numbers cannot fail to be written.
    let _ = serde_json::to_writer(&mut hasher, &snapshot.ability);
    let _ = serde_json::to_writer(&mut hasher, &*snapshot.aptitude);
    hasher.finalize().into()
}
