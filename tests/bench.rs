//! The bench's own arithmetic: a wrong percentile would not be noticed otherwise.
#![allow(
    dead_code,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "the bench uses the rest, by its rules"
)]

#[path = "../benches/peers/chart.rs"]
mod chart;
#[path = "../benches/peers/figures.rs"]
mod figures;
#[path = "../benches/peers/load.rs"]
mod load;
#[path = "../benches/peers/process.rs"]
mod process;

use std::fs;
use std::process::Command;

use chart::{Axis, Scale};
use figures::{Slope, median, percentile};
use load::Reader;
use process::Tree;

#[test]
fn axes_have_round_ticks_within_them() {
    let labels =
        |axis: Axis| -> Vec<String> { axis.ticks().into_iter().map(|(_, label)| label).collect() };
    let log = Axis::new(Scale::Log, 0.03, 45.0, 0.0, 100.0);
    assert_eq!(labels(log), ["0.01", "0.1", "1", "10", "100"]);
    let linear = Axis::new(Scale::Linear, 0.0, 0.31, 0.0, 100.0);
    assert_eq!(labels(linear), ["0", "0.1", "0.2", "0.3"]);
    let axis = Axis::new(Scale::Log, 0.1, 1000.0, 0.0, 100.0);
    assert!((axis.at(10.0) - 50.0).abs() < 1e-9 && axis.at(-3.0) == 0.0);
}

#[test]
fn percentiles_are_values_that_occurred() {
    let values: Vec<f64> = (1..=100).map(f64::from).collect();
    for (share, value) in [
        (0.0, 1.0),
        (0.5, 50.0),
        (0.99, 99.0),
        (0.991, 100.0),
        (1.0, 100.0),
    ] {
        assert_eq!(percentile(&values, share), value, "{share}");
    }
    assert_eq!(percentile(&[7.0], 0.99), 7.0);
    assert_eq!(percentile(&[], 0.5), 0.0);
}

#[test]
fn the_median_of_an_even_number_lies_between_the_middle_two() {
    assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(&[]), 0.0);
}

#[test]
fn a_straight_line_has_its_slope_and_no_error() {
    let line: Vec<(f64, f64)> = (0..10)
        .map(|x| (f64::from(x), 3.0 * f64::from(x) + 1.0))
        .collect();
    let line = Slope::of(&line);
    assert!(
        (line.slope - 3.0).abs() < 1e-12 && line.error < 1e-9,
        "{line:?}"
    );
}

/// Worked by hand: residuals 0.1, -0.2, 0.1 give s² = 0.06, and Σ(x - x̄)² = 2.
#[test]
fn the_error_of_a_slope_is_that_of_the_textbook() {
    let line = Slope::of(&[(0.0, 0.1), (1.0, 0.8), (2.0, 2.1)]);
    assert!((line.slope - 1.0).abs() < 1e-12, "{line:?}");
    assert!(
        (line.error - (0.06f64 / 2.0).sqrt()).abs() < 1e-12,
        "{line:?}"
    );
}

#[test]
fn a_line_needs_three_points_and_some_width() {
    assert_eq!(Slope::of(&[(0.0, 1.0), (1.0, 2.0)]).slope, 0.0);
    assert_eq!(Slope::of(&[(1.0, 1.0), (1.0, 2.0), (1.0, 9.0)]).slope, 0.0);
    assert_eq!(Slope::of(&[]).points, 0);
}

#[test]
fn events_are_counted_wherever_the_reads_are_cut() {
    let text =
        b"data: {\"delta\":{\"content\":\"\"}}\n\ndata: {\"delta\":{\"content\": \"a\"}}\n\n\
        data: {\"delta\":{\"content\":\"b\"}}\n\ndata: [DONE]\n\n";
    for cut in 0..text.len() {
        let mut reader = Reader::default();
        reader.events(&text[..cut]);
        reader.events(&text[cut..]);
        assert_eq!(
            (reader.chunks, reader.done, reader.error),
            (2, true, false),
            "cut at {cut}"
        );
    }
}

#[test]
fn a_tree_is_measured_with_its_children_and_ends_with_them() {
    let log = std::env::temp_dir().join(format!("tree-{}.log", std::process::id()));
    let mut tree = Tree::start(
        Command::new("sh").args(["-c", "sleep 100 & sleep 100"]),
        &log,
    )
    .unwrap();
    while tree.pids().len() < 3 {
        std::thread::yield_now();
    }
    let pids = tree.pids();
    assert!(tree.rss_mb() > 0.1 && tree.threads() == 3.0 && tree.ended().is_none());
    tree.kill();
    let running = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
    };
    while pids.iter().any(running) {
        std::thread::yield_now();
    }
    fs::remove_file(log).unwrap();
}
