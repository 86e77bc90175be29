//! What holds of any bytes at all, a file for each reader. A law takes bytes and panics where it is broken.
//!
//! The fuzz targets of this crate and `tests/fuzz.rs` of the crate beside it run the same laws. They know the
//! public API alone, and where they need a second opinion they read the bytes again in a slower, plainer way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a law speaks"
)]

pub mod answer;
pub mod cells;
pub mod chat;
pub mod config;
mod doors;
pub mod head;
pub mod recorded;
pub mod retry_after;
pub mod rpc;
pub mod sse;

/// `bytes` in pieces of 1 to `most` bytes, their lengths drawn from `seed`.
fn pieces(bytes: &[u8], seed: u8, most: usize) -> Vec<&[u8]> {
    let mut state = u32::from(seed) * 2 + 1;
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = (state >> 16) as usize % most + 1;
        let (piece, later) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = later;
    }
    pieces
}
