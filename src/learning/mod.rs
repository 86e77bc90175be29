//! Pure estimators of how deployments behave: how fast, how good.
//!
//! - [`Latency`]: time to first token, time per token, total time, each a [`Decayed`] distribution.
//! - [`QualityTable`]: how good a deployment's answers are, overall and per kind of task.
//!
//! All of it forgets, because models and providers change under their names. All of it is durable:
//! serialised as it stands, checked cell by cell when it comes back (`sanitize`), so that one damaged
//! cell starts anew and the rest serve. No clock, no I/O; states are `Copy`, so that an owner can
//! publish them whole.

pub mod latency;
pub mod quality;

pub use latency::{Decayed, Latency};
pub use quality::{Estimate, OutOfRange, Prior, Quality, QualityTable, TASKS};
