use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::row::{Cell, DecisionRow, FeedbackOutcome, checksum};
use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn row(n: usize) -> DecisionRow {
    DecisionRow {
        id: format!("{n:08}").into(),
        at: 1000 * n as i64,
        user: "ann".into(),
        lane: "normal".into(),
        task: n.is_multiple_of(2).then(|| "code".into()),
        asked: "auto".into(),
        chosen: Some("east/m1".into()),
        candidates: format!("[{n}]{}", " ".repeat(300)),
        attempts: "[]".into(),
        members: None,
        outcome: "ok".into(),
        ttft_ms: Some(12.5),
        total_ms: n as f64 / 3.0,
        queue_ms: -0.0,
        input_tokens: u32::MAX,
        output_tokens: 7,
        cached_tokens: Some(0),
        cost: Some(1e-6),
        prompt: Some("a\0b ✓".into()),
        answer: None,
    }
}

fn rows(range: std::ops::Range<usize>) -> Vec<DecisionRow> {
    range.map(row).collect()
}

fn cell(n: usize) -> Cell {
    let key = format!("deployment:east/m{n}:latency");
    Cell {
        key,
        version: 1,
        payload: format!("{{\"mean\":{n}}}"),
    }
}

fn cells(count: usize) -> Vec<Cell> {
    let mut cells: Vec<Cell> = (0..count).map(cell).collect();
    cells.sort_by(|a, b| a.key.cmp(&b.key));
    cells
}

fn opened(path: &Path) -> Store {
    let (store, warnings) = Store::open(path).expect("opens");
    assert_eq!(warnings, Vec::<String>::new());
    store
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// The files of a running store as a killed process would leave them.
fn snapshot(path: &Path, to: &Path) -> PathBuf {
    fs::create_dir_all(to).expect("made");
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("ledger.db{suffix}");
        fs::copy(path.with_file_name(&name), to.join(&name)).expect("copied");
    }
    to.join("ledger.db")
}

/// A closed ledger's whole file: 300 decisions, 60 cells, some feedback.
fn image(dir: &Path) -> Vec<u8> {
    let path = dir.join("image.db");
    let mut store = opened(&path);
    store.append(&rows(0..300)).expect("written");
    store.save_cells(&cells(60)).expect("written");
    for n in 0..20 {
        store
            .record_feedback(&row(n).id, 0.5, None, "ann", 1, true)
            .expect("written");
    }
    drop(store);
    fs::read(path).expect("read")
}

#[test]
fn what_was_appended_is_found_as_it_was() {
    let mut store = Store::in_memory().expect("opens");
    let empty = DecisionRow {
        task: None,
        chosen: None,
        ttft_ms: None,
        cost: None,
        ..row(3)
    };
    store
        .append(&[row(1), row(2), empty.clone()])
        .expect("written");
    assert_eq!(store.find(&row(1).id).expect("readable"), Some(row(1)));
    assert_eq!(store.find(&row(9).id).expect("readable"), None);
    assert_eq!(store.recent(2).expect("readable"), (vec![empty, row(2)], 0));
}

#[test]
fn numbers_that_sqlite_does_not_keep_do_not_spoil_their_row() {
    let mut store = Store::in_memory().expect("opens");
    let odd = DecisionRow {
        total_ms: f64::NAN,
        cost: Some(f64::INFINITY),
        ..row(1)
    };
    store.append(std::slice::from_ref(&odd)).expect("written");
    let mended = DecisionRow {
        total_ms: 0.0,
        cost: Some(0.0),
        ..odd
    };
    assert_eq!(store.find(&mended.id).expect("readable"), Some(mended));
}

#[test]
fn a_decision_written_twice_is_kept_once() {
    let mut store = Store::in_memory().expect("opens");
    let again = DecisionRow {
        outcome: "timeout".into(),
        ..row(1)
    };
    store.append(&[row(1), row(2)]).expect("written");
    store.append(std::slice::from_ref(&again)).expect("written");
    assert_eq!(store.recent(9).expect("readable"), (vec![again, row(2)], 0));
}

