//! A real model in this process: a quantised GGUF file, run on the CPU by its own threads.
//!
//! - `engine`: one loaded model, from a conversation to pieces of text.
//! - `listener`: the way of its deltas to the caller.
//! - `template`: the conversation written as the model was trained to read it.
//! - `model`: the transformer; `matrix`: its weights and their products.
//! - `sampling`: from logits to tokens, and text up to a stop text.
//!
//! The thread `quorate-local` is started by the first query and owns the model, which it loads then, so a
//! daemon that never asks a local model never pays for one. Queries reach it through a queue of
//! [`QUEUE`] places and it answers them one after the other: it is the memory's speed that limits a model on a
//! CPU, so two at once would each take twice as long. Deltas go straight to the caller's stream.

mod engine;
mod listener;
mod matrix;
mod model;
mod sampling;
mod template;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, ready};
use futures_util::stream::poll_fn;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::engine::Engine;
use self::listener::Listener;
use crate::answer::{Delta, Deltas};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::{Call, Capabilities, Outcome, Provider};
use crate::query::Query;

/// Queries that may wait for the model; one more is turned away as rate-limited.
pub const QUEUE: usize = 8;

/// Deltas that may wait for the caller to read them.
const DELTAS: usize = 64;

/// When a query that found the queue full may come again.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// A model file as a provider.
pub struct LocalProvider {
    path: Arc<Path>,
    name: Arc<str>,
    /// The way to the thread; `None` until the first query.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
}

struct Job {
    query: Arc<Query>,
    deltas: mpsc::Sender<Result<Delta>>,
}

impl LocalProvider {
    /// A provider of the GGUF file at `path`, which must be readable but is loaded only by the first query.
    /// `name` is the model's name, for models of the catalogue the one it is fetched by.
    pub fn open(path: PathBuf, name: impl Into<Arc<str>>) -> Result<Self> {
        let name = name.into();
        engine::file(&path, &name)?;
        Ok(Self {
            path: path.into(),
            name,
            jobs: Mutex::new(None),
        })
    }

    /// What a local model can do, given its context in tokens.
    pub fn capabilities(context: u32) -> Capabilities {
        Capabilities {
            tools: false,
            vision: false,
            json_schema: false,
            reasoning: false,
            streaming: true,
            context: Some(context),
        }
    }

    fn submit(&self, query: Arc<Query>) -> Result<Deltas> {
        supported(&query)?;
        let (deltas, mut receiver) = mpsc::channel(DELTAS);
        match self.jobs()?.try_send(Job { query, deltas }) {
            Ok(()) => Ok(poll_fn(move |cx| receiver.poll_recv(cx)).boxed()),
            Err(_) => {
                let text = format!("the local model has {QUEUE} queries waiting already");
                Err(Error::new(ErrorKind::RateLimited, text).with_retry_after(Some(COME_AGAIN)))
            }
        }
    }

    /// The way to the thread, which is started if it does not run.
    fn jobs(&self) -> Result<mpsc::Sender<Job>> {
        let mut jobs = self.jobs.lock();
        if let Some(jobs) = jobs.as_ref().filter(|jobs| !jobs.is_closed()) {
            return Ok(jobs.clone());
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (path, name) = (self.path.clone(), self.name.clone());
        let thread = std::thread::Builder::new().name("quorate-local".into());
        thread
            .spawn(move || work(receiver, || load(&path, &name)))
            .map_err(|error| {
                Error::new(
                    ErrorKind::Internal,
                    format!("cannot start the local model's thread: {error}"),
                )
            })?;
        *jobs = Some(sender.clone());
        Ok(sender)
    }
}

impl Provider for LocalProvider {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Outcome>> {
        Box::pin(ready(self.submit(call.query).map(Outcome::Stream)))
    }

    fn note(&self) -> Option<String> {
        Some(format!(
            "tiny local model ({}): expect wrong answers",
            self.name
        ))
    }
}

/// Refuses what the model would silently ignore.
fn supported(query: &Query) -> Result<()> {
    let needs = query.needs();
    let format = query
        .response_format
        .as_ref()
        .and_then(|format| format.get("type"))
        .and_then(Value::as_str);
    let lacks = [
        (needs.tools, "tools"),
        (needs.vision, "images"),
        (
            format.is_some_and(|format| format != "text"),
            "response_format other than text",
        ),
        (query.params.n.is_some_and(|n| n > 1), "n above 1"),
        (query.params.logprobs == Some(true), "logprobs"),
    ];
    match lacks.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(Error::new(
            ErrorKind::Unsupported,
            format!("the local model does not support {what}"),
        )),
        None => Ok(()),
    }
}

/// The thread's life: it ends when the provider is dropped. A panic costs its query, and the model is loaded
/// afresh for the next.
fn work(mut jobs: mpsc::Receiver<Job>, mut load: impl FnMut() -> Result<Engine>) {
    let mut engine: Option<Engine> = None;
    while let Some(job) = jobs.blocking_recv() {
        let mut listener = Listener::new(job.deltas);
        if listener.is_gone() {
            continue;
        }
        let answered = catch_unwind(AssertUnwindSafe(|| {
            let loaded = match engine.take() {
                Some(loaded) => loaded,
                None => load()?,
            };
            let answered = loaded.answer(&job.query, rand::random(), &mut listener);
            engine = Some(loaded);
            answered
        }));
        match answered {
            Ok(Ok(usage)) => tracing::debug!(usage.input, usage.output, "local model answered"),
            Ok(Err(error)) => listener.fail(error),
            Err(_) => listener.fail(Error::new(
                ErrorKind::Internal,
                "the local model's thread panicked",
            )),
        }
    }
}

fn load(path: &Path, name: &str) -> Result<Engine> {
    let start = Instant::now();
    let engine = Engine::load(path, name)?;
    let ms = start.elapsed().as_millis();
    tracing::info!(
        model = name,
        ms = u64::try_from(ms).unwrap_or(u64::MAX),
        "local model loaded"
    );
    Ok(engine)
}

#[cfg(test)]
mod tests;
