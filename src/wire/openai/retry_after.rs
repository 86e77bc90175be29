//! When to try again, from the headers of a refusal.

use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};

/// Nobody is believed who wants us to wait longer than a day.
const LONGEST: f64 = 86_400.0;

/// How long to wait, by the most exact of what the headers say: `retry-after-ms`, `retry-after` (seconds or a
/// date, RFC 9110 section 10.2.3), then the `x-ratelimit-reset` family.
///
/// Dates are compared with the answer's own `date`, so that neither clock has to be right.
pub(super) fn read(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let now = text(DATE.as_str()).and_then(date);
    let exact = || Some(text("retry-after-ms")?.parse::<f64>().ok()? / 1e3);
    let standard = || {
        let text = text(RETRY_AFTER.as_str())?;
        text.parse().ok().or_else(|| Some(date(text)? - now?))
    };
    let reset = || {
        let seconds = span(text("x-ratelimit-reset")?)?;
        // OpenRouter gives a moment, in milliseconds; others a moment in seconds, or a span.
        match seconds {
            moment if moment > 1e11 => Some(moment / 1e3 - now?),
            moment if moment > 1e9 => Some(moment - now?),
            span => Some(span),
        }
    };
    let seconds = exact()
        .or_else(standard)
        .or_else(|| exhausted(&text))
        .or_else(reset)?;
    seconds
        .is_finite()
        .then(|| Duration::from_secs_f64(seconds.clamp(0.0, LONGEST)))
}

/// OpenAI's pairs of what remains and when it is full again. A used-up limit is what refused us; if none is,
/// the request was larger than what remains, and the sooner reset is the better guess.
fn exhausted<'a>(text: &impl Fn(&str) -> Option<&'a str>) -> Option<f64> {
    let pairs = [
        (
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        ),
        ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ];
    let resets = || {
        pairs
            .iter()
            .filter_map(|(left, reset)| Some((text(left), span(text(reset)?)?)))
    };
    let used_up = resets()
        .filter(|(left, _)| *left == Some("0"))
        .map(|(_, reset)| reset)
        .reduce(f64::max);
    used_up.or_else(|| resets().map(|(_, reset)| reset).reduce(f64::min))
}

/// Seconds of a span such as `20ms`, `1s`, `6m0s`, `1h2m3.5s`, or of a bare number of seconds.
fn span(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit = rest[number..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |end| number + end);
        let scale = match &rest[number..unit] {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        seconds += rest[..number].parse::<f64>().ok()? * scale;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(seconds)
}

/// Seconds since 1970 of an HTTP date in the one form that may still be sent, `Sun, 06 Nov 1994 08:49:37 GMT`
/// (RFC 9110, section 5.6.7).
fn date(text: &str) -> Option<f64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (_, text) = text.split_once(", ")?;
    let mut words = text.split(' ');
    let day: i64 = words.next()?.parse().ok()?;
    let month = words
        .next()
        .filter(|month| month.len() == 3)
        .and_then(|month| MONTHS.find(month))?;
    let month = i64::try_from(month).ok().filter(|at| at % 3 == 0)? / 3 + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words
        .next()?
        .split(':')
        .map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let sane = (1..=31).contains(&day) && (1970..=9999).contains(&year);
    let sane =
        sane && (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
    if !sane || words.next() != Some("GMT") {
        return None;
    }
    // Days since 1970 in a calendar whose year begins in March, so that a leap day comes last
    // (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    Some((days * 86_400 + hour * 3600 + minute * 60 + second) as f64)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn wait(headers: &[(&'static str, &'static str)]) -> Option<f64> {
        let headers = headers.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        read(&headers.collect()).map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn each_form_is_understood_and_the_most_exact_wins() {
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&[("retry-after", "5")]), Some(5.0));
        assert_eq!(wait(&[("retry-after", "1.5")]), Some(1.5));
        assert_eq!(
            wait(&[("retry-after", "5"), ("retry-after-ms", "4200")]),
            Some(4.2)
        );
        assert_eq!(
            wait(&[("retry-after", "5"), ("x-ratelimit-reset-tokens", "9s")]),
            Some(5.0)
        );
        assert_eq!(
            wait(&[("retry-after", "soon"), ("x-ratelimit-reset", "9")]),
            Some(9.0)
        );
    }

    #[test]
    fn a_date_is_compared_with_the_answers_own() {
        let date = ("date", "Tue, 29 Feb 2028 23:59:50 GMT");
        assert_eq!(
            wait(&[("retry-after", "Wed, 01 Mar 2028 00:00:20 GMT"), date]),
            Some(30.0)
        );
        assert_eq!(
            wait(&[("retry-after", "Tue, 29 Feb 2028 23:00:00 GMT"), date]),
            Some(0.0)
        );
        assert_eq!(
            wait(&[("retry-after", "Wed, 01 Mar 2028 00:00:20 GMT")]),
            None
        );
        assert_eq!(
            wait(&[("x-ratelimit-reset", "1835481630"), date]),
            Some(40.0)
        );
        assert_eq!(
            wait(&[("x-ratelimit-reset", "1835481630000"), date]),
            Some(40.0)
        );
    }

    #[test]
    fn a_used_up_limit_is_the_one_to_wait_for() {
        let both = [
            ("x-ratelimit-reset-requests", "6m0s"),
            ("x-ratelimit-reset-tokens", "20ms"),
        ];
        assert_eq!(wait(&both), Some(0.02));
        let mut used_up = both.to_vec();
        used_up.push(("x-ratelimit-remaining-requests", "0"));
        assert_eq!(wait(&used_up), Some(360.0));
    }

    #[test]
    fn spans_are_read_in_every_unit() {
        let table = [
            ("20ms", 0.02),
            ("1s", 1.0),
            ("6m0s", 360.0),
            ("1h2m3.5s", 3723.5),
            ("1d", 86400.0),
            ("0", 0.0),
        ];
        for (text, seconds) in table {
            assert_eq!(span(text), Some(seconds), "{text}");
        }
        for text in ["", "s", "1x", "1s2", "ms", "1..5s", "é"] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn dates_are_read_in_the_one_form() {
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777.0));
        assert_eq!(date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0.0));
        for text in [
            "",
            "06 Nov 1994",
            "Sun, 06 anF 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
        ] {
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn nonsense_and_endless_waits_are_bounded() {
        assert_eq!(wait(&[("retry-after", "-5")]), Some(0.0));
        assert_eq!(wait(&[("retry-after", "1e300")]), Some(LONGEST));
        assert_eq!(wait(&[("retry-after", "NaN")]), None);
        assert_eq!(wait(&[("retry-after", "inf")]), None);
    }
}
