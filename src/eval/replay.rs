//! A provider that answers from a record, and an orchestrator whose deployments are such.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::prices::Prices;
use super::record::{Recorded, Reply};
use crate::answer::{Answer, Usage};
use crate::config::{Config, Ensemble, Routing};
use crate::error::{Error, ErrorKind, Result};
use crate::id::DecisionId;
use crate::learning::chance::{unit, word};
use crate::orchestrator::Orchestrator;
use crate::provider::{Call, Capabilities, Deployment, Limits, Outcome, Price, Provider, Timeouts};
use crate::query::{Query, Routing as Wanted};

/// The provider's name: deployments are `replay/<model>`.
pub const PROVIDER: &str = "replay";
/// The ensemble's name.
pub const ENSEMBLE: &str = "eval";

/// A model that becomes worse in the middle of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Shift {
    /// Which model.
    pub model: String,
    /// From which query on, counted from 0.
    pub at: usize,
    /// The share of its right answers that it keeps, 0..=1.
    pub keep: f64,
}

/// Which record a query is about, and the shift in force.
#[derive(Clone, Debug)]
struct Asked {
    record: Arc<Recorded>,
    number: usize,
}

/// What is being played: the records by the decisions that ask for them.
#[derive(Default)]
pub struct Tape {
    asked: Mutex<HashMap<DecisionId, Asked>>,
    shift: Option<Shift>,
    seed: u64,
}

impl Tape {
    /// What a model said to a record in query number `number`, the shift applied; `None` if it is not recorded.
    pub fn reply(&self, record: &Recorded, model: &str, number: usize) -> Option<Reply> {
        let reply = record.answers.get(model)?;
        let shifted = self
            .shift
            .as_ref()
            .filter(|shift| shift.model == model && number >= shift.at);
        let Some(shift) = shifted else {
            return Some(reply.clone());
        };
        let of = [self.seed.to_le_bytes(), (number as u64).to_le_bytes()];
        if unit(word(&[&of[0], &of[1]])) < shift.keep {
            return Some(reply.clone());
        }
        Some(Reply {
            answer: reply.answer.as_ref().map(|_| "(lost)".to_owned()),
            score: reply.score.map(|_| 0.0),
            ..reply.clone()
        })
    }
}

/// How good a reply is, 0..=1: its score, or whether it is the reference, letter by letter but for white space round
/// it.
pub fn reward(record: &Recorded, reply: Option<&Reply>) -> f64 {
    let Some(reply) = reply else { return 0.0 };
    if let Some(score) = reply.score {
        return score;
    }
    match (&record.reference, &reply.answer) {
        (Some(reference), Some(answer)) => f64::from(u8::from(is_right(reference, answer))),
        _ => 0.0,
    }
}

/// Whether an answer is the reference.
pub fn is_right(reference: &str, answer: &str) -> bool {
    reference.trim() == answer.trim()
}

/// What a model says whose recorded answer this is. A record holds what was extracted of an answer, and who answers that
/// a program prints nothing has said so; an empty message would be no answer at all.
pub fn spoken(recorded: &str) -> &str {
    if recorded.trim().is_empty() {
        EMPTY
    } else {
        recorded
    }
}

/// An empty text, said.
const EMPTY: &str = "\"\"";

/// Answers from the record in one model's name.
struct Replay {
    model: String,
    tape: Arc<Tape>,
}

impl Provider for Replay {
    fn call(&self, call: Call) -> BoxFuture<'static, Result<Outcome, Error>> {
        let asked = self.tape.asked.lock().get(&call.query.id).cloned();
        let reply = asked.and_then(|asked| {
            let reply = self.tape.reply(&asked.record, &self.model, asked.number)?;
            Some((asked.record, reply))
        });
        let model = self.model.clone();
        async move {
            let Some((record, reply)) = reply else {
                let message = format!("no answer of {model} to this is recorded");
                return Err(Error::new(ErrorKind::Unsupported, message));
            };
            // Of some answers only the score was kept: they did say something.
            let kept = reply
                .answer
                .clone()
                .or(reply.score.map(|_| "(not kept)".to_owned()));
            let silent = kept.is_none();
            let mut answer = Answer::text(kept.as_deref().map(spoken).unwrap_or_default());
            if silent && let Some(choice) = answer.choices.first_mut() {
                choice.message.content = None;
            }
            answer.model = model;
            answer.usage = Some(Usage {
                input: record.prompt_tokens(),
                output: reply.output_tokens(),
                ..Usage::default()
            });
            Ok(Outcome::Whole(answer))
        }
        .boxed()
    }

    fn note(&self) -> Option<String> {
        Some("replayed from a record".into())
    }
}

