//! Vendors and local servers that need no more than a key, or not even that.
//!
//! Addresses, names of variables and default models are those of the vendors' own documentation as of
//! autumn 2026. Models come and go: the default is one that is cheap, current and good at everyday
//! work, and `models` in the configuration names others.

use std::collections::BTreeMap;

use crate::provider::deployment::{Limits, Timeouts};

use super::{Kind, ModelConfig, ProviderConfig, Secret};

/// The models that a provider of kind `local` may name.
pub const LOCAL_MODELS: [&str; 2] = ["smollm2-135m", "qwen2.5-coder-0.5b"];

/// What is known about a vendor or a local server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// What `preset = "…"` and, by default, the provider is called.
    pub name: &'static str,
    /// OpenTelemetry's `gen_ai.provider.name`; its well-known values where there is one.
    pub vendor: &'static str,
    /// Where it is.
    pub base_url: &'static str,
    /// The variable its key is in; `None` for a local server, which wants none.
    pub key_env: Option<&'static str>,
    /// The port a local server listens on unless told otherwise; `None` for a vendor.
    pub probe_port: Option<u16>,
    /// What is used if nobody names a model; nothing for a local server, which serves what it was
    /// started with.
    pub models: &'static [&'static str],
}

const fn vendor(
    name: &'static str,
    vendor: &'static str,
    base_url: &'static str,
    key_env: &'static str,
    models: &'static [&'static str],
) -> Preset {
    Preset {
        name,
        vendor,
        base_url,
        key_env: Some(key_env),
        probe_port: None,
        models,
    }
}

const fn server(name: &'static str, base_url: &'static str, port: u16) -> Preset {
    Preset {
        name,
        vendor: name,
        base_url,
        key_env: None,
        probe_port: Some(port),
        models: &[],
    }
}

/// Every preset, in the order in which [`discover`] offers them.
#[rustfmt::skip]
pub const ALL: [Preset; 15] = [
    vendor("openai", "openai", "https://api.openai.com/v1", "OPENAI_API_KEY", &["gpt-5.4-mini"]),
    vendor("openrouter", "openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", &["openrouter/auto"]),
    vendor("groq", "groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY", &["openai/gpt-oss-120b"]),
    vendor("cerebras", "cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", &["gpt-oss-120b"]),
    vendor("mistral", "mistral_ai", "https://api.mistral.ai/v1", "MISTRAL_API_KEY", &["mistral-small-latest"]),
    vendor("deepseek", "deepseek", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", &["deepseek-flash"]),
    vendor("moonshot", "moonshot_ai", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY", &["kimi-k2.6"]),
    vendor("zhipu", "zhipu_ai", "https://api.z.ai/api/paas/v4", "ZAI_API_KEY", &["glm-4.7"]),
    vendor("together", "together_ai", "https://api.together.ai/v1", "TOGETHER_API_KEY", &["openai/gpt-oss-20b"]),
    vendor("fireworks", "fireworks_ai", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", &["accounts/fireworks/models/gpt-oss-120b"]),
    vendor("xai", "x_ai", "https://api.x.ai/v1", "XAI_API_KEY", &["grok-4.3"]),
    server("ollama", "http://127.0.0.1:11434/v1", 11434),
    server("llama.cpp", "http://127.0.0.1:8080/v1", 8080),
    server("vllm", "http://127.0.0.1:8000/v1", 8000),
    server("lm-studio", "http://127.0.0.1:1234/v1", 1234),
];

impl Preset {
    /// The preset of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|preset| preset.name == name)
    }

    /// A provider as this preset says, with these models.
    pub fn provider<I>(&self, api_key: Option<Secret>, models: I) -> ProviderConfig
    where
        I: IntoIterator<Item: Into<String>>,
    {
        ProviderConfig {
            name: self.name.into(),
            kind: Kind::OpenAi,
            vendor: self.vendor.into(),
            base_url: Some(self.base_url.into()),
            api_key,
            headers: BTreeMap::new(),
            models: models.into_iter().map(ModelConfig::named).collect(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            script: None,
            path: None,
        }
    }
}

/// The vendors whose key is in the environment, in the table's order, each with its default models. A
/// variable that is empty, or cannot be a key, counts as not set.
pub fn discover(env: impl IntoIterator<Item = (String, String)>) -> Vec<ProviderConfig> {
    let env: BTreeMap<String, String> = env.into_iter().collect();
    let provider = |preset: &Preset| {
        let key = Secret::new(env.get(preset.key_env?)?).ok()?;
        Some(preset.provider(Some(key), preset.models.iter().copied()))
    };
    ALL.iter().filter_map(provider).collect()
}

/// Name and base URL of each server that may run on this machine, on its default port.
pub fn local_servers() -> impl Iterator<Item = (&'static str, &'static str)> {
    let local = ALL.iter().filter(|preset| preset.probe_port.is_some());
    local.map(|preset| (preset.name, preset.base_url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_the_environment_is_a_provider_with_its_default_models() {
        let env = [
            ("XAI_API_KEY", "x"),
            ("GROQ_API_KEY", "g"),
            ("OPENAI_API_KEY", ""),
            ("HOME", "/"),
        ];
        let found = discover(env.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let names: Vec<&str> = found
            .iter()
            .map(|provider| provider.name.as_str())
            .collect();
        assert_eq!(
            names,
            ["groq", "xai"],
            "in the order of the table, and none with an empty key"
        );
        assert_eq!(found[0].api_key.as_ref().map(Secret::expose), Some("g"));
        assert_eq!(
            found[0].deployments()[0].id.as_str(),
            "groq/openai/gpt-oss-120b"
        );
    }

    #[test]
    fn each_preset_either_needs_a_key_and_has_models_or_is_local_and_has_a_port() {
        for preset in ALL {
            assert_eq!(
                preset.key_env.is_some(),
                !preset.models.is_empty(),
                "{}",
                preset.name
            );
            assert_eq!(
                preset.key_env.is_none(),
                preset.probe_port.is_some(),
                "{}",
                preset.name
            );
            let port = preset.probe_port.map(|port| format!(":{port}/"));
            assert!(
                preset
                    .base_url
                    .contains(port.as_deref().unwrap_or("https://")),
                "{preset:?}"
            );
            assert_eq!(Preset::find(preset.name), Some(&preset));
        }
        assert_eq!(local_servers().count(), 4);
    }
}
