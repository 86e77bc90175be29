//! `quorate keys`: keys that open HTTP.

use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use quorate::config::Config;
use quorate::gateway::auth;
use quorate::query::Lane;
use serde_json::json;

use super::failure::Failure;
use super::output::Output;

/// Make keys that open HTTP.
#[derive(Debug, clap::Args)]
pub struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key: the key itself on standard error, once; what belongs into the configuration on
    /// standard output
    New(New),
}

#[derive(Debug, clap::Args)]
struct New {
    /// Whose key it is
    user: String,
    /// Show what others do, too: /v1/status and /metrics
    #[arg(long)]
    admin: bool,
    /// The most urgent lane its holder may use
    #[arg(long, value_parser = PossibleValuesParser::new(Lane::ALL.map(Lane::name)))]
    lane: Option<String>,
}

impl Keys {
    /// Makes the key.
    pub fn run(self, out: Output) -> Result<(), Failure> {
        let Action::New(new) = self.action;
        // From the generator of `rand` that is fit for secrets, seeded by the system.
        let secret = blake3::Hash::from_bytes(rand::random());
        let key = format!("{}{}", auth::KEY_PREFIX, secret.to_hex());
        let hash = auth::hash(&key);
        let toml = new.toml(&hash);
        Config::parse(&toml, "", [], &[]).map_err(|_| {
            Failure::usage(
                "USER must be 1 to 128 printable characters, not beginning or ending in a space",
            )
        })?;
        if out.json {
            return Ok(out.value(&json!({ "key": key, "hash": hash, "toml": toml }))?);
        }
        out.note("the key, which is shown only now:");
        out.said(&key);
        out.note("for the configuration:");
        Ok(out.piece(&toml)?)
    }
}

impl New {
    fn toml(&self, hash: &str) -> String {
        let user = toml::Value::from(self.user.as_str());
        let admin = if self.admin { "admin = true\n" } else { "" };
        let lane = self
            .lane
            .as_ref()
            .map(|lane| format!("lane = \"{lane}\"\n"))
            .unwrap_or_default();
        format!("\n[[keys]]\nuser = {user}\nhash = \"{hash}\"\n{lane}{admin}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_the_configuration_reads() {
        let user = "Ann \"A\" \\ Ö".to_owned();
        let new = New {
            user: user.clone(),
            admin: true,
            lane: Some("normal".into()),
        };
        let config = Config::parse(&new.toml(&auth::hash("qk-1")), "", [], &[]).unwrap();
        let [key] = config.keys.as_slice() else {
            unreachable!()
        };
        assert_eq!(
            (&key.user, key.admin, key.lane),
            (&user, true, Some(Lane::Normal))
        );
        assert_eq!(key.hash, auth::hash("qk-1"));
    }
}
