//! The learner actor.
//!
//! Started by the root supervisor. Decides when a model is fitted anew, and has it done on a blocking thread, one
//! ensemble at a time. Messages: a round, a mark, rounds from before a restart, a fit that is wanted or is done.
//! The rounds lie outside its own state, so that a restart forgets none.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Course, MOST_ENSEMBLES, Seen, Setup, Shared, add};
use crate::answer::Usage;
use crate::id::DecisionId;
use crate::learning::votes::history::MAX_ROUNDS;
use crate::learning::votes::{self, Ballot, History, Round, Said, Settings, fit};
use crate::supervisor::{Address, ChildSpec, Heartbeat};
use crate::telemetry;

/// What is learned carries its era: it is dropped if another state was restored since.
pub(super) enum Message {
    /// A round, and how its ensemble is set up.
    Seen(u64, Box<(Seen, Setup)>),
    /// The right answer of a round.
    Mark(u64, Box<Seen>),
    /// Rounds from before a restart, the oldest first.
    Recall(u64, Vec<Seen>),
    /// Fit now, and say when it is in force.
    Fit(String, oneshot::Sender<bool>),
    /// A model was fitted.
    Fitted(u64, String, Option<Box<Course>>),
    /// See [`Heartbeat`].
    Ping(Instant),
}

impl Heartbeat for Message {
    fn ping(at: Instant) -> Self {
        Self::Ping(at)
    }
}

/// Fewer rounds teach nothing.
const FEWEST_ROUNDS: usize = 30;
/// A model is fitted anew when this share of its rounds is news.
const NEWS: f64 = 0.1;
/// Dollars (or calls) between which a worth is looked for.
const WORTHS: (f64, f64) = (1e-6, 1e3);

/// The rounds of one ensemble.
#[derive(Default)]
pub(super) struct Class {
    pub(super) history: History,
    numbers: HashMap<DecisionId, u64>,
    order: VecDeque<DecisionId>,
    setup: Option<Setup>,
    /// By how much the providers' counts of input tokens exceed ours: sum and number.
    framing: (f64, f64),
    /// Rounds and marks since the last fit.
    news: usize,
}

impl Class {
    fn take(&mut self, seen: &Seen) {
        match add(&mut self.history, seen) {
            Ok(number) => {
                if let Some(counted) = seen.input_tokens {
                    self.framing.0 += f64::from(counted - seen.prompt_tokens);
                    self.framing.1 += 1.0;
                }
                self.numbers.insert(seen.decision.clone(), number);
                self.order.push_back(seen.decision.clone());
                if self.order.len() > MAX_ROUNDS
                    && let Some(old) = self.order.pop_front()
                {
                    self.numbers.remove(&old);
                }
                self.news += 1;
            }
            Err(why) => {
                tracing::warn!(ensemble = seen.ensemble, why, "a round is not learned from")
            }
        }
    }

    fn mark(&mut self, seen: &Seen) {
        let number = self.numbers.get(&seen.decision);
        let marked = number.is_some_and(|number| self.history.mark(*number, seen.truth));
        if marked {
            self.news += 1;
        } else {
            self.take(seen);
        }
    }

    fn is_due(&self) -> bool {
        let rounds = self.history.len();
        self.setup.is_some()
            && rounds >= FEWEST_ROUNDS
            && self.news >= FEWEST_ROUNDS.max((rounds as f64 * NEWS) as usize)
    }
}

pub(super) struct LearnerActor {
    path: String,
    shared: Arc<Shared>,
}

pub(super) fn child(path: &str, address: Address<Message>, shared: Arc<Shared>) -> ChildSpec {
    let path = path.to_owned();
    ChildSpec::new("learner", address, move || {
        let actor = LearnerActor {
            path: path.clone(),
            shared: Arc::clone(&shared),
        };
        (actor, ())
    })
}

