use proptest::prelude::*;

use super::*;

/// A document and the one complaint it must give.
#[rustfmt::skip]
const CASES: &[(&str, &str)] = &[
    ("[server", ":1: is no valid TOML: unclosed table, expected `]`"),
    ("[log]\nformat = 'text'\nformat = 'json'", ":3: is no valid TOML: duplicate key"),
    ("[admision]", ":1: admision: unknown key; did you mean 'admission'?"),
    ("[colours]", ":1: colours: unknown key; known: keys, resilience, server"),
    ("\n[admission]\nper_usr = 3", ":3: admission.per_usr: unknown key; did you mean 'per_user'?"),
    ("admission = 3", ":1: admission: must be a table"),
    ("['']", ":1: '': unknown key; known: keys"),
    ("[admission]\n'' = 1", ":2: admission.'': unknown key; known: "),
    ("[admission]\nper_user = 0", ":2: admission.per_user: must be an integer from 1 to 100000, not 0"),
    ("[admission]\nper_user = '3'", ":2: admission.per_user: must be an integer from 1 to 100000, not '3'"),
    ("[admission]\nqueue = -1", ":2: admission.queue: must be an integer from 0 to 1000000, not -1"),
    ("[admission]\nqueue = 99999999999999999999999999999999999999999", "must be an integer from 0 to 1000000"),
    ("[admission]\naging = 10", ":2: admission.aging: must be a duration from 1ms to 1h, such as \"30s\", not 10"),
    ("[admission]\naging = '2h'", ":2: admission.aging: must be a duration from 1ms to 1h"),
    ("[admission]\nmax_deadline = '1m'", ":2: admission.max_deadline: deadline (10m) is longer than max_deadline (1m)"),
    ("[server]\nhttp = 'localhost'", ":2: server.http: must be \"off\" or an IP address with a port"),
    ("[server]\nhttp = '0.0.0.0:80'", ":2: server.http: 0.0.0.0:80 is reachable from other machines"),
    ("[server]\nhttp = '[::]:80'\nallow_remote = true", ":2: server.http: [::]:80 is open to everybody: add [[keys]]"),
    ("[server]\nmax_body = '10 potatoes'", ":2: server.max_body: must be a size from 1000 to 1000000000 bytes"),
    ("[server]\nallow_remote = 'yes'", ":2: server.allow_remote: must be true or false, not 'yes'"),
    ("[server]\nsocket = ''", ":2: server.socket: must be a path"),
    ("[routing]\nquality = 0\nlatency = 0\ncost = 0", ":2: routing.quality: quality, latency and cost are all 0"),
    ("[routing]\ncost = nan", ":2: routing.cost: must be a number from 0 to 100, not NaN"),
    ("[routing]\norder = ['east/m']", ":2: routing.order: no provider offers 'east/m'; offered: nothing"),
    ("[resilience]\nbackoff_base = '30s'", ":2: resilience.backoff_base: backoff_base (30s) is longer than backoff_cap (20s)"),
    ("[resilience.breaker]\nprobes = 9", ":2: resilience.breaker.probes: must be an integer from 1 to 8, not 9"),
    ("[resilience]\nbreaker = 2000-01-01", ":2: resilience.breaker: must be a table"),
    ("[ledger]\nmax_age = '1s'", ":2: ledger.max_age: must be a duration from 1m to 3650d"),
    ("[log]\nlevel = 'inof'", ":2: log.level: must be a level (off, error, warn, info, debug or trace)"),
    ("[log]\nformat = 'xml'", ":2: log.format: must be one of \"text\", \"json\", not 'xml'"),
    ("[[keys]]\nuser = 'a'\nhash = 'sk-oops'", ":3: keys[0].hash: must be \"blake3:\" and 64"),
    ("keys = 'sk-oops'", ":1: keys: must be an array of tables, [[keys]]"),
    ("providers = ['sk-oops']", ":1: providers[0]: must be a table"),
    ("[[providers]]\nkind = 'scripted'\nmodels = ['m']", ":1: providers[0].name: is missing"),
    ("[[providers]]\nname = 'A'\nkind = 'scripted'\nmodels = ['m']", ":2: providers[0].name: must be 1 to 64 of a-z, 0-9"),
    ("[[providers]]\nname = 'ensemble'\nkind = 'scripted'\nmodels = ['m']", ":2: providers[0].name: must not be 'ensemble'"),
    ("[[providers]]\nname = 'e'\nmodels = ['m']", ":1: providers.e.kind: is missing: \"openai\", \"local\" or \"scripted\", or else a preset"),
    ("[[providers]]\nname = 'e'\nkind = 'opeani'\nmodels = ['m']", ":3: providers.e.kind: must be one of \"openai\", \"local\", \"scripted\", not 'opeani'"),
    ("[[providers]]\npreset = 'gorq'\nname = 'e'\nmodels = ['m']", ":2: providers[0].preset: must be one of \"openai\", \"openrouter\""),
    ("[[providers]]\npreset = 'groq'\nkind = 'openai'", ":3: providers.groq.kind: a preset has its own kind"),
    ("[[providers]]\npreset = 'xai'", ":1: providers.xai.api_key: environment variable XAI_API_KEY is not set"),
    ("[[providers]]\npreset = 'ollama'", ":1: providers.ollama.models: is missing: at least one name"),
    ("[[providers]]\nname = 'e'\nkind = 'openai'\nmodels = ['m']", ":1: providers.e.base_url: is missing: such as"),
    ("[[providers]]\nname = 'e'\nkind = 'local'\nmodels = ['gpt-9']", ":4: providers.e.models[0].name: the catalogue has smollm2-135m"),
    ("[[providers]]\nname = 'e'\nkind = 'local'\npath = 'm.gguf'\nmodels = ['a', 'b']", ":5: providers.e.models: path names one file"),
    ("[[providers]]\nname = 'e'\nkind = 'scripted'\nmodels = ['m']\nbase_url = 'http://h'", ":5: providers.e.base_url: only a provider of kind \"openai\" has one"),
    ("[[providers]]\nname = 'e'\nkind = 'scripted'\nmodels = ['m', 'm']", ":4: providers.e.models[1].name: another model is named 'm'"),
    ("[[providers]]\nname = 'e'\nkind = 'scripted'\nmodels = []", ":4: providers.e.models: is empty: at least one"),
    ("[[providers]]\nname = 'e'\nkind = 'scripted'\nmodels = [7]", ":4: providers.e.models[0]: must be a name or a table with a name, not 7"),
    ("[[providers]]\nname = 'e'\nkind = 'scripted'\nmodels = ['a b']", ":4: providers.e.models[0]: must be 1 to 256 printable characters"),
    ("[[providers]]\nname = 'e'\nkind = 'scripted'\nmodels = [{ context = 1 }]", ":4: providers.e.models[0].name: is missing"),
    ("[[providers]]\nname = 'e'\nkind = 'scripted'\nscript = { x = inf }\nmodels = ['m']", ":4: providers.e.script: holds a number that JSON has not"),
    ("[[providers]]\nname = 'e'\nkind = 'scripted'\nmodels = ['m']\n[[providers]]\nname = 'e'\nkind = 'scripted'\nmodels = ['m']", ":6: providers.e.name: another provider is named 'e'"),
    ("[models.fast]", ":1: models.fast.use: is missing"),
    ("[models.auto]\nuse = []", ":1: models.auto: an alias's name must be"),
    ("[models.'a/b']\nuse = []", ":1: models.a/b: an alias's name must be"),
    ("[models.\"a\\nb\"]\nuse = []", ":1: models.a\u{fffd}b: an alias's name must be"),
    ("[models.fast]\nuse = []", ":2: models.fast.use: must be a list of 1 to 64 names, not 0"),
    ("[experiments.'A']\nvariants = []", ":1: experiments.A: an experiment's name must be 1 to 64"),
    ("[experiments.x]", ":1: experiments.x.variants: is missing"),
    ("[experiments.x]\nvariants = []", ":2: experiments.x.variants: must be a list of 2 to 16 tables, not 0"),
    ("[experiments.x]\nvariants = 'sk-oops'", ":2: experiments.x.variants: must be a list of 2 to 16 tables"),
    ("[experiments.x]\nvariants = [{ name = 'a', use = 'auto' }]", ":2: experiments.x.variants: must be a list of 2 to 16 tables, not 1"),
    ("[experiments.x]\nvariants = [{ name = 'a', use = 'auto' }, 7]", ":2: experiments.x.variants[1]: must be a table"),
    ("[experiments.x]\nvariants = [{ name = 'a', use = 'auto' },\n{ name = 'a', use = 'auto' }]", ":3: experiments.x.variants[1].name: another variant is named 'a'"),
    ("[experiments.x]\nvariants = [{ name = 'A', use = 'auto' }, { name = 'b', use = 'auto' }]", ":2: experiments.x.variants[0].name: must be 1 to 64 of a-z, 0-9"),
    ("[experiments.x]\nvariants = [{ use = 'auto' }, { name = 'b', use = 'auto' }]", ":2: experiments.x.variants[0].name: is missing"),
    ("[experiments.x]\nvariants = [{ name = 'a' }, { name = 'b', use = 'auto' }]", ":2: experiments.x.variants[0].use: is missing"),
    ("[[providers]]\nname = 'experiment'\nkind = 'scripted'\nmodels = ['m']", ":2: providers[0].name: must not be 'experiment': that prefix names experiments"),
    ("[ensembles.'A']\nmembers = []", ":1: ensembles.A: an ensemble's name must be 1 to 64"),
];

