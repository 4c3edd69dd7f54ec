//! The store in memory: for tests, and for embedders that want nothing on disk. It ends with the process.
//!
//! Not here: what a store does (`ledger`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use super::disk::MemoryDisk;
use super::journal::{Journal, SEGMENT_BYTES};
use super::ledger::Ledger;
use super::rows::{Change, Rows, Visit};
use super::sums::Sums;
use crate::error::Result;

/// A store that forgets everything when it is dropped.
pub type MemoryStore = Ledger<MemoryRows>;

/// Rows in memory.
#[derive(Default)]
pub struct MemoryRows(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Default for MemoryStore {
    #[expect(clippy::expect_used, reason = "memory can't fail")]
    fn default() -> Self {
        let journal = Journal::open(Arc::new(MemoryDisk::default()), SEGMENT_BYTES, 1);
        let opened = journal.and_then(|journal| {
            let sums = Sums::open(Arc::new(MemoryDisk::default()))?;
            Self::over(MemoryRows::default(), sums, journal)
        });
        opened.expect("an empty store opens")
    }
}

impl Rows for MemoryRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn scan(&self, range: Range<Vec<u8>>, visit: Visit<'_>) -> Result<()> {
        // A map refuses a range that ends before it begins; it holds nothing.
        if range.start >= range.end {
            return Ok(());
        }
        for (key, value) in self.0.read().unwrap_or_else(PoisonError::into_inner).range(range) {
            if visit(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<()> {
        let mut rows = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in changes {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}
