//! `[[providers]]`: who answers, and with which models.

mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

use crate::id::DeploymentId;
use crate::provider::deployment::{Deployment, Limits, Timeouts};

use super::presets::{self, Preset};
use super::resilience::read_timeouts;
use super::section::Section;
use super::{Resilience, Secret};

pub use model::ModelConfig;

use model::{limits, models, word};

/// One provider: an endpoint and credential, or something in this process, and its models.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderConfig {
    /// 1 to 64 of `a-z0-9._-`, not `ensemble`; the first part of its deployments' names. A preset's
    /// own name by default.
    pub name: String,
    /// What it speaks, or is.
    pub kind: Kind,
    /// OpenTelemetry's `gen_ai.provider.name`. Defaults to the preset's, or else to the kind's name.
    pub vendor: String,
    /// Where it is, without a slash at the end; always there for `openai`, never for the others.
    pub base_url: Option<String>,
    /// Sent as a bearer token.
    pub api_key: Option<Secret>,
    /// Further request headers by lower-case name. Their values are secrets too, since some providers
    /// take the key that way.
    pub headers: BTreeMap<String, Secret>,
    /// At least one.
    pub models: Vec<ModelConfig>,
    /// How long it may be silent. Each defaults to `[resilience]`'s of the same name.
    pub timeouts: Timeouts,
    /// Limits of each of its models that sets none of its own.
    pub limits: Limits,
    /// How a scripted provider behaves, for its adapter to read.
    pub script: Option<Value>,
    /// A GGUF file instead of a name from the catalogue; only `local`.
    pub path: Option<PathBuf>,
}

/// What a provider speaks, or is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anything that speaks OpenAI's chat completions.
    OpenAi,
    /// A model in this process.
    Local,
    /// A test double that behaves as its script says.
    Scripted,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::OpenAi, Self::Local, Self::Scripted];

    /// The kind's name, as configured.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Local => "local",
            Self::Scripted => "scripted",
        }
    }
}

impl ProviderConfig {
    /// Its deployments, one for each model, in their order.
    pub fn deployments(&self) -> Vec<Deployment> {
        self.models
            .iter()
            .map(|model| self.deployment(model))
            .collect()
    }

    fn deployment(&self, model: &ModelConfig) -> Deployment {
        let limits = Limits {
            max_in_flight: model.limits.max_in_flight.or(self.limits.max_in_flight),
            requests_per_minute: model
                .limits
                .requests_per_minute
                .or(self.limits.requests_per_minute),
            tokens_per_minute: model
                .limits
                .tokens_per_minute
                .or(self.limits.tokens_per_minute),
            adaptive: self.limits.adaptive,
        };
        Deployment {
            id: DeploymentId::join(&self.name, &model.name),
            model: model.upstream.clone().unwrap_or_else(|| model.name.clone()),
            vendor: self.vendor.clone(),
            capabilities: model.capabilities,
            price: model.price,
            limits,
            timeouts: self.timeouts,
            quality: model.quality,
            family: model.family.clone(),
        }
    }
}

pub(super) fn read(root: &mut Section<'_>, resilience: &Resilience) -> Vec<ProviderConfig> {
    let mut known = BTreeSet::new();
    root.tables("providers", |section| {
        let provider = provider(section, resilience)?;
        if !known.insert(provider.name.clone()) {
            section.fail(
                "name",
                format!("another provider is named '{}'", provider.name),
            );
        }
        Some(provider)
    })
}

