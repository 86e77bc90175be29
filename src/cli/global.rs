//! The flags every command takes, and the configuration they lead to.

use std::path::{Path, PathBuf};
use std::sync::Once;

use clap::builder::FalseyValueParser;
use quorate::config::{self, Config};

use super::discover;
use super::failure::Failure;
use super::output::Output;

/// The flags every command takes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Configuration file; default: quorate.toml here, else in $XDG_CONFIG_HOME/quorate
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "QUORATE_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
    /// Override a key of the configuration, such as admission.per_user=5; a list's items stand between commas
    /// (routing.order=east/m1,west/m2); repeatable
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
    /// Unix socket of the daemon, short for --set server.socket=PATH
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Print JSON, errors too
    #[arg(long, global = true)]
    pub json: bool,
    /// What to log, short for --set log.level=LEVEL
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log: Option<String>,
    /// Without a configuration, do not look for model servers on this machine
    #[arg(
        long,
        global = true,
        env = "QUORATE_NO_PROBE",
        hide_env_values = true,
        value_parser = FalseyValueParser::new()
    )]
    pub no_probe: bool,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("must be KEY=VALUE, such as admission.total=9")?;
    Ok((key.trim().into(), value.into()))
}

impl Global {
    /// The configuration file, if there is one.
    pub fn file(&self) -> Option<PathBuf> {
        if self.config.is_some() {
            return self.config.clone();
        }
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let home = || variable("HOME").map(|home| Path::new(&home).join(".config"));
        let configs = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
        let usual = configs.map(|directory| directory.join("quorate/quorate.toml"));
        let mut candidates = [Some(PathBuf::from("quorate.toml")), usual]
            .into_iter()
            .flatten();
        candidates.find(|path| path.is_file())
    }

    /// The configuration as written, without discovery.
    pub fn load(&self) -> Result<Config, Failure> {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            for (name, _) in config::environment() {
                if let Some(meant) = misspelt(&name) {
                    let why = "two underscores stand between a section and its key";
                    Output::new(self.json)
                        .note(format_args!("{name} sets nothing: {why}, {meant}"));
                }
            }
        });
        let file = self.file();
        Ok(Config::load(
            file.as_deref(),
            config::environment(),
            &self.overrides(),
        )?)
    }

    /// The configuration, with providers found by discovery if it names none.
    pub async fn configuration(&self, out: Output) -> Result<Config, Failure> {
        let mut config = self.load()?;
        if config.providers.is_empty() {
            config.providers = discover::providers(!self.no_probe, out).await?;
        }
        Ok(config)
    }

    /// Where the daemon's socket is; `None` if the configuration has none.
    ///
    /// A client needs no more than this of the configuration, and must not fail because a provider's
    /// key is in the daemon's environment but not in its own. So the rest is left out if it can be.
    pub fn door(&self) -> Result<Option<PathBuf>, Failure> {
        let doors_only = self.document().and_then(|(file, mut document)| {
            document.retain(|section, _| section == "server" || section == "keys");
            let name = file.display().to_string();
            let text = document.to_string();
            Config::parse(&text, &name, config::environment(), &self.overrides()).ok()
        });
        let config = doors_only.map_or_else(|| self.load(), Ok)?;
        Ok(config.server.socket)
    }

    /// To be called where the daemon at `door` answers, whose configuration is its own: refuses what was set here
    /// for this command alone, and notes a file that was named for it and did not lead to that daemon.
    pub fn leave_to(&self, door: &Path) -> Result<(), Failure> {
        let door = door.display();
        let own =
            "with --set server.socket=off 'ask', 'chat', 'explain' and 'models' need no daemon";
        let is_socket = |key: &str| key == "server.socket";
        if let Some((key, _)) = self.set.iter().find(|(key, _)| !is_socket(key)) {
            return Err(Failure::usage(format!(
                "--set {key}: the daemon at {door} answers, which has a configuration of its own: set it there; or {own}"
            )));
        }
        let variable = |name| std::env::var_os(name);
        // One that is set for every command is the daemon's as well.
        let named = self.config.as_ref();
        let named =
            named.filter(|file| variable("QUORATE_CONFIG").as_deref() != Some(file.as_os_str()));
        let leads_there = self.socket.is_some()
            || self.set.iter().any(|(key, _)| is_socket(key))
            || variable("QUORATE_SERVER__SOCKET").is_some()
            || self.document().is_some_and(|(_, document)| {
                document
                    .get("server")
                    .is_some_and(|server| server.get("socket").is_some())
            });
        if let Some(file) = named.filter(|_| !leads_there) {
            static TOLD: Once = Once::new();
            let file = file.display();
            TOLD.call_once(|| {
                Output::new(self.json).note(format_args!(
                    "{file} names no socket: the daemon at {door} answers, by the configuration it was started with; {own}"
                ));
            });
        }
        Ok(())
    }

    /// The file and what is in it, if it is there and is TOML.
    fn document(&self) -> Option<(PathBuf, toml::Table)> {
        let file = self.file()?;
        let document = std::fs::read_to_string(&file).ok()?.parse().ok()?;
        Some((file, document))
    }

    fn overrides(&self) -> Vec<(String, String)> {
        let mut overrides = self.set.clone();
        if let Some(socket) = &self.socket {
            overrides.push(("server.socket".into(), socket.display().to_string()));
        }
        if let Some(level) = &self.log {
            overrides.push(("log.level".into(), level.clone()));
        }
        overrides
    }
}

