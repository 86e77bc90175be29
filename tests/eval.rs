//! `quorate eval` as a user runs it, on a synthetic recorded set of its own making.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

struct Lab(tempfile::TempDir);

impl Lab {
    /// A folder with a recorded set in two halves, and prices; how many questions, of four models.
    fn new(questions: &str) -> Self {
        let lab = Self(tempfile::tempdir().unwrap());
        let made = lab.run(&[
            "generate",
            "--questions",
            questions,
            "--models",
            "4",
            "--seed",
            "7",
            "--prices",
            "prices.toml",
            "--split",
            "test.jsonl",
            "learn.jsonl",
        ]);
        assert!(made.status.success(), "{made:?}");
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_quorate"))
            .arg("eval")
            .args(args)
            .current_dir(self.0.path())
            .output()
            .unwrap()
    }

    /// The models as the record names them, with commas between them.
    fn models(&self) -> String {
        let text = std::fs::read_to_string(self.path("learn.jsonl")).unwrap();
        let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let names: Vec<String> = first["answers"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        names.join(",")
    }

    fn ensemble(&self, more: &[&str]) -> Value {
        let models = self.models();
        let mut args = vec![
            "ensemble",
            "--learn",
            "learn.jsonl",
            "--test",
            "test.jsonl",
            "--members",
            &models,
            "--json",
        ];
        args.extend(more);
        json(&self.run(&args))
    }

    fn route(&self, more: &[&str]) -> Value {
        let mut args = vec!["route", "--data", "test.jsonl", "--json"];
        args.extend(more);
        json(&self.run(&args))
    }
}

fn json(ran: &Output) -> Value {
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    serde_json::from_slice(&ran.stdout).unwrap()
}

fn number(value: &Value, field: &str) -> f64 {
    value[field]
        .as_f64()
        .unwrap_or_else(|| panic!("{field} in {value}"))
}

#[test]
fn an_ensemble_that_learned_is_better_than_its_best_member_and_asks_fewer_when_it_may() {
    let lab = Lab::new("1600");
    let fitted = lab.ensemble(&["--merge", "fitted", "--prices", "prices.toml"]);
    assert_eq!(number(&fitted, "n"), 800.0);
    assert_eq!(number(&fitted, "calls"), 4.0);
    assert!(
        number(&fitted, "accuracy") > number(&fitted, "best_member"),
        "{fitted}"
    );
    for share in ["brier", "ece", "auroc"] {
        assert!((0.0..=1.0).contains(&number(&fitted, share)), "{share}");
    }
    let [all, most, half] =
        ["accuracy", "accuracy_at_80", "accuracy_at_50"].map(|field| number(&fitted, field));
    assert!(
        all < most && most <= half,
        "who is surer is right more often: {fitted}"
    );

    let adaptive = lab.ensemble(&["--merge", "adaptive", "--prices", "prices.toml"]);
    assert!(number(&adaptive, "calls") < 3.0, "{adaptive}");
    assert!(number(&adaptive, "cost_per_1000") < number(&fitted, "cost_per_1000"));
    assert!(
        number(&adaptive, "accuracy") > number(&adaptive, "best_member"),
        "{adaptive}"
    );

    let unlabelled = lab.ensemble(&["--merge", "fitted", "--labels", "none"]);
    assert_eq!(number(&unlabelled, "labels"), 0.0);
    assert!(
        number(&unlabelled, "accuracy") > number(&unlabelled, "best_member"),
        "{unlabelled}"
    );
    assert_eq!(number(&lab.ensemble(&["--labels", "50"]), "labels"), 50.0);
}

#[test]
fn a_run_is_repeatable_and_an_earlier_result_can_be_compared_with() {
    let lab = Lab::new("400");
    let first = lab.ensemble(&["--merge", "adaptive", "--out", "before.json"]);
    let again = lab.ensemble(&["--merge", "adaptive"]);
    assert_eq!(first, again);
    let other = lab.ensemble(&["--merge", "plurality", "--against", "before.json"]);
    let changes = other["changes"]["changes"].as_array().unwrap();
    let calls = changes
        .iter()
        .find(|change| change["field"] == "calls")
        .unwrap();
    assert!(number(calls, "difference") > 0.0, "{calls}");
}

#[test]
fn routing_learns_from_the_chosen_alone_and_notices_a_fall() {
    let lab = Lab::new("1000");
    let learned = lab.route(&["--queries", "600", "--seeds", "3"]);
    let uniform = lab.route(&["--queries", "600", "--seeds", "3", "--policy", "uniform"]);
    assert!(
        number(&learned, "reward") > number(&uniform, "reward"),
        "{learned}"
    );
    assert!(number(&learned, "regret_best_single") < number(&uniform, "regret_best_single"));
    let best = learned["best_single"].as_str().unwrap().to_owned();
    let fixed = lab.route(&[
        "--queries",
        "600",
        "--seeds",
        "3",
        "--policy",
        &format!("fixed:{best}"),
    ]);
    assert_eq!(number(&fixed, "regret_best_single"), 0.0);

    let fallen = lab.route(&[
        "--queries",
        "1200",
        "--seeds",
        "3",
        "--shift",
        "best:400:0.1",
    ]);
    let shares = fallen["shares"][&best].as_array().unwrap();
    let share = |at: usize| shares[at].as_f64().unwrap();
    assert!(share(9) < share(3), "it is left after its fall: {shares:?}");
    assert!(number(&fallen, "reward_after_shift") < number(&fallen, "reward"));
}

#[test]
fn the_frontier_is_drawn() {
    let lab = Lab::new("240");
    let models = lab.models();
    let ran = lab.run(&[
        "frontier",
        "--learn",
        "learn.jsonl",
        "--test",
        "test.jsonl",
        "--members",
        &models,
        "--prices",
        "prices.toml",
        "--worths",
        "0.05",
        "--svg",
        "frontier.svg",
        "--json",
    ]);
    let report = json(&ran);
    let labels: Vec<&str> = report["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| point["label"].as_str().unwrap())
        .collect();
    for wanted in [
        "auto, one model",
        "plurality",
        "fitted",
        "cascade, worth 0.05",
        "adaptive, worth 0.05",
    ] {
        assert!(labels.contains(&wanted), "{wanted} in {labels:?}");
    }
    for drawn in ["frontier.svg", "frontier.reliability.svg"] {
        let svg = std::fs::read_to_string(lab.path(drawn)).unwrap();
        assert!(
            svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"),
            "{drawn}"
        );
    }
}

#[test]
fn what_cannot_be_measured_is_refused_with_its_reason() {
    let lab = Lab::new("20");
    std::fs::write(
        lab.path("bad.jsonl"),
        "{\"id\":\"a\",\"prompt\":\"x\",\"answers\":{\"m\":{\"score\":2}}}\n",
    )
    .unwrap();
    std::fs::write(lab.path("empty.jsonl"), "").unwrap();
    std::fs::write(
        lab.path("mute.jsonl"),
        "{\"id\":\"a\",\"prompt\":\"x\",\"reference\":\"y\",\"answers\":{}}\n",
    )
    .unwrap();
    let unknown = format!(
        "nothing of 'a' is recorded; there is {}",
        lab.models().replace(',', ", ")
    );
    let table: [(&[&str], &str); 9] = [
        (
            &["ensemble", "--test", "gone.jsonl", "--members", "a,b"],
            "gone.jsonl",
        ),
        (
            &["ensemble", "--test", "bad.jsonl", "--members", "a,b"],
            "bad.jsonl, line 1",
        ),
        (
            &["ensemble", "--test", "empty.jsonl", "--members", "a,b"],
            "no questions",
        ),
        (
            &["ensemble", "--test", "test.jsonl", "--members", "a,b"],
            &unknown,
        ),
        (
            &[
                "frontier",
                "--learn",
                "learn.jsonl",
                "--test",
                "test.jsonl",
                "--members",
                "a,b",
                "--prices",
                "prices.toml",
                "--svg",
                "frontier.svg",
            ],
            &unknown,
        ),
        (
            &["route", "--data", "test.jsonl", "--models", "a,b"],
            &unknown,
        ),
        (&["route", "--data", "mute.jsonl"], "no model's answers"),
        (
            &["ensemble", "--test", "mute.jsonl", "--members", "a,b"],
            "no answer of any model",
        ),
        (
            &["route", "--data", "test.jsonl", "--policy", "fixed:nobody"],
            "nothing of 'nobody' is recorded",
        ),
    ];
    for (args, said) in table {
        let ran = lab.run(args);
        let told = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{args:?}: {told}");
        assert!(told.contains(said), "{args:?}: {told}");
        assert!(!Path::new(&lab.path("frontier.svg")).exists());
    }
}

#[test]
fn an_option_that_would_do_nothing_is_refused() {
    let lab = Lab::new("20");
    let models = lab.models();
    let ensemble = ["ensemble", "--test", "test.jsonl", "--members", &models];
    let learn = ["--learn", "learn.jsonl"];
    let adaptive = ["--merge", "adaptive"];
    let cost = ["--target-cost", "1"];
    let prices = ["--prices", "prices.toml"];
    std::fs::write(lab.path("few.toml"), "").unwrap();
    let few = ["--prices", "few.toml"];
    for (more, said) in [
        ([&adaptive[..], &cost, &prices].concat(), "--learn"),
        ([&adaptive[..], &cost, &learn].concat(), "--prices"),
        (
            [&adaptive[..], &cost, &learn, &few].concat(),
            "there is none of",
        ),
        (
            [&cost[..], &learn, &prices].concat(),
            "--target-cost is for",
        ),
        (
            [&adaptive[..], &["--target-accuracy", "80"]].concat(),
            "--learn",
        ),
        (
            vec!["--stop", "0.9"],
            "--stop is for --merge adaptive or cascade",
        ),
        (vec!["--worth", "0.1"], "plurality asks all at once"),
    ] {
        let ran = lab.run(&[&ensemble[..], &more].concat());
        let told = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(2), "{more:?}: {told}");
        assert!(told.contains(said), "{more:?}: {told}");
    }
    for again in ["test.jsonl", "./test.jsonl"] {
        let ran = lab.run(&["generate", "test.jsonl", "--split", again]);
        let told = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(2), "{told}");
        assert!(told.contains("one would overwrite another"), "{told}");
    }
}

