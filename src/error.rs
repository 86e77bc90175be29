//! What can go wrong, as a value with a kind, a cause and a way out.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::id::DeploymentId;

/// At most this much of an upstream's error body is kept.
pub const EXCERPT_BYTES: usize = 2048;

/// Less of a secret tells nothing.
const SHORTEST_PART: usize = 8;

/// The one error type of the crate.
///
/// One pointer wide, since it travels in every `Result` of the answer's path.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    param: Option<String>,
    retry_after: Option<Duration>,
    upstream: Option<Upstream>,
    attempts: Vec<Attempt>,
}

/// What kind of failure it is; everything else follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The upstream, or our own limit before it, allows no more calls for now.
    RateLimited,
    /// Our own queue is full, or we are shutting down.
    Overloaded,
    /// The query's deadline passed.
    Deadline,
    /// The caller went away or cancelled.
    Cancelled,
    /// The deployment's breaker is open.
    BreakerOpen,
    /// No deployment can serve the query.
    NoCandidate,
    /// The caller is not who it says, or the upstream refused our credential.
    Auth,
    /// The caller is known, and may not do this.
    Forbidden,
    /// A budget or an account's credit is used up.
    Quota,
    /// The request is wrong.
    Invalid,
    /// The request is larger than the door lets in.
    TooLarge,
    /// The prompt is longer than the model's context.
    ContextLength,
    /// The upstream refused to answer because of the content.
    ContentFilter,
    /// The deployment cannot do what the query needs.
    Unsupported,
    /// No connection to the upstream.
    Connect,
    /// The upstream was silent for too long.
    Timeout,
    /// The upstream answered with a server error.
    Upstream,
    /// The answer ended before it was finished.
    Truncated,
    /// The upstream's bytes are not what its wire says.
    Malformed,
    /// A fault of our own.
    Internal,
}

impl ErrorKind {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::Internal as usize + 1;

