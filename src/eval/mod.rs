//! Recorded answers, replayed through the code that serves queries, and what comes out measured.
//!
//! - [`record`], [`read`]: who answered what, as lines of JSON; [`prices`]: what answers cost; [`synthetic`]: a recorded
//!   set that anyone can make.
//! - [`replay`]: a provider that answers from the record, and an orchestrator made of such.
//! - [`ensemble`], [`route`], [`frontier`]: what is measured. Router, executor, ensembler and learning are the served
//!   ones; the clock is paused by the caller, and everything drawn comes from a seed.
//! - [`metrics`], [`plot`], [`compare`]: numbers, pictures, and what changed since an earlier run.
//! - [`ledger`]: from a daemon's ledger to a record.

pub mod compare;
pub mod ensemble;
pub mod frontier;
pub mod ledger;
pub mod metrics;
pub mod plot;
pub mod prices;
pub mod read;
pub mod record;
pub mod replay;
pub mod route;
pub mod synthetic;
