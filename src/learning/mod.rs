//! Pure estimators of how deployments behave: how fast, how good, and what their votes are worth together.
//!
//! - [`Latency`]: time to first token, time per token, total time, each a [`Decayed`] distribution.
//! - [`Ability`]: evidence on how able a deployment is, per kind of task; `change` notices when it falls.
//! - [`Pool`]: all deployments' evidence read together; [`draw`] and [`choose`] pick one, exploring within bounds.
//! - [`aptitude`]: which forms of question a deployment takes to.
//! - [`votes`]: the weights of members' votes, confidence, and whom to ask next.
//! - [`experiment`]: which of several ways to answer is best, with always-valid stopping.
//! - `chance`: numbers that only their origin decides.
//! - [`task`]: what kind of work a prompt is; [`Topics`]: the finer names that callers give it.
//!
//! All of it forgets, because models and providers change under their names. All of it is durable:
//! serialised as it stands and checked when it comes back, so that one damaged cell starts anew and the rest
//! serve. No clock, no I/O; time, steps and seeds come in as arguments.

pub mod ability;
pub mod aptitude;
pub(crate) mod chance;
pub mod change;
pub mod experiment;
pub mod latency;
pub mod pool;
pub mod sampler;
pub mod task;
pub mod topics;
pub mod votes;

pub use ability::{Ability, MAX_WEIGHT, Observation, Outcome, TASKS};
pub use latency::{Decayed, Latency};
pub use pool::{Member, Pool, Prior, Spot};
pub use sampler::{Bounds, Choice, Credit, Draw, Stake, Why, choose, draw};
pub use topics::{Place, Topics};
