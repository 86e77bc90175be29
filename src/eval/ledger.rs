//! From a daemon's ledger to a record: what was asked, who answered what, and how it was judged.
//!
//! Needs a ledger that was told to keep prompts and answers (`ledger.keep_prompts`).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::record::{Recorded, Reply};
use crate::ledger::DecisionRow;
use crate::query::{Message, Role};

/// What one decision says, with its score if it was judged; `None` if its prompt or its answers were not kept.
pub fn recorded(row: &DecisionRow, score: Option<f64>) -> Option<Recorded> {
    #[derive(Deserialize)]
    struct Plan {
        task: Option<String>,
        topic: Option<String>,
    }
    #[derive(Deserialize)]
    struct Member {
        model: String,
        #[serde(default)]
        content: Option<String>,
        #[serde(default)]
        tokens: Option<u64>,
        #[serde(default)]
        chosen: bool,
        outcome: String,
    }
    let messages: Vec<Message> = serde_json::from_str(row.prompt.as_deref()?).ok()?;
    let question = messages
        .iter()
        .rev()
        .find(|message| message.role == Role::User)?;
    let plan: Option<Plan> = serde_json::from_str(&row.candidates).ok();
    let task = plan
        .and_then(|plan| plan.topic.or(plan.task))
        .or_else(|| row.task.clone());
    let mut answers = BTreeMap::new();
    let mut reference = None;
    // Tokens are about four characters.
    let chars = |tokens: Option<u64>| tokens.map(|tokens| 4 * tokens);
    let members: Vec<Member> = row
        .members
        .as_deref()
        .and_then(|members| serde_json::from_str(members).ok())
        .unwrap_or_default();
    for member in members.into_iter().filter(|member| member.outcome == "ok") {
        if member.chosen && score == Some(1.0) {
            reference.clone_from(&member.content);
        }
        answers.insert(
            member.model,
            Reply {
                answer: member.content,
                output_chars: chars(member.tokens),
                score: None,
            },
        );
    }
    if answers.is_empty() {
        answers.insert(
            row.chosen.as_ref()?.to_string(),
            Reply {
                answer: Some(row.answer.clone()?),
                output_chars: chars(Some(row.output_tokens.into())),
                score,
            },
        );
    }
    Some(Recorded {
        id: row.id.to_string(),
        task,
        prompt: question.text().into_owned(),
        options: Vec::new(),
        reference,
        answers,
    })
}
