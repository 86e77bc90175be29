//! `quorate reload`: the daemon reads its configuration again.

use serde_json::{Value, json};

use super::client::Client;
use super::failure::{Exit, Failure};
use super::global::Global;
use super::output::Output;

/// Have the daemon read its configuration again. If that has a mistake, the old one stays in force.
#[derive(Debug, clap::Args)]
pub struct Reload {}

impl Reload {
    /// Asks for it and says what changed.
    pub async fn run(self, global: &Global, out: Output) -> Result<(), Failure> {
        let mut client = Client::dial(global).await?;
        let changes =
            client
                .call("reload", json!({}))
                .await
                .map_err(|failure| match failure.exit {
                    Exit::Query => Failure {
                        exit: Exit::Config,
                        ..failure
                    },
                    _ => failure,
                })?;
        if out.json {
            Ok(out.value(&changes)?)
        } else {
            Ok(out.line(summary(&changes))?)
        }
    }
}

fn summary(changes: &Value) -> String {
    let what = [
        ("added", "added"),
        ("removed", "removed"),
        ("at_next_start", "from the next start"),
    ];
    let list = |(key, word): &(&str, &str)| {
        let names: Vec<&str> = changes[*key]
            .as_array()?
            .iter()
            .filter_map(Value::as_str)
            .collect();
        (!names.is_empty()).then(|| format!("; {word}: {}", names.join(", ")))
    };
    let said: String = what.iter().filter_map(list).collect();
    format!("reloaded{said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_told() {
        let changes = json!({ "added": ["a/x", "b/y"], "removed": [], "at_next_start": ["log"] });
        assert_eq!(
            summary(&changes),
            "reloaded; added: a/x, b/y; from the next start: log"
        );
        assert_eq!(summary(&json!({})), "reloaded");
    }
}
