//! Whether a store on disk is whole: every frame's checksum and number, the indexes, and tenants and sums against what the
//! journal says they should be.
//!
//! What should be there is made anew in a directory beside, which is removed at the end. Not here: what to do about it
//! (`rebuild`), the command line's words. Invariant: [`verify`] changes nothing of the store.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::journal::repair;
use super::memory::MemoryRows;
use super::pruned::Pruned;
use super::rebuild::from_checkpoint;
use super::rows::{Rows, read};
use super::sled::{JOURNAL, STATE, SUMS, SledRows, disk, lock, unreachable};
use super::sums::{Merged, Sums, unpack};
use super::tenants::{self, Tenants};
use super::{Rollup, keys};
use crate::error::Result;
use crate::store::told;

const SCRATCH: &str = "verify.scratch";
/// Problems that are told of one kind.
const TOLD: u64 = 10;

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
    /// Tenants and sums that were compared.
    pub rows: u64,
    /// Entries that an earlier rebuild could not save.
    pub lost: u64,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

/// Reads the whole store in this directory and compares its parts.
///
/// Errors: it is in use, or can't be read at all.
pub fn verify(dir: &Path) -> Result<Report> {
    refuse_older(dir)?;
    let _lock = lock(dir)?;
    let mut report = Report::default();
    let kept = Kept::open(dir, &mut report.problems)?;
    let scratch = Scratch::new(dir)?;
    check(dir, &kept, &scratch, &mut report)?;
    Ok(report)
}

/// A store of an older layout has nothing yet that could be checked.
pub(super) fn refuse_older(dir: &Path) -> Result<()> {
    if dir.join("db").exists() && !dir.join(JOURNAL).exists() {
        return Err(told("This store is of an older layout; `perpetuo serve` carries it over when it starts."));
    }
    if !dir.join(JOURNAL).is_dir() && !dir.join(STATE).is_dir() {
        return Err(told(format!("There is no store at {}.", dir.display())));
    }
    Ok(())
}

/// What is there beside the journal, as far as it can be read.
struct Kept {
    tenants: Option<Tenants<SledRows>>,
    sums: Option<Sums>,
    pruned: Pruned,
}

impl Kept {
    fn open(dir: &Path, problems: &mut Vec<String>) -> Result<Self> {
        let missing = || Err(told("they are missing"));
        let rows = if dir.join(STATE).is_dir() { SledRows::open(&dir.join(STATE)) } else { missing() };
        let tenants = rows.and_then(|rows| match (tenants::is_begun(&rows)?, tenants::has_sums(&rows)?) {
            (_, true) => Err(told("the store is of an older layout; `perpetuo serve` carries it over when it starts")),
            (true, _) => Tenants::open(rows),
            (false, _) => Err(told("they are gone")),
        });
        let sums =
            if dir.join(SUMS).is_dir() { Sums::read_only(disk(dir, SUMS)?) } else { Err(told("they are missing")) };
        for (what, error) in [("tenants", tenants.as_ref().err()), ("sums", sums.as_ref().err())] {
            problems.extend(error.map(|error| format!("the {what} can't be read: {error}")));
        }
        let (tenants, sums) = (tenants.ok(), sums.ok());
        let pruned = tenants.as_ref().map(|tenants| Pruned::of(tenants.rows())).transpose()?.unwrap_or_default();
        Ok(Self { tenants, sums, pruned })
    }
}

/// A directory that is gone when the check is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(dir: &Path) -> Result<Self> {
        let path = dir.join(SCRATCH);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|error| unreachable(dir, &error))?;
        }
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // One that can't be removed now is removed by the next check.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn check(dir: &Path, kept: &Kept, scratch: &Scratch, report: &mut Report) -> Result<()> {
    let journal = disk(dir, JOURNAL)?;
    let (tenants, begins) = from_checkpoint(&*journal, MemoryRows::default(), &mut report.problems)?;
    let first = repair::first(&*journal)?.unwrap_or(1);
    let sums = Sums::begin_after(disk(&scratch.0, SUMS)?, first - 1);
    let tenants_end = kept.tenants.as_ref().map_or(0, Tenants::through);
    let sums_end = kept.sums.as_ref().map_or(0, Sums::through);
    let found = repair::inspect(&*journal, &mut |number, entry| {
        report.requests += u64::from(entry.brief().is_some());
        if number <= tenants_end {
            tenants.apply(number, &entry)?;
        }
        if number <= sums_end {
            sums.apply(number, &entry)?;
        }
        if sums.fill() > 0 { sums.fold(&kept.pruned).and_then(|()| sums.gather(&kept.pruned)) } else { Ok(()) }
    })?;
    (report.segments, report.entries, report.bytes, report.lost) =
        (found.segments, found.entries, found.bytes, found.lost);
    let is_whole = found.problems.is_empty();
    report.problems.extend(found.problems);
    if let Some(kept) = &kept.tenants {
        let fits = belongs(("tenants", tenants_end, tenants_end < begins), (first, found.next), report);
        if fits && is_whole {
            compare_tenants(&tenants, kept, report)?;
        }
    }
    if let Some(there) = &kept.sums {
        let fits = belongs(("sums", sums_end, false), (first, found.next), report);
        if fits && is_whole {
            sums.fold(&kept.pruned)?;
            compare_sums((&sums, first > 1), there, &kept.pruned, report)?;
        }
    }
    Ok(())
}

