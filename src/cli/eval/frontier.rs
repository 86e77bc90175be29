//! `quorate eval frontier`.

use std::path::PathBuf;

use quorate::eval::{frontier, plot};

use super::super::failure::Failure;
use super::super::output::Output;
use super::super::table::{Cell, table};
use super::files::{load, save};
use super::measure::{Measure, paused};
use super::range::{WORTH, within};

#[derive(Debug, clap::Args)]
pub(super) struct Frontier {
    /// Recorded set to learn from
    #[arg(long, value_name = "FILE")]
    learn: PathBuf,
    /// Recorded set to measure on
    #[arg(long, value_name = "FILE")]
    test: PathBuf,
    /// The members, as the record names them
    #[arg(long, value_delimiter = ',', required = true, value_name = "MODEL,…")]
    members: Vec<String>,
    /// Worths of a right answer, in dollars (without --prices in calls), at which cascades and adaptive ensembles are
    /// measured
    #[arg(long, value_delimiter = ',', default_value = "0.01,0.03,0.1,0.3,1", value_parser = within(WORTH))]
    worths: Vec<f64>,
    /// Write the frontier as SVG here, and the reliability diagram beside it as NAME.reliability.svg; of what has no
    /// price nothing is drawn
    #[arg(long, value_name = "FILE", requires = "prices")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    measure: Measure,
}

impl Frontier {
    pub async fn run(self, out: Output) -> Result<(), Failure> {
        let (learn, test) = (load(&self.learn)?, load(&self.test)?);
        let prices = self.measure.prices()?;
        let earlier = self.measure.earlier("points")?;
        let options = frontier::Options {
            members: self.members,
            worths: self.worths,
            seed: self.measure.seed,
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
                .filter_map(|point| {
                    Some(plot::Point {
                        label: &point.label,
                        x: point.cost_per_1000?,
                        y: point.accuracy,
                        group: point.group,
                    })
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
                    point
                        .cost_per_1000
                        .map_or("unknown".into(), |cost| format!("{cost:.3}"))
                        .into(),
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
        self.measure
            .finish(&report, &table(heads, &rows), earlier, out)
    }
}
