//! `quorate eval ensemble`.

use std::path::PathBuf;

use quorate::Strategy;
use quorate::config::Aim;
use quorate::eval::ensemble::{self, Labels};
use quorate::eval::read;

use super::super::failure::Failure;
use super::super::output::Output;
use super::super::table::{Cell, table};
use super::files::{load, load_or_none};
use super::measure::{Measure, cost, paused};
use super::range::{WORTH, count, within};

#[derive(Debug, clap::Args)]
pub(super) struct Ensemble {
    /// Recorded set to learn from (JSON Lines, plain or zstd)
    #[arg(long, value_name = "FILE")]
    learn: Option<PathBuf>,
    /// Recorded set to measure on
    #[arg(long, value_name = "FILE")]
    test: PathBuf,
    /// The members, as the record names them
    #[arg(long, value_delimiter = ',', required = true, value_name = "MODEL,…")]
    members: Vec<String>,
    /// How their answers become one
    #[arg(long, default_value = "plurality")]
    merge: Strategy,
    /// Confidence at which nobody more is asked, for adaptive and cascade
    #[arg(long, value_name = "P", value_parser = within(0.5..=1.0))]
    stop: Option<f64>,
    /// What one more right answer is worth, in dollars (without --prices in calls), for adaptive and cascade
    #[arg(long, value_parser = within(WORTH), conflicts_with_all = ["target_cost", "target_accuracy"])]
    worth: Option<f64>,
    /// Tune to this many dollars per 1,000 questions on the learned set, for adaptive and cascade
    #[arg(long, value_parser = within(0.001..=1e6), value_name = "DOLLARS", conflicts_with = "target_accuracy", requires_all = ["learn", "prices"])]
    target_cost: Option<f64>,
    /// Tune to this accuracy, in per cent, on the learned set, for adaptive and cascade
    #[arg(long, value_parser = within(1.0..=100.0), value_name = "PERCENT", requires = "learn")]
    target_accuracy: Option<f64>,
    /// How many members are asked at first
    #[arg(long, value_parser = count(1..=32))]
    wave: Option<usize>,
    /// How many answers of the learned set are known: all, none, or a number
    #[arg(long, default_value = "all", value_parser = labels)]
    labels: Labels,
    #[command(flatten)]
    measure: Measure,
}

fn labels(text: &str) -> Result<Labels, String> {
    match text {
        "all" => Ok(Labels::All),
        "none" => Ok(Labels::None),
        number => count(1..=read::MAX_RECORDS)(number)
            .map(Labels::Some)
            .map_err(|error| format!("{error}, or all, or none")),
    }
}

impl Ensemble {
    pub async fn run(self, out: Output) -> Result<(), Failure> {
        let members = self.members.len();
        if self.wave.is_some_and(|wave| wave > members) {
            let message = format!("--wave must be 1 to {members}, the number of members");
            return Err(Failure::usage(message));
        }
        let steps = [
            ("stop", self.stop),
            ("worth", self.worth),
            ("target-cost", self.target_cost),
            ("target-accuracy", self.target_accuracy),
        ];
        let step = steps.into_iter().find(|(_, value)| value.is_some());
        let stepwise = matches!(self.merge, Strategy::Adaptive | Strategy::Cascade);
        if let Some((option, _)) = step.filter(|_| !stepwise) {
            let merge = self.merge;
            return Err(Failure::usage(format!(
                "--{option} is for --merge adaptive or cascade, which ask one after the other; {merge} asks all at once"
            )));
        }
        let learn = load_or_none(self.learn.as_ref())?;
        let test = load(&self.test)?;
        let prices = self.measure.prices()?;
        let lacking = prices.as_ref().map(|prices| prices.lacking(&self.members));
        if let Some(lacking) = lacking.filter(|some| self.target_cost.is_some() && !some.is_empty())
        {
            return Err(Failure::usage(format!(
                "--target-cost needs a price of every member in --prices; there is none of {}",
                lacking.join(", ")
            )));
        }
        let earlier = self.measure.earlier("merge")?;
        let cost = self.target_cost.map(|dollars| Aim::Cost(dollars / 1000.0));
        let accuracy = self
            .target_accuracy
            .map(|percent| Aim::Accuracy(percent / 100.0));
        let aim = self.worth.map(Aim::Worth).or(cost).or(accuracy);
        let options = ensemble::Options {
            members: self.members,
            merge: self.merge,
            stop: self.stop,
            aim,
            wave: self.wave,
            labels: self.labels,
            seed: self.measure.seed,
        };
        let report = paused(out, move |told, runtime| {
            let run = ensemble::run(&learn, &test, prices.as_ref(), &options, told);
            runtime.block_on(run)
        })
        .await?;
        self.measure
            .finish(&report, &ensemble_text(&report), earlier, out)
    }
}

fn ensemble_text(report: &ensemble::Report) -> String {
    let s = &report.summary;
    let mut rows: Vec<[Cell; 2]> = Vec::new();
    let mut row = |name: &str, value: String| rows.push([name.into(), value.into()]);
    row("merge", report.merge.to_string());
    row("questions", s.n.to_string());
    row(
        "learned from",
        format!("{} ({} labelled)", report.learned_from, report.labels),
    );
    row(
        "accuracy",
        format!("{:.2} ± {:.2} %", s.accuracy, s.accuracy_se),
    );
    row(
        "best member",
        format!("{:.2} % {}", report.best_member, report.best_member_name),
    );
    row(
        "calls",
        format!("{:.2} (saved {:.2})", report.calls, report.calls_saved),
    );
    if let Some(cost) = cost(report.cost_per_1000, &report.unpriced) {
        row("USD per 1,000", cost);
    }
    if let Some(worth) = report.worth {
        row("worth", format!("{worth:.4}"));
    }
    row("Brier", format!("{:.4}", s.brier));
    row("ECE(15)", format!("{:.4}", s.ece));
    row(
        "AUROC",
        s.auroc.map_or("–".into(), |auroc| format!("{auroc:.4}")),
    );
    row("accuracy at 80 %", format!("{:.2} %", s.accuracy_at_80));
    row("accuracy at 50 %", format!("{:.2} %", s.accuracy_at_50));
    let stopped: Vec<String> = report
        .stopped
        .iter()
        .map(|(why, n)| format!("{why} {n}"))
        .collect();
    row("stopped", stopped.join(", "));
    if report.failed > 0 {
        row("without an answer", report.failed.to_string());
    }
    table(["", "VALUE"], &rows)
}
