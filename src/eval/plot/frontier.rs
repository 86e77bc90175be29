//! Accuracy over cost, with the points nothing beats joined.

use super::canvas::{Anchor, Canvas, FAINT, GRID, INK, Style, text_width};
use super::labels::{Area, Named, place};

/// One way of answering, by what it costs and how often it is right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point<'a> {
    /// Its name.
    pub label: &'a str,
    /// USD per 1,000 questions, 0 or more.
    pub x: f64,
    /// Accuracy in per cent.
    pub y: f64,
    /// What kind of way it is: `model`, `cascade`, `vote`, `auto`; others are drawn in colours of their own.
    pub group: &'a str,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 540.0;
const PLOT: Area = Area {
    left: 64.0,
    top: 76.0,
    right: 836.0,
    bottom: 478.0,
};
const LABEL: f64 = 11.0;
/// Known groups: name, name in the legend, colour, corners of the marker (0 is a disc).
const GROUPS: [(&str, &str, &str, usize); 4] = [
    ("model", "single model", "#5b6b7b", 0),
    ("cascade", "cascade", "#d9730d", 3),
    ("vote", "vote", "#1f6fb4", 4),
    ("auto", "auto", "#b4236a", 5),
];
/// For groups of other names, in order of appearance.
const OTHERS: [(&str, usize); 4] = [
    ("#0f8a5f", 0),
    ("#8250c4", 3),
    ("#a08000", 4),
    ("#008a9b", 5),
];
const FRONT: &str = "#2f855a";

