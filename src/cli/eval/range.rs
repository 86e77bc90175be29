//! Numbers on the command line, within their ranges.

use std::ops::RangeInclusive;

/// What a right answer may be worth.
pub(super) const WORTH: RangeInclusive<f64> = 1e-6..=1000.0;

/// Reads a number in a range.
pub(super) fn within(range: RangeInclusive<f64>) -> impl Fn(&str) -> Result<f64, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("must be a number from {} to {}", range.start(), range.end()))
    }
}

/// Reads a whole number in a range.
pub(super) fn count(
    range: RangeInclusive<usize>,
) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            format!("must be a whole number from {from} to {to}")
        })
    }
}
