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

/// Experiments whose evidence is kept though they are configured no more.
const MOST_RETIRED: usize = 32;

/// Every experiment of the configuration. Assignments must be answered at once, so this is no actor: each
/// operation is short and holds one lock.
#[derive(Default)]
pub struct Experiments(Mutex<Register>);

#[derive(Default)]
struct Register {
    running: BTreeMap<String, Running>,
    /// The evidence of those that are configured no more, whoever left last at the end.
    retired: Vec<(String, State)>,
}

struct Running {
    config: config::Experiment,
    definition: Definition,
    state: State,
}

impl Register {
    /// Takes the evidence of an experiment out of retirement.
    fn recall(&mut self, name: &str) -> Option<State> {
        let at = self.retired.iter().position(|(known, _)| known == name)?;
        Some(self.retired.remove(at).1)
    }
}

impl Experiments {
    /// Takes over a configuration: evidence on variants that stay is kept, and that of an experiment that is not
    /// configured any more until it is again. Returns the names of those whose evidence had to make room.
    pub fn configure(&self, configured: &BTreeMap<String, config::Experiment>) -> Vec<String> {
        let mut register = self.0.lock();
        let mut before = std::mem::take(&mut register.running);
        for (name, config) in configured {
            let definition = config.definition(name);
            let known = before.remove(name).map(|running| running.state);
            let mut state = known
                .or_else(|| register.recall(name))
                .unwrap_or_else(|| State::new(&definition));
            if state.reconcile(&definition) {
                tracing::info!(
                    experiment = name,
                    "a new variant opens the experiment again"
                );
            }
            let config = config.clone();
            let running = Running {
                config,
                definition,
                state,
            };
            register.running.insert(name.clone(), running);
        }
        let left = before.into_iter().map(|(name, one)| (name, one.state));
        register.retired.extend(left);
        let dropped = register.retired.len().saturating_sub(MOST_RETIRED);
        let dropped = register.retired.drain(..dropped);
        dropped.map(|(name, _)| name).collect()
    }

    /// Evidence from before a start; [`configure`](Self::configure) takes it up. `retired` are the names of those that
    /// were not configured then, in the order in which they left.
    pub fn remember(&self, kept: BTreeMap<String, State>, retired: &[String]) {
        let mut kept: Vec<(String, State)> = kept.into_iter().collect();
        let left = |name: &String| retired.iter().position(|one| one == name);
        kept.sort_by_key(|(name, _)| left(name).unwrap_or(usize::MAX));
        self.0.lock().retired = kept;
    }

    /// Evidence from elsewhere takes the place of what there is.
    pub fn restore(&self, mut states: BTreeMap<String, State>) {
        let mut register = self.0.lock();
        for (name, running) in &mut register.running {
            // What is not known begins anew: a state is whole.
            let known = states.remove(name);
            let mut state = known.unwrap_or_else(|| State::new(&running.definition));
            state.reconcile(&running.definition);
            running.state = state;
        }
        register.retired.retain_mut(|(name, state)| {
            let known = states.remove(name);
            known.map(|known| *state = known).is_some()
        });
    }

    /// Whether evidence on this experiment is kept.
    pub fn knows(&self, name: &str) -> bool {
        let register = self.0.lock();
        register.running.contains_key(name) || register.retired.iter().any(|(one, _)| one == name)
    }

    /// Those that are configured no more, in the order in which they left.
    pub fn retired(&self) -> Vec<String> {
        let register = self.0.lock();
        register
            .retired
            .iter()
            .map(|(name, _)| name.clone())
            .collect()
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
        let running = &mut self.0.lock().running;
        let name = Self::named(running, &query.model)?;
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
        let mut register = self.0.lock();
        let Some(running) = register.running.get_mut(&trial.experiment) else {
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

    /// How each that is configured stands.
    pub fn reports(&self) -> BTreeMap<String, Report> {
        let report = |(name, one): (&String, &Running)| {
            (name.clone(), Report::of(&one.definition, &one.state))
        };
        self.0.lock().running.iter().map(report).collect()
    }

    /// What is to be kept.
    pub fn cells(&self) -> Vec<Cell> {
        let register = self.0.lock();
        let running = register
            .running
            .iter()
            .map(|(name, one)| (name, &one.state));
        let retired = register.retired.iter().map(|(name, state)| (name, state));
        running
            .chain(retired)
            .filter_map(|(name, state)| learned::named(&format!("experiment:{name}"), state))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(names: &[String]) -> BTreeMap<String, config::Experiment> {
        let one = |name: &String| {
            format!(
                "[experiments.{name}]\n[[experiments.{name}.variants]]\nname = \"plain\"\nuse = \"auto\"\n\
                 [[experiments.{name}.variants]]\nname = \"kind\"\nuse = \"auto\"\nsystem = \"Be kind.\"\n"
            )
        };
        let toml: String = names.iter().map(one).collect();
        let provider = "[[providers]]\nname = \"a\"\nkind = \"scripted\"\nmodels = [\"m\"]\n";
        let toml = format!("{provider}{toml}");
        config::Config::parse(&toml, "test", Vec::new(), &[])
            .unwrap()
            .experiments
    }

    fn names(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(|number| format!("x{number:02}")).collect()
    }

    /// So many rewards of the first variant.
    fn judge(experiments: &Experiments, name: &str, many: usize) {
        let trial = Trial {
            experiment: name.into(),
            variant: "plain".into(),
            fingerprint: configured(&[name.into()])[name].definition(name).variants[0].fingerprint,
        };
        for _ in 0..many {
            experiments.observe(&trial, 1.0, Duration::ZERO);
        }
    }

    #[test]
    fn whoever_retired_is_taken_up_again_and_the_oldest_makes_room() {
        let experiments = Experiments::default();
        let mut dropped = Vec::new();
        // They leave one after the other, the last name first.
        for name in names(0..MOST_RETIRED + 2).into_iter().rev() {
            let only = configured(std::slice::from_ref(&name));
            dropped.extend(experiments.configure(&only));
            judge(&experiments, &name, 3);
        }
        assert_eq!(dropped, names(MOST_RETIRED + 1..MOST_RETIRED + 2));
        let retired: Vec<String> = names(1..MOST_RETIRED + 1).into_iter().rev().collect();
        assert_eq!(experiments.retired(), retired);
        let running: Vec<String> = experiments.reports().into_keys().collect();
        assert_eq!(running, names(0..1));
        assert!(experiments.knows("x01") && !experiments.knows(&dropped[0]));

        // The same after a restart, the order included.
        let (known, refused) = learned::restore(experiments.cells());
        assert!(refused.is_empty());
        let again = Experiments::default();
        again.remember(known.experiments, &experiments.retired());
        assert!(again.configure(&configured(&names(0..2))).is_empty());
        let samples: Vec<u64> = again.reports().values().map(|one| one.samples).collect();
        assert_eq!(samples, [3, 3]);
        assert_eq!(again.retired(), retired[..MOST_RETIRED - 1]);
    }

    #[test]
    fn a_state_is_whole_for_those_that_retired_too() {
        let experiments = Experiments::default();
        experiments.configure(&configured(&names(0..3)));
        experiments.configure(&configured(&names(0..1)));
        let (mut state, _) = learned::restore(experiments.cells());
        state.experiments.remove("x01");
        let stranger = state.experiments["x02"].clone();
        state.experiments.insert("stranger".into(), stranger);
        experiments.restore(state.experiments);
        assert_eq!(experiments.retired(), names(2..3));
    }
}
