//! Handles of series, kept by small numbers, so that a request looks up no label by its text; and their bound.

use std::hash::Hash;
use std::sync::{PoisonError, RwLock};

use hashbrown::HashMap;

/// Handles by key.
pub(super) struct Rows<K, V> {
    rows: RwLock<HashMap<K, V>>,
}

impl<K, V> Default for Rows<K, V> {
    fn default() -> Self {
        Self { rows: RwLock::default() }
    }
}

impl<K: Eq + Hash, V> Rows<K, V> {
    /// Uses the row of this key, which is made when there is room for it among so many; none when there is not.
    pub(super) fn with<R>(
        &self,
        key: K,
        room: usize,
        make: impl FnOnce() -> V,
        then: impl FnOnce(&V) -> R,
    ) -> Option<R> {
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.get(&key) {
            return Some(then(row));
        }
        // What has no room must not take the lock that others wait for.
        if rows.len() >= room {
            return None;
        }
        drop(rows);
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        Some(then(rows.entry(key).or_insert_with(make)))
    }
}
