//! The router: who should answer, and why.
//!
//! Pure: it reads the configuration's names, the deployments' published snapshots and the query, and yields a
//! [`Plan`]. It asks no actor; a snapshot that is a moment old is corrected by the deployment's own admission.
//!
//! - [`Catalogue`]: what a name of a query may mean.
//! - [`choice`]: whom of several to ask, sampled within bounds; repeatable from what is recorded of it.
//! - [`Policy`]: what is kept between queries: how much was explored, who serves which session.
//! - [`score`]: how good a choice each candidate is.
//! - [`Plan`]: the candidates in order with their scores, and everyone left out with the reason.

mod catalogue;
pub mod choice;
mod plan;
mod policy;
pub mod score;

pub use catalogue::Catalogue;
pub use choice::{Basis, Verdict};
pub use plan::{Candidate, EnsemblePlan, Excluded, Plan, State, Trial};
pub use policy::Policy;
