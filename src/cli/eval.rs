//! `quorate eval`: recorded answers through the code that serves queries, measured.

use std::io::IsTerminal;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use quorate::Strategy;
use quorate::config::Aim;
use quorate::eval::ensemble::{self, Labels};
use quorate::eval::prices::Prices;
use quorate::eval::record::Recorded;
use quorate::eval::replay::Shift;
use quorate::eval::route::{self, Policy};
use quorate::eval::{compare, frontier, ledger, plot, read, record, synthetic};
use quorate::ledger::Store;
use serde::Serialize;
use serde_json::Value;

use super::failure::Failure;
use super::global::Global;
use super::output::Output;
use super::table::{Cell, table};

/// Replay recorded answers through the code that serves queries, and measure what comes out.
#[derive(Debug, clap::Args)]
pub struct Eval {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Measure an ensemble: learned on one recorded set, measured on another
    Ensemble(Ensemble),
    /// Measure routing: queries drawn at random, feedback for the chosen model only
    Route(Route),
    /// Measure cost against accuracy of single models, cascades, votes and adaptive ensembles
    Frontier(Frontier),
    /// Turn the ledger of a daemon that keeps prompts into a recorded set
    Record(Record),
    /// Make a synthetic recorded set, with prices
    Generate(Generate),
}

#[derive(Debug, clap::Args)]
struct Ensemble {
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
    /// Tune to this many dollars per 1,000 questions on the learned set
    #[arg(long, value_parser = within(0.001..=1e6), value_name = "DOLLARS", conflicts_with = "target_accuracy")]
    target_cost: Option<f64>,
    /// Tune to this accuracy, in per cent, on the learned set
    #[arg(long, value_parser = within(1.0..=100.0), value_name = "PERCENT")]
    target_accuracy: Option<f64>,
    /// How many members are asked at first
    #[arg(long, value_parser = count(1..=32))]
    wave: Option<usize>,
    /// How many answers of the learned set are known: all, none, or a number
    #[arg(long, default_value = "all", value_parser = labels)]
    labels: Labels,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Route {
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
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Frontier {
    /// Recorded set to learn from
    #[arg(long, value_name = "FILE")]
    learn: PathBuf,
    /// Recorded set to measure on
    #[arg(long, value_name = "FILE")]
    test: PathBuf,
    /// The members, as the record names them
    #[arg(long, value_delimiter = ',', required = true, value_name = "MODEL,…")]
    members: Vec<String>,
    /// Worths of a right answer at which cascades and adaptive ensembles are measured
    #[arg(long, value_delimiter = ',', default_values_t = [0.01, 0.03, 0.1, 0.3, 1.0], value_parser = within(WORTH))]
    worths: Vec<f64>,
    /// Write the frontier as SVG here, and the reliability diagram beside it as NAME.reliability.svg
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// What the models cost: TOML, "model" = { input = …, output = … } in dollars per million tokens
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// What everything drawn comes from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the result here as JSON, for a later run to be compared with
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Tell what changed since the result in this file
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Record {
    /// The ledger; default: the configuration's
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// Decisions at most, the latest
    #[arg(long, default_value_t = 100_000, value_parser = count(1..=10_000_000))]
    most: usize,
    /// Where the recorded set goes
    out: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Generate {
    /// Questions
    #[arg(long, default_value_t = 1000, value_parser = count(1..=synthetic::MAX_QUESTIONS))]
    questions: usize,
    /// Models
    #[arg(long, default_value_t = 6, value_parser = count(1..=synthetic::MAX_MODELS))]
    models: usize,
    /// What everything drawn comes from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write what the models cost here
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Where the recorded set goes; with --split, its first half, and the second to the file given there
    out: PathBuf,
    /// Where the second half goes
    #[arg(long, value_name = "FILE")]
    split: Option<PathBuf>,
}

/// What a right answer may be worth.
const WORTH: RangeInclusive<f64> = 1e-6..=1000.0;

/// Reads a number in a range.
fn within(range: RangeInclusive<f64>) -> impl Fn(&str) -> Result<f64, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("must be a number from {} to {}", range.start(), range.end()))
    }
}

/// Reads a whole number in a range.
fn count(range: RangeInclusive<usize>) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            format!("must be a whole number from {from} to {to}")
        })
    }
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

/// A recorded set, shared by every query that asks about it.
type Records = Vec<Arc<Recorded>>;

