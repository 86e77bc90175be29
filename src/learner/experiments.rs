//! The register of experiments: which variant a query gets, and what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::config;
use crate::learning::experiment::report::Report;
use crate::learning::experiment::{Definition, Observed, State};
use crate::ledger::{Cell, learned};
use crate::query::{Message, Query};
use crate::router::Trial;

/// Every experiment of the configuration. Assignments must be answered at once, so this is no actor: each
/// operation is short and holds one lock.
#[derive(Default)]
pub struct Experiments(Mutex<BTreeMap<String, Running>>);

struct Running {
    config: config::Experiment,
    definition: Definition,
    state: State,
}

impl Experiments {
    /// Takes over a configuration: evidence on variants that stay is kept. `kept` is evidence from before a start.
    pub fn configure(
        &self,
        configured: &BTreeMap<String, config::Experiment>,
        mut kept: BTreeMap<String, State>,
    ) {
        let mut running = self.0.lock();
        let mut before = std::mem::take(&mut *running);
        for (name, config) in configured {
            let definition = config.definition(name);
            let known = before.remove(name).map(|running| running.state);
            let mut state = known
                .or_else(|| kept.remove(name))
                .unwrap_or_else(|| State::new(&definition));
            if state.reconcile(&definition) {
                tracing::info!(
                    experiment = name,
                    "a new variant opens the experiment again"
                );
            }
            let config = config.clone();
            running.insert(
                name.clone(),
                Running {
                    config,
                    definition,
                    state,
                },
            );
        }
    }

    /// Evidence from elsewhere takes the place of what there is.
    pub fn restore(&self, mut states: BTreeMap<String, State>) {
        for (name, running) in self.0.lock().iter_mut() {
            // What is not known begins anew: a state is whole.
            let known = states.remove(name);
            let mut state = known.unwrap_or_else(|| State::new(&running.definition));
            state.reconcile(&running.definition);
            running.state = state;
        }
    }

    /// The experiment that a query for this model takes part in.
    fn named(running: &BTreeMap<String, Running>, model: &str) -> Option<String> {
        if let Some(name) = model.strip_prefix("experiment/") {
            return running.contains_key(name).then(|| name.to_owned());
        }
        let applies = |one: &&String| running[*one].config.applies_to.iter().any(|to| to == model);
        running.keys().find(applies).cloned()
    }

    /// Turns a query of an experiment into that of its variant; `keep` remembers who got it. `None` if the query is
    /// in none.
    pub fn enter(&self, query: &mut Query, keep: bool) -> Option<Trial> {
        let mut running = self.0.lock();
        let name = Self::named(&running, &query.model)?;
        let Running {
            config,
            definition,
            state,
        } = running.get_mut(&name)?;
        let key = definition
            .sticky
            .key(query.user.as_str(), query.session.as_deref());
        let decision = query.id.as_str();
        let at = if keep {
            state.assign(definition, key, decision)
        } else {
            state.preview(definition, key, decision)
        };
        let variant = config.variants.get(at)?;
        query.model = variant.model.clone();
        if let Some(system) = &variant.system {
            query.messages.insert(0, Message::system(system.clone()));
            // What the client wrote is not what is asked any more.
            query.original = None;
        }
        if query.routing.merge.is_none() {
            query.routing.merge = variant.merge;
        }
        Some(Trial {
            experiment: name,
            variant: variant.name.clone(),
            fingerprint: definition.variants.get(at)?.fingerprint,
        })
    }

    /// An answer of a variant was judged, 0..=1, at this time since 1970.
    pub fn observe(&self, trial: &Trial, reward: f64, now: Duration) {
        let mut running = self.0.lock();
        let Some(running) = running.get_mut(&trial.experiment) else {
            return;
        };
        let Some(at) = running.state.find(&trial.variant, trial.fingerprint) else {
            return;
        };
        if let Observed::Stopped(_) = running.state.observe(&running.definition, at, reward, now) {
            let report = Report::of(&running.definition, &running.state);
            tracing::info!(
                experiment = trial.experiment,
                winner = report.winner.as_deref(),
                "the experiment is decided"
            );
        }
    }

    /// How each stands.
    pub fn reports(&self) -> BTreeMap<String, Report> {
        let running = self.0.lock();
        let report = |(name, one): (&String, &Running)| {
            (name.clone(), Report::of(&one.definition, &one.state))
        };
        running.iter().map(report).collect()
    }

    /// What is to be kept.
    pub fn cells(&self) -> Vec<Cell> {
        let running = self.0.lock();
        running
            .iter()
            .filter_map(|(name, one)| learned::named(&format!("experiment:{name}"), &one.state))
            .collect()
    }
}
