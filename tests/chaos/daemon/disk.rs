//! The ledger's disk: full, read-only, locked, gone. Answers go on, it is told once, and it recovers by itself.

use std::path::Path;
use std::process::{Command, Stdio};

use rusqlite::Connection;
use serde_json::Value;

use super::place::{Place, status, until};
use super::support::{Daemon, Rpc, chat};
use super::{provider, skipped, so_much};

const CANNOT: &str = "the ledger cannot be written";
const HEALTHY: &str = "quorate_ledger_healthy";

fn place() -> Place {
    let admission = "[admission]\nper_user = 1000\ntotal = 1000\n";
    Place::new(
        "",
        &format!("{admission}{}", provider("east", "{ answer = \"Paris\" }")),
    )
}

/// Asks `count` queries at once and has every one answered.
async fn ask(daemon: &Daemon, count: u64) {
    let mut rpc = Rpc::connect(&daemon.socket).await;
    for id in 0..count {
        rpc.request(id, "ask", &chat("east/m1", "capital of France?"))
            .await;
    }
    let mut seen = vec![0; usize::try_from(count).unwrap()];
    for _ in 0..count {
        let reply = rpc.next().await.expect("a reply");
        assert_eq!(
            reply["result"]["choices"][0]["message"]["content"], "Paris",
            "{reply}"
        );
        seen[usize::try_from(reply["id"].as_u64().unwrap()).unwrap()] += 1;
    }
    assert!(
        seen.iter().all(|count| *count == 1),
        "each is answered once"
    );
}

/// The trouble is on the gauge and in the status.
async fn until_told(daemon: &Daemon) {
    until("the gauge and the status tell of it", async || {
        daemon.metric(HEALTHY).await == 0.0 && status(daemon).await["ledger"]["failure"].is_string()
    })
    .await;
}

/// It is well again, and nothing waits.
async fn until_recovered(daemon: &Daemon) {
    until("it recovers by itself", async || {
        let ledger = status(daemon).await["ledger"].take();
        daemon.metric(HEALTHY).await == 1.0
            && ledger["failure"] == Value::Null
            && ledger["pending"] == 0
    })
    .await;
}

fn rows(path: &Path) -> i64 {
    let ledger = Connection::open(path).unwrap();
    ledger
        .query_row("SELECT count(*) FROM decisions", [], |row| row.get(0))
        .unwrap()
}

