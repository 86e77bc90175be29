//! An experiment under way.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::definition::{Definition, MOST_VARIANTS};
use super::shares::{draw, shares};
use super::slots::{Slots, digest, uniform};
use super::stopping::{Evidence, evidence, leader};
use super::tally::Tally;

/// How far an experiment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Some variant has fewer than `min_samples`; shares are even.
    Nursery,
    /// Shares follow the evidence.
    Running,
    /// Everyone gets the winner.
    Stopped,
}

impl Phase {
    /// The phase as status pages and JSON write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nursery => "nursery",
            Self::Running => "running",
            Self::Stopped => "stopped",
        }
    }
}

/// Why an experiment stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The winner is the best, or within epsilon of it, and wrongly so at most in delta of all cases.
    Evidence,
    /// The samples are used up; the winner merely has the highest mean.
    Exhausted,
}

/// How an experiment ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// Index of the variant that everyone gets.
    pub winner: usize,
    /// Unix milliseconds.
    pub at_ms: u64,
    /// Why.
    pub reason: Reason,
    /// What was known then; nothing if some variant had no reward at all.
    pub evidence: Option<Evidence>,
}

/// What a reward did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Observed {
    /// It counts.
    Counted,
    /// It counts, and it ended the experiment.
    Stopped(Stop),
    /// The experiment is over: the evidence stays what it was when it was decided.
    TooLate,
    /// No number from 0 to 1, or no such variant.
    Refused,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Arm {
    name: String,
    fingerprint: u64,
    tally: Tally,
}

/// What an experiment knows. Bounded: [`MOST_VARIANTS`] variants and the slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    arms: Vec<Arm>,
    slots: Slots,
    stop: Option<Stop>,
    /// Rewards that were there when the experiment was opened again: they count as evidence, not
    /// against `max_samples`.
    before: u64,
}

impl State {
    /// An experiment that has seen nothing.
    pub fn new(definition: &Definition) -> Self {
        let arm = |variant: &super::Variant| Arm {
            name: variant.name.clone(),
            fingerprint: variant.fingerprint,
            tally: Tally::default(),
        };
        Self {
            arms: definition.variants.iter().map(arm).collect(),
            slots: Slots::default(),
            stop: None,
            before: 0,
        }
    }

    /// Brings the state under a definition that may have changed; call it after loading and reloading.
    ///
    /// A variant is the same if name and fingerprint are, and keeps its evidence then; whoever has a
    /// variant keeps it by its name. New and changed ones start without evidence, those no longer
    /// defined are dropped, and a new one gets its part of those who had another. An experiment that
    /// had stopped opens again if a variant is new or changed or its winner is gone; then everyone is
    /// drawn anew, and `max_samples` begins from here. Returns whether it opened again.
    pub fn reconcile(&mut self, definition: &Definition) -> bool {
        if self.fits(definition) {
            return false;
        }
        let mut next = Self::new(definition);
        let mut untried = next.arms.len();
        let mut added: Vec<usize> = (0..next.arms.len()).collect();
        let mut moved = vec![None; self.arms.len()];
        for (arm, moved) in self.arms.iter().zip(&mut moved) {
            let named = next.arms.iter_mut().enumerate();
            let Some((index, new)) = named.into_iter().find(|(_, new)| new.name == arm.name) else {
                continue;
            };
            *moved = Some(index);
            added.retain(|new| *new != index);
            if new.fingerprint == arm.fingerprint {
                new.tally = arm.tally;
                untried -= 1;
            }
        }
        let place = |index: usize| moved.get(index).copied().flatten();
        let kept = self.stop.filter(|_| untried == 0).and_then(|stop| {
            let winner = place(stop.winner)?;
            // Whoever came closest may be gone; the decision stands without it.
            let evidence = stop.evidence.and_then(|evidence| {
                Some(Evidence {
                    leader: winner,
                    challenger: place(evidence.challenger)?,
                    ..evidence
                })
            });
            Some(Stop {
                winner,
                evidence,
                ..stop
            })
        });
        let reopened = self.stop.is_some() && kept.is_none();
        next.before = if untried > 0 || reopened {
            next.samples()
        } else {
            self.before.min(next.samples())
        };
        next.stop = kept;
        next.slots = std::mem::take(&mut self.slots);
        next.slots.follow(&moved, &added, definition.variants.len());
        *self = next;
        reopened
    }

    /// The index of a variant that does this under this name.
    pub fn find(&self, name: &str, fingerprint: u64) -> Option<usize> {
        self.arms
            .iter()
            .position(|arm| arm.name == name && arm.fingerprint == fingerprint)
    }

    /// The index of the variant a query takes. `key` is whose variant it is ([`Sticky::key`]), `None`
    /// for a query on its own, which `decision` tells from others. Given both and the state, the
    /// choice is always the same.
    ///
    /// [`Sticky::key`]: super::Sticky::key
    pub fn assign(&mut self, definition: &Definition, key: Option<&str>, decision: &str) -> usize {
        let variant = self.preview(definition, key, decision);
        match key.filter(|_| self.stop.is_none() && self.fits(definition)) {
            Some(key) => self.slots.keep(digest(&[&definition.name, key]), variant),
            None => variant,
        }
    }

