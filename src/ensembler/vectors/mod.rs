//! Sentence vectors of answers, for ensembles that want them.
//!
//! - [`Vectors`]: what an ensembler has of them: loads the model when first asked, one text at a time.
//! - `encoder`: the model; `weights`: its file. Both are in builds with the feature `local` alone.
//!
//! Vectors are a help and never a condition: where there are none, answers are compared by their words.

#[cfg(feature = "local")]
pub mod encoder;
#[cfg(feature = "local")]
mod weights;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

#[cfg(feature = "local")]
use encoder::Encoder;

/// What answers are encoded by, as `quorate models fetch` calls it.
pub const MODEL: &str = "minilm";

/// Longer texts, in bytes, get no vector: it would be that of their beginning, and says nothing of how they end.
const LONGEST: usize = 1000;

/// Stands in for the encoder of builds that have none.
#[cfg(not(feature = "local"))]
struct Encoder;

/// The way to the encoder. Cheap to clone.
#[derive(Clone)]
pub struct Vectors {
    shared: Arc<Shared>,
}

struct Shared {
    /// Empty until somebody wants a vector; then what became of loading it.
    encoder: OnceLock<Option<Encoder>>,
    /// One text at a time, so that no more than one blocking thread is held.
    turn: Arc<Semaphore>,
    warned: AtomicBool,
}

impl Default for Vectors {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                encoder: OnceLock::new(),
                turn: Arc::new(Semaphore::new(1)),
                warned: AtomicBool::new(false),
            }),
        }
    }
}

impl Vectors {
    /// The vector of a text, of length one; `None` for a long one, or if there is no encoder. What goes wrong is
    /// told the log, once. Dropping the future gives up the place in the queue.
    pub async fn of(&self, text: &str) -> Option<Box<[f32]>> {
        if text.len() > LONGEST || matches!(self.shared.encoder.get(), Some(None)) {
            return None;
        }
        let turn = Arc::clone(&self.shared.turn).acquire_owned().await.ok()?;
        let (shared, text) = (Arc::clone(&self.shared), text.to_owned());
        let encoded = spawn_blocking(move || {
            // Held until the work is done, even if nobody waits any more.
            let _turn = turn;
            let loaded = shared.encoder.get_or_init(|| match load() {
                Ok(encoder) => Some(encoder),
                Err(error) => {
                    shared.warn(&error);
                    None
                }
            });
            loaded.as_ref().map(|encoder| encode(encoder, &text))
        });
        match encoded.await {
            Ok(None) => None,
            Ok(Some(Ok(vector))) => Some(vector),
            Ok(Some(Err(error))) => {
                self.shared.warn(&error);
                None
            }
            Err(error) => {
                self.shared.warn(&error.to_string());
                None
            }
        }
    }
}

impl Shared {
    fn warn(&self, error: &str) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                error,
                "no sentence vectors: answers are compared by their words alone"
            );
        }
    }
}

#[cfg(feature = "local")]
fn load() -> Result<Encoder, String> {
    use crate::models::{Fetcher, cache_dir, find};
    let model = find(MODEL).ok_or("the catalogue has no such model")?;
    let cache = cache_dir(|name| std::env::var_os(name))
        .ok_or("no cache directory: set HOME or QUORATE_CACHE_DIR")?;
    let fetcher = Fetcher::new(cache);
    let (Some(weights), Some(tokenizer)) = (fetcher.installed(model), model.with) else {
        return Err(format!(
            "fetch the model with `quorate models fetch {MODEL}`, then restart"
        ));
    };
    Encoder::load(&weights, &fetcher.path(tokenizer))
}

#[cfg(feature = "local")]
fn encode(encoder: &Encoder, text: &str) -> Result<Box<[f32]>, String> {
    let vectors = encoder.encode(&[text])?;
    let vector = vectors.first().ok_or("the encoder gave nothing")?;
    Ok(Box::from(vector.as_slice()))
}

#[cfg(not(feature = "local"))]
fn load() -> Result<Encoder, String> {
    Err("this build lacks the feature `local`".into())
}

#[cfg(not(feature = "local"))]
fn encode(_: &Encoder, _: &str) -> Result<Box<[f32]>, String> {
    Err("this build lacks the feature `local`".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_text_has_no_vector_and_loads_nothing() {
        let vectors = Vectors::default();
        assert_eq!(vectors.of(&"word ".repeat(300)).await, None);
        assert!(vectors.shared.encoder.get().is_none());
    }

    #[tokio::test]
    async fn without_an_encoder_there_are_no_vectors_and_one_warning() {
        let vectors = Vectors::default();
        assert!(vectors.shared.encoder.set(None).is_ok());
        assert_eq!(vectors.of("Paris is the capital of France.").await, None);
        vectors.shared.warn("first");
        assert!(vectors.shared.warned.load(Ordering::Relaxed));
    }
}
