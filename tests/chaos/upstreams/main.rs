//! Upstreams that fail in every way in which upstreams fail, and eight users who should not notice.
//!
//! Two upstreams over real sockets stand behind one orchestrator with its default configuration; where a test changes
//! a default to be done in seconds, it says so by name. `QUORATE_CHAOS=long` lets every fault last 15 s instead of 2;
//! `-- --nocapture` shows the numbers.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod cut;
mod errors;
mod limits;
mod process;
mod silent;
mod speed;
mod unreachable;
mod users;
mod world;

#[path = "../../support/mod.rs"]
mod support;
#[path = "../../support/upstream/mod.rs"]
mod upstream;
