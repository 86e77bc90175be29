//! Numbers compared by value, without rounding.

/// More digits than this are kept as they are written and take part in no arithmetic.
const ARITHMETIC_DIGITS: usize = 27;

/// A number as it was given: a fraction if it is small enough to calculate with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Ratio(Ratio),
    Long(Decimal),
}

/// `numerator / denominator`, in lowest terms, the denominator positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ratio {
    up: i128,
    down: i128,
}

/// `digits · 10^exponent`; the digits neither begin nor end with 0, none are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    negative: bool,
    digits: String,
    exponent: i32,
}

impl Ratio {
    /// `None` for a denominator of zero, or what is too large.
    pub(super) fn new(up: i128, down: i128) -> Option<Self> {
        if down == 0 || up == i128::MIN || down == i128::MIN {
            return None;
        }
        let (mut a, mut b) = (up.abs(), down.abs());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let sign = down.signum();
        Some(Self {
            up: sign * up / a.max(1),
            down: down.abs() / a.max(1),
        })
    }

    pub(super) fn times(self, other: Self) -> Option<Self> {
        Self::new(
            self.up.checked_mul(other.up)?,
            self.down.checked_mul(other.down)?,
        )
    }

    pub(super) fn over(self, other: Self) -> Option<Self> {
        Self::new(
            self.up.checked_mul(other.down)?,
            self.down.checked_mul(other.up)?,
        )
    }

    pub(super) fn plus(self, other: Self) -> Option<Self> {
        let left = self.up.checked_mul(other.down)?;
        let right = other.up.checked_mul(self.down)?;
        Self::new(left.checked_add(right)?, self.down.checked_mul(other.down)?)
    }

    pub(super) fn power(self, exponent: i32) -> Option<Self> {
        let size = exponent.unsigned_abs();
        let (up, down) = (self.up.checked_pow(size)?, self.down.checked_pow(size)?);
        if exponent < 0 {
            Self::new(down, up)
        } else {
            Self::new(up, down)
        }
    }

    pub(super) fn negated(self) -> Self {
        Self {
            up: -self.up,
            down: self.down,
        }
    }

    pub(super) fn is_whole(self) -> bool {
        self.down == 1
    }

    /// As a decimal, if it has finitely many digits.
    fn decimal(self) -> Option<Decimal> {
        let (mut rest, mut twos, mut fives) = (self.down, 0i32, 0i32);
        while rest % 2 == 0 {
            (rest, twos) = (rest / 2, twos + 1);
        }
        while rest % 5 == 0 {
            (rest, fives) = (rest / 5, fives + 1);
        }
        if rest != 1 {
            return None;
        }
        let places = twos.max(fives);
        let missing = if twos < fives { 2i128 } else { 5 };
        let scale = missing.checked_pow(twos.abs_diff(fives))?;
        let digits = self.up.checked_mul(scale)?;
        Decimal::new(self.up < 0, &digits.unsigned_abs().to_string(), -places)
    }
}

impl Decimal {
    /// `None` if the exponent is beyond any sense, or `digits` holds anything else.
    pub(super) fn new(negative: bool, digits: &str, exponent: i32) -> Option<Self> {
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits = digits.trim_start_matches('0');
        let kept = digits.trim_end_matches('0');
        let dropped = i32::try_from(digits.len() - kept.len()).ok()?;
        let exponent = exponent.checked_add(dropped)?;
        if exponent.abs() > 100_000 {
            return None;
        }
        Some(Self {
            negative: negative && !kept.is_empty(),
            digits: kept.to_owned(),
            exponent: if kept.is_empty() { 0 } else { exponent },
        })
    }

    /// As a number to calculate with, if it is short enough.
    pub(super) fn number(self) -> Number {
        match self.ratio() {
            Some(ratio) => Number::Ratio(ratio),
            None => Number::Long(self),
        }
    }

