//! OpenAI's chat completions (`POST /v1/chat/completions`).
//!
//! - [`request`]: what a client asks and what a provider is asked; [`extension`] is our own object in it.
//! - [`answer`]: a whole answer, read from a provider and written to a client.
//! - [`chunk`]: one piece of a streamed answer, both ways.
//! - [`error`]: a provider's refusals by what they mean, and our errors in the wire's shape.
//! - [`splice`]: changes members of a JSON object without encoding the rest anew.
//!
//! Names and shapes follow OpenAI's published API reference; where servers in use deviate from it, the reader
//! concerned says so.

pub mod answer;
pub mod chunk;
pub mod error;
pub mod extension;
pub mod request;
pub mod splice;

mod lenient;
mod retry_after;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::depth;

/// An upstream's JSON may nest this deep: it is passed on as it came, to clients that recurse.
const MAX_DEPTH: usize = 128;

/// Reads an object that will be passed on as it came: all of it must be text, and no deeper than clients bear,
/// also where we do not look.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
    if !text.trim_start().starts_with('{') {
        return Err("it is no object".into());
    }
    depth::check(body, MAX_DEPTH).map_err(|error| error.to_string())?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// `value` as JSON. Nothing written here can fail: keys are strings, and what is no number becomes `null`.
fn encode(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}
