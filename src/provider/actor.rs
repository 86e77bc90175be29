//! The provider actor: one per deployment.
//!
//! Started by its provider's supervisor. Owns the breaker, the cool-down, the rate limits, the learned latency
//! and quality, and the callers that wait for a free place. Messages: a call asks for leave, a call ended,
//! feedback. The calls themselves run in the task of their query and never pass here. After each change it
//! publishes a [`Snapshot`]; a restarted actor begins with the last one, so a crash forgets nothing.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Snapshot;
use super::cell::{Cell, Guard, Place, QUIET, Want};
use super::evidence::{Evidence, evidence, signal};
use crate::answer::Usage;
use crate::error::{Error, ErrorKind, Result};
use crate::fair_queue::{FairQueue, Limits};
use crate::id::UserId;
use crate::learning::aptitude::Traits;
use crate::learning::{self, Observation, Outcome};
use crate::query::Lane;
use crate::resilience::{Aimd, BreakerState, Cooldown, RateLimit, Ticket, Transition, Verdict};
use crate::supervisor::{ChildSpec, Heartbeat, task};
use crate::telemetry;

/// What a provider actor is told.
pub enum Message {
    /// A call asks for leave.
    Admit(Knock),
    /// A call ended.
    Ended(Ended),
    /// An answer was judged.
    Judged(Judgement),
    /// Learned state from elsewhere takes the place of its own; tells when it is published.
    Restored(Box<Snapshot>, oneshot::Sender<()>),
    /// The cell holds a new configuration.
    Configured,
    /// A connection came about again.
    Reachable,
    /// See [`Heartbeat`].
    Ping(Instant),
    /// Panic, to test what happens then.
    Poison,
}

impl Heartbeat for Message {
    fn ping(at: Instant) -> Self {
        Self::Ping(at)
    }
}

/// A call that asks for leave.
pub struct Knock {
    /// For whom it is made.
    pub user: UserId,
    /// How urgent that is.
    pub lane: Lane,
    /// Tokens it may use, estimated.
    pub tokens: u32,
    /// Whether it waits for a free place, and whether nobody else can serve it.
    pub want: Want,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Guard>>,
}

/// The end of a call.
pub struct Ended {
    /// Its leave.
    pub ticket: Ticket,
    /// What it was estimated at.
    pub tokens: u32,
    /// When it began, since the orchestrator's start.
    pub began: Duration,
    /// Calls that were running when it ended, itself among them.
    pub in_flight: u32,
    /// How it ended.
    pub report: Report,
}

/// A judgement of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Where it belongs.
    pub place: learning::Place,
    /// How the question was asked, if that is known.
    pub traits: Option<Traits>,
    /// 0..=1.
    pub score: f64,
    /// How much it counts, above 0 to [`MAX_WEIGHT`](crate::learning::MAX_WEIGHT).
    pub weight: f64,
    /// Who judges.
    pub source: Arc<str>,
    /// The quality that was expected when the deployment was chosen: only against it a change shows.
    pub expected: Option<f64>,
}

/// How a call ended, as far as it says something about the deployment.
#[derive(Clone, Debug)]
pub enum Report {
    /// Answered.
    Success {
        /// To the first semantic delta, if it was streamed.
        ttft: Option<Duration>,
        /// To the end.
        total: Duration,
        /// Tokens, if counted.
        usage: Option<Usage>,
    },
    /// Failed, in the way the error says.
    Failure(Error),
    /// Nothing learned: cancelled.
    Neutral,
}

/// Whom a deployment has no place for waits as at admission. Admission has bounded how many they are.
const LINE: Limits = Limits {
    per_user: u32::MAX,
    total: u32::MAX,
    queue: usize::MAX,
    aging: Duration::from_secs(10),
};

pub(super) struct ProviderActor {
    path: String,
    cell: Arc<Cell>,
}

/// The child that serves `cell`; `path` is its place in the tree.
pub fn child(path: &str, name: &str, cell: Arc<Cell>) -> ChildSpec {
    let path = format!("{path}/{name}");
    let address = cell.address.clone();
    ChildSpec::new(name, address, move || {
        (
            ProviderActor {
                path: path.clone(),
                cell: Arc::clone(&cell),
            },
            (),
        )
    })
}

