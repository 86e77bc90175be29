//! The outward traits of a prompt.

use serde::{Deserialize, Serialize};

/// How many forms of asking are told apart.
pub const FORMS: usize = 12;
/// How much of a prompt's head, and of its tail, is read, in bytes; a prompt of any length costs the
/// same.
const WINDOW: usize = 512;

/// How a prompt asks. What is sought (a person, a date, a quantity) tells something of which model
/// knows it, within one kind of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Form {
    /// Anything not named below, and whatever is not English.
    Other,
    /// Who, whom, whose: a person.
    Who,
    /// When, what year: a time.
    When,
    /// Where: a place.
    Where,
    /// What.
    What,
    /// Which: a choice.
    Which,
    /// How many, much, long, old, far, often: a quantity.
    Quantity,
    /// How: a way.
    How,
    /// Why: a cause.
    Why,
    /// Is, does, can and the like: yes or no.
    YesNo,
    /// Begins as a program does.
    Code,
    /// Begins with an order: write, find, give and the like.
    Order,
}

/// What of a prompt the aptitude looks at: how it asks, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Traits {
    form: Form,
    bytes: u32,
}

impl Traits {
    /// The traits of a prompt: of any text, in a time that does not grow with it.
    pub fn of(text: &str) -> Self {
        Self {
            form: Form::of(text),
            bytes: u32::try_from(text.len()).unwrap_or(u32::MAX),
        }
    }

    /// How the prompt asks.
    pub fn form(self) -> Form {
        self.form
    }

    /// How often 256 bytes must be doubled to the prompt's length, −4 to 8: the length counts from 16
    /// bytes to 64 kB.
    pub fn length(self) -> f64 {
        f64::from(self.bytes.clamp(1 << 4, 1 << 16)).log2() - 8.0
    }
}

impl Form {
    /// The form of a prompt, from its first and last 512 bytes: any text, in a time that does not grow
    /// with it. It is taken from the opening words; if these are not telling and the prompt ends in a
    /// question mark, from the words that open its last sentence.
    pub fn of(text: &str) -> Self {
        match opening(head(text.trim_start())) {
            Self::Other => last_question(tail(text.trim_end())).map_or(Self::Other, opening),
            form => form,
        }
    }
}

fn head(text: &str) -> &str {
    let mut end = text.len().min(WINDOW);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}

fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(WINDOW);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or("")
}

/// The last sentence, if it is a question.
fn last_question(text: &str) -> Option<&str> {
    let body = text.trim_end_matches(['"', '\'', ')']).strip_suffix('?')?;
    body.rsplit(['.', '!', '?', '\n', ':', ';']).next()
}

fn opening(text: &str) -> Form {
    let trimmed = text.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '`' && c != '#');
    if [
        "```", "def ", "import ", "from ", "class ", "fn ", "#include", "public ",
    ]
    .iter()
    .any(|mark| trimmed.starts_with(mark))
    {
        return Form::Code;
    }
    let mut words = trimmed
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    let first = words.next().unwrap_or("");
    let second = words.next().unwrap_or("");
    let first_is = |list: &[&str]| list.iter().any(|word| first.eq_ignore_ascii_case(word));
    let second_is = |list: &[&str]| list.iter().any(|word| second.eq_ignore_ascii_case(word));
    if first_is(&["who", "whom", "whose"]) {
        Form::Who
    } else if first_is(&["when"]) || first_is(&["what"]) && second_is(&["year", "date"]) {
        Form::When
    } else if first_is(&["where"]) {
        Form::Where
    } else if first_is(&["what"]) {
        Form::What
    } else if first_is(&["which"]) {
        Form::Which
    } else if first_is(&["how"]) && second_is(&["many", "much", "long", "old", "far", "often"]) {
        Form::Quantity
    } else if first_is(&["how"]) {
        Form::How
    } else if first_is(&["why"]) {
        Form::Why
    } else if first_is(&[
        "is", "are", "was", "were", "do", "does", "did", "can", "could", "will", "would", "should",
        "has", "have",
    ]) {
        Form::YesNo
    } else if first_is(&[
        "write",
        "find",
        "give",
        "name",
        "list",
        "calculate",
        "compute",
        "determine",
        "explain",
        "describe",
        "simplify",
        "solve",
        "evaluate",
        "express",
        "prove",
        "summarize",
        "translate",
        "create",
        "implement",
    ]) {
        Form::Order
    } else {
        Form::Other
    }
}
