//! Quantities as answers write them: `$1,234.50`, `3/4`, `75%`, `1.5e3`, `1 1/2`, `five`, `5 ft 3 in`.

use super::exact::{Decimal, Number, Ratio};
use super::latex;
use super::number_words::{SCALES, spelt, word_value};
use super::units::{Dimension, Unit};

/// Nothing longer, in bytes, is one quantity.
const LONGEST: usize = 160;

/// The one way to write the quantity that the whole text is, in base units. A number without a unit is in the
/// `expected` one. `counted`: nouns may follow, as in `12 red apples`.
pub(super) fn read(text: &str, expected: Option<Unit>, counted: bool) -> Option<String> {
    if text.len() > LONGEST || text.is_empty() {
        return None;
    }
    let text = latex::plain(text).to_lowercase();
    let text = unhedged(after_equals(text.trim()));
    let (quantity, rest) = scan(text)?;
    if !(rest.is_empty() || counted && nouns(rest)) {
        return None;
    }
    Some(quantity.write(expected))
}

/// A number and what it measures.
pub(super) struct Quantity {
    number: Number,
    unit: Option<Unit>,
}

impl Quantity {
    /// In base units; without a unit it is in the `expected` one.
    pub(super) fn write(&self, expected: Option<Unit>) -> String {
        let Some(unit) = self.unit.or(expected) else {
            return self.number.write();
        };
        let (up, down) = unit.factor;
        let scaled = match self.number.ratio() {
            Some(ratio) => Ratio::new(up, down).and_then(|factor| ratio.times(factor)),
            None => None,
        };
        match scaled {
            Some(ratio) => format!("{}{}", Number::Ratio(ratio).write(), unit.base()),
            None if unit.factor == (1, 1) => format!("{}{}", self.number.write(), unit.base()),
            // Too long to convert: told apart by its factor.
            None => format!("{}*{up}/{down}{}", self.number.write(), unit.base()),
        }
    }
}

/// `x = 5` says 5.
fn after_equals(text: &str) -> &str {
    match text.split_once(['=', '\u{2248}']) {
        Some((name, value)) if name.len() <= 20 && !name.contains(|c: char| c.is_ascii_digit()) => {
            let name = name.trim();
            let one = name
                .chars()
                .all(|c| c.is_alphanumeric() || ['(', ')', '_', '\''].contains(&c));
            if one { value.trim_start() } else { text }
        }
        _ => text,
    }
}

fn unhedged(text: &str) -> &str {
    const HEDGES: [&str; 8] = [
        "approximately ",
        "about ",
        "roughly ",
        "around ",
        "exactly ",
        "a total of ",
        "~",
        "\u{2248}",
    ];
    let bare = HEDGES.iter().find_map(|hedge| text.strip_prefix(hedge));
    bare.map_or(text, str::trim_start)
}

/// The quantity at the start of a text in lower case, and what follows.
pub(super) fn scan(text: &str) -> Option<(Quantity, &str)> {
    let (first, mut rest) = single(text)?;
    let mut whole = first;
    // `5 ft 3 in` is a sum; a number that follows a plain one is not.
    while let Some(unit) = whole.unit
        && unit.dimension != Dimension::None
    {
        let next = rest.trim_start();
        let next = next.strip_prefix("and ").unwrap_or(next);
        let Some((more, after)) = single(next) else {
            break;
        };
        let sum = more.unit.filter(|more| more.dimension == unit.dimension);
        let Some(sum) = sum.and_then(|finer| sum_in(&whole, unit, &more, finer)) else {
            break;
        };
        (whole.number, rest) = (Number::Ratio(sum), after);
    }
    Some((whole, rest))
}

fn sum_in(a: &Quantity, unit: Unit, b: &Quantity, finer: Unit) -> Option<Ratio> {
    let own = Ratio::new(unit.factor.0, unit.factor.1)?;
    let other = Ratio::new(finer.factor.0, finer.factor.1)?;
    let more = b.number.ratio()?.times(other)?.over(own)?;
    a.number.ratio()?.plus(more)
}

fn single(text: &str) -> Option<(Quantity, &str)> {
    let (negative, rest) = sign(text);
    let (currency, rest) = currency(rest);
    let (negative, rest) = match sign(rest) {
        (true, _) if negative => return None,
        (true, rest) => (true, rest),
        (false, _) => (negative, rest),
    };
    let (number, rest) = spelt(rest).or_else(|| digits(rest))?;
    let (number, rest) = scaled(number, rest);
    let number = if negative { number.negated() } else { number };
    if let Some(unit) = currency {
        let unit = Some(unit);
        return Some((Quantity { number, unit }, rest.trim_start()));
    }
    let tail = rest.trim_start();
    let bare = tail.strip_prefix('-').unwrap_or(tail);
    match Unit::leading(bare) {
        Some((unit, rest)) => {
            let unit = Some(unit);
            Some((Quantity { number, unit }, rest.trim_start()))
        }
        // What touches the number belongs to it: `5!`, `3-4`, `10th`, `1/5/2024`.
        None if rest.starts_with(|c: char| !c.is_whitespace() && !",;.)".contains(c)) => None,
        None => Some((Quantity { number, unit: None }, tail)),
    }
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text.strip_prefix('+').unwrap_or(text).trim_start()),
    }
}

