//! Plots as SVG, written by hand: a cost–accuracy frontier and a reliability diagram.
//!
//! A plot stands on its own light ground, refers to nothing outside, and defines no ids, so that several can
//! be embedded in one page.

mod canvas;
mod frontier;
mod labels;
mod reliability;
#[cfg(test)]
mod tests;

pub use frontier::{Point, frontier};
pub use reliability::reliability;
