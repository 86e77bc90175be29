//! The router: who should answer, and why.
//!
//! Pure: it reads the configuration's names, the deployments' published snapshots and the query, and yields a
//! [`Plan`]. It asks no actor; a snapshot that is a moment old is corrected by the deployment's own admission.
//!
//! - [`Catalogue`]: what a name of a query may mean.
//! - [`score`]: how good a choice each candidate is.
//! - [`Plan`]: the candidates in order with their scores, and everyone left out with the reason.

mod catalogue;
mod plan;
pub mod score;

pub use catalogue::Catalogue;
pub(crate) use catalogue::PRIOR_STRENGTH;
pub use plan::{Candidate, EnsemblePlan, Excluded, Plan, State};
