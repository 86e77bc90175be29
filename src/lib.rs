//! One supervised process between your applications and every language model they use.
//!
//! Quorate admits each query fairly, chooses who should answer, keeps failing providers away from users, asks
//! several models when one is not enough, merges what they say into one answer with a confidence, and learns
//! from every outcome. It runs as a daemon, and the same [`Orchestrator`] embeds into a Rust program.
//!
//! # Layout
//!
//! The way of one query, a bullet a room:
//!
//! - [`gateway`]: the doors. JSON-RPC and HTTP on a Unix socket, the OpenAI wire on HTTP. Knows wire formats,
//!   knows nothing of models.
//! - [`orchestrator`]: the handle that hosts embed and the doors call.
//! - [`dispatcher`]: admission. Per-user concurrency, lanes, fair shares, deadlines; yields a permit.
//! - [`router`]: who should answer and why, decided from published snapshots. Pure.
//! - [`ensembler`]: asks several and merges their answers.
//! - [`executor`]: walks a plan: attempts, retries, fallbacks, hedges. The only layer that retries.
//! - [`provider`]: one actor per deployment with its breaker, limits and learned state; adapters per wire.
//! - [`learner`]: what is learned of several deployments together: the worth of votes, experiments.
//! - [`ledger`]: decisions and learned state, durable, off the answer's path.
//!
//! What they stand on: [`supervisor`] (the tree that restarts what dies), [`resilience`], [`fair_queue`] and
//! [`learning`] (automata and estimators, pure), [`wire`] (formats that clients and providers share), [`config`],
//! [`models`] (weights of local models) and [`telemetry`] (every metric and span name).
//!
//! Beside the way: [`eval`] replays recorded answers through all of it and measures what comes out.
//!
//! Words that every room speaks: [`query`], [`answer`], [`error`], [`id`].

#![warn(missing_docs)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::todo,
    clippy::dbg_macro,
    clippy::print_stdout,
    clippy::print_stderr
)]

pub mod answer;
pub mod config;
pub mod dispatcher;
pub mod ensembler;
pub mod error;
pub mod eval;
pub mod executor;
pub mod fair_queue;
pub mod gateway;
pub mod id;
pub mod learner;
pub mod learning;
pub mod ledger;
pub mod models;
pub mod orchestrator;
pub mod provider;
pub mod query;
pub mod resilience;
pub mod router;
pub mod supervisor;
pub mod telemetry;
pub mod wire;

pub use answer::{Answer, Delta, Deltas};
pub use config::Config;
pub use ensembler::merge::Strategy;
pub use error::{Error, ErrorKind, Result};
pub use orchestrator::{Event, Evidence, Feedback, Orchestrator};
pub use provider::{Call, Deployment, Outcome, Provider};
pub use query::{Lane, Message, Query, TaskKind};
