use std::time::Duration;

use super::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn with(text: &str, variables: Pairs<'_>, flags: Pairs<'_>) -> Result<Config, String> {
    let own = |pairs: Pairs<'_>| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let env = env().into_iter().chain(own(variables));
    Config::parse(text, "q.toml", env, &own(flags)).map_err(|errors| errors.to_string())
}

#[test]
fn each_layer_overrides_the_one_before() {
    let file = "[admission]\nper_user = 4\ntotal = 40\nqueue = 400";
    let variables = [
        ("QUORATE_ADMISSION__TOTAL", "41"),
        ("QUORATE_ADMISSION__QUEUE", "401"),
    ];
    let flags = [("admission.queue", "402"), ("admission.queue", "403")];
    let admission = with(file, &variables, &flags).unwrap().admission;
    assert_eq!(
        (admission.per_user, admission.total, admission.queue),
        (4, 41, 403)
    );
    assert_eq!(admission.aging, Duration::from_secs(10), "the default");
}

#[test]
fn a_variable_is_read_as_whatever_its_key_holds() {
    let variables = [
        ("QUORATE_SERVER__HTTP", "off"),
        ("QUORATE_SERVER__SOCKET", "here.sock"),
        ("QUORATE_SERVER__MAX_BODY", "1MiB"),
        ("QUORATE_SERVER__MAX_CONNECTIONS", "7"),
        ("QUORATE_RESILIENCE__HEDGE", "true"),
        ("QUORATE_RESILIENCE__BREAKER__WINDOW", "5s"),
        ("QUORATE_RESILIENCE__BREAKER__JITTER", "0"),
        ("QUORATE_ROUTING__ORDER", "east/b, east/a"),
        ("QUORATE_LOG__LEVEL", "info,quorate::router=debug"),
    ];
    let file = format!("[server]\nsocket = 'there.sock'\n{EAST}models = ['a', 'b']");
    let config = with(&file, &variables, &[]).unwrap();
    assert_eq!(config.server.http, None);
    assert_eq!(
        config.server.socket,
        Some("here.sock".into()),
        "not relative to the file"
    );
    assert_eq!(config.server.max_body, 1 << 20);
    assert_eq!(config.server.max_connections, 7);
    assert!(config.resilience.hedge);
    assert_eq!(config.resilience.breaker.window, Duration::from_secs(5));
    assert_eq!(config.resilience.breaker.jitter, 0.0);
    assert_eq!(config.routing.order, ["east/b", "east/a"]);
    assert_eq!(config.log.level, "info,quorate::router=debug");
}

#[test]
fn variables_of_others_are_let_be() {
    let variables = [
        ("QUORATE_CONFIG", "x"),
        ("QUORATE_CACHE_DIR", "/c"),
        ("QUORATE_LOG", "debug"),
        ("QUORATE_SKIP_THIRD__PARTY", "1"),
        ("OTHER_ADMISSION__TOTAL", "9"),
    ];
    assert_eq!(with("", &variables, &[]), with("", &[], &[]));
}

#[test]
fn a_mistake_in_a_layer_names_the_variable_or_the_command_line() {
    let cases: [(Pairs<'_>, Pairs<'_>, &str); 10] = [
        (
            &[("QUORATE_ADMISSION__PER_USER", "many")],
            &[],
            "QUORATE_ADMISSION__PER_USER: admission.per_user: must be an integer from 1 to 100000, not 'many'",
        ),
        (
            &[("QUORATE_ADMISSION__PER_USR", "3")],
            &[],
            "QUORATE_ADMISSION__PER_USR: admission.per_usr: unknown key; did you mean 'per_user'?",
        ),
        (
            &[("QUORATE_ADMISION__TOTAL", "3")],
            &[],
            "QUORATE_ADMISION__TOTAL: admision.total: unknown section 'admision'; did you mean 'admission'?",
        ),
        (
            &[("QUORATE_PROVIDERS__EAST__NAME", "x")],
            &[],
            "providers.east.name: providers can be set only in the file",
        ),
        (
            &[],
            &[("experiments.x.delta", "0.1")],
            "command line: experiments.x.delta: experiments can be set only in the file",
        ),
        (
            &[("QUORATE_LOG__\nLEVEL", "info")],
            &[],
            "QUORATE_LOG__\u{fffd}LEVEL: log.\u{fffd}level: unknown key; did you mean 'level'?",
        ),
        (
            &[("QUORATE_ADMISSION__TOTAL__", "3")],
            &[],
            "QUORATE_ADMISSION__TOTAL__: admission.total.: is below a key that is no table",
        ),
        (
            &[],
            &[("log.format", "xml")],
            "command line: log.format: must be one of \"text\", \"json\"",
        ),
        (
            &[],
            &[("server", "x")],
            "command line: server: must be a table",
        ),
        (
            &[],
            &[("", "x")],
            "command line: unknown section ''; known: admission, ledger",
        ),
    ];
    for (variables, flags, wanted) in cases {
        let shown = with("[admission]\ntotal = 9", variables, flags).unwrap_err();
        assert!(shown.contains(wanted), "wanted {wanted}\ngot {shown}");
        assert_eq!(shown.lines().count(), 1, "{shown}");
    }
}

#[test]
fn defaults_follow_the_environment() {
    let config = with("", &[], &[]).unwrap();
    assert_eq!(
        config.server.socket,
        Some("/run/user/7/quorate/quorate.sock".into())
    );
    assert_eq!(
        config.ledger.path,
        Some("/home/operator/.local/state/quorate/ledger.db".into())
    );

    let config = with(
        "",
        &[
            ("XDG_STATE_HOME", "/state"),
            ("XDG_RUNTIME_DIR", "relative"),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(config.ledger.path, Some("/state/quorate/ledger.db".into()));
    let socket = config.server.socket.unwrap();
    assert!(
        socket.to_string_lossy().starts_with("/tmp/quorate-"),
        "{socket:?}"
    );
}