/// Reads every key there is, whatever the kind, so that a key of another kind is told from an unknown
/// one. `None` if the name is missing, as nothing could refer to it then.
fn provider(section: &mut Section<'_>, resilience: &Resilience) -> Option<ProviderConfig> {
    let preset = section.choice("preset", &presets::ALL, |preset| preset.name);
    let name = section.text("name", provider_name);
    let default = || {
        preset
            .filter(|_| !section.given("name"))
            .map(|preset| preset.name.to_owned())
    };
    let name = name.or_else(default);
    if !section.given("name") && !section.given("preset") {
        section.fail("name", "is missing");
    }
    if let Some(name) = &name {
        section.rename(&format!("providers.{name}"));
    }
    let kind = kind(section, preset);
    let base_url = section
        .text("base_url", base_url)
        .or(preset.map(|p| p.base_url.to_owned()));
    let script = section.json("script");
    let path = section.path("path");
    let models = models(section, kind, preset, path.as_ref());
    let api_key = api_key(section, preset);
    let provider = ProviderConfig {
        name: name.unwrap_or_default(),
        kind: kind.unwrap_or(Kind::OpenAi),
        vendor: section
            .text("vendor", word)
            .or(preset.map(|preset| preset.vendor.to_owned()))
            .unwrap_or_else(|| kind.unwrap_or(Kind::OpenAi).name().to_owned()),
        headers: headers(section, api_key.is_some()),
        api_key,
        timeouts: read_timeouts(section, resilience.timeouts()),
        limits: Limits {
            adaptive: section
                .flag("adaptive_limit")
                .unwrap_or(resilience.adaptive_limit),
            ..limits(section)
        },
        base_url,
        models,
        script,
        path,
    };
    if let Some(kind) = kind {
        check_kind(section, kind, preset);
    }
    (!provider.name.is_empty()).then_some(provider)
}

fn kind(section: &mut Section<'_>, preset: Option<&Preset>) -> Option<Kind> {
    let kind = section.choice("kind", Kind::ALL, Kind::name);
    if section.given("preset") {
        if section.given("kind") {
            section.fail("kind", "a preset has its own kind: leave this key out");
        }
        return preset.map(|_| Kind::OpenAi);
    }
    if !section.given("kind") {
        section.fail(
            "kind",
            "is missing: \"openai\", \"local\" or \"scripted\", or else a preset",
        );
    }
    kind
}

/// Each key that would be ignored is an error instead, and so is each that is needed and missing.
fn check_kind(section: &Section<'_>, kind: Kind, preset: Option<&Preset>) {
    let only = [
        ("base_url", Kind::OpenAi),
        ("api_key", Kind::OpenAi),
        ("headers", Kind::OpenAi),
        ("path", Kind::Local),
        ("script", Kind::Scripted),
    ];
    for (key, owner) in only {
        if kind != owner && section.given(key) {
            section.fail(
                key,
                format!("only a provider of kind \"{}\" has one", owner.name()),
            );
        }
    }
    if kind == Kind::OpenAi && preset.is_none() && !section.given("base_url") {
        section.fail(
            "base_url",
            "is missing: such as \"http://127.0.0.1:8000/v1\"",
        );
    }
}

fn api_key(section: &mut Section<'_>, preset: Option<&Preset>) -> Option<Secret> {
    let key = section.secret("api_key");
    if section.given("api_key") {
        return key;
    }
    let variable = preset?.key_env?;
    Secret::from_env(section.env(), variable)
        .map_err(|message| section.fail("api_key", message))
        .ok()
}

fn headers(section: &mut Section<'_>, has_key: bool) -> BTreeMap<String, Secret> {
    /// The connection's own business, or the adapter's.
    const OURS: [&str; 7] = [
        "accept",
        "connection",
        "content-length",
        "content-type",
        "host",
        "te",
        "transfer-encoding",
    ];
    section.secrets("headers", |name| {
        let name = http::HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| "is no name of a header: letters, digits and '-'".to_owned())?;
        if OURS.contains(&name.as_str()) {
            return Err(format!(
                "cannot be set: {} are not the configuration's",
                OURS.join(", ")
            ));
        }
        if has_key && name == http::header::AUTHORIZATION {
            return Err("is set by api_key already: leave one of them out".into());
        }
        Ok(name.as_str().to_owned())
    })
}

fn provider_name(text: &str) -> Result<String, String> {
    if matches!(text, "ensemble" | "experiment") {
        return Err(format!("must not be '{text}': that prefix names {text}s"));
    }
    word(text)
}

/// What is written here may be a key pasted by mistake, so the message does not repeat it.
fn base_url(text: &str) -> Result<String, String> {
    let wanted = "must be http:// or https:// with a host and a path, such as \"https://host/v1\"";
    let url: http::Uri = text.parse().map_err(|_| wanted.to_owned())?;
    let scheme = matches!(url.scheme_str(), Some("http" | "https"));
    let host = url.host().is_some_and(|host| !host.is_empty());
    if !scheme || !host {
        return Err(wanted.into());
    }
    if url.query().is_some() || text.contains('#') {
        return Err("must end with its path: no query and no fragment".into());
    }
    if url
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("must not carry a user or password: use api_key or headers".into());
    }
    Ok(text.trim_end_matches('/').to_owned())
}
