//! Supervision: everything long-lived hangs in one tree, and what dies is restarted by its parent.
//!
//! - [`ChildSpec`]: how to start a child, when to restart it, how long it may take to stop.
//! - [`Supervisor`]: the actor that holds children; one-for-one or rest-for-one, with a restart
//!   [`Intensity`]. Past it, it gives up: either it dies of it, so that its own parent decides
//!   ([`Exhausted::Escalate`]), or it leaves that one child down and says so ([`Exhausted::Abandon`]).
//! - [`Address`]: where to reach a child across its restarts.
//! - [`ExitReason`]: the one reading of the actor system's ways to end.
//! - [`Tree`]: what the supervisors know, for `status` and metrics.
//! - [`task::spawn`]: the one way to start a task.

mod actor;
mod address;
mod child;
mod exit;
pub mod intensity;
pub mod task;
mod tree;

pub use actor::{Exhausted, Message, Settings, Strategy, Supervisor};
pub use address::{Address, Heartbeat};
pub use child::{ChildSpec, Restart};
pub use exit::ExitReason;
pub use intensity::Intensity;
pub use tree::{ChildState, ChildStatus, Tree};
