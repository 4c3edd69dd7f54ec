//! Whether a store on disk is whole, and how its rows are made anew from its journal.
//!
//! Not here: the command line's words around it. Invariants: [`verify`] changes nothing; [`rebuild`] deletes nothing: what it
//! replaces it leaves beside.

use std::fs;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use super::disk::{Disk, RealDisk};
use super::entry::Entry;
use super::journal::{checkpoint, repair};
use super::keys;
use super::ledger::{Pruned, pruned};
use super::memory::MemoryRows;
use super::rows::{Rows, Show, read};
use super::sled::{JOURNAL, STATE, SledRows, free_name, lock, unreachable};
use super::state::{State, Sum};
use crate::error::{Error, Result};
use crate::store::told;

const UNFINISHED: &str = "state.unfinished";
const ASIDE: &str = "state-before";
/// Rows that are gathered before they are folded.
const GATHERED: usize = 20_000;
/// Problems that are told of one kind.
const TOLD: usize = 10;

/// What a check came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments of the journal.
    pub segments: u64,
    /// Entries of the journal.
    pub entries: u64,
    /// Requests in it.
    pub requests: u64,
    /// Bytes of the journal.
    pub bytes: u64,
    /// Rows that were compared.
    pub rows: u64,
    /// Entries that an earlier rebuild could not save.
    pub lost: u64,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

/// What a rebuild came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Entries that the new rows were made of, beside the checkpoint.
    pub entries: u64,
    /// Segments that were damaged and written anew.
    pub mended: Vec<String>,
    /// Where the old rows are now.
    pub aside: Option<PathBuf>,
}

/// Reads the whole store in this directory and compares its parts: every frame's checksum and number, the indexes, and the rows
/// with what the journal says they should be.
///
/// Errors: it is in use, or can't be read at all.
pub fn verify(dir: &Path) -> Result<Report> {
    refuse_older(dir)?;
    let lock = lock(dir)?;
    let disk = RealDisk::new(dir.join(JOURNAL)).map_err(|error| unreachable(dir, &error))?;
    let mut report = Report::default();
    let rows = match dir.join(STATE).is_dir() {
        true => SledRows::open(&dir.join(STATE), Some(lock)),
        false => Err(told("they are missing")),
    };
    let kept = rows.and_then(|rows| match State::<SledRows>::is_begun(&rows)? {
        true => State::open(rows),
        false => Err(told("they are gone")),
    });
    let through = kept.as_ref().map_or(u64::MAX, State::through);
    let (expected, begins) = from_checkpoint(&disk, MemoryRows::default(), &mut report.problems)?;
    let found = repair::inspect(&disk, &mut |number, entry| {
        report.requests += u64::from(entry.brief().is_some());
        if number <= through { expected.apply(number, &entry) } else { Ok(()) }
    })?;
    (report.segments, report.entries, report.bytes, report.lost) =
        (found.segments, found.entries, found.bytes, found.lost);
    let whole = found.problems.is_empty();
    report.problems.extend(found.problems);
    match kept {
        Err(error) => report.problems.push(format!("the rows can't be read: {error}")),
        Ok(_) if through >= found.next => {
            report.problems.push(format!("the rows have entry {through}, and the journal ends before it"));
        }
        Ok(kept) if through + 1 < found.first.unwrap_or(1) || through < begins => {
            let next = kept.through() + 1;
            report.problems.push(format!("the rows end before entry {next}, which the journal does not have"));
        }
        Ok(kept) if whole => {
            expected.fold()?;
            compare(&expected, &kept, &mut report)?;
        }
        Ok(_) => {}
    }
    Ok(report)
}

/// Makes the rows anew from the newest checkpoint and the journal, and mends the journal first where it is damaged.
///
/// Errors: it is in use, or what is left is not enough; then the old rows are as they were.
pub fn rebuild(dir: &Path) -> Result<Rebuilt> {
    refuse_older(dir)?;
    let lock = lock(dir)?;
    let disk = RealDisk::new(dir.join(JOURNAL)).map_err(|error| unreachable(dir, &error))?;
    if disk.list().map_err(|error| unreachable(dir, &error))?.is_empty() {
        return Err(told("There is no journal to rebuild from; restore it from a backup."));
    }
    let mended = repair::salvage(&disk)?;
    let (unfinished, entries) = make_unfinished(dir, &disk)?;
    let state = dir.join(STATE);
    let aside = state.exists().then(|| free_name(dir, ASIDE));
    if let Some(aside) = &aside {
        fs::rename(&state, aside).map_err(|error| unreachable(dir, &error))?;
    }
    fs::rename(unfinished, state).map_err(|error| unreachable(dir, &error))?;
    drop(lock);
    Ok(Rebuilt { entries, mended, aside })
}

