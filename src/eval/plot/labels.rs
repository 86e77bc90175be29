//! Where to write the names of points so that they cover neither each other nor the points.

use super::canvas::text_width;

/// A rectangle, by two corners.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
}

impl Area {
    pub(super) fn around((x, y): (f64, f64), reach: f64) -> Self {
        Self {
            left: x - reach,
            top: y - reach,
            right: x + reach,
            bottom: y + reach,
        }
    }

    pub(super) fn centre(&self) -> (f64, f64) {
        (
            (self.left + self.right) / 2.0,
            (self.top + self.bottom) / 2.0,
        )
    }

    fn overlap(&self, other: &Self) -> f64 {
        let wide = self.right.min(other.right) - self.left.max(other.left);
        let high = self.bottom.min(other.bottom) - self.top.max(other.top);
        wide.max(0.0) * high.max(0.0)
    }

    fn size(&self) -> f64 {
        (self.right - self.left) * (self.bottom - self.top)
    }

    /// Of `(x, y)`, the nearest that is within.
    pub(super) fn nearest(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (
            x.max(self.left).min(self.right),
            y.max(self.top).min(self.bottom),
        )
    }
}

/// What is to be named, and the name.
pub(super) struct Named<'a> {
    pub(super) at: (f64, f64),
    pub(super) label: &'a str,
    /// Placed before the others, and written bold.
    pub(super) first: bool,
}

/// Reach of a marker that labels keep clear of.
pub(super) const MARKER: f64 = 7.0;
/// Distances of a label from its point that are tried, nearest first.
const DISTANCES: [f64; 5] = [9.0, 18.0, 30.0, 44.0, 60.0];
/// Directions that are tried, the most readable first.
const DIRECTIONS: [(f64, f64); 8] = [
    (1.0, 0.0),
    (-1.0, 0.0),
    (0.0, -1.0),
    (0.0, 1.0),
    (0.7, -0.7),
    (0.7, 0.7),
    (-0.7, -0.7),
    (-0.7, 0.7),
];

/// An area for each label, within `bounds` if it can be: one after the other, each where it covers least, and
/// of those places nearest to its point. Lines (given by points on them) are avoided, but less than the rest.
pub(super) fn place(
    points: &[Named<'_>],
    lines: &[(f64, f64)],
    size: f64,
    bounds: Area,
) -> Vec<Area> {
    let mut taken: Vec<Area> = points
        .iter()
        .map(|point| Area::around(point.at, MARKER))
        .collect();
    let lines: Vec<Area> = lines.iter().map(|&at| Area::around(at, 1.5)).collect();
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|&at| !points.get(at).is_some_and(|point| point.first));
    let mut placed = vec![bounds; points.len()];
    for at in order {
        let (Some(point), Some(slot)) = (points.get(at), placed.get_mut(at)) else {
            continue;
        };
        let costs = candidates(point, size).map(|(area, far)| {
            let covered: f64 = taken.iter().map(|other| area.overlap(other)).sum();
            let crossed: f64 = lines.iter().map(|other| area.overlap(other)).sum();
            let outside = area.size() - area.overlap(&bounds);
            (area, covered * 10.0 + outside * 30.0 + crossed + far)
        });
        if let Some((area, _)) = costs.min_by(|a, b| a.1.total_cmp(&b.1)) {
            *slot = area;
            taken.push(area);
        }
    }
    placed
}

fn candidates(point: &Named<'_>, size: f64) -> impl Iterator<Item = (Area, f64)> {
    // Those that come first are written bold, and so wider.
    let stretch = if point.first { 1.12 } else { 1.0 };
    let (wide, high) = (text_width(point.label, size) * stretch, size * 1.15);
    let (x, y) = point.at;
    DISTANCES.into_iter().flat_map(move |distance| {
        DIRECTIONS
            .into_iter()
            .enumerate()
            .map(move |(rank, (dx, dy))| {
                // The point of the label's edge that faces the marker is at this distance.
                let (cx, cy) = (
                    x + dx * (distance + wide / 2.0 * f64::abs(dx).ceil()),
                    y + dy * (distance + high / 2.0),
                );
                let area = Area {
                    left: cx - wide / 2.0,
                    top: cy - high / 2.0,
                    right: cx + wide / 2.0,
                    bottom: cy + high / 2.0,
                };
                (area, distance * 4.0 + rank as f64 * 2.0)
            })
    })
}