pub(super) struct State {
    known: Snapshot,
    requests: Option<RateLimit>,
    tokens: Option<RateLimit>,
    /// Who waits for a place, in the order of admission: by lane, ageing, and users in turn.
    waiting: FairQueue<UserId, Knock>,
    /// The last failure was that no connection came about.
    unconnected: bool,
}

impl ProviderActor {
    /// Tells the cell how many may call at once: what is configured, or what was found out if that is less.
    fn limit(&self, state: &State) {
        let limits = self.cell.deployment.load().limits;
        let found = state.known.aimd.limit().filter(|_| limits.adaptive);
        let limit = match (limits.max_in_flight, found) {
            (Some(most), Some(found)) => Some(most.min(found)),
            (most, found) => most.or(found),
        };
        self.cell.limit(limit, state.waiting.waiting());
    }

    /// Fresh limits of requests and tokens, as configured.
    fn rate_limits(&self) -> (Option<RateLimit>, Option<RateLimit>) {
        let limits = self.cell.deployment.load().limits;
        let rate =
            |per_minute: Option<u32>| per_minute.and_then(NonZeroU32::new).map(RateLimit::new);
        (
            rate(limits.requests_per_minute),
            rate(limits.tokens_per_minute),
        )
    }

    /// Decides on a call that found a free place.
    fn grant(&self, place: Place, tokens: u32, want: Want, state: &mut State) -> Result<Guard> {
        let now = self.cell.now();
        if let Some(why) = &state.known.disabled {
            // Our credential was refused, not the caller's.
            let message = format!("disabled until a reload: {why}");
            return Err(Error::new(ErrorKind::Auth, message).with_upstream(401, &[]));
        }
        let rest = state.known.cooldown.remaining(now);
        if !rest.is_zero() {
            return Err(limited("the upstream asked for a pause", rest));
        }
        if let Some(Err(rest)) = state.requests.as_mut().map(|limit| limit.try_take(1, now)) {
            return Err(limited("requests_per_minute is used up", rest));
        }
        if let Some(Err(rest)) = state
            .tokens
            .as_mut()
            .map(|limit| limit.try_take(tokens, now))
        {
            give_back(&mut state.requests, 1);
            return Err(limited("tokens_per_minute is used up", rest));
        }
        let config = self.cell.breaker.load();
        if want.alone {
            state.known.breaker.hasten_alone(now);
        }
        while let Some(step) = state.known.breaker.advance(&config, now) {
            self.changed(&step, &mut state.known);
        }
        let breaker = &mut state.known.breaker;
        let leave = if want.alone {
            breaker.admit_alone(&config, now)
        } else {
            breaker.admit(&config, now)
        };
        match leave {
            Ok(ticket) => Ok(Guard::new(place, ticket, tokens)),
            Err(rejected) => {
                give_back(&mut state.requests, 1);
                give_back(&mut state.tokens, tokens);
                let why = state
                    .known
                    .last_error
                    .as_deref()
                    .unwrap_or("too many failures");
                Err(Error::new(
                    ErrorKind::BreakerOpen,
                    format!("the breaker is open: {why}"),
                )
                .with_retry_after(Some(rejected.retry_after)))
            }
        }
    }

    fn admit(&self, knock: Knock, state: &mut State) {
        if knock.reply.is_closed() {
            return;
        }
        // Who waited goes first: a place may be free whose end has not been told yet.
        self.serve_waiting(state);
        if state.waiting.waiting() == 0
            && let Some(place) = self.cell.occupy()
        {
            self.answer(place, knock, state);
        } else if knock.want.wait {
            let (user, lane) = (knock.user.clone(), knock.lane as usize);
            state.waiting.enqueue(user, lane, self.cell.now(), knock);
        } else {
            let _ = knock.reply.send(Err(Error::new(
                ErrorKind::RateLimited,
                "as many calls as it bears are running",
            )));
        }
    }