#[test]
fn a_row_with_the_checksum_of_former_versions_is_believed() {
    let mut store = Store::in_memory().expect("opens");
    store.append(&rows(0..2)).expect("written");
    // The other's, for the second.
    let sum = checksum(&row(0).values());
    let update = "UPDATE decisions SET checksum = ?1";
    let done = store.conn.execute(update, params![&sum[..8]]);
    assert_eq!(done.expect("done"), 2);
    assert_eq!(store.recent(9).expect("readable"), (vec![row(0)], 1));
}

#[test]
fn an_altered_row_is_reported_and_the_others_serve() {
    let mut store = Store::in_memory().expect("opens");
    store.append(&rows(0..3)).expect("written");
    store
        .conn
        .execute(
            "UPDATE decisions SET cost = 0.1 WHERE id = ?1",
            [row(1).id.as_str()],
        )
        .expect("done");
    assert_eq!(
        store.recent(9).expect("readable"),
        (vec![row(2), row(0)], 1)
    );
    let error = store.find(&row(1).id).expect_err("damaged").to_string();
    assert_eq!(
        error,
        "decision 00000001 is damaged: checksum does not match"
    );
}

#[test]
fn files_and_new_directories_are_private() {
    let dir = tempfile::tempdir().expect("made");
    let path = dir.path().join("a/b/ledger.db");
    let mut store = opened(&path);
    store.append(&[row(1)]).expect("written");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("a")), 0o700);
    assert_eq!(mode(path.parent().expect("one")), 0o700);
    for name in files(path.parent().expect("one")) {
        assert_eq!(mode(&path.with_file_name(&name)), 0o600, "{name}");
    }
}

#[test]
fn everything_committed_survives_a_kill_at_any_moment() {
    let dir = tempfile::tempdir().expect("made");
    let path = dir.path().join("ledger.db");
    let mut store = opened(&path);
    for batch in 0..40 {
        store
            .append(&rows(batch * 25..(batch + 1) * 25))
            .expect("written");
        store
            .save_cells(&[
                cell(batch),
                Cell {
                    version: batch as u32,
                    ..cell(0)
                },
            ])
            .expect("written");
        // A transaction that the kill cuts short.
        let cut = store.conn.transaction().expect("begun");
        cut.execute("DELETE FROM decisions", []).expect("done");
        let copy = snapshot(&path, &dir.path().join(format!("copy-{batch}")));
        drop(cut);

        let mut reopened = opened(&copy);
        let mut expected = rows(0..(batch + 1) * 25);
        expected.reverse();
        assert_eq!(reopened.recent(9999).expect("readable"), (expected, 0));
        let (cells, bad) = reopened.load_cells().expect("readable");
        assert_eq!((cells.len(), bad), (batch + 1, vec![]));
        assert!(cells.contains(&Cell {
            version: batch as u32,
            ..cell(0)
        }));
    }
}

#[test]
fn a_log_cut_anywhere_leaves_whole_batches() {
    let dir = tempfile::tempdir().expect("made");
    let path = dir.path().join("ledger.db");
    let mut store = opened(&path);
    for batch in 0..5 {
        store
            .append(&rows(batch * 10..(batch + 1) * 10))
            .expect("written");
    }
    let whole = fs::read(path.with_file_name("ledger.db-wal")).expect("read");
    let mut seen = Vec::new();
    for part in 0..=60 {
        let copy = snapshot(&path, &dir.path().join(format!("cut-{part}")));
        fs::remove_file(copy.with_file_name("ledger.db-shm")).expect("removed");
        let log = copy.with_file_name("ledger.db-wal");
        fs::write(&log, &whole[..whole.len() * part / 60]).expect("written");
        let (found, damaged) = opened(&copy).recent(999).expect("readable");
        let mut expected = rows(0..found.len());
        expected.reverse();
        assert_eq!((found.len() % 10, damaged, &found), (0, 0, &expected));
        seen.push(found.len());
    }
    seen.dedup();
    assert_eq!(seen, [0, 10, 20, 30, 40, 50]);
}

