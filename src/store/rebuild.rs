//! Makes everything anew that follows from the journal: tenants and sums.
//!
//! Where segments are gone, it begins with what there is of before: tenants with the newest checkpoint, sums with the runs that
//! begin before the journal does. Not here: the command line's words around it, and whether it is needed (`verify`).
//!
//! Invariants: nothing is deleted, what is replaced is left beside; what was made takes its place when all of it is on disk,
//! and a start finishes that if it was cut short.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::convert;
use super::disk::Disk;
use super::entry::Entry;
use super::journal::{checkpoint, repair};
use super::pruned::{PRUNED, Pruned};
use super::rows::Rows;
use super::sled::{JOURNAL, STATE, SUMS, SledRows, disk, free_name, lock, unreachable};
use super::sums::{Cover, Merged, Run, Stretch, Sums, Writing, cover};
use super::tenants::Tenants;
use super::verify::refuse_older;
use crate::error::{Error, ErrorKind, Result};
use crate::store::told;

pub(super) const UNFINISHED_STATE: &str = "state.unfinished";
pub(super) const UNFINISHED_SUMS: &str = "sums.unfinished";
/// What is made, what it is called once it is whole, and what it replaces.
const PARTS: [(&str, &str, &str); 2] =
    [(UNFINISHED_SUMS, "sums.rebuilt", SUMS), (UNFINISHED_STATE, "state.rebuilt", STATE)];
/// Rows that are gathered before they are written.
const GATHERED: usize = 20_000;

/// What a rebuild came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Entries that were applied, beside what there was of before.
    pub entries: u64,
    /// Segments that were damaged and written anew.
    pub mended: Vec<String>,
    /// Sums that are lost for good, in words.
    pub lost: Vec<String>,
    /// Where the old tenants and sums are now.
    pub aside: Vec<PathBuf>,
}

/// Makes tenants and sums anew, and mends the journal first where it is damaged.
///
/// Errors: it is in use, or what is left is not enough; then what there was is as it was.
pub fn rebuild(dir: &Path) -> Result<Rebuilt> {
    refuse_older(dir)?;
    let lock = lock(dir)?;
    finish(dir)?;
    let journal = disk(dir, JOURNAL)?;
    if journal.list().map_err(|error| unreachable(dir, &error))?.is_empty() {
        return Err(told("There is no journal to rebuild from; restore it from a backup."));
    }
    let mended = repair::salvage(&*journal)?;
    let rebuilt = make(dir)?;
    drop(lock);
    Ok(Rebuilt { mended, ..rebuilt })
}

/// Makes tenants and sums anew from a whole journal. The caller holds the store's lock.
pub(super) fn make(dir: &Path) -> Result<Rebuilt> {
    begin(dir)?;
    let mut rebuilt = make_unfinished(dir)?;
    rebuilt.aside = put_in_place(dir)?;
    Ok(rebuilt)
}

/// Clears away what an earlier try left.
pub(super) fn begin(dir: &Path) -> Result<()> {
    for (unfinished, ..) in PARTS {
        if dir.join(unfinished).exists() {
            fs::remove_dir_all(dir.join(unfinished)).map_err(|error| unreachable(dir, &error))?;
        }
    }
    Ok(())
}

/// Puts what was made in the place of what was there; says where that is now.
pub(super) fn put_in_place(dir: &Path) -> Result<Vec<PathBuf>> {
    for (unfinished, whole, _) in PARTS {
        let named = fs::rename(dir.join(unfinished), dir.join(whole)).and_then(|()| fs::File::open(dir)?.sync_all());
        named.map_err(|error| unreachable(dir, &error))?;
    }
    finish(dir)
}

/// The same, where it was begun.
pub(super) fn finish(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut replaced = Vec::new();
    for (_, whole, part) in PARTS.into_iter().filter(|(_, whole, _)| dir.join(whole).is_dir()) {
        let aside = dir.join(part).exists().then(|| free_name(dir, &format!("{part}-before")));
        swap(dir, whole, part, aside.as_deref()).map_err(|error| unreachable(dir, &error))?;
        replaced.extend(aside);
    }
    Ok(replaced)
}

fn swap(dir: &Path, whole: &str, part: &str, aside: Option<&Path>) -> std::io::Result<()> {
    if let Some(aside) = aside {
        fs::rename(dir.join(part), aside)?;
    }
    fs::rename(dir.join(whole), dir.join(part))?;
    fs::File::open(dir)?.sync_all()
}