#[test]
fn a_cost_is_unknown_where_a_price_is_and_nothing_was_saved_of_calls_that_were_made() {
    let lab = Lab::new("40");
    let models = lab.models();
    let priced = std::fs::read_to_string(lab.path("prices.toml")).unwrap();
    let (first, others) = priced.split_once('\n').unwrap();
    let first = first.split(' ').next().unwrap().trim_matches('"');
    std::fs::write(lab.path("most.toml"), others).unwrap();
    let most = ["--prices", "most.toml"];
    let report = lab.ensemble(&[&["--merge", "first"][..], &most].concat());
    assert_eq!(report.get("cost_per_1000"), None, "{report}");
    assert_eq!(report["unpriced"], serde_json::json!([first]));
    assert_eq!(
        (number(&report, "calls"), number(&report, "calls_saved")),
        (4.0, 0.0)
    );

    let route = [
        "route",
        "--data",
        "test.jsonl",
        "--queries",
        "20",
        "--seeds",
        "1",
    ];
    let ran = lab.run(&[&route[..], &most, &["--policy", "uniform"]].concat());
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(
        told.contains(&format!("unknown: no price of {first}")),
        "{told}"
    );

    let frontier = [
        "frontier",
        "--learn",
        "learn.jsonl",
        "--test",
        "test.jsonl",
        "--members",
    ];
    let frontier = [&frontier[..], &[&models, "--worths", "0.05"]].concat();
    let ran = lab.run(&frontier);
    let told = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(
        told.matches("unknown").count(),
        told.lines().count() - 1,
        "{told}"
    );
    let points = json(&lab.run(&[&frontier[..], &most, &["--json"]].concat()))["points"].take();
    for point in points.as_array().unwrap() {
        let known = point["group"] == "model" && point["label"] != first;
        if point["group"] != "auto" {
            assert_eq!(point.get("cost_per_1000").is_some(), known, "{point}");
        }
    }

    let saved = lab.run(&[&route[..], &["--out", "route.json"]].concat());
    assert!(saved.status.success());
    let ensemble = ["ensemble", "--test", "test.jsonl", "--members", &models];
    let ran = lab.run(&[&ensemble[..], &["--against", "route.json"]].concat());
    let told = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{told}");
    assert!(told.contains("the result of another command"), "{told}");
}

