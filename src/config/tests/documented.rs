//! The documented file: it is the defaults, it lacks no key, and no key in it is ignored.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::*;

const FILE: &str = include_str!("../../../config/quorate.toml");
const EXAMPLES: [&str; 3] = [
    include_str!("../../../config/examples/openai-key.toml"),
    include_str!("../../../config/examples/ensemble.toml"),
    include_str!("../../../config/examples/team.toml"),
];

/// Every key and a value that is not the documented one, as TOML. Those with a `!` are refused in their
/// place, since something else refers to them or depends on them; that proves them read as well.
const OTHERWISE: &[(&str, &str)] = &[
    ("admission.aging", "'11s'"),
    ("admission.deadline", "'11m'"),
    ("admission.max_deadline", "'2h'"),
    ("admission.per_user", "4"),
    ("admission.queue", "999"),
    ("admission.total", "51"),
    ("ensembles.panel.aim", "'accuracy 0.9'"),
    ("ensembles.panel.deadline", "'21s'"),
    ("ensembles.panel.judge", "'east/m1'"),
    ("ensembles.panel.max_cost", "0.06"),
    ("ensembles.panel.members", "['east/m1', 'double/slow']"),
    ("ensembles.panel.merge", "'synthesize'"),
    ("ensembles.panel.quorum", "1"),
    ("ensembles.panel.stop", "0.8"),
    ("ensembles.panel.vectors", "false"),
    ("ensembles.panel.wave", "1"),
    ("experiments.tone.applies_to", "['inside/smollm2-135m']"),
    ("experiments.tone.delta", "0.06"),
    ("experiments.tone.epsilon", "0.02"),
    ("experiments.tone.max_samples", "20001"),
    ("experiments.tone.min_samples", "31"),
    ("experiments.tone.min_share", "0.06"),
    ("experiments.tone.sticky", "'user'"),
    ("experiments.tone.variants[].merge", "'best'"),
    ("experiments.tone.variants[].min_share", "0.4"),
    ("experiments.tone.variants[].name", "'other'"),
    ("experiments.tone.variants[].system", "'Other.'"),
    ("experiments.tone.variants[].use", "!'none'"),
    ("keys[].admin", "true"),
    (
        "keys[].hash",
        "'blake3:1111111111111111111111111111111111111111111111111111111111111111'",
    ),
    ("keys[].lane", "'batch'"),
    ("keys[].user", "'bob'"),
    ("ledger.checkpoint", "'6s'"),
    ("ledger.flush", "'251ms'"),
    ("ledger.keep_prompts", "true"),
    ("ledger.max_age", "'31d'"),
    ("ledger.max_rows", "999"),
    ("ledger.path", "'off'"),
    ("log.format", "'json'"),
    ("log.level", "'debug'"),
    ("models.fast.order", "'scored'"),
    ("models.fast.use", "['double/slow']"),
    ("providers[].api_key", "'other'"),
    ("providers[].base_url", "'http://h/v1'"),
    ("providers[].connect_timeout", "'6s'"),
    ("providers[].adaptive_limit", "false"),
    ("providers[].answer_timeout", "'7s'"),
    ("providers[].first_token_timeout", "'6s'"),
    ("providers[].headers", "{ x-team = 'find' }"),
    ("providers[].idle_timeout", "'6s'"),
    ("providers[].kind", "!'none'"),
    ("providers[].max_in_flight", "17"),
    ("providers[].models", "!['other']"),
    ("providers[].models[].context", "8193"),
    ("providers[].models[].family", "'qwen'"),
    ("providers[].models[].json_schema", "false"),
    ("providers[].models[].max_in_flight", "5"),
    ("providers[].models[].name", "!'other'"),
    ("providers[].models[].price.cached", "0.03"),
    ("providers[].models[].price.input", "0.16"),
    ("providers[].models[].price.output", "0.61"),
    ("providers[].models[].quality", "0.6"),
    ("providers[].models[].reasoning", "false"),
    ("providers[].models[].requests_per_minute", "61"),
    ("providers[].models[].script", "{ answer = '43' }"),
    ("providers[].models[].streaming", "false"),
    ("providers[].models[].tokens_per_minute", "61"),
    ("providers[].models[].tools", "false"),
    ("providers[].models[].upstream", "'other'"),
    ("providers[].models[].vision", "false"),
    ("providers[].name", "!''"),
    ("providers[].path", "'other.gguf'"),
    ("providers[].preset", "'cerebras'"),
    ("providers[].requests_per_minute", "601"),
    ("providers[].script", "{ answer = '43' }"),
    ("providers[].tokens_per_minute", "601"),
    ("providers[].vendor", "'other'"),
    ("resilience.backoff_base", "'501ms'"),
    ("resilience.backoff_cap", "'21s'"),
    ("resilience.breaker.failure_ratio", "0.6"),
    ("resilience.breaker.jitter", "0.3"),
    ("resilience.breaker.min_calls", "11"),
    ("resilience.breaker.open_for", "'31s'"),
    ("resilience.breaker.open_max", "'6m'"),
    ("resilience.breaker.probe_deadline", "'31s'"),
    ("resilience.breaker.probes", "3"),
    ("resilience.breaker.window", "'61s'"),
    ("resilience.connect_timeout", "'6s'"),
    ("resilience.adaptive_limit", "false"),
    ("resilience.answer_timeout", "'121s'"),
    ("resilience.first_token_timeout", "'31s'"),
    ("resilience.hedge", "true"),
    ("resilience.hedge_budget", "0.06"),
    ("resilience.idle_timeout", "'61s'"),
    ("resilience.retries", "4"),
    ("resilience.retry_budget", "0.3"),
    ("routing.classify", "false"),
    ("routing.cost", "0.4"),
    ("routing.explore", "0.2"),
    ("routing.floor", "0.7"),
    ("routing.latency", "0.4"),
    ("routing.order", "['double/slow']"),
    ("routing.quality", "0.9"),
    ("routing.seed", "7"),
    ("server.allow_remote", "true"),
    ("server.http", "'off'"),
    ("server.max_bodies", "'257MB'"),
    ("server.max_body", "'11MB'"),
    ("server.max_connections", "9999"),
    ("server.read_timeout", "'31s'"),
    ("server.shutdown_timeout", "'31s'"),
    ("server.socket", "'off'"),
    ("server.write_timeout", "'61s'"),
];