/// Whether this machine has this program and lets it do that.
fn works(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

#[tokio::test]
async fn a_disk_that_takes_no_byte_costs_no_answer_and_is_told_once() {
    let place = place();
    // Seldom enough to tell the timer's tries from others.
    let text = std::fs::read_to_string(&place.config).unwrap();
    std::fs::write(&place.config, text.replace("20ms", "1s")).unwrap();
    // Without the trap the kernel ends who writes past the limit.
    let daemon = place.start_in(&["sh", "-c"], "trap '' XFSZ").await;
    ask(&daemon, 10).await;
    until_recovered(&daemon).await;
    let pid = daemon.child.id().to_string();
    let limit = |bytes: &str| works("prlimit", &["--pid", &pid, &format!("--fsize={bytes}:")]);
    if let Err(why) = limit("0") {
        return skipped("a disk that takes no byte", &why);
    }
    ask(&daemon, 10).await;
    until_told(&daemon).await;
    let before = daemon.metric("quorate_ledger_errors_total").await;
    // More than a batch, which is written at once while all is well.
    let (many, rounds) = (900, so_much(3, 15));
    let began = tokio::time::Instant::now();
    for _ in 0..rounds {
        ask(&daemon, many).await;
    }
    let tries = daemon.metric("quorate_ledger_errors_total").await - before;
    let ticks = began.elapsed().as_secs_f64() + 3.0;
    assert!(tries <= ticks, "{tries} tries in {ticks} intervals");
    let pending = rounds * many + 10;
    until("the rows that wait are counted", async || {
        daemon.metric("quorate_ledger_pending").await == pending as f64
    })
    .await;
    assert_eq!(place.said(CANNOT), 1, "{}", place.log());
    assert_eq!(place.said("WARN"), 1, "{}", place.log());

    limit("unlimited").unwrap();
    until_recovered(&daemon).await;
    let expected = i64::try_from(pending + 10).unwrap();
    assert_eq!(rows(&place.ledger), expected, "no row is lost");
    place.assert_well(&daemon, "east/m1").await;
}

#[tokio::test]
async fn a_full_file_system_costs_no_answer_and_is_told_once() {
    let place = place();
    std::fs::create_dir(&place.state).unwrap();
    let state = place.state.display();
    let mount = format!("mount -t tmpfs -o size=8m,mode=0700 tmpfs '{state}'");
    // A mount name space of its own: to root at once, to a user with the name space of users.
    let ways: [&[&str]; 2] = [&["unshare", "-m"], &["unshare", "-rm"]];
    let fits = |way: &&&[&str]| works(way[0], &[way[1], "sh", "-c", &mount]).is_ok();
    let Some(way) = ways.iter().find(fits) else {
        return skipped("a full file system", "no file system can be mounted here");
    };
    let daemon = place.start_in(&[way[0], way[1], "sh", "-c"], &mount).await;
    ask(&daemon, 10).await;
    until_recovered(&daemon).await;
    let inside = format!("/proc/{}/root{state}", daemon.child.id());
    let filler = Path::new(&inside).join("filler");
    let full = std::fs::write(&filler, vec![0; 9 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    // The log may have room for some rows still.
    ask(&daemon, 900).await;
    until_told(&daemon).await;
    ask(&daemon, 100).await;
    assert_eq!(place.said(CANNOT), 1, "{}", place.log());

    std::fs::remove_file(&filler).unwrap();
    until_recovered(&daemon).await;
    place.assert_well(&daemon, "east/m1").await;
}

fn evidence(status: &Value) -> f64 {
    let evidence = &status["deployments"][0]["total"]["evidence"];
    evidence.as_f64().unwrap()
}

/// Starts the daemon with a ledger that has learned, on a file system of its own that `makes_it` so that it cannot be
/// written; `mend` does away with that from outside, given the process and the directory as seen from here.
async fn started_on(what: &str, damage: bool, makes_it: &str, mend: impl AsyncFn(&str, &Path)) {
    let place = place();
    let kept = place.dir.path().join("kept");
    let mut daemon = place.start().await;
    ask(&daemon, 50).await;
    until_recovered(&daemon).await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await, Some(0));
    if damage {
        // The table of decisions; the cells, and the rest of what it takes to find them, are whole.
        let ledger = Connection::open(&place.ledger).unwrap();
        let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'decisions'";
        let page: u32 = ledger.query_row(root, [], |row| row.get(0)).unwrap();
        drop(ledger);
        let file = std::fs::File::options()
            .write(true)
            .open(&place.ledger)
            .unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0xff; 4096], u64::from(page - 1) * 4096)
            .unwrap();
    }
    std::fs::rename(&place.state, &kept).unwrap();
    std::fs::create_dir(&place.state).unwrap();
    let (state, from) = (place.state.display(), kept.display());
    let prelude = format!(
        "mount -t tmpfs -o size=4m,mode=0700 tmpfs '{state}' && cp '{from}'/* '{state}' && cd '{state}' && {makes_it}; cd /"
    );
    let ways: [&[&str]; 2] = [&["unshare", "-m"], &["unshare", "-rm"]];
    let probe = format!("mount -t tmpfs tmpfs '{state}'");
    let fits = |way: &&&[&str]| works(way[0], &[way[1], "sh", "-c", &probe]).is_ok();
    let Some(way) = ways.iter().find(fits) else {
        return skipped(what, "no file system can be mounted here");
    };
    let daemon = place
        .start_in(&[way[0], way[1], "sh", "-c"], &prelude)
        .await;
    let known = evidence(&status(&daemon).await);
    assert!(known > 1.0, "{what}: {known} of what was learned is known");
    until_told(&daemon).await;
    ask(&daemon, 50).await;
    assert_eq!(place.said("cannot be used"), 1, "{}", place.log());

    let pid = daemon.child.id().to_string();
    let inside = std::path::PathBuf::from(format!("/proc/{pid}/root{state}"));
    mend(&pid, &inside).await;
    until_recovered(&daemon).await;
    let learned = evidence(&status(&daemon).await);
    // What is on that file system ends with the daemon, and SQLite would not find its way there.
    for entry in std::fs::read_dir(&inside).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), kept.join(entry.file_name())).unwrap();
    }
    drop(daemon);
    let expected = if damage { 50 } else { 100 };
    assert_eq!(rows(&kept.join("ledger.db")), expected, "{what}");
    let text = std::fs::read_to_string(&place.config).unwrap();
    let (old, new) = (place.ledger.display().to_string(), kept.join("ledger.db"));
    std::fs::write(
        &place.config,
        text.replace(&old, &new.display().to_string()),
    )
    .unwrap();
    let daemon = place.start().await;
    let after = evidence(&status(&daemon).await);
    assert!(
        after > known && after >= learned * 0.99,
        "{what}: {after} of {learned}, {known} at the start"
    );
    place.assert_well(&daemon, "east/m1").await;
}

const FILL: &str = "cat /dev/zero > filler 2> /dev/null";