#[test]
fn the_worths_of_the_frontier_are_written_as_they_are_read() {
    let help = Lab::new("2").run(&["frontier", "--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.contains("0.01,0.03,0.1,0.3,1]"), "{help}");
}

#[test]
fn a_number_out_of_its_range_is_refused_with_the_option_and_the_range() {
    let lab = Lab::new("20");
    let models = lab.models();
    let ensemble = ["ensemble", "--test", "test.jsonl", "--members", &models];
    let route = ["route", "--data", "test.jsonl"];
    let frontier = [
        "frontier",
        "--learn",
        "learn.jsonl",
        "--test",
        "test.jsonl",
        "--members",
        &models,
    ];
    let table: [(&[&str], &str, &str, &str); 22] = [
        (&ensemble, "--wave", "0", "1 to 32"),
        (&ensemble, "--wave", "33", "1 to 32"),
        (&ensemble, "--wave", "5", "1 to 4, the number of members"),
        (&ensemble, "--stop", "0.4", "0.5 to 1"),
        (&ensemble, "--stop", "NaN", "0.5 to 1"),
        (&ensemble, "--worth", "0", "0.000001 to 1000"),
        (&ensemble, "--worth", "inf", "0.000001 to 1000"),
        (&ensemble, "--target-cost", "-1", "0.001 to 1000000"),
        (&ensemble, "--target-accuracy", "150", "1 to 100"),
        (&ensemble, "--target-accuracy", "0.5", "1 to 100"),
        (&ensemble, "--labels", "0", "1 to 1000000, or all, or none"),
        (
            &ensemble,
            "--labels",
            "some",
            "1 to 1000000, or all, or none",
        ),
        (&route, "--queries", "-1", "0 to 1000000"),
        (&route, "--queries", "1000001", "0 to 1000000"),
        (&route, "--seeds", "0", "1..=10000"),
        (&route, "--cost-weight", "-1", "0 to 100"),
        (&route, "--shift", "best:10:1.5", "a share from 0 to 1"),
        (&route, "--shift", "best:1000:0.5", "from 0 to below 1000"),
        (&frontier, "--worths", "0.1,0", "0.000001 to 1000"),
        (&["generate", "x.jsonl"], "--questions", "0", "1 to "),
        (&["generate", "x.jsonl"], "--models", "0", "1 to "),
        (&["record", "x.jsonl"], "--most", "0", "1 to 10000000"),
    ];
    for (command, option, value, range) in table {
        let given = format!("{option}={value}");
        let mut args = command.to_vec();
        args.push(&given);
        let ran = lab.run(&args);
        let told = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(2), "{given}: {told}");
        assert!(
            told.contains(option) && told.contains(range),
            "{given}: {told}"
        );
    }
}

