//! Adapters: one folder per wire.
//!
//! - [`openai`]: the chat-completions wire over HTTP(S).
//! - `local`: a small model in this process (feature `local`).
//! - [`scripted`]: a test double whose behaviour comes from data; serves only where a configuration names it.

#[cfg(feature = "local")]
pub mod local;
pub mod openai;
pub mod scripted;

use std::sync::Arc;

use super::{Deployment, Provider, Served};
use crate::config::{Kind, ProviderConfig};

/// Builds what serves a configured provider's models.
///
/// # Errors
/// What is wrong, naming the provider and the field.
pub fn build(config: &ProviderConfig, client: &openai::Client) -> Result<Vec<Served>, String> {
    let named = |error: String| format!("provider '{}': {error}", config.name);
    let deployments = config.deployments();
    match config.kind {
        Kind::OpenAi => {
            let base_url = config.base_url.as_deref().unwrap_or_default();
            let provider: Arc<dyn Provider> = Arc::new(
                openai::OpenAiProvider::new(
                    client.clone(),
                    base_url,
                    config.api_key.as_ref(),
                    &config.headers,
                )
                .map_err(named)?,
            );
            Ok(deployments
                .into_iter()
                .map(|deployment| Served {
                    deployment,
                    provider: Arc::clone(&provider),
                })
                .collect())
        }
        Kind::Scripted => {
            let mut served = Vec::new();
            for (deployment, model) in deployments.into_iter().zip(&config.models) {
                let script = model.script.clone().or_else(|| config.script.clone());
                let script = script.unwrap_or_else(|| serde_json::json!({}));
                let provider = scripted::ScriptedProvider::new(script).map_err(named)?;
                served.push(Served {
                    deployment,
                    provider: Arc::new(provider),
                });
            }
            Ok(served)
        }
        Kind::Local => local_models(config, deployments).map_err(named),
    }
}

#[cfg(feature = "local")]
fn local_models(
    config: &ProviderConfig,
    deployments: Vec<Deployment>,
) -> Result<Vec<Served>, String> {
    let mut served = Vec::new();
    for deployment in deployments {
        let path = match &config.path {
            Some(path) => path.clone(),
            None => weights(&deployment.model)?,
        };
        let provider = local::LocalProvider::open(path, deployment.model.clone())
            .map_err(|e| e.to_string())?;
        served.push(Served {
            deployment,
            provider: Arc::new(provider),
        });
    }
    Ok(served)
}

/// Where a model of the catalogue has its weights.
#[cfg(feature = "local")]
fn weights(name: &str) -> Result<std::path::PathBuf, String> {
    use crate::models::{Fetcher, cache_dir, find};
    let model = find(name)
        .filter(|model| model.chats())
        .ok_or_else(|| format!("no model of the catalogue is called '{name}'"))?;
    let cache = cache_dir(|name| std::env::var_os(name))
        .ok_or("no cache directory: set HOME or QUORATE_CACHE_DIR")?;
    Ok(Fetcher::new(cache).path(model))
}

#[cfg(not(feature = "local"))]
fn local_models(_: &ProviderConfig, _: Vec<Deployment>) -> Result<Vec<Served>, String> {
    Err("kind = \"local\" needs a build with the feature `local`".into())
}