    fn ratio(&self) -> Option<Ratio> {
        if self.digits.is_empty() {
            return Ratio::new(0, 1);
        }
        let size = self.exponent.unsigned_abs();
        if self.digits.len() + size as usize > ARITHMETIC_DIGITS {
            return None;
        }
        let up: i128 = self.digits.parse().ok()?;
        let up = if self.negative { -up } else { up };
        let scale = 10i128.checked_pow(size)?;
        if self.exponent < 0 {
            Ratio::new(up, scale)
        } else {
            Ratio::new(up.checked_mul(scale)?, 1)
        }
    }

    fn write(&self) -> String {
        /// Beyond so many places, powers of ten are clearer.
        const PLACES: i32 = 40;
        let sign = if self.negative { "-" } else { "" };
        let (digits, exponent) = (&self.digits, self.exponent);
        if digits.is_empty() {
            return "0".to_owned();
        }
        let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
        if (0..=PLACES).contains(&exponent) {
            let zeros = "0".repeat(exponent.unsigned_abs() as usize);
            format!("{sign}{digits}{zeros}")
        } else if (-PLACES..0).contains(&exponent) {
            let whole = length + exponent;
            if whole > 0 {
                let (whole, fraction) = digits.split_at(whole.unsigned_abs() as usize);
                format!("{sign}{whole}.{fraction}")
            } else {
                let zeros = "0".repeat(whole.unsigned_abs() as usize);
                format!("{sign}0.{zeros}{digits}")
            }
        } else {
            format!("{sign}{digits}e{exponent}")
        }
    }
}

impl Number {
    /// The one way to write this value: `0.75`, `1000`, `1/3`.
    pub(super) fn write(&self) -> String {
        match self {
            Self::Long(decimal) => decimal.write(),
            Self::Ratio(ratio) => match ratio.decimal() {
                Some(decimal) => decimal.write(),
                None => format!("{}/{}", ratio.up, ratio.down),
            },
        }
    }

    pub(super) fn ratio(&self) -> Option<Ratio> {
        match self {
            Self::Ratio(ratio) => Some(*ratio),
            Self::Long(_) => None,
        }
    }

    pub(super) fn negated(self) -> Self {
        match self {
            Self::Ratio(ratio) => Self::Ratio(ratio.negated()),
            Self::Long(mut decimal) => {
                decimal.negative = !decimal.negative;
                Self::Long(decimal)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_written_in_one_way() {
        let decimal = |digits: &str, exponent| {
            Decimal::new(false, digits, exponent)
                .unwrap()
                .number()
                .write()
        };
        assert_eq!(decimal("1500", -3), "1.5");
        assert_eq!(decimal("15", 2), "1500");
        assert_eq!(decimal("005", -3), "0.005");
        assert_eq!(decimal("0", 9), "0");
        assert_eq!(decimal("1", 60), "1e60");
        let ratio = |up, down| Number::Ratio(Ratio::new(up, down).unwrap()).write();
        assert_eq!(ratio(-6, 8), "-0.75");
        assert_eq!(ratio(6, -9), "-2/3");
        assert_eq!(ratio(40, 2), "20");
        assert_eq!(Ratio::new(1, 0), None);
    }

    proptest! {
        #[test]
        fn short_and_long_paths_write_alike(up in -1_000_000_000i64..1_000_000_000, places in -12i32..12) {
            let decimal =
                Decimal::new(up < 0, &up.unsigned_abs().to_string(), places).unwrap();
            prop_assert_eq!(Number::Long(decimal.clone()).write(), decimal.number().write());
        }

        #[test]
        fn any_size_is_borne(a in any::<i128>(), b in any::<i128>(), n in any::<i32>(), d in "[0-9]{0,60}") {
            if let (Some(x), Some(y)) = (Ratio::new(a, b), Ratio::new(b, a)) {
                x.times(y);
                x.plus(y);
                x.over(y);
                x.power(n % 200);
                Number::Ratio(x).negated().write();
            }
            Decimal::new(true, &d, n).map(|decimal| decimal.number().write());
        }
    }
}
