//! The wall clock steps back by a year. Breakers, cool-downs, budgets, deadlines and latencies count the time since
//! the start, on a clock that knows no steps, and a `Retry-After` date is held against the answer's own `Date`. What
//! reads the wall clock is the age of the ledger's rows, and of that no order is asked.

use std::time::Duration;

use quorate::id::DecisionId;
use quorate::ledger::{DecisionRow, FeedbackOutcome, Store};

const YEAR: i64 = 365 * 86_400_000;
const NOW: i64 = 1_800_000_000_000;

fn row(id: &str, at: i64) -> DecisionRow {
    DecisionRow {
        id: id.into(),
        at,
        user: "ann".into(),
        lane: "normal".into(),
        task: None,
        asked: "auto".into(),
        chosen: Some("east/m1".into()),
        candidates: "[]".into(),
        attempts: "[]".into(),
        members: Some("[]".into()),
        outcome: "ok".into(),
        ttft_ms: None,
        total_ms: 1.0,
        queue_ms: 0.0,
        input_tokens: 1,
        output_tokens: 1,
        cached_tokens: None,
        cost: None,
        prompt: None,
        answer: None,
    }
}

#[test]
fn a_ledger_whose_clock_steps_back_keeps_every_row_in_the_order_it_came() {
    let mut store = Store::in_memory().unwrap();
    let before: Vec<DecisionRow> = (0..100)
        .map(|n| row(&format!("a{n:03}"), NOW + n))
        .collect();
    let after: Vec<DecisionRow> = (0..100)
        .map(|n| row(&format!("b{n:03}"), NOW - YEAR + n))
        .collect();
    store.append(&before).unwrap();
    store.append(&after).unwrap();

    let (recent, damaged) = store.recent(150).unwrap();
    let newest_first: Vec<&DecisionRow> = after
        .iter()
        .rev()
        .chain(before.iter().rev())
        .take(150)
        .collect();
    assert_eq!(recent.iter().collect::<Vec<_>>(), newest_first);
    assert_eq!(damaged, 0);
    assert_eq!(store.ensembles(1000, 0).unwrap().len(), 200);

    // Rows of a time that has not come are kept, and still no more than max_rows of them.
    let month = Duration::from_secs(30 * 86_400);
    assert_eq!(store.prune(month, 1000, NOW - YEAR + 100).unwrap(), 0);
    assert_eq!(store.prune(month, 150, NOW - YEAR + 100).unwrap(), 50);
    assert_eq!(store.recent(1000).unwrap().0.len(), 150);
}

#[test]
fn a_judgement_from_before_its_decision_counts_once_like_any_other() {
    let mut store = Store::in_memory().unwrap();
    store.append(&[row("a", NOW)]).unwrap();
    let id = DecisionId::from("a");
    let mut judge = |score, source, at| {
        store
            .record_feedback(&id, score, None, source, at, true)
            .unwrap()
    };
    assert_eq!(judge(1.0, "ann", NOW + 5), FeedbackOutcome::Recorded);
    assert_eq!(judge(1.0, "ann", NOW - YEAR), FeedbackOutcome::Repeated);
    let changed = FeedbackOutcome::Changed { previous: 1.0 };
    assert_eq!(judge(0.5, "ann", NOW - YEAR), changed);
    assert_eq!(judge(0.0, "bob", NOW - YEAR), FeedbackOutcome::Recorded);
    assert_eq!(store.judged(1).unwrap()[0].1, Some(0.25));
}

#[test]
fn decisions_have_ids_of_their_own_whatever_the_clock_says() {
    // Time is only the beginning of an id: 74 of its bits are counted or drawn.
    let mut ids: Vec<DecisionId> = (0..10_000).map(|_| DecisionId::new()).collect();
    assert!(
        ids.is_sorted(),
        "within a process they also keep their order"
    );
    ids.dedup();
    assert_eq!(ids.len(), 10_000);
}