#[test]
fn a_file_with_a_broken_header_is_set_aside_with_its_companions() {
    let dir = tempfile::tempdir().expect("made");
    let mut bytes = image(dir.path());
    bytes[..16].copy_from_slice(b"not a database!!");
    let home = dir.path().join("home");
    fs::create_dir(&home).expect("made");
    let path = home.join("ledger.db");
    fs::write(&path, &bytes).expect("written");
    fs::write(home.join("ledger.db-wal"), b"stale").expect("written");

    let (mut store, warnings) = Store::open(&path).expect("opens");
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("not a database"), "{warnings:?}");
    let aside = files(&home)
        .into_iter()
        .find(|name| name.starts_with("ledger.db.damaged-"))
        .expect("kept");
    assert!(warnings[0].contains(&aside), "{warnings:?}");
    assert_eq!(fs::read(home.join(&aside)).expect("read"), bytes);
    assert_eq!(store.recent(9).expect("readable"), (vec![], 0));
    store.append(&[row(1)]).expect("written");
    drop(store);
    assert_eq!(opened(&path).recent(9).expect("readable").0, [row(1)]);
}

#[test]
fn learned_cells_are_saved_from_a_damaged_file() {
    let dir = tempfile::tempdir().expect("made");
    let path = dir.path().join("ledger.db");
    let mut bytes = image(dir.path());
    let image = rusqlite::Connection::open(dir.path().join("image.db")).expect("opens");
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'decisions'";
    let root: u32 = image.query_row(root, [], |row| row.get(0)).expect("known");
    bytes[(root as usize - 1) * 4096..][..64].fill(0xa5);
    fs::write(&path, bytes).expect("written");
    let (mut store, warnings) = Store::open(&path).expect("opens");
    assert!(warnings[0].contains("60 learned cells"), "{warnings:?}");
    assert_eq!(store.load_cells().expect("readable"), (cells(60), vec![]));
}

#[test]
fn files_of_newer_versions_and_other_programs_are_set_aside() {
    let cases = [
        ("PRAGMA user_version = 99", "version 99"),
        ("PRAGMA user_version = -1", "version -1"),
        ("PRAGMA user_version = 0", "another program"),
        ("DROP TABLE feedback", "'feedback'"),
        ("ALTER TABLE cells RENAME COLUMN payload TO load", "'cells'"),
    ];
    for (change, reason) in cases {
        let dir = tempfile::tempdir().expect("made");
        let path = dir.path().join("ledger.db");
        opened(&path).conn.execute_batch(change).expect("done");
        let (_, warnings) = Store::open(&path).expect("opens");
        assert!(warnings.concat().contains(reason), "{change}: {warnings:?}");
        opened(&path);
    }
}

#[test]
fn what_an_operator_added_does_no_harm() {
    let dir = tempfile::tempdir().expect("made");
    let path = dir.path().join("ledger.db");
    let added = "CREATE INDEX by_user ON decisions (user); ANALYZE; CREATE VIEW v AS SELECT 1";
    opened(&path).conn.execute_batch(added).expect("done");
    opened(&path);
}

#[test]
fn a_busy_file_is_an_error_and_stays_where_it_is() {
    let dir = tempfile::tempdir().expect("made");
    let path = dir.path().join("ledger.db");
    fs::write(&path, image(dir.path())).expect("written");
    let holder = rusqlite::Connection::open(&path).expect("opens");
    holder
        .execute_batch("PRAGMA locking_mode = exclusive; BEGIN EXCLUSIVE")
        .expect("locked");
    let error = Store::open(&path).expect_err("locked").to_string();
    assert_eq!(error, "ledger: database is locked");
    drop(holder);
    assert_eq!(opened(&path).recent(999).expect("readable").0.len(), 300);
}