#[rustfmt::skip]
/// The same, below a provider `east` that lacks only its last lines.
const EAST_CASES: &[(&str, &str)] = &[
    ("models = ['m']\napi_key = '${NO_KEY}'", ":6: providers.east.api_key: environment variable NO_KEY is not set"),
    ("models = ['m']\napi_key = 'sk-${EAST_KEY}'", ":6: providers.east.api_key: a reference must be the whole value"),
    ("models = ['m']\napi_key = { file = 'none' }", ":6: providers.east.api_key: file etc/none cannot be read"),
    ("models = ['m']\napi_key = { path = 'none' }", ":6: providers.east.api_key: must be a string, \"${NAME}\" or { file = \"…\" }"),
    ("models = ['m']\nheaders = { host = 'x' }", ":6: providers.east.headers.host: cannot be set"),
    ("models = ['m']\nheaders = 'sk-oops'", ":6: providers.east.headers: must be a table"),
    ("models = ['m']\napi_key = 'k'\nheaders = { authorization = 'x' }", ":7: providers.east.headers.authorization: is set by api_key already"),
    ("models = [{ name = 'm', price = { input = 1 } }]", ":5: providers.east.models[0].price.output: is missing"),
    ("models = [{ name = 'm', price = { input = -1, output = 1 } }]", ":5: providers.east.models[0].price.input: must be a number from 0 to 1000000, not -1"),
    ("models = [{ name = 'm', script = {} }]", ":5: providers.east.models[0].script: only a provider of kind \"scripted\" has one"),
    ("models = [{ name = 'm', qualty = 1 }]", ":5: providers.east.models[0].qualty: unknown key; did you mean 'quality'?"),
    ("models = ['m1']\n[models.f]\nuse = ['east/m2']", ":7: models.f.use: no provider offers 'east/m2'; did you mean 'east/m1'?; offered: east/m1"),
    ("models = ['m1']\n[models.f]\nuse = [\n'east/m1',\n'east/m1']", ":9: models.f.use: 'east/m1' is named twice"),
    ("models = ['m1']\n[models.f]\nuse = ['east/m1']\norder = 'best'", ":8: models.f.order: must be one of \"listed\", \"scored\", not 'best'"),
    ("models = ['m1']\n[ensembles.p]\nmembers = ['east/m1']", ":7: ensembles.p.members: must be a list of 2 to 32 names, not 1"),
    ("models = ['a', 'b']\n[ensembles.p]\nmembers = ['east/a', 'east/b']\nquorum = 3", ":8: ensembles.p.quorum: must be an integer from 1 to 2, not 3"),
    ("models = ['a', 'b']\n[ensembles.p]\nmembers = ['east/a', 'east/b']\nmerge = 'judge'", ":6: ensembles.p.judge: is missing: merge = \"judge\" needs a model"),
    ("models = ['a', 'b']\n[ensembles.p]\nmembers = ['east/a', 'east/b']\njudge = 'east/a'", ":8: ensembles.p.judge: only merge = \"judge\" and \"synthesize\" have one"),
    ("models = ['a', 'b']\n[ensembles.p]\nmembers = ['east/a', 'east/b']\nmerge = 'judge'\njudge = 'x'", ":9: ensembles.p.judge: 'x' is neither a deployment nor an alias"),
    ("models = ['a', 'b']\n[ensembles.p]\nmembers = ['east/a', 'east/b']\nmerge = 'vote'", ":8: ensembles.p.merge: must be one of \"first\", \"plurality\""),
    ("models = ['a', 'b']\n[ensembles.p]\nmembers = ['east/a', 'east/b']\nmax_cost = 0", ":8: ensembles.p.max_cost: must be a number from 0.000001 to 10000, not 0"),
    ("models = ['m1']\n[experiments.x]\nvariants = [{ name = 'a', use = 'east/m2' }, { name = 'b', use = 'auto' }]", ":7: experiments.x.variants[0].use: 'east/m2' is no deployment, alias, ensemble or 'auto'; did you mean 'east/m1'?; offered: east/m1, auto"),
    ("models = ['m']\n[experiments.x]\nvariants = [{ name = 'a', use = 'ensemble/p' }, { name = 'b', use = 'auto' }]", ":7: experiments.x.variants[0].use: 'ensemble/p' is no deployment"),
    ("models = ['m']\n[experiments.x]\nvariants = [{ name = 'a', use = 'east/m', merge = 'best' }, { name = 'b', use = 'auto' }]", ":7: experiments.x.variants[0].merge: only a variant that uses an ensemble has one"),
    ("models = ['m']\n[experiments.x]\nvariants = [{ name = 'a', use = 'east/m', system = ' ' }, { name = 'b', use = 'auto' }]", ":7: experiments.x.variants[0].system: must be 1 to 32768 bytes of text"),
    ("models = ['m']\n[experiments.x]\nvariants = [{ name = 'a', use = 'east/m', min_share = 0.97 }, { name = 'b', use = 'auto' }]", ":7: experiments.x.variants: the variants' minimum shares are 1.020 together: at most 1"),
    ("models = ['m']\n[experiments.x]\nvariants = [{ name = 'a', use = 'east/m', min_share = 2 }, { name = 'b', use = 'auto' }]", ":7: experiments.x.variants[0].min_share: must be a number from 0 to 1, not 2"),
    ("models = ['m']\n[experiments.x]\nvariants = [{ name = 'a', use = 'east/m', systm = 'x' }, { name = 'b', use = 'auto' }]", ":7: experiments.x.variants[0].systm: unknown key; did you mean 'system'?"),
    ("models = ['a', 'b']\n[ensembles.p]\nmembers = ['east/a', 'east/b']\n[experiments.x]\nvariants = [{ name = 'a', use = 'ensemble/p', merge = 'judge' }, { name = 'b', use = 'auto' }]", ":9: experiments.x.variants[0].merge: \"judge\" needs a model: ensembles.p has no judge"),
    ("models = ['m']\n[experiments.x]\nvariants = [{ name = 'a', use = 'east/m' }, { name = 'b', use = 'auto' }]\nsticky = 'ip'", ":8: experiments.x.sticky: must be one of \"user\", \"session\", \"none\", not 'ip'"),
    ("models = ['m']\n[experiments.x]\nvariants = [{ name = 'a', use = 'east/m' }, { name = 'b', use = 'auto' }]\ndelta = 0", ":8: experiments.x.delta: must be a number from 0.000001 to 0.5, not 0"),
    ("models = ['m']\n[experiments.x]\nvariants = [{ name = 'a', use = 'east/m' }, { name = 'b', use = 'auto' }]\nmin_samples = 10", ":8: experiments.x.min_samples: must be an integer from 30 to 10000000, not 10"),
    ("models = ['m']\n[experiments.x]\nvariants = [{ name = 'a', use = 'east/m' }, { name = 'b', use = 'auto' }]\nmax_samples = 59", ":8: experiments.x.max_samples: must be an integer from 60 to 1000000000, not 59"),
    ("models = ['m']\n[experiments.x]\nvariants = [{ name = 'a', use = 'east/m' }, { name = 'b', use = 'auto' }]\napplies_to = ['ensemble/p']", ":8: experiments.x.applies_to: 'ensemble/p' is no deployment, alias or 'auto'"),
    ("models = ['m']\n[experiments.x]\napplies_to = ['auto']\nvariants = [{ name = 'a', use = 'east/m' }, { name = 'b', use = 'auto' }]\n[experiments.y]\napplies_to = ['auto']\nvariants = [{ name = 'a', use = 'east/m' }, { name = 'b', use = 'auto' }]", ":10: experiments.y.applies_to: 'auto' leads to another experiment already"),
];

