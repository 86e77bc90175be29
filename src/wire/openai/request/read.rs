//! One pass over a request's bytes that knows at any time where it is, so that an error names the field.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::{MOST_ENTRIES, MOST_STOPS, Request, check};
use crate::error::{Error, ErrorKind, Result};
use crate::query::{Content, Message, Original, Part, Query, Role, Tool, ToolCall, Wire};
use crate::wire::depth::string_end;
use crate::wire::openai::extension;

/// A message repeats at most this much of what the caller wrote.
const LONGEST_MESSAGE: usize = 240;
/// What one request's values may take in memory as trees, about and without their texts, in bytes. Of what is sent it
/// can be a hundred times as much.
const LARGEST_TREES: usize = 16 << 20;
/// What an object takes at least, and what a value does in an object or array.
const OBJECT: usize = 640;
const SLOT: usize = 128;

/// Reads a client's request.
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid), naming the field and what it may be; for one, where parts, tools and formats hold
/// more than some 25,000 objects. Fields that we do not know are kept and left to the provider, and ride in the original
/// bytes alone where they hold as much; in our own object they are errors.
pub fn read(body: Bytes) -> Result<Request> {
    // All of it is passed on, so all of it must be text, also where the parser does not look.
    let text = std::str::from_utf8(&body).map_err(|error| {
        let message = format!("the body is not valid JSON: invalid unicode: {error}");
        Error::new(ErrorKind::Invalid, message)
    })?;
    let place = Place::default();
    let mut parser = serde_json::Deserializer::from_str(text);
    let top = Top(&place).deserialize(&mut parser);
    let top = top.and_then(|top| parser.end().map(|()| top));
    let (mut request, extension) = top.map_err(|error| place.explain(&error))?;
    check(&request)?;
    extension::apply(extension, &mut request.query)?;
    request.query.original = Some(Original {
        wire: Wire::OpenAiChat,
        body,
    });
    Ok(request)
}

/// Which value is being read, such as `messages[2].content`.
#[derive(Default)]
struct Place {
    member: RefCell<String>,
    index: Cell<Option<usize>>,
    field: Cell<&'static str>,
    /// What the trees take that have been read.
    trees: Cell<usize>,
}

impl Place {
    fn enter(&self, member: &str) {
        let mut name = self.member.borrow_mut();
        name.clear();
        name.push_str(member);
        self.index.set(None);
        self.field.set("");
    }

    /// Whether `json` may still become a tree; if so, it counts as one.
    fn fits(&self, json: &str) -> bool {
        let taken = self.trees.get() + weight(json.as_bytes());
        let fits = taken <= LARGEST_TREES;
        if fits {
            self.trees.set(taken);
        }
        fits
    }

    /// A value that the query needs.
    fn needed<'de, T: Deserialize<'de>, E: de::Error>(&self, json: &'de RawValue) -> Result<T, E> {
        if self.fits(json.get()) {
            return tree(json);
        }
        let most = LARGEST_TREES / OBJECT;
        Err(E::custom(format!(
            "is too large: parts, tools and formats of a request may hold some {most} objects in all"
        )))
    }

    /// A value that we do not know; none if the original bytes have to do.
    fn spare<E: de::Error>(&self, json: &RawValue) -> Result<Option<Value>, E> {
        let fits = self.fits(json.get());
        fits.then(|| tree(json)).transpose()
    }

    fn name(&self) -> String {
        let mut name = self.member.borrow().clone();
        if let Some(index) = self.index.get() {
            name.push_str(&format!("[{index}]"));
        }
        if !self.field.get().is_empty() {
            name.push('.');
            name.push_str(self.field.get());
        }
        name
    }

