//! The supervisor.
//!
//! Started by the orchestrator (the root) or by another supervisor. Owns its children's cells, their restart
//! history and nothing else. Messages: start and remove a child, restart one whose backoff is over, the
//! heartbeat. It is the one actor whose handlers wait for others, and only for a child that stops, each with
//! its deadline.

use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::intensity::{RestartHistory, Verdict};
use super::{ChildSpec, ChildState, ExitReason, Heartbeat, Intensity, Tree};
use crate::telemetry;

/// How often mailboxes are measured.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Who is restarted when a child dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Only that child.
    OneForOne,
    /// That child and every sibling started after it, which may depend on it.
    RestForOne,
}

/// What to do when children die more often than the intensity allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// Stop everything and fail, so that the parent decides.
    Escalate,
    /// Leave that child down; the others go on.
    Abandon,
}

/// A supervisor's settings.
#[derive(Clone)]
pub struct Settings {
    /// Names of actors are global to the process; this prefix keeps two orchestrators apart.
    pub instance: String,
    /// Its own path in the tree, e.g. `root/providers`.
    pub path: String,
    /// Who is restarted.
    pub strategy: Strategy,
    /// How often.
    pub intensity: Intensity,
    /// And beyond that.
    pub exhausted: Exhausted,
    /// Where to publish what it knows.
    pub tree: Tree,
}

/// What a supervisor is told.
pub enum Message {
    /// Start one more child. Answers with why it could not.
    Start(ChildSpec, oneshot::Sender<Result<(), String>>),
    /// Stop a child and forget it. Answers when it is gone; a name nobody has is no error.
    Remove(String, oneshot::Sender<()>),
    /// The backoff of a child is over.
    Resume(String),
    /// Measure the mailboxes, this one's too.
    Beat,
    /// See [`Heartbeat`].
    Ping(Instant),
}

impl Heartbeat for Message {
    fn ping(at: Instant) -> Self {
        Self::Ping(at)
    }
}

/// The supervisor actor.
pub struct Supervisor;

/// The children and how often they fell.
pub struct State {
    settings: Settings,
    epoch: Instant,
    children: Vec<Child>,
}

struct Child {
    spec: ChildSpec,
    cell: Option<ActorCell>,
    history: RestartHistory,
}

impl State {
    fn path(&self, child: &str) -> String {
        format!("{}/{child}", self.settings.path)
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.children
            .iter()
            .position(|child| child.spec.name == name)
    }

    fn position_of(&self, id: ActorId) -> Option<usize> {
        self.children
            .iter()
            .position(|child| child.cell.as_ref().is_some_and(|cell| cell.get_id() == id))
    }

    async fn start(&mut self, index: usize, myself: &ActorRef<Message>) -> Result<(), String> {
        let spec = &self.children[index].spec;
        let path = self.path(&spec.name);
        let name = format!("{}/{path}", self.settings.instance);
        let cell = (spec.start)(name, myself.get_cell())
            .await
            .map_err(|error| error.to_string())?;
        self.children[index].cell = Some(cell);
        self.settings.tree.started(&path);
        Ok(())
    }

    /// Stops a child within its deadline, then kills it. Its event still arrives, but finds no cell to match.
    async fn stop(&mut self, index: usize, why: &str) {
        let path = self.path(&self.children[index].spec.name);
        let child = &mut self.children[index];
        let Some(cell) = child.cell.take() else {
            return;
        };
        let stopped = cell
            .stop_and_wait(Some(why.into()), Some(child.spec.shutdown))
            .await;
        if stopped.is_err() {
            tracing::warn!(actor = %path, "did not stop in time, killed");
            cell.kill();
        }
        self.settings.tree.ended(&path, ChildState::Stopped, why);
    }

    async fn stop_all(&mut self, why: &str) {
        for index in (0..self.children.len()).rev() {
            self.stop(index, why).await;
        }
    }

    /// Restarts the child at `index`, or gives up; `why` is what ended it.
    async fn revive(
        &mut self,
        index: usize,
        why: &str,
        myself: &ActorRef<Message>,
    ) -> Result<(), ActorProcessingErr> {
        let path = self.path(&self.children[index].spec.name);
        let now = self.epoch.elapsed();
        match self.children[index].history.record(now) {
            Verdict::Restart { after } => {
                tracing::warn!(actor = %path, why, after_ms = after.as_millis() as u64, "actor died, restarting");
                self.settings.tree.ended(&path, ChildState::Restarting, why);
                let name = self.children[index].spec.name.clone();
                if after.is_zero() {
                    self.resume(&name, myself).await
                } else {
                    myself.send_after(after, move || Message::Resume(name));
                    Ok(())
                }
            }
            Verdict::GiveUp => self.exhausted(index, why).await,
        }
    }

