use proptest::prelude::*;

use super::canvas::escaped;
use super::*;
use crate::eval::metrics::{self, Outcome};

/// Whether tags nest, attributes are quoted and nothing unescaped is left: enough of XML for what is written.
fn well_formed(svg: &str) -> bool {
    let mut open = Vec::new();
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        let Some(end) = rest[start..].find('>').map(|end| start + end) else {
            return false;
        };
        if rest[..start].contains('>') {
            return false;
        }
        let tag = &rest[start + 1..end];
        if tag.contains('<') || !tag.matches('"').count().is_multiple_of(2) {
            return false;
        }
        let name = |tag: &str| tag.split([' ', '\n']).next().unwrap_or("").to_owned();
        if let Some(closed) = tag.strip_prefix('/') {
            if open.pop() != Some(name(closed)) {
                return false;
            }
        } else if !tag.ends_with('/') {
            open.push(name(tag));
        }
        rest = &rest[end + 1..];
    }
    open.is_empty() && rest.trim().is_empty()
}

fn point<'a>(label: &'a str, x: f64, y: f64, group: &'a str) -> Point<'a> {
    Point { label, x, y, group }
}

#[test]
fn the_points_nothing_beats_are_joined_and_no_others() {
    let points = [
        point("cheap", 0.1, 60.0, "model"),
        point("beaten", 0.5, 55.0, "model"),
        point("good", 1.0, 80.0, "auto"),
        point("dear", 3.0, 80.0, "vote"),
    ];
    let svg = frontier(&points, "t");
    let front = svg.lines().find(|line| line.contains("#2f855a")).unwrap();
    assert_eq!(front.matches(',').count(), 2, "{front}");
    let bold = |label: &str| {
        let end = format!(">{label}</text>");
        svg.lines()
            .find(|line| line.ends_with(&end))
            .is_some_and(|line| line.contains("font-weight"))
    };
    assert!(bold("cheap") && bold("good"));
    assert!(!bold("beaten") && !bold("dear"));
}

#[test]
fn what_costs_nothing_has_a_column_and_what_is_no_number_is_left_out() {
    let svg = frontier(
        &[
            point("local", 0.0, 40.0, "model"),
            point("paid", 1.0, 50.0, "model"),
            point("nan", f64::NAN, 50.0, "model"),
            point("infinite", 1.0, f64::INFINITY, "model"),
        ],
        "t",
    );
    assert!(svg.contains(">free</text>"));
    assert!(!svg.contains(">nan") && !svg.contains(">infinite") && !svg.contains("NaN"));
}

#[test]
fn the_legend_names_the_groups_that_are_there() {
    let svg = frontier(
        &[point("a", 1.0, 1.0, "auto"), point("b", 2.0, 1.0, "mine")],
        "t",
    );
    assert!(svg.contains(">auto</text>") && svg.contains(">mine</text>"));
    assert!(!svg.contains(">cascade</text>"));
}

#[test]
fn text_cannot_leave_its_place() {
    assert_eq!(
        escaped("a<b & \"c\" 'd'>\u{1}"),
        "a&lt;b &amp; &quot;c&quot; &#39;d&#39;&gt;\u{fffd}"
    );
    let evil = "</text><script>alert('&')</script>\"";
    let svgs = [
        frontier(&[point(evil, 1.0, 1.0, evil)], evil),
        reliability(&[], evil, evil),
    ];
    for svg in svgs {
        assert!(well_formed(&svg), "{svg}");
        assert!(!svg.contains("<script"));
    }
}

#[test]
fn nothing_to_show_is_still_a_plot() {
    assert!(well_formed(&frontier(&[], "none")));
    assert!(well_formed(&reliability(&[], "none", "")));
    assert!(!frontier(&[], "none").contains("NaN"));
}

#[test]
fn a_reliability_diagram_has_a_dot_for_each_bin_with_outcomes() {
    let outcomes = [(true, 0.9), (false, 0.95), (true, 0.2)]
        .map(|(right, confidence)| Outcome { right, confidence });
    let bins = metrics::reliability(&outcomes, 10).unwrap();
    let svg = reliability(&bins, "t", "s");
    assert!(well_formed(&svg));
    assert_eq!(svg.matches("<circle").count(), 2);
    assert!(svg.contains("2 answers"));
}

proptest! {
    #[test]
    fn any_points_make_a_well_formed_plot(
        points in proptest::collection::vec((".{0,9}", any::<f64>(), any::<f64>(), "[a-z]{0,3}"), 0..12),
        title in ".{0,30}"
    ) {
        let points: Vec<_> = points.iter().map(|(l, x, y, g)| point(l, *x, *y, g)).collect();
        prop_assert!(well_formed(&frontier(&points, &title)));
    }

    #[test]
    fn usual_points_lie_within_the_plot(
        points in proptest::collection::vec((0.0..1e4f64, 0.0..100.0f64), 1..12)
    ) {
        let points: Vec<_> = points.iter().map(|&(x, y)| point("p", x, y, "model")).collect();
        let svg = frontier(&points, "t");
        for line in svg.lines().filter(|line| line.starts_with("<circle")) {
            let number = |name: &str| -> f64 {
                let after = line.split(&format!("{name}=\"")).nth(1).unwrap();
                after.split('"').next().unwrap().parse().unwrap()
            };
            prop_assert!((60.0..840.0).contains(&number("cx")), "{}", line);
            prop_assert!((40.0..480.0).contains(&number("cy")), "{}", line);
        }
    }
}