/// Repeatable randomness: SplitMix64.
fn draw(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as usize
}

#[test]
fn a_flipped_byte_is_harmless_or_reported() {
    let dir = tempfile::tempdir().expect("made");
    let whole = image(dir.path());
    let (expected_rows, expected_cells) = (rows(0..300), cells(60));
    let (mut seed, mut aside, mut spoiled) = (7, 0, 0);
    for flip in 0..200 {
        // Every third hits the header and the schema, which are few bytes of many.
        let place = draw(&mut seed) % if flip % 3 == 0 { 4096 } else { whole.len() };
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (draw(&mut seed) % 8);
        let path = dir.path().join(format!("flip-{flip}/ledger.db"));
        fs::create_dir(path.parent().expect("one")).expect("made");
        fs::write(&path, &bytes).expect("written");

        let (mut store, warnings) =
            Store::open(&path).unwrap_or_else(|e| panic!("byte {place}: {e}"));
        let (found, damaged) = store
            .recent(999)
            .unwrap_or_else(|e| panic!("byte {place}: {e}"));
        let (learned, bad) = store
            .load_cells()
            .unwrap_or_else(|e| panic!("byte {place}: {e}"));
        assert!(
            found.iter().all(|row| expected_rows.contains(row)),
            "byte {place}"
        );
        assert!(
            learned.iter().all(|cell| expected_cells.contains(cell)),
            "byte {place}"
        );
        let reported = !warnings.is_empty();
        assert!(reported || found.len() + damaged == 300, "byte {place}");
        assert!(reported || learned.len() + bad.len() == 60, "byte {place}");
        aside += usize::from(reported);
        spoiled += usize::from(damaged + bad.len() > 0);

        store
            .append(&rows(1000..1002))
            .unwrap_or_else(|e| panic!("byte {place}: {e}"));
        store
            .save_cells(&expected_cells)
            .unwrap_or_else(|e| panic!("byte {place}: {e}"));
        assert_eq!(
            store.load_cells().expect("readable").0,
            expected_cells,
            "byte {place}"
        );
        fs::remove_dir_all(path.parent().expect("one")).expect("removed");
    }
    assert!(
        aside > 20 && spoiled > 50,
        "{aside} set aside, {spoiled} spoiled"
    );
}

#[test]
fn a_damaged_cell_is_quarantined_and_the_rest_serve() {
    let mut store = Store::in_memory().expect("opens");
    store.save_cells(&cells(4)).expect("written");
    let alter = |sql: &str, n: usize| store.conn.execute(sql, [cell(n).key]).expect("done");
    alter(
        "UPDATE cells SET payload = '{\"mean\":0}' WHERE key = ?1",
        1,
    );
    alter(
        "UPDATE cells SET payload = CAST(x'ff' AS TEXT) WHERE key = ?1",
        2,
    );
    let (good, bad) = store.load_cells().expect("readable");
    assert_eq!(good, [cell(0), cell(3)]);
    assert_eq!(
        bad.iter().map(|bad| &bad.key).collect::<Vec<_>>(),
        [&cell(1).key, &cell(2).key]
    );
    assert_eq!(bad[0].reason, "checksum does not match");
    let kept = "SELECT at > 0 AND payload = '{\"mean\":0}' AND reason <> '' FROM quarantine ORDER BY rowid";
    assert!(
        store
            .conn
            .query_row(kept, [], |row| row.get::<_, bool>(0))
            .expect("kept")
    );
    assert_eq!(
        store.load_cells().expect("readable"),
        (vec![cell(0), cell(3)], vec![])
    );
}

#[test]
fn a_cell_that_makes_no_sense_can_be_quarantined() {
    let mut store = Store::in_memory().expect("opens");
    store.save_cells(&cells(2)).expect("written");
    store
        .quarantine(&cell(0).key, "beta is zero")
        .expect("moved");
    store
        .quarantine("nobody", "not there")
        .expect("nothing to move");
    assert_eq!(
        store.load_cells().expect("readable"),
        (vec![cell(1)], vec![])
    );
    let kept = store
        .conn
        .query_row("SELECT key, reason FROM quarantine", [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        });
    assert_eq!(kept.expect("kept"), (cell(0).key, "beta is zero".into()));
}