    fn ended(&self, ended: Ended, state: &mut State) {
        let Ended {
            ticket,
            tokens,
            began,
            in_flight,
            report,
        } = ended;
        let now = self.cell.now();
        let deployment = self.cell.deployment.load();
        let id = deployment.id.as_str();
        let known = &mut state.known;
        if let Some(signal) = signal(&report, &known.latency) {
            known.aimd.observe(signal, in_flight, began, now);
        }
        let verdict = match &report {
            Report::Success { ttft, total, usage } => {
                if !self.cell.schooling.is_pinned() {
                    known
                        .latency
                        .observe(*ttft, *total, usage.map(|usage| usage.output));
                    if let Some(usage) = usage {
                        known.tokens.observe(*usage);
                    }
                }
                known.cooldown.success();
                known.calls.ok += 1;
                let cost = deployment.price.zip(*usage);
                let cost = cost.map(|(price, usage)| price.of(usage));
                self.cell.meters.succeeded(*total, *usage, cost);
                if let (Some(limit), Some(usage)) = (&mut state.tokens, usage) {
                    limit.settle(tokens, usage.input.saturating_add(usage.output));
                }
                Verdict::Success
            }
            Report::Failure(error) => {
                known.last_error = Some(error.to_string().into());
                match evidence(error) {
                    Evidence::Unwell => {
                        known.calls.failed += 1;
                        state.unconnected = error.kind() == ErrorKind::Connect;
                        match error.kind() {
                            ErrorKind::Connect => Verdict::Unreachable,
                            // What was cut sooner may only have been slow.
                            ErrorKind::Timeout if now.saturating_sub(began) >= QUIET => {
                                Verdict::Unreachable
                            }
                            _ => Verdict::Failure,
                        }
                    }
                    Evidence::Busy(after) => {
                        known.calls.rate_limited += 1;
                        // Fewer calls at once than ran may be all it asks for.
                        let eased = after.is_none()
                            && deployment.limits.adaptive
                            && (known.aimd.limit()).is_some_and(|limit| limit < in_flight);
                        if !eased {
                            known.cooldown.signal(now, after, rand::random());
                        }
                        Verdict::Neutral
                    }
                    Evidence::Refused => {
                        tracing::error!(deployment = id, %error, "the upstream refuses us, deployment disabled");
                        known.disabled = Some(error.to_string().into());
                        Verdict::Neutral
                    }
                    Evidence::None => {
                        known.calls.neutral += 1;
                        Verdict::Neutral
                    }
                }
            }
            Report::Neutral => {
                known.calls.neutral += 1;
                Verdict::Neutral
            }
        };
        let config = self.cell.breaker.load();
        if let Some(step) = known
            .breaker
            .record(&config, ticket, verdict, now, rand::random())
        {
            self.changed(&step, known);
        }
    }

    /// Learns from a judgement, unless what is learned is pinned.
    fn judged(&self, judgement: &Judgement, state: &mut State) {
        let schooling = &self.cell.schooling;
        if schooling.is_pinned() {
            return;
        }
        let Judgement { score, weight, .. } = *judgement;
        let known = &mut state.known;
        let seen = Observation {
            kind: judgement.place.row,
            cluster: judgement.place.cluster,
            reward: score,
            weight,
            expected: judgement.expected,
            step: schooling.step(),
        };
        match Arc::make_mut(&mut known.ability).observe(seen) {
            Ok(Outcome::Counted) => {}
            Ok(Outcome::Changed { ratio, .. }) => {
                let deployment = self.cell.deployment.load();
                tracing::warn!(
                    deployment = deployment.id.as_str(),
                    ratio,
                    "answers have become worse: what was learned of it counts less"
                );
                telemetry::quality_changed(deployment.id.as_str());
            }
            Err(error) => return tracing::warn!(%error, "judgement ignored"),
        }
        if let Some(traits) = judgement.traits {
            let row = judgement.place.row.and_then(|row| u16::try_from(row).ok());
            Arc::make_mut(&mut known.aptitude).observe(row, traits, score, weight);
        }
        Arc::make_mut(&mut known.sources).note(&judgement.source, score, weight);
        self.publish(state);
        schooling.changed();
    }

    fn changed(&self, step: &Transition, known: &mut Snapshot) {
        let deployment = self.cell.deployment.load();
        let id = deployment.id.as_str();
        let reason = step.reason.map(|reason| reason.as_str());
        let last_error = known.last_error.as_deref();
        let (from, to) = (step.from.as_str(), step.to.as_str());
        // A level is part of the code that it stands in.
        macro_rules! tell {
            ($level:ident) => {
                tracing::$level!(
                    deployment = id,
                    from,
                    to,
                    reason,
                    last_error,
                    "breaker changed"
                )
            };
        }
        // While an upstream is down, probes come and go each second.
        if step.from == BreakerState::Closed || step.to == BreakerState::Closed {
            tell!(warn);
        } else {
            tell!(debug);
        }
        telemetry::breaker_changed(id, step.to.as_str());
        telemetry::breaker_state(id, step.to);
    }

