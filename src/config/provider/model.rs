//! The models of a provider.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use crate::provider::deployment::{Capabilities, Limits, Price};

use super::super::presets::{self, Preset};
use super::super::section::Section;
use super::super::values::is_name;
use super::Kind;

/// A model's name is at most this many characters; learned state and metrics carry it.
const LONGEST_MODEL_NAME: usize = 256;

/// One model of a provider.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// 1 to 256 printable characters without spaces; the second part of the deployment's name.
    pub name: String,
    /// Its name at the provider where that differs.
    pub upstream: Option<String>,
    /// What it can do. Everything by default, with a context of unknown length.
    pub capabilities: Capabilities,
    /// Dollars per million tokens, each 0 to 1,000,000.
    pub price: Option<Price>,
    /// Its own limits, each at least 1; where it has none the provider's apply.
    pub limits: Limits,
    /// How good it is believed to be before anything is learned, 0 to 1. By default what its family has shown, or 0.5.
    pub quality: Option<f64>,
    /// Models of one family make the same mistakes and are about as good. 1 to 64 of `a-z0-9._-`.
    pub family: Option<String>,
    /// How a scripted provider behaves as this model, for its adapter to read.
    pub script: Option<Value>,
}

impl ModelConfig {
    /// A model of which only the name is known.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            upstream: None,
            capabilities: Capabilities::default(),
            price: None,
            limits: Limits::default(),
            quality: None,
            family: None,
            script: None,
        }
    }
}

/// The models of a provider; a preset's own or, for a file, one of its name, if none are written.
pub(super) fn models(
    section: &mut Section<'_>,
    kind: Option<Kind>,
    preset: Option<&Preset>,
    path: Option<&PathBuf>,
) -> Vec<ModelConfig> {
    let mut known = BTreeSet::new();
    let mut add = |section: &Section<'_>, model: ModelConfig| {
        let wanted = model.upstream.as_deref().unwrap_or(&model.name);
        let catalogued = presets::LOCAL_MODELS.contains(&wanted);
        if !known.insert(model.name.clone()) {
            section.fail("name", format!("another model is named '{}'", model.name));
        } else if kind == Some(Kind::Local) && path.is_none() && !catalogued {
            let names = presets::LOCAL_MODELS.join(", ");
            section.fail("name", format!("the catalogue has {names}, not '{wanted}'"));
        }
        if kind.is_some_and(|kind| kind != Kind::Scripted) && section.given("script") {
            section.fail("script", "only a provider of kind \"scripted\" has one");
        }
        Some(model)
    };
    let models = section.tables_or_names("models", model_name, |section, named| {
        let model = match named {
            Some(name) => ModelConfig::named(name),
            None => model(section)?,
        };
        add(section, model)
    });
    let stem = path
        .and_then(|path| path.file_stem())
        .and_then(|stem| stem.to_str());
    let preset_models = preset.map_or(&[][..], |preset| preset.models);
    if section.given("models") {
        if path.is_some() && models.len() > 1 {
            section.fail("models", "path names one file: give it one name");
        }
        return models;
    }
    if let Some(stem) = stem.filter(|stem| model_name(stem).is_ok()) {
        return vec![ModelConfig::named(stem)];
    }
    if preset_models.is_empty() {
        section.fail("models", "is missing: at least one name");
    }
    preset_models
        .iter()
        .copied()
        .map(ModelConfig::named)
        .collect()
}

fn model(section: &mut Section<'_>) -> Option<ModelConfig> {
    let name = section.required("name", |section, key| section.text(key, model_name));
    let all = Capabilities::default();
    let model = ModelConfig {
        name: String::new(),
        upstream: section.text("upstream", model_name),
        capabilities: Capabilities {
            tools: section.flag("tools").unwrap_or(all.tools),
            vision: section.flag("vision").unwrap_or(all.vision),
            json_schema: section.flag("json_schema").unwrap_or(all.json_schema),
            reasoning: section.flag("reasoning").unwrap_or(all.reasoning),
            streaming: section.flag("streaming").unwrap_or(all.streaming),
            context: section.integer("context", 1..=1_000_000_000),
        },
        price: price(section),
        limits: limits(section),
        quality: section.float("quality", 0.0..=1.0),
        family: section.text("family", word),
        script: section.json("script"),
    };
    Some(ModelConfig {
        name: name?,
        ..model
    })
}

fn price(section: &mut Section<'_>) -> Option<Price> {
    section.table_if("price", |section| {
        let dollars = 0.0..=1e6;
        let input = section.required("input", |section, key| section.float(key, dollars.clone()));
        let output = section.required("output", |section, key| section.float(key, dollars.clone()));
        let cached = section.float("cached", dollars);
        Some(Price {
            input: input?,
            output: output?,
            cached,
        })
    })?
}

/// The limits that a provider and a model may both set.
pub(super) fn limits(section: &mut Section<'_>) -> Limits {
    Limits {
        max_in_flight: section.integer("max_in_flight", 1..=1_000_000),
        requests_per_minute: section.integer("requests_per_minute", 1..=1_000_000_000),
        tokens_per_minute: section.integer("tokens_per_minute", 1..=4_000_000_000),
        ..Limits::default()
    }
}

/// Text of 1 to 64 of `a-z0-9._-`.
pub(super) fn word(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.into());
    }
    Err(format!(
        "must be 1 to 64 of a-z, 0-9, '.', '_' and '-', not '{text}'"
    ))
}

fn model_name(text: &str) -> Result<String, String> {
    let printable = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    if printable && (1..=LONGEST_MODEL_NAME).contains(&text.chars().count()) {
        return Ok(text.into());
    }
    Err(format!(
        "must be 1 to {LONGEST_MODEL_NAME} printable characters without spaces"
    ))
}