/// The file with its examples in force: `#key` lines without their `#`, prose left out.
fn whole() -> Table {
    let in_force = |line: &str| match line.strip_prefix('#') {
        Some(example) if !example.starts_with(' ') => example.to_owned(),
        Some(_) => String::new(),
        None => line.to_owned(),
    };
    let text: Vec<String> = FILE.lines().map(in_force).collect();
    text.join("\n").parse().unwrap()
}

/// Every key's concrete path, as indices and names, and its path in [`OTHERWISE`].
fn leaves(value: &Value, concrete: &[String], path: &str, found: &mut Vec<(Vec<String>, String)>) {
    let free = path.ends_with(".script") || path.ends_with(".headers");
    match value {
        Value::Table(table) if !free => {
            for (key, value) in table {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                leaves(
                    value,
                    &[concrete, std::slice::from_ref(key)].concat(),
                    &path,
                    found,
                );
            }
        }
        Value::Array(items) if items.first().is_some_and(Value::is_table) => {
            for (index, item) in items.iter().enumerate() {
                leaves(
                    item,
                    &[concrete, &[index.to_string()]].concat(),
                    &format!("{path}[]"),
                    found,
                );
            }
        }
        _ => found.push((concrete.to_vec(), path.to_owned())),
    }
}

fn at<'v>(value: &'v mut Value, concrete: &[String]) -> &'v mut Value {
    concrete.iter().fold(value, |value, step| match value {
        Value::Array(items) => &mut items[step.parse::<usize>().unwrap()],
        value => &mut value[step.as_str()],
    })
}

#[test]
fn the_documented_file_is_the_defaults_and_nothing_else() {
    let env: Vec<_> = environment()
        .filter(|(name, _)| !name.starts_with("QUORATE_"))
        .collect();
    let config = Config::parse(FILE, "quorate.toml", env, &[]).unwrap();
    assert_eq!(config, Config::default());
}

#[test]
fn every_documented_key_changes_the_configuration() {
    let whole = Value::Table(whole());
    let before = parse(&toml::to_string(&whole).unwrap()).unwrap();
    let mut found = Vec::new();
    leaves(&whole, &[], "", &mut found);

    for (concrete, path) in &found {
        let (_, otherwise) = OTHERWISE.iter().find(|(key, _)| key == path).expect(path);
        let value = otherwise.strip_prefix('!');
        let document: Table = format!("v = {}", value.unwrap_or(otherwise))
            .parse()
            .unwrap();
        let mut changed = whole.clone();
        *at(&mut changed, concrete) = document["v"].clone();
        let after = parse(&toml::to_string(&changed).unwrap());
        match (after, value) {
            (Ok(after), None) => assert_ne!(after, before, "{concrete:?} is ignored"),
            (Err(errors), None) => panic!("{concrete:?} = {otherwise}: {errors}"),
            (Ok(_), Some(_)) => panic!("{concrete:?} = {otherwise} should be refused"),
            (Err(_), Some(_)) => {}
        }
    }
    let documented: BTreeSet<&str> = found.iter().map(|(_, path)| path.as_str()).collect();
    let listed: BTreeSet<&str> = OTHERWISE.iter().map(|(path, _)| *path).collect();
    assert_eq!(documented, listed);
}

/// A key that no section knows makes it list those it does; each of them must be in the file.
#[test]
fn every_key_that_is_read_is_documented() {
    let whole = Value::Table(whole());
    let mut tables = BTreeSet::new();
    let mut found = Vec::new();
    leaves(&whole, &[], "", &mut found);
    for (concrete, path) in &found {
        let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
        tables.insert((concrete[..concrete.len() - 1].to_vec(), parent.to_owned()));
    }
    for (concrete, parent) in tables {
        let mut changed = whole.clone();
        at(&mut changed, &concrete)
            .as_table_mut()
            .unwrap()
            .insert("zzzzzz".into(), 1.into());
        let shown = complaints(&toml::to_string(&changed).unwrap());
        let (_, known) = shown
            .rsplit_once("zzzzzz: unknown key; known: ")
            .expect(&shown);
        for key in known.split(", ") {
            let path = format!("{parent}.{key}");
            let below = [format!("{path}."), format!("{path}[]")];
            let documented = |(_, leaf): &(_, String)| {
                *leaf == path || below.iter().any(|below| leaf.starts_with(below))
            };
            assert!(found.iter().any(documented), "{path} is not documented");
        }
    }
}

#[test]
fn the_examples_are_right() {
    for example in EXAMPLES {
        let config = parse(example).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(
            !config.providers.is_empty()
                && !config.models.is_empty() | !config.ensembles.is_empty()
        );
    }
}
