//! A TOML document as a tree in which every value knows where it was written.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Number;
use toml::de::{DeTable, DeValue};

/// The keys of a table.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub value: Value,
    pub origin: Origin,
}

/// Where a value was written.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// In the file, at this line from 1.
    Line(usize),
    /// In another layer, by the name it has in error messages.
    Layer(Arc<str>),
}

/// A value of TOML, or one of a layer that has no types.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    /// Wider than TOML's, so that a number too large is told its range rather than that it is broken.
    Integer(i128),
    Float(f64),
    Flag(bool),
    Date(String),
    List(Vec<Node>),
    Table(Table),
    /// From the environment or the command line: whatever the key wants it to be.
    Untyped(String),
}

/// A syntax error and its line.
pub(super) type SyntaxError = (usize, String);

/// Reads a document.
///
/// # Errors
///
/// All syntax errors, of which a key that is set twice is one.
pub(super) fn document(text: &str) -> Result<Table, Vec<SyntaxError>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let lines = Lines::of(text);
    if errors.is_empty() {
        return Ok(table(root.into_inner(), &lines));
    }
    let place = |span: Option<Range<usize>>| lines.at(span.map_or(0, |span| span.start));
    Err(errors
        .iter()
        .map(|error| (place(error.span()), error.message().to_owned()))
        .collect())
}

fn table(from: DeTable<'_>, lines: &Lines) -> Table {
    let entry = |(key, value): (toml::Spanned<_>, toml::Spanned<DeValue<'_>>)| {
        let origin = Origin::Line(lines.at(key.span().start));
        let key: std::borrow::Cow<'_, str> = key.into_inner();
        (
            key.into_owned(),
            Node {
                value: convert(value.into_inner(), lines),
                origin,
            },
        )
    };
    from.into_iter().map(entry).collect()
}

fn convert(value: DeValue<'_>, lines: &Lines) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => {
            let beyond = if number.as_str().starts_with('-') {
                i128::MIN
            } else {
                i128::MAX
            };
            let parsed = i128::from_str_radix(number.as_str(), number.radix());
            Value::Integer(parsed.unwrap_or(beyond))
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Table(inner) => Value::Table(table(inner, lines)),
        DeValue::Array(list) => {
            let item = |item: toml::Spanned<DeValue<'_>>| {
                let origin = Origin::Line(lines.at(item.span().start));
                Node {
                    value: convert(item.into_inner(), lines),
                    origin,
                }
            };
            Value::List(list.into_iter().map(item).collect())
        }
    }
}

/// Where each line of a text ends.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|end| *end < offset) + 1
    }
}

impl Value {
    /// Text, of whatever kind.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Untyped(text) => Some(text),
            _ => None,
        }
    }

    /// An integer.
    pub fn integer(&self) -> Option<i128> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Untyped(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// A number.
    pub fn float(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            #[expect(
                clippy::cast_precision_loss,
                reason = "what is this large is out of every range"
            )]
            Self::Integer(number) => Some(*number as f64),
            Self::Untyped(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// `true` or `false`.
    pub fn flag(&self) -> Option<bool> {
        match self {
            Self::Flag(flag) => Some(*flag),
            Self::Untyped(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The same as JSON, dates as text; `None` where JSON has no such number.
    pub fn json(&self) -> Option<serde_json::Value> {
        Some(match self {
            Self::Text(text) | Self::Untyped(text) | Self::Date(text) => text.as_str().into(),
            Self::Integer(number) => Number::from_i128(*number)?.into(),
            Self::Float(number) => Number::from_f64(*number)?.into(),
            Self::Flag(flag) => (*flag).into(),
            Self::List(items) => items
                .iter()
                .map(|item| item.value.json())
                .collect::<Option<Vec<_>>>()?
                .into(),
            Self::Table(entries) => {
                let entry = |(key, node): (&String, &Node)| Some((key.clone(), node.value.json()?));
                entries
                    .iter()
                    .map(entry)
                    .collect::<Option<serde_json::Map<_, _>>>()?
                    .into()
            }
        })
    }
}

/// The value as an error message says what it is, long ones cut.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::Untyped(text) => {
                let cut = if text.chars().nth(40).is_some() {
                    "…"
                } else {
                    ""
                };
                let start: String = text.chars().take(40).collect();
                write!(f, "'{}{cut}'", start.escape_debug())
            }
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
            Self::Date(_) => f.write_str("a date"),
            Self::List(_) => f.write_str("a list"),
            Self::Table(_) => f.write_str("a table"),
        }
    }
}
