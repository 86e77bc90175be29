//! A configuration: every mistake has a place and says what is wrong, and what is accepted is accepted the same
//! again. After a zero byte come overrides, `key=value`, one a line.

use std::collections::BTreeSet;

use quorate::Config;
use quorate::config::ConfigErrors;

/// The law.
pub fn holds(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    // A secret may be read from a file, and some files have no end.
    if ["/dev", "/proc", "/sys"]
        .iter()
        .any(|root| text.contains(root))
    {
        return;
    }
    let (file, others) = text.split_once('\0').unwrap_or((text, ""));
    let pairs = others.lines().filter_map(|line| line.split_once('='));
    let overrides: Vec<(String, String)> = pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let parse = || {
        Config::parse(
            file,
            "nowhere/quorate.toml",
            environment(&overrides),
            &overrides,
        )
    };
    match parse() {
        Ok(config) => {
            assert_eq!(Ok(&config), parse().as_ref());
            let ids: Vec<_> = config.deployments().map(|one| one.id).collect();
            assert_eq!(
                ids.iter().collect::<BTreeSet<_>>().len(),
                ids.len(),
                "{ids:?}"
            );
        }
        Err(ConfigErrors(errors)) => {
            assert!(!errors.is_empty());
            let lines = file.split('\n').count();
            for error in errors {
                let shown = error.to_string();
                assert!(!shown.chars().any(char::is_control), "{shown:?}");
                assert!(!error.message.is_empty(), "{shown}");
                // Overrides may name nothing, and are told so.
                let nameless = overrides
                    .iter()
                    .any(|(key, _)| key.starts_with('.') || key.is_empty());
                let syntax = error.message.starts_with("is no valid TOML: ");
                assert!(
                    syntax || nameless || !error.key.is_empty(),
                    "it names no field: {shown}"
                );
                let in_file = error.file == "nowhere/quorate.toml";
                assert_eq!(error.line.is_some(), in_file, "{shown}");
                assert!(
                    error.line.is_none_or(|line| (1..=lines).contains(&line)),
                    "{shown}"
                );
            }
        }
    }
}

/// Every other override comes from the environment as well.
fn environment(overrides: &[(String, String)]) -> Vec<(String, String)> {
    let named = |(key, value): &(String, String)| {
        let name = key.replace('.', "__").to_uppercase();
        (format!("QUORATE_{name}"), value.clone())
    };
    let key = ("KEY".to_owned(), "sk-1234567890".to_owned());
    overrides
        .iter()
        .step_by(2)
        .map(named)
        .chain([key])
        .collect()
}
