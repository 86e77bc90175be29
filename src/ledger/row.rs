//! What the ledger keeps, as values, and how a decision lies in its table.

use rusqlite::Row;
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};

use crate::id::{DecisionId, DeploymentId, UserId};

/// One query and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRow {
    /// The decision; at most one row has it.
    pub id: DecisionId,
    /// When the query ended, in Unix milliseconds. Rows age by it.
    pub at: i64,
    /// Who asked.
    pub user: UserId,
    /// The lane's name.
    pub lane: String,
    /// The task kind's name, if one was told or found.
    pub task: Option<String>,
    /// The model as the caller named it.
    pub asked: String,
    /// Who answered; `None` if nobody did.
    pub chosen: Option<DeploymentId>,
    /// The plan's candidates with scores and reasons, as JSON text.
    pub candidates: String,
    /// The calls made, as JSON text.
    pub attempts: String,
    /// The members of an ensemble and what they said, as JSON text.
    pub members: Option<String>,
    /// `ok`, or the failure's kind.
    pub outcome: String,
    /// Milliseconds to the first delta, if it was streamed.
    pub ttft_ms: Option<f64>,
    /// Milliseconds from the query's arrival to its end.
    pub total_ms: f64,
    /// Of these, milliseconds waiting for admission.
    pub queue_ms: f64,
    /// Tokens read.
    pub input_tokens: u32,
    /// Tokens written.
    pub output_tokens: u32,
    /// Of the tokens read, those the provider had cached; `None` if nobody counted.
    pub cached_tokens: Option<u32>,
    /// Dollars, where prices are configured.
    pub cost: Option<f64>,
    /// What was asked, only where the operator keeps prompts.
    pub prompt: Option<String>,
    /// What was answered, only where the operator keeps prompts.
    pub answer: Option<String>,
}

/// The columns of `decisions`, in the order of [`DecisionRow::values`]; `checksum` comes after them.
pub(super) const COLUMNS: [&str; 20] = [
    "id",
    "at",
    "user",
    "lane",
    "task",
    "asked",
    "chosen",
    "candidates",
    "attempts",
    "members",
    "outcome",
    "ttft_ms",
    "total_ms",
    "queue_ms",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cost",
    "prompt",
    "answer",
];

/// The checksum of a decision: enough against accidents, a row being about 1 kB, at a twentieth of BLAKE3's cost.
pub(super) fn row_checksum(values: &[ValueRef<'_>]) -> [u8; 4] {
    crc32fast::hash(&canonical(values)).to_be_bytes()
}

/// The checksum that decisions had before: so many bytes of [`checksum`].
const FORMER_BYTES: usize = 8;

impl DecisionRow {
    /// The row as the table holds it.
    pub(super) fn values(&self) -> [ValueRef<'_>; COLUMNS.len()] {
        fn text(text: &str) -> ValueRef<'_> {
            ValueRef::Text(text.as_bytes())
        }
        fn maybe(value: Option<&str>) -> ValueRef<'_> {
            value.map_or(ValueRef::Null, text)
        }
        [
            text(self.id.as_str()),
            ValueRef::Integer(self.at),
            text(self.user.as_str()),
            text(&self.lane),
            maybe(self.task.as_deref()),
            text(&self.asked),
            maybe(self.chosen.as_ref().map(DeploymentId::as_str)),
            text(&self.candidates),
            text(&self.attempts),
            maybe(self.members.as_deref()),
            text(&self.outcome),
            self.ttft_ms.map_or(ValueRef::Null, real),
            real(self.total_ms),
            real(self.queue_ms),
            ValueRef::Integer(self.input_tokens.into()),
            ValueRef::Integer(self.output_tokens.into()),
            self.cached_tokens
                .map_or(ValueRef::Null, |tokens| ValueRef::Integer(tokens.into())),
            self.cost.map_or(ValueRef::Null, real),
            maybe(self.prompt.as_deref()),
            maybe(self.answer.as_deref()),
        ]
    }

    /// The row back from the table; an error says what is wrong with it.
    pub(super) fn read(row: &Row<'_>) -> Result<Self, String> {
        let mut values = Vec::with_capacity(COLUMNS.len());
        for column in 0..COLUMNS.len() {
            values.push(row.get_ref(column).map_err(|error| error.to_string())?);
        }
        let intact = match row.get_ref(COLUMNS.len()) {
            Ok(ValueRef::Blob(stored)) if stored.len() == FORMER_BYTES => {
                checksum(&values)[..FORMER_BYTES] == *stored
            }
            Ok(ValueRef::Blob(stored)) => row_checksum(&values) == *stored,
            _ => false,
        };
        if !intact {
            return Err("checksum does not match".into());
        }
        Self::convert(row).map_err(|error| error.to_string())
    }

    fn convert(row: &Row<'_>) -> rusqlite::Result<Self> {
        let chosen: Option<String> = row.get(6)?;
        Ok(Self {
            id: row.get::<_, String>(0)?.into(),
            at: row.get(1)?,
            user: row.get::<_, String>(2)?.into(),
            lane: row.get(3)?,
            task: row.get(4)?,
            asked: row.get(5)?,
            chosen: chosen.map(DeploymentId::from),
            candidates: row.get(7)?,
            attempts: row.get(8)?,
            members: row.get(9)?,
            outcome: row.get(10)?,
            ttft_ms: row.get(11)?,
            total_ms: row.get(12)?,
            queue_ms: row.get(13)?,
            input_tokens: row.get(14)?,
            output_tokens: row.get(15)?,
            cached_tokens: row.get(16)?,
            cost: row.get(17)?,
            prompt: row.get(18)?,
            answer: row.get(19)?,
        })
    }
}