    /// What [`assign`](Self::assign) would choose, keeping nothing.
    pub fn preview(&self, definition: &Definition, key: Option<&str>, decision: &str) -> usize {
        if let Some(stop) = self.stop {
            return stop.winner;
        }
        let digest = digest(&[&definition.name, key.unwrap_or(decision)]);
        match self.slots.get(digest).filter(|_| key.is_some()) {
            Some(kept) => kept,
            None => draw(&self.shares(definition), uniform(digest)),
        }
    }

    /// The share of each variant among those who have none yet, in the definition's order.
    pub fn shares(&self, definition: &Definition) -> Vec<f64> {
        match self.stop {
            Some(stop) => (0..self.arms.len())
                .map(|index| f64::from(u8::from(index == stop.winner)))
                .collect(),
            None => shares(definition, &self.tallies()),
        }
    }

    /// Takes in the reward of a query that had this variant: one reward a query, from 0 to 1. `now` is
    /// the time since the Unix epoch.
    pub fn observe(
        &mut self,
        definition: &Definition,
        variant: usize,
        reward: f64,
        now: Duration,
    ) -> Observed {
        if self.stop.is_some() {
            return Observed::TooLate;
        }
        let counted = self.fits(definition)
            && self
                .arms
                .get_mut(variant)
                .is_some_and(|arm| arm.tally.observe(reward));
        if !counted {
            return Observed::Refused;
        }
        let at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        match self.verdict(definition, at_ms) {
            Some(stop) => {
                self.stop = Some(stop);
                // Who kept what no longer matters.
                self.slots.clear();
                Observed::Stopped(stop)
            }
            None => Observed::Counted,
        }
    }

    fn verdict(&self, definition: &Definition, at_ms: u64) -> Option<Stop> {
        let evidence = self.evidence(definition);
        let enough = self.phase(definition) == Phase::Running
            && evidence.is_some_and(|evidence| evidence.suffices());
        let reason = if enough {
            Reason::Evidence
        } else if self.samples().saturating_sub(self.before) >= definition.max_samples {
            Reason::Exhausted
        } else {
            return None;
        };
        Some(Stop {
            winner: self.leader()?,
            at_ms,
            reason,
            evidence,
        })
    }

    /// What is known now, or what was known when the experiment stopped.
    pub fn evidence(&self, definition: &Definition) -> Option<Evidence> {
        match self.stop {
            Some(stop) => stop.evidence,
            None => evidence(&self.tallies(), definition.delta, definition.epsilon),
        }
    }

    /// How far it is.
    pub fn phase(&self, definition: &Definition) -> Phase {
        let few = |arm: &Arm| arm.tally.n() < definition.min_samples;
        match self.stop {
            Some(_) => Phase::Stopped,
            None if self.arms.iter().any(few) => Phase::Nursery,
            None => Phase::Running,
        }
    }

    /// How it ended.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// The variant with the highest mean.
    pub fn leader(&self) -> Option<usize> {
        leader(&self.tallies())
    }

    /// Rewards of all variants.
    pub fn samples(&self) -> u64 {
        self.arms.iter().map(|arm| arm.tally.n()).sum()
    }

    /// The rewards of each variant, in the definition's order.
    pub fn tallies(&self) -> Vec<Tally> {
        self.arms.iter().map(|arm| arm.tally).collect()
    }

    /// Slots that keep this variant.
    pub fn held(&self, variant: usize) -> usize {
        self.slots.held(variant)
    }

    fn fits(&self, definition: &Definition) -> bool {
        let same = |(arm, variant): (&Arm, &super::Variant)| {
            arm.name == variant.name && arm.fingerprint == variant.fingerprint
        };
        self.arms.len() == definition.variants.len()
            && self.arms.iter().zip(&definition.variants).all(same)
    }

    /// Whether this can have come from an experiment.
    ///
    /// # Errors
    /// What cannot.
    pub fn validate(&self) -> Result<(), String> {
        let count = self.arms.len();
        if !(2..=MOST_VARIANTS).contains(&count) {
            return Err(format!("2 to {MOST_VARIANTS} variants, not {count}"));
        }
        if let Some(arm) = self.arms.iter().find(|arm| !arm.tally.is_valid()) {
            return Err(format!("impossible rewards of variant '{}'", arm.name));
        }
        for (index, arm) in self.arms.iter().enumerate() {
            let twice = self.arms.iter().skip(index + 1);
            if !(1..=64).contains(&arm.name.len()) || twice.into_iter().any(|b| b.name == arm.name)
            {
                return Err("a variant's name is too long, empty or there twice".into());
            }
        }
        if !self.slots.is_valid(count) {
            return Err("a slot keeps a variant that is not there".into());
        }
        if self.before > self.samples() {
            return Err("more rewards before it opened again than there are".into());
        }
        let sound = |stop: &Stop| {
            let known = stop.evidence.is_none_or(|evidence| {
                evidence.leader == stop.winner
                    && evidence.challenger < count
                    && evidence.ratio.is_finite()
                    && evidence.threshold.is_finite()
                    && (stop.reason == Reason::Exhausted || evidence.suffices())
            });
            stop.winner < count && known
        };
        if !self.stop.as_ref().is_none_or(sound) {
            return Err("an impossible end".into());
        }
        Ok(())
    }
}