#[rustfmt::skip]
const BASE_URLS: &[&str] = &["h", "ftp://h/v1", "http://", "http://h?x=1", "http://h/#f", "http://u:p@h/v1", "http://h h"];

#[test]
fn every_mistake_has_its_line_its_key_and_what_is_allowed() {
    let below_east = EAST_CASES
        .iter()
        .map(|(text, wanted)| (format!("{EAST}{text}"), *wanted));
    let cases = CASES
        .iter()
        .map(|(text, wanted)| ((*text).to_owned(), *wanted))
        .chain(below_east);
    for (text, wanted) in cases {
        let shown = complaints(&text);
        assert!(shown.starts_with("etc/quorate.toml:"), "{text}\n{shown}");
        assert!(
            shown.contains(wanted),
            "{text}\nwanted {wanted}\ngot    {shown}"
        );
        assert_eq!(
            shown.lines().count(),
            1,
            "one mistake, one complaint\n{text}\n{shown}"
        );
        assert!(!shown.contains("sk-oops"), "may be a secret: {shown}");
    }
    for url in BASE_URLS {
        let shown = complaints(
            &EAST
                .replace("http://h/v1", url)
                .replace("east'", "east'\nmodels=['m']"),
        );
        assert!(
            shown.contains("providers.east.base_url: must "),
            "{url}: {shown}"
        );
    }
}