fn load(path: &Path) -> Result<Records, Failure> {
    let records = read::read(path).map_err(|error| Failure::query(error.to_string()))?;
    Ok(records.into_iter().map(Arc::new).collect())
}

fn load_or_none(path: Option<&PathBuf>) -> Result<Records, Failure> {
    path.map_or(Ok(Vec::new()), |path| load(path))
}

impl Common {
    fn prices(&self) -> Result<Option<Prices>, Failure> {
        let read =
            |path: &PathBuf| Prices::read(path).map_err(|error| Failure::query(error.to_string()));
        self.prices.as_ref().map(read).transpose()
    }

    /// Prints a result, keeps it where that is wanted, and tells what changed.
    fn finish(&self, result: &impl Serialize, shown: &str, out: Output) -> Result<(), Failure> {
        let broken = |error: &dyn std::fmt::Display| Failure::query(error.to_string());
        let value = serde_json::to_value(result).map_err(|error| broken(&error))?;
        if let Some(path) = &self.out {
            std::fs::write(path, format!("{value:#}\n"))
                .map_err(|error| broken(&format!("{}: {error}", path.display())))?;
        }
        let changes = match &self.against {
            Some(path) => {
                let before = compare::read(path).map_err(|error| broken(&error))?;
                Some(compare::compare(&before, &value))
            }
            None => None,
        };
        if out.json {
            let mut value = value;
            if let (Some(changes), Value::Object(fields)) = (&changes, &mut value) {
                let changes = serde_json::to_value(changes).map_err(|error| broken(&error))?;
                fields.insert("changes".into(), changes);
            }
            return Ok(out.value(&value)?);
        }
        out.text(shown)?;
        for change in changes.iter().flat_map(|changes| &changes.changes) {
            out.line(change)?;
        }
        Ok(())
    }
}

/// Runs something under paused time, on a thread of its own, with a progress bar that the terminal sees.
async fn paused<T: Send + 'static>(
    out: Output,
    work: impl FnOnce(&dyn Fn(usize, usize), &tokio::runtime::Runtime) -> quorate::Result<T>
    + Send
    + 'static,
) -> Result<T, Failure> {
    let bar = if out.watched && std::io::stderr().is_terminal() {
        ProgressBar::new(0)
    } else {
        ProgressBar::hidden()
    };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    let done = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        let runtime = runtime.map_err(|error| {
            quorate::Error::new(
                quorate::ErrorKind::Internal,
                format!("cannot start: {error}"),
            )
        })?;
        let told = |done: usize, total: usize| {
            if done.is_multiple_of(16) || done == total {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            }
        };
        let result = work(&told, &runtime);
        bar.finish_and_clear();
        result
    });
    let done = done
        .await
        .map_err(|error| Failure::query(format!("the run ended: {error}")))?;
    done.map_err(|error| {
        let field = error
            .param()
            .map(|param| format!("{param}: "))
            .unwrap_or_default();
        Failure::query(format!("{field}{}", error.message()))
    })
}

impl Eval {
    /// Measures.
    pub async fn run(self, global: &Global, out: Output) -> Result<(), Failure> {
        match self.action {
            Action::Ensemble(run) => run.run(out).await,
            Action::Route(run) => run.run(out).await,
            Action::Frontier(run) => run.run(out).await,
            Action::Record(run) => run.run(global, out),
            Action::Generate(run) => run.run(out),
        }
    }
}

