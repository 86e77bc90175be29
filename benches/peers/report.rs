//! The table, on the terminal and as Markdown.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};

use crate::cells::{METRICS, Metric, Results};
use crate::figures::{median, short};

/// Over the rounds.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    pub median: f64,
    pub low: f64,
    pub high: f64,
}

impl Results {
    /// `None` where there is nothing; the median of rounds that failed is no number.
    pub fn summary(&self, peer: &str, metric: &str) -> Option<Summary> {
        let of = self
            .values
            .iter()
            .filter(|value| value.peer == peer && value.metric == metric);
        let values: Vec<f64> = of.map(|value| value.value).collect();
        (!values.is_empty()).then(|| Summary {
            median: median(&values),
            low: values.iter().copied().fold(f64::INFINITY, f64::min),
            high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }

    /// The peers that have values, in the order of `names`.
    fn columns<'a>(&self, names: &[&'a str]) -> Vec<&'a str> {
        let there = |name: &&&str| self.values.iter().any(|value| value.peer == **name);
        names.iter().filter(there).copied().collect()
    }

    pub fn markdown(&self, names: &[&str]) -> String {
        let columns = self.columns(names);
        let mut text = format!(
            "| | {} | aim |\n|---|{}---|\n",
            columns.join(" | "),
            "---:|".repeat(columns.len())
        );
        for metric in METRICS {
            let cells: Vec<String> = columns.iter().map(|peer| self.cell(peer, metric)).collect();
            if cells.iter().any(|cell| cell != "–") {
                let _ = writeln!(
                    text,
                    "| {} | {} | {} |",
                    title(metric),
                    cells.join(" | "),
                    aim(metric)
                );
            }
        }
        text
    }

    /// Quorate's cells are green where they reach their aim and red where they do not.
    pub fn terminal(&self, names: &[&str]) -> String {
        let columns = self.columns(names);
        let mut text = format!("{:60}", "");
        for name in &columns {
            let _ = write!(text, "{name:>24}");
        }
        text.push_str("      aim\n");
        for metric in METRICS {
            let cells: Vec<String> = columns.iter().map(|peer| self.cell(peer, metric)).collect();
            if cells.iter().all(|cell| cell == "–") {
                continue;
            }
            let _ = write!(text, "{:60}", title(metric));
            for (name, cell) in columns.iter().zip(cells) {
                let style = self.style(name, metric);
                let _ = write!(text, "{style}{cell:>24}{style:#}");
            }
            let _ = writeln!(text, "  {:>7}", aim(metric));
        }
        text
    }

    fn style(&self, peer: &str, metric: &Metric) -> Style {
        let (Some((aim, most)), Some(summary)) = (metric.aim, self.summary(peer, metric.key))
        else {
            return Style::new();
        };
        let reached = if most {
            summary.median <= aim
        } else {
            summary.median >= aim
        };
        match (peer, reached) {
            ("Quorate", true) => AnsiColor::Green.on_default(),
            ("Quorate", false) => AnsiColor::Red.on_default(),
            _ => Style::new(),
        }
    }

    fn cell(&self, peer: &str, metric: &Metric) -> String {
        match self.summary(peer, metric.key) {
            None => "–".into(),
            Some(all) if all.median.is_nan() => "failed".into(),
            Some(all) if all.low == all.high => short(all.median),
            Some(all) => format!(
                "{} ({}..{})",
                short(all.median),
                short(all.low),
                short(all.high)
            ),
        }
    }
}

fn title(metric: &Metric) -> String {
    match metric.unit {
        "" => metric.title.into(),
        unit => format!("{}, {unit}", metric.title),
    }
}

fn aim(metric: &Metric) -> String {
    metric.aim.map_or(String::new(), |(aim, most)| {
        format!("{} {}", if most { "≤" } else { "≥" }, short(aim))
    })
}
