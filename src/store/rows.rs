//! What rows are kept in: [`Rows`] is an ordered map of bytes, on disk (`sled`) or in memory.
//!
//! Not here: what is in the rows (`tenants`). Rows need not survive a crash: the journal has everything that they are made of.

use std::ops::{ControlFlow, Range};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::store::told;

/// A change: key, and the new value or none.
pub(super) type Change = (Vec<u8>, Option<Vec<u8>>);

/// Sees one row: key and value; says whether it wants to see more.
pub(super) type Visit<'v> = &'v mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>;

/// The same, of all rows.
pub(super) type Show<'s> = &'s mut dyn FnMut(&[u8], &[u8]) -> Result<()>;

/// An ordered map of bytes.
pub(super) trait Rows: Send + Sync {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Walks the rows of a range in order, its end excluded.
    fn scan(&self, range: Range<Vec<u8>>, visit: Visit<'_>) -> Result<()>;
    /// Makes changes; all of them or, after a crash, none.
    fn apply(&self, changes: Vec<Change>) -> Result<()>;
    /// Brings everything to the disk.
    fn flush(&self) -> Result<()>;
}

pub(super) fn write(record: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(Error::internal)
}

pub(super) fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|error| told(format!("a row of the store can't be read: {error}")))
}
