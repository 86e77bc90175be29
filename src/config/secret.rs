//! A credential that shows itself to nobody.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::Env;

/// A secret is at most this many bytes; servers refuse longer headers.
const LONGEST: usize = 8192;

/// A credential. Debugging, printing and serialising it show that there is one, and no more; only
/// [`Secret::expose`] hands it out.
///
/// The configuration gives it as a reference to the environment (`"${NAME}"`), as a file
/// (`{ file = "…" }`, white space around its content is dropped), or literally, which works but leaves
/// it in a file that people copy, mail and commit.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// A secret with this content.
    ///
    /// # Errors
    ///
    /// If it is empty, longer than 8192 bytes, or cannot be a header's value.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".into());
        }
        if text.len() > LONGEST {
            return Err(format!(
                "has {} bytes, a secret at most {LONGEST}",
                text.len()
            ));
        }
        if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err("must be printable ASCII on one line".into());
        }
        Ok(Self(text.into()))
    }

    /// The content itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// As written in the configuration: `${NAME}` or the content itself.
    pub(super) fn from_text(env: &Env, text: &str) -> Result<Self, String> {
        if !text.contains("${") {
            return Self::new(text);
        }
        let name = text
            .strip_prefix("${")
            .and_then(|rest| rest.strip_suffix('}'))
            .unwrap_or_default();
        let is_variable = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_variable) {
            return Err("a reference must be the whole value: \"${NAME}\"".into());
        }
        Self::from_env(env, name)
    }

    pub(super) fn from_env(env: &Env, name: &str) -> Result<Self, String> {
        let text = env
            .get(name)
            .ok_or_else(|| format!("environment variable {name} is not set"))?;
        Self::new(text).map_err(|wrong| format!("environment variable {name} {wrong}"))
    }

    pub(super) fn from_file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("file {shown} cannot be read: {error}"))?;
        Self::new(text.trim()).map_err(|wrong| format!("file {shown} {wrong}"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("…")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_itself_only_when_asked_to() {
        let secret = Secret::new("sk-very-secret").unwrap();
        let shown = format!(
            "{secret} {secret:?} {}",
            serde_json::to_string(&secret).unwrap()
        );
        assert!(!shown.contains("very"), "{shown}");
        assert_eq!(secret.expose(), "sk-very-secret");
    }

    #[test]
    fn a_file_is_trimmed_and_must_hold_something() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "  sk-file\n").unwrap();
        assert_eq!(Secret::from_file(&path).unwrap().expose(), "sk-file");
        std::fs::write(&path, " \n").unwrap();
        assert!(Secret::from_file(&path).unwrap_err().ends_with("is empty"));
        std::fs::write(&path, "two\nlines").unwrap();
        assert!(
            Secret::from_file(&path)
                .unwrap_err()
                .ends_with("must be printable ASCII on one line")
        );
    }

    #[test]
    fn a_reference_is_the_whole_value_or_an_error() {
        let env = Env::from([("K".to_owned(), "sk".to_owned())]);
        assert_eq!(Secret::from_text(&env, "${K}").unwrap().expose(), "sk");
        for bad in ["a${K}", "${K} ", "${}", "${K", "${K}${K}"] {
            assert!(
                Secret::from_text(&env, bad)
                    .unwrap_err()
                    .contains("whole value"),
                "{bad}"
            );
        }
        let unset = Secret::from_text(&env, "${L}").unwrap_err();
        assert_eq!(unset, "environment variable L is not set");
    }
}