#[test]
fn quarantine_keeps_the_latest_thousand() {
    let mut store = Store::in_memory().expect("opens");
    for round in 0..3 {
        store.save_cells(&cells(600)).expect("written");
        store
            .conn
            .execute("UPDATE cells SET version = ?1", [100 + round])
            .expect("done");
        assert_eq!(store.load_cells().expect("readable").1.len(), 600);
    }
    let kept = store.conn.query_row(
        "SELECT count(*), sum(version = '102'), sum(version = '101') FROM quarantine",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    );
    assert_eq!(kept.expect("counted"), (1000, 600, 400));
}

#[test]
fn feedback_counts_once_for_each_source() {
    let mut store = Store::in_memory().expect("opens");
    store.append(&[row(1)]).expect("written");
    let mut judge = |score, source| {
        store
            .record_feedback(&row(1).id, score, None, source, 5, true)
            .expect("in range")
    };
    assert_eq!(judge(1.0, "ann"), FeedbackOutcome::Recorded);
    assert_eq!(judge(1.0, "ann"), FeedbackOutcome::Repeated);
    assert_eq!(judge(1.0, "bob"), FeedbackOutcome::Recorded);
    assert_eq!(
        judge(0.25, "ann"),
        FeedbackOutcome::Changed { previous: 1.0 }
    );
    assert_eq!(judge(0.25, "ann"), FeedbackOutcome::Repeated);
    assert_eq!(
        store
            .record_feedback(&row(2).id, 1.0, None, "ann", 5, true)
            .expect("in range"),
        FeedbackOutcome::Unknown
    );
    for score in [-0.1, 1.1, f64::NAN] {
        let error = store
            .record_feedback(&row(1).id, score, None, "ann", 5, true)
            .expect_err("out of range");
        assert_eq!(
            error.to_string(),
            format!("score must be a number from 0 to 1, not {score}")
        );
    }
    assert_eq!(judge_again(&mut store), FeedbackOutcome::Repeated);
}

#[test]
fn a_judgement_that_nothing_was_learned_from_is_kept_and_does_not_count_as_the_first() {
    let mut store = Store::in_memory().expect("opens");
    let merged = DecisionRow {
        members: Some("[]".into()),
        ..row(1)
    };
    store.append(&[merged]).expect("written");
    let judge = |store: &mut Store, score, learning| {
        store
            .record_feedback(&row(1).id, score, Some(0), "ann", 5, learning)
            .expect("in range")
    };
    let truth = |store: &Store| store.ensembles(9, 0).expect("readable")[0].1;
    assert_eq!(judge(&mut store, 1.0, false), FeedbackOutcome::Recorded);
    assert_eq!(judge(&mut store, 1.0, false), FeedbackOutcome::Repeated);
    let kept = store.judged(9).expect("readable");
    assert_eq!(kept[0].1, Some(1.0));
    assert_eq!(truth(&store), None, "a restart learns from it");
    assert_eq!(judge(&mut store, 1.0, true), FeedbackOutcome::Recorded);
    assert_eq!(truth(&store), Some(0));
    // Once learned from it stays so.
    let changed = FeedbackOutcome::Changed { previous: 1.0 };
    assert_eq!(judge(&mut store, 0.5, false), changed);
    assert_eq!(judge(&mut store, 0.5, true), FeedbackOutcome::Repeated);
}

/// The judgement that stood before the refused ones still stands.
fn judge_again(store: &mut Store) -> FeedbackOutcome {
    store
        .record_feedback(&row(1).id, 0.25, None, "ann", 5, true)
        .expect("in range")
}

