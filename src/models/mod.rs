//! Small real models that run in this process: which there are, and how their files come here.
//!
//! - [`catalogue`]: one table of models, each pinned to the hash of its file.
//! - [`fetch`]: brings a file of the table into the cache directory and holds it to that hash.

pub mod catalogue;
pub mod fetch;

pub use catalogue::{CATALOGUE, Model, Package, find};
pub use fetch::{Download, Fetcher, Phase, Progress, cache_dir};