#[derive(Default)]
pub(super) struct State {
    /// The ensemble that is being fitted.
    fitting: Option<String>,
    /// Ensembles to be fitted next, and who waits for it.
    wanted: VecDeque<(String, Option<oneshot::Sender<bool>>)>,
    waiting: Option<oneshot::Sender<bool>>,
}

impl LearnerActor {
    /// Whether no other state was restored since; stays true as long as `classes` are locked.
    fn is_current(&self, era: u64) -> bool {
        self.shared.era.load(Ordering::Relaxed) == era
    }

    fn with_class(&self, era: u64, name: &str, work: impl FnOnce(&mut Class)) {
        let mut classes = self.shared.classes.lock();
        if self.is_current(era) {
            with_class(&mut classes, name, work);
        }
    }

    fn want_if_due(&self, name: &str, state: &mut State) {
        let due = self.shared.by_itself
            && !self.shared.schooling.is_pinned()
            && self
                .shared
                .classes
                .lock()
                .get(name)
                .is_some_and(Class::is_due);
        if due && !state.wanted.iter().any(|(wanted, _)| wanted == name) {
            state.wanted.push_back((name.to_owned(), None));
        }
    }

    /// Starts the next fit, unless one is under way.
    fn start(&self, myself: &ActorRef<Message>, state: &mut State) {
        if state.fitting.is_some() {
            return;
        }
        while let Some((name, reply)) = state.wanted.pop_front() {
            let work = {
                let mut classes = self.shared.classes.lock();
                let era = self.shared.era.load(Ordering::Relaxed);
                classes.get_mut(&name).and_then(|class| {
                    class.news = 0;
                    let framing = class.framing.0 / class.framing.1.max(1.0);
                    Some((era, class.history.clone(), class.setup.clone()?, framing))
                })
            };
            let Some((era, history, setup, framing)) = work else {
                if let Some(reply) = reply {
                    let _ = reply.send(false);
                }
                continue;
            };
            state.fitting = Some(name.clone());
            state.waiting = reply;
            let myself = myself.clone();
            tokio::task::spawn_blocking(move || {
                // A fit that panics costs the fit: the old model serves on.
                let fitted = std::panic::catch_unwind(|| course(&history, &setup, framing));
                let fitted = fitted.ok().map(Box::new);
                let _ = myself.send_message(Message::Fitted(era, name, fitted));
            });
            return;
        }
    }

    /// Publishes a model, unless the rounds that it was fitted to were forgotten meanwhile or there are too many.
    fn put_in_force(&self, era: u64, name: &str, course: &Course) -> bool {
        let _classes = self.shared.classes.lock();
        let courses = self.shared.courses.load();
        let fits = courses.len() < MOST_ENSEMBLES || courses.contains_key(name);
        let taken = fits && self.is_current(era);
        if taken {
            self.shared.courses.rcu(|courses| {
                let mut courses = BTreeMap::clone(courses);
                courses.insert(name.to_owned(), Arc::new(course.clone()));
                courses
            });
        }
        taken
    }

    fn fitted(&self, era: u64, name: String, course: Option<Box<Course>>, state: &mut State) {
        state.fitting = None;
        let mut done = course.is_some();
        match course.map(|course| (course.model.validate(), course)) {
            Some((Ok(()), course)) => {
                done = self.put_in_force(era, &name, &course);
                telemetry::fitted(true);
            }
            _ => {
                tracing::error!(
                    ensemble = name,
                    "the model of its votes could not be fitted"
                );
                telemetry::fitted(false);
            }
        }
        if let Some(waiting) = state.waiting.take() {
            let _ = waiting.send(done);
        }
    }
}

fn with_class(classes: &mut BTreeMap<String, Class>, name: &str, work: impl FnOnce(&mut Class)) {
    if classes.len() < MOST_ENSEMBLES || classes.contains_key(name) {
        work(classes.entry(name.to_owned()).or_default());
    }
}

