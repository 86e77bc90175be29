//! The configuration as a whole; sections and units have their own tests beside them.

mod documented;
mod layered;
mod malformed;

use super::*;

/// An environment without surprises, with every variable that the documented examples refer to.
pub(super) fn env() -> Vec<(String, String)> {
    let pairs = [
        ("HOME", "/home/operator"),
        ("XDG_RUNTIME_DIR", "/run/user/7"),
        ("EAST_KEY", "sk-east"),
        ("HOUSE_KEY", "sk-house"),
        ("GROQ_API_KEY", "sk-groq"),
        ("CEREBRAS_API_KEY", "sk-cerebras"),
        ("DEEPSEEK_API_KEY", "sk-deepseek"),
        ("MISTRAL_API_KEY", "sk-mistral"),
        ("OPENAI_API_KEY", "sk-openai"),
        ("OPENROUTER_API_KEY", "sk-openrouter"),
    ];
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

pub(super) fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, "etc/quorate.toml", env(), &[])
}

/// All that is wrong with `text`, as it is shown.
pub(super) fn complaints(text: &str) -> String {
    parse(text)
        .err()
        .map(|errors| errors.to_string())
        .unwrap_or_default()
}

const EAST: &str = "[[providers]]\nname = 'east'\nkind = 'openai'\nbase_url = 'http://h/v1'\n";

#[test]
fn the_form_of_the_first_page_is_understood() {
    let config = parse(
        r#"
        [server]
        http = "127.0.0.1:4180"
        socket = "quorate.sock"

        [admission]
        per_user = 3

        [[providers]]
        name = "east"
        kind = "openai"
        base_url = "http://127.0.0.1:9101/v1/"
        api_key = "${EAST_KEY}"
        models = ["m1", { name = "m2", context = 8192, price = { input = 0.15, output = 0.60 } }]

        [[providers]]
        name = "west"
        kind = "scripted"
        script = { answer = "hi", fail = { times = 2 } }
        models = ["m1"]

        [models.fast]
        use = ["east/m1", "west/m1"]

        [ensembles.panel]
        members = ["east/m1", "east/m2", "west/m1"]
        "#,
    )
    .unwrap();

    assert_eq!(
        config.server.socket,
        Some("etc/quorate.sock".into()),
        "beside the file"
    );
    let east = &config.providers[0];
    assert_eq!(east.base_url.as_deref(), Some("http://127.0.0.1:9101/v1"));
    assert_eq!(east.api_key.as_ref().map(Secret::expose), Some("sk-east"));
    assert_eq!(east.models[0], ModelConfig::named("m1"));
    assert_eq!(east.models[1].capabilities.context, Some(8192));
    assert_eq!(east.models[1].price.unwrap().output, 0.6);
    let script = serde_json::json!({ "answer": "hi", "fail": { "times": 2 } });
    assert_eq!(config.providers[1].script, Some(script));
    assert_eq!(config.models["fast"].candidates, ["east/m1", "west/m1"]);
    assert_eq!(config.models["fast"].order, Order::Listed);
    assert_eq!(
        config.ensembles["panel"].quorum, 2,
        "more than half of three"
    );
    let ids: Vec<String> = config
        .deployments()
        .map(|found| found.id.to_string())
        .collect();
    assert_eq!(ids, ["east/m1", "east/m2", "west/m1"]);
}

#[test]
fn an_experiment_needs_no_more_than_its_variants() {
    let text = format!(
        "{EAST}models = ['a', 'b']
        [models.fast]
        use = ['east/a']
        [ensembles.panel]
        members = ['east/a', 'east/b']
        [experiments.tone]
        applies_to = ['fast', 'auto']
        variants = [
            {{ name = 'plain', use = 'fast', min_share = 0.5 }},
            {{ name = 'terse', use = 'fast', system = 'Be brief.' }},
            {{ name = 'panel', use = 'ensemble/panel', merge = 'best' }},
        ]"
    );
    let config = parse(&text).unwrap();
    let tone = &config.experiments["tone"];
    assert_eq!(tone.applies_to, ["fast", "auto"]);
    assert_eq!(tone.variants[2].model, "ensemble/panel");
    let shares: Vec<f64> = tone.variants.iter().map(|one| one.min_share).collect();
    assert_eq!(shares, [0.5, 0.05, 0.05]);
    let definition = tone.definition("tone");
    assert_eq!(definition.validate(), Ok(()));
    assert_eq!(
        (definition.min_samples, definition.max_samples),
        (30, 20_000)
    );

    let prints = |config: &Config| -> Vec<u64> {
        let variants = config.experiments["tone"].definition("tone").variants;
        variants.iter().map(|variant| variant.fingerprint).collect()
    };
    let changed = parse(&text.replace("Be brief.", "Be brief!")).unwrap();
    let (before, after) = (prints(&config), prints(&changed));
    assert_eq!((before[0], before[2]), (after[0], after[2]));
    assert_ne!(before[1], after[1], "another prompt is another variant");
}

