//! Routing over a recorded set: queries drawn at random, feedback for the chosen model only.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::prices::Prices;
use super::record::{self, Recorded};
use super::replay::{PROVIDER, Setting, Shift, Stage, id, reward};
use crate::config::Routing;
use crate::error::{Error, Result};
use crate::learning::chance::{unit, word};
use crate::orchestrator::{Evidence, Feedback};
use crate::query::Routing as Wanted;

/// Whom to ask.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// As the daemon does for `auto`: sampled, exploring within bounds.
    Thompson,
    /// As the daemon does with `explore = 0`.
    Greedy,
    /// Anyone, each as often.
    Uniform,
    /// Always this model.
    Fixed(String),
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom to choose from; all that are recorded if empty.
    pub models: Vec<String>,
    /// Whom to ask.
    pub policy: Policy,
    /// Queries of each run; 0 asks every question once, in order.
    pub queries: usize,
    /// Runs, each with draws of its own.
    pub seeds: u64,
    /// What gets worse in each run.
    pub shift: Option<Shift>,
    /// Weight of cost against quality's 1.
    pub cost_weight: f64,
    /// Whether the answers are judged; a policy that is not told learns nothing.
    pub feedback: bool,
}

/// What came out; means over the runs.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The policy.
    pub policy: String,
    /// Queries of each run.
    pub n: usize,
    /// Runs.
    pub seeds: u64,
    /// Mean reward of a query, 0..=1, and its standard error over the runs.
    pub reward: f64,
    /// Its standard error over the runs (over the questions, of one run).
    pub reward_se: f64,
    /// Rewards that the best single model would have had more, summed over a run.
    pub regret_best_single: f64,
    /// Its standard error.
    pub regret_best_single_se: f64,
    /// Rewards that the best model of each task would have had more.
    pub regret_best_per_task: f64,
    /// Mean reward from the shift on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_after_shift: Option<f64>,
    /// Its standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_after_shift_se: Option<f64>,
    /// Dollars per 1,000 queries; none without a price of every model that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_1000: Option<f64>,
    /// Models without a price that were asked, where others have one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unpriced: Vec<String>,
    /// The best single model and its mean reward over the whole set.
    pub best_single: String,
    /// That mean reward.
    pub best_single_reward: f64,
    /// Mean reward of the best model of each task over the whole set.
    pub best_per_task_reward: f64,
    /// Of each model, its share of each tenth of the queries.
    pub shares: BTreeMap<String, Vec<f64>>,
    /// Share of the queries that explored.
    pub explored: f64,
}

/// Parts of a run for which shares are told.
const PARTS: usize = 10;