    /// The kind's name in logs, metrics, ledger and error bodies.
    pub fn name(self) -> &'static str {
        match self {
            Self::RateLimited => "rate-limited",
            Self::Overloaded => "overloaded",
            Self::Deadline => "deadline",
            Self::Cancelled => "cancelled",
            Self::BreakerOpen => "breaker-open",
            Self::NoCandidate => "no-candidate",
            Self::Auth => "auth",
            Self::Forbidden => "forbidden",
            Self::Quota => "quota",
            Self::Invalid => "invalid",
            Self::TooLarge => "too-large",
            Self::ContextLength => "context-length",
            Self::ContentFilter => "content-filter",
            Self::Unsupported => "unsupported",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Upstream => "upstream",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Internal => "internal",
        }
    }

    /// Whether the same call to the same deployment may succeed a moment later.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            Self::RateLimited
                | Self::Connect
                | Self::Timeout
                | Self::Upstream
                | Self::Truncated
                | Self::Malformed
                | Self::Internal
        )
    }

    /// Whether another deployment may succeed where this one failed. What is the caller's own fault
    /// would fail anywhere; a prompt too long here may fit there.
    pub fn fallbackable(self) -> bool {
        self.retryable()
            || matches!(
                self,
                Self::BreakerOpen
                    | Self::Auth
                    | Self::Quota
                    | Self::ContextLength
                    | Self::Unsupported
            )
    }

    /// How much this error tells the caller when several attempts failed; the highest is shown.
    fn usefulness(self) -> u8 {
        match self {
            Self::Invalid | Self::ContextLength | Self::ContentFilter => 6,
            Self::RateLimited | Self::Quota => 5,
            Self::Upstream | Self::Timeout | Self::Truncated | Self::Malformed => 4,
            Self::Connect => 3,
            Self::Auth => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the upstream said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upstream {
    /// Its HTTP status.
    pub status: u16,
    /// The start of its body, at most [`EXCERPT_BYTES`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
}

/// One call to one deployment on the way to an answer.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// Who was asked.
    pub deployment: DeploymentId,
    /// `ok`, or the failure's kind.
    pub outcome: &'static str,
    /// Milliseconds the call took.
    pub ms: f64,
    /// The upstream's status, if it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Attempt {
    /// Without what an upstream said, which may repeat the prompt.
    pub(crate) fn unquoted(&self) -> Self {
        Self {
            error: self.error.clone().filter(|_| self.status.is_none()),
            ..self.clone()
        }
    }
}

impl Error {
    /// An error of `kind` with a message for the caller: lower case, no full stop, and a way out if there is one.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            param: None,
            retry_after: None,
            upstream: None,
            attempts: Vec::new(),
        }))
    }

    /// A wrong request: `param` names the field.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        let mut error = Self::new(ErrorKind::Invalid, message);
        error.0.param = Some(param.into());
        error
    }

    /// The query's deadline passed while `what`.
    pub fn deadline(what: &str) -> Self {
        Self::new(
            ErrorKind::Deadline,
            format!("the deadline passed while {what}"),
        )
    }

    /// Adds when to try again.
    pub fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        self.0.retry_after = after;
        self
    }

    /// Adds what the upstream said; the body is cut to [`EXCERPT_BYTES`].
    pub fn with_upstream(mut self, status: u16, body: &[u8]) -> Self {
        let cut = &body[..body.len().min(EXCERPT_BYTES)];
        self.0.upstream = Some(Upstream {
            status,
            body: String::from_utf8_lossy(cut).into_owned(),
        });
        self
    }

    /// The same without `secret`, wherever an upstream may have repeated it, whole or cut off at a text's end.
    pub fn redacted(mut self, secret: &str) -> Self {
        let hide = |text: &mut String| {
            if let Cow::Owned(hidden) = without(text, secret) {
                *text = hidden;
            }
        };
        hide(&mut self.0.message);
        self.0.param.iter_mut().for_each(hide);
        self.0
            .upstream
            .iter_mut()
            .for_each(|upstream| hide(&mut upstream.body));
        self
    }

    /// Adds the attempts that led here.
    pub fn with_attempts(mut self, attempts: Vec<Attempt>) -> Self {
        self.0.attempts = attempts;
        self
    }

    /// The failure's kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What went wrong, in a sentence.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// [`message`](Self::message) with the field it is about in front, for who sees nothing but the message.
    pub fn explained(&self) -> Cow<'_, str> {
        let message = self.message();
        match self.param() {
            Some(param) if self.upstream().is_none() && !message.contains(param) => {
                format!("{param}: {message}").into()
            }
            _ => message.into(),
        }
    }

    /// The request's field at fault.
    pub fn param(&self) -> Option<&str> {
        self.0.param.as_deref()
    }

    /// When trying again makes sense.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What the upstream said, if it came to that.
    pub fn upstream(&self) -> Option<&Upstream> {
        self.0.upstream.as_ref()
    }

    /// Every call that was made before giving up, in order.
    pub fn attempts(&self) -> &[Attempt] {
        &self.0.attempts
    }

    /// Of several failures the one that tells the caller most.
    pub fn most_useful(errors: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut best: Option<Self> = None;
        for error in errors {
            let better = best
                .as_ref()
                .is_none_or(|b| error.kind().usefulness() > b.kind().usefulness());
            if better {
                best = Some(error);
            }
        }
        best
    }
}

/// For logs, the ledger and other callers: what an upstream said may repeat a prompt, and is left to
/// [`message`](Error::message).
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.upstream {
            None => write!(f, "{}: {}", self.0.kind, self.0.message),
            Some(upstream) => write!(
                f,
                "{}: the upstream answered {}",
                self.0.kind, upstream.status
            ),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("upstream", &self.0.upstream)
            .field("attempts", &self.0.attempts)
            .finish()
    }
}

impl std::error::Error for Error {}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// `text` without `secret`, in either case and however its characters are escaped: in JSON, also in a text within a
/// text, or in a URL. At the end, where a text may have been cut, the secret's beginning is enough.
pub(crate) fn without<'a>(text: &'a str, secret: &str) -> Cow<'a, str> {
    let bytes = text.as_bytes();
    // Backslashes are skipped in the text, so they tell nothing in the secret.
    let secret: Vec<u8> = secret.bytes().filter(|byte| *byte != b'\\').collect();
    let (mut hidden, mut kept, mut at) = (String::new(), 0, 0);
    while at < bytes.len() {
        match repeated(&bytes[at..], &secret) {
            // A repeated secret is all ASCII, so that both ends of it are ends of characters.
            Some(length) => {
                hidden.push_str(&text[kept..at]);
                hidden.push('…');
                at += length;
                kept = at;
            }
            None => at += 1,
        }
    }
    if kept == 0 {
        return text.into();
    }
    hidden.push_str(&text[kept..]);
    hidden.into()
}

