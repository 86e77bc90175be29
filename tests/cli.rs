//! The program as a user sees it: what each command prints where, and how it ends.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use support::{Daemon, PATIENCE, Rpc, chat, quorate};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

const NO_DAEMON: &str = "no daemon is running: answering in this process\n";

/// A scripted provider with one model, `m1`.
fn scripted(name: &str, script: &str) -> String {
    format!(
        "[[providers]]\nname = \"{name}\"\nkind = \"scripted\"\nmodels = [\"m1\"]\nscript = {script}\n"
    )
}

/// Two that say Paris, one that says Lyon, one that repeats the question, one that fails.
fn several() -> String {
    [
        "[resilience]\nretries = 0\n[models.any]\nuse = [\"east/m1\", \"west/m1\"]\n",
        "[ensembles.panel]\nmembers = [\"east/m1\", \"west/m1\", \"south/m1\"]\n",
        &scripted("east", "{ answer = \"Paris\" }"),
        &scripted("west", "{ answer = \"Paris\" }"),
        &scripted("south", "{ answer = \"Lyon\" }"),
        &scripted("echo", "{ echo = true }"),
        &scripted("broken", "{ fail = { kind = \"upstream\", status = 500 } }"),
    ]
    .concat()
}

/// A configuration that no daemon serves.
fn file(dir: &Path, toml: &str) -> PathBuf {
    let path = dir.join("quorate.toml");
    let server = "[server]\nhttp = \"off\"\nsocket = \"q.sock\"\n[ledger]\npath = \"ledger.db\"\n";
    std::fs::write(&path, format!("{server}{toml}")).unwrap();
    path
}

/// How a command ended and what it said.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What it printed, of a command that succeeded and had nothing else to say.
    #[track_caller]
    fn said(&self) -> &str {
        assert_eq!(
            (self.code, self.err.as_str()),
            (Some(0), ""),
            "{}",
            self.out
        );
        &self.out
    }

    /// The answer of an `ask` that succeeded, given by `model`.
    #[track_caller]
    fn answer(&self, model: &str) -> &str {
        let footer = self.err.strip_prefix(NO_DAEMON).unwrap_or(&self.err);
        let told = footer.starts_with(&format!("{model} · ")) && footer.contains(" · decision ");
        assert!(self.code == Some(0) && told, "{self:?}");
        &self.out
    }
}

/// A command without input.
fn start(config: &Path, args: &[&str]) -> Child {
    command(config, args).spawn().unwrap()
}