    fn explain(&self, error: &serde_json::Error) -> Error {
        let text = error.to_string();
        if error.classify() != Category::Data {
            return Error::new(
                ErrorKind::Invalid,
                format!("the body is not valid JSON: {text}"),
            );
        }
        // Where it is, is said better by the field's name.
        let mut text = text
            .rsplit_once(" at line ")
            .map_or(&*text, |(text, _)| text)
            .to_owned();
        for (theirs, ours) in [
            ("f64", "a number"),
            ("i64", "an integer"),
            ("u32", "an integer from 0 to 4294967295"),
        ] {
            if let Some(start) = text.strip_suffix(&format!("expected {theirs}")) {
                text = format!("{start}expected {ours}");
            }
        }
        if text.len() > LONGEST_MESSAGE {
            // The end says what was expected, the middle repeats what was found.
            let tail = text
                .rfind(", expected ")
                .map_or("", |at| &text[at..])
                .to_owned();
            text.truncate(text.floor_char_boundary(LONGEST_MESSAGE));
            text.push('…');
            text.push_str(if tail.len() < LONGEST_MESSAGE {
                &tail
            } else {
                ""
            });
        }
        match self.name() {
            name if name.is_empty() => {
                Error::new(ErrorKind::Invalid, format!("the body is wrong: {text}"))
            }
            name => Error::invalid(name, text),
        }
    }
}

/// About what a value takes as a tree.
fn weight(json: &[u8]) -> usize {
    let (mut sum, mut at) = (SLOT, 0);
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'"' => at = string_end(json, at),
            b'{' => sum += OBJECT,
            b'[' | b',' => sum += SLOT,
            _ => {}
        }
    }
    sum
}

fn tree<'de, T: Deserialize<'de>, E: de::Error>(json: &'de RawValue) -> Result<T, E> {
    serde_json::from_str(json.get()).map_err(|error| {
        let text = error.to_string();
        // The place in the value is not that in the body.
        E::custom(
            text.rsplit_once(" at line ")
                .map_or(&*text, |(text, _)| text),
        )
    })
}

/// A key, borrowed from the body unless it is written with escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// The whole body: the request, and our own object in it, still unread.
struct Top<'a>(&'a Place);

impl<'de> DeserializeSeed<'de> for Top<'_> {
    type Value = (Request, Value);

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Top<'_> {
    type Value = (Request, Value);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let place = self.0;
        let mut query = Query::of(String::new(), Vec::new());
        let (mut stream, mut include_usage, mut user, mut extension) =
            (false, false, None, Value::Null);
        let (mut max_tokens, mut max_completion_tokens) = (None, None);
        let mut has_model = false;
        while let Some(Key(key)) = map.next_key()? {
            place.enter(&key);
            let params = &mut query.params;
            match &*key {
                "model" => {
                    query.model = map.next_value()?;
                    has_model = true;
                }
                "messages" => {
                    query.messages = map.next_value_seed(Items {
                        place,
                        each: Turn(place),
                    })?
                }
                "tools" => {
                    query.tools = map.next_value_seed(Items {
                        place,
                        each: OneTool(place),
                    })?
                }
                "tool_choice" => query.tool_choice = place.needed(map.next_value()?)?,
                "response_format" => query.response_format = place.needed(map.next_value()?)?,
                "temperature" => params.temperature = map.next_value()?,
                "top_p" => params.top_p = map.next_value()?,
                "max_tokens" => max_tokens = map.next_value()?,
                "max_completion_tokens" => max_completion_tokens = map.next_value()?,
                "stop" => params.stop = map.next_value::<Stop>()?.0,
                "seed" => params.seed = map.next_value()?,
                "n" => params.n = map.next_value()?,
                "presence_penalty" => params.presence_penalty = map.next_value()?,
                "frequency_penalty" => params.frequency_penalty = map.next_value()?,
                "logprobs" => params.logprobs = map.next_value()?,
                "top_logprobs" => params.top_logprobs = map.next_value()?,
                "reasoning_effort" => params.reasoning_effort = map.next_value()?,
                "stream" => stream = map.next_value::<Option<bool>>()?.unwrap_or(false),
                "stream_options" => {
                    let options: Option<StreamOptions> = map.next_value()?;
                    include_usage = options
                        .and_then(|options| options.include_usage)
                        .unwrap_or(false);
                }
                "user" => user = map.next_value()?,
                "quorate" => extension = place.needed(map.next_value()?)?,
                _ => {
                    if let Some(value) = place.spare(map.next_value()?)? {
                        query.rest.insert(key.into_owned(), value);
                    }
                }
            }
        }
        query.params.max_tokens = max_completion_tokens.or(max_tokens);
        if !has_model {
            place.enter("model");
            return Err(A::Error::custom(
                "is missing: a deployment, an alias, `auto` or `ensemble/<name>`",
            ));
        }
        Ok((
            Request {
                query,
                stream,
                include_usage,
                user,
            },
            extension,
        ))
    }
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// An array whose entries are counted while they are read; `null` is an empty one.
struct Items<'a, S> {
    place: &'a Place,
    each: S,
}