fn make_unfinished(dir: &Path) -> Result<Rebuilt> {
    let journal = disk(dir, JOURNAL)?;
    let first = repair::first(&*journal)?.unwrap_or(1);
    let mut problems = Vec::new();
    let rows = SledRows::open(&dir.join(UNFINISHED_STATE))?;
    let (tenants, begins) = from_checkpoint(&*journal, rows, &mut problems)?;
    if begins + 1 < first {
        problems.push(format!("the tenants before entry {first} are in no checkpoint"));
    }
    let (sums, lost) = sums_before(dir, &journal, first, &mut problems)?;
    refuse(&problems)?;
    let pruned = known_pruned(dir, tenants.rows())?;
    tenants.rows().apply(vec![(PRUNED.to_vec(), Some(super::rows::write(&pruned)?))])?;
    let had = begins.min(sums.through());
    let mut entries = 0;
    let found = repair::inspect(&*journal, &mut |number, entry| {
        entries += u64::from(number > had && !matches!(entry, Entry::Gap(_)));
        tenants.apply(number, &entry)?;
        sums.apply(number, &entry)?;
        if sums.fill() > 0 { sums.fold(&pruned).and_then(|()| sums.gather(&pruned)) } else { Ok(()) }
    })?;
    refuse(&found.problems)?;
    sums.fold(&pruned)?;
    tenants.flush()?;
    Ok(Rebuilt { entries, lost, ..Rebuilt::default() })
}

fn refuse(problems: &[String]) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let text = format!("The store can't be made anew: {}. Restore a backup.", problems.join("; "));
    Err(Error::new(ErrorKind::Internal, text))
}

/// What was removed, as far as it can be known.
fn known_pruned(dir: &Path, made: &dyn Rows) -> Result<Pruned> {
    let from_checkpoint = Pruned::of(made)?;
    let is_there = dir.join(STATE).join("db").exists();
    let old = is_there.then(|| SledRows::open(&dir.join(STATE)).and_then(|rows| Pruned::of(&rows)));
    Ok(old.and_then(Result::ok).map_or(from_checkpoint, |old| old.or(from_checkpoint)))
}

/// Sums in the directory of what is made: of the entries before the journal's first one, as far as there are any; and what of
/// them could not be read.
fn sums_before(
    dir: &Path,
    journal: &Arc<dyn Disk>,
    first: u64,
    problems: &mut Vec<String>,
) -> Result<(Sums, Vec<String>)> {
    let made = disk(dir, UNFINISHED_SUMS)?;
    let mut lost = Vec::new();
    if first > 1 {
        let there = disk(dir, SUMS)?;
        let Cover { runs, .. } = cover(&*there)?;
        let before: Vec<Stretch> = runs.into_iter().filter(|of| of.first < first).collect();
        let opened = before.iter().map(|of| Run::open_or_salvage(&*there, *of, &mut lost).map(Arc::new));
        let opened: Vec<Arc<Run>> = opened.collect::<Result<_>>()?;
        match before.last().filter(|of| of.last + 1 >= first) {
            Some(last) => lost.extend(copy(&*made, last.last, &opened)?),
            None => {
                let newest = checkpoint::newest(&**journal)?.filter(|through| through + 1 >= first);
                let found = newest.map(|through| convert::from_checkpoint(&**journal, through, &*made)).transpose()?;
                if found != Some(true) {
                    problems.push(format!("the sums of the entries before {first} are missing"));
                }
            }
        }
    }
    Ok((Sums::open(made)?, lost))
}

/// Writes runs as one, up to this entry. Gives what of them could not be read.
fn copy(to: &dyn Disk, last: u64, runs: &[Arc<Run>]) -> Result<Vec<String>> {
    let mut writing = Writing::begin(to, Stretch { first: 1, last })?;
    let mut merged = Merged::lenient(runs)?;
    while let Some((key, value)) = merged.next()? {
        writing.add(&key, &value)?;
    }
    writing.finish()?;
    Ok(merged.lost())
}

/// Tenants as of the newest checkpoint, or of the beginning; and the number of the last entry in it.
pub(super) fn from_checkpoint<R: Rows>(
    journal: &dyn Disk,
    rows: R,
    problems: &mut Vec<String>,
) -> Result<(Tenants<R>, u64)> {
    let newest = checkpoint::newest(journal)?;
    if let Some(through) = newest {
        let mut changes = Vec::new();
        let loaded = checkpoint::load(journal, through, &mut |key, value| {
            let is_wanted = key == PRUNED || key.first().is_some_and(|kind| super::keys::TENANTS.contains(kind));
            if is_wanted {
                changes.push((key.to_vec(), Some(value.to_vec())));
            }
            if changes.len() < GATHERED { Ok(()) } else { rows.apply(std::mem::take(&mut changes)) }
        });
        rows.apply(changes)?;
        problems.extend(loaded.err().map(|error| error.to_string()));
    }
    let begins = newest.unwrap_or(0);
    Ok((Tenants::open_at(rows, begins)?, begins))
}
