//! Tenants, as the journal says they are, in rows: workspaces, provider credentials, virtual keys.
//!
//! Not here: the order in which entries come (`ledger`). Invariants: entries are applied in order; applying some of them again
//! from any point on leads to the same rows; `through` is written after everything that it promises.

use std::ops::ControlFlow;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use serde::de::DeserializeOwned;

use super::entry::Entry;
use super::rows::{Change, Rows, read, write};
use super::{Tenancy, keys};
use crate::error::{Error, Result};
use crate::store::told;

/// The number of the last entry that is in the rows. Keys of the store itself begin with a zero byte, which is no kind.
pub(super) const THROUGH: &[u8] = b"\0through";
/// The layout of the rows.
const FORMAT_KEY: &[u8] = b"\0format";
const FORMAT: &[u8] = b"3";
/// The layout of rows with sums among them.
const WITH_SUMS: &[u8] = b"2";

/// Tenants in some rows.
pub(super) struct Tenants<R> {
    rows: R,
    /// The number of the last entry that was applied.
    through: RwLock<u64>,
}

impl<R: Rows> Tenants<R> {
    /// Over rows that are of this layout, or empty.
    ///
    /// Errors: another layout.
    pub(super) fn open(rows: R) -> Result<Self> {
        match rows.get(FORMAT_KEY)? {
            None => rows.apply(vec![(FORMAT_KEY.to_vec(), Some(FORMAT.to_vec()))])?,
            Some(format) if format == FORMAT => {}
            Some(_) => return Err(told("its rows were written by a newer version; use that version")),
        }
        let through = RwLock::new(through(&rows)?);
        Ok(Self { rows, through })
    }

    /// Over rows that are as of this entry.
    pub(super) fn open_at(rows: R, through: u64) -> Result<Self> {
        rows.apply(vec![promise(through)])?;
        Self::open(rows)
    }

    /// The number of the last entry that was applied.
    pub(super) fn through(&self) -> u64 {
        *self.through.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) const fn rows(&self) -> &R {
        &self.rows
    }

    /// Applies an entry. What is applied already is passed over.
    pub(super) fn apply(&self, number: u64, entry: &Entry<'_>) -> Result<()> {
        let mut through = self.writing();
        if number <= *through {
            return Ok(());
        }
        let mut changes = self.changes(entry)?;
        if !changes.is_empty() {
            changes.push(promise(number));
            self.rows.apply(changes)?;
        }
        *through = if let Entry::Gap(last) = entry { *last } else { number };
        Ok(())
    }

    fn writing(&self) -> RwLockWriteGuard<'_, u64> {
        self.through.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn changes(&self, entry: &Entry<'_>) -> Result<Vec<Change>> {
        let change = match entry {
            Entry::Workspace(record) => (keys::tenant(keys::WORKSPACE, &record.id, "")?, Some(write(record)?)),
            Entry::Credential(record) => {
                (keys::tenant(keys::CREDENTIAL, &record.workspace, &record.id)?, Some(write(record)?))
            }
            Entry::Key(record) => (keys::tenant(keys::KEY, &record.workspace, &record.id)?, Some(write(record)?)),
            Entry::WorkspaceDeleted(id) => return self.all_of(id),
            Entry::CredentialDeleted(owned) => (keys::tenant(keys::CREDENTIAL, &owned.workspace, &owned.id)?, None),
            Entry::KeyDeleted(owned) => (keys::tenant(keys::KEY, &owned.workspace, &owned.id)?, None),
            _ => return Ok(Vec::new()),
        };
        Ok(vec![change])
    }

    /// The removal of a workspace with its credentials and keys.
    fn all_of(&self, workspace: &str) -> Result<Vec<Change>> {
        let mut changes = vec![(keys::tenant(keys::WORKSPACE, workspace, "")?, None)];
        for kind in [keys::CREDENTIAL, keys::KEY] {
            self.rows.scan(keys::all(keys::prefix(kind, workspace)?), &mut |key, _| {
                changes.push((key.to_vec(), None));
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(changes)
    }

    /// Brings everything to the disk, with the promise that it is there.
    pub(super) fn flush(&self) -> Result<()> {
        let through = self.through();
        self.rows.apply(vec![promise(through)])?;
        self.rows.flush()
    }

    /// Every tenant.
    pub(super) fn tenancy(&self) -> Result<Tenancy> {
        let _unchanged = self.through.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Tenancy {
            workspaces: self.records(keys::WORKSPACE)?,
            credentials: self.records(keys::CREDENTIAL)?,
            keys: self.records(keys::KEY)?,
        })
    }

    fn records<T: DeserializeOwned>(&self, kind: u8) -> Result<Vec<T>> {
        let mut found = Vec::new();
        self.rows.scan(keys::all(vec![kind]), &mut |_, value| {
            found.push(read(value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }
}

/// Whether these rows were ever opened.
pub(super) fn is_begun(rows: &dyn Rows) -> Result<bool> {
    Ok(rows.get(FORMAT_KEY)?.is_some())
}

/// Whether these rows have sums among them, as an older version wrote them.
pub(super) fn has_sums(rows: &dyn Rows) -> Result<bool> {
    Ok(rows.get(FORMAT_KEY)?.is_some_and(|format| format == WITH_SUMS))
}

/// The number of the last entry that is in these rows.
pub(super) fn through(rows: &dyn Rows) -> Result<u64> {
    rows.get(THROUGH)?.map_or(Ok(0), |digits| String::from_utf8_lossy(&digits).parse().map_err(Error::internal))
}

fn promise(through: u64) -> Change {
    (THROUGH.to_vec(), Some(through.to_string().into_bytes()))
}
