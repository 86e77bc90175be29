//! What each model charges, from a file of the operator's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::record::{Recorded, Reply};

/// The highest price believed, in USD per million tokens: beyond it, somebody wrote the price of one token's
/// million wrongly.
pub const MAX_PRICE: f64 = 10_000.0;
const MAX_FILE: u64 = 1 << 20;
const TOKENS_A_PRICE_IS_FOR: f64 = 1e6;

/// The price of one model, in USD per million tokens; 0..=[`MAX_PRICE`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Of what is sent.
    pub input: f64,
    /// Of what is answered.
    pub output: f64,
}

impl Price {
    /// USD for one call.
    pub fn cost(&self, prompt_tokens: u32, output_tokens: u32) -> f64 {
        (f64::from(prompt_tokens) * self.input + f64::from(output_tokens) * self.output)
            / TOKENS_A_PRICE_IS_FOR
    }
}

/// Prices by model: a TOML file of lines `"model" = { input = 0.15, output = 0.6 }`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices {
    models: BTreeMap<String, Price>,
}

/// Why prices could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    /// The file could not be read.
    #[error("prices file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("prices file {}: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is allowed.
        reason: String,
    },
}

impl Prices {
    /// Reads and checks a file of at most 1 MiB.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is no TOML, has other fields than `input` and `output`, or a price outside of
    /// 0..=[`MAX_PRICE`].
    pub fn read(path: &Path) -> Result<Self, PricesError> {
        let io = |source| PricesError::Io {
            path: path.to_owned(),
            source,
        };
        let invalid = |reason| PricesError::Invalid {
            path: path.to_owned(),
            reason,
        };
        let mut text = String::new();
        let file = File::open(path).map_err(io)?;
        file.take(MAX_FILE + 1)
            .read_to_string(&mut text)
            .map_err(io)?;
        if text.len() as u64 > MAX_FILE {
            return Err(invalid(format!("larger than {MAX_FILE} bytes")));
        }
        Self::parse(&text).map_err(invalid)
    }

    /// The same of a text.
    ///
    /// # Errors
    ///
    /// What is wrong and what is allowed, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let models: BTreeMap<String, Price> = toml::from_str(text).map_err(|error| {
            format!(
                "{}; a line is `\"model\" = {{ input = 0.15, output = 0.6 }}`, in USD per million tokens, \
                 a name with a dot in quotes",
                error.to_string().trim_end()
            )
        })?;
        Self::of(models)
    }

    /// Prices from elsewhere than a file.
    ///
    /// # Errors
    ///
    /// If a price is outside of 0..=[`MAX_PRICE`].
    pub fn of(models: impl IntoIterator<Item = (String, Price)>) -> Result<Self, String> {
        let models: BTreeMap<_, _> = models.into_iter().collect();
        for (model, price) in &models {
            for (field, usd) in [("input", price.input), ("output", price.output)] {
                // The range holds neither infinities nor NaN.
                if !(0.0..=MAX_PRICE).contains(&usd) {
                    return Err(format!(
                        "model {model:?}: {field} is {usd}; allowed are 0 to {MAX_PRICE} USD per million tokens"
                    ));
                }
            }
        }
        Ok(Self { models })
    }

    /// The price of a model, if it is known.
    pub fn get(&self, model: &str) -> Option<Price> {
        self.models.get(model).copied()
    }

    /// Which of these models it has no price for: what they cost is not known, and neither is a sum with them.
    pub fn lacking(&self, models: &[String]) -> Vec<String> {
        let lacks = |model: &&String| !self.models.contains_key(*model);
        models.iter().filter(lacks).cloned().collect()
    }

    /// Every model with its price, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Price)> {
        self.models
            .iter()
            .map(|(name, price)| (name.as_str(), *price))
    }

    /// USD that asking this question of this model cost: tokens of a recorded answer are its characters / 4,
    /// of its prompt characters / 4 + 110. `None` without a price for the model.
    pub fn cost(&self, model: &str, asked: &Recorded, reply: &Reply) -> Option<f64> {
        let price = self.get(model)?;
        Some(price.cost(asked.prompt_tokens(), reply.output_tokens()))
    }

    /// The file that reads as these prices.
    pub fn to_toml(&self) -> String {
        self.iter()
            .map(|(name, Price { input, output })| {
                // A JSON string is one of TOML, but for the one control character JSON does not escape.
                let name = serde_json::Value::from(name)
                    .to_string()
                    .replace('\u{7f}', "\\u007f");
                format!("{name} = {{ input = {input:?}, output = {output:?} }}\n")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_per_million_tokens() {
        let prices = Prices::parse("\"a.1\" = { input = 2, output = 10.5 }").unwrap();
        let asked = Recorded {
            prompt: "x".repeat(360),
            ..Recorded::default()
        };
        let reply = Reply {
            output_chars: Some(400),
            ..Reply::default()
        };
        // 200 tokens at 2 and 100 at 10.5.
        let cost = prices.cost("a.1", &asked, &reply).unwrap();
        assert!((cost - 0.001_45).abs() < 1e-12);
        assert_eq!(prices.cost("b", &asked, &reply), None);
    }

    #[test]
    fn a_wrong_price_is_refused_with_its_model_and_what_is_allowed() {
        for (text, part) in [
            ("m = { input = -1, output = 1 }", "allowed are 0 to 10000"),
            ("m = { input = nan, output = 1 }", "input is NaN"),
            ("m = { input = 1, output = inf }", "output is inf"),
            ("m = { input = 1 }", "missing field `output`"),
            (
                "m = { input = 1, output = 1, cached = 1 }",
                "unknown field `cached`",
            ),
            (
                "m.1 = { input = 1, output = 1 }",
                "a name with a dot in quotes",
            ),
            ("m = 3", "a line is"),
            (
                "a = { input = 1, output = 1 }\na = { input = 1, output = 1 }",
                "duplicate",
            ),
        ] {
            let error = Prices::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn prices_read_back_as_they_were_written() {
        let price = Price {
            input: 0.075,
            output: 3.0,
        };
        let names = ["plain", "do.t", "qu\"ote", "new\nline", "it's", "\u{7f}"];
        let prices = Prices::of(names.map(|name| (name.to_owned(), price))).unwrap();
        assert_eq!(Prices::parse(&prices.to_toml()).unwrap(), prices);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Prices::read(Path::new("no/such/prices.toml")).unwrap_err();
        assert!(error.to_string().contains("no/such/prices.toml"));
    }
}
