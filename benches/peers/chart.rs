//! Charts as SVG, written by hand: bars with whiskers, and lines over time.

use std::fmt::Write;

use crate::figures::short;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 110.0;
const COLOURS: [&str; 6] = [
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#9c6b4e",
];

pub struct Bar {
    pub label: String,
    pub low: f64,
    pub mid: f64,
    pub high: f64,
    /// Drawn in a colour of its own.
    pub ours: bool,
}

pub struct Line {
    pub label: String,
    pub points: Vec<(f64, f64)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Log,
}

/// Panels, one below the other.
pub struct Sheet {
    body: String,
    height: f64,
}

impl Sheet {
    pub fn new(title: &str, note: &str) -> Self {
        let mut sheet = Self {
            body: String::new(),
            height: 62.0,
        };
        sheet.text(12.0, 26.0, "start", "title", title);
        sheet.text(12.0, 46.0, "start", "note", note);
        sheet
    }

    pub fn svg(&self) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {h}\" width=\"{WIDTH}\" height=\"{h}\">\n\
             <style>text{{font:12px sans-serif;fill:#222}}.title{{font:bold 16px sans-serif}}\
             .head{{font:bold 13px sans-serif}}.note,.tick{{fill:#666;font-size:11px}}</style>\n\
             <rect width=\"{WIDTH}\" height=\"{h}\" fill=\"white\"/>\n{}</svg>\n",
            self.body,
            h = self.height
        )
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>"
        );
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), style: &str) {
        let _ = writeln!(
            self.body,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" {style}/>",
            from.0, from.1, to.0, to.1
        );
    }

    /// Horizontal bars to the median, with a whisker from the lowest to the highest. On a logarithmic scale they
    /// begin at the power of ten below the smallest, and what is not above 0 has no length.
    pub fn bars(&mut self, title: &str, unit: &str, scale: Scale, bars: &[Bar]) {
        let top = self.height;
        self.text(12.0, top + 14.0, "start", "head", title);
        let bars: Vec<&Bar> = bars.iter().filter(|bar| bar.mid.is_finite()).collect();
        let most = bars
            .iter()
            .map(|bar| bar.high)
            .fold(f64::MIN_POSITIVE, f64::max);
        let least = bars
            .iter()
            .map(|bar| bar.mid)
            .filter(|mid| *mid > 0.0)
            .fold(most, f64::min);
        let axis = Axis::new(scale, least, most, LEFT, WIDTH - RIGHT);
        let bottom = top + 26.0 + 24.0 * bars.len() as f64;
        for (at, label) in axis.ticks() {
            self.line((at, top + 22.0), (at, bottom), "stroke=\"#ddd\"");
            self.text(at, bottom + 14.0, "middle", "tick", &label);
        }
        self.text(WIDTH - RIGHT + 60.0, bottom + 14.0, "middle", "tick", unit);
        for (row, bar) in bars.iter().enumerate() {
            let y = top + 26.0 + 24.0 * row as f64;
            let end = axis.at(bar.mid);
            let colour = COLOURS[if bar.ours { 4 } else { 0 }];
            let _ = writeln!(
                self.body,
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"16\" fill=\"{colour}\"/>",
                (end - LEFT).max(1.0)
            );
            let (low, high) = (axis.at(bar.low), axis.at(bar.high));
            self.line(
                (low, y + 8.0),
                (high, y + 8.0),
                "stroke=\"#222\" stroke-width=\"1.5\"",
            );
            self.text(LEFT - 8.0, y + 12.0, "end", "", &bar.label);
            self.text(end.max(high) + 6.0, y + 12.0, "start", "", &short(bar.mid));
        }
        self.height = bottom + 34.0;
    }

    /// Lines over `x`, with vertical marks at `marks`.
    pub fn lines(
        &mut self,
        title: &str,
        x_unit: &str,
        scale: Scale,
        lines: &[Line],
        marks: &[f64],
    ) {
        let top = self.height;
        self.text(12.0, top + 14.0, "start", "head", title);
        let points = || lines.iter().flat_map(|line| &line.points);
        let span = points().map(|p| p.0).fold(0.0, f64::max);
        let most = points().map(|p| p.1).fold(f64::MIN_POSITIVE, f64::max);
        let least = points()
            .map(|p| p.1)
            .filter(|y| *y > 0.0)
            .fold(most, f64::min);
        let (upper, lower) = (top + 24.0, top + 184.0);
        let across = Axis::new(Scale::Linear, 0.0, span, 60.0, WIDTH - RIGHT - 40.0);
        let up = Axis::new(scale, least, most, lower, upper);
        for (at, label) in up.ticks() {
            self.line((60.0, at), (WIDTH - RIGHT - 40.0, at), "stroke=\"#ddd\"");
            self.text(54.0, at + 4.0, "end", "tick", &label);
        }
        for (at, label) in across.ticks() {
            self.text(
                at,
                lower + 14.0,
                "middle",
                "tick",
                &format!("{label} {x_unit}"),
            );
        }
        for mark in marks {
            let at = across.at(*mark);
            self.line(
                (at, upper),
                (at, lower),
                "stroke=\"#d62728\" stroke-dasharray=\"3 3\"",
            );
        }
        for (index, line) in lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let path: String = line.points.iter().fold(String::new(), |mut path, (x, y)| {
                let _ = write!(path, "{:.1},{:.1} ", across.at(*x), up.at(*y));
                path
            });
            let _ = writeln!(
                self.body,
                "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.4\"/>"
            );
            let y = upper + 14.0 + 16.0 * index as f64;
            self.line(
                (WIDTH - RIGHT - 30.0, y - 4.0),
                (WIDTH - RIGHT - 14.0, y - 4.0),
                &format!("stroke=\"{colour}\" stroke-width=\"3\""),
            );
            self.text(WIDTH - RIGHT - 10.0, y, "start", "", &line.label);
        }
        self.height = lower + 34.0;
    }
}

/// From values to places on the sheet.
pub struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    pub fn new(scale: Scale, least: f64, most: f64, from: f64, to: f64) -> Self {
        let (low, high) = match scale {
            Scale::Linear => (0.0, most * 1.05),
            Scale::Log => (
                10f64.powf(least.log10().floor()),
                10f64.powf(most.log10().ceil()),
            ),
        };
        let high = if high > low + 1e-9 { high } else { low + 1.0 };
        Self {
            scale,
            low,
            high,
            from,
            to,
        }
    }

    pub fn at(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    pub fn ticks(&self) -> Vec<(f64, String)> {
        let values: Vec<f64> = match self.scale {
            Scale::Log => {
                let decades = (self.high / self.low).log10().round() as i32;
                (0..=decades)
                    .map(|decade| self.low * 10f64.powi(decade))
                    .collect()
            }
            Scale::Linear => {
                let rough = (self.high - self.low) / 5.0;
                let power = 10f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0]
                    .map(|m| m * power)
                    .into_iter()
                    .find(|step| *step >= rough);
                let step = step.unwrap_or(rough);
                (0..=5)
                    .map(|n| step * f64::from(n))
                    .filter(|value| *value <= self.high)
                    .collect()
            }
        };
        values
            .into_iter()
            .map(|value| (self.at(value), tick(value)))
            .collect()
    }
}

fn tick(value: f64) -> String {
    let text = format!("{value:.6}");
    match text.trim_end_matches('0').trim_end_matches('.') {
        whole if value >= 10_000.0 => format!("{} k", whole.parse::<f64>().unwrap_or(value) / 1e3),
        whole => whole.to_owned(),
    }
}