/// Whether a part that ends with this entry and a journal of these entries belong together.
fn belongs((what, through, is_old): (&str, u64, bool), (first, next): (u64, u64), report: &mut Report) -> bool {
    let problem = if through >= next {
        format!("the {what} have entry {through}, and the journal ends before it")
    } else if through + 1 < first || is_old {
        format!("the {what} end before entry {}, which the journal does not have", through + 1)
    } else {
        return true;
    };
    report.problems.push(problem);
    false
}

fn compare_tenants(expected: &Tenants<MemoryRows>, kept: &Tenants<SledRows>, report: &mut Report) -> Result<()> {
    let mut differences = Differences::default();
    let json = |value: &[u8]| read::<serde_json::Value>(value);
    for kind in keys::TENANTS {
        expected.rows().scan(keys::all(vec![kind]), &mut |key, value| {
            report.rows += 1;
            match kept.rows().get(key)? {
                None => differences.add(key, "is missing", report),
                Some(there) if json(&there)? != json(value)? => differences.add(key, OTHER, report),
                Some(_) => {}
            }
            Ok(ControlFlow::Continue(()))
        })?;
        kept.rows().scan(keys::all(vec![kind]), &mut |key, _| {
            if expected.rows().get(key)?.is_none() {
                differences.add(key, UNFOUNDED, report);
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    differences.tell(report);
    Ok(())
}

const OTHER: &str = "is not what the journal says";
const UNFOUNDED: &str = "is made of nothing that the journal has";

/// Walks both in the order of their keys. Of times whose segments are gone, what is there has to be at least what the journal says.
fn compare_sums((expected, is_cut): (&Sums, bool), kept: &Sums, pruned: &Pruned, report: &mut Report) -> Result<()> {
    let mut differences = Differences::default();
    let mut expected = Merged::new(&expected.runs())?;
    let mut kept = match Merged::new(&kept.runs()) {
        Ok(kept) => kept,
        Err(error) => {
            report.problems.push(error.to_string());
            return Ok(());
        }
    };
    let (mut next, mut found) = (expected.next()?, kept.next());
    loop {
        let there = match &found {
            Ok(there) => there.as_ref(),
            Err(error) => {
                report.problems.push(error.to_string());
                return Ok(());
            }
        };
        let Some(key) = [next.as_ref(), there].into_iter().flatten().map(|(key, _)| key).min().cloned() else { break };
        let wanted = next.as_ref().filter(|row| row.0 == key).map(|row| unpack(&row.1)).transpose()?;
        let there = there.filter(|row| row.0 == key).map(|row| unpack(&row.1)).transpose()?;
        if pruned.keeps(&key) {
            report.rows += u64::from(wanted.is_some());
            let is_whole = !is_cut || pruned.is_whole(&key);
            match (&wanted, &there) {
                (Some(_), None) => differences.add(&key, "is missing", report),
                (None, Some(_)) if is_whole => differences.add(&key, UNFOUNDED, report),
                (Some(wanted), Some(there)) if !agrees(wanted, there, is_whole) => differences.add(&key, OTHER, report),
                _ => {}
            }
        }
        if wanted.is_some() {
            next = expected.next()?;
        }
        if there.is_some() {
            found = kept.next();
        }
    }
    differences.tell(report);
    Ok(())
}

fn agrees(wanted: &Rollup, there: &Rollup, is_whole: bool) -> bool {
    let more = there.attempts >= wanted.attempts
        && there.cost >= wanted.cost
        && there.usage.total_tokens() >= wanted.usage.total_tokens();
    if is_whole { wanted == there } else { more }
}

/// How many rows are not as they should be; the first of them are told.
#[derive(Default)]
struct Differences(u64);

impl Differences {
    fn add(&mut self, key: &[u8], what: &str, report: &mut Report) {
        self.0 += 1;
        if self.0 <= TOLD {
            report.problems.push(format!("the row {} {what}", key.escape_ascii()));
        }
    }

    fn tell(&self, report: &mut Report) {
        if self.0 > TOLD {
            report.problems.push(format!("{} rows in all", self.0));
        }
    }
}
