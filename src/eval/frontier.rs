//! Cost against accuracy: single models, cascades, votes, adaptive ensembles and `auto`, on one recorded set.

use std::sync::Arc;

use serde::Serialize;

use super::ensemble::{self, Labels};
use super::metrics::Bin;
use super::prices::Prices;
use super::record::Recorded;
use super::route::{self, Policy};
use crate::config::Aim;
use crate::ensembler::merge::Strategy;
use crate::error::Result;

/// One way to answer, measured.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// What it is.
    pub label: String,
    /// `model`, `vote`, `cascade` or `auto`.
    pub group: &'static str,
    /// In per cent.
    pub accuracy: f64,
    /// Its standard error.
    pub accuracy_se: f64,
    /// Calls a question, mean.
    pub calls: f64,
    /// Dollars per 1,000 questions; none without a price of everybody who is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_1000: Option<f64>,
    /// Expected calibration error, of ways that state a confidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ece: Option<f64>,
    /// Brier score, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brier: Option<f64>,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    /// The members, as the record names them.
    pub members: Vec<String>,
    /// Worths of a right answer at which stepwise merges are measured: dollars, or calls without prices.
    pub worths: Vec<f64>,
    /// Draws.
    pub seed: u64,
}

/// All points, and the reliability of the fitted vote.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Each way, measured.
    pub points: Vec<Point>,
    /// Confidence against accuracy of the fitted vote.
    pub reliability: Vec<Bin>,
    /// Its calibration error.
    pub ece: f64,
    /// Questions.
    pub n: usize,
}

/// Runs all of it. `progress` hears of the runs, and of how many there are.
///
/// # Errors
/// As [`ensemble::run`].
pub async fn run(
    learn: &[Arc<Recorded>],
    test: &[Arc<Recorded>],
    prices: Option<&Prices>,
    options: &Options,
    progress: &dyn Fn(usize, usize),
) -> Result<Report> {
    ensemble::check(test, &options.members)?;
    let mut ways = vec![
        (Strategy::Plurality, None, "vote"),
        (Strategy::Weighted, None, "vote"),
        (Strategy::Fitted, None, "vote"),
    ];
    for worth in &options.worths {
        ways.push((Strategy::Cascade, Some(*worth), "cascade"));
    }
    for worth in &options.worths {
        ways.push((Strategy::Adaptive, Some(*worth), "auto"));
    }
    let total = ways.len() + options.members.len() + 1;
    let mut report = Report {
        points: Vec::new(),
        reliability: Vec::new(),
        ece: 0.0,
        n: test.len(),
    };
    let quiet = |_: usize, _: usize| {};
    let routed = |policy: Policy| route::Options {
        models: options.members.clone(),
        policy,
        queries: 0,
        seeds: 1,
        shift: None,
        cost_weight: 0.0,
        feedback: false,
    };
    let mut policies: Vec<(String, &'static str, Policy)> = options
        .members
        .iter()
        .map(|member| (member.clone(), "model", Policy::Fixed(member.clone())))
        .collect();
    policies.push(("auto, one model".into(), "auto", Policy::Greedy));
    for (done, (label, group, policy)) in policies.into_iter().enumerate() {
        progress(done, total);
        // A fixed choice needs to learn nothing.
        let taught = if group == "model" { &[] } else { learn };
        let run = route::run(taught, test, prices, &routed(policy), &quiet).await?;
        report.points.push(Point {
            label,
            group,
            accuracy: 100.0 * run.reward,
            accuracy_se: 100.0 * run.reward_se,
            calls: 1.0,
            cost_per_1000: run.cost_per_1000,
            ece: None,
            brier: None,
        });
    }
    for (done, (merge, worth, group)) in ways.into_iter().enumerate() {
        progress(options.members.len() + 1 + done, total);
        let options = ensemble::Options {
            members: options.members.clone(),
            merge,
            stop: None,
            aim: worth.map(Aim::Worth),
            wave: None,
            labels: Labels::All,
            seed: options.seed,
        };
        let run = ensemble::run(learn, test, prices, &options, &quiet).await?;
        if merge == Strategy::Fitted {
            report.reliability = run.reliability;
            report.ece = run.summary.ece;
        }
        report.points.push(Point {
            label: match worth {
                Some(worth) => format!("{merge}, worth {worth}"),
                None => merge.to_string(),
            },
            group,
            accuracy: run.summary.accuracy,
            accuracy_se: run.summary.accuracy_se,
            calls: run.calls,
            cost_per_1000: run.cost_per_1000,
            ece: Some(run.summary.ece),
            brier: Some(run.summary.brier),
        });
    }
    progress(total, total);
    Ok(report)
}
