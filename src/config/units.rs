//! Durations and sizes as an operator writes them, and the word they may have meant.

use std::time::Duration;

/// Milliseconds of each unit, longest first.
const TIMES: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Bytes of each unit: decimal without an `i`, binary with one.
const SIZES: [(&str, u64); 7] = [
    ("B", 1),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Reads `250ms`, `30s`, `5m`, `2h` or `7d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    amount(text, &TIMES).map(Duration::from_millis)
}

/// Reads `10MB`, `512KiB` or `1048576`.
pub(super) fn size(text: &str) -> Option<u64> {
    if let Ok(bytes) = text.parse() {
        return Some(bytes);
    }
    amount(text, &SIZES)
}

fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A duration in the largest unit that needs no fraction; reads back as the same duration, down to
/// milliseconds.
pub(super) fn show(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits = |(_, factor): &&(&str, u64)| millis >= *factor && millis.is_multiple_of(*factor);
    let (unit, factor) = TIMES.iter().find(fits).unwrap_or(&("ms", 1));
    format!("{}{unit}", millis / factor)
}

/// The word of `known` that `word` is most likely a slip of: the closest by edit distance (Levenshtein
/// 1966), if no more than a third of it, rounded up, would have to change.
pub(super) fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |candidate: &&str| distance(word, candidate);
    let closest = known.into_iter().min_by_key(near)?;
    (distance(word, closest) <= closest.chars().count().div_ceil(3)).then_some(closest)
}

fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_sizes_do_not() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("5m"), Some(Duration::from_secs(300)));
        assert_eq!(duration("7 d"), Some(Duration::from_secs(604_800)));
        for bad in [
            "5",
            "",
            "s",
            "-1s",
            "1.5s",
            "5 minutes",
            "99999999999999999999d",
            "1M",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(size("10MB"), Some(10_000_000));
        assert_eq!(size("1KiB"), Some(1024));
        assert_eq!(size("17"), Some(17));
        for bad in ["", "MB", "-1", "1TB", "1.5MB", "99999999999999999999GB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_shown_duration_reads_back_as_itself() {
        for text in ["1ms", "250ms", "90s", "5m", "36h", "30d", "0ms"] {
            assert_eq!(duration(text).map(show).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["per_user", "total", "queue"];
        assert_eq!(meant("per_usr", known), Some("per_user"));
        assert_eq!(meant("totla", known), Some("total"));
        assert_eq!(meant("quee", known), Some("queue"));
        assert_eq!(meant("colour", known), None);
        assert_eq!(meant("x", []), None);
    }
}
