//! What the operator says about one model at one provider.

use std::time::Duration;

use serde::Serialize;

use crate::answer::Usage;
use crate::id::DeploymentId;
use crate::query::Needs;

/// One model at one provider, as configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// `provider/model`.
    pub id: DeploymentId,
    /// The model's name as the provider knows it.
    pub model: String,
    /// The vendor as OpenTelemetry's `gen_ai.provider.name` wants it, e.g. `openai`.
    pub vendor: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What it costs; `None` if nobody said.
    pub price: Option<Price>,
    /// What may be asked of it at once and per minute.
    pub limits: Limits,
    /// How long its provider may be silent.
    pub timeouts: Timeouts,
    /// How good it is believed to be before anything is learned, 0..=1; `None` if nobody said.
    pub quality: Option<f64>,
    /// Models of one family make the same mistakes; ensembles take that into account. One of which nobody said how
    /// good it is begins at what its family has shown.
    pub family: Option<String>,
}

/// How good a model is believed to be of which nobody said anything.
const UNKNOWN_QUALITY: f64 = 0.5;

impl Deployment {
    /// What is believed of it before anything is learned, 0..=1.
    pub fn expected_quality(&self) -> f64 {
        self.quality.unwrap_or(UNKNOWN_QUALITY)
    }
}

/// What a deployment can do. Everything is assumed unless the operator says otherwise, since a wrong guess
/// fails loudly upstream while a wrong exclusion would be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// Calls tools.
    pub tools: bool,
    /// Sees images.
    pub vision: bool,
    /// Holds its output to a JSON schema.
    pub json_schema: bool,
    /// Reasons with a stated effort.
    pub reasoning: bool,
    /// Streams deltas.
    pub streaming: bool,
    /// Tokens of context, if known.
    pub context: Option<u32>,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            tools: true,
            vision: true,
            json_schema: true,
            reasoning: true,
            streaming: true,
            context: None,
        }
    }
}

impl Capabilities {
    /// The first thing `needs` asks for that is missing here, in words for the plan.
    pub fn missing(&self, needs: &Needs, stream: bool) -> Option<String> {
        let lacks = [
            (needs.tools && !self.tools, "tools"),
            (needs.vision && !self.vision, "vision"),
            (needs.json_schema && !self.json_schema, "json_schema"),
            (needs.reasoning && !self.reasoning, "reasoning"),
            (stream && !self.streaming, "streaming"),
        ];
        if let Some((_, name)) = lacks.iter().find(|(lacks, _)| *lacks) {
            return Some(format!("cannot do {name}"));
        }
        let context = self.context.filter(|context| needs.context > *context)?;
        Some(format!(
            "context of {context} tokens is too short for about {}",
            needs.context
        ))
    }
}

/// Dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Price {
    /// Read.
    pub input: f64,
    /// Written.
    pub output: f64,
    /// Read from the provider's cache; the input price if nobody said.
    pub cached: Option<f64>,
}

impl Price {
    /// Dollars for `usage`.
    pub fn of(&self, usage: Usage) -> f64 {
        let cached = usage.cached.min(usage.input);
        let fresh = f64::from(usage.input - cached) * self.input;
        let from_cache = f64::from(cached) * self.cached.unwrap_or(self.input);
        (fresh + from_cache + f64::from(usage.output) * self.output) / 1e6
    }
}

/// What may be asked of a deployment; `None` means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Calls in flight.
    pub max_in_flight: Option<u32>,
    /// Calls started per minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens per minute, read and written.
    pub tokens_per_minute: Option<u32>,
    /// Whether calls in flight are also limited by what it was found to bear. Default `true`.
    pub adaptive: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_in_flight: None,
            requests_per_minute: None,
            tokens_per_minute: None,
            adaptive: true,
        }
    }
}

/// How long a provider may be silent before an attempt is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To the established connection.
    pub connect: Duration,
    /// From the request to the first semantic delta of a streamed answer.
    pub first_token: Duration,
    /// From the request to the answer if it is not streamed.
    pub answer: Duration,
    /// Between two deltas.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_token: Duration::from_secs(30),
            answer: Duration::from_secs(120),
            idle: Duration::from_secs(60),
        }
    }
}
