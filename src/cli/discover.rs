//! Providers without a configuration: vendors whose key is in the environment, servers on this machine,
//! or else a small model in this process.

use std::time::Duration;

use futures_util::future::join_all;
use http::Uri;
use http::header::HOST;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use quorate::config::presets::{self, LOCAL_MODELS, Preset};
use quorate::config::{self, Kind, ModelConfig, ProviderConfig};
use quorate::provider::{Limits, Timeouts};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::failure::Failure;
use super::output::Output;
use super::weights;

/// A server on this machine accepts at once, or is not there.
const TO_CONNECT: Duration = Duration::from_millis(200);

/// A server that is busy loading a model may need a moment to list it.
const TO_LIST: Duration = Duration::from_millis(800);

/// The longest list of models that is read, in bytes.
const LONGEST_LIST: usize = 1 << 20;

/// The most models taken from one server.
const MOST_MODELS: usize = 64;

/// Finds providers and says on standard error which. `probe`: look for servers on this machine too.
pub async fn providers(probe: bool, out: Output) -> Result<Vec<ProviderConfig>, Failure> {
    let mut found = presets::discover(config::environment());
    if probe {
        found.extend(local_servers().await);
    }
    if found.is_empty() {
        found.push(in_process(out).await?);
    }
    let names: Vec<&str> = found
        .iter()
        .map(|provider| provider.name.as_str())
        .collect();
    out.note(format_args!(
        "no provider is configured: using {}",
        names.join(", ")
    ));
    Ok(found)
}

async fn local_servers() -> Vec<ProviderConfig> {
    let probed = presets::local_servers().map(|(name, base_url)| async move {
        let models = timeout(TO_CONNECT + TO_LIST, models_at(base_url))
            .await
            .ok()??;
        let preset = Preset::find(name).filter(|_| !models.is_empty())?;
        Some(preset.provider(None, models))
    });
    join_all(probed).await.into_iter().flatten().collect()
}

/// The models that an OpenAI-compatible server lists; nothing if there is none.
async fn models_at(base_url: &str) -> Option<Vec<String>> {
    let address: Uri = format!("{base_url}/models").parse().ok()?;
    let authority = address.authority()?.as_str();
    let stream = timeout(TO_CONNECT, TcpStream::connect(authority))
        .await
        .ok()?
        .ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = http::Request::get(address.path()).header(HOST, authority);
    let request = request.body(Empty::<Bytes>::new()).ok()?;
    let listing = async move {
        let response = sender.send_request(request).await.ok()?;
        let is_listed = response.status().is_success();
        let body = Limited::new(response.into_body(), LONGEST_LIST)
            .collect()
            .await
            .ok()?;
        is_listed.then(|| chat_models(&body.to_bytes()))
    };
    let mut listing = std::pin::pin!(listing);
    tokio::select! {
        models = &mut listing => models,
        // The connection may end with the last byte of the list, before that was looked at.
        _ = connection => listing.await,
    }
}

/// The names in a list of models as the OpenAI wire writes it, without those that only embed.
fn chat_models(body: &[u8]) -> Vec<String> {
    let list: Value = serde_json::from_slice(body).unwrap_or_default();
    let is_name = |name: &&str| {
        let printable = name.chars().all(|c| !c.is_control() && !c.is_whitespace());
        printable && (1..=256).contains(&name.chars().count()) && !name.contains("embed")
    };
    let models = list["data"].as_array().into_iter().flatten();
    let names = models
        .filter_map(|model| model["id"].as_str())
        .filter(is_name);
    names.take(MOST_MODELS).map(str::to_owned).collect()
}

/// The small model in this process, fetched if it is not there.
async fn in_process(out: Output) -> Result<ProviderConfig, Failure> {
    let name = LOCAL_MODELS[0];
    if !cfg!(feature = "local") {
        return Err(Failure::unavailable(WAYS_FORWARD));
    }
    weights::fetch(name, None, out).await?;
    Ok(ProviderConfig {
        name: "local".into(),
        kind: Kind::Local,
        vendor: Kind::Local.name().into(),
        base_url: None,
        api_key: None,
        headers: std::collections::BTreeMap::new(),
        models: vec![ModelConfig::named(name)],
        timeouts: Timeouts::default(),
        limits: Limits::default(),
        script: None,
        path: None,
    })
}

const WAYS_FORWARD: &str = "there is no model to ask: set a vendor's key, such as OPENAI_API_KEY; or start a \
                            model server here, such as Ollama; or build with the feature `local`";

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// The models of a server that answers with `response` and hangs up.
    async fn listed(response: &'static str) -> Option<Vec<String>> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let server = async {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = peer.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /v1/models HTTP/1.1\r\n"));
            peer.write_all(response.as_bytes()).await.unwrap();
        };
        tokio::join!(models_at(&base_url), server).0
    }

    #[tokio::test]
    async fn a_server_that_lists_models_is_found_however_it_frames_its_answer() {
        let plain =
            "HTTP/1.1 200 OK\r\n\r\n{\"data\":[{\"id\":\"llama3:8b\"},{\"id\":\"nomic-embed\"}]}";
        assert_eq!(listed(plain).await.unwrap(), ["llama3:8b"]);
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                       a\r\n{\"data\":[{\r\n9\r\n\"id\":\"x\"}\r\n2\r\n]}\r\n0\r\n\r\n";
        assert_eq!(listed(chunked).await.unwrap(), ["x"]);
    }

    #[tokio::test]
    async fn a_server_of_another_kind_is_left_alone() {
        assert_eq!(
            listed("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await,
            None
        );
        assert_eq!(
            listed("HTTP/1.1 200 OK\r\n\r\n<html>").await.unwrap(),
            [""; 0]
        );
        assert_eq!(listed("SSH-2.0-OpenSSH_9\r\n").await, None);
    }

    #[test]
    fn a_name_that_cannot_be_a_models_is_passed_over() {
        let list = br#"{"data":[{"id":"a b"},{"id":""},{"id":7},{},{"id":"ok"}]}"#;
        assert_eq!(chat_models(list), ["ok"]);
        assert_eq!(chat_models(b"{\"data\":{}}"), [""; 0]);
    }
}
