//! The names that callers give to kinds of work of their own, and where evidence on them is kept.
//!
//! The first few topics have a row of their own beside the built-in kinds of task; what comes later is a
//! finer cluster within its kind, known by its hash.

use serde::{Deserialize, Serialize};

use super::ability::TASKS;
use super::chance::word;
use crate::query::TaskKind;

/// Rows that topics may have.
const ROWS: usize = TASKS - TaskKind::ALL.len();
/// The longest name of a topic, in bytes.
pub const LONGEST: usize = 64;

/// Where evidence on a query belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The row: a kind of task or a topic; `None` for neither.
    pub row: Option<usize>,
    /// The finer cluster, of a topic without a row.
    pub cluster: Option<u64>,
}

/// The topics that have a row, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Topics(Vec<String>);

impl Topics {
    /// Where evidence on a query of this kind and topic belongs. Does not change what is known.
    pub fn place(&self, kind: Option<TaskKind>, topic: Option<&str>) -> Place {
        let of_kind = kind.map(TaskKind::index);
        let Some(topic) = topic else {
            return Place {
                row: of_kind,
                cluster: None,
            };
        };
        match self.0.iter().position(|known| known == topic) {
            Some(at) => Place {
                row: Some(TaskKind::ALL.len() + at),
                cluster: None,
            },
            None => Place {
                row: of_kind,
                cluster: Some(word(&[topic.as_bytes()])),
            },
        }
    }

    /// Gives a topic a row if it has none and one is free; whether it did.
    pub fn learn(&mut self, topic: &str) -> bool {
        let new = self.0.len() < ROWS
            && (1..=LONGEST).contains(&topic.len())
            && !self.0.iter().any(|known| known == topic);
        if new {
            self.0.push(topic.to_owned());
        }
        new
    }

    /// Whether [`learn`](Self::learn) would change something.
    pub fn is_new(&self, topic: &str) -> bool {
        self.0.len() < ROWS && !self.0.iter().any(|known| known == topic)
    }

    /// Whether this can have come from learning.
    pub fn validate(&self) -> Result<(), String> {
        let mut seen = std::collections::HashSet::new();
        let sound = |name: &String| (1..=LONGEST).contains(&name.len());
        if self.0.len() > ROWS || !self.0.iter().all(|name| sound(name) && seen.insert(name)) {
            return Err(format!(
                "topics must be at most {ROWS} different names of 1 to {LONGEST} bytes"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_topics_have_rows_and_the_others_clusters_of_their_kind() {
        let mut topics = Topics::default();
        let kind = Some(TaskKind::Math);
        for at in 0..40 {
            topics.learn(&format!("t{at}"));
        }
        assert_eq!(topics.validate(), Ok(()));
        assert_eq!(topics.place(kind, Some("t0")).row, Some(16));
        assert_eq!(topics.place(kind, Some("t14")).row, Some(30));
        let late = topics.place(kind, Some("t15"));
        assert_eq!(late.row, Some(TaskKind::Math.index()));
        assert!(late.cluster.is_some() && late != topics.place(kind, Some("t16")));
        assert_eq!(topics.place(kind, None).cluster, None);
    }

    #[test]
    fn a_topic_is_learned_once_and_an_impossible_list_is_refused() {
        let mut topics = Topics::default();
        assert!(topics.is_new("a") && topics.learn("a") && !topics.learn("a"));
        assert!(!topics.learn(&"x".repeat(65)) && !topics.learn(""));
        assert!(Topics(vec!["a".into(), "a".into()]).validate().is_err());
        assert!(Topics(vec!["a".into(); 16]).validate().is_err());
    }
}