    async fn exhausted(&mut self, index: usize, why: &str) -> Result<(), ActorProcessingErr> {
        let path = self.path(&self.children[index].spec.name);
        self.settings.tree.ended(&path, ChildState::Abandoned, why);
        match self.settings.exhausted {
            Exhausted::Abandon => {
                tracing::error!(actor = %path, why, "died too often, left down");
                Ok(())
            }
            Exhausted::Escalate => {
                let reason = format!("restart intensity exceeded by {path} ({why})");
                tracing::error!(actor = %path, why, "died too often, escalating");
                self.stop_all(&reason).await;
                Err(reason.into())
            }
        }
    }

    /// Starts a child whose turn has come; under rest-for-one, its later siblings too.
    async fn resume(
        &mut self,
        name: &str,
        myself: &ActorRef<Message>,
    ) -> Result<(), ActorProcessingErr> {
        let Some(index) = self.position(name) else {
            return Ok(());
        };
        let last = match self.settings.strategy {
            Strategy::OneForOne => index,
            Strategy::RestForOne => self.children.len() - 1,
        };
        for index in index..=last {
            if self.children[index].cell.is_some() {
                continue;
            }
            if let Err(error) = self.start(index, myself).await {
                // A start that fails is one more death. Boxed, since the two call each other.
                return Box::pin(self.revive(index, &error, myself)).await;
            }
        }
        Ok(())
    }

    async fn child_ended(
        &mut self,
        cell: &ActorCell,
        reason: &ExitReason,
        myself: &ActorRef<Message>,
    ) -> Result<(), ActorProcessingErr> {
        // Not found: we stopped it ourselves.
        let Some(index) = self.position_of(cell.get_id()) else {
            return Ok(());
        };
        self.children[index].cell = None;
        let why = reason.to_string();
        let path = self.path(&self.children[index].spec.name);
        if !self.children[index].spec.restart.applies(reason) {
            tracing::info!(actor = %path, %reason, "actor ended");
            self.settings.tree.ended(&path, ChildState::Stopped, &why);
            return Ok(());
        }
        if self.settings.strategy == Strategy::RestForOne {
            for later in (index + 1..self.children.len()).rev() {
                self.stop(later, "an earlier sibling died").await;
                let path = self.path(&self.children[later].spec.name);
                self.settings
                    .tree
                    .ended(&path, ChildState::Restarting, "an earlier sibling died");
            }
        }
        self.revive(index, &why, myself).await
    }
}

impl Actor for Supervisor {
    type Msg = Message;
    type State = State;
    type Arguments = (Settings, Vec<ChildSpec>);

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        (settings, specs): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let mut state = State {
            settings,
            epoch: Instant::now(),
            children: Vec::new(),
        };
        for spec in specs {
            let history = RestartHistory::new(state.settings.intensity);
            state.children.push(Child {
                spec,
                cell: None,
                history,
            });
            state.start(state.children.len() - 1, &myself).await?;
        }
        Ok(state)
    }

    async fn post_start(
        &self,
        myself: ActorRef<Message>,
        _: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        myself.send_interval(HEARTBEAT, || Message::Beat);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Start(spec, reply) => {
                if let Some(index) = state.position(&spec.name) {
                    state.stop(index, "replaced").await;
                    state.children.remove(index);
                }
                let history = RestartHistory::new(state.settings.intensity);
                state.children.push(Child {
                    spec,
                    cell: None,
                    history,
                });
                let index = state.children.len() - 1;
                let started = state.start(index, &myself).await;
                if started.is_err() {
                    state.children.remove(index);
                }
                let _ = reply.send(started);
            }
            Message::Remove(name, reply) => {
                if let Some(index) = state.position(&name) {
                    state.stop(index, "removed").await;
                    state.settings.tree.forget(&state.path(&name));
                    state.children.remove(index);
                }
                let _ = reply.send(());
            }
            Message::Resume(name) => state.resume(&name, &myself).await?,
            Message::Beat => {
                let now = Instant::now();
                for child in &state.children {
                    (child.spec.ping)(now);
                }
                let _ = myself.send_message(Message::Ping(now));
            }
            Message::Ping(at) => telemetry::mailbox_delay(&state.settings.path, at.elapsed()),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Message>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match ExitReason::of(event) {
            Some((cell, reason)) => state.child_ended(&cell, &reason, &myself).await,
            None => Ok(()),
        }
    }

    async fn post_stop(
        &self,
        _: ActorRef<Message>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        // A supervisor that stops would kill its children without their `post_stop`.
        state.stop_all("shutting down").await;
        Ok(())
    }
}
