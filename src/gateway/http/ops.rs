//! Everything but the chat: names, plans, judgements, health.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Asked, Body, chat, typed};
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::Doors;
use crate::orchestrator::Feedback;

pub(super) fn models(asked: &Asked) -> Response<Body> {
    super::json(StatusCode::OK, list(&asked.doors).to_string())
}

pub(super) fn model(asked: &Asked, name: &str) -> Result<Response<Body>> {
    let found = asked
        .doors
        .orchestrator
        .models()
        .into_iter()
        .find(|known| known == name);
    match found {
        Some(name) => Ok(super::json(StatusCode::OK, entry(&name).to_string())),
        None => Err(Error::new(
            ErrorKind::NoCandidate,
            "no model has this name; see /v1/models",
        )),
    }
}

/// The list of models as the OpenAI wire has it.
pub(in crate::gateway) fn list(doors: &Doors) -> Value {
    let entries: Vec<Value> = doors
        .orchestrator
        .models()
        .iter()
        .map(|name| entry(name))
        .collect();
    json!({ "object": "list", "data": entries })
}

fn entry(name: &str) -> Value {
    let owner = name.split_once('/').map_or("quorate", |(owner, _)| owner);
    json!({ "id": name, "object": "model", "created": 0, "owned_by": owner })
}

pub(super) async fn explain(asked: Asked) -> Result<Response<Body>> {
    let (body, caller, doors) = asked.body().await?;
    let chat = chat::read(body, &caller)?;
    reply(&doors.orchestrator.explain(&chat.query, chat.stream)?)
}

pub(super) async fn feedback(asked: Asked) -> Result<Response<Body>> {
    let (body, caller, doors) = asked.body().await?;
    let mut feedback = parse_feedback(&body)?;
    if !caller.admin {
        // With a judgement a decision and no say in others', a key cannot spoil what is learned for all.
        feedback.by = Some(caller.user);
        feedback.source = None;
    }
    reply(&doors.orchestrator.feedback(feedback).await?)
}

/// Reads a judgement.
pub(in crate::gateway) fn parse_feedback(body: &[u8]) -> Result<Feedback> {
    // Of an array, serde would take the entries for the fields in their order.
    let object: serde_json::Result<Map<String, Value>> = serde_json::from_slice(body);
    let read = object.and_then(|object| serde_json::from_value(Value::Object(object)));
    read.map_err(|error| {
        let message =
            format!(
            "expected {{\"decision\": text, one of \"score\": 0..1, \"thumb\": up or down, \"chosen\": member, \"reference\": text; \
             \"source\": text}}: {error}"
        );
        Error::invalid("feedback", message)
    })
}

pub(super) fn status(asked: &Asked) -> Result<Response<Body>> {
    asked.caller.check_admin()?;
    reply(&asked.doors.orchestrator.status())
}

pub(super) fn metrics(asked: &Asked) -> Result<Response<Body>> {
    asked.caller.check_admin()?;
    match &asked.doors.hooks.metrics {
        Some(render) => {
            asked.doors.orchestrator.gauge();
            let format = "text/plain; version=0.0.4; charset=utf-8";
            Ok(typed(StatusCode::OK, format, render()))
        }
        None => Err(Error::new(
            ErrorKind::NoCandidate,
            "this host exports its metrics elsewhere",
        )),
    }
}

fn reply(value: &impl Serialize) -> Result<Response<Body>> {
    let body = serde_json::to_vec(value);
    let body =
        body.map_err(|error| Error::new(ErrorKind::Internal, format!("not written: {error}")))?;
    Ok(super::json(StatusCode::OK, Bytes::from(body)))
}