/// An orchestrator over recorded models.
pub struct Stage {
    /// It.
    pub orchestrator: Orchestrator,
    /// What it plays.
    pub tape: Arc<Tape>,
}

/// What a stage is built from.
pub struct Setting<'a> {
    /// The models, in the order of the configuration.
    pub models: &'a [String],
    /// What they cost.
    pub prices: Option<&'a Prices>,
    /// The ensemble of all of them, if there is to be one.
    pub ensemble: Option<Ensemble>,
    /// What a good choice is.
    pub routing: Routing,
    /// What gets worse.
    pub shift: Option<Shift>,
    /// What everything drawn comes from.
    pub seed: u64,
}

impl Stage {
    /// Starts it. Nothing is written to disk.
    ///
    /// # Errors
    /// If the orchestrator does not start.
    pub async fn new(setting: Setting<'_>) -> Result<Self> {
        let mut config = Config::default();
        config.ledger.path = None;
        config.ledger.max_rows = 20_000;
        // Memory is bounded by rows; time is paused, and no run lasts.
        config.ledger.checkpoint = Duration::from_secs(3600);
        config.routing = Routing {
            seed: setting.seed,
            // The record says what kind of work it is.
            classify: false,
            ..setting.routing
        };
        if let Some(ensemble) = setting.ensemble {
            config.ensembles.insert(ENSEMBLE.into(), ensemble);
        }
        let tape = Arc::new(Tape {
            asked: Mutex::default(),
            shift: setting.shift,
            seed: setting.seed,
        });
        let mut builder = Orchestrator::builder(config).fits_on_demand();
        for model in setting.models {
            let price = setting.prices.and_then(|prices| prices.get(model));
            let replay = Replay {
                model: model.clone(),
                tape: Arc::clone(&tape),
            };
            builder = builder.provider(
                deployment(
                    model,
                    price.map(|price| Price {
                        input: price.input,
                        output: price.output,
                        cached: None,
                    }),
                ),
                Arc::new(replay),
            );
        }
        Ok(Self {
            orchestrator: builder.start().await?,
            tape,
        })
    }

    /// Asks `model` (a name as a client writes it) about a record; `id` names the decision and so all that is drawn
    /// for it.
    ///
    /// # Errors
    /// As [`Orchestrator::ask`].
    pub async fn ask(
        &self,
        model: &str,
        record: &Arc<Recorded>,
        number: usize,
        id: &str,
        wanted: Wanted,
    ) -> Result<Answer> {
        let mut query = Query::new(model, record.rendered());
        query.id = DecisionId::from(id);
        query.topic = record.task.clone().filter(|task| !task.is_empty());
        query.routing = wanted;
        let asked = Asked {
            record: Arc::clone(record),
            number,
        };
        self.tape.asked.lock().insert(query.id.clone(), asked);
        let answer = self.orchestrator.ask(query).await;
        self.tape.asked.lock().remove(&DecisionId::from(id));
        answer
    }

    /// Lets every actor take in what it was sent.
    pub async fn settle(&self) {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    /// Ends it.
    pub async fn end(self) {
        self.orchestrator.shutdown(Duration::from_secs(1)).await;
    }
}

fn deployment(model: &str, price: Option<Price>) -> Deployment {
    Deployment {
        id: id(model).as_str().into(),
        model: model.to_owned(),
        vendor: PROVIDER.into(),
        capabilities: Capabilities::default(),
        price,
        limits: Limits::default(),
        timeouts: Timeouts::default(),
        quality: None,
        family: None,
    }
}

/// A recorded model's deployment.
pub fn id(model: &str) -> String {
    format!("{PROVIDER}/{model}")
}