/// Runs it. `learn` is taken in first, every model's reward on every question.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid) for a model that is not recorded, or an empty set.
pub async fn run(
    learn: &[Arc<Recorded>],
    test: &[Arc<Recorded>],
    prices: Option<&Prices>,
    options: &Options,
    progress: &dyn Fn(usize, usize),
) -> Result<Report> {
    if test.is_empty() || options.seeds == 0 {
        return Err(Error::invalid(
            "data",
            "there must be a question and a seed",
        ));
    }
    let mut models = options.models.clone();
    if models.is_empty() {
        models = record::models(test);
        models.sort();
    }
    if models.is_empty() {
        return Err(Error::invalid(
            "data",
            "has questions, but no model's answers",
        ));
    }
    record::answered(test, "models", &models)?;
    let best = Best::of(test, &models);
    let mut options = options.clone();
    if let Some(shift) = options.shift.as_mut().filter(|shift| shift.model == "best") {
        shift.model.clone_from(&best.single);
    }
    let named = match (&options.policy, &options.shift) {
        (Policy::Fixed(model), _) => Some(("policy", model)),
        (_, Some(shift)) => Some(("shift", &shift.model)),
        _ => None,
    };
    if let Some((field, model)) = named {
        record::answered(test, field, std::slice::from_ref(model))?;
        if !models.contains(model) {
            let message = format!("'{model}' is none of {}", models.join(", "));
            return Err(Error::invalid(field, message));
        }
    }
    let queries = if options.queries == 0 {
        test.len()
    } else {
        options.queries
    };
    let each = queries + learn.len();
    let mut runs = Vec::new();
    for seed in 0..options.seeds {
        let told = |done: usize| {
            progress(seed as usize * each + done, options.seeds as usize * each);
        };
        runs.push(
            once(
                learn, test, &models, prices, &options, queries, &best, seed, &told,
            )
            .await?,
        );
    }
    let of = |f: &dyn Fn(&Run) -> f64| mean_se(&runs.iter().map(f).collect::<Vec<_>>());
    let n = queries as f64;
    let (reward, mut reward_se) = of(&|run| run.reward / n);
    if let [one] = runs.as_slice() {
        reward_se = mean_se(&one.rewards).1;
    }
    let (regret, regret_se) = of(&|run| run.regret_single);
    let after = options.shift.as_ref().map(|shift| {
        let count = queries.saturating_sub(shift.at).max(1) as f64;
        of(&|run| run.after / count)
    });
    let shares = models.iter().enumerate().map(|(at, model)| {
        let share = |part: usize| {
            let sum: f64 = runs.iter().map(|run| run.shares[at][part]).sum();
            sum / runs.len() as f64
        };
        (model.clone(), (0..PARTS).map(share).collect())
    });
    let asked = models.iter().enumerate().filter(|(at, _)| {
        let shares = runs.iter().flat_map(|run| &run.shares[*at]);
        shares.into_iter().any(|share| *share > 0.0)
    });
    let asked: Vec<String> = asked.map(|(_, model)| model.clone()).collect();
    let unpriced = prices.map_or_else(Vec::new, |prices| prices.lacking(&asked));
    Ok(Report {
        policy: match &options.policy {
            Policy::Thompson => "thompson".into(),
            Policy::Greedy => "greedy".into(),
            Policy::Uniform => "uniform".into(),
            Policy::Fixed(model) => format!("fixed:{model}"),
        },
        n: queries,
        seeds: options.seeds,
        reward,
        reward_se,
        regret_best_single: regret,
        regret_best_single_se: regret_se,
        regret_best_per_task: of(&|run| run.regret_task).0,
        reward_after_shift: after.map(|(mean, _)| mean),
        reward_after_shift_se: after.map(|(_, se)| se),
        cost_per_1000: prices
            .filter(|_| unpriced.is_empty())
            .map(|_| of(&|run| 1000.0 * run.cost / n).0),
        unpriced,
        best_single_reward: best.single_reward,
        best_per_task_reward: best.task_reward,
        best_single: best.single,
        shares: shares.collect(),
        explored: of(&|run| run.explored / n).0,
    })
}

/// The best that could have been chosen, seen from the end.
struct Best {
    single: String,
    single_reward: f64,
    per_task: BTreeMap<String, String>,
    task_reward: f64,
}

impl Best {
    fn of(test: &[Arc<Recorded>], models: &[String]) -> Self {
        let mut sums: BTreeMap<&str, BTreeMap<&str, f64>> = BTreeMap::new();
        for record in test {
            let task = record.task.as_deref().unwrap_or_default();
            for model in models {
                let reward = reward(record, record.answers.get(model));
                *sums.entry(task).or_default().entry(model).or_default() += reward;
            }
        }
        let best = |sums: &BTreeMap<&str, f64>| {
            let mut winner = ("", f64::NEG_INFINITY);
            for (model, sum) in sums {
                if *sum > winner.1 {
                    winner = (model, *sum);
                }
            }
            (winner.0.to_owned(), winner.1)
        };
        let mut all: BTreeMap<&str, f64> = BTreeMap::new();
        for task in sums.values() {
            for (model, sum) in task {
                *all.entry(model).or_default() += sum;
            }
        }
        let n = test.len() as f64;
        let (single, single_sum) = best(&all);
        let per_task: BTreeMap<String, (String, f64)> = sums
            .iter()
            .map(|(task, sums)| ((*task).to_owned(), best(sums)))
            .collect();
        Self {
            single,
            single_reward: single_sum / n,
            task_reward: per_task.values().map(|(_, sum)| sum).sum::<f64>() / n,
            per_task: per_task
                .into_iter()
                .map(|(task, (model, _))| (task, model))
                .collect(),
        }
    }
}

#[derive(Default)]
struct Run {
    reward: f64,
    rewards: Vec<f64>,
    regret_single: f64,
    regret_task: f64,
    after: f64,
    cost: f64,
    explored: f64,
    shares: Vec<Vec<f64>>,
}