impl Ensemble {
    async fn run(self, out: Output) -> Result<(), Failure> {
        let members = self.members.len();
        if self.wave.is_some_and(|wave| wave > members) {
            let message = format!("--wave must be 1 to {members}, the number of members");
            return Err(Failure::usage(message));
        }
        let learn = load_or_none(self.learn.as_ref())?;
        let test = load(&self.test)?;
        let prices = self.common.prices()?;
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
            seed: self.common.seed,
        };
        let report = paused(out, move |told, runtime| {
            let run = ensemble::run(&learn, &test, prices.as_ref(), &options, told);
            runtime.block_on(run)
        })
        .await?;
        self.common.finish(&report, &ensemble_text(&report), out)
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
    if let Some(cost) = report.cost_per_1000 {
        row("USD per 1,000", format!("{cost:.3}"));
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

impl Route {
    async fn run(self, out: Output) -> Result<(), Failure> {
        let learn = load_or_none(self.learn.as_ref())?;
        let test = load(&self.data)?;
        let prices = self.common.prices()?;
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
        self.common.finish(&report, &route_text(&report), out)
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
    if let Some(cost) = report.cost_per_1000 {
        row("USD per 1,000", format!("{cost:.3}"));
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

impl Frontier {
    async fn run(self, out: Output) -> Result<(), Failure> {
        let (learn, test) = (load(&self.learn)?, load(&self.test)?);
        let prices = self.common.prices()?;
        let options = frontier::Options {
            members: self.members,
            worths: self.worths,
            seed: self.common.seed,
        };
        let report = paused(out, move |told, runtime| {
            let run = frontier::run(&learn, &test, prices.as_ref(), &options, told);
            runtime.block_on(run)
        })
        .await?;
        if let Some(path) = &self.svg {
            let points: Vec<plot::Point<'_>> = report
                .points
                .iter()
                .map(|point| plot::Point {
                    label: &point.label,
                    x: point.cost_per_1000,
                    y: point.accuracy,
                    group: point.group,
                })
                .collect();
            let title = format!("Accuracy against cost, {} questions", report.n);
            save(path, &plot::frontier(&points, &title))?;
            let subtitle = format!("fitted vote, ECE {:.3}", report.ece);
            let drawn = plot::reliability(
                &report.reliability,
                "Confidence against accuracy",
                &subtitle,
            );
            save(&path.with_extension("reliability.svg"), &drawn)?;
        }
        let rows: Vec<[Cell; 6]> = report
            .points
            .iter()
            .map(|point| {
                [
                    point.label.as_str().into(),
                    point.group.into(),
                    format!("{:.2} ± {:.2}", point.accuracy, point.accuracy_se).into(),
                    format!("{:.2}", point.calls).into(),
                    format!("{:.3}", point.cost_per_1000).into(),
                    point
                        .ece
                        .map_or("–".into(), |ece| format!("{ece:.3}"))
                        .into(),
                ]
            })
            .collect();
        let heads = [
            "WAY",
            "GROUP",
            "ACCURACY %",
            "CALLS",
            "USD PER 1,000",
            "ECE",
        ];
        self.common.finish(&report, &table(heads, &rows), out)
    }
}

fn save(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|error| Failure::query(format!("{}: {error}", path.display())))
}

fn write_records(path: &Path, records: &[Recorded]) -> Result<(), Failure> {
    let mut text = Vec::new();
    record::write(records, &mut text)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| Failure::query(format!("{}: {error}", path.display())))
}

impl Record {
    fn run(self, global: &Global, out: Output) -> Result<(), Failure> {
        let path = match self.ledger {
            Some(path) => Some(path),
            None => global.load()?.ledger.path,
        };
        let path =
            path.ok_or_else(|| Failure::usage("the ledger is off: name a file with --ledger"))?;
        let store = Store::look(&path).map_err(|error| Failure::query(error.to_string()))?;
        let rows = store
            .judged(self.most)
            .map_err(|error| Failure::query(error.to_string()))?;
        let records: Vec<Recorded> = rows
            .iter()
            .filter_map(|(row, score)| ledger::recorded(row, *score))
            .collect();
        if records.is_empty() {
            return Err(Failure::query(format!(
                "none of {} decisions kept its prompt and answers: set ledger.keep_prompts = true",
                rows.len()
            )));
        }
        write_records(&self.out, &records)?;
        let told = serde_json::json!({ "decisions": rows.len(), "recorded": records.len(), "file": self.out });
        if out.json {
            return Ok(out.value(&told)?);
        }
        let file = self.out.display();
        Ok(out.line(format_args!(
            "{} of {} decisions in {file}",
            records.len(),
            rows.len()
        ))?)
    }
}

impl Generate {
    fn run(self, out: Output) -> Result<(), Failure> {
        let records = synthetic::generate(self.questions, self.models, self.seed);
        match &self.split {
            Some(second) => {
                let (first, rest) = records.split_at(records.len() / 2);
                write_records(&self.out, first)?;
                write_records(second, rest)?;
            }
            None => write_records(&self.out, &records)?,
        }
        if let Some(path) = &self.prices {
            save(path, &synthetic::prices(self.models).to_toml())?;
        }
        let models = synthetic::names(self.models).join(",");
        if out.json {
            let told = serde_json::json!({ "questions": records.len(), "models": models });
            return Ok(out.value(&told)?);
        }
        Ok(out.line(format_args!("{} questions to {models}", records.len()))?)
    }
}