async fn make_room(_: &str, state: &Path) {
    std::fs::remove_file(state.join("filler")).unwrap();
}

#[tokio::test]
async fn started_on_a_full_disk_it_goes_on_from_what_was_learned_and_writes_once_there_is_room() {
    started_on("a start on a full disk", false, FILL, make_room).await;
}

#[tokio::test]
async fn a_damaged_ledger_on_a_full_disk_loses_no_more_than_elsewhere() {
    started_on("a damaged ledger on a full disk", true, FILL, make_room).await;
}

#[tokio::test]
async fn started_on_a_read_only_disk_it_goes_on_from_what_was_learned_and_writes_once_it_may() {
    let remount = "mount -o remount,ro .";
    started_on(
        "a start on a read-only disk",
        false,
        remount,
        async |pid, state| {
            let seen = state.to_str().unwrap().split_once("/root").unwrap().1;
            let args = ["-t", pid, "-U", "-m", "mount", "-o", "remount,rw", seen];
            let as_root = ["-t", pid, "-m", "mount", "-o", "remount,rw", seen];
            works("nsenter", &as_root)
                .or_else(|_| works("nsenter", &args))
                .unwrap();
        },
    )
    .await;
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_used_is_told_once_and_the_daemon_serves() {
    let place = place();
    // No permission keeps root out; a file where the directory should be keeps everybody out.
    std::fs::write(&place.state, "in the way").unwrap();
    let daemon = place.start().await;
    ask(&daemon, 600).await;
    until_told(&daemon).await;
    assert_eq!(place.said("WARN"), 1, "{}", place.log());
    let ledger = status(&daemon).await["ledger"].take();
    let why = ledger["failure"].as_str().unwrap();
    assert!(
        why.contains("in memory only") && why.contains("state"),
        "{why}"
    );
    place.assert_well(&daemon, "east/m1").await;
}

#[tokio::test]
async fn a_state_directory_that_goes_and_comes_back_costs_no_answer_and_no_row() {
    let place = place();
    let daemon = place.start().await;
    ask(&daemon, 10).await;
    until_recovered(&daemon).await;
    let away = place.dir.path().join("away");
    std::fs::rename(&place.state, &away).unwrap();
    std::fs::write(&place.state, "in the way").unwrap();
    ask(&daemon, 600).await;
    until_told(&daemon).await;
    ask(&daemon, 10).await;
    assert_eq!(place.said(CANNOT), 1, "{}", place.log());
    std::fs::remove_file(&place.state).unwrap();
    std::fs::rename(&away, &place.state).unwrap();
    until_recovered(&daemon).await;
    assert_eq!(rows(&place.ledger), 620);
    place.assert_well(&daemon, "east/m1").await;
}

#[tokio::test]
async fn a_ledger_deleted_under_the_daemon_is_begun_anew_with_all_that_was_learned() {
    let place = place();
    let mut daemon = place.start().await;
    ask(&daemon, 50).await;
    until_recovered(&daemon).await;
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", place.ledger.display()));
    }
    ask(&daemon, 50).await;
    until("it is told", async || {
        place.said("was removed or replaced") == 1
    })
    .await;
    until_recovered(&daemon).await;
    assert_eq!(rows(&place.ledger), 50, "what came after is in the new one");
    let learned = |status: Value| {
        status["deployments"][0]["total"]["evidence"]
            .as_f64()
            .unwrap()
    };
    let known = learned(status(&daemon).await);
    let cells = || {
        let ledger = Connection::open(&place.ledger).unwrap();
        let count = "SELECT count(*) FROM cells WHERE key LIKE 'deployment:east/m1:%'";
        ledger
            .query_row(count, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    until("what was learned is in the new file", async || cells() > 0).await;
    assert_eq!(place.said(CANNOT), 1, "{}", place.log());
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    let daemon = place.start().await;
    let after = learned(status(&daemon).await);
    assert!(after >= known * 0.99 && after > 1.0, "{after} of {known}");
    assert!(!place.log().contains("damaged"), "{}", place.log());
    place.assert_well(&daemon, "east/m1").await;
}

#[tokio::test]
async fn a_ledger_locked_by_somebody_else_costs_no_answer_and_no_row() {
    let place = place();
    let daemon = place.start().await;
    ask(&daemon, 10).await;
    until_recovered(&daemon).await;
    let other = Connection::open(&place.ledger).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    ask(&daemon, 600).await;
    until_told(&daemon).await;
    ask(&daemon, 10).await;
    assert_eq!(place.said(CANNOT), 1, "{}", place.log());
    other.execute_batch("COMMIT").unwrap();
    until_recovered(&daemon).await;
    assert_eq!(rows(&place.ledger), 620);
    place.assert_well(&daemon, "east/m1").await;
}