/// SQLite keeps no NaN and no negative zero, which would spoil a row or its checksum.
fn real(number: f64) -> ValueRef<'static> {
    ValueRef::Real(if number.is_finite() {
        number + 0.0
    } else {
        0.0
    })
}

/// A piece of learned state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// What it is about, e.g. `deployment:east/m1:latency`; at most one cell has it.
    pub key: String,
    /// The version of the payload's shape.
    pub version: u32,
    /// What was learned, as JSON text.
    pub payload: String,
}

impl Cell {
    /// Over all that the cell says.
    pub(super) fn checksum(&self) -> [u8; 32] {
        checksum(&[
            ValueRef::Text(self.key.as_bytes()),
            ValueRef::Integer(self.version.into()),
            ValueRef::Text(self.payload.as_bytes()),
        ])
    }
}

/// A cell that was taken out of use; the database keeps what is left of it in the table `quarantine`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quarantined {
    /// The cell's key, as far as it can be read.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What became of a judgement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FeedbackOutcome {
    /// It is the source's first on this decision, or its first that is learned from.
    Recorded,
    /// The source said the same before; nothing changed.
    Repeated,
    /// The source changed its mind.
    Changed {
        /// What it said before.
        previous: f64,
    },
    /// No such decision is kept.
    Unknown,
}

/// BLAKE3 over the values.
pub(super) fn checksum(values: &[ValueRef<'_>]) -> [u8; 32] {
    blake3::hash(&canonical(values)).into()
}

/// The values with their types and lengths, so that no two lists become the same by shifting a boundary. Gathered, since
/// many small updates of a hash cost several times as much as one.
fn canonical(values: &[ValueRef<'_>]) -> Vec<u8> {
    let mut all = Vec::with_capacity(2048);
    let mut add = |kind: u8, bytes: &[u8]| {
        all.push(kind);
        all.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        all.extend_from_slice(bytes);
    };
    for value in values {
        match value {
            ValueRef::Null => add(0, &[]),
            ValueRef::Integer(number) => add(1, &number.to_le_bytes()),
            ValueRef::Real(number) => add(2, &number.to_bits().to_le_bytes()),
            ValueRef::Text(text) => add(3, text),
            ValueRef::Blob(bytes) => add(4, bytes),
        }
    }
    all
}
