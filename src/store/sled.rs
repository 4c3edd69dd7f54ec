//! The store on disk: the journal in `journal/`, the sums in `sums/`, tenants in sled in `state/`.
//!
//! Not here: what a store does (`ledger`), how a store of an older layout is carried over (`carry`, `convert`), how one is checked
//! (`verify`) and made anew (`rebuild`). Invariants: one process at a time; nothing that holds data is deleted or begun anew.
//!
//! Sled drops what it can't read at the end of its log and says nothing. The journal gives that again at the next opening.

use std::fs::{DirBuilder, File, TryLockError};
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sled::{Batch, Db};

use super::disk::{Disk, RealDisk};
use super::journal::{Journal, SEGMENT_BYTES};
use super::ledger::Ledger;
use super::rows::{Change, Rows, Visit};
use super::sums::Sums;
use super::{carry, convert, rebuild, tenants};
use crate::error::{Error, ErrorKind, Result};

/// The parts of a store's directory.
pub(super) const JOURNAL: &str = "journal";
pub(super) const STATE: &str = "state";
pub(super) const SUMS: &str = "sums";
const LOCK: &str = "lock";
/// Waits for the lock: a process that ends may hold it for a moment, and so may sled's threads.
const LOCK_TRIES: u32 = 40;
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// Memory that sled may keep pages in; its own default of a gigabyte would make the gateway grow with its ledger.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// A store in a directory.
pub type SledStore = Ledger<SledRows>;

impl SledStore {
    /// Opens the store in this directory, or makes it where there is none. Waits two seconds for another process to leave.
    ///
    /// Errors: `Internal`, with a text for the operator: the directory is in use by another process, can't be read or
    /// written, is damaged, or was written by a newer version. Nothing is deleted or begun anew.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_with(dir, SEGMENT_BYTES)
    }

    /// The same with segments of another size.
    pub(super) fn open_with(dir: &Path, segment_bytes: u64) -> Result<Self> {
        let lock = lock(dir)?;
        carry::over(dir)?;
        rebuild::finish(dir)?;
        let disk = disk(dir, JOURNAL)?;
        let names = disk.list().map_err(|error| unreachable(dir, &error))?;
        let has_journal = names.iter().any(|name| name.ends_with(".journal"));
        let there = |part: &str| dir.join(part).is_dir();
        match (has_journal, there(STATE)) {
            (true, false) => {
                tracing::warn!("the store's tenants are missing; they are made anew from the journal");
                rebuild::make(dir)?;
            }
            (false, true) => return Err(damaged(dir, "its journal is missing; restore it from a backup")),
            _ => {}
        }
        let had_rows = there(STATE);
        let mut rows = SledRows::open(&dir.join(STATE))?;
        if tenants::has_sums(&rows)? {
            convert::over(dir, rows)?;
            rows = SledRows::open(&dir.join(STATE))?;
        }
        if had_rows && !tenants::is_begun(&rows)? {
            return Err(damaged(dir, "its tenants are gone"));
        }
        if has_journal && !there(SUMS) {
            drop(rows);
            tracing::warn!("the store's sums are missing; they are made anew from the journal");
            rebuild::make(dir)?;
            rows = SledRows::open(&dir.join(STATE))?;
        }
        rows.lock = Some(lock);
        let sums = Sums::open(self::disk(dir, SUMS)?).map_err(|error| damaged(dir, error.message()))?;
        let journal = Journal::open(disk, segment_bytes, 1)?;
        Self::over(rows, sums, journal)
    }
}

/// The directory of a part of the store.
pub(super) fn disk(dir: &Path, part: &str) -> Result<Arc<dyn Disk>> {
    Ok(Arc::new(RealDisk::new(dir.join(part)).map_err(|error| unreachable(dir, &error))?))
}

/// Rows in sled.
pub struct SledRows {
    db: Db,
    /// Keeps other processes out, longer than sled's own lock does; none where the caller does.
    lock: Option<File>,
}

impl SledRows {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        Ok(Self { db: open_when_free(dir)?, lock: None })
    }
}

impl Rows for SledRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.db.get(key).map_err(Error::internal)?.map(|value| value.to_vec()))
    }

    fn scan(&self, range: Range<Vec<u8>>, visit: Visit<'_>) -> Result<()> {
        if range.start >= range.end {
            return Ok(());
        }
        for row in self.db.range(range) {
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
        self.db.apply_batch(batch).map_err(Error::internal)
    }

    fn flush(&self) -> Result<()> {
        self.db.flush().map(|_| ()).map_err(Error::internal)
    }
}

/// Takes the store for this process, until the file is dropped.
pub(super) fn lock(dir: &Path) -> Result<File> {
    // What lies there is for its owner alone: what was asked and what it cost, and sealed keys.
    let mut private = DirBuilder::new();
    private.recursive(true).mode(0o700).create(dir).map_err(|error| unreachable(dir, &error))?;
    let open = || File::options().write(true).create(true).truncate(false).open(dir.join(LOCK));
    let file = open().map_err(|error| unreachable(dir, &error))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
            Err(TryLockError::Error(error)) => return Err(unreachable(dir, &error)),
        }
    }
    Err(in_use(dir, &"the lock is taken"))
}

/// Opens sled's directory, and never begins it anew where it was before.
pub(super) fn open_when_free(dir: &Path) -> Result<Db> {
    if dir.join("conf").exists() && !dir.join("db").exists() {
        return Err(damaged(dir, "the file 'db' is missing"));
    }
    let mut tries = 0;
    loop {
        let config = sled::Config::new().path(dir).flush_every_ms(None).cache_capacity(CACHE_BYTES);
        // A damaged store can make sled panic; the operator shall read what to do instead.
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(error)) if is_locked(&error) && tries == LOCK_TRIES => return Err(in_use(dir, &error)),
            Ok(Err(error)) if is_locked(&error) => tries += 1,
            Ok(Err(error @ sled::Error::Io(_))) => return Err(unreachable(dir, &error)),
            Ok(Err(error)) => return Err(damaged(dir, error)),
            Err(_) => return Err(damaged(dir, "sled panicked")),
        }
        std::thread::sleep(LOCK_WAIT);
    }
}

/// A name beside this one that is free.
pub(super) fn free_name(dir: &Path, name: &str) -> PathBuf {
    let mut number = 1;
    loop {
        let path = dir.join(format!("{name}-{number}"));
        if !path.exists() {
            return path;
        }
        number += 1;
    }
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("acquire lock"))
}

fn in_use(dir: &Path, cause: &dyn std::fmt::Display) -> Error {
    let text =
        format!("The store at {} is in use by another process; stop it, or choose another directory.", dir.display());
    Error::new(ErrorKind::Internal, text).with_cause(cause)
}

pub(super) fn unreachable(dir: &Path, cause: &dyn std::fmt::Display) -> Error {
    let text = format!(
        "The store at {} can't be opened: {cause}. Make the directory readable and writable for this user.",
        dir.display()
    );
    Error::new(ErrorKind::Internal, text).with_cause(cause)
}

pub(super) fn damaged(dir: &Path, cause: impl std::fmt::Display) -> Error {
    let text = format!(
        "The store at {} is damaged: {cause}. Nothing was begun anew. `perpetuo store verify` tells what is lost; \
         `perpetuo store rebuild` makes everything anew that the journal has, and keeps the old files.",
        dir.display()
    );
    Error::new(ErrorKind::Internal, text).with_cause(cause)
}
