//! Readers of extras: a fault in one costs what it would have told, not the answer.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A `T`; none if it is `null` or anything else.
pub(super) fn extra<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let raw = <&RawValue>::deserialize(from)?.get();
    // Of an array, serde would take the entries for the fields in their order.
    let raw = Some(raw).filter(|raw| !raw.starts_with('['));
    Ok(raw.and_then(|raw| serde_json::from_str(raw).ok().flatten()))
}

/// A count as servers write it: whole, with a fraction, or as text. At most what fits; none if it is no count.
pub(super) fn count<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let number = <&RawValue>::deserialize(from)?.get();
    let number: Option<f64> = number.trim_matches('"').parse().ok();
    // The conversion saturates.
    Ok(number
        .filter(|number| *number >= 0.0)
        .map(|number| number as u32))
}

/// A place among others, from 0, where it also is if it is not told.
pub(super) fn place<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    Ok(count(from)?.unwrap_or(0))
}

/// Text; of anything else its JSON, as servers write arguments that they have parsed.
pub(super) fn json_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let raw = <&RawValue>::deserialize(from)?.get();
    if raw.starts_with('"') {
        return serde_json::from_str(raw).map_err(serde::de::Error::custom);
    }
    Ok(Some(raw).filter(|raw| *raw != "null").map(str::to_owned))
}
