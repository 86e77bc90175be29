//! An ensemble over a recorded set: learned on one part, measured on another.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::metrics::{self, Bin, Outcome, Summary};
use super::prices::Prices;
use super::record::{self, Recorded};
use super::replay::{ENSEMBLE, Setting, Stage, id, is_right, reward, spoken};
use crate::config::{Aim, Ensemble, Routing};
use crate::ensembler::merge::Strategy;
use crate::error::{Error, Result};
use crate::orchestrator::Feedback;
use crate::query::Routing as Wanted;

/// How many of the learned questions have a known answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Labels {
    /// All of them.
    #[default]
    All,
    /// So many, drawn by the seed.
    Some(usize),
    /// None: learned from agreement alone, also while it is measured.
    None,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The members, as the record names them.
    pub members: Vec<String>,
    /// How their answers become one.
    pub merge: Strategy,
    /// The confidence at which nobody more is asked, 0.5 to 1; for `adaptive` and `cascade`.
    pub stop: Option<f64>,
    /// What asking one member after the other is to come to: dollars where there are prices, else calls.
    pub aim: Option<Aim>,
    /// How many are asked at first.
    pub wave: Option<usize>,
    /// How many answers of the learned part are known.
    pub labels: Labels,
    /// Draws which labels are known, and the order.
    pub seed: u64,
}

/// What came out.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The merge.
    pub merge: &'static str,
    /// The members.
    pub members: Vec<String>,
    /// How many of the learned questions had a known answer.
    pub labels: usize,
    /// How many questions were learned from.
    pub learned_from: usize,
    /// Accuracy, calibration and selectivity.
    #[serde(flatten)]
    pub summary: Summary,
    /// Calls made per question, mean.
    pub calls: f64,
    /// Members that did not have to be asked per question, mean.
    pub calls_saved: f64,
    /// Dollars per 1,000 questions; none without a price of every member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_1000: Option<f64>,
    /// Members without a price, where others have one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unpriced: Vec<String>,
    /// Accuracy of the best member alone, in per cent, and its name.
    pub best_member: f64,
    /// Who that is.
    pub best_member_name: String,
    /// Accuracy of each member alone, in per cent.
    pub member_accuracy: BTreeMap<String, f64>,
    /// What a right answer was taken to be worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worth: Option<f64>,
    /// Why it stopped, and how often.
    pub stopped: BTreeMap<String, usize>,
    /// Questions that got no answer at all.
    pub failed: usize,
    /// Confidence against accuracy, in ten bins.
    pub reliability: Vec<Bin>,
}

/// Fits happen this often while an unlabelled run goes on.
const REFIT: usize = 500;

