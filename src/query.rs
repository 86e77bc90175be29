//! What is asked, in words that belong to no provider.
//!
//! The shapes of [`Message`], [`Part`] and [`Tool`] follow the OpenAI chat wire, which every serving system
//! understands today; fields we do not know are kept in `rest` and ride along.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::ensembler::merge::Strategy;
use crate::id::{DecisionId, UserId};

/// One question to the orchestrator.
///
/// Build it with [`Query::new`] and set what differs; every field has a sensible default.
#[derive(Clone, Debug)]
pub struct Query {
    /// Names this query in the answer, the ledger and in feedback.
    pub id: DecisionId,
    /// A deployment (`provider/model`), an alias of the configuration, `auto`, or `ensemble/<name>`.
    pub model: String,
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// How to sample.
    pub params: Params,
    /// Tools the model may call.
    pub tools: Vec<Tool>,
    /// Which tool it must, may or may not call, as the OpenAI wire writes it.
    pub tool_choice: Option<Value>,
    /// `text`, `json_object` or `json_schema`, as the OpenAI wire writes it.
    pub response_format: Option<Value>,
    /// Fields of the caller's request that we do not know.
    pub rest: Map<String, Value>,
    /// The request as the caller wrote it. An adapter of the same wire forwards these bytes.
    pub original: Option<Original>,
    /// Who asks: limits and fairness are per user.
    pub user: UserId,
    /// How urgent it is.
    pub lane: Lane,
    /// When a door took it in, before its body was read; `None` if it began with being asked.
    pub arrived: Option<Instant>,
    /// When the answer is worth nothing any more. `None`: the configured default applies.
    pub deadline: Option<Instant>,
    /// A conversation that should stay with its deployment.
    pub session: Option<String>,
    /// What kind of work this is, if the caller knows; else the orchestrator finds out.
    pub task: Option<TaskKind>,
    /// The caller's own, finer name for the kind of work, 1 to 64 bytes; what is learned is kept by it.
    pub topic: Option<String>,
    /// What the caller wants of routing.
    pub routing: Routing,
}

impl Query {
    /// A query of one user message to `model`, from the user `local`.
    pub fn new(model: impl Into<String>, prompt: impl Into<String>) -> Self {
        Self::of(model, vec![Message::user(prompt)])
    }

    /// A query with a whole conversation.
    pub fn of(model: impl Into<String>, messages: Vec<Message>) -> Self {
        Self {
            id: DecisionId::new(),
            model: model.into(),
            messages,
            params: Params::default(),
            tools: Vec::new(),
            tool_choice: None,
            response_format: None,
            rest: Map::new(),
            original: None,
            user: UserId::from("local"),
            lane: Lane::default(),
            arrived: None,
            deadline: None,
            session: None,
            task: None,
            topic: None,
            routing: Routing::default(),
        }
    }

    /// Sets the deadline to `timeout` from now.
    pub fn within(mut self, timeout: Duration) -> Self {
        self.deadline = Some(Instant::now() + timeout);
        self
    }

    /// A rough count of the input's tokens (four bytes each), for limits and context length before any
    /// tokenizer has seen it. Images count 800.
    pub fn estimated_input_tokens(&self) -> u32 {
        let bytes: usize = self.messages.iter().map(Message::weight).sum();
        let tools: usize = self.tools.len() * 200;
        u32::try_from((bytes + tools) / 4 + 4 * self.messages.len()).unwrap_or(u32::MAX)
    }

    /// The last thing that the user said, if it has text.
    pub fn question(&self) -> Option<Cow<'_, str>> {
        let said = self.messages.iter().rev();
        let said = said
            .filter(|message| message.role == Role::User)
            .map(Message::text);
        said.into_iter().find(|text| !text.is_empty())
    }

    /// The kind of work by its finest name: the caller's topic, else the kind's.
    pub fn label(&self) -> Option<&str> {
        self.topic.as_deref().or(self.task.map(TaskKind::name))
    }

    /// What a deployment must be able to do to serve this query.
    pub fn needs(&self) -> Needs {
        let format = self
            .response_format
            .as_ref()
            .and_then(|f| f.get("type"))
            .and_then(Value::as_str);
        Needs {
            tools: !self.tools.is_empty(),
            vision: self.messages.iter().any(Message::has_image),
            json_schema: format == Some("json_schema"),
            reasoning: self.params.reasoning_effort.is_some(),
            context: self
                .estimated_input_tokens()
                .saturating_add(self.params.max_tokens.unwrap_or(0)),
        }
    }
}