fn currency(text: &str) -> (Option<Unit>, &str) {
    let sign = text
        .chars()
        .next()
        .filter(|c| "$\u{20ac}\u{a3}\u{a5}".contains(*c));
    let Some(sign) = sign else {
        return (None, text);
    };
    let (name, rest) = text.split_at(sign.len_utf8());
    (Unit::named(name), rest.trim_start())
}

/// A number in digits: decimal, with an exponent, a power, a fraction or a mixed number.
fn digits(text: &str) -> Option<(Number, &str)> {
    let (number, mut rest) = decimal(text)?;
    let Some(mut ratio) = number.ratio() else {
        return Some((number, rest));
    };
    let small = |text: &str| {
        let (negative, text) = sign(text.trim_start_matches('('));
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let size: i32 = text[..end].parse().ok().filter(|size| *size <= 400)?;
        let rest = text[end..].trim_start_matches(')').to_owned().len();
        Some((if negative { -size } else { size }, rest))
    };
    if let Some(after) = rest.strip_prefix('^') {
        let (exponent, left) = small(after)?;
        ratio = ratio.power(exponent)?;
        rest = &rest[rest.len() - left..];
    }
    let times = rest.trim_start();
    let times = times
        .strip_prefix(['*', '\u{d7}', '\u{b7}'])
        .or_else(|| times.strip_prefix("x "));
    if let Some(after) = times.and_then(|after| after.trim_start().strip_prefix("10^")) {
        let (exponent, left) = small(after)?;
        ratio = ratio.times(Ratio::new(10, 1)?.power(exponent)?)?;
        rest = &rest[rest.len() - left..];
    }
    let over = rest.trim_start().strip_prefix('/');
    if let Some((below, after)) = over.and_then(|over| decimal(over.trim_start())) {
        ratio = ratio.over(below.ratio()?)?;
        rest = after;
    } else if ratio.is_whole()
        && let Some(next) = rest.strip_prefix(' ')
        && let Some((above, after)) = decimal(next)
        && let Some((below, after)) = after.strip_prefix('/').and_then(decimal)
    {
        ratio = ratio.plus(above.ratio()?.over(below.ratio()?)?)?;
        rest = after;
    }
    Some((Number::Ratio(ratio), rest))
}