#[test]
fn all_mistakes_are_reported_at_once_by_line() {
    let shown = complaints(
        "[models.f]\nuse = ['nowhere/m']\n[admission]\nper_user = 0\nfoo = 1\n[log]\nformat = 1\n\
         [[providers]]\nname = 'e'\nkind = 'openai'\nmodels = ['m']\n",
    );
    let lines: Vec<&str> = shown
        .lines()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    let file = "etc/quorate.toml";
    assert_eq!(
        lines,
        [2, 4, 5, 7, 8].map(|line| format!("{file}:{line}")),
        "{shown}"
    );
}

#[test]
fn mistakes_are_data_too() {
    let errors = parse("[log]\nformat = 'xml'").unwrap_err();
    let wanted = serde_json::json!([{
        "file": "etc/quorate.toml",
        "line": 2,
        "key": "log.format",
        "message": "must be one of \"text\", \"json\", not 'xml'",
    }]);
    assert_eq!(serde_json::to_value(errors).unwrap(), wanted);
}

/// Documents that are TOML more often than not: sections and keys that exist, with any value.
fn document() -> impl Strategy<Value = String> {
    let header = prop::sample::select(vec![
        "",
        "[server]",
        "[[keys]]",
        "[admission]",
        "[routing]",
        "[resilience]",
        "[resilience.breaker]",
        "[ledger]",
        "[log]",
        "[[providers]]",
        "[[providers.models]]",
        "[models.a]",
        "[ensembles.b]",
        "[experiments.c]",
        "[[experiments.c.variants]]",
    ]);
    let key = prop::sample::select(vec![
        "http",
        "max_body",
        "user",
        "hash",
        "per_user",
        "aging",
        "order",
        "quality",
        "retries",
        "breaker",
        "window",
        "path",
        "level",
        "name",
        "kind",
        "preset",
        "api_key",
        "headers",
        "models",
        "script",
        "price",
        "context",
        "use",
        "members",
        "merge",
        "quorum",
        "judge",
        "max_cost",
        "base_url",
        "variants",
        "applies_to",
        "system",
        "min_share",
        "min_samples",
        "max_samples",
        "sticky",
        "zzz",
    ]);
    let value = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}").to_lowercase()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        "[ -~é\n]{0,12}".prop_map(|text| toml::Value::from(text).to_string()),
        "[0-9]{1,20}(ms|s|m|h|d|MB|GiB)".prop_map(|text| format!("'{text}'")),
        prop::sample::select(vec![
            "[]",
            "{}",
            "[[]]",
            "['a/b', 'a/b']",
            "[{ name = 'm' }, 'm']",
            "{ file = '/dev/null' }",
            "'${HOME}'",
            "'${'",
            "'openai'",
            "'local'",
            "'scripted'",
            "'groq'",
            "'judge'",
            "1979-05-27",
            "{ input = 1, output = 2 }",
            "'http://[::1]:80/'",
            "inf",
            "0xfff",
            "'a'",
        ])
        .prop_map(str::to_owned),
    ];
    let line = (header, prop::collection::vec((key, value), 0..4)).prop_map(|(header, pairs)| {
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(key, value)| format!("{key} = {value}"))
            .collect();
        format!("{header}\n{}\n", pairs.join("\n"))
    });
    prop::collection::vec(line, 0..6).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_document_makes_it_panic_and_each_complaint_has_a_place(text in document()) {
        let lines = text.lines().count().max(1);
        for error in parse(&text).err().map(|errors| errors.0).unwrap_or_default() {
            prop_assert!(error.line.is_some_and(|line| (1..=lines + 1).contains(&line)), "{error}");
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }

    #[test]
    fn no_variable_makes_it_panic(name in "QUORATE_[A-Z_]{0,20}", value in ".{0,10}") {
        let _ = Config::parse("[admission]\ntotal = 1", "q", [(name, value)], &[]);
    }
}