/// How long `secret` is where `text` begins with it.
fn repeated(text: &[u8], secret: &[u8]) -> Option<usize> {
    let mut at = 0;
    for (done, wanted) in secret.iter().enumerate() {
        let rest = &text[at..];
        match character(rest, *wanted) {
            Some(length) => at += length,
            None if done >= SHORTEST_PART && is_cut(rest) => return Some(at),
            None => return None,
        }
    }
    (at > 0).then_some(at)
}

/// Whether nothing follows but half an escape and the mark of a cut.
fn is_cut(rest: &[u8]) -> bool {
    let rest = rest.strip_suffix("…".as_bytes()).unwrap_or(rest);
    rest.is_empty() || (rest.len() < 8 && matches!(rest[0], b'\\' | b'%'))
}

/// How many bytes stand for the character `wanted` at the start of `text`: itself, `%2f`, or after backslashes
/// itself or `u002f`.
fn character(text: &[u8], wanted: u8) -> Option<usize> {
    let mut escapes = 0;
    while text.get(escapes) == Some(&b'\\') {
        escapes += 1;
        let coded = text.get(escapes..escapes + 5);
        if coded.is_some_and(|code| code.eq_ignore_ascii_case(b"u005c")) {
            escapes += 5;
        }
    }
    let rest = &text[escapes..];
    let coded = |digits: Option<&[u8]>| {
        let digits = std::str::from_utf8(digits?).ok()?;
        u32::from_str_radix(digits, 16)
            .ok()
            .filter(|code| *code == u32::from(wanted))
    };
    let first = *rest.first()?;
    if escapes > 0 && first == b'u' && coded(rest.get(1..5)).is_some() {
        return Some(escapes + 5);
    }
    if first == b'%' && coded(rest.get(1..3)).is_some() {
        return Some(escapes + 3);
    }
    first.eq_ignore_ascii_case(&wanted).then_some(escapes + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = r#"sk-ab/c+d"e\f-0123"#;

    #[test]
    fn a_secret_is_hidden_however_it_is_escaped() {
        let json = serde_json::to_string(SECRET).unwrap();
        let within = serde_json::to_string(&json).unwrap();
        let coded: String = SECRET
            .bytes()
            .map(|byte| format!("\\u{byte:04X}"))
            .collect();
        for written in [
            SECRET.to_owned(),
            SECRET.to_uppercase(),
            json[1..json.len() - 1].to_owned(),
            json.replace('/', "\\/")[1..json.len()].to_owned(),
            within.trim_matches(['"', '\\']).to_owned(),
            coded,
            SECRET.replace('/', "%2f").replace('+', "%2B"),
        ] {
            let text = format!("é {written} and {written}!");
            assert_eq!(without(&text, SECRET), "é … and …!", "{written}");
        }
        for innocent in ["", "é", "sk-ab/", "sk-ab/c+e", "\\u00", "%"] {
            assert_eq!(without(innocent, SECRET), innocent);
        }
    }

    #[test]
    fn a_secret_that_was_cut_loses_what_is_left_of_it() {
        for cut in [
            "sk-ab/c+d",
            "sk-ab/c+d…",
            "sk-ab\\/c+d\\",
            "sk-ab/c\\u002Bd\\u00…",
        ] {
            let hidden = without(cut, SECRET);
            assert!(hidden.trim_matches('…').len() < SHORTEST_PART, "{hidden}");
            assert!(!hidden.contains("sk-"), "{hidden}");
        }
        assert_eq!(without("sk-ab/c", SECRET), "sk-ab/c");
    }

    #[test]
    fn what_an_upstream_said_is_for_the_caller_alone() {
        let error = Error::new(ErrorKind::Invalid, "the upstream answered 400: no hunter2");
        assert!(error.to_string().contains("hunter2"), "our own words");
        let error = error.with_upstream(400, b"no hunter2");
        assert_eq!(error.to_string(), "invalid: the upstream answered 400");
        assert!(error.message().contains("hunter2"));
    }
}
