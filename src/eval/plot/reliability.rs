//! How right answers are of which we were how sure.

use crate::eval::metrics::Bin;

use super::canvas::{Anchor, Canvas, FAINT, GRID, INK, Style};
use super::labels::Area;

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 640.0;
const PLOT: Area = Area {
    left: 64.0,
    top: 70.0,
    right: 496.0,
    bottom: 460.0,
};
const COUNTS: Area = Area {
    left: 64.0,
    top: 484.0,
    right: 496.0,
    bottom: 584.0,
};
const BAR: &str = "#c9def2";
const DOT: &str = "#1f6fb4";
const COUNT: &str = "#9aa5b1";
/// Radii of the dots of the smallest and the largest bin.
const RADII: (f64, f64) = (2.5, 8.0);

/// A reliability diagram: a bar for the share that was right in each bin, a dot at its mean confidence, the
/// larger the more outcomes it stands for, the diagonal of perfect calibration, and the counts below. What is
/// not finite is left out.
pub fn reliability(bins: &[Bin], title: &str, subtitle: &str) -> String {
    let mut canvas = Canvas::new(WIDTH, HEIGHT, title);
    let bold = Style::new(16.0, INK, Anchor::Start).bold(true);
    canvas.text(PLOT.left, 30.0, title, bold);
    canvas.text(
        PLOT.left,
        50.0,
        subtitle,
        Style::new(12.0, FAINT, Anchor::Start),
    );
    let most = bins.iter().map(|bin| bin.n).max().unwrap_or(0);
    axes(&mut canvas, most);
    let finite = |bin: &&Bin| bin.low.is_finite() && bin.high.is_finite();
    for bin in bins.iter().filter(finite) {
        bars(&mut canvas, bin, most);
    }
    let ends = [(x(0.0), y(0.0)), (x(1.0), y(1.0))];
    canvas.line(&ends, FAINT, 1.2, "5 4");
    let dots: Vec<(f64, f64, &Bin)> = bins
        .iter()
        .filter_map(|bin| Some((bin.mean_confidence?, bin.accuracy?, bin)))
        .filter(|(confidence, right, _)| confidence.is_finite() && right.is_finite())
        .collect();
    let through: Vec<_> = dots
        .iter()
        .map(|&(sure, right, _)| (x(sure), y(right)))
        .collect();
    if through.len() > 1 {
        canvas.line(&through, DOT, 1.2, "");
    }
    for (confidence, right, bin) in dots {
        let share = (bin.n as f64 / most.max(1) as f64).sqrt();
        let radius = RADII.0 + (RADII.1 - RADII.0) * share;
        canvas.disc((x(confidence), y(right)), radius, DOT, &hint(bin));
    }
    canvas.finish()
}

fn x(confidence: f64) -> f64 {
    PLOT.left + confidence.clamp(0.0, 1.0) * (PLOT.right - PLOT.left)
}

fn y(right: f64) -> f64 {
    PLOT.bottom - right.clamp(0.0, 1.0) * (PLOT.bottom - PLOT.top)
}

fn hint(bin: &Bin) -> String {
    let mut hint = format!("{:.2} to {:.2}: {} answers", bin.low, bin.high, bin.n);
    if let (Some(confidence), Some(right)) = (bin.mean_confidence, bin.accuracy) {
        hint.push_str(&format!(
            ", mean confidence {confidence:.3}, right {right:.3}"
        ));
    }
    hint
}

fn bars(canvas: &mut Canvas, bin: &Bin, most: usize) {
    let (left, width) = (x(bin.low) + 0.75, x(bin.high) - x(bin.low) - 1.5);
    if let Some(right) = bin.accuracy.filter(|right| right.is_finite()) {
        let corner = (left, y(right));
        canvas.bar(corner, (width, PLOT.bottom - y(right)), BAR, &hint(bin));
    }
    if bin.n > 0 {
        let full = COUNTS.bottom - COUNTS.top;
        // However few, they are seen.
        let high = (full * bin.n as f64 / most.max(1) as f64).max(1.0);
        canvas.bar(
            (left, COUNTS.bottom - high),
            (width, high),
            COUNT,
            &hint(bin),
        );
    }
}

fn axes(canvas: &mut Canvas, most: usize) {
    let right = Style::new(11.0, FAINT, Anchor::End);
    let middle = Style::new(11.0, FAINT, Anchor::Middle);
    for fifth in 0..=5 {
        let share = f64::from(fifth) / 5.0;
        let text = format!("{share:.1}");
        canvas.line(
            &[(PLOT.left, y(share)), (PLOT.right, y(share))],
            GRID,
            1.0,
            "",
        );
        canvas.line(
            &[(x(share), PLOT.top), (x(share), PLOT.bottom)],
            GRID,
            1.0,
            "",
        );
        canvas.text(PLOT.left - 8.0, y(share) + 4.0, &text, right);
        canvas.text(x(share), COUNTS.bottom + 17.0, &text, middle);
    }
    for area in [PLOT, COUNTS] {
        let corner = [
            (area.left, area.top),
            (area.left, area.bottom),
            (area.right, area.bottom),
        ];
        canvas.line(&corner, FAINT, 1.0, "");
    }
    canvas.text(
        COUNTS.left - 8.0,
        COUNTS.top + 8.0,
        &most.to_string(),
        right,
    );
    canvas.text(COUNTS.left - 8.0, COUNTS.bottom, "0", right);
    let name = Style::new(12.0, INK, Anchor::Middle);
    canvas.turned_text(20.0, PLOT.centre().1, "share that was right", name, true);
    canvas.turned_text(20.0, COUNTS.centre().1, "answers", name, true);
    canvas.text(PLOT.centre().0, COUNTS.bottom + 40.0, "confidence", name);
}
