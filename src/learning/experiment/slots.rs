//! Who keeps which variant, in bounded memory.
//!
//! Keys (users, sessions) fall into a fixed number of slots by their hash. The first key of a slot
//! draws the slot's variant with the shares of that moment; from then on the slot keeps it, whatever
//! the shares become. So a key never changes its variant, however many keys there are, and no key is
//! stored. What is given up when keys outnumber slots is that shares still follow the evidence: once
//! every slot is taken they stay. The opposite, a bounded memory of recent keys, would follow the
//! evidence for ever and break its promise to whoever was forgotten; the shares are a matter of
//! samples, the promise is the experiment's point.

use serde::{Deserialize, Serialize};

use super::definition::MOST_VARIANTS;
use crate::learning::chance::unit;

/// How many slots there are, one byte each.
pub const SLOTS: usize = 1 << BITS;
const BITS: u32 = 14;
/// A slot that no key has come to.
const FREE: u8 = u8::MAX;

/// The variant of each slot. Written as text: a letter from `a` a slot's variant, a number so many free
/// slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Slots(Vec<u8>);

impl Slots {
    /// The variant that whoever has this digest keeps.
    pub fn get(&self, digest: u64) -> Option<usize> {
        let variant = self.0.get(place(digest)).copied()?;
        (variant != FREE).then_some(usize::from(variant))
    }

    /// Gives the slot of this digest a variant unless it has one; returns what it has then.
    pub fn keep(&mut self, digest: u64, variant: usize) -> usize {
        if let Some(kept) = self.get(digest) {
            return kept;
        }
        if self.0.is_empty() {
            self.0 = vec![FREE; SLOTS];
        }
        if let (Some(slot), Ok(byte)) = (self.0.get_mut(place(digest)), u8::try_from(variant)) {
            *slot = byte;
        }
        variant
    }

    /// Slots of this variant.
    pub fn held(&self, variant: usize) -> usize {
        let held = |slot: &&u8| usize::from(**slot) == variant;
        self.0.iter().filter(held).count()
    }

    /// Frees every slot.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Follows variants to new indices: `moved` says where an old index went, `None` that it is gone.
    /// Of the slots that stay, each of `added` takes one in `count`, so that a new variant gets its
    /// part of old keys and no key changes between two old variants.
    pub fn follow(&mut self, moved: &[Option<usize>], added: &[usize], count: usize) {
        for (index, slot) in self.0.iter_mut().enumerate() {
            if *slot == FREE {
                continue;
            }
            let stays = moved.get(usize::from(*slot)).copied().flatten();
            let draw = mix(index as u64 ^ 0x51a7) % count.max(1) as u64;
            let taken = usize::try_from(draw)
                .ok()
                .and_then(|draw| added.get(draw))
                .copied();
            // A slot whose variant is gone is drawn again by the next key that comes to it.
            let variant = stays.and(taken).or(stays);
            *slot = variant
                .and_then(|variant| u8::try_from(variant).ok())
                .unwrap_or(FREE);
        }
    }

    /// Whether every slot's variant is one of `count`.
    pub fn is_valid(&self, count: usize) -> bool {
        let sound = |slot: &u8| *slot == FREE || usize::from(*slot) < count;
        matches!(self.0.len(), 0 | SLOTS) && self.0.iter().all(sound)
    }
}

impl From<Slots> for String {
    fn from(slots: Slots) -> Self {
        let mut text = Self::new();
        for run in slots.0.chunk_by(|a, b| *a == FREE && *b == FREE) {
            match run.first() {
                Some(&variant) if variant != FREE => text.push(char::from(b'a' + variant % 26)),
                _ => text.push_str(&run.len().to_string()),
            }
        }
        text
    }
}

impl TryFrom<String> for Slots {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let mut slots = Vec::with_capacity(SLOTS);
        let mut rest = text.as_bytes();
        while let Some((&first, tail)) = rest.split_first() {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = rest.get(..digits).and_then(|run| str::from_utf8(run).ok());
            if digits > 0 {
                let free: usize = number.and_then(|run| run.parse().ok()).unwrap_or(0);
                if free == 0 || free > SLOTS - slots.len() {
                    return Err(format!("a run of slots is not 1 to {SLOTS} long"));
                }
                slots.resize(slots.len() + free, FREE);
                rest = rest.get(digits..).unwrap_or_default();
            } else {
                let variant = first.wrapping_sub(b'a');
                if usize::from(variant) >= MOST_VARIANTS || slots.len() == SLOTS {
                    return Err("a slot has no such variant, or there are too many".into());
                }
                slots.push(variant);
                rest = tail;
            }
        }
        if slots.len() == SLOTS {
            Ok(Self(slots))
        } else {
            Err(format!("{} slots, not {SLOTS}", slots.len()))
        }
    }
}

fn place(digest: u64) -> usize {
    usize::try_from(digest >> (u64::BITS - BITS)).unwrap_or(0)
}

/// A number that is uniform from 0 to below 1 over digests, and says nothing of the slot.
pub(super) fn uniform(digest: u64) -> f64 {
    unit(mix(digest))
}

/// A hash of several texts in order, the same on every machine and in every version: G. Fowler, L. C.
/// Noll and K.-P. Vo's (FNV-1a, 64 bits), mixed once more because its upper bits are weak. It keeps
/// nothing secret.
pub fn digest(parts: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut byte = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for part in parts {
        part.bytes().for_each(&mut byte);
        // No UTF-8 has this byte, so ("a", "b") is not ("ab", "").
        byte(0xff);
    }
    mix(hash)
}

/// G. Steele, D. Lea and C. Flood's finaliser ("Fast Splittable Pseudorandom Number Generators", 2014).
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
