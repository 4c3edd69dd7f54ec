//! A store of the first layout, which had everything in sled and no journal, becomes one of today's, once.
//!
//! Its rows are written into a journal beside it, which gets its name when it is whole; then the old files are moved aside. A
//! process that dies in between begins again, or only moves. Not here: what entries mean (`entry`).
//!
//! The old sums know a day's provider and a day's virtual key, and no model and no time of day: the new ones know of those days no
//! more than that.

use std::borrow::Cow;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::de::DeserializeOwned;
use sled::Db;

use super::disk::RealDisk;
use super::entry::{Carried, Entry};
use super::journal::{Journal, SEGMENT_BYTES};
use super::rows::read;
use super::sled::{JOURNAL, damaged, free_name, open_when_free, unreachable};
use super::{Rollup, keys};
use crate::error::{Error, Result};
use crate::money::Money;
use crate::store::told;

/// Entries of one commit.
const AT_ONCE: usize = 4096;
const UNFINISHED: &str = "journal.unfinished";
const ASIDE: &str = "before-journal";
const FORMAT_KEY: &[u8] = b"\0format";
const FORMAT: &[u8] = b"1";

/// Carries over what is in this directory, if it is of the first layout.
///
/// Errors: it can't be read or written; then the old files are as they were.
pub(super) fn over(dir: &Path) -> Result<()> {
    let there = |name: &str| dir.join(name).exists();
    if !there("db") {
        // Sled would begin a new store where its main file is gone; what is left of the old one says that it was there.
        let remains = there("conf") || there("perpetuo.commits");
        return if remains { Err(damaged(dir, "the file 'db' is missing; restore a backup")) } else { Ok(()) };
    }
    if !there(JOURNAL) {
        tracing::info!("the store is of an older layout; it is carried over");
        let unfinished = dir.join(UNFINISHED);
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(|error| unreachable(dir, &error))?;
        }
        let db = open_when_free(dir)?;
        write_journal(&db, dir, &unfinished)?;
        drop(db);
        // On disk before the old files lose their names.
        let named = fs::rename(&unfinished, dir.join(JOURNAL)).and_then(|()| fs::File::open(dir)?.sync_all());
        named.map_err(|error| unreachable(dir, &error))?;
    }
    move_aside(dir).map_err(|error| unreachable(dir, &error))
}

fn write_journal(db: &Db, dir: &Path, unfinished: &Path) -> Result<()> {
    match db.get(FORMAT_KEY).map_err(Error::internal)? {
        Some(format) if format == FORMAT => {}
        _ => return Err(damaged(dir, "its rows are of no known layout; restore a backup")),
    }
    let disk = RealDisk::new(unfinished.to_owned()).map_err(|error| unreachable(dir, &error))?;
    let journal = Journal::open(Arc::new(disk), SEGMENT_BYTES, 1)?;
    carry(db, &journal, b'w', |_, value| Ok(Entry::Workspace(owned(value)?)))?;
    carry(db, &journal, b'c', |_, value| Ok(Entry::Credential(owned(value)?)))?;
    carry(db, &journal, b'k', |_, value| Ok(Entry::Key(owned(value)?)))?;
    carry(db, &journal, b'r', |key, value| sums(key, read(value)?, true))?;
    carry(db, &journal, b's', |key, value| {
        sums(key, Rollup { cost: read::<Money>(value)?, ..Rollup::default() }, false)
    })?;
    carry(db, &journal, b'l', |_, value| Ok(Entry::Logged(owned(value)?)))
}

/// Writes the rows of a kind as entries.
fn carry(db: &Db, journal: &Journal, kind: u8, entry: impl Fn(&[u8], &[u8]) -> Result<Entry<'static>>) -> Result<()> {
    let mut entries = Vec::new();
    for row in db.range(keys::all(vec![kind])) {
        let (key, value) = row.map_err(Error::internal)?;
        entries.push(entry(&key, &value)?);
        if entries.len() == AT_ONCE {
            journal.commit(&entries)?;
            entries.clear();
        }
    }
    if entries.is_empty() { Ok(()) } else { journal.commit(&entries).map(|_| ()) }
}

fn owned<T: DeserializeOwned + Clone>(value: &[u8]) -> Result<Cow<'static, T>> {
    read(value).map(Cow::Owned)
}

/// The sum of a day: workspace, day as a text, and what it is of.
fn sums(key: &[u8], sums: Rollup, of_provider: bool) -> Result<Entry<'static>> {
    let text = std::str::from_utf8(key).map_err(Error::internal)?;
    let mut parts = text.get(1..).unwrap_or_default().split('\0').map(str::to_owned);
    let (Some(workspace), Some(day), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(told("a sum's key can't be read"));
    };
    let day: Date = day.parse().map_err(Error::internal)?;
    let day = Timestamp::from_second(keys::midnight(day)?).map_err(Error::internal)?;
    let (provider, key) = if of_provider { (Some(name), None) } else { (None, Some(name)) };
    Ok(Entry::Carried(Box::new(Carried { workspace, day, provider, key, sums })))
}

/// Moves the old layout's files into a directory of their own. The one that tells it is there goes last.
fn move_aside(dir: &Path) -> std::io::Result<()> {
    let aside = free_name(dir, ASIDE);
    fs::create_dir(&aside)?;
    let mut names: Vec<String> = fs::read_dir(dir)?
        .map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()))
        .collect::<std::io::Result<_>>()?;
    names.retain(|name| {
        matches!(name.as_str(), "conf" | "db" | "blobs" | "perpetuo.commits") || name.starts_with("snap.")
    });
    names.sort_unstable_by_key(|name| name == "db");
    names.iter().try_for_each(|name| fs::rename(dir.join(name), aside.join(name)))
}
