//! Our own object in a request, `quorate`: what the caller wants of admission, routing and the report.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::learning::topics::LONGEST as LONGEST_TOPIC;
use crate::query::Query;

/// Every field, for the message about one that is none of them.
const FIELDS: [&str; 11] = [
    "lane",
    "deadline_ms",
    "session",
    "task",
    "topic",
    "ensemble",
    "merge",
    "quorum",
    "everyone",
    "explain",
    "max_cost",
];
/// A day.
const LONGEST_DEADLINE_MS: u64 = 86_400_000;
/// Members of an ad-hoc ensemble.
const MOST_MEMBERS: usize = 16;
/// Bytes of a text that names something.
pub(super) const LONGEST_NAME: usize = 512;

/// Reads the object into `query`. A field that is `null` counts as left out; the deadline starts now.
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid) with the field, for an unknown one too: a typing error here would
/// otherwise change nothing and tell nobody.
pub fn apply(object: Value, query: &mut Query) -> Result<()> {
    let fields = match object {
        Value::Null => return Ok(()),
        Value::Object(fields) => fields,
        _ => return Err(Error::invalid("quorate", "must be an object")),
    };
    for (field, value) in fields {
        let wrong = |message: String| Error::invalid(format!("quorate.{field}"), message);
        if !FIELDS.contains(&&*field) {
            return Err(wrong(format!(
                "unknown field: allowed are {}",
                FIELDS.join(", ")
            )));
        }
        if !value.is_null() {
            set(query, &field, value).map_err(wrong)?;
        }
    }
    let members = query.routing.ensemble.len();
    match query.routing.quorum {
        Some(quorum) if members > 0 && quorum > members => Err(Error::invalid(
            "quorate.quorum",
            format!("must be at most {members}, the number of members"),
        )),
        _ => Ok(()),
    }
}

fn set(query: &mut Query, field: &str, value: Value) -> Result<(), String> {
    let routing = &mut query.routing;
    match field {
        "lane" => query.lane = text(&value)?.parse()?,
        "deadline_ms" => {
            let allowed = 1..=LONGEST_DEADLINE_MS;
            let ms = value.as_u64().filter(|ms| allowed.contains(ms));
            let ms =
                ms.ok_or_else(|| format!("must be an integer from 1 to {LONGEST_DEADLINE_MS}"))?;
            query.deadline = Some(Instant::now() + Duration::from_millis(ms));
        }
        "session" => query.session = Some(name(&value)?),
        "task" => query.task = Some(text(&value)?.parse()?),
        "topic" => {
            let topic = text(&value)?;
            if !(1..=LONGEST_TOPIC).contains(&topic.len()) {
                return Err(format!("must be a string of 1 to {LONGEST_TOPIC} bytes"));
            }
            query.topic = Some(topic.to_owned());
        }
        "ensemble" => {
            let members = value
                .as_array()
                .filter(|members| (1..=MOST_MEMBERS).contains(&members.len()));
            let members =
                members.ok_or_else(|| format!("must be an array of 1 to {MOST_MEMBERS} models"))?;
            routing.ensemble = members.iter().map(name).collect::<Result<_, _>>()?;
        }
        "merge" => routing.merge = Some(text(&value)?.parse()?),
        "quorum" => {
            let quorum = value
                .as_u64()
                .and_then(|quorum| usize::try_from(quorum).ok());
            let quorum = quorum.filter(|quorum| (1..=MOST_MEMBERS).contains(quorum));
            routing.quorum =
                Some(quorum.ok_or_else(|| format!("must be an integer from 1 to {MOST_MEMBERS}"))?);
        }
        "everyone" => routing.everyone = value.as_bool().ok_or("must be true or false")?,
        "explain" => routing.explain = value.as_bool().ok_or("must be true or false")?,
        _ => {
            let cost = value.as_f64().filter(|cost| *cost >= 0.0);
            routing.max_cost = Some(cost.ok_or("must be a number of dollars, at least 0")?);
        }
    }
    Ok(())
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "must be a string".into())
}

