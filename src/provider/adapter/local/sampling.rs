//! From logits to a token, and from tokens to text that ends where the caller said.

use std::collections::HashMap;

use crate::query::Params;

/// Used when the caller leaves the temperature open: low, since small models wander off at higher ones. The
/// authors of SmolLM2 recommend this value and [`TOP_P`].
const TEMPERATURE: f64 = 0.2;

/// Used when the caller leaves `top_p` open.
const TOP_P: f64 = 0.9;

/// Tokens less likely than the best by more than this factor (as a logarithm) are never drawn. Together they
/// are worth less than one in a thousand, and the sort stays short.
const NEGLIGIBLE: f64 = 20.0;

/// Draws tokens: temperature, then nucleus (Holtzman et al. 2019). At temperature 0 the likeliest is taken.
pub(super) struct Sampler {
    temperature: f64,
    top_p: f64,
    presence: f32,
    frequency: f32,
    drawn: HashMap<u32, u32>,
    random: u64,
}

impl Sampler {
    /// `seed` serves if `params` name none.
    pub(super) fn new(params: &Params, seed: u64) -> Self {
        Self {
            temperature: params.temperature.unwrap_or(TEMPERATURE).max(0.0),
            top_p: params.top_p.unwrap_or(TOP_P).clamp(0.0, 1.0),
            presence: params.presence_penalty.unwrap_or(0.0) as f32,
            frequency: params.frequency_penalty.unwrap_or(0.0) as f32,
            drawn: HashMap::new(),
            random: params.seed.map_or(seed, i64::cast_unsigned),
        }
    }

    /// Draws the next token. Penalties lower the tokens drawn before, as OpenAI's reference defines them.
    pub(super) fn draw(&mut self, mut logits: Vec<f32>) -> u32 {
        if self.presence != 0.0 || self.frequency != 0.0 {
            for (token, count) in &self.drawn {
                logits[*token as usize] -= self.presence + self.frequency * *count as f32;
            }
        }
        let token = self.choose(&logits);
        *self.drawn.entry(token).or_default() += 1;
        token
    }

    fn choose(&mut self, logits: &[f32]) -> u32 {
        let indexed = || (0u32..).zip(logits.iter().map(|logit| f64::from(*logit)));
        // The first of equals, so that the choice does not depend on the order of comparison.
        let best = indexed().reduce(|best, next| if next.1 > best.1 { next } else { best });
        let Some((best, highest)) = best else {
            return 0;
        };
        if self.temperature == 0.0 {
            return best;
        }
        let weighed = indexed().map(|(token, logit)| (token, (logit - highest) / self.temperature));
        let mut likely: Vec<(u32, f64)> = weighed
            .filter(|(_, weight)| *weight > -NEGLIGIBLE)
            .map(|(token, weight)| (token, weight.exp()))
            .collect();
        likely.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let total: f64 = likely.iter().map(|(_, weight)| weight).sum();
        let mut nucleus = 0.0;
        let inside = likely.iter().take_while(|(_, weight)| {
            let before = nucleus;
            nucleus += weight;
            before < self.top_p * total
        });
        let kept = inside.count().max(1);
        let sum: f64 = likely[..kept].iter().map(|(_, weight)| weight).sum();
        let mut point = self.uniform() * sum;
        for (token, weight) in &likely[..kept] {
            point -= weight;
            if point < 0.0 {
                return *token;
            }
        }
        best
    }

    /// 0..1. SplitMix64 (Steele, Lea and Flood 2014): the same numbers for a seed in every version of ours.
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Lets text through until a stop text is complete, and holds back what may become one, so that no part of
/// it is ever seen. The stop text that is complete first wins; of those complete at once, the longest.
pub(super) struct StopText {
    stops: Vec<String>,
    held: String,
}

impl StopText {
    /// Empty stop texts mean nothing and are left out.
    pub(super) fn new(stops: &[String]) -> Self {
        let stops = stops
            .iter()
            .filter(|stop| !stop.is_empty())
            .cloned()
            .collect();
        Self {
            stops,
            held: String::new(),
        }
    }

    /// Takes more text; returns what may be shown, and whether a stop text was met.
    pub(super) fn push(&mut self, text: &str) -> (String, bool) {
        let mut shown = String::new();
        for char in text.chars() {
            self.held.push(char);
            let met = self
                .stops
                .iter()
                .filter(|stop| self.held.ends_with(*stop))
                .map(String::len)
                .max();
            if let Some(met) = met {
                self.held.truncate(self.held.len() - met);
                shown.push_str(&self.rest());
                return (shown, true);
            }
            let begun = |from: &usize| {
                self.stops
                    .iter()
                    .any(|stop| stop.starts_with(&self.held[*from..]))
            };
            let starts = self.held.char_indices().map(|(index, _)| index);
            let safe = starts.into_iter().find(begun).unwrap_or(self.held.len());
            shown.extend(self.held.drain(..safe));
        }
        (shown, false)
    }

