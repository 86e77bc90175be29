//! The order in which a cascade asks.

/// Whom of those left a cascade may ask, the cheapest first: nobody cheaper than `dearest`, the dearest it has
/// asked, before it is at the top. Then whom it skipped may still help.
pub fn in_reach(left: &[usize], dearest: f64, price: impl Fn(usize) -> f64) -> Vec<usize> {
    let is_above = |at: &usize| price(*at) >= dearest;
    let mut reach: Vec<usize> = left.iter().copied().filter(is_above).collect();
    if reach.is_empty() {
        reach = left.to_vec();
    }
    reach.sort_by(|a, b| price(*a).total_cmp(&price(*b)));
    reach
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cascade_climbs_and_at_the_top_takes_whom_it_skipped() {
        let price = |at: usize| [3.0, 1.0, 2.0][at];
        assert_eq!(in_reach(&[0, 1, 2], 0.0, price), [1, 2, 0]);
        assert_eq!(in_reach(&[0, 1], 2.0, price), [0]);
        assert_eq!(in_reach(&[1, 2], 3.0, price), [1, 2]);
    }
}