/// A plot of accuracy (per cent) over cost (USD per 1,000 questions, logarithmic), with a legend and the
/// pareto-optimal points joined. Points that cost nothing stand in a column of their own at the left; those
/// with a coordinate that is not finite, or a negative cost, are left out.
pub fn frontier(points: &[Point<'_>], title: &str) -> String {
    let drawable =
        |point: &&Point<'_>| point.x.is_finite() && point.y.is_finite() && point.x >= 0.0;
    let points: Vec<Point<'_>> = points.iter().filter(drawable).copied().collect();
    let mut canvas = Canvas::new(WIDTH, HEIGHT, title);
    let bold = Style::new(16.0, INK, Anchor::Start).bold(true);
    canvas.text(PLOT.left, 30.0, title, bold);
    let scale = Scale::of(&points);
    axes(&mut canvas, &scale);
    let best = optimal(&points);
    let front: Vec<(f64, f64)> = best
        .iter()
        .filter_map(|&at| points.get(at))
        .map(|point| scale.place(point))
        .collect();
    if front.len() > 1 {
        canvas.line(&front, FRONT, 1.8, "");
    }
    let looks = looks(&points);
    legend(&mut canvas, &looks, front.len() > 1);
    names(&mut canvas, &points, &best, &front, &scale);
    for point in &points {
        let look = looks.iter().find(|look| look.group == point.group);
        let (colour, corners) = look.map_or((INK, 0), |look| (look.colour, look.corners));
        let hint = format!(
            "{}: {:.2} % at {:.4} USD per 1,000",
            point.label, point.y, point.x
        );
        marker(&mut canvas, scale.place(point), colour, corners, &hint);
    }
    canvas.finish()
}

/// The points nothing beats (none is cheaper and as right, or as cheap and righter), the cheapest first.
fn optimal(points: &[Point<'_>]) -> Vec<usize> {
    let mut order: Vec<(usize, &Point<'_>)> = points.iter().enumerate().collect();
    order.sort_by(|(_, a), (_, b)| a.x.total_cmp(&b.x).then(b.y.total_cmp(&a.y)));
    let mut best = f64::NEG_INFINITY;
    order.retain(|(_, point)| {
        let better = point.y > best;
        best = best.max(point.y);
        better
    });
    order.into_iter().map(|(at, _)| at).collect()
}

/// From cost and accuracy to places.
struct Scale {
    /// Common logarithms of the least and the greatest cost shown.
    cost: (f64, f64),
    accuracy: (f64, f64),
    /// Where the logarithmic part begins; left of it is the column of what is free.
    left: f64,
    free: bool,
}

impl Scale {
    fn of(points: &[Point<'_>]) -> Self {
        let costs = points.iter().map(|point| point.x).filter(|&x| x > 0.0);
        let (low, high) = range(costs.map(f64::log10)).unwrap_or((-1.0, 1.0));
        // Room for the labels on both sides, and never less than a third of a decade.
        let pad = ((high - low) * 0.07).max(0.16);
        let (worst, best) = range(points.iter().map(|point| point.y)).unwrap_or((0.0, 100.0));
        let room = ((best - worst) * 0.08).max(0.5);
        let free = points.iter().any(|point| point.x == 0.0);
        Self {
            cost: (low - pad, high + pad),
            accuracy: (worst - room, best + room),
            left: if free { PLOT.left + 70.0 } else { PLOT.left },
            free,
        }
    }

    fn x(&self, cost: f64) -> f64 {
        if cost <= 0.0 {
            return PLOT.left + 35.0;
        }
        let (low, high) = self.cost;
        self.left + (cost.log10() - low) / (high - low) * (PLOT.right - self.left)
    }

    fn y(&self, accuracy: f64) -> f64 {
        let (low, high) = self.accuracy;
        PLOT.bottom - (accuracy - low) / (high - low) * (PLOT.bottom - PLOT.top)
    }

    fn place(&self, point: &Point<'_>) -> (f64, f64) {
        (self.x(point.x), self.y(point.y))
    }

    /// Costs worth a tick: 1, 2 and 5 of each power of ten, or where there are many, 1 alone, or fewer.
    fn costs(&self) -> Vec<f64> {
        let (low, high) = self.cost;
        let decades = high - low;
        let within: &[f64] = if decades > 4.0 {
            &[1.0]
        } else {
            &[1.0, 2.0, 5.0]
        };
        let step = (decades / 8.0).ceil().max(1.0) as usize;
        (low.floor() as i32..=high.ceil() as i32)
            .step_by(step)
            .flat_map(|power| within.iter().map(move |digit| digit * 10f64.powi(power)))
            .filter(|cost| (low..=high).contains(&cost.log10()))
            .collect()
    }

    /// Accuracies worth a tick: four to ten round ones.
    fn accuracies(&self) -> (Vec<f64>, usize) {
        let (low, high) = self.accuracy;
        let rough = ((high - low) / 7.0).max(f64::MIN_POSITIVE);
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|digit| digit * power)
            .into_iter()
            .find(|&step| step >= rough)
            .unwrap_or(rough);
        let first = (low / step).ceil();
        let ticks = (0..16).map(|at| (first + f64::from(at)) * step);
        let decimals = (-power.log10().floor()).clamp(0.0, 6.0) as usize;
        (ticks.take_while(|&tick| tick <= high).collect(), decimals)
    }
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

fn axes(canvas: &mut Canvas, scale: &Scale) {
    let tick = Style::new(11.0, FAINT, Anchor::Middle);
    for cost in scale.costs() {
        let x = scale.x(cost);
        canvas.line(&[(x, PLOT.top), (x, PLOT.bottom)], GRID, 1.0, "");
        canvas.text(x, PLOT.bottom + 17.0, &dollars(cost), tick);
    }
    if scale.free {
        canvas.text(scale.x(0.0), PLOT.bottom + 17.0, "free", tick);
        let edge = scale.left;
        canvas.line(&[(edge, PLOT.top), (edge, PLOT.bottom)], FAINT, 1.0, "2 4");
    }
    let (accuracies, decimals) = scale.accuracies();
    let right = Style::new(11.0, FAINT, Anchor::End);
    for accuracy in accuracies {
        let y = scale.y(accuracy);
        canvas.line(&[(PLOT.left, y), (PLOT.right, y)], GRID, 1.0, "");
        canvas.text(
            PLOT.left - 8.0,
            y + 4.0,
            &format!("{accuracy:.decimals$}"),
            right,
        );
    }
    let corner = [
        (PLOT.left, PLOT.top),
        (PLOT.left, PLOT.bottom),
        (PLOT.right, PLOT.bottom),
    ];
    canvas.line(&corner, FAINT, 1.0, "");
    let name = Style::new(12.0, INK, Anchor::Middle);
    let (x, y) = PLOT.centre();
    canvas.text(
        x,
        PLOT.bottom + 42.0,
        "USD per 1,000 questions (logarithmic)",
        name,
    );
    canvas.turned_text(20.0, y, "accuracy, %", name, true);
}

/// `0.05`, `2`, `5000`, and for the very small and large `1e-7`.
fn dollars(cost: f64) -> String {
    if (1e-4..1e6).contains(&cost) {
        // A tick has one digit: six places print it exactly, and what follows is noise.
        let text = format!("{cost:.6}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        format!("{cost:.0e}")
    }
}

/// How a group is drawn.
struct Look<'a> {
    group: &'a str,
    legend: &'a str,
    colour: &'static str,
    corners: usize,
}

/// Every group that is there: the known ones in their order, then the others as they appear.
fn looks<'a>(points: &[Point<'a>]) -> Vec<Look<'a>> {
    let mut looks: Vec<Look<'a>> = Vec::new();
    for (group, legend, colour, corners) in GROUPS {
        if points.iter().any(|point| point.group == group) {
            looks.push(Look {
                group,
                legend,
                colour,
                corners,
            });
        }
    }
    let mut others = OTHERS.iter().cycle();
    for point in points {
        if looks.iter().all(|look| look.group != point.group)
            && let Some(&(colour, corners)) = others.next()
        {
            looks.push(Look {
                group: point.group,
                legend: point.group,
                colour,
                corners,
            });
        }
    }
    looks
}

fn legend(canvas: &mut Canvas, looks: &[Look<'_>], front: bool) {
    let style = Style::new(12.0, INK, Anchor::Start);
    let mut x = PLOT.left + 6.0;
    let y = 54.0;
    for look in looks {
        marker(canvas, (x, y), look.colour, look.corners, look.legend);
        canvas.text(x + 11.0, y + 4.0, look.legend, style);
        x += 34.0 + text_width(look.legend, 12.0);
    }
    if front {
        canvas.line(&[(x, y), (x + 22.0, y)], FRONT, 1.8, "");
        canvas.text(
            x + 28.0,
            y + 4.0,
            "nothing is both cheaper and better",
            style,
        );
    }
}

fn names(
    canvas: &mut Canvas,
    points: &[Point<'_>],
    best: &[usize],
    front: &[(f64, f64)],
    scale: &Scale,
) {
    let named: Vec<Named<'_>> = points
        .iter()
        .enumerate()
        .map(|(at, point)| Named {
            at: scale.place(point),
            label: point.label,
            first: best.contains(&at),
        })
        .collect();
    let steps = |pair: &[(f64, f64)]| match pair {
        [a, b] => {
            // A point every few pixels.
            let steps = ((b.0 - a.0).hypot(b.1 - a.1) / 4.0)
                .ceil()
                .clamp(1.0, 400.0) as u32;
            let along = |step: u32| {
                let share = f64::from(step) / f64::from(steps);
                (a.0 + (b.0 - a.0) * share, a.1 + (b.1 - a.1) * share)
            };
            (0..=steps).map(along).collect()
        }
        _ => Vec::new(),
    };
    let line: Vec<(f64, f64)> = front.windows(2).flat_map(steps).collect();
    let areas = place(&named, &line, LABEL, PLOT);
    let far = |point: &Named<'_>, area: &Area| {
        let near = area.nearest(point.at);
        (near.0 - point.at.0).hypot(near.1 - point.at.1) > 13.0
    };
    for (point, area) in named.iter().zip(&areas) {
        if far(point, area) {
            canvas.line(&[point.at, area.nearest(point.at)], FAINT, 0.6, "");
        }
    }
    for (point, area) in named.iter().zip(&areas) {
        let colour = if point.first { INK } else { FAINT };
        // The end that faces the marker is where it was planned, however wide the letters turn out.
        let (x, anchor) = match point.at.0 {
            at if area.left > at => (area.left, Anchor::Start),
            at if area.right < at => (area.right, Anchor::End),
            _ => (area.centre().0, Anchor::Middle),
        };
        let style = Style::new(LABEL, colour, anchor).bold(point.first);
        canvas.text(x, area.centre().1 + LABEL * 0.36, point.label, style);
    }
}

fn marker(canvas: &mut Canvas, (x, y): (f64, f64), colour: &str, corners: usize, hint: &str) {
    let ring = |corners: usize, radius: f64, inner: f64, from: f64| -> Vec<(f64, f64)> {
        (0..corners)
            .map(|at| {
                let reach = if at % 2 == 0 { radius } else { inner };
                let angle = from + std::f64::consts::TAU * at as f64 / corners as f64;
                (x + reach * angle.sin(), y - reach * angle.cos())
            })
            .collect()
    };
    let eighth = std::f64::consts::FRAC_PI_4;
    match corners {
        3 => canvas.shape(&ring(3, 6.6, 6.6, 0.0), colour, hint),
        4 => canvas.shape(&ring(4, 6.4, 6.4, eighth), colour, hint),
        // A star.
        5 => canvas.shape(&ring(10, 8.0, 3.6, 0.0), colour, hint),
        _ => canvas.disc((x, y), 5.0, colour, hint),
    }
}
