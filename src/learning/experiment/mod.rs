//! A/B experiments: which of several variants is best, found with as few samples as it takes.
//!
//! 1. Nursery: every variant gets the same share until each has `min_samples`.
//! 2. Running: shares follow the track-and-stop rule for best-arm identification, so that samples go
//!    where they tell most; no variant falls below its minimum share.
//! 3. Stopped: the evidence for one variant has passed the threshold, or `max_samples` are used up.
//!    From then on everyone gets the winner. A new or changed variant opens the experiment again.
//!
//! The test is made after every sample, and its threshold grows so that looking often does not make it
//! wrong more often than `delta`. It takes rewards as independent: where a few users give most of them
//! and judge alike, it errs far more often, and sessions are the better unit.
//!
//! Variants must stay what they are meanwhile: an experiment answers one question once, and is no
//! substitute for routing, which forgets.
//!
//! - [`Definition`]: what the operator asks for, [`Sticky`] who keeps a variant.
//! - [`Tally`]: the rewards of one variant, with a variance that is never falsely 0.
//! - [`shares`]: how often each variant is to be drawn.
//! - [`slots`]: who keeps which variant, in bounded memory.
//! - [`stopping`]: whether the evidence is enough.
//! - [`State`]: all of it together; [`Report`] shows it.
//!
//! The method is A. Garivier and E. Kaufmann's ("Optimal Best Arm Identification with Fixed Confidence",
//! 2016), with rewards taken as Gaussian of unknown, smoothed variance, and a threshold of H. Robbins'
//! (1970) where theirs is too low to last.

pub mod definition;
pub mod report;
pub mod shares;
pub mod slots;
pub mod state;
pub mod stopping;
pub mod tally;
#[cfg(test)]
mod tests;

pub use definition::{Definition, Sticky, Variant};
pub use report::{Report, VariantReport};
pub use slots::digest;
pub use state::{Observed, Phase, Reason, State, Stop};
pub use stopping::Evidence;
pub use tally::Tally;
