//! `[[keys]]`: who may enter over HTTP.

use std::collections::BTreeSet;

use crate::query::Lane;

use super::section::Section;

/// One key that opens HTTP, and what its holder may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Who its holder is to admission and the ledger; several keys may belong to one user. 1 to 128
    /// printable characters.
    pub user: String,
    /// `blake3:` and the key's BLAKE3 hash in 64 lower-case hexadecimal digits; the key itself is
    /// nowhere in the configuration.
    pub hash: String,
    /// The most urgent lane the holder may use; `None` leaves all of them.
    pub lane: Option<Lane>,
    /// Whether it shows what others do: `/v1/status` and `/metrics`. Default `false`.
    pub admin: bool,
}

pub(super) fn read(root: &mut Section<'_>) -> Vec<Key> {
    let mut known = BTreeSet::new();
    root.tables("keys", |section| {
        let user = section.required("user", |section, key| section.text(key, user));
        let hash = section.required("hash", |section, key| section.text(key, hash));
        let lane = section.choice("lane", Lane::ALL, Lane::name);
        let admin = section.flag("admin").unwrap_or(false);
        let key = Key {
            user: user?,
            hash: hash?,
            lane,
            admin,
        };
        if !known.insert(key.hash.clone()) {
            section.fail("hash", "another key has the same hash");
        }
        Some(key)
    })
}

fn user(text: &str) -> Result<String, String> {
    let printable = text.chars().all(|c| !c.is_control()) && text.trim() == text;
    if printable && (1..=128).contains(&text.chars().count()) {
        return Ok(text.into());
    }
    Err("must be 1 to 128 printable characters".into())
}

/// What is written here may be a key pasted by mistake, so the message does not repeat it.
fn hash(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("blake3:").unwrap_or_default();
    if digits.len() == 64
        && digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        return Ok(text.into());
    }
    Err(
        "must be \"blake3:\" and 64 lower-case hexadecimal digits, as 'quorate keys new' prints"
            .into(),
    )
}
