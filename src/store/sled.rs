//! The store on disk, in sled.
//!
//! Not here: what a store does with its rows (`rows`). Invariants: one process at a time; a change is one batch, applied
//! whole and flushed before the call returns; a store that lost a change it had promised is refused and never begun anew.
//!
//! Sled drops what it can't read at the end of its log and says nothing. So every change is numbered in the store, and the
//! newest number that was promised is written to a file beside it: a store that knows fewer has lost some.
//! That covers processes that die and ends of logs that are gone. A disk that changes bytes may still cost single rows unseen.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sled::{Batch, Db};

use super::rows::{Change, Order, Rows, Visit};
use crate::error::{Error, ErrorKind, Result};

/// The layout of the rows. A newer one is refused.
const FORMAT: &[u8] = b"1";
const FORMAT_KEY: &[u8] = b"\0format";
/// The number of the newest change, in decimal digits.
const COMMITS_KEY: &[u8] = b"\0commits";
/// The same number, of the newest change that was promised.
const COMMITS_FILE: &str = "perpetuo.commits";
/// Waits for the lock: sled's threads may hold it for a moment after a store was closed.
const LOCK_TRIES: u32 = 40;
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// Memory that sled may keep pages in; its own default of a gigabyte would make the gateway grow with its ledger.
const CACHE_BYTES: u64 = 32 * 1024 * 1024;

/// A store in a directory.
pub struct SledStore {
    db: Db,
    /// The number of the newest change; held while one is made.
    commits: Mutex<u64>,
    promised: File,
    writing: Mutex<()>,
}

impl SledStore {
    /// Opens the store in this directory, or makes it where there is none. Waits two seconds for another process to leave.
    ///
    /// Errors: `Internal`, with a text for the operator: the directory is in use by another process, can't be read or
    /// written, is damaged, lost changes, or was written by a newer version. Nothing is deleted or begun anew.
    pub fn open(dir: &Path) -> Result<Self> {
        refuse_remains(dir)?;
        let db = open_when_free(dir)?;
        let told = read_promise(dir)?;
        check_format(&db, dir, told.is_some())?;
        let commits = newest_change(&db).map_err(|error| damaged(dir, error))?;
        let lost = told.unwrap_or(0).saturating_sub(commits);
        if lost > 0 {
            return Err(damaged(
                dir,
                format!("its last {lost} changes are gone (to go on without them, delete {COMMITS_FILE})"),
            ));
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(dir.join(COMMITS_FILE));
        let promised = file.map_err(|error| unreachable(dir, &error))?;
        promise(&promised, commits).map_err(|error| unreachable(dir, &error))?;
        Ok(Self { db, commits: Mutex::new(commits), promised, writing: Mutex::new(()) })
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
        let mut commits = self.commits.lock().unwrap_or_else(PoisonError::into_inner);
        // A number is used once, even when its change fails half-way: it may have reached the disk.
        *commits += 1;
        let mut batch = Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.db.apply_batch(batch).map_err(Error::internal)?;
        // After the batch and not in it: a log that was cut anywhere inside of the batch has no such number.
        self.db.insert(COMMITS_KEY, commits.to_string().as_bytes()).map_err(Error::internal)?;
        self.db.flush().map_err(Error::internal)?;
        promise(&self.promised, *commits).map_err(Error::internal)
    }

    fn writing(&self) -> &Mutex<()> {
        &self.writing
    }
}

/// Sled would begin a new store where its main file is gone; what is left of the old one says that it was there.
fn refuse_remains(dir: &Path) -> Result<()> {
    let is_there = |name: &str| dir.join(name).exists();
    if (is_there(COMMITS_FILE) || is_there("conf")) && !is_there("db") {
        return Err(damaged(dir, "the file 'db' is missing"));
    }
    Ok(())
}

fn open_when_free(dir: &Path) -> Result<Db> {
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

/// Checks the layout, and that a store that had one still has it.
fn check_format(db: &Db, dir: &Path, had_one: bool) -> Result<()> {
    match db.get(FORMAT_KEY).map_err(|error| damaged(dir, error))? {
        Some(format) if format == FORMAT => Ok(()),
        Some(_) => {
            let text = format!("The store at {} was written by a newer version; use that version.", dir.display());
            Err(Error::new(ErrorKind::Internal, text))
        }
        None if had_one => Err(damaged(dir, "its records are gone")),
        None => {
            let write = || db.insert(FORMAT_KEY, FORMAT).and_then(|_| db.flush());
            write().map(|_| ()).map_err(|error| unreachable(dir, &error))
        }
    }
}

fn newest_change(db: &Db) -> Result<u64> {
    let number = db.get(COMMITS_KEY).map_err(Error::internal)?;
    number.map_or(Ok(0), |digits| String::from_utf8_lossy(&digits).parse().map_err(Error::internal))
}

/// The newest change that was promised; none when nothing ever was.
fn read_promise(dir: &Path) -> Result<Option<u64>> {
    match fs::read_to_string(dir.join(COMMITS_FILE)) {
        // It is made empty, and a process may end before it is filled.
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => text.trim_end().parse().map(Some).map_err(|_| damaged(dir, "perpetuo.commits holds no number")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreachable(dir, &error)),
    }
}

/// Of one length, so that a new number covers the old one whole. Not synced: after a power failure an old number promises
/// less, which refuses nothing.
fn promise(file: &File, commits: u64) -> io::Result<()> {
    file.write_all_at(format!("{commits:020}\n").as_bytes(), 0)
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
        "The store at {} is damaged: {cause}. Nothing was begun anew. Copy the directory away for inspection, then restore a \
         backup, or start with an empty directory: workspaces, keys and the ledger begin anew there.",
        dir.display()
    );
    Error::new(ErrorKind::Internal, text).with_cause(cause)
}