/// A program may print nothing: who says so has answered, and who said nothing has not.
#[test]
fn an_empty_text_is_an_answer_and_no_answer_is_none() {
    let lab = Lab(tempfile::tempdir().unwrap());
    let said = |answer: Value| serde_json::json!({ "answer": answer, "output_chars": 2 });
    let record = |half: &str, number: usize| {
        let (empty, blank) = (said("".into()), said("  ".into()));
        let answers = if number.is_multiple_of(2) {
            serde_json::json!({ "a": empty, "b": blank, "c": said("0".into()) })
        } else {
            serde_json::json!({ "a": said(Value::Null), "b": said(Value::Null), "c": said(Value::Null) })
        };
        serde_json::json!({
            "id": format!("{half}{number}"),
            "prompt": format!("What does program {number} print?"),
            "reference": "",
            "answers": answers,
        })
        .to_string()
    };
    for half in ["learn", "test"] {
        let lines: Vec<String> = (0..40).map(|number| record(half, number)).collect();
        std::fs::write(lab.path(&format!("{half}.jsonl")), lines.join("\n")).unwrap();
    }
    for merge in ["plurality", "fitted", "adaptive"] {
        let seen = lab.ensemble(&["--merge", merge]);
        assert_eq!(number(&seen, "accuracy"), 50.0, "{merge}: {seen}");
        assert_eq!(number(&seen, "best_member"), 50.0, "{merge}: {seen}");
    }
}