/// An unsigned decimal with or without thousands separators and exponent.
fn decimal(text: &str) -> Option<(Number, &str)> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let run = |from: usize| {
        from + bytes[from..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let mut end = run(0);
    let mut whole = text[..end].to_owned();
    let head = end;
    while (1..=3).contains(&head) && bytes.get(end) == Some(&b',') && run(end + 1) == end + 4 {
        whole.push_str(&text[end + 1..end + 4]);
        end += 4;
    }
    // `1,00` and `1,2` are a decimal comma or two numbers.
    if bytes.get(end) == Some(&b',') && digit(end + 1) {
        return None;
    }
    // A leading zero makes it a code: 007 is not 7.
    if whole.len() > 1 && whole.starts_with('0') {
        return None;
    }
    let mut fraction = "";
    if bytes.get(end) == Some(&b'.') && digit(end + 1) {
        let stop = run(end + 1);
        fraction = &text[end + 1..stop];
        end = stop;
    }
    // `1.2.3` is a version.
    if bytes.get(end) == Some(&b'.') && digit(end + 1) {
        return None;
    }
    let mut exponent = 0i32;
    if bytes.get(end) == Some(&b'e') {
        let signed = bytes.get(end + 1).is_some_and(|b| b"+-".contains(b));
        let start = end + 1 + usize::from(signed);
        if digit(start) {
            let stop = run(start);
            exponent = text[start..stop].parse().ok()?;
            if bytes.get(end + 1) == Some(&b'-') {
                exponent = -exponent;
            }
            end = stop;
        }
    }
    whole.push_str(fraction);
    let places = i32::try_from(fraction.len()).ok()?;
    let decimal = Decimal::new(false, &whole, exponent.checked_sub(places)?)?;
    Some((decimal.number(), &text[end..]))
}

/// `1.5 million`.
fn scaled(number: Number, rest: &str) -> (Number, &str) {
    let next = rest.trim_start();
    for (name, scale) in SCALES {
        if let Some(after) = next.strip_prefix(name)
            && !after.starts_with(|c: char| c.is_alphanumeric())
            && let Some(ratio) = number.ratio()
            && let Some(ratio) = Ratio::new(scale, 1).and_then(|scale| ratio.times(scale))
        {
            return (Number::Ratio(ratio), after);
        }
    }
    (number, rest)
}

/// Up to four words that name what is counted and say nothing else.
fn nouns(text: &str) -> bool {
    const SAY_MORE: [&str; 20] = [
        "per",
        "square",
        "cubic",
        "or",
        "and",
        "to",
        "times",
        "not",
        "than",
        "more",
        "less",
        "fewer",
        "if",
        "but",
        "plus",
        "minus",
        "over",
        "out",
        "each",
        "remainder",
    ];
    let mut count = 0;
    text.split_whitespace().all(|word| {
        count += 1;
        let word = word.trim_end_matches(['.', ',', ')']);
        count <= 4
            && word
                .chars()
                .all(|c| c.is_alphabetic() || c == '-' || c == '\'')
            && word.chars().count() >= 2
            && !SAY_MORE.contains(&word)
            && Unit::named(word).is_none()
            && word_value(word).is_none()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn same(texts: &[&str], expected: Option<&str>) {
        for text in texts {
            assert_eq!(read(text, None, false).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn quantities_are_read_by_value() {
        same(
            &[
                "1,000",
                "1000.0",
                "$1,000.00",
                "+1000",
                "1e3",
                "10^3",
                "1 * 10^3",
                "one thousand",
                "1\u{d7}10^3",
                "1{,}000\\,",
            ],
            Some("1000"),
        );
        same(
            &[
                "3/4",
                "0.75",
                ".75",
                "75%",
                "75 percent",
                "\\frac{3}{4}",
                "$\\dfrac34$",
                "x = 0.75",
                "three quarters",
                "75\\%",
                "\u{2248} 0.75",
            ],
            Some("0.75"),
        );
        same(&["1 1/2", "1\\frac{1}{2}", "3/2", "1.5"], Some("1.5"));
        same(
            &["-1/3", "\\frac{-1}{3}", "-\\frac{2}{6}", "\u{2212}1/3"],
            Some("-1/3"),
        );
        same(
            &[
                "five",
                "5",
                "5.00",
                "about 5",
                "5 dollars",
                "\\$5",
                "500 cents",
            ],
            Some("5"),
        );
        same(&["twenty-five", "25"], Some("25"));
        same(
            &["two hundred and seven thousand three hundred twelve"],
            Some("207312"),
        );
        same(&["1.5 million", "1,500,000"], Some("1500000"));
        same(
            &["5 ft 3 in", "63 inches", "5 feet and 3 inches"],
            Some("1.6002 m"),
        );
        same(&["2 hours 30 minutes", "150 min", "2.5 h"], Some("9000 s"));
        same(&["\u{20ac}1,000", "1000 euros"], Some("1000 \u{20ac}"));
        same(&["90^\\circ", "90\u{b0}", "90 degrees", "90"], Some("90"));
        same(&["-0", "0.0"], Some("0"));
    }

    #[test]
    fn what_is_no_single_quantity_is_none() {
        same(
            &[
                "5!",
                "007",
                "1,00",
                "3-4",
                "10th",
                "1/5/2024",
                "1.2.3",
                "5 or 6",
                "12 apples",
                "",
                "x",
                "3:4",
                "1/0",
                "and",
                "hundred",
                "five twenty",
                "one two",
                "--5",
                "2x",
                "second",
                "5 +- 1",
                "2024-01-05",
                "5 ft 3",
                "sqrt(3)/2",
                "12 m 5 s",
            ],
            None,
        );
    }

    #[test]
    fn the_expected_unit_is_that_of_a_bare_number() {
        let of = |text: &str, unit: &str| read(text, Unit::named(unit), false);
        assert_eq!(of("75", "percent"), of("75%", "percent"));
        assert_eq!(of("12", "km"), of("12,000 m", "km"));
        assert_ne!(of("12", "km"), of("12 m", "km"));
        assert_eq!(of("50", "cents"), of("$0.50", "cents"));
    }

    #[test]
    fn counted_things_say_no_more_than_their_number() {
        let of = |text: &str| read(text, None, true);
        assert_eq!(of("12 red apples"), Some("12".into()));
        assert_eq!(of("12 of them."), Some("12".into()));
        for text in [
            "12 or more",
            "12 square feet away",
            "12 apples per day",
            "12 apples and 3 pears",
            "12 + 3",
        ] {
            assert_eq!(of(text).filter(|n| n == "12"), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn numbers_are_equal_when_their_values_are(
            a in -20_000i64..20_000, b in -20_000i64..20_000, k in 1i64..50,
        ) {
            let plain = read(&a.to_string(), None, false);
            for other in [format!("{b}.00"), format!("{}/{k}", b * k), format!("{b}e0"), format!("\\frac{{{}}}{{{k}}}", b * k)] {
                prop_assert_eq!(plain == read(&other, None, false), a == b, "{}", other);
            }
        }

        #[test]
        fn any_text_is_borne(text in "[-+$0-9.,/^*e% a-d()]{0,30}|.*|(five |thirty|-|million |and ){0,9}") {
            read(&text, None, true);
        }
    }
}