fn name(value: &Value) -> Result<String, String> {
    let named = value
        .as_str()
        .filter(|text| (1..=LONGEST_NAME).contains(&text.len()));
    let wanted = || format!("must be a string of 1 to {LONGEST_NAME} bytes");
    named.map(str::to_owned).ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ensembler::merge::Strategy;
    use crate::query::{Lane, TaskKind};

    fn applied(object: Value) -> Result<Query> {
        let mut query = Query::new("m", "hi");
        apply(object, &mut query)?;
        Ok(query)
    }

    #[tokio::test(start_paused = true)]
    async fn every_field_reaches_the_query() {
        let query = applied(json!({
            "lane": "urgent", "deadline_ms": 8000, "session": "s", "task": "code", "topic": "sql", "ensemble": ["a/x", "b/y"],
            "merge": "judge", "quorum": 2, "explain": true, "max_cost": 0.5,
        }))
        .unwrap();
        assert_eq!(query.lane, Lane::Urgent);
        assert_eq!(
            query.deadline,
            Some(Instant::now() + Duration::from_secs(8))
        );
        assert_eq!(query.session.as_deref(), Some("s"));
        assert_eq!(query.task, Some(TaskKind::Code));
        assert_eq!(query.topic.as_deref(), Some("sql"));
        assert_eq!(query.routing.ensemble, ["a/x", "b/y"]);
        assert_eq!(query.routing.merge, Some(Strategy::Judge));
        assert_eq!(query.routing.quorum, Some(2));
        assert!(query.routing.explain);
        assert_eq!(query.routing.max_cost, Some(0.5));
    }

    #[test]
    fn nothing_said_changes_nothing() {
        let plain = Query::new("m", "hi");
        for object in [
            json!(null),
            json!({}),
            json!({"lane": null, "quorum": null}),
        ] {
            let query = applied(object).unwrap();
            assert_eq!(
                (query.lane, query.routing, query.deadline),
                (plain.lane, plain.routing.clone(), None)
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        let table = [
            (json!([]), "quorate", "must be an object"),
            (
                json!({"lanes": 1}),
                "quorate.lanes",
                "allowed are lane, deadline_ms,",
            ),
            (json!({"lanes": null}), "quorate.lanes", "unknown field"),
            (
                json!({"lane": "fast"}),
                "quorate.lane",
                "urgent, normal or batch",
            ),
            (json!({"lane": 1}), "quorate.lane", "must be a string"),
            (
                json!({"deadline_ms": 0}),
                "quorate.deadline_ms",
                "from 1 to 86400000",
            ),
            (
                json!({"deadline_ms": 86_400_001}),
                "quorate.deadline_ms",
                "from 1 to 86400000",
            ),
            (
                json!({"deadline_ms": 1.5}),
                "quorate.deadline_ms",
                "integer",
            ),
            (json!({"session": ""}), "quorate.session", "1 to 512 bytes"),
            (
                json!({"session": "x".repeat(513)}),
                "quorate.session",
                "1 to 512 bytes",
            ),
            (json!({"topic": ""}), "quorate.topic", "1 to 64 bytes"),
            (json!({"task": "chess"}), "quorate.task", "code, debugging"),
            (
                json!({"ensemble": []}),
                "quorate.ensemble",
                "1 to 16 models",
            ),
            (
                json!({"ensemble": vec!["a/x"; 17]}),
                "quorate.ensemble",
                "1 to 16 models",
            ),
            (
                json!({"ensemble": [1]}),
                "quorate.ensemble",
                "must be a string",
            ),
            (json!({"merge": "mix"}), "quorate.merge", "plurality"),
            (json!({"quorum": 0}), "quorate.quorum", "from 1 to 16"),
            (
                json!({"quorum": 3, "ensemble": ["a/x"]}),
                "quorate.quorum",
                "at most 1",
            ),
            (
                json!({"explain": "yes"}),
                "quorate.explain",
                "true or false",
            ),
            (json!({"max_cost": -1}), "quorate.max_cost", "at least 0"),
        ];
        for (object, param, message) in table {
            let error = applied(object.clone()).unwrap_err();
            assert_eq!(error.param(), Some(param), "{object}");
            assert!(
                error.message().contains(message),
                "{object}: {}",
                error.message()
            );
        }
    }
}
