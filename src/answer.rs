//! What is answered, in words that belong to no provider: whole, or as a stream of deltas.

use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Attempt, Error};
use crate::id::{DecisionId, DeploymentId};
use crate::query::{Original, ToolCall};

/// A whole answer.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// One per requested `n`.
    pub choices: Vec<Choice>,
    /// Tokens, if the provider counted them.
    pub usage: Option<Usage>,
    /// The model's name as the provider gave it.
    pub model: String,
    /// The answer as the provider wrote it, for a client that speaks the same wire.
    pub original: Option<Original>,
    /// How it came about. Filled in by the orchestrator.
    pub report: Report,
}

impl Answer {
    /// An answer of one text, finished.
    pub fn text(text: impl Into<String>) -> Self {
        let message = Reply {
            content: Some(text.into()),
            ..Reply::default()
        };
        Self {
            choices: vec![Choice {
                message,
                finish: Some(FinishReason::Stop),
                ..Choice::default()
            }],
            ..Self::default()
        }
    }

    /// The first choice's text, empty if there is none.
    pub fn content(&self) -> &str {
        self.choices
            .first()
            .and_then(|choice| choice.message.content.as_deref())
            .unwrap_or_default()
    }

    /// Whether it answers nothing at all: no choice has a text, a refusal, or a tool to be called.
    pub fn is_empty(&self) -> bool {
        let blank = |text: &Option<String>| text.as_ref().is_none_or(|text| text.trim().is_empty());
        self.choices.iter().all(|choice| {
            let message = &choice.message;
            blank(&message.content) && blank(&message.refusal) && message.tool_calls.is_empty()
        })
    }
}

/// One of the answers.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Its place, from 0.
    pub index: u32,
    /// What the model says.
    pub message: Reply,
    /// Why it ended.
    pub finish: Option<FinishReason>,
    /// Log probabilities, as the wire writes them.
    pub logprobs: Option<Value>,
}

/// The assistant's turn.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Its text.
    #[serde(default)]
    pub content: Option<String>,
    /// Its reasoning, where the model shows it.
    #[serde(default, alias = "reasoning", skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Its refusal, in the model's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Tools it wants called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Fields we do not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// Why a model stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// It was done, or met a stop text.
    Stop,
    /// The token limit was reached.
    Length,
    /// It wants tools called.
    ToolCalls,
    /// The provider's filter cut it.
    ContentFilter,
    /// A reason of the provider's own.
    Other(String),
}

impl FinishReason {
    /// The reason in the OpenAI wire's word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Other(other) => other,
        }
    }
}

impl From<&str> for FinishReason {
    fn from(text: &str) -> Self {
        match text {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "tool_calls" => Self::ToolCalls,
            "content_filter" => Self::ContentFilter,
            other => Self::Other(other.into()),
        }
    }
}

/// Tokens of one query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Tokens read.
    pub input: u32,
    /// Tokens written, reasoning included.
    pub output: u32,
    /// Of `input`, those the provider had cached.
    pub cached: u32,
    /// Of `output`, those spent on reasoning.
    pub reasoning: u32,
}

impl std::ops::Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cached: self.cached.saturating_add(other.cached),
            reasoning: self.reasoning.saturating_add(other.reasoning),
        }
    }
}

/// A stream of deltas. It ends with a delta that carries a finish reason (a last one may follow with the
/// usage), or with an error; an end without either is turned into [`Truncated`](crate::ErrorKind::Truncated).
/// Dropping it cancels the call.
pub type Deltas = BoxStream<'static, Result<Delta, Error>>;

/// A piece of an answer.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// What is new, per choice.
    pub choices: Vec<ChoiceDelta>,
    /// Tokens so far; usually on the last delta only.
    pub usage: Option<Usage>,
    /// The model's name as the provider gave it.
    pub model: Option<String>,
    /// The piece as the provider wrote it, for a client that speaks the same wire.
    pub original: Option<Original>,
    /// How the answer came about, on the last delta only. Filled in by the orchestrator.
    pub report: Option<Box<Report>>,
}

impl Delta {
    /// A piece of text of the first choice.
    pub fn text(text: impl Into<String>) -> Self {
        let choice = ChoiceDelta {
            content: Some(text.into()),
            ..ChoiceDelta::default()
        };
        Self {
            choices: vec![choice],
            ..Self::default()
        }
    }