#[allow(clippy::too_many_arguments, reason = "one run is all of this")]
async fn once(
    learn: &[Arc<Recorded>],
    test: &[Arc<Recorded>],
    models: &[String],
    prices: Option<&Prices>,
    options: &Options,
    queries: usize,
    best: &Best,
    seed: u64,
    told: &dyn Fn(usize),
) -> Result<Run> {
    let explores = options.policy == Policy::Thompson;
    let defaults = Routing::default();
    let stage = Stage::new(Setting {
        models,
        prices,
        ensemble: None,
        routing: Routing {
            quality: 1.0,
            latency: 0.0,
            cost: options.cost_weight,
            explore: if explores { defaults.explore } else { 0.0 },
            ..defaults
        },
        shift: options.shift.clone(),
        seed,
    })
    .await?;
    for (number, record) in learn.iter().enumerate() {
        told(number);
        let known = models.iter().filter_map(|model| {
            let reply = record.answers.get(model)?;
            Some(Evidence {
                deployment: id(model),
                score: reward(record, Some(reply)),
                weight: 1.0,
                source: "labels".into(),
                task: None,
                topic: record.task.clone().filter(|task| !task.is_empty()),
                prompt: Some(record.rendered()),
            })
        });
        let known: Vec<Evidence> = known.collect();
        stage.orchestrator.import(&known)?;
        stage.settle().await;
    }
    // Not judged, nothing is to be learned.
    stage.orchestrator.pin(!options.feedback);
    let mut run = Run {
        shares: vec![vec![0.0; PARTS]; models.len()],
        ..Run::default()
    };
    for number in 0..queries {
        told(learn.len() + number);
        let at = if options.queries == 0 {
            number
        } else {
            (draw(seed, number, "question") * test.len() as f64) as usize
        };
        let record = &test[at.min(test.len() - 1)];
        let asked = match &options.policy {
            Policy::Thompson | Policy::Greedy => "auto".to_owned(),
            Policy::Fixed(model) => id(model),
            Policy::Uniform => {
                let at = (draw(seed, number, "model") * models.len() as f64) as usize;
                id(&models[at.min(models.len() - 1)])
            }
        };
        let decision = format!("run-{seed}-{number}");
        let wanted = Wanted {
            explain: explores,
            ..Wanted::default()
        };
        let answer = stage.ask(&asked, record, number, &decision, wanted).await?;
        let chosen = answer
            .report
            .model
            .as_ref()
            .map(|id| id.as_str().to_owned());
        let chosen = chosen.unwrap_or_default();
        let model = chosen
            .strip_prefix(PROVIDER)
            .map_or("", |name| name.trim_start_matches('/'));
        let reply = stage.tape.reply(record, model, number);
        let got = reward(record, reply.as_ref());
        let of = |model: &str| reward(record, stage.tape.reply(record, model, number).as_ref());
        let task = record.task.as_deref().unwrap_or_default();
        run.reward += got;
        run.rewards.push(got);
        run.regret_single += of(&best.single) - got;
        run.regret_task += best.per_task.get(task).map_or(0.0, |model| of(model)) - got;
        run.cost += answer.report.cost.unwrap_or(0.0);
        let plan = answer.report.plan.as_ref();
        let why = plan
            .and_then(|plan| plan.get("why"))
            .and_then(|why| why.as_str());
        run.explored += f64::from(u8::from(why == Some("explored")));
        if options
            .shift
            .as_ref()
            .is_some_and(|shift| number >= shift.at)
        {
            run.after += got;
        }
        if let Some(at) = models.iter().position(|known| known == model) {
            let part = number * PARTS / queries;
            run.shares[at][part] += PARTS as f64 / queries as f64;
        }
        if options.feedback {
            let feedback = Feedback::score(decision, got);
            stage.orchestrator.feedback(feedback).await?;
            stage.settle().await;
        }
    }
    told(learn.len() + queries);
    stage.end().await;
    Ok(run)
}

/// A number from 0 to 1 that only these decide.
fn draw(seed: u64, number: usize, what: &str) -> f64 {
    let number = (number as u64).to_le_bytes();
    unit(word(&[&seed.to_le_bytes(), &number, what.as_bytes()]))
}

/// Mean and its standard error.
fn mean_se(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0) / n).sqrt())
}
