//! Saved states: the learned state as it was, to go back to.

use rusqlite::params;
use serde::Serialize;

use super::{Store, StoreError};

/// At most this many states are kept, the latest.
const KEPT: usize = 8;
/// At most this many bytes of documents are kept; the oldest go first.
const KEPT_BYTES: usize = 64 << 20;

/// A state that was saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Saved {
    /// What identifies it: 64 hexadecimal digits.
    pub digest: String,
    /// When it was saved last, in Unix milliseconds.
    pub at: i64,
    /// What it was saved for.
    pub why: String,
}

impl Store {
    /// Keeps the document of the state with this digest, saved at the Unix millisecond `at`. One that is kept
    /// already is renewed. The latest 8 stay, and no more than 64 MiB of them, this one always included.
    pub fn save_state(
        &mut self,
        digest: &str,
        at: i64,
        why: &str,
        document: &str,
    ) -> Result<(), StoreError> {
        if document.len() > KEPT_BYTES {
            return Err(StoreError::StateSize {
                bytes: document.len(),
                most: KEPT_BYTES,
            });
        }
        let tx = self.conn.transaction()?;
        tx.execute(
            "INSERT OR REPLACE INTO states (digest, at, why, document) VALUES (?1, ?2, ?3, ?4)",
            params![digest, at, why, document],
        )?;
        // The new one first whatever the clock says, which may have been set back.
        let mut select = tx.prepare(
            "SELECT digest, octet_length(document) FROM states ORDER BY digest = ?1 DESC, at DESC, digest",
        )?;
        let sizes = select.query_map([digest], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })?;
        let mut bytes = 0;
        let mut gone = Vec::new();
        for (rank, size) in sizes.enumerate() {
            let (digest, size) = size?;
            bytes += usize::try_from(size).unwrap_or(0);
            if rank >= KEPT || bytes > KEPT_BYTES {
                gone.push(digest);
            }
        }
        drop(select);
        for digest in gone {
            tx.execute("DELETE FROM states WHERE digest = ?1", [digest])?;
        }
        Ok(tx.commit()?)
    }

    /// The saved states, the latest first.
    pub fn states(&self) -> Result<Vec<Saved>, StoreError> {
        let mut select = self
            .conn
            .prepare_cached("SELECT digest, at, why FROM states ORDER BY at DESC, digest")?;
        let saved = select.query_map([], |row| {
            Ok(Saved {
                digest: row.get(0)?,
                at: row.get(1)?,
                why: row.get(2)?,
            })
        })?;
        Ok(saved.collect::<Result<_, _>>()?)
    }

    /// The document of the saved state whose digest begins with `prefix`, if there is one. That it is what was
    /// saved shows its own digest, when it is read.
    ///
    /// An error names the candidates if there are several.
    pub fn state(&self, prefix: &str) -> Result<Option<String>, StoreError> {
        if prefix.is_empty() {
            return Ok(None);
        }
        let prefix = prefix.to_ascii_lowercase();
        let mut candidates = self.states()?;
        candidates.retain(|saved| saved.digest.starts_with(&prefix));
        match candidates.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(self.conn.query_row(
                "SELECT document FROM states WHERE digest = ?1",
                [&one.digest],
                |row| row.get(0),
            )?)),
            several => Err(StoreError::Ambiguous {
                prefix,
                candidates: several.iter().map(|saved| saved.digest.clone()).collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(n: usize) -> String {
        format!("{n:08x}").repeat(8)
    }

    fn kept(store: &Store) -> Vec<String> {
        let states = store.states().expect("readable");
        states.into_iter().map(|saved| saved.digest).collect()
    }

    #[test]
    fn a_state_is_found_by_the_beginning_of_its_digest() {
        let mut store = Store::in_memory().expect("opens");
        let (one, other) = ("ab12".repeat(16), "ab99".repeat(16));
        store.save_state(&one, 5, "import", "one").expect("written");
        store
            .save_state(&other, 6, "pin", "other")
            .expect("written");
        let found = |prefix: &str| store.state(prefix).expect("one at most");
        assert_eq!(found("ab12"), Some("one".into()));
        assert_eq!(found("AB99AB"), Some("other".into()));
        assert_eq!(found(&one), Some("one".into()));
        for none in ["", "ab13", "%", "ab1_", &(one.clone() + "0")] {
            assert_eq!(found(none), None, "{none}");
        }
        let error = store.state("ab").expect_err("two begin so");
        let told = error.to_string();
        assert!(told.contains(&one) && told.contains(&other), "{told}");
        let latest = Saved {
            digest: other,
            at: 6,
            why: "pin".into(),
        };
        assert_eq!(store.states().expect("readable")[0], latest);
    }

    #[test]
    fn a_state_saved_again_is_kept_once_and_counts_as_new() {
        let mut store = Store::in_memory().expect("opens");
        for (n, at) in [(1, 10), (2, 20), (1, 30)] {
            store
                .save_state(&digest(n), at, "x", "doc")
                .expect("written");
        }
        assert_eq!(kept(&store), [digest(1), digest(2)]);
    }

    #[test]
    fn the_latest_eight_are_kept() {
        let mut store = Store::in_memory().expect("opens");
        for n in 0..20 {
            store
                .save_state(&digest(n), n as i64, "x", "doc")
                .expect("written");
        }
        let latest: Vec<String> = (12..20).rev().map(digest).collect();
        assert_eq!(kept(&store), latest);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_cost_the_state_that_is_saved() {
        let mut store = Store::in_memory().expect("opens");
        for n in 0..9 {
            store
                .save_state(&digest(n), -(n as i64), "x", "doc")
                .expect("written");
        }
        let kept = kept(&store);
        assert_eq!(kept.len(), KEPT);
        assert!(kept.contains(&digest(8)) && !kept.contains(&digest(7)));
    }

    #[test]
    fn documents_take_bounded_room() {
        let mut store = Store::in_memory().expect("opens");
        let document = "x".repeat(KEPT_BYTES / 2);
        for n in 0..3 {
            store
                .save_state(&digest(n), n as i64, "x", &document)
                .expect("written");
        }
        assert_eq!(kept(&store), [digest(2), digest(1)]);
        let whole = "x".repeat(KEPT_BYTES + 1);
        let refused = store.save_state(&digest(9), 9, "x", &whole);
        assert!(matches!(refused, Err(StoreError::StateSize { .. })));
        assert_eq!(kept(&store).len(), 2);
    }

    #[test]
    fn saved_states_outlive_the_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ledger.db");
        let (mut store, _) = Store::open(&path).expect("opens");
        store
            .save_state(&digest(1), 1, "x", "doc ✓\0")
            .expect("written");
        drop(store);
        let (store, warnings) = Store::open(&path).expect("opens");
        assert_eq!(warnings, Vec::<String>::new());
        assert_eq!(
            store.state(&digest(1)).expect("readable"),
            Some("doc ✓\0".into())
        );
    }
}
