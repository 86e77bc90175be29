//! Numbers that only what they are derived from decides: the same on every machine and in every version.

/// The first eight bytes of the BLAKE3 hash over all parts, one after the other.
pub(crate) fn word(parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// A word as a number from 0 to below 1, by its upper 53 bits.
pub(crate) fn unit(word: u64) -> f64 {
    (word >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_those_that_were_always_made() {
        assert_eq!(word(&[b"ab", b"", b"c"]), word(&[b"abc"]));
        // BLAKE3 of nothing begins af1349b9f5f9a1a6.
        assert_eq!(word(&[]), 0xa6a1_f9f5_b949_13af);
        assert_eq!(unit(0), 0.0);
        assert_eq!(unit(1 << 63), 0.5);
        assert_eq!(unit(u64::MAX), 1.0 - 2f64.powi(-53));
    }
}