/// What a query asks of a deployment. See [`Capabilities`](crate::provider::Capabilities).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Calls tools.
    pub tools: bool,
    /// Sees images.
    pub vision: bool,
    /// Holds its output to a JSON schema.
    pub json_schema: bool,
    /// Reasons with a stated effort.
    pub reasoning: bool,
    /// Tokens of context, estimated.
    pub context: u32,
}

/// A wire format that both a client and a provider may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// OpenAI's chat completions.
    OpenAiChat,
}

/// Bytes as a peer sent them, tagged with their wire.
#[derive(Clone, Debug)]
pub struct Original {
    /// The wire they are in.
    pub wire: Wire,
    /// A whole JSON document.
    pub body: Bytes,
}

/// One turn of the conversation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub role: Role,
    /// What is said. `None` on an assistant's turn that only calls tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Tools the assistant called.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a `tool` turn answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Fields we do not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

fn null_is_empty<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Message {
    /// A turn with plain text.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            content: Some(Content::Text(text.into())),
            ..Self::default()
        }
    }

    /// What the user says.
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, text)
    }

    /// What the operator says.
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(Role::System, text)
    }

    /// All text of this turn, its parts joined by a line break.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.content {
            None => Cow::default(),
            Some(Content::Text(text)) => text.into(),
            Some(Content::Parts(parts)) => {
                let texts: Vec<&str> = parts
                    .iter()
                    .filter_map(|part| part.text.as_deref())
                    .collect();
                texts.join("\n").into()
            }
        }
    }

    fn has_image(&self) -> bool {
        matches!(&self.content, Some(Content::Parts(parts)) if parts.iter().any(|part| part.kind == "image_url"))
    }

    fn weight(&self) -> usize {
        let content = match &self.content {
            None => 0,
            Some(Content::Text(text)) => text.len(),
            Some(Content::Parts(parts)) => parts
                .iter()
                .map(|part| part.text.as_ref().map_or(3200, String::len))
                .sum(),
        };
        let calls: usize = self
            .tool_calls
            .iter()
            .map(|call| call.function.arguments.len())
            .sum();
        content + calls
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The operator.
    System,
    /// The operator, in newer models' words.
    Developer,
    /// The person or program that asks.
    #[default]
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
    /// A tool's result in the wire's older form.
    Function,
}

/// The content of a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Text and other parts in order.
    Parts(Vec<Part>),
}

/// One part of a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// `text`, `image_url`, or a kind we only pass on.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Everything else of the part, the image's `image_url` object for one.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Part {
    /// A part of text.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            kind: "text".into(),
            text: Some(text.into()),
            rest: Map::new(),
        }
    }

    /// An image by URL; `data:` URLs carry it inline.
    pub fn image(url: impl Into<String>) -> Self {
        let mut rest = Map::new();
        rest.insert("image_url".into(), serde_json::json!({ "url": url.into() }));
        Self {
            kind: "image_url".into(),
            text: None,
            rest,
        }
    }
}

/// A tool offered to the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// `function`, or a kind we only pass on.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name, description and JSON schema of the parameters, as the wire writes them.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A tool the model wants called.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The call's id, to be named in the result.
    pub id: String,
    /// `function`, or a kind we only pass on.
    #[serde(rename = "type", default = "function")]
    pub kind: String,
    /// What to call.
    #[serde(default)]
    pub function: FunctionCall,
    /// Fields we do not know.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

fn function() -> String {
    "function".into()
}

/// A function's name and its arguments as JSON text, exactly as the model wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// JSON text; models do write invalid JSON at times.
    #[serde(default)]
    pub arguments: String,
}

