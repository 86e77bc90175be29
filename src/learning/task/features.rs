//! What the classifier sees of a prompt: hashed n-grams in groups, and dense cues.

use super::language::{self, Language};
use super::lexicon::{CONCEPTS, bit, concepts, pair};
use super::shape::{self, Counts, OTHER_TONGUE, PAIRED, SIGNS};
use super::tokens::{Shape, Token, excerpt, tokenise};
use std::sync::LazyLock;

/// Rows of the table of hashed features; a power of two.
pub const BUCKETS: usize = 1 << 14;
/// Groups of hashed features; each is scaled to unit length by itself, so that a long prompt's many
/// words do not drown its first line.
pub const GROUPS: usize = 6;
/// Names of the groups, in order.
pub const GROUP_NAMES: [&str; GROUPS] = ["words", "pairs", "head", "tail", "lines", "concepts"];
/// Where a concept is seen: leading, near the beginning, near the end, leading the last sentence,
/// opening a line, anywhere.
const PLACES: usize = 6;
/// Dense cues.
pub const DENSE: usize = CONCEPTS.len() * PLACES + SIGNS.len();
/// Words at either end that are read more closely.
const WINDOW: usize = 14;
/// The most hashed features of one prompt.
const MOST: usize = 4096;

/// The features of one prompt.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// Row and group of each hashed feature, each pair once.
    pub hashed: Vec<(u16, u8)>,
    /// Indices of the dense cues that are on.
    pub dense: Vec<u16>,
    /// What difficulty is judged by.
    pub(super) counts: Counts,
    /// Words that demand something be done.
    pub(super) demands: usize,
    pub(super) signs: u64,
    pub(super) anywhere: u64,
    /// The natural language of the words around any code.
    pub language: Language,
    /// Words, numbers and marks read.
    pub tokens: usize,
}

/// One bit a row, to see each feature once.
struct Seen([u64; BUCKETS / 64]);

impl Seen {
    fn first(&mut self, row: u16) -> bool {
        match self.0.get_mut(usize::from(row) / 64) {
            Some(word) => {
                let mask = 1 << (row % 64);
                let new = *word & mask == 0;
                *word |= mask;
                new
            }
            None => false,
        }
    }
}

/// Words of these concepts demand work.
static DEMANDS: LazyLock<u64> = LazyLock::new(|| {
    bit("explain") | bit("solve") | bit("implement") | bit("write") | bit("analyse")
});
static POLITE: LazyLock<u64> = LazyLock::new(|| bit("polite"));

/// Reads a prompt.
pub fn features(text: &str) -> Features {
    let (head, tail) = excerpt(text);
    let mut tokens = Vec::with_capacity((head.len() + tail.len()) / 4 + 8);
    tokenise(head, &mut tokens);
    tokenise(tail, &mut tokens);
    let language = language::detect(head, &tokens);
    let (mut signs, counts) = shape::signs(head, tail, text.len(), &tokens);
    if !matches!(language, Language::English | Language::Undetermined) {
        signs |= OTHER_TONGUE;
    }
    let mut features = Features {
        hashed: Vec::with_capacity(tokens.len() * 2 + 256),
        dense: Vec::with_capacity(96),
        counts,
        demands: 0,
        signs,
        anywhere: 0,
        language,
        tokens: tokens.len(),
    };
    words(&tokens, &mut features);
    features.hashed.truncate(MOST);
    features
}

fn words(tokens: &[Token], features: &mut Features) {
    let mut seen = Seen([0; BUCKETS / 64]);
    let count = tokens.len();
    let last_open = tokens
        .iter()
        .rposition(|token| token.opens_sentence && token.shape != Shape::Mark);
    let mut places = [0_u64; PLACES];
    let mut add = |hash: u32, group: u8| {
        // The group salts the hash: the same word in another place is another feature.
        let mixed = (hash ^ u32::from(group).wrapping_mul(0x9e37_79b9)).wrapping_mul(0x2c1b_3c6d);
        let row = (mixed >> 18) as u16;
        if seen.first(row) {
            features.hashed.push((row, group));
        }
    };
    let mut before = 0x0bad_5eed_u32;
    let mut demands = 0;
    let mut lead = 4_usize;
    let mut line_lead = 0_usize;
    let mut final_lead = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        let both = pair(before, token.hash);
        let bits = concepts(token.hash) | concepts(both);
        let (near_head, near_tail) = (at < WINDOW, at + WINDOW >= count);
        add(token.hash, 0);
        add(both, 1);
        if near_head {
            add(token.hash, 2);
            add(both, 2);
            add(token.stem ^ 0x5555, 2);
        }
        if near_tail {
            add(token.hash, 3);
            add(both, 3);
            add(token.stem ^ 0x5555, 3);
        }
        if token.opens_line {
            line_lead = 2;
        }
        if Some(at) == last_open {
            final_lead = 4;
        }
        demands += usize::from(bits & *DEMANDS != 0);
        // Asking nicely does not use up the lead.
        let polite = bits & *POLITE != 0;
        let slots = [
            (0, lead > 0),
            (1, near_head),
            (2, near_tail),
            (3, final_lead > 0),
            (4, line_lead > 0),
            (5, true),
        ];
        for (slot, on) in slots {
            if let Some(place) = places.get_mut(slot).filter(|_| on) {
                *place |= bits;
            }
        }
        if line_lead == 2 {
            add(token.hash, 4);
        } else if line_lead == 1 {
            add(both, 4);
        }
        if token.shape != Shape::Mark {
            lead = lead.saturating_sub(usize::from(!polite));
            line_lead = line_lead.saturating_sub(1);
            final_lead = final_lead.saturating_sub(1);
        }
        before = token.hash;
    }
    let [leading, head, tail, closing, _, anywhere] = places;
    // What is asked is said by two things together: write and program, review and verdict.
    let paired = features.signs & PAIRED;
    for (salt, window) in [(0x11_u32, head), (0x22, tail)] {
        each(window, |a| {
            each(window & !((2 << a) - 1), |b| {
                add(salt << 16 | a << 8 | b, 5)
            });
            each(paired, |sign| add(salt << 16 | 0x8000 | a << 8 | sign, 5));
        });
    }
    each(leading, |a| {
        each(closing, |b| add(0x33 << 16 | a << 8 | b, 5))
    });
    features.demands = demands;
    features.anywhere = anywhere;
    for (slot, mask) in places.into_iter().enumerate() {
        each(mask, |bit| {
            features
                .dense
                .push((slot * CONCEPTS.len()) as u16 + bit as u16);
        });
    }
    each(features.signs, |bit| {
        features
            .dense
            .push((PLACES * CONCEPTS.len()) as u16 + bit as u16);
    });
}

/// Calls `act` with the place of each bit that is set.
fn each(mut mask: u64, mut act: impl FnMut(u32)) {
    while mask != 0 {
        act(mask.trailing_zeros());
        mask &= mask - 1;
    }
}
