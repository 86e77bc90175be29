//! SIGKILL under load, and a start at once.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::place::{Place, post, status};
use super::support::chat;
use super::{provider, so_much};

/// Far more than the flush interval: the machine may be busy.
const DUE: Duration = Duration::from_secs(1);

/// What a client saw.
#[derive(Default)]
struct Seen {
    /// Decisions, and when their answers were there.
    answered: Vec<(String, Instant)>,
    /// Connections that ended without an answer, and when.
    broken: Vec<Instant>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_killed_under_load_keeps_every_row_that_was_due_and_answers_again() {
    let toml = format!(
        "[admission]\nper_user = 50\n{}",
        provider("east", "{ echo = true, latency_ms = 3 }")
    );
    let place = Place::new("", &toml);
    let mut daemon = place.start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for worker in 0..6 {
        load.spawn(ask_on(place.http, worker, Arc::clone(&stop)));
    }
    let (mut killed, mut known) = (Vec::new(), 0.0);
    for _ in 0..so_much(2, 20) {
        sleep(DUE + Duration::from_millis(600)).await;
        let learned = evidence(&status(&daemon).await);
        let kill = Instant::now();
        daemon.child.kill().unwrap();
        daemon.child.wait().unwrap();
        daemon = place.start().await;
        // What was on its way to a client when the daemon died is read by now.
        killed.push((kill, Instant::now()));
        let after = evidence(&status(&daemon).await);
        // What the last checkpoint did not have is lost; what the one before the last kill had is not.
        assert!(
            after >= known * 0.99,
            "{after}, and {known} before the kill before"
        );
        known = learned.min(after);
        assert!(known > 0.0, "nothing is remembered");
    }
    sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Relaxed);
    let seen: Vec<Seen> = load.join_all().await;
    place.assert_well(&daemon, "east/m1").await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended().await, Some(0));

    let answered: Vec<&(String, Instant)> = seen.iter().flat_map(|seen| &seen.answered).collect();
    let broken: Vec<&Instant> = seen.iter().flat_map(|seen| &seen.broken).collect();
    let (_, last) = killed.last().unwrap();
    assert!(
        answered.iter().any(|(_, at)| at > last),
        "nobody was answered after the last start"
    );
    assert!(!broken.is_empty(), "the kills met no query");
    let ids: HashSet<&str> = answered.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids.len(), answered.len(), "a decision was answered twice");
    let rows = rows(&place.ledger);
    let lost = answered.iter().filter(|(id, _)| !rows.contains(id));
    let early: Vec<Duration> = lost
        .map(|(_, at)| {
            let died = killed.iter().find(|(_, ready)| ready > at);
            died.map_or(Duration::MAX, |(kill, _)| {
                kill.saturating_duration_since(*at)
            })
        })
        .collect();
    let longest = early.iter().max().copied().unwrap_or_default();
    assert!(
        longest < DUE,
        "lost: {} of {} rows, one of {longest:?} before the kill",
        early.len(),
        answered.len(),
    );
    let log = place.log();
    assert!(
        !log.contains("damaged") && !log.contains("set aside"),
        "{log}"
    );
}

/// Asks one query after the other, each with a text of its own that is to come back.
async fn ask_on(http: SocketAddr, worker: usize, stop: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    for query in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let text = format!("{worker}-{query}");
        let body = chat("east/m1", &text).to_string();
        match post(http, "/v1/chat/completions", body).await {
            Some(reply) => {
                assert_eq!(
                    (reply.status, reply.content()),
                    (200, text),
                    "{}",
                    reply.body
                );
                let decision = reply.header("x-quorate-decision").to_owned();
                seen.answered.push((decision, Instant::now()));
            }
            None => {
                seen.broken.push(Instant::now());
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
    seen
}

fn evidence(status: &serde_json::Value) -> f64 {
    status["deployments"][0]["total"]["evidence"]
        .as_f64()
        .unwrap()
}

/// The decisions of a whole ledger, each of which is there once.
fn rows(ledger: &Path) -> HashSet<String> {
    let ledger = Connection::open_with_flags(ledger, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let verdict: String = ledger
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
    let mut select = ledger.prepare("SELECT id FROM decisions").unwrap();
    let ids: Vec<String> = select
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let unique: HashSet<String> = ids.iter().cloned().collect();
    assert_eq!(unique.len(), ids.len(), "a decision has two rows");
    unique
}
