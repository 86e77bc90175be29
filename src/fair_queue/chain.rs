//! A queue whose elements can leave from anywhere.

use std::collections::HashMap;
use std::hash::Hash;

/// A doubly linked list of distinct keys, its links kept in a hash map: every operation is O(1), and
/// what leaves leaves nothing behind.
#[derive(Debug)]
pub(super) struct Chain<K> {
    links: HashMap<K, Link<K>>,
    head: Option<K>,
    tail: Option<K>,
}

#[derive(Debug)]
struct Link<K> {
    before: Option<K>,
    after: Option<K>,
}

// Not derived: that would ask for `K: Default`.
impl<K> Default for Chain<K> {
    fn default() -> Self {
        Self {
            links: HashMap::new(),
            head: None,
            tail: None,
        }
    }
}

impl<K: Clone + Eq + Hash> Chain<K> {
    /// Appends `key`, which must not be in the chain.
    pub(super) fn push(&mut self, key: K) {
        debug_assert!(!self.contains(&key));
        let before = self.tail.replace(key.clone());
        match before
            .as_ref()
            .and_then(|before| self.links.get_mut(before))
        {
            Some(link) => link.after = Some(key.clone()),
            None => self.head = Some(key.clone()),
        }
        self.links.insert(
            key,
            Link {
                before,
                after: None,
            },
        );
    }

    /// Takes `key` out, wherever it is; nothing happens if it is not there.
    pub(super) fn remove(&mut self, key: &K) {
        let Some(Link { before, after }) = self.links.remove(key) else {
            return;
        };
        match before
            .as_ref()
            .and_then(|before| self.links.get_mut(before))
        {
            Some(link) => link.after = after.clone(),
            None => self.head = after.clone(),
        }
        match after.as_ref().and_then(|after| self.links.get_mut(after)) {
            Some(link) => link.before = before,
            None => self.tail = before,
        }
    }

    pub(super) fn front(&self) -> Option<&K> {
        self.head.as_ref()
    }

    pub(super) fn back(&self) -> Option<&K> {
        self.tail.as_ref()
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.links.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// From front to back.
    pub(super) fn iter(&self) -> impl Iterator<Item = &K> {
        std::iter::successors(self.head.as_ref(), |key| {
            self.links.get(key)?.after.as_ref()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_chain_behaves_as_a_deque_of_distinct_keys(
            ops in proptest::collection::vec((any::<bool>(), 0u8..8), 0..200),
        ) {
            let (mut chain, mut model) = (Chain::default(), VecDeque::new());
            for (push, key) in ops {
                if !push {
                    chain.remove(&key);
                    model.retain(|other| *other != key);
                } else if !chain.contains(&key) {
                    chain.push(key);
                    model.push_back(key);
                }
                prop_assert!(chain.iter().eq(model.iter()));
                prop_assert_eq!(chain.front(), model.front());
                prop_assert_eq!(chain.back(), model.back());
                prop_assert_eq!((chain.len(), chain.is_empty()), (model.len(), model.is_empty()));
            }
        }
    }
}