/// Fits the model of an ensemble's votes, and tunes it where a target is set.
fn course(history: &History, setup: &Setup, framing: f64) -> Course {
    let declared: Vec<(&str, f64)> = setup
        .members
        .iter()
        .map(|(name, quality, _)| (name.as_str(), *quality))
        .collect();
    let mut model = fit(history, &declared, &Settings::default());
    let in_dollars = setup.has_prices();
    let outputs = outputs(history);
    let prices: HashMap<&str, _> = setup
        .members
        .iter()
        .filter_map(|(name, _, price)| Some((name.as_str(), (*price)?)))
        .collect();
    let price = |round: &Round, ballot: &Ballot| -> votes::Price {
        let always = |dollars| votes::Price {
            expected: dollars,
            real: dollars,
        };
        if !in_dollars {
            return always(1.0);
        }
        let Some(member) = history.members().get(usize::from(ballot.member)) else {
            return always(0.0);
        };
        let Some(price) = prices.get(member.as_str()) else {
            return always(0.0);
        };
        // As at serving: how long an answer will be is not known before it is there.
        let kind = round
            .kind
            .and_then(|kind| history.kinds().get(usize::from(kind)));
        let of = |kind: &str| outputs.get(&(member.clone(), kind.to_owned()));
        let usual = kind
            .and_then(|kind| of(kind))
            .or_else(|| of(""))
            .copied()
            .unwrap_or(0.0);
        let dollars = |output: f64| {
            price.of(Usage {
                input: (f64::from(round.prompt_tokens.unwrap_or(0.0)) + framing).max(0.0) as u32,
                output: output as u32,
                ..Usage::default()
            })
        };
        let real = match ballot.said {
            Said::Answer {
                tokens: Some(tokens),
                ..
            } => f64::from(tokens),
            _ => usual,
        };
        votes::Price {
            expected: dollars(usual),
            real: dollars(real),
        }
    };
    let mut plan = setup.plan;
    let mut tuned = None;
    if setup.stepwise {
        if let Some(target) = setup.target {
            plan.worth = model.worth_for(history, target, &plan, WORTHS, price);
            tuned = Some(plan.worth);
        }
        model.learn_plan(history, &plan, price);
    }
    Course {
        tuned,
        framing,
        outputs,
        ..Course::new(model)
    }
}

fn outputs(history: &History) -> BTreeMap<(String, String), f64> {
    let mut sums: BTreeMap<(u16, Option<u16>), (f64, f64)> = BTreeMap::new();
    for round in history.rounds() {
        for ballot in &round.ballots {
            if let Said::Answer {
                tokens: Some(tokens),
                ..
            } = ballot.said
            {
                for kind in [None, round.kind] {
                    let sum = sums.entry((ballot.member, kind)).or_default();
                    sum.0 += f64::from(tokens);
                    sum.1 += 1.0;
                }
            }
        }
    }
    let name = |names: &[String], at: u16| names.get(usize::from(at)).cloned();
    sums.into_iter()
        .filter_map(|((member, kind), (sum, n))| {
            let member = name(history.members(), member)?;
            let kind = kind.map_or(Some(String::new()), |kind| name(history.kinds(), kind))?;
            Some(((member, kind), sum / n))
        })
        .collect()
}

impl Actor for LearnerActor {
    type Msg = Message;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<State, ActorProcessingErr> {
        Ok(State::default())
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Seen(era, seen) => {
                let (seen, setup) = *seen;
                self.with_class(era, &seen.ensemble, |class| {
                    class.setup = Some(setup);
                    class.take(&seen);
                });
                self.want_if_due(&seen.ensemble, state);
            }
            Message::Mark(era, seen) => {
                self.with_class(era, &seen.ensemble, |class| class.mark(&seen));
                self.want_if_due(&seen.ensemble, state);
            }
            Message::Recall(era, rounds) => {
                let mut classes = self.shared.classes.lock();
                for seen in rounds.iter().filter(|_| self.is_current(era)) {
                    with_class(&mut classes, &seen.ensemble, |class| {
                        class.take(seen);
                        // The model that came back has learned from them already.
                        class.news = 0;
                    });
                }
            }
            Message::Fit(name, reply) => state.wanted.push_front((name, Some(reply))),
            Message::Fitted(era, name, course) => self.fitted(era, name, course, state),
            Message::Ping(at) => telemetry::mailbox_delay(&self.path, at.elapsed()),
        }
        self.start(&myself, state);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::Learner;
    use crate::learning::votes::{Model, Plan, Truth};