fn command(config: &Path, args: &[&str]) -> Command {
    let mut command = Command::from(quorate());
    command.args(args).arg("--config").arg(config);
    command.stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn end(child: Child) -> Ran {
    let ended = timeout(PATIENCE, child.wait_with_output()).await;
    let output = ended.expect("an end in time").unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command with `input` piped in.
async fn piped(config: &Path, args: &[&str], input: &[u8]) -> Ran {
    let mut child = command(config, args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The command may have ended before.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    end(child).await
}

async fn run(config: &Path, args: &[&str]) -> Ran {
    end(start(config, args)).await
}

async fn until_one_runs(daemon: &Daemon) {
    let until = Instant::now() + PATIENCE;
    while daemon.metric("quorate_permits_in_use").await < 1.0 {
        assert!(Instant::now() < until, "nothing runs");
    }
}

async fn daemon(toml: &str) -> (TempDir, Daemon) {
    let dir = TempDir::new().unwrap();
    let daemon = Daemon::start(dir.path(), toml).await;
    (dir, daemon)
}

#[tokio::test]
async fn ask_prints_the_answer_and_beside_it_who_gave_it() {
    let (_dir, daemon) = daemon(&several()).await;
    for manner in [&[][..], &["--no-stream"]] {
        let args = [
            &["ask", "--model", "east/m1", "capital", "of", "France?"],
            manner,
        ]
        .concat();
        assert_eq!(
            run(&daemon.config, &args).await.answer("east/m1"),
            "Paris\n"
        );
    }
    assert_eq!(daemon.metric("quorate_permits_in_use").await, 0.0);
}

#[tokio::test]
async fn ask_without_a_daemon_answers_in_its_own_process_and_says_so() {
    let dir = TempDir::new().unwrap();
    let config = file(dir.path(), &several());
    for manner in [&[][..], &["--no-stream"]] {
        let args = [&["ask", "-m", "east/m1", "capital of France?"], manner].concat();
        let ran = run(&config, &args).await;
        assert_eq!(ran.answer("east/m1"), "Paris\n");
        assert!(ran.err.starts_with(NO_DAEMON), "{ran:?}");
        assert!(!dir.path().join("q.sock").exists(), "no door for others");
    }
}

#[tokio::test]
async fn a_dead_daemons_socket_does_not_stop_an_answer() {
    let (dir, daemon) = daemon(&several()).await;
    let config = daemon.config.clone();
    drop(daemon);
    assert!(dir.path().join("q.sock").exists());
    let ran = run(&config, &["ask", "-m", "east/m1", "?"]).await;
    assert_eq!(ran.answer("east/m1"), "Paris\n");
    assert!(ran.err.starts_with(NO_DAEMON), "{ran:?}");
    assert_eq!(run(&config, &["status"]).await.code, Some(69));
}

#[tokio::test]
async fn what_is_piped_in_is_asked_after_the_words() {
    let (_dir, daemon) = daemon(&several()).await;
    let ask = ["ask", "-m", "echo/m1"];
    let words = [&ask[..], &["sum", "up:"]].concat();
    let ran = piped(&daemon.config, &words, "  größer\nkleiner\n".as_bytes()).await;
    assert_eq!(ran.answer("echo/m1"), "sum up:\n\n  größer\nkleiner\n");
    assert_eq!(
        piped(&daemon.config, &ask, b"why?\n")
            .await
            .answer("echo/m1"),
        "why?\n"
    );
    for (input, message) in [
        (&b" \n"[..], "nothing is asked"),
        (b"\xff\xfe", "text in UTF-8"),
    ] {
        let ran = piped(&daemon.config, &ask, input).await;
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains(message) && ran.out.is_empty(), "{ran:?}");
    }
}

#[tokio::test]
async fn json_is_one_document_on_standard_output_for_errors_too() {
    let (_dir, daemon) = daemon(&several()).await;
    let ran = run(&daemon.config, &["ask", "--json", "-m", "any", "?"]).await;
    assert_eq!(ran.said().lines().count(), 1);
    let answer = ran.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "Paris");
    assert_eq!(answer["quorate"]["model"], "east/m1");

    let ran = run(&daemon.config, &["ask", "--json", "-m", "broken/m1", "?"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""));
    let error = ran.json()["error"].take();
    assert_eq!(
        (&error["kind"], &error["exit"]),
        (&json!("upstream"), &json!(1))
    );
    assert_eq!(error["attempts"][0]["deployment"], "broken/m1");
}

#[tokio::test]
async fn an_ensemble_is_merged_into_one_answer() {
    let (_dir, daemon) = daemon(&several()).await;
    let members = "east/m1,south/m1,west/m1";
    let ask = [
        "ask",
        "--ensemble",
        members,
        "--merge",
        "plurality",
        "--quorum",
        "3",
        "?",
    ];
    let ran = run(&daemon.config, &ask).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "Paris\n"),
        "{ran:?}"
    );
    for part in [
        "\n  east/m1: ok, chosen",
        "\n  south/m1: ok",
        "\nagreement 67 % · confidence ",
    ] {
        assert!(ran.err.contains(part), "{part} is missing from {ran:?}");
    }
    let ran = run(&daemon.config, &[&ask[..], &["--json"]].concat()).await;
    let report = ran.json()["quorate"].take();
    assert_eq!(report["members"].as_array().unwrap().len(), 3, "{report}");
    assert!(report["confidence"].is_number(), "{report}");
    let named = run(&daemon.config, &["ask", "--ensemble", "panel", "?"]).await;
    assert_eq!((named.code, named.out.as_str()), (Some(0), "Paris\n"));
    let in_full = run(&daemon.config, &["ask", "-e", "ensemble/panel", "?"]).await;
    assert_eq!((in_full.code, in_full.out.as_str()), (Some(0), "Paris\n"));
    let ran = run(&daemon.config, &["ask", "--ensemble", "nobody", "?"]).await;
    assert!(
        ran.err.contains("no model is called 'ensemble/nobody'"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn explain_tells_who_would_be_asked_and_calls_nobody() {
    let (_dir, daemon) = daemon(&several()).await;
    let ran = run(&daemon.config, &["ask", "--explain", "-m", "any", "?"]).await;
    let lines: Vec<&str> = ran.said().lines().collect();
    assert!(lines[0].starts_with("any: in listed order"), "{ran:?}");
    assert!(
        lines[2].starts_with("east/m1") && lines[3].starts_with("west/m1"),
        "{ran:?}"
    );
    let ran = run(&daemon.config, &["ask", "--explain", "-e", "panel", "?"]).await;
    assert!(
        ran.said()
            .contains("an ensemble of 3, merge plurality, quorum 2"),
        "{ran:?}"
    );
    let ran = run(&daemon.config, &["ask", "--explain", "--json", "?"]).await;
    assert_eq!(ran.json()["candidates"].as_array().unwrap().len(), 5);
    let status = run(&daemon.config, &["status", "--json"]).await.json();
    for deployment in status["deployments"].as_array().unwrap() {
        assert_eq!(deployment["calls"]["ok"], 0, "{deployment}");
        assert_eq!(deployment["calls"]["failed"], 0, "{deployment}");
    }
}

#[tokio::test]
async fn explain_shows_what_was_drawn_who_was_chosen_and_why() {
    let trial = "[experiments.trial]\n\
                 [[experiments.trial.variants]]\nname = \"old\"\nuse = \"east/m1\"\n\
                 [[experiments.trial.variants]]\nname = \"new\"\nuse = \"west/m1\"\n";
    let (_dir, daemon) = daemon(&(several() + trial)).await;
    let ran = run(&daemon.config, &["explain", "why?"]).await;
    let lines: Vec<&str> = ran.said().lines().collect();
    assert_eq!(
        lines[0],
        "auto: the chosen first, then by score; who rests last"
    );
    let chosen = lines[1].strip_prefix("chosen: ").unwrap();
    let (chosen, why) = chosen.split_once(" (").unwrap();
    assert!(!why.is_empty() && lines[3].starts_with(chosen), "{ran:?}");
    assert!(lines[2].contains("SAMPLED"), "{ran:?}");
    let ran = run(
        &daemon.config,
        &["explain", "-m", "experiment/trial", "why?"],
    )
    .await;
    assert!(
        ran.said().contains("\nexperiment trial, variant "),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_choice_made_again_says_why_there_is_nothing_to_show() {
    let (_dir, daemon) = daemon(&several()).await;
    let decision = async |model: &str| {
        let ran = run(&daemon.config, &["ask", "--json", "-m", model, "?"]).await;
        ran.json()["quorate"]["decision"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for (model, note) in [
        ("any", "the order is the configuration's: nothing was drawn"),
        (
            "ensemble/panel",
            "merge plurality: the answers decide, nothing was drawn",
        ),
    ] {
        let ran = run(
            &daemon.config,
            &["explain", "--replay", &decision(model).await],
        )
        .await;
        assert_eq!(ran.said().lines().last(), Some(note), "{model}");
    }
    for args in [
        &["explain", "--replay", "hello"][..],
        &["feedback", "hello", "1"],
    ] {
        let ran = run(&daemon.config, args).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains("'hello' is no decision's id"), "{ran:?}");
    }
}

#[tokio::test]
async fn what_is_set_for_a_command_is_not_ignored_because_a_daemon_answers() {
    let (dir, daemon) = daemon(&several()).await;
    for command in [
        &["ask", "-m", "east/m1", "?"][..],
        &["reload"],
        &["status"],
        &["models"],
        &["stop"],
    ] {
        let args = [command, &["--set", "admission.total=9"]].concat();
        let ran = run(&daemon.config, &args).await;
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
        assert!(
            ran.err.contains("--set admission.total: the daemon at "),
            "{ran:?}"
        );
    }
    let alone = ["ask", "-m", "east/m1", "?", "--set", "admission.total=9"];
    let alone = [&alone[..], &["--set", "server.socket=off"]].concat();
    let ran = run(&daemon.config, &alone).await;
    assert_eq!(ran.answer("east/m1"), "Paris\n");
    assert!(ran.err.starts_with(NO_DAEMON), "{ran:?}");

    // A file without a socket leads to the usual one.
    let usual = dir.path().join("quorate");
    std::fs::create_dir(&usual).unwrap();
    std::os::unix::fs::symlink(&daemon.socket, usual.join("quorate.sock")).unwrap();
    let other = dir.path().join("other.toml");
    std::fs::write(&other, scripted("mine", "{}")).unwrap();
    let mut asked = command(&other, &["ask", "-m", "east/m1", "?"]);
    let asked = asked.env("XDG_RUNTIME_DIR", dir.path()).spawn().unwrap();
    let ran = end(asked).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "Paris\n"),
        "{ran:?}"
    );
    let note = format!("{} names no socket: the daemon at ", other.display());
    assert!(ran.err.starts_with(&note), "{ran:?}");
}

#[tokio::test]
async fn who_cannot_stream_answers_as_a_whole() {
    let whole = "[[providers]]\nname = \"whole\"\nkind = \"scripted\"\n\
                 models = [{ name = \"m1\", streaming = false }]\nscript = { answer = \"Paris\" }\n";
    let (_dir, daemon) = daemon(&(several() + whole)).await;
    let ran = run(&daemon.config, &["ask", "-m", "whole/m1", "?"]).await;
    assert_eq!(ran.answer("whole/m1"), "Paris\n");
    let ran = piped(&daemon.config, &["chat", "-m", "whole/m1"], b"hi\n").await;
    assert_eq!(ran.said(), "Paris\n");
    for explain in [&["explain"][..], &["ask", "--explain"]] {
        let ran = run(
            &daemon.config,
            &[explain, &["-m", "whole/m1", "?"]].concat(),
        )
        .await;
        assert!(ran.said().contains("\nwhole/m1 "), "{ran:?}");
    }
}

#[tokio::test]
async fn a_variable_that_misses_an_underscore_is_told_of() {
    let dir = TempDir::new().unwrap();
    let config = file(dir.path(), &several());
    let mut check = command(&config, &["check"]);
    let ran = end(check.env("QUORATE_LOG_LEVEL", "debug").spawn().unwrap()).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.err.starts_with("QUORATE_LOG_LEVEL sets nothing: ")
            && ran.err.contains("QUORATE_LOG__LEVEL"),
        "{ran:?}"
    );
    let list = ["check", "--set", "routing.order=east/m1,west/m1"];
    assert_eq!(run(&config, &list).await.code, Some(0));
}

#[tokio::test]
async fn evidence_that_is_refused_is_named_by_its_line_however_few_there_are() {
    let (dir, daemon) = daemon(&several()).await;
    let file = dir.path().join("evidence.jsonl");
    let line = "{\"deployment\":\"nobody/x\",\"score\":1,\"source\":\"test\"}\n";
    let name = file.to_str().unwrap();
    for text in [format!("\n{line}"), format!("\n{line}{line}")] {
        std::fs::write(&file, text).unwrap();
        let ran = run(&daemon.config, &["state", "import", name]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let place = format!("error: {name}:2: deployment: ");
        assert!(ran.err.starts_with(&place), "{ran:?}");
    }
    let beyond = ["state", "import", name, "--from-line", "9"];
    let ran = run(&daemon.config, &beyond).await;
    assert!(
        ran.err.contains("has 3 lines: there is no line 9"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn models_are_the_same_with_and_without_a_daemon() {
    let (_dir, daemon) = daemon(&several()).await;
    let config = daemon.config.clone();
    let ids = async || {
        let list = run(&config, &["models", "--json"]).await.json();
        let ids = list["data"].as_array().unwrap().iter();
        ids.map(|model| model["id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let of_daemon = ids().await;
    let names = [
        "auto",
        "any",
        "ensemble/panel",
        "east/m1",
        "west/m1",
        "south/m1",
        "echo/m1",
        "broken/m1",
    ];
    assert_eq!(of_daemon, names);
    let ran = run(&config, &["models"]).await;
    assert!(
        names.iter().all(|name| ran.said().contains(name)),
        "{ran:?}"
    );
    assert!(ran.out.contains("TO RUN IN PROCESS"), "{ran:?}");
    drop(daemon);
    assert_eq!(ids().await, of_daemon);
}

#[tokio::test]
async fn status_shows_the_daemon_and_its_deployments() {
    let (_dir, daemon) = daemon(&several()).await;
    run(&daemon.config, &["ask", "-m", "east/m1", "?"])
        .await
        .answer("east/m1");
    let ran = run(&daemon.config, &["status"]).await;
    for part in [
        "quorate 0.",
        "running: 0; waiting: 0 urgent",
        "east/m1",
        "root/dispatcher",
        "alias any: east/m1, west/m1",
    ] {
        assert!(
            ran.said().contains(part),
            "{part} is missing from\n{}",
            ran.out
        );
    }
    assert!(!ran.out.contains('\u{1b}'), "no colours into a pipe");
    let status = run(&daemon.config, &["status", "--json"]).await.json();
    assert_eq!(status["ready"], true);
    assert_eq!(status["deployments"][0]["id"], "east/m1");
    assert_eq!(status["deployments"][0]["calls"]["ok"], 1);
}

#[tokio::test]
async fn check_tells_every_mistake_with_its_line() {
    let dir = TempDir::new().unwrap();
    let config = file(dir.path(), &several());
    let name = config.display();
    let ran = run(&config, &["check"]).await;
    let counts = "providers: 5, deployments: 5, aliases: 1, ensembles: 1";
    assert_eq!(ran.said(), format!("{name}: no mistake; {counts}\n"));
    assert_eq!(
        run(&config, &["check", "--json"]).await.json()["deployments"],
        5
    );

    let ran = run(&config, &["check", "--set", "admission.per_usr=5"]).await;
    assert_eq!(ran.code, Some(78));
    assert!(ran.err.contains("did you mean 'per_user'?"), "{ran:?}");

    let faulty = [
        scripted("east", "{ answr = \"3\" }"),
        scripted("west", "{ hang = true }"),
    ];
    let config = file(dir.path(), &faulty.concat());
    let ran = run(&config, &["check"]).await;
    assert_eq!(
        (ran.code, ran.err.lines().count()),
        (Some(78), 2),
        "{ran:?}"
    );
    for provider in ["provider 'east': ", "provider 'west': hang"] {
        assert!(ran.err.contains(provider), "{ran:?}");
    }

    let config = file(dir.path(), "[admission]\nper_usr = 3\ntotal = 0\n");
    let ran = run(&config, &["check"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(78), ""));
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines.len(), 2, "{ran:?}");
    for (line, place) in lines
        .iter()
        .zip([":7: admission.per_usr: ", ":8: admission.total: "])
    {
        assert!(line.starts_with(&format!("{name}{place}")), "{line}");
    }
    let ran = run(&config, &["check", "--json"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(78), ""));
    assert_eq!(ran.json()["error"]["errors"][1]["line"], 8);

    for command in [&["check"][..], &["serve"], &["ask", "?"], &["models"]] {
        let ran = run(Path::new("/nowhere/quorate.toml"), command).await;
        assert_eq!(ran.code, Some(78), "{command:?}: {ran:?}");
        assert!(
            ran.err.contains("/nowhere/quorate.toml: cannot be read"),
            "{ran:?}"
        );
    }
}

#[tokio::test]
async fn a_new_key_is_shown_once_and_its_toml_lets_it_in() {
    let dir = TempDir::new().unwrap();
    let ran = run(Path::new("unused.toml"), &["keys", "new", "alice"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let key = ran
        .err
        .lines()
        .find(|line| line.starts_with("qk-"))
        .unwrap();
    assert!(!ran.out.contains(key), "the configuration holds no key");
    let toml = several() + &ran.out;
    let daemon = Daemon::start(dir.path(), &toml).await;
    for (shown, status) in [(key, 200), ("qk-wrong", 401)] {
        let request = hyper::Request::post("/v1/chat/completions").header("host", "localhost");
        let request = request.header("authorization", format!("Bearer {shown}"));
        let request = request
            .body(chat("east/m1", "?").to_string().into())
            .unwrap();
        let stream = tokio::net::TcpStream::connect(daemon.http).await.unwrap();
        assert_eq!(support::send(stream, request).await.unwrap().status, status);
    }
    assert_eq!(daemon.chat("east/m1", "?").await.unwrap().status, 401);
    // The socket's file says who may, and asks for no key.
    run(&daemon.config, &["ask", "-m", "east/m1", "?"])
        .await
        .answer("east/m1");
    let ran = run(&daemon.config, &["keys", "new", " alice"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
}

#[tokio::test]
async fn feedback_names_who_learned_from_it() {
    let (_dir, daemon) = daemon(&several()).await;
    let answer = run(&daemon.config, &["ask", "--json", "-m", "east/m1", "?"])
        .await
        .json();
    let decision = answer["quorate"]["decision"].as_str().unwrap();
    for outcome in ["recorded", "repeated"] {
        let ran = run(&daemon.config, &["feedback", decision, "0.9"]).await;
        assert_eq!(ran.said(), format!("{outcome} for east/m1\n"));
    }
    let ran = run(&daemon.config, &["feedback", decision, "0.2"]).await;
    let stays = "changed for east/m1; kept, but what was learned of the earlier judgement stays\n";
    assert_eq!(ran.said(), stays);
    let help = run(&daemon.config, &["feedback", "--help"]).await;
    assert!(
        help.said().contains("<DECISION> <SCORE|--thumb"),
        "{help:?}"
    );
    let ran = run(&daemon.config, &["feedback", decision, "0.1", "--json"]).await;
    assert_eq!(
        ran.json(),
        json!({ "deployment": "east/m1", "outcome": "changed", "score": 0.1, "learned": 0 })
    );
    for (args, code) in [
        (["feedback", "nobody", "1"], 1),
        (["feedback", decision, "2"], 2),
    ] {
        assert_eq!(
            run(&daemon.config, &args).await.code,
            Some(code),
            "{args:?}"
        );
    }
}

#[tokio::test]
async fn reload_tells_what_changed_and_refuses_a_bad_file_with_its_line() {
    let (_dir, daemon) = daemon(&scripted("east", "{}")).await;
    assert_eq!(run(&daemon.config, &["reload"]).await.said(), "reloaded\n");
    let text = std::fs::read_to_string(&daemon.config)
        .unwrap()
        .replace("east", "west");
    std::fs::write(&daemon.config, &text).unwrap();
    let ran = run(&daemon.config, &["reload"]).await;
    assert_eq!(ran.said(), "reloaded; added: west/m1; removed: east/m1\n");
    std::fs::write(&daemon.config, format!("{text}[admission]\nper_usr = 3\n")).unwrap();
    let ran = run(&daemon.config, &["reload"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(78), ""), "{ran:?}");
    let line = text.lines().count() + 2;
    let place = format!("{}:{line}: admission.per_usr", daemon.config.display());
    assert!(ran.err.contains(&place), "{ran:?}");
    assert_eq!(daemon.chat("west/m1", "?").await.unwrap().status, 200);
}

#[tokio::test]
async fn stop_returns_when_the_daemon_has_finished_what_was_running() {
    let script = "{ answer = \"late\", latency_ms = 500 }";
    let (_dir, mut daemon) = daemon(&scripted("east", script)).await;
    let running = start(&daemon.config, &["ask", "-m", "east/m1", "?"]);
    until_one_runs(&daemon).await;
    assert_eq!(run(&daemon.config, &["stop"]).await.said(), "stopped\n");
    assert!(!daemon.socket.exists(), "its last deed is done");
    assert_eq!(end(running).await.answer("east/m1"), "late\n");
    assert_eq!(daemon.ended().await, Some(0));
    let ran = run(&daemon.config, &["stop"]).await;
    assert_eq!(ran.code, Some(69), "{ran:?}");
}

#[tokio::test]
async fn stop_says_that_the_daemon_still_drains_when_its_time_is_over() {
    let script = "{ answer = \"late\", latency_ms = 4000 }";
    let (_dir, daemon) = daemon(&scripted("east", script)).await;
    let running = start(&daemon.config, &["ask", "-m", "east/m1", "?"]);
    until_one_runs(&daemon).await;
    let ran = run(&daemon.config, &["stop", "--timeout", "1"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.err.contains("still draining after 1 s"), "{ran:?}");
    // Its doors are closed by now, and it can be waited for all the same.
    assert_eq!(run(&daemon.config, &["stop"]).await.said(), "stopped\n");
    assert!(!daemon.socket.exists());
    assert_eq!(end(running).await.answer("east/m1"), "late\n");
}

#[tokio::test]
async fn the_completions_are_a_script_that_bash_can_read() {
    let ran = run(Path::new("unused.toml"), &["completions", "bash"]).await;
    assert!(ran.said().contains("complete -F _quorate"), "{ran:?}");
    let mut bash = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = bash.stdin.take().unwrap();
    stdin.write_all(ran.out.as_bytes()).await.unwrap();
    drop(stdin);
    assert!(bash.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_wrong_command_line_is_refused() {
    let config = Path::new("unused.toml");
    for args in [
        &["dance"][..],
        &["ask", "--lane", "fast", "?"],
        &["ask", "--deadline", "0", "?"],
        &["ask", "--model", "a", "--ensemble", "b,c", "?"],
        &["check", "--set", "per_user"],
        &["keys", "new"],
    ] {
        let ran = run(config, args).await;
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (Some(2), ""),
            "{args:?}: {ran:?}"
        );
        assert!(ran.err.starts_with("error: "), "{args:?}: {ran:?}");
        let ran = run(config, &[args, &["--json"]].concat()).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(2), ""), "{args:?}");
        let error = ran.json()["error"].take();
        let told = error["message"].as_str().unwrap();
        assert!(error["exit"] == 2 && !told.starts_with("error"), "{error}");
    }
    let ran = run(config, &["--help"]).await;
    assert!(ran.said().contains("75  overloaded"), "{ran:?}");
}

#[tokio::test]
async fn the_exit_code_says_what_kind_of_failure_it_was() {
    let toml = several()
        + "[admission]\ntotal = 1\nqueue = 0\n"
        + &scripted("slow", "{ hang = \"before\" }");
    let limited = scripted(
        "limited",
        "{ fail = { kind = \"rate-limited\", status = 429 } }",
    );
    let down = scripted("down", "{ fail = { kind = \"connect\" } }");
    let (_dir, daemon) = daemon(&[toml, limited, down].concat()).await;
    let asked = async |model: &str, code: i32, message: &str| {
        for manner in [&[][..], &["--no-stream"]] {
            let ran = run(
                &daemon.config,
                &[&["ask", "-m", model, "?"], manner].concat(),
            )
            .await;
            assert_eq!(
                (ran.code, ran.out.as_str()),
                (Some(code), ""),
                "{model}: {ran:?}"
            );
            assert!(
                ran.err.starts_with("error: ") && ran.err.contains(message),
                "{model}: {ran:?}"
            );
            assert_eq!(ran.err.lines().count(), 1, "{model}: {ran:?}");
        }
    };
    asked(
        "nobody",
        1,
        "no model is called 'nobody'; there is auto, any",
    )
    .await;
    asked("down/m1", 69, "(tried: down/m1 connect)").await;
    asked("limited/m1", 75, "(tried: limited/m1 rate-limited)").await;
    asked("broken/m1", 1, "(tried: broken/m1 upstream)").await;
    let mut rpc = Rpc::connect(&daemon.socket).await;
    rpc.request(1, "ask", &chat("slow/m1", "?")).await;
    until_one_runs(&daemon).await;
    asked("east/m1", 75, "(try again in ").await;
}

#[tokio::test]
async fn a_command_that_needs_a_daemon_says_so_and_how_to_start_one() {
    let dir = TempDir::new().unwrap();
    let config = file(dir.path(), &several());
    for args in [
        &["status"][..],
        &["reload"],
        &["stop"],
        &["feedback", "0192", "1"],
    ] {
        let ran = run(&config, args).await;
        assert_eq!(
            (ran.code, ran.out.as_str()),
            (Some(69), ""),
            "{args:?}: {ran:?}"
        );
        assert!(
            ran.err.contains("no daemon answers at"),
            "{args:?}: {ran:?}"
        );
        assert!(ran.err.contains("quorate serve"), "{args:?}: {ran:?}");
    }
    let no_door = ["status", "--set", "server.socket=off"];
    assert_eq!(run(&config, &no_door).await.code, Some(2));
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_command_quietly() {
    let answer = "a line of many\\n".repeat(50_000);
    let script = format!("{{ answer = \"{answer}\", chunks = 500 }}");
    let (_dir, daemon) = daemon(&scripted("east", &script)).await;
    for args in [
        &["ask", "-m", "east/m1", "?"][..],
        &["ask", "-m", "east/m1", "--no-stream", "?"],
        &["ask", "-m", "east/m1", "--json", "?"],
        &["status"],
        &["models"],
        &["completions", "bash"],
        &["--help"],
    ] {
        let mut child = start(&daemon.config, args);
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut [0]).await.unwrap();
        drop(out);
        let ran = end(child).await;
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
    }
    let until = Instant::now() + PATIENCE;
    while daemon.metric("quorate_permits_in_use").await > 0.0 {
        assert!(Instant::now() < until, "a query without a reader goes on");
    }
}

#[tokio::test]
async fn an_interrupt_cancels_the_query() {
    let (_dir, daemon) = daemon(&scripted(
        "east",
        "{ answer = \"a b\", hang = \"after_chunks:1\" }",
    ))
    .await;
    let child = start(&daemon.config, &["ask", "-m", "east/m1", "?"]);
    until_one_runs(&daemon).await;
    let pid = child.id().unwrap().to_string();
    let kill = Command::new("kill").args(["-s", "INT", &pid]).status();
    assert!(kill.await.unwrap().success());
    let ran = end(child).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(130), ""), "{ran:?}");
    assert_eq!(daemon.metric("quorate_permits_in_use").await, 0.0);
}

#[tokio::test]
async fn chat_remembers_the_conversation_and_takes_commands() {
    let (_dir, daemon) = daemon(&several()).await;
    let input =
        b"/model echo/m1\nhello\n\n/model nobody\nlost\n/model echo/m1\nagain\n/quit\nnever\n";
    let ran = piped(&daemon.config, &["chat"], input).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(1), "hello\nagain\n"),
        "one of what was piped in failed: {ran:?}"
    );
    assert!(ran.err.contains("no model is called 'nobody'"), "{ran:?}");
    assert_eq!(
        piped(&daemon.config, &["chat", "-m", "echo/m1"], b"hi\n")
            .await
            .said(),
        "hi\n"
    );
}
