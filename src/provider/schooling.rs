//! What the learning of all deployments shares: whether it goes on, how far it is, and which topics have rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::learning::{Place, Topics};
use crate::query::{Query, TaskKind};

/// Shared by every cell of a fleet.
#[derive(Debug, Default)]
pub struct Schooling {
    /// Whether learned state is pinned: it serves, and nothing is learned.
    pinned: AtomicBool,
    /// Whether one learned state is taking the place of another.
    replacing: AtomicBool,
    /// Decisions so far, which is the time by which evidence fades.
    step: AtomicU64,
    /// Changes whenever learned state does, so that what is derived from it knows when it is old.
    generation: AtomicU64,
    topics: ArcSwap<Topics>,
}

impl Schooling {
    /// Whether nothing is learned for now.
    pub fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::Relaxed)
    }

    /// Stops learning, or lets it go on.
    pub fn pin(&self, pinned: bool) {
        self.pinned.store(pinned, Ordering::Relaxed);
    }

    /// Whether one learned state is taking the place of another: what is there now is neither, and not to be kept.
    pub fn is_replacing(&self) -> bool {
        self.replacing.load(Ordering::Acquire)
    }

    /// One state begins to take the place of another, until the guard drops.
    pub fn replace(&self) -> Replacing<'_> {
        self.replacing.store(true, Ordering::Release);
        Replacing(self)
    }

    /// One more decision was made, or as much was brought in from elsewhere as one decision shows.
    pub fn advance(&self) {
        self.step.fetch_add(1, Ordering::Relaxed);
    }

    /// Decisions so far.
    pub fn step(&self) -> u64 {
        self.step.load(Ordering::Relaxed)
    }

    /// Goes on from evidence of this step.
    pub fn resume(&self, step: u64) {
        self.step.fetch_max(step, Ordering::Relaxed);
    }

    /// Learned state changed.
    pub fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Equal as long as learned state is.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// The topics that have rows.
    pub fn topics(&self) -> Arc<Topics> {
        self.topics.load_full()
    }

    /// Takes over topics that were kept.
    pub fn restore_topics(&self, topics: Topics) {
        self.topics.store(Arc::new(topics));
        self.changed();
    }

    /// Where evidence on this query belongs.
    pub fn place(&self, query: &Query) -> Place {
        self.place_of(query.task, query.topic.as_deref())
    }

    /// Where evidence on a query of this kind and topic belongs.
    pub fn place_of(&self, kind: Option<TaskKind>, topic: Option<&str>) -> Place {
        self.topics.load().place(kind, topic)
    }

    /// Gives a topic a row, if one is free: it is about to be judged.
    pub fn learn_topic(&self, topic: &str) {
        if !self.is_pinned() && self.topics.load().is_new(topic) {
            self.topics.rcu(|topics| {
                let mut topics = Topics::clone(topics);
                topics.learn(topic);
                topics
            });
        }
    }
}

/// See [`Schooling::replace`].
#[derive(Debug)]
pub struct Replacing<'a>(&'a Schooling);

impl Drop for Replacing<'_> {
    fn drop(&mut self) {
        self.0.replacing.store(false, Ordering::Release);
    }
}
