//! Units of measurement, as far as answers use them.

/// What is measured. Quantities of different dimensions are never equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Dimension {
    /// A plain number. Dollars and degrees are plain too: what asks for them leaves them out as often as not.
    None,
    Length,
    Area,
    Mass,
    Time,
    Months,
    Volume,
    Speed,
    Euro,
    Sterling,
    Yen,
    Celsius,
    Fahrenheit,
    Kelvin,
}

/// A unit: what it measures, and how many base units it is, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unit {
    pub(super) dimension: Dimension,
    /// Numerator and denominator.
    pub(super) factor: (i128, i128),
}

use Dimension::*;

/// Per cent: a hundredth.
pub(super) const PERCENT: Unit = Unit {
    dimension: None,
    factor: (1, 100),
};

/// Names in lower case, dimension, factor. The factors are those of the definitions (SI; international yard
/// and pound of 1959).
const UNITS: &[(&[&str], Dimension, (i128, i128))] = &[
    (&["%", "percent", "per cent"], None, (1, 100)),
    (&["$", "dollar", "dollars", "usd"], None, (1, 1)),
    (&["cent", "cents", "\u{a2}"], None, (1, 100)),
    (&["\u{b0}", "degree", "degrees", "deg"], None, (1, 1)),
    (&["\u{20ac}", "euro", "euros", "eur"], Euro, (1, 1)),
    (&["\u{a3}", "gbp"], Sterling, (1, 1)),
    (&["\u{a5}", "yen", "jpy"], Yen, (1, 1)),
    (
        &[
            "mm",
            "millimeter",
            "millimeters",
            "millimetre",
            "millimetres",
        ],
        Length,
        (1, 1000),
    ),
    (
        &[
            "cm",
            "centimeter",
            "centimeters",
            "centimetre",
            "centimetres",
        ],
        Length,
        (1, 100),
    ),
    (&["m", "meter", "meters", "metre", "metres"], Length, (1, 1)),
    (
        &["km", "kilometer", "kilometers", "kilometre", "kilometres"],
        Length,
        (1000, 1),
    ),
    (&["in", "inch", "inches"], Length, (254, 10_000)),
    (&["ft", "foot", "feet"], Length, (3048, 10_000)),
    (&["yd", "yard", "yards"], Length, (9144, 10_000)),
    (&["mi", "mile", "miles"], Length, (1_609_344, 1000)),
    (
        &[
            "cm^2",
            "cm\u{b2}",
            "square centimeters",
            "square centimetres",
        ],
        Area,
        (1, 10_000),
    ),
    (
        &["m^2", "m\u{b2}", "square meters", "square metres"],
        Area,
        (1, 1),
    ),
    (
        &["square feet", "ft^2", "ft\u{b2}"],
        Area,
        (9_290_304, 100_000_000),
    ),
    (
        &["square inches", "in^2", "in\u{b2}"],
        Area,
        (64_516, 100_000_000),
    ),
    (&["mg", "milligram", "milligrams"], Mass, (1, 1000)),
    (&["g", "gram", "grams"], Mass, (1, 1)),
    (&["kg", "kilogram", "kilograms", "kilos"], Mass, (1000, 1)),
    (
        &["lb", "lbs", "pound", "pounds"],
        Mass,
        (45_359_237, 100_000),
    ),
    (
        &["oz", "ounce", "ounces"],
        Mass,
        (28_349_523_125, 1_000_000_000),
    ),
    (&["ms", "millisecond", "milliseconds"], Time, (1, 1000)),
    (&["s", "sec", "secs", "second", "seconds"], Time, (1, 1)),
    (&["min", "mins", "minute", "minutes"], Time, (60, 1)),
    (&["h", "hr", "hrs", "hour", "hours"], Time, (3600, 1)),
    (&["day", "days"], Time, (86_400, 1)),
    (&["week", "weeks"], Time, (604_800, 1)),
    (&["month", "months"], Months, (1, 1)),
    (&["year", "years"], Months, (12, 1)),
    (
        &[
            "ml",
            "milliliter",
            "milliliters",
            "millilitre",
            "millilitres",
        ],
        Volume,
        (1, 1000),
    ),
    (&["l", "liter", "liters", "litre", "litres"], Volume, (1, 1)),
    (
        &["m/s", "meters per second", "metres per second"],
        Speed,
        (1, 1),
    ),
    (
        &["km/h", "kph", "kmh", "kilometers per hour"],
        Speed,
        (1000, 3600),
    ),
    (&["mph", "miles per hour"], Speed, (44_704, 100_000)),
    (&["\u{b0}c", "celsius", "degrees celsius"], Celsius, (1, 1)),
    (
        &["\u{b0}f", "fahrenheit", "degrees fahrenheit"],
        Fahrenheit,
        (1, 1),
    ),
    (&["kelvin", "kelvins"], Kelvin, (1, 1)),
];

impl Unit {
    /// The unit of this name, in lower case.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (_, dimension, factor) = UNITS.iter().find(|(names, ..)| names.contains(&name))?;
        Some(Self {
            dimension: *dimension,
            factor: *factor,
        })
    }

    /// The unit at the start of a text in lower case, of up to three words, and what follows.
    pub(super) fn leading(text: &str) -> Option<(Self, &str)> {
        let ends = text
            .char_indices()
            .filter(|(_, c)| c.is_whitespace() || [',', ';', '.', ')'].contains(c))
            .map(|(at, _)| at)
            .chain([text.len()]);
        let found: Vec<(Self, usize)> = ends
            .take(3)
            // "5 in total" is no length; "3 in" is.
            .filter(|&end| &text[..end] != "in" || text[end..].trim().is_empty())
            .filter_map(|end| Some((Self::named(&text[..end])?, end)))
            .collect();
        found.last().map(|&(unit, end)| (unit, &text[end..]))
    }

    /// The mark of its dimension after a number in base units.
    pub(super) fn base(self) -> &'static str {
        match self.dimension {
            None => "",
            Length => " m",
            Area => " m^2",
            Mass => " g",
            Time => " s",
            Months => " months",
            Volume => " l",
            Speed => " m/s",
            Euro => " \u{20ac}",
            Sterling => " \u{a3}",
            Yen => " \u{a5}",
            Celsius => " \u{b0}c",
            Fahrenheit => " \u{b0}f",
            Kelvin => " k",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_is_the_unit() {
        let rest = |text| Unit::leading(text).map(|(unit, rest)| (unit.dimension, rest));
        assert_eq!(rest("miles per hour"), Some((Speed, "")));
        assert_eq!(rest("miles, or so"), Some((Length, ", or so")));
        assert_eq!(rest("square meters"), Some((Area, "")));
        assert_eq!(rest("apples"), Option::None);
        assert_eq!(rest(""), Option::None);
    }

    #[test]
    fn names_are_unique_and_factors_positive() {
        let names: Vec<&str> = UNITS
            .iter()
            .flat_map(|(names, ..)| names.iter().copied())
            .collect();
        for (at, name) in names.iter().enumerate() {
            assert!(!names[..at].contains(name), "{name}");
        }
        assert!(UNITS.iter().all(|(_, _, (up, down))| *up > 0 && *down > 0));
    }
}
