//! Providers: what stands between a plan and a model.
//!
//! - [`Provider`]: the trait that turns a [`Call`] into an [`Outcome`]; adapters implement it, and so may a host.
//! - `deployment`: what the operator says about one model at one provider.
//! - `actor`: one actor per deployment, owner of its breaker, limits and learned state.
//! - `cell`: what everybody else holds of a deployment; hands out call guards.
//! - `fleet`: all cells, by name, and the supervisors above their actors.
//! - `schooling`: what the learning of all deployments shares.
//! - `snapshot`: what the actor publishes after each outcome, for the router to read.
//! - `adapter`: one folder per wire.

pub mod actor;
pub mod adapter;
mod cell;
pub mod deployment;
mod evidence;
mod fleet;
mod schooling;
pub mod snapshot;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::answer::{Answer, Deltas};
use crate::error::Error;
use crate::query::Query;

pub use actor::Judgement;
pub use actor::Report;
pub use cell::{Cell, Guard, Want};
pub use deployment::{Capabilities, Deployment, Limits, Price, Timeouts};
pub use fleet::{Fleet, Served};
pub use schooling::Schooling;
pub use snapshot::{Calls, Health, Snapshot, Sources, Tokens};

/// Something that can answer queries: an adapter to a remote API, a model in this process, or a host's own.
///
/// A provider keeps no account of its health: breaker, limits and learned state belong to the actor in
/// front of it. It makes one attempt per call and reports what happened; retries and fallbacks are the
/// executor's alone.
pub trait Provider: Send + Sync + 'static {
    /// Makes one attempt.
    ///
    /// The future and the stream it may yield are dropped when the caller goes away, a deadline passes or
    /// another deployment wins: dropping must stop the work. A panic inside is caught and counts as
    /// [`Internal`](crate::ErrorKind::Internal).
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Outcome, Error>>;

    /// Whether a connection to the upstream comes about now. Asked while a breaker is open because none did, so that
    /// the upstream need not wait for the open time to end. By default it is not known, which is no.
    fn is_reachable(&self) -> BoxFuture<'static, bool> {
        Box::pin(std::future::ready(false))
    }

    /// A word to the reader that every answer of this provider carries.
    fn note(&self) -> Option<String> {
        None
    }
}

/// One attempt to be made.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is asked.
    pub query: Arc<Query>,
    /// The model's name as this provider knows it.
    pub model: Arc<str>,
    /// Whether the caller wants deltas. A provider may answer whole or streamed either way; what the caller
    /// wants is only the better choice.
    pub stream: bool,
    /// When the answer is worth nothing any more.
    pub deadline: Instant,
}

/// What an attempt yields.
#[allow(
    clippy::large_enum_variant,
    reason = "moved a few times a query; a box would cost more"
)]
pub enum Outcome {
    /// The whole answer.
    Whole(Answer),
    /// Deltas as they come. The upstream has accepted the call, but nothing semantic may have arrived yet.
    Stream(Deltas),
}