    fn seen(decision: &str, clusters: &[u8], truth: Truth) -> Seen {
        Seen {
            ensemble: "panel".into(),
            decision: decision.into(),
            kind: Some("math".into()),
            ballots: clusters
                .iter()
                .enumerate()
                .map(|(at, cluster)| {
                    let said = Said::Answer {
                        cluster: *cluster,
                        tokens: Some(10.0 + at as f32),
                    };
                    (format!("m{at}"), said)
                })
                .collect(),
            options: None,
            prompt_tokens: 100.0,
            input_tokens: Some(120.0),
            truth,
        }
    }

    #[test]
    fn what_began_before_a_state_was_restored_is_dropped() {
        let (learner, _) = Learner::new("learner", Arc::default(), true);
        let actor = LearnerActor {
            path: "learner".into(),
            shared: Arc::clone(&learner.shared),
        };
        let restored = || Model::prior(&[("m0", 0.9)]);
        let fitted = || Some(Box::new(Course::new(Model::prior(&[("m0", 0.4)]))));
        let in_force = || learner.course("panel").map(|course| course.digest.clone());
        let before = learner.era();
        learner.restore(BTreeMap::from([("panel".into(), restored())]), 7);
        let kept = in_force();
        assert_eq!(learner.forgotten(), 7);
        let (reply, mut told) = oneshot::channel();
        let mut state = State {
            fitting: Some("panel".into()),
            waiting: Some(reply),
            ..State::default()
        };
        actor.fitted(before, "panel".into(), fitted(), &mut state);
        assert_eq!(in_force(), kept, "the restored model is overwritten");
        assert_eq!(told.try_recv(), Ok(false));
        assert!(state.fitting.is_none(), "no further fit could begin");
        actor.with_class(before, "panel", |_| panic!("an old round is taken"));
        // What began since counts.
        actor.with_class(learner.era(), "panel", |class| {
            class.take(&seen("a", &[0, 0, 1], Truth::Unknown));
        });
        assert_eq!(learner.rounds("panel"), 1);
        actor.fitted(learner.era(), "panel".into(), fitted(), &mut state);
        assert_ne!(in_force(), kept);
    }

    #[test]
    fn a_mark_finds_its_round_and_stands_in_for_a_lost_one() {
        let mut class = Class::default();
        class.take(&seen("a", &[0, 0, 1], Truth::Unknown));
        class.mark(&seen("a", &[0, 0, 1], Truth::Cluster(1)));
        assert_eq!(class.history.len(), 1);
        class.mark(&seen("lost", &[0, 1, 2], Truth::NoneOfThem));
        let truths: Vec<Truth> = class.history.rounds().map(|round| round.truth).collect();
        assert_eq!(truths, [Truth::Cluster(1), Truth::NoneOfThem]);
    }

    #[test]
    fn expected_lengths_are_means_by_member_and_kind() {
        let mut class = Class::default();
        class.take(&seen("a", &[0, 0], Truth::Unknown));
        let setup = Setup {
            members: vec![("m0".into(), 0.5, None), ("m1".into(), 0.5, None)],
            plan: Plan {
                worth: 100.0,
                enough: 0.95,
                depth: 2,
                climbs: false,
            },
            target: None,
            stepwise: true,
        };
        let course = course(&class.history, &setup, 20.0);
        assert_eq!(course.output("m1", Some("math")), Some(11.0));
        assert_eq!(course.output("m1", Some("code")), Some(11.0));
        assert_eq!(course.output("m2", None), None);
        assert_eq!(course.digest.len(), 16);
    }
}