/// How a variable was meant that begins as those of the configuration do, and has one underscore after the section.
fn misspelt(name: &str) -> Option<String> {
    let rest = name.strip_prefix("QUORATE_")?;
    let rest = Some(rest).filter(|rest| !rest.contains("__"))?;
    config::PLAIN.iter().find_map(|section| {
        let section = section.to_ascii_uppercase();
        let key = rest.strip_prefix(&section)?.strip_prefix('_')?;
        Some(format!("QUORATE_{section}__{key}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_with_one_underscore_too_few_is_known_by_its_section() {
        let meant = "QUORATE_SERVER__MAX_BODY".to_owned();
        assert_eq!(misspelt("QUORATE_SERVER_MAX_BODY"), Some(meant));
        for right in [
            "QUORATE_LOG__LEVEL",
            "QUORATE_CONFIG",
            "QUORATE_LOGO",
            "LOG_LEVEL",
        ] {
            assert_eq!(misspelt(right), None);
        }
    }

    #[test]
    fn what_was_set_for_a_command_is_refused_where_a_daemon_answers() {
        let mut global = global(Path::new("/nowhere/quorate.toml"));
        let set = |key: &str| (key.to_owned(), "1".to_owned());
        global.set = vec![set("server.socket")];
        assert!(global.leave_to(Path::new("/run/q.sock")).is_ok());
        global.set.push(set("admission.total"));
        let failure = global.leave_to(Path::new("/run/q.sock")).unwrap_err();
        assert!(
            failure
                .message
                .starts_with("--set admission.total: the daemon at /run/q.sock "),
            "{}",
            failure.message
        );
    }

    fn global(config: &Path) -> Global {
        Global {
            config: Some(config.into()),
            set: Vec::new(),
            socket: None,
            json: false,
            log: None,
            no_probe: true,
        }
    }

    #[test]
    fn a_client_finds_the_socket_though_it_lacks_the_daemons_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("quorate.toml");
        let text = "[server]\nsocket = \"q.sock\"\n[[providers]]\npreset = \"groq\"\n\
                    api_key = \"${QUORATE_TEST_UNSET}\"\n";
        std::fs::write(&file, text).unwrap();
        let mut global = global(&file);
        assert!(
            global
                .load()
                .unwrap_err()
                .message
                .contains("QUORATE_TEST_UNSET")
        );
        assert_eq!(
            global.door().unwrap(),
            Some(directory.path().join("q.sock"))
        );
        global.socket = Some("/run/other.sock".into());
        assert_eq!(global.door().unwrap(), Some("/run/other.sock".into()));
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let failure = global(Path::new("/nowhere/quorate.toml"))
            .door()
            .unwrap_err();
        assert!(
            failure.message.contains("/nowhere/quorate.toml"),
            "{}",
            failure.message
        );
        assert_eq!(failure.exit, crate::cli::failure::Exit::Config);
    }
}
