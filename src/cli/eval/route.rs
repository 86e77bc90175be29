//! `quorate eval route`.

use std::path::PathBuf;

use quorate::eval::replay::Shift;
use quorate::eval::route::{self, Policy};

use super::super::failure::Failure;
use super::super::output::Output;
use super::super::table::{Cell, table};
use super::files::{load, load_or_none};
use super::measure::{Measure, cost, paused};
use super::range::{count, within};

#[derive(Debug, clap::Args)]
pub(super) struct Route {
    /// Recorded set to draw queries from
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Recorded set whose rewards are known beforehand
    #[arg(long, value_name = "FILE")]
    learn: Option<PathBuf>,
    /// Whom to choose from; all that are recorded if left out
    #[arg(long, value_delimiter = ',', value_name = "MODEL,…")]
    models: Vec<String>,
    /// thompson (as the daemon serves `auto`), greedy (it without exploring), uniform, or fixed:MODEL
    #[arg(long, default_value = "thompson", value_parser = policy)]
    policy: Policy,
    /// Queries of each run; 0 asks every question once, in order
    #[arg(long, default_value_t = 1000, value_parser = count(0..=1_000_000))]
    queries: usize,
    /// Runs, each with draws of its own
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// From this query on the model (or "best") keeps only this share of its right answers
    #[arg(long, value_name = "MODEL:AT:KEEP", value_parser = shift)]
    shift: Option<Shift>,
    /// Weight of cost, against 1 of quality
    #[arg(long, default_value_t = 0.0, value_parser = within(0.0..=100.0))]
    cost_weight: f64,
    /// Judge no answer: only what --learn taught is known
    #[arg(long)]
    no_feedback: bool,
    #[command(flatten)]
    measure: Measure,
}

fn policy(text: &str) -> Result<Policy, String> {
    match text {
        "thompson" | "auto" => Ok(Policy::Thompson),
        "greedy" => Ok(Policy::Greedy),
        "uniform" => Ok(Policy::Uniform),
        other => match other.strip_prefix("fixed:") {
            Some(model) if !model.is_empty() => Ok(Policy::Fixed(model.into())),
            _ => Err("must be thompson, greedy, uniform or fixed:MODEL".into()),
        },
    }
}

fn shift(text: &str) -> Result<Shift, String> {
    let wrong = || {
        "must be MODEL:AT:KEEP, such as best:1000:0.4: a model or best, the number of a query, a share from 0 to 1"
            .to_owned()
    };
    let (rest, keep) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (model, at) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let keep = within(0.0..=1.0)(keep).map_err(|_| wrong())?;
    if model.is_empty() {
        return Err(wrong());
    }
    Ok(Shift {
        model: model.into(),
        at: at.parse().map_err(|_| wrong())?,
        keep,
    })
}

impl Route {
    pub async fn run(self, out: Output) -> Result<(), Failure> {
        let learn = load_or_none(self.learn.as_ref())?;
        let test = load(&self.data)?;
        let prices = self.measure.prices()?;
        let earlier = self.measure.earlier("policy")?;
        let queries = if self.queries == 0 {
            test.len()
        } else {
            self.queries
        };
        if self.shift.as_ref().is_some_and(|shift| shift.at >= queries) {
            let message =
                format!("--shift must be at a query from 0 to below {queries}, their number");
            return Err(Failure::usage(message));
        }
        let options = route::Options {
            models: self.models,
            policy: self.policy,
            queries: self.queries,
            seeds: self.seeds,
            shift: self.shift,
            cost_weight: self.cost_weight,
            feedback: !self.no_feedback,
        };
        let report = paused(out, move |told, runtime| {
            let run = route::run(&learn, &test, prices.as_ref(), &options, told);
            runtime.block_on(run)
        })
        .await?;
        self.measure
            .finish(&report, &route_text(&report), earlier, out)
    }
}

fn route_text(report: &route::Report) -> String {
    let mut rows: Vec<[Cell; 2]> = Vec::new();
    let mut row = |name: &str, value: String| rows.push([name.into(), value.into()]);
    row("policy", report.policy.clone());
    row("queries × runs", format!("{} × {}", report.n, report.seeds));
    row(
        "reward",
        format!("{:.4} ± {:.4}", report.reward, report.reward_se),
    );
    row(
        "best single model",
        format!("{:.4} {}", report.best_single_reward, report.best_single),
    );
    row(
        "best per task",
        format!("{:.4}", report.best_per_task_reward),
    );
    row(
        "regret, best single",
        format!(
            "{:.1} ± {:.1}",
            report.regret_best_single, report.regret_best_single_se
        ),
    );
    row(
        "regret, best per task",
        format!("{:.1}", report.regret_best_per_task),
    );
    if let (Some(after), Some(se)) = (report.reward_after_shift, report.reward_after_shift_se) {
        row("reward after the shift", format!("{after:.4} ± {se:.4}"));
    }
    if let Some(cost) = cost(report.cost_per_1000, &report.unpriced) {
        row("USD per 1,000", cost);
    }
    row("explored", format!("{:.1} %", 100.0 * report.explored));
    let mut text = table(["", "VALUE"], &rows);
    let shares: Vec<[Cell; 4]> = report
        .shares
        .iter()
        .map(|(model, parts)| {
            let share = |at: usize| {
                let share = parts.get(at).copied().unwrap_or(0.0);
                Cell::from(format!("{:.1} %", 100.0 * share))
            };
            [
                model.into(),
                share(0),
                share(parts.len() / 2),
                share(parts.len().saturating_sub(1)),
            ]
        })
        .collect();
    text.push('\n');
    text.push_str(&table(
        ["MODEL", "FIRST TENTH", "MIDDLE", "LAST TENTH"],
        &shares,
    ));
    text
}
