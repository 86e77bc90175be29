//! `quorate models`: which there are, and how the small ones come here.

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use quorate::models::{CATALOGUE, Model};
use serde_json::{Value, json};

use super::client::{self, Client};
use super::failure::Failure;
use super::global::Global;
use super::output::Output;
use super::table::{Cell, table};
use super::weights;

/// List the models, or fetch one that runs in this process.
#[derive(Debug, clap::Args)]
pub struct Models {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List what can be asked for, and what can be fetched
    List,
    /// Fetch a model that runs in this process
    Fetch(Fetch),
}

#[derive(Debug, clap::Args)]
struct Fetch {
    /// Which
    #[arg(default_value = CATALOGUE[0].name, value_parser = PossibleValuesParser::new(CATALOGUE.iter().map(|model| model.name)))]
    name: String,
    /// Where it comes from, a file or an https URL, instead of the Python package index
    #[arg(long, value_name = "FILE|URL")]
    from: Option<String>,
}

impl Models {
    /// Lists or fetches.
    pub async fn run(self, global: &Global, out: Output) -> Result<(), Failure> {
        match self.action {
            None | Some(Action::List) => list(global, out).await,
            Some(Action::Fetch(fetch)) => {
                let path = weights::fetch(&fetch.name, fetch.from.as_deref(), out).await?;
                let path = path.display().to_string();
                if out.json {
                    return Ok(out.value(&json!({ "model": fetch.name, "path": path }))?);
                }
                Ok(out.line(path)?)
            }
        }
    }
}

async fn list(global: &Global, out: Output) -> Result<(), Failure> {
    let mut list = match running(global).await? {
        Some(list) => list,
        None => configured(global)?,
    };
    if out.json {
        list["fetchable"] = CATALOGUE.iter().map(fetchable).collect();
        return Ok(out.value(&list)?);
    }
    let models = list["data"].as_array().into_iter().flatten();
    let row = |model: &Value| {
        ["id", "owned_by"].map(|key| Cell::from(model[key].as_str().unwrap_or("?")))
    };
    let models: Vec<[Cell; 2]> = models.map(row).collect();
    let row = |model: &Model| {
        let installed = weights::installed(model).map(|path| path.display().to_string());
        let size = format!("{} MB", model.size() / 1_000_000);
        [
            model.name,
            &size,
            model.licence,
            &installed.unwrap_or_else(|| "not here".into()),
        ]
        .map(Cell::from)
    };
    let fetched: Vec<[Cell; 4]> = CATALOGUE.iter().map(row).collect();
    out.text(&table(["MODEL", "OF"], &models))?;
    let gap = if models.is_empty() { "" } else { "\n" };
    let heads = ["TO RUN IN PROCESS", "SIZE", "LICENCE", "FILE"];
    Ok(out.text(&format!("{gap}{}", table(heads, &fetched)))?)
}

/// What the daemon can be asked for; nothing if none runs.
async fn running(global: &Global) -> Result<Option<Value>, Failure> {
    let Some(path) = global.door()? else {
        return Ok(None);
    };
    match Client::connect(&path).await {
        Ok(mut client) => {
            global.leave_to(&path)?;
            client.call("models", json!({})).await.map(Some)
        }
        Err(error) if client::is_absent(&error) => Ok(None),
        Err(error) => Err(client::unreachable(&path, &error)),
    }
}

/// What a daemon of this configuration could be asked for.
fn configured(global: &Global) -> Result<Value, Failure> {
    let config = global.load()?;
    let auto = std::iter::once("auto".to_owned());
    let aliases = config.models.keys().cloned();
    let ensembles = config
        .ensembles
        .keys()
        .map(|name| format!("ensemble/{name}"));
    let names = auto
        .chain(aliases)
        .chain(ensembles)
        .chain(config.deployments().map(|one| one.id.to_string()));
    let model = |id: String| {
        let owner = id.split_once('/').map_or("quorate", |(owner, _)| owner);
        json!({ "id": id, "object": "model", "owned_by": owner })
    };
    let data: Vec<Value> = names.map(model).collect();
    Ok(json!({ "object": "list", "data": data }))
}

fn fetchable(model: &Model) -> Value {
    json!({
        "name": model.name,
        "bytes": model.size(),
        "chats": model.chats(),
        "licence": model.licence,
        "path": weights::installed(model),
    })
}
