//! What is learned from judgements, checks and agreement, and what it changes, seen through the doors.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod judgements;
mod recovery;
mod routing;
#[path = "../support/mod.rs"]
mod support;
mod votes;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Daemon, PATIENCE, Reply, Rpc, World, chat, send};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

const CHAT: &str = "/v1/chat/completions";
const FEEDBACK: &str = "/v1/feedback";
const CITY: &str = "Which city is the capital of France?";

/// Answers that cost the same wherever they come from.
fn says(text: &str) -> Value {
    json!({ "answer": text, "usage": { "input": 20, "output": 5 } })
}

/// Says `easy` to every question but those that contain a key of `others`.
fn says_by_question(easy: &str, others: &[(&str, &str)]) -> Value {
    let mut script = says(easy);
    let other = |(part, text): &(&str, &str)| ((*part).to_owned(), json!({ "answer": text }));
    script["by_prompt"] = Value::Object(others.iter().map(other).collect());
    script
}

/// A chat request with our own object in it.
fn ask(model: &str, text: &str, quorate: Value) -> Value {
    let mut request = chat(model, text);
    request["quorate"] = quorate;
    request
}

/// Asks all three members and merges as `merge` says.
fn everyone(merge: &str) -> Value {
    let quorate = json!({ "ensemble": ["a/m", "b/m", "c/m"], "merge": merge, "everyone": true });
    ask("auto", CITY, quorate)
}

/// JSON as TOML writes it in one line.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                format!("{} = {}", Value::from(key.as_str()), inline(value))
            };
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// A configured double with one model, `m`; `more` goes into the model's table.
fn provider(name: &str, script: &Value, more: &str) -> String {
    format!(
        "[[providers]]\nname = \"{name}\"\nkind = \"scripted\"\nscript = {}\nmodels = [{{ name = \"m\"{more} }}]\n",
        inline(script)
    )
}

/// Three of them, and the ensemble `panel` of all.
fn panel(merge: &str, scripts: [Value; 3]) -> String {
    let [a, b, c] = scripts;
    let ensemble =
        format!("[ensembles.panel]\nmembers = [\"a/m\", \"b/m\", \"c/m\"]\nmerge = \"{merge}\"\n");
    [
        provider("a", &a, ""),
        provider("b", &b, ""),
        provider("c", &c, ""),
        ensemble,
    ]
    .concat()
}

async fn post(http: SocketAddr, path: &str, body: &Value) -> Reply {
    let request = hyper::Request::post(path).header("host", "localhost");
    let request = request.body(body.to_string().into()).unwrap();
    let stream = TcpStream::connect(http).await.unwrap();
    send(stream, request).await.unwrap()
}

/// A question that is answered.
async fn answered(http: SocketAddr, request: &Value) -> Reply {
    let reply = post(http, CHAT, request).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply
}

/// A judgement of an answer.
async fn judge(http: SocketAddr, of: &Reply, judgement: &Value) -> Reply {
    let mut judgement = judgement.clone();
    judgement["decision"] = of.header("x-quorate-decision").into();
    post(http, FEEDBACK, &judgement).await
}

/// So many rounds of everybody in `panel`, each told its right answer. Easy and hard questions take turns.
async fn rounds(http: SocketAddr, many: usize, reference: &str) {
    for round in 0..many {
        let question = if round % 2 == 0 { "easy" } else { "hard" };
        let request = ask("ensemble/panel", question, json!({ "everyone": true }));
        let reply = answered(http, &request).await;
        let judged = judge(http, &reply, &json!({ "reference": reference })).await;
        assert_eq!(judged.json()["outcome"], "recorded", "{}", judged.body);
    }
}

/// What the status says of the ensemble `panel`.
async fn panel_status(world: &World) -> Value {
    world.get("/v1/status").await.json()["ensembles"]["panel"].clone()
}

/// Waits until the weights of `panel` rest on at least so many rounds.
async fn until_fitted(world: &World, rounds: u64) {
    world
        .until("the votes' weights are fitted", async |w| {
            let learned = panel_status(w).await["learned"][0].as_u64();
            learned.is_some_and(|learned| learned >= rounds)
        })
        .await;
}

/// How many judgements of users a deployment has learned from.
fn user_judgements(world: &World, id: &str) -> u64 {
    let sources = world.deployment(id)["quality"]["sources"].clone();
    sources["user"]["count"].as_u64().unwrap_or(0)
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "never came true: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// What the ledger's file holds of a cell.
fn on_disk(dir: &Path, key: &str) -> Option<String> {
    let ledger = rusqlite::Connection::open(dir.join("ledger.db")).ok()?;
    let select = "SELECT payload FROM cells WHERE key = ?1";
    ledger.query_row(select, [key], |row| row.get(0)).ok()
}