/// Makes the rows of a store that has none. The caller holds its lock.
pub(super) fn make_rows(dir: &Path, disk: &dyn Disk) -> Result<()> {
    let (unfinished, _) = make_unfinished(dir, disk)?;
    fs::rename(unfinished, dir.join(STATE)).map_err(|error| unreachable(dir, &error))
}

/// A store of the first layout has nothing yet that could be checked.
fn refuse_older(dir: &Path) -> Result<()> {
    if dir.join("db").exists() && !dir.join(JOURNAL).exists() {
        return Err(told("This store is of an older layout; `perpetuo serve` carries it over when it starts."));
    }
    if !dir.join(JOURNAL).is_dir() && !dir.join(STATE).is_dir() {
        return Err(told(format!("There is no store at {}.", dir.display())));
    }
    Ok(())
}

fn make_unfinished(dir: &Path, disk: &dyn Disk) -> Result<(PathBuf, u64)> {
    let unfinished = dir.join(UNFINISHED);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(|error| unreachable(dir, &error))?;
    }
    let mut problems = Vec::new();
    let (state, begins) = from_checkpoint(disk, SledRows::open(&unfinished, None)?, &mut problems)?;
    let mut entries = 0;
    let found = repair::inspect(disk, &mut |number, entry| {
        entries += u64::from(number > begins && !matches!(entry, Entry::Gap(_)));
        state.apply(number, &entry)?;
        if state.unfolded() < GATHERED { Ok(()) } else { state.fold() }
    })?;
    if begins + 1 < found.first.unwrap_or(1) {
        problems.push(format!("the entries before {} are in no checkpoint", found.first.unwrap_or(1)));
    }
    problems.extend(found.problems);
    if !problems.is_empty() {
        let text = format!("The rows can't be made anew: {}. Restore a backup.", problems.join("; "));
        return Err(Error::new(crate::error::ErrorKind::Internal, text));
    }
    state.fold()?;
    Ok((unfinished, entries))
}

/// A state as of the newest checkpoint, or of the beginning; and the number of the last entry in it.
fn from_checkpoint<R: Rows>(disk: &dyn Disk, rows: R, problems: &mut Vec<String>) -> Result<(State<R>, u64)> {
    let newest = checkpoint::newest(disk)?;
    if let Some(through) = newest {
        let mut changes = Vec::new();
        let loaded = checkpoint::load(disk, through, &mut |key, value| {
            changes.push((key.to_vec(), Some(value.to_vec())));
            if changes.len() < GATHERED { Ok(()) } else { rows.apply(std::mem::take(&mut changes)) }
        });
        rows.apply(changes)?;
        problems.extend(loaded.err().map(|error| error.to_string()));
    }
    let begins = newest.unwrap_or(0);
    Ok((State::open_at(rows, begins)?, begins))
}

/// Notes every row that is not as it should be.
fn compare(expected: &State<MemoryRows>, kept: &State<SledRows>, report: &mut Report) -> Result<()> {
    let removed = pruned(kept.rows())?;
    let mut problems = 0;
    for kind in keys::TENANTS.into_iter().chain(keys::DAILY).chain(keys::FINE) {
        let is_tenant = keys::TENANTS.contains(&kind);
        each(expected.rows(), kind, &removed, &mut |key, value| {
            report.rows += 1;
            let there = kept.rows().get(key)?;
            let same = match (&there, is_tenant) {
                (None, _) => false,
                (Some(there), true) => read::<serde_json::Value>(there)? == read::<serde_json::Value>(value)?,
                (Some(there), false) => read::<Sum>(there)?.sums == read::<Sum>(value)?.sums,
            };
            problems += u64::from(!same);
            if !same && report.problems.len() < TOLD {
                let what = if there.is_some() { "is not what the journal says" } else { "is missing" };
                report.problems.push(format!("the row {} {what}", key.escape_ascii()));
            }
            Ok(())
        })?;
        each(kept.rows(), kind, &removed, &mut |key, _| {
            if expected.rows().get(key)?.is_none() {
                problems += 1;
                if report.problems.len() < TOLD {
                    report
                        .problems
                        .push(format!("the journal has nothing that the row {} is made of", key.escape_ascii()));
                }
            }
            Ok(())
        })?;
    }
    if problems > TOLD as u64 {
        report.problems.push(format!("{problems} rows in all"));
    }
    Ok(())
}

/// Shows the rows of a kind that are not due to be removed.
fn each(rows: &dyn Rows, kind: u8, removed: &Pruned, show: Show<'_>) -> Result<()> {
    let range: Range<Vec<u8>> = keys::all(vec![kind]);
    rows.scan(range, &mut |key, value| {
        let is_sum = !keys::TENANTS.contains(&kind);
        if !(is_sum && keys::read_sum(key)?.begin < removed.before(kind)) {
            show(key, value)?;
        }
        Ok(ControlFlow::Continue(()))
    })
}
