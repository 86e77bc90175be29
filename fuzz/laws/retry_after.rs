//! When to try again: dates are read as the calendar has them, and whatever headers say, the wait is bounded. The
//! first eight bytes are two moments, the rest are headers, one a line.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use quorate::wire::openai::error;

/// Nobody makes us wait longer.
const DAY: u64 = 86_400;

/// The law.
pub fn holds(bytes: &[u8]) {
    let Some((moments, text)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    let [a, b, c, d, e, f, g, h] = *moments;
    let now = u64::from(u32::from_le_bytes([a, b, c, d])) * 4;
    let later = now + u64::from(u32::from_le_bytes([e, f, g, h])) / 0x4000;
    let mut headers = HeaderMap::new();
    let mut set = |name: &'static str, text: String| {
        headers.insert(name, HeaderValue::from_str(&text).unwrap());
    };
    set("date", date(now));
    set("retry-after", date(later));
    let expected = Duration::from_secs((later - now).min(DAY));
    assert_eq!(wait(&headers), Some(expected), "{headers:?}");
    headers.remove("retry-after");
    for line in text.split(|byte| *byte == b'\n') {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(0);
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line.get(colon + 1..).unwrap_or_default());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let found = wait(&headers);
    assert!(
        found.is_none_or(|wait| wait <= Duration::from_secs(DAY)),
        "{found:?} of {headers:?}"
    );
    // What we tell a client, it understands as we meant it, to the millisecond.
    let refusal = error::read(429, &headers, b"{}");
    let told = wait(&error::headers(&refusal));
    assert_eq!(
        told.map(|wait| wait.as_millis()),
        found.map(|wait| wait.as_millis())
    );
}

fn wait(headers: &HeaderMap) -> Option<Duration> {
    error::read(429, headers, b"{}").retry_after()
}

/// The HTTP date of a second since 1970, counted up year by year and month by month.
fn date(mut second: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut days = second / DAY;
    second %= DAY;
    let name = DAYS[days as usize % 7];
    let every = |year: u64, years: u64| year.is_multiple_of(years);
    let leap = |year| every(year, 4) && (!every(year, 100) || every(year, 400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 0;
    loop {
        let length = match month {
            1 => 28 + u64::from(leap(year)),
            3 | 5 | 8 | 10 => 30,
            _ => 31,
        };
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (day, month) = (days + 1, MONTHS[month]);
    format!("{name}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}