impl<'de, S: DeserializeSeed<'de> + Copy> DeserializeSeed<'de> for Items<'_, S> {
    type Value = Vec<S::Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, S: DeserializeSeed<'de> + Copy> Visitor<'de> for Items<'_, S> {
    type Value = Vec<S::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        loop {
            self.place.index.set(Some(items.len()));
            let Some(item) = seq.next_element_seed(self.each)? else {
                break;
            };
            items.push(item);
            if items.len() > MOST_ENTRIES {
                self.place.index.set(None);
                return Err(A::Error::custom(format!(
                    "must have at most {MOST_ENTRIES} entries"
                )));
            }
        }
        self.place.index.set(None);
        Ok(items)
    }
}

#[derive(Clone, Copy)]
struct OneTool<'a>(&'a Place);

impl<'de> DeserializeSeed<'de> for OneTool<'_> {
    type Value = Tool;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Tool, D::Error> {
        self.0.needed(Deserialize::deserialize(from)?)
    }
}

/// One turn of the conversation. [`Message`] could read itself, but not say which of its fields is wrong, and
/// not without copying each text twice.
#[derive(Clone, Copy)]
struct Turn<'a>(&'a Place);

impl<'de> DeserializeSeed<'de> for Turn<'_> {
    type Value = Message;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Message, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Turn<'_> {
    type Value = Message;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Message, A::Error> {
        let place = self.0;
        let field = &place.field;
        let mut message = Message::default();
        let mut role = None;
        while let Some(Key(key)) = map.next_key()? {
            match &*key {
                "role" => {
                    field.set("role");
                    role = Some(map.next_value::<Role>()?);
                }
                "content" => {
                    field.set("content");
                    message.content = map.next_value_seed(Said(place))?;
                }
                "tool_calls" => {
                    field.set("tool_calls");
                    let calls: Option<Vec<ToolCall>> = place.needed(map.next_value()?)?;
                    message.tool_calls = calls.unwrap_or_default();
                }
                "tool_call_id" => {
                    field.set("tool_call_id");
                    message.tool_call_id = map.next_value()?;
                }
                _ => {
                    if let Some(value) = place.spare(map.next_value()?)? {
                        message.rest.insert(key.into_owned(), value);
                    }
                }
            }
            field.set("");
        }
        message.role = role.ok_or_else(|| {
            field.set("role");
            A::Error::custom("is missing: system, developer, user, assistant, tool or function")
        })?;
        Ok(message)
    }
}

/// A turn's content: text, parts, or nothing.
struct Said<'a>(&'a Place);

impl<'de> DeserializeSeed<'de> for Said<'_> {
    type Value = Option<Content>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Said<'_> {
    type Value = Option<Content>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of parts")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Content::Text(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut parts: Vec<Part> = Vec::new();
        while let Some(part) = seq.next_element()? {
            parts.push(self.0.needed(part)?);
        }
        Ok(Some(Content::Parts(parts)))
    }
}

/// Texts that end the answer: one, several, or none.
struct Stop(Vec<String>);

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Stop;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_unit<E>(self) -> Result<Stop, E> {
                Ok(Stop(Vec::new()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Stop, E> {
                Ok(Stop(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Stop, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = seq.next_element()? {
                    if texts.len() == MOST_STOPS {
                        return Err(A::Error::custom(format!(
                            "must be a string or an array of at most {MOST_STOPS} strings"
                        )));
                    }
                    texts.push(text);
                }
                Ok(Stop(texts))
            }
        }
        from.deserialize_any(Either)
    }
}