    /// The end of the first choice.
    pub fn finish(reason: FinishReason, usage: Option<Usage>) -> Self {
        let choice = ChoiceDelta {
            finish: Some(reason),
            ..ChoiceDelta::default()
        };
        Self {
            choices: vec![choice],
            usage,
            ..Self::default()
        }
    }

    /// The first choice's new text, empty if there is none.
    pub fn content(&self) -> &str {
        self.choices
            .first()
            .and_then(|choice| choice.content.as_deref())
            .unwrap_or_default()
    }

    /// About how many bytes it holds.
    pub fn weight(&self) -> usize {
        let original = self
            .original
            .as_ref()
            .map_or(0, |original| original.body.len());
        let pieces = self.choices.iter().map(|choice| {
            let texts = [&choice.content, &choice.reasoning, &choice.refusal];
            let texts: usize = texts.into_iter().flatten().map(String::len).sum();
            let calls = choice
                .tool_calls
                .iter()
                .filter_map(|call| call.function.as_ref());
            let calls: usize = calls
                .map(|function| function.arguments.as_ref().map_or(0, String::len))
                .sum();
            texts + calls + size_of::<ChoiceDelta>()
        });
        original.max(pieces.sum())
    }

    /// Whether it says anything: text, reasoning, a tool call, a refusal or an end. The wire's opening
    /// chunk with only a role does not; until one that does, another deployment may still take over.
    pub fn is_semantic(&self) -> bool {
        self.says() || self.finishes()
    }

    /// Whether it says anything: text, reasoning, a tool call or a refusal.
    pub fn says(&self) -> bool {
        self.choices.iter().any(|choice| {
            let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
            said(&choice.content)
                || said(&choice.reasoning)
                || said(&choice.refusal)
                || !choice.tool_calls.is_empty()
        })
    }

    /// Whether a choice ends here.
    pub fn finishes(&self) -> bool {
        self.choices.iter().any(|choice| choice.finish.is_some())
    }
}

/// What is new in one choice.
#[derive(Clone, Debug, Default)]
pub struct ChoiceDelta {
    /// Which choice.
    pub index: u32,
    /// More text.
    pub content: Option<String>,
    /// More reasoning.
    pub reasoning: Option<String>,
    /// More of a refusal.
    pub refusal: Option<String>,
    /// Pieces of tool calls.
    pub tool_calls: Vec<ToolCallDelta>,
    /// Why it ends, on its last delta.
    pub finish: Option<FinishReason>,
    /// Log probabilities, as the wire writes them.
    pub logprobs: Option<Value>,
}

/// A piece of a tool call; pieces of one call share its index.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolCallDelta {
    /// Which call of the choice.
    #[serde(default)]
    pub index: u32,
    /// The call's id, on its first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `function`, on its first piece.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The name and a piece of the arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionDelta>,
}

/// A piece of a function call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionDelta {
    /// Its name, on the first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of the arguments' JSON text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}

/// How an answer came about: the `quorate` object of the wire.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The decision, to be named in feedback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionId>,
    /// Who answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<DeploymentId>,
    /// Every call made, in order.
    pub attempts: Vec<Attempt>,
    /// Dollars, where prices are configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// Who said what, for an ensemble.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<MemberReport>,
    /// How an ensemble went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ensemble: Option<EnsembleReport>,
    /// Share of the members that stand behind the answer, 0..=1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// How sure we are that it is right, 0..=1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// The plan with its reasons, when asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Value>,
    /// A word to the reader about the answer, e.g. that a tiny local model wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// How an ensemble went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EnsembleReport {
    /// Members that were asked.
    pub calls: usize,
    /// Members that did not have to be asked, or whose call was ended early.
    pub saved: usize,
    /// Why it stopped: `everybody` was heard, the outcome was `decided`, the answer `confident`, no further vote
    /// `not_worth_it`, whoever was still to come was `late`, or the `deadline` came.
    pub stopped: &'static str,
    /// Digest of what was learned of its votes; none if nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// What one member of an ensemble did.
#[derive(Clone, Debug, Serialize)]
pub struct MemberReport {
    /// The member.
    pub model: DeploymentId,
    /// `ok`, `cancelled` or the failure's kind.
    pub outcome: &'static str,
    /// What it answered, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// What went wrong, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether its answer is in the group that won.
    pub chosen: bool,
    /// Which answer it gave: members of one number said the same. `None` for none that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<u8>,
    /// Tokens it wrote, if they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u32>,
    /// Milliseconds until it answered.
    pub ms: f64,
}
