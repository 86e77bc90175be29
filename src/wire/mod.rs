//! Formats that clients and providers share, as pure functions over bytes.
//!
//! - [`sse`]: server-sent events, read incrementally and written.
//! - [`depth`]: how deep a JSON document nests, checked before anything recurses into it.
//! - [`openai`]: OpenAI's chat completions, from the caller's side and from the provider's.
//!
//! What arrives in a wire and leaves in the same wire is not encoded anew: [`Original`](crate::query::Original)
//! carries its bytes, and only the members that must change are spliced.

pub mod depth;
pub mod openai;
pub mod sse;