#[test]
fn a_deployment_has_its_models_limits_and_else_its_providers() {
    let config = parse(&format!(
        "[resilience]\nidle_timeout = '7s'\n{EAST}
        connect_timeout = '1s'
        max_in_flight = 8
        tokens_per_minute = 900
        models = [{{ name = 'a', upstream = 'A', max_in_flight = 2, tools = false }}]"
    ))
    .unwrap();
    let deployment = config.deployments().next().unwrap();
    assert_eq!(deployment.model, "A");
    assert_eq!(deployment.vendor, "openai");
    assert_eq!(deployment.limits.max_in_flight, Some(2));
    assert_eq!(deployment.limits.tokens_per_minute, Some(900));
    assert_eq!(deployment.limits.requests_per_minute, None);
    assert_eq!(
        deployment.timeouts.connect,
        std::time::Duration::from_secs(1)
    );
    assert_eq!(deployment.timeouts.idle, std::time::Duration::from_secs(7));
    assert!(!deployment.capabilities.tools && deployment.capabilities.vision);
}

#[test]
fn a_preset_needs_only_its_key_and_lets_everything_be_overridden() {
    let config = parse(
        "[[providers]]\npreset = 'groq'\n[[providers]]\npreset = 'ollama'\nname = 'den'\n\
         base_url = 'http://10.0.0.9:11434/v1'\nmodels = ['llama3.2:3b']\n[[providers]]\n\
         preset = 'zhipu'\napi_key = 'literal'\nmodels = ['glm']",
    )
    .unwrap();
    let [groq, den, zhipu] = &config.providers[..] else {
        panic!("three providers")
    };
    assert_eq!((groq.name.as_str(), groq.kind), ("groq", Kind::OpenAi));
    assert_eq!(groq.api_key.as_ref().map(Secret::expose), Some("sk-groq"));
    assert_eq!(groq.models[0].name, "openai/gpt-oss-120b");
    assert_eq!((den.name.as_str(), den.vendor.as_str()), ("den", "ollama"));
    assert_eq!(den.base_url.as_deref(), Some("http://10.0.0.9:11434/v1"));
    assert_eq!(den.api_key, None);
    assert_eq!(zhipu.api_key.as_ref().map(Secret::expose), Some("literal"));
}

#[test]
fn a_gguf_file_is_a_model_under_its_own_name() {
    let config =
        parse("[[providers]]\nname = 'own'\nkind = 'local'\npath = 'tiny-q4.gguf'").unwrap();
    assert_eq!(config.providers[0].path, Some("etc/tiny-q4.gguf".into()));
    assert_eq!(config.providers[0].models, [ModelConfig::named("tiny-q4")]);
    assert_eq!(config.providers[0].base_url, None);
}

#[test]
fn a_local_model_is_named_in_the_catalogue_under_its_own_name_or_upstream() {
    let text = "[[providers]]\nname = 'i'\nkind = 'local'\nmodels = ['smollm2-135m', X]";
    let named = |model: &str| parse(&text.replace('X', model));
    assert!(named("{ name = 'tiny', upstream = 'qwen2.5-coder-0.5b' }").is_ok());
    assert!(named("{ name = 'tiny', upstream = 'gpt-9' }").is_err());
}

#[test]
fn an_ensemble_wants_a_majority_unless_the_first_answer_will_do() {
    let config = parse(&format!(
        "{EAST}models = ['a', 'b', 'c', 'd']\n\
         [ensembles]\nhalf = {{ members = ['east/a', 'east/b', 'east/c', 'east/d'] }}\n\
         quick = {{ members = ['east/a', 'east/b'], merge = 'first' }}\n\
         set = {{ members = ['east/a', 'east/b'], quorum = 2, merge = 'judge', judge = 'east/c' }}"
    ))
    .unwrap();
    let quorum = |name: &str| config.ensembles[name].quorum;
    assert_eq!((quorum("half"), quorum("quick"), quorum("set")), (3, 1, 2));
}

#[test]
fn no_secret_is_in_what_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "sk-from-file\n").unwrap();
    let text = format!(
        "{EAST}api_key = {{ file = 'key' }}\nheaders = {{ X-Key = 'sk-literal', y = '${{EAST_KEY}}' }}\n\
         models = ['m']"
    );
    let file = dir.path().join("q.toml");
    std::fs::write(&file, text).unwrap();
    let config = Config::load(Some(&file), env(), &[]).unwrap();

    let east = &config.providers[0];
    assert_eq!(
        east.api_key.as_ref().map(Secret::expose),
        Some("sk-from-file")
    );
    assert_eq!(east.headers["x-key"].expose(), "sk-literal");
    assert_eq!(east.headers["y"].expose(), "sk-east");
    let shown = format!("{config:?} {config:#?}");
    assert!(!shown.contains("sk-"), "{shown}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let errors = Config::load(Some(Path::new("/nowhere/q.toml")), env(), &[]).unwrap_err();
    assert!(
        errors
            .to_string()
            .starts_with("/nowhere/q.toml: cannot be read: "),
        "{errors}"
    );
}