    /// What was held back, once it is known that nothing follows.
    pub(super) fn rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drawn(params: &Params, seed: u64, logits: &[f32], count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(params, seed);
        (0..count).map(|_| sampler.draw(logits.to_vec())).collect()
    }

    fn whole(stops: &[String], pieces: &[String]) -> (String, bool) {
        let mut holder = StopText::new(stops);
        let mut all = String::new();
        for piece in pieces {
            let (shown, met) = holder.push(piece);
            all.push_str(&shown);
            if met {
                return (all, true);
            }
        }
        all.push_str(&holder.rest());
        (all, false)
    }

    #[test]
    fn temperature_zero_takes_the_first_of_the_likeliest() {
        let params = Params {
            temperature: Some(0.0),
            ..Params::default()
        };
        assert_eq!(drawn(&params, 1, &[0.5, 2.0, 2.0, -1.0], 3), [1, 1, 1]);
    }

    #[test]
    fn a_seed_repeats_the_draws_and_another_changes_them() {
        let logits = [1.0; 50];
        let seeded = |seed| Params {
            temperature: Some(1.0),
            top_p: Some(1.0),
            seed,
            ..Params::default()
        };
        let first = drawn(&seeded(Some(7)), 1, &logits, 20);
        assert_eq!(first, drawn(&seeded(Some(7)), 2, &logits, 20));
        assert_ne!(first, drawn(&seeded(Some(8)), 1, &logits, 20));
        assert_ne!(first, drawn(&seeded(None), 1, &logits, 20));
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let params = Params {
            temperature: Some(1.0),
            top_p: Some(1.0),
            ..Params::default()
        };
        let tokens = drawn(&params, 3, &[0.0, 3f32.ln()], 4000);
        let ones = tokens.iter().filter(|token| **token == 1).count();
        assert!(
            (2850..3150).contains(&ones),
            "{ones} of 4000 instead of about 3000"
        );
    }

    #[test]
    fn top_p_leaves_out_the_tail() {
        let params = Params {
            temperature: Some(1.0),
            top_p: Some(0.5),
            ..Params::default()
        };
        let tokens = drawn(&params, 3, &[2.0, 1.9, 0.0, 0.0], 500);
        assert!(tokens.contains(&0) && tokens.contains(&1));
        assert!(tokens.iter().all(|token| *token < 2));
        let narrow = Params {
            top_p: Some(0.0),
            ..params
        };
        assert_eq!(drawn(&narrow, 3, &[2.0, 1.9, 0.0], 5), [0; 5]);
    }

    #[test]
    fn penalties_move_the_choice_away_from_what_was_drawn() {
        let params = Params {
            temperature: Some(0.0),
            ..Params::default()
        };
        let once = Params {
            presence_penalty: Some(0.5),
            ..params.clone()
        };
        assert_eq!(drawn(&once, 1, &[1.0, 0.8], 3), [0, 1, 0]);
        let grows = Params {
            frequency_penalty: Some(0.3),
            ..params
        };
        assert_eq!(drawn(&grows, 1, &[1.0, 0.5], 4), [0, 0, 1, 0]);
    }

    #[test]
    fn what_may_become_a_stop_text_is_held_and_let_go_when_it_does_not() {
        let mut holder = StopText::new(&["END".into()]);
        assert_eq!(holder.push("one EN"), ("one ".into(), false));
        assert_eq!(holder.push("TRY E"), ("ENTRY ".into(), false));
        assert_eq!(holder.push("ND two"), (String::new(), true));
    }

    #[test]
    fn no_stop_texts_hold_nothing() {
        let mut holder = StopText::new(&[String::new()]);
        assert_eq!(holder.push("grüße"), ("grüße".into(), false));
        assert_eq!(holder.rest(), "");
    }

    proptest! {
        #[test]
        fn any_split_shows_the_same_text_and_no_part_of_a_stop_text(
            text in "[abé]{0,40}",
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
            cuts in prop::collection::vec(1usize..5, 40),
        ) {
            let chars: Vec<char> = text.chars().collect();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                let to = (from + cut).min(chars.len());
                pieces.push(chars[from..to].iter().collect::<String>());
                from = to;
            }
            let split = whole(&stops, &pieces);
            prop_assert_eq!(&split, &whole(&stops, std::slice::from_ref(&text)));
            // The text as a reader would cut it: at the first place where some stop text is complete.
            let ends = text.char_indices().map(|(at, char)| at + char.len_utf8());
            let cut = ends
                .filter_map(|end| {
                    let met = stops.iter().filter(|stop| text[..end].ends_with(*stop));
                    met.map(|stop| end - stop.len()).min()
                })
                .next();
            prop_assert_eq!(split, (text[..cut.unwrap_or(text.len())].to_owned(), cut.is_some()));
        }
    }
}
