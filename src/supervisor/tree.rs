//! What the supervisors know of their children, for `status` and metrics.

use std::sync::Arc;

use dashmap::DashMap;
use serde::Serialize;
use tokio::time::Instant;

use crate::telemetry;

/// How a child fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChildState {
    /// Up.
    Running,
    /// Waiting to be started again.
    Restarting,
    /// Ended as intended.
    Stopped,
    /// Given up after too many restarts; a reload of the configuration tries again.
    Abandoned,
}

/// One child, by its path in the tree.
#[derive(Clone, Debug, Serialize)]
pub struct ChildStatus {
    /// `root/providers/east/m1` and the like.
    pub path: String,
    /// How it fares.
    pub state: ChildState,
    /// Restarts since the start of the process.
    pub restarts: u64,
    /// Why it last ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<String>,
    /// Seconds since it was last started.
    pub up_seconds: f64,
}

struct Entry {
    state: ChildState,
    restarts: u64,
    last_exit: Option<String>,
    since: Instant,
}

/// A keyed view of the whole tree: each supervisor writes its own children, anybody reads.
#[derive(Clone, Default)]
pub struct Tree(Arc<DashMap<String, Entry>>);

impl Tree {
    pub(super) fn started(&self, path: &str) {
        let mut entry = self.0.entry(path.into()).or_insert_with(|| Entry {
            state: ChildState::Running,
            restarts: 0,
            last_exit: None,
            since: Instant::now(),
        });
        if entry.state == ChildState::Restarting {
            entry.restarts += 1;
            telemetry::actor_restarted(path);
        }
        entry.state = ChildState::Running;
        entry.since = Instant::now();
    }

    pub(super) fn ended(&self, path: &str, state: ChildState, why: &str) {
        if let Some(mut entry) = self.0.get_mut(path) {
            entry.state = state;
            entry.last_exit = Some(why.into());
        }
    }

    pub(super) fn forget(&self, path: &str) {
        self.0.remove(path);
    }

    /// How the child at `path` fares.
    pub fn state(&self, path: &str) -> Option<ChildState> {
        self.0.get(path).map(|entry| entry.state)
    }

    /// Every child, by path.
    pub fn children(&self) -> Vec<ChildStatus> {
        let mut children: Vec<ChildStatus> = self
            .0
            .iter()
            .map(|entry| ChildStatus {
                path: entry.key().clone(),
                state: entry.state,
                restarts: entry.restarts,
                last_exit: entry.last_exit.clone(),
                up_seconds: entry.since.elapsed().as_secs_f64(),
            })
            .collect();
        children.sort_by(|a, b| a.path.cmp(&b.path));
        children
    }
}
