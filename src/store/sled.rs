//! The store on disk, in sled.
//!
//! Not here: what a store does with its rows (`rows`). Invariants: one process at a time; a directory that can't be opened
//! is left as it is; a change is one batch, applied whole and flushed before the call returns.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;

use sled::{Batch, Db};

use super::rows::{Change, Order, Rows, Visit};
use crate::error::{Error, ErrorKind, Result};

/// The layout of the rows. A newer one is refused.
const FORMAT: &[u8] = b"1";
/// Where the layout is written: in the store, and in a file beside it once the store has it.
const FORMAT_KEY: &[u8] = b"format";
const FORMAT_FILE: &str = "perpetuo.format";

/// A store in a directory.
pub struct SledStore {
    db: Db,
    writing: Mutex<()>,
}

impl SledStore {
    /// Opens the store in this directory, or makes it where there is none.
    ///
    /// Errors: `Internal`, with a text for the operator: the directory is in use by another process, can't be read or
    /// written, is damaged, or was written by a newer version. Nothing is deleted or replaced.
    pub fn open(dir: &Path) -> Result<Self> {
        refuse_remains(dir)?;
        let config = sled::Config::new().path(dir).flush_every_ms(None);
        // A damaged store can make sled panic; the operator shall read what to do instead.
        let db = match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => db,
            Ok(Err(error)) if is_locked(&error) => return Err(in_use(dir, &error)),
            Ok(Err(error @ sled::Error::Io(_))) => return Err(unreachable(dir, &error)),
            Ok(Err(error)) => return Err(damaged(dir, error)),
            Err(_) => return Err(damaged(dir, "sled panicked")),
        };
        check_format(&db, dir)?;
        Ok(Self { db, writing: Mutex::new(()) })
    }
}

impl Rows for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.db.get(key).map_err(Error::internal)?.map(|value| value.to_vec()))
    }

    fn scan(&self, range: Range<Vec<u8>>, order: Order, visit: Visit<'_>) -> Result<()> {
        if range.start >= range.end {
            return Ok(());
        }
        let mut rows = self.db.range(range);
        while let Some(row) = match order {
            Order::Ascending => rows.next(),
            Order::Descending => rows.next_back(),
        } {
            let (key, value) = row.map_err(Error::internal)?;
            if visit(&key, &value)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>) -> Result<()> {
        let mut batch = Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.db.apply_batch(batch).map_err(Error::internal)?;
        self.db.flush().map_err(Error::internal)?;
        Ok(())
    }

    fn writing(&self) -> &Mutex<()> {
        &self.writing
    }
}

/// Sled would begin a new store where its main file is gone; what is left of the old one says that it was there.
fn refuse_remains(dir: &Path) -> Result<()> {
    let is_there = |name: &str| dir.join(name).exists();
    if (is_there(FORMAT_FILE) || is_there("conf")) && !is_there("db") {
        return Err(damaged(dir, "the file 'db' is missing"));
    }
    Ok(())
}

/// Checks the layout, and that a store that had one still has it: sled may recover a damaged store as an empty one.
fn check_format(db: &Db, dir: &Path) -> Result<()> {
    let file = dir.join(FORMAT_FILE);
    match db.get(FORMAT_KEY).map_err(|error| damaged(dir, error))? {
        Some(format) if format == FORMAT => {}
        Some(_) => {
            let text = format!("The store at {} was written by a newer version; use that version.", dir.display());
            return Err(Error::new(ErrorKind::Internal, text));
        }
        None if file.exists() => return Err(damaged(dir, "its records are gone")),
        None => {
            let write = || db.insert(FORMAT_KEY, FORMAT).and_then(|_| db.flush());
            write().map_err(|error| unreachable(dir, &error))?;
        }
    }
    if file.exists() { Ok(()) } else { std::fs::write(&file, FORMAT).map_err(|error| unreachable(dir, &error)) }
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("acquire lock"))
}

fn in_use(dir: &Path, cause: &dyn std::fmt::Display) -> Error {
    let text =
        format!("The store at {} is in use by another process; stop it, or choose another directory.", dir.display());
    Error::new(ErrorKind::Internal, text).with_cause(cause)
}

fn unreachable(dir: &Path, cause: &dyn std::fmt::Display) -> Error {
    let text = format!(
        "The store at {} can't be opened: {cause}. Make the directory readable and writable for this user.",
        dir.display()
    );
    Error::new(ErrorKind::Internal, text).with_cause(cause)
}

fn damaged(dir: &Path, cause: impl std::fmt::Display) -> Error {
    let text = format!(
        "The store at {} is damaged and was left as it is: {cause}. Copy the directory away for inspection, then restore a \
         backup, or start with an empty directory: workspaces, keys and the ledger begin anew there.",
        dir.display()
    );
    Error::new(ErrorKind::Internal, text).with_cause(cause)
}