    /// Serves who waited, as far as places are free.
    fn serve_waiting(&self, state: &mut State) {
        let mut free = None;
        while state.waiting.waiting() > 0 {
            let Some(place) = free.take().or_else(|| self.cell.occupy()) else {
                return;
            };
            let Some(next) = state.waiting.next(self.cell.now()) else {
                return;
            };
            // A place is all that it waited for: the line itself has no limit.
            state.waiting.release(&next.user);
            if next.item.reply.is_closed() {
                free = Some(place);
            } else {
                self.answer(place, next.item, state);
            }
        }
    }

    /// Answers a call that found a free place.
    fn answer(&self, place: Place, knock: Knock, state: &mut State) {
        let granted = self.grant(place, knock.tokens, knock.want, state);
        // A guard that nobody receives drops here and reports itself as neutral.
        let _ = knock.reply.send(granted);
    }

    /// Tries a connection while the breaker is open because none came about.
    fn knock(&self, state: &State) {
        let open = state.known.breaker.state(self.cell.now()) == BreakerState::Open;
        if !(open && state.unconnected) {
            return;
        }
        let reachable = self.cell.provider.load().is_reachable();
        let address = self.cell.address.clone();
        // Ends within the time that connecting may take.
        task::spawn(async move {
            if reachable.await {
                let _ = address.send(Message::Reachable);
            }
        });
    }

    fn publish(&self, state: &State) {
        self.cell.snapshot.store(Arc::new(state.known.clone()));
    }
}

/// What was taken for a call that is not made.
fn give_back(limit: &mut Option<RateLimit>, taken: u32) {
    if let Some(limit) = limit {
        limit.settle(taken, 0);
    }
}

fn limited(why: &str, rest: Duration) -> Error {
    Error::new(ErrorKind::RateLimited, why).with_retry_after(Some(rest))
}

impl Actor for ProviderActor {
    type Msg = Message;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Message>, (): ()) -> Result<State, ActorProcessingErr> {
        let known = (**self.cell.snapshot.load()).clone();
        let breaker = known.breaker.state(self.cell.now());
        telemetry::breaker_state(self.cell.deployment.load().id.as_str(), breaker);
        let (requests, tokens) = self.rate_limits();
        let state = State {
            known,
            requests,
            tokens,
            waiting: FairQueue::new(LINE),
            unconnected: false,
        };
        self.limit(&state);
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Admit(knock) => {
                let before = state.known.breaker;
                self.admit(knock, state);
                self.limit(state);
                if state.known.breaker != before {
                    self.publish(state);
                }
            }
            Message::Ended(ended) => {
                self.ended(ended, state);
                self.limit(state);
                self.serve_waiting(state);
                self.limit(state);
                self.publish(state);
            }
            Message::Judged(judgement) => self.judged(&judgement, state),
            Message::Restored(learned, done) => {
                state.known = state.known.with_learned(*learned);
                self.publish(state);
                self.cell.schooling.changed();
                let _ = done.send(());
            }
            Message::Configured => {
                state.known.disabled = None;
                state.known.cooldown = Cooldown::default();
                state.known.aimd = Aimd::default();
                (state.requests, state.tokens) = self.rate_limits();
                self.limit(state);
                self.serve_waiting(state);
                self.publish(state);
            }
            Message::Reachable => {
                state.known.breaker.hasten(self.cell.now());
                self.publish(state);
            }
            Message::Ping(at) => {
                telemetry::mailbox_delay(&self.path, at.elapsed());
                self.knock(state);
                // Time alone moves a breaker from open to half-open: let the gauge follow.
                let deployment = self.cell.deployment.load();
                telemetry::breaker_state(
                    deployment.id.as_str(),
                    state.known.breaker.state(self.cell.now()),
                );
                self.cell.gauge();
            }
            #[allow(clippy::panic, reason = "the purpose of this message")]
            Message::Poison => panic!("poisoned"),
        }
        Ok(())
    }
}
