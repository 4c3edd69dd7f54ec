//! The store in memory: for tests, and for embedders that want nothing on disk. It ends with the process.
//!
//! Not here: what a store does with its rows (`rows`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError, RwLock};

use super::rows::{Change, Order, Rows, Visit};
use crate::error::Result;

/// A store that forgets everything when it is dropped.
#[derive(Default)]
pub struct MemoryStore {
    rows: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
    writing: Mutex<()>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Rows for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.rows.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn scan(&self, range: Range<Vec<u8>>, order: Order, visit: Visit<'_>) -> Result<()> {
        // A map refuses a range that ends before it begins; it holds nothing.
        if range.start >= range.end {
            return Ok(());
        }
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        let mut rows = rows.range(range);
        while let Some((key, value)) = match order {
            Order::Ascending => rows.next(),
            Order::Descending => rows.next_back(),
        } {
            if visit(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<()> {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in changes {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        Ok(())
    }

    fn writing(&self) -> &Mutex<()> {
        &self.writing
    }
}
