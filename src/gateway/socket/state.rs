//! The method `state`: what can be done with learned state, and how that is asked for.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::rpc::bytes;
use crate::error::{Error, Result};
use crate::orchestrator::{Evidence, Orchestrator};

const ACTIONS: &str =
    "must be show, export, import (state), evidence (evidence), pin (pinned) or rollback (digest)";

#[derive(Debug)]
enum Action {
    Show,
    Export,
    Import(Value),
    Evidence(Vec<Evidence>),
    Pin(bool),
    Rollback(String),
}

/// Does what `params` ask for.
pub(super) async fn run(orchestrator: &Orchestrator, params: &[u8]) -> Result<Bytes> {
    match read(params)? {
        Action::Show => bytes(&orchestrator.held().await?),
        Action::Export => Ok(orchestrator.export().into()),
        Action::Import(state) => bytes(&orchestrator.restore(state.to_string().as_bytes()).await?),
        Action::Evidence(evidence) => {
            orchestrator.import(&evidence)?;
            bytes(&json!({ "taken": evidence.len() }))
        }
        Action::Pin(pinned) => bytes(&orchestrator.pin_and_save(pinned).await?),
        Action::Rollback(digest) => bytes(&orchestrator.rollback(&digest).await?),
    }
}

/// Reads field by field, so that what is wrong is told of its own field.
fn read(params: &[u8]) -> Result<Action> {
    let mut params: Map<String, Value> = serde_json::from_slice(params)
        .map_err(|error| Error::invalid("params", format!("expected an object: {error}")))?;
    let action = params.remove("action").unwrap_or_default();
    let read = match action.as_str() {
        Some("show") => Action::Show,
        Some("export") => Action::Export,
        Some("import") => Action::Import(object("state", taken(&mut params, "state")?)?),
        Some("evidence") => Action::Evidence(evidence(taken(&mut params, "evidence")?)?),
        Some("pin") => Action::Pin(typed("pinned", taken(&mut params, "pinned")?)?),
        Some("rollback") => Action::Rollback(typed("digest", taken(&mut params, "digest")?)?),
        _ => return Err(Error::invalid("action", format!("action {ACTIONS}"))),
    };
    match params.keys().next() {
        Some(more) => {
            let more: String = more.chars().take(64).collect();
            let message = format!("is nothing that this action takes; action {ACTIONS}");
            Err(Error::invalid(more, message))
        }
        None => Ok(read),
    }
}

fn taken(params: &mut Map<String, Value>, field: &str) -> Result<Value> {
    let value = params.remove(field);
    value.ok_or_else(|| Error::invalid(field, format!("is missing; action {ACTIONS}")))
}

fn typed<T: DeserializeOwned>(field: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| Error::invalid(field, error.to_string()))
}

/// Of an array, serde would take the entries for the fields in their order.
fn object(field: &str, value: Value) -> Result<Value> {
    if value.is_object() {
        return Ok(value);
    }
    Err(Error::invalid(field, "must be an object"))
}

fn evidence(value: Value) -> Result<Vec<Evidence>> {
    let entries: Vec<Value> = typed("evidence", value)?;
    let entries = entries.into_iter().enumerate();
    entries
        .map(|(at, entry)| {
            let field = format!("evidence[{at}]");
            typed(&field, object(&field, entry)?)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_of_its_own_field() {
        for (params, param, says) in [
            (r#"["show"]"#, "params", "expected an object"),
            (r"{}", "action", "show, export, import"),
            (r#"{"action":["show"]}"#, "action", "show, export"),
            (r#"{"action":"show","pinned":true}"#, "pinned", "nothing"),
            (r#"{"action":"import"}"#, "state", "is missing"),
            (r#"{"action":"import","state":[]}"#, "state", "an object"),
            (r#"{"action":"pin","pinned":"yes"}"#, "pinned", "boolean"),
            (r#"{"action":"rollback","digest":7}"#, "digest", "string"),
            (
                r#"{"action":"evidence","evidence":{}}"#,
                "evidence",
                "sequence",
            ),
            (
                r#"{"action":"evidence","evidence":[["a/m",1,1,"s"]]}"#,
                "evidence[0]",
                "an object",
            ),
            (
                r#"{"action":"evidence","evidence":[{"deployment":"a/m","score":"good"}]}"#,
                "evidence[0]",
                "good",
            ),
            (
                r#"{"action":"evidence","evidence":[{"deployment":"a/m","score":1}]}"#,
                "evidence[0]",
                "source",
            ),
        ] {
            let error = read(params.as_bytes()).expect_err(params);
            assert_eq!(error.param(), Some(param), "{params}: {error}");
            assert!(error.message().contains(says), "{params}: {error}");
        }
        assert!(read(br#"{"action":"export"}"#).is_ok());
    }
}