/// How to sample. `None` leaves it to the model's own default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params {
    /// 0..=2.
    pub temperature: Option<f64>,
    /// 0..=1.
    pub top_p: Option<f64>,
    /// Upper bound of generated tokens, at least 1.
    pub max_tokens: Option<u32>,
    /// Texts that end the answer; at most 16.
    pub stop: Vec<String>,
    /// Seed for repeatable sampling, where the model can.
    pub seed: Option<i64>,
    /// How many answers, 1..=128.
    pub n: Option<u32>,
    /// -2..=2.
    pub presence_penalty: Option<f64>,
    /// -2..=2.
    pub frequency_penalty: Option<f64>,
    /// Whether to return log probabilities.
    pub logprobs: Option<bool>,
    /// Alternatives a token, 0..=20.
    pub top_logprobs: Option<u32>,
    /// How hard to reason, in the model's own words (`low`, `medium`, `high`, …).
    pub reasoning_effort: Option<String>,
}

/// Which of the waiting queries goes first. A lower lane ages upwards, so none starves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// A person waits and it matters.
    Urgent,
    /// The default.
    #[default]
    Normal,
    /// Nobody waits.
    Batch,
}

impl Lane {
    /// Every lane, most urgent first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Normal, Self::Batch];

    /// The lane's name, as configured and as a metric label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "normal",
            Self::Batch => "batch",
        }
    }
}

impl std::str::FromStr for Lane {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|lane| lane.name() == text)
            .ok_or_else(|| format!("'{text}' is no lane: urgent, normal or batch"))
    }
}

/// What the caller wants of routing and of the answer's report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routing {
    /// Members of an ad-hoc ensemble; empty asks one model.
    pub ensemble: Vec<String>,
    /// How to merge the members' answers.
    pub merge: Option<Strategy>,
    /// How many members must have answered.
    pub quorum: Option<usize>,
    /// Ask and hear every member of an ensemble, whatever is decided before: to learn from it.
    pub everyone: bool,
    /// Put the plan into the answer.
    pub explain: bool,
    /// Dollars this query may cost at most, estimated before each call.
    pub max_cost: Option<f64>,
}

/// What kind of work a prompt is. Learned quality is kept per kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum TaskKind {
    Code,
    Debugging,
    Math,
    Reasoning,
    ClosedQa,
    OpenQa,
    Summarisation,
    Extraction,
    Classification,
    Rewriting,
    Translation,
    Creative,
    DataAnalysis,
    Chat,
    ToolUse,
    Other,
}

impl TaskKind {
    /// Every kind, in the order of [`TaskKind::index`].
    pub const ALL: [Self; 16] = [
        Self::Code,
        Self::Debugging,
        Self::Math,
        Self::Reasoning,
        Self::ClosedQa,
        Self::OpenQa,
        Self::Summarisation,
        Self::Extraction,
        Self::Classification,
        Self::Rewriting,
        Self::Translation,
        Self::Creative,
        Self::DataAnalysis,
        Self::Chat,
        Self::ToolUse,
        Self::Other,
    ];

    /// Position in tables of learned quality; stable across versions.
    pub fn index(self) -> usize {
        self as usize
    }

    /// The kind's name, as the `quorate.task` field of a request and the ledger write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Debugging => "debugging",
            Self::Math => "math",
            Self::Reasoning => "reasoning",
            Self::ClosedQa => "closed_qa",
            Self::OpenQa => "open_qa",
            Self::Summarisation => "summarisation",
            Self::Extraction => "extraction",
            Self::Classification => "classification",
            Self::Rewriting => "rewriting",
            Self::Translation => "translation",
            Self::Creative => "creative",
            Self::DataAnalysis => "data_analysis",
            Self::Chat => "chat",
            Self::ToolUse => "tool_use",
            Self::Other => "other",
        }
    }
}

impl std::str::FromStr for TaskKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| {
                let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
                format!("'{text}' is no task kind: {}", names.join(", "))
            })
    }
}