/// Runs it. `progress` hears of each question, and of how many.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid) for members that are not recorded, too few of them, or a record without
/// references.
pub async fn run(
    learn: &[Arc<Recorded>],
    test: &[Arc<Recorded>],
    prices: Option<&Prices>,
    options: &Options,
    progress: &dyn Fn(usize, usize),
) -> Result<Report> {
    check(test, &options.members)?;
    if matches!(options.merge, Strategy::Judge | Strategy::Synthesize) {
        let message = "a record has nobody to judge or to write";
        return Err(Error::invalid("merge", message));
    }
    let members: Vec<String> = options.members.iter().map(|member| id(member)).collect();
    let stage = Stage::new(Setting {
        models: &options.members,
        prices,
        ensemble: Some(Ensemble {
            wave: options.wave.unwrap_or(options.merge.wave(members.len())),
            quorum: 1,
            merge: options.merge,
            deadline: None,
            max_cost: None,
            judge: None,
            stop: options.stop.unwrap_or(1.0),
            aim: options.aim,
            vectors: false,
            members,
        }),
        routing: Routing::default(),
        shift: None,
        seed: options.seed,
    })
    .await?;
    let model = format!("ensemble/{ENSEMBLE}");
    let total = learn.len() + test.len();
    let labelled = labelled(learn.len(), options);
    for (number, record) in learn.iter().enumerate() {
        progress(number, total);
        let id = format!("learn-{number}");
        let wanted = Wanted {
            everyone: true,
            ..Wanted::default()
        };
        // Nobody answered: nothing to learn.
        if stage
            .ask(&model, record, number, &id, wanted)
            .await
            .is_err()
        {
            continue;
        }
        if let (true, Some(reference)) = (labelled[number], &record.reference) {
            let feedback = Feedback::reference(id, spoken(reference));
            stage.orchestrator.feedback(feedback).await?;
        }
    }
    stage.settle().await;
    stage.orchestrator.fit(ENSEMBLE).await;
    let online = options.labels == Labels::None;
    stage.orchestrator.pin(!online);
    let mut tally = Tally::default();
    for (number, record) in test.iter().enumerate() {
        progress(learn.len() + number, total);
        if online && number > 0 && number % REFIT == 0 {
            stage.orchestrator.fit(ENSEMBLE).await;
        }
        let id = format!("test-{number}");
        let reference = record.reference.as_deref().map(spoken);
        match stage
            .ask(&model, record, number, &id, Wanted::default())
            .await
        {
            Ok(answer) => {
                let content = answer.choices.first();
                let content = content.and_then(|choice| choice.message.content.as_deref());
                tally.outcomes.push(Outcome {
                    right: reference
                        .zip(content)
                        .is_some_and(|(reference, content)| is_right(reference, content)),
                    confidence: answer.report.confidence.unwrap_or(0.0),
                });
                tally.cost += answer.report.cost.unwrap_or(0.0);
                if let Some(ensemble) = &answer.report.ensemble {
                    tally.calls += ensemble.calls;
                    // Not what was saved of the way: a call that was ended early was made.
                    tally.saved += options.members.len() - ensemble.calls;
                    *tally.stopped.entry(ensemble.stopped.into()).or_default() += 1;
                }
            }
            Err(_) => {
                tally.failed += 1;
                tally.outcomes.push(Outcome {
                    right: false,
                    confidence: 0.0,
                });
            }
        }
    }
    progress(total, total);
    let status = stage.orchestrator.status();
    let tuned = status
        .ensembles
        .get(ENSEMBLE)
        .and_then(|one| one.tuned_worth);
    stage.end().await;
    let member_accuracy = member_accuracy(test, &options.members);
    let best = member_accuracy
        .iter()
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map(|(name, accuracy)| (name.clone(), *accuracy))
        .unwrap_or_default();
    let invalid = |error: metrics::MetricError| Error::invalid("test", error.to_string());
    let n = test.len() as f64;
    let unpriced = prices.map_or_else(Vec::new, |prices| prices.lacking(&options.members));
    Ok(Report {
        merge: options.merge.name(),
        members: options.members.clone(),
        labels: labelled.iter().filter(|known| **known).count(),
        learned_from: learn.len(),
        summary: metrics::summary(&tally.outcomes).map_err(invalid)?,
        calls: tally.calls as f64 / n,
        calls_saved: tally.saved as f64 / n,
        cost_per_1000: prices
            .filter(|_| unpriced.is_empty())
            .map(|_| 1000.0 * tally.cost / n),
        unpriced,
        best_member: best.1,
        best_member_name: best.0,
        member_accuracy,
        worth: tuned.or(match options.aim {
            Some(Aim::Worth(worth)) => Some(worth),
            _ => None,
        }),
        stopped: tally.stopped,
        failed: tally.failed,
        reliability: metrics::reliability(&tally.outcomes, 10).map_err(invalid)?,
    })
}

#[derive(Default)]
struct Tally {
    outcomes: Vec<Outcome>,
    calls: usize,
    saved: usize,
    cost: f64,
    stopped: BTreeMap<String, usize>,
    failed: usize,
}

/// Whether answers of these members can be measured.
pub(super) fn check(test: &[Arc<Recorded>], members: &[String]) -> Result<()> {
    if !(2..=32).contains(&members.len()) {
        return Err(Error::invalid("members", "must be 2 to 32 models"));
    }
    if test.is_empty() {
        return Err(Error::invalid("test", "has no questions"));
    }
    record::answered(test, "members", members)?;
    if test.iter().all(|record| record.reference.is_none()) {
        let message = "has no references to measure against";
        return Err(Error::invalid("test", message));
    }
    Ok(())
}

/// Which of the learned questions have a known answer.
fn labelled(n: usize, options: &Options) -> Vec<bool> {
    match options.labels {
        Labels::All => vec![true; n],
        Labels::None => vec![false; n],
        Labels::Some(count) => {
            // The `count` smallest of a draw a question.
            let draw = |at: usize| {
                let mut hasher = blake3::Hasher::new();
                hasher.update(&options.seed.to_le_bytes());
                hasher.update(&(at as u64).to_le_bytes());
                (*hasher.finalize().as_bytes(), at)
            };
            let mut order: Vec<([u8; 32], usize)> = (0..n).map(draw).collect();
            order.sort_unstable();
            let mut known = vec![false; n];
            for (_, at) in order.into_iter().take(count) {
                known[at] = true;
            }
            known
        }
    }
}

/// Accuracy of each member alone, in per cent; what is not recorded is wrong.
pub fn member_accuracy(test: &[Arc<Recorded>], members: &[String]) -> BTreeMap<String, f64> {
    let accuracy = |member: &String| {
        let right: f64 = test
            .iter()
            .map(|record| reward(record, record.answers.get(member)))
            .sum();
        (member.clone(), 100.0 * right / test.len() as f64)
    };
    members.iter().map(accuracy).collect()
}