#[test]
fn pruning_removes_what_is_too_old_and_what_is_too_much() {
    let mut store = Store::in_memory().expect("opens");
    store.append(&rows(0..100)).expect("written");
    store
        .record_feedback(&row(3).id, 1.0, None, "ann", 5, true)
        .expect("written");
    store
        .record_feedback(&row(99).id, 1.0, None, "ann", 5, true)
        .expect("written");
    // Rows are a second apart; the last was written at second 99.
    assert_eq!(
        store
            .prune(Duration::from_secs(59), 1000, 99_000)
            .expect("done"),
        40
    );
    assert_eq!(
        store.recent(999).expect("readable").0.last(),
        Some(&row(40))
    );
    assert_eq!(store.prune(DAY, 10, 99_000).expect("done"), 50);
    assert_eq!(
        store.recent(999).expect("readable").0.last(),
        Some(&row(90))
    );
    assert_eq!(store.prune(DAY, 10, 99_000).expect("done"), 0);
    let judged: i64 = store
        .conn
        .query_row("SELECT count(*) FROM feedback", [], |row| row.get(0))
        .expect("counted");
    assert_eq!(judged, 1);
}

#[test]
fn pruning_is_bounded_and_shrinks_the_file() {
    let dir = tempfile::tempdir().expect("made");
    let path = dir.path().join("ledger.db");
    let mut store = opened(&path);
    store.append(&rows(0..12_000)).expect("written");
    let full = store.size_bytes().expect("known");
    assert_eq!(store.prune(DAY, 100, 0).expect("done"), PRUNE_ROWS);
    assert_eq!(store.prune(DAY, 100, 0).expect("done"), 1900);
    assert_eq!(store.prune(DAY, 100, 0).expect("done"), 0);
    let free: i64 = store
        .conn
        .pragma_query_value(None, "freelist_count", |row| row.get(0))
        .expect("known");
    assert_eq!(free, 0);
    let file = fs::metadata(&path).expect("there").len();
    assert!(file < full / 20, "{full} bytes became {file}");
    drop(store);
    assert_eq!(opened(&path).recent(999).expect("readable").0.len(), 100);
}

#[test]
fn a_stand_in_begins_with_the_cells_and_ensembles_of_its_file_and_brings_there_what_comes() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["ledger.db", "file:100% odd?#&=ü.db"] {
        let path = dir.path().join(name);
        let mut file = opened(&path);
        let mut old = rows(0..4);
        old[1].members = Some("[]".into());
        file.append(&old).expect("written");
        file.save_cells(&cells(5)).expect("written");
        let judged = |store: &mut Store, row: &DecisionRow, score| {
            let judged = store.record_feedback(&row.id, score, Some(1), "ann", 7, true);
            judged.expect("kept")
        };
        judged(&mut file, &old[1], 1.0);
        drop(file);

        let (mut store, found) = Store::stand_in(&path).expect("in memory");
        assert_eq!(found, cells(5));
        assert_eq!(store.load_cells().expect("read").0, cells(5));
        let ensembles = vec![(old[1].clone(), Some(1))];
        assert_eq!(store.ensembles(9, -1).expect("read"), ensembles);
        let new = rows(4..6);
        store.append(&new).expect("written");
        judged(&mut store, &new[0], 0.5);
        store
            .replace_cells(&[cell(7)], &[cell(0).key])
            .expect("written");
        store.move_to(&path).expect("moved");

        let mut file = opened(&path);
        let mut expected: Vec<Cell> = (1..5).chain([7]).map(cell).collect();
        expected.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(file.load_cells().expect("read").0, expected);
        let (mut recent, damaged) = file.recent(9).expect("read");
        recent.reverse();
        assert_eq!((recent, damaged), ([old.clone(), new.clone()].concat(), 0));
        assert_eq!(file.ensembles(9, -1).expect("read"), ensembles);
        assert_eq!(judged(&mut file, &new[0], 0.5), FeedbackOutcome::Repeated);
    }
}
