//! What rows are kept in: [`Rows`] is an ordered map of bytes, on disk (`sled`) or in memory.
//!
//! Not here: what is in the rows (`state`). Rows need not survive a crash: the journal has everything that they are made of.

use std::ops::{ControlFlow, Range};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keys;
use crate::error::{Error, Result};
use crate::store::told;

/// Rows that are removed in one piece.
const REMOVED_AT_ONCE: usize = 1000;

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

/// The workspaces that have rows of this kind.
pub(super) fn workspaces(rows: &dyn Rows, kind: u8) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    let mut range = keys::all(vec![kind]);
    while let Some(key) = first(rows, range.clone())? {
        let name = String::from_utf8(keys::workspace(&key).to_vec()).map_err(Error::internal)?;
        range.start = keys::all(keys::prefix(kind, &name)?).end;
        found.push(name);
    }
    Ok(found)
}

fn first(rows: &dyn Rows, range: Range<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    let mut found = None;
    rows.scan(range, &mut |key, _| {
        found = Some(key.to_vec());
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// Removes the rows of a range, a thousand at a time.
pub(super) fn remove_all(rows: &dyn Rows, range: &Range<Vec<u8>>) -> Result<()> {
    loop {
        let mut changes: Vec<Change> = Vec::new();
        rows.scan(range.clone(), &mut |key, _| {
            changes.push((key.to_vec(), None));
            Ok(if changes.len() < REMOVED_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        if changes.is_empty() {
            return Ok(());
        }
        rows.apply(changes)?;
    }
}

pub(super) fn write(record: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(Error::internal)
}

pub(super) fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|error| told(format!("a row of the store can't be read: {error}")))
}
