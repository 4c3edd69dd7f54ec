//! The sums of what was used, by minute, hour and day: what is new in memory, the rest in files that are written once.
//!
//! What entries add is gathered in memory, and after a while written as a run (`run`): the sums of a stretch of entries. A sum is
//! what all runs and the memory have of it together. Now and then runs that lie side by side are made one (`merge`), which is
//! where sums that are kept no longer are left out. After a crash the journal gives again what was in memory.
//!
//! `packed` is a sum's bytes, `query` what reports ask. Not here: which thread writes, and when (`ledger`); how runs are made
//! anew (`rebuild`).
//!
//! Invariants: the stretches of the runs follow each other from the first entry on, without a gap and without an overlap, so every
//! entry counts once whatever was cut short; a run is removed after the one that has its rows is on disk.

mod merge;
mod packed;
mod query;
mod run;

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::disk::Disk;
use super::entry::{Carried, Entry};
use super::{AttemptRecord, By, Grain, RequestRecord, Rollup, keys};
use crate::error::Result;
use crate::store::pruned::Pruned;
use crate::store::told;
pub(super) use merge::Merged;
pub(super) use packed::{pack, unpack};
use run::unwritable;
pub(super) use run::{Run, Stretch, Writing};

/// Entries after which they are written: about what a start after a crash has to apply again.
const ENTRIES: u64 = 8192;
/// Sums after which they are written: what may be gathered in memory.
const ROWS: usize = 16_384;

/// Shows a sum: its key, and a part of it.
type Visit<'v> = &'v mut dyn FnMut(&[u8], &Rollup) -> Result<()>;

/// The sums of a store.
pub(super) struct Sums {
    disk: Arc<dyn Disk>,
    live: RwLock<Live>,
    folding: Mutex<()>,
    merging: Mutex<()>,
    /// Whether the store is being closed: what can be done another time is left.
    ending: AtomicBool,
}

struct Live {
    /// The last entry before all runs: 0, save where only a part is summed up.
    base: u64,
    /// The number of the last entry that was applied.
    through: u64,
    fresh: BTreeMap<Vec<u8>, Rollup>,
    /// What is being written.
    frozen: Option<Arc<Frozen>>,
    /// The oldest first.
    runs: Vec<Arc<Run>>,
}

struct Frozen {
    of: Stretch,
    rows: BTreeMap<Vec<u8>, Rollup>,
}

impl Live {
    /// The last entry that need not be written any more, or is being written.
    fn written(&self) -> u64 {
        let runs = self.runs.last().map_or(self.base, |run| run.of.last);
        self.frozen.as_ref().map_or(runs, |frozen| frozen.of.last)
    }
}

/// The stretches of the runs that make up a store's sums, and the names of files that nobody needs.
pub(super) struct Cover {
    /// From the first entry on, without a gap.
    pub(super) runs: Vec<Stretch>,
    pub(super) litter: Vec<String>,
    /// The entries before the next run, if there is one.
    missing: Option<Stretch>,
}

/// Which files in a directory are the sums of all entries up to the last one that is in any.
pub(super) fn cover(disk: &dyn Disk) -> Result<Cover> {
    let names = disk.list().map_err(|error| told(format!("the sums can't be read: {error}")))?;
    let mut stretches: Vec<Stretch> = names.iter().filter_map(|name| Stretch::of(name)).collect();
    // The longest of those that begin with the same entry has what the others have.
    stretches.sort_unstable_by_key(|of| (of.first, std::cmp::Reverse(of.last)));
    let litter = names.into_iter().filter(|name| name.ends_with(".new")).collect();
    let mut cover = Cover { runs: Vec::new(), litter, missing: None };
    let mut next = 1;
    for of in stretches {
        if of.first == next {
            next = of.last + 1;
            cover.runs.push(of);
        } else if of.last < next {
            cover.litter.push(of.name());
        } else {
            cover.missing.get_or_insert(Stretch { first: next, last: of.first.saturating_sub(1) });
        }
    }
    Ok(cover)
}

impl Cover {
    fn open(&self, disk: &dyn Disk) -> Result<Vec<Arc<Run>>> {
        if let Some(Stretch { first, last }) = self.missing {
            return Err(told(format!("the sums of the entries {first} to {last} are missing")));
        }
        self.runs.iter().map(|of| Run::open(disk, *of).map(Arc::new)).collect()
    }
}

impl Sums {
    /// Opens the sums in this directory, which may be empty. What an interrupted change left is removed.
    ///
    /// Errors: files are missing or damaged.
    pub(super) fn open(disk: Arc<dyn Disk>) -> Result<Self> {
        let cover = cover(&*disk)?;
        let runs = cover.open(&*disk)?;
        cover.litter.iter().try_for_each(|name| disk.remove(name)).map_err(|error| unwritable(&error))?;
        Ok(Self::over(disk, runs))
    }

    /// The same without a change to the directory.
    pub(super) fn read_only(disk: Arc<dyn Disk>) -> Result<Self> {
        let runs = cover(&*disk)?.open(&*disk)?;
        Ok(Self::over(disk, runs))
    }

    /// Sums in this directory, which is empty, that begin after this entry.
    pub(super) fn begin_after(disk: Arc<dyn Disk>, through: u64) -> Self {
        let sums = Self::over(disk, Vec::new());
        let mut live = sums.live_mut();
        (live.base, live.through) = (through, through);
        drop(live);
        sums
    }

    fn over(disk: Arc<dyn Disk>, runs: Vec<Arc<Run>>) -> Self {
        let through = runs.last().map_or(0, |run| run.of.last);
        let live = Live { base: 0, through, fresh: BTreeMap::new(), frozen: None, runs };
        Self {
            disk,
            live: RwLock::new(live),
            folding: Mutex::new(()),
            merging: Mutex::new(()),
            ending: AtomicBool::new(false),
        }
    }

    /// The number of the last entry that was applied.
    pub(super) fn through(&self) -> u64 {
        self.live().through
    }

    /// The number of the last entry that is on disk.
    pub(super) fn folded(&self) -> u64 {
        self.live().runs.last().map_or(0, |run| run.of.last)
    }

    pub(super) fn runs(&self) -> Vec<Arc<Run>> {
        self.live().runs.clone()
    }

    /// Applies an entry. What is applied already is passed over.
    pub(super) fn apply(&self, number: u64, entry: &Entry<'_>) -> Result<()> {
        let (booked, brought) = match entry {
            Entry::Booking(record) => (booked(record)?, BTreeMap::new()),
            Entry::Carried(carried) => (Vec::new(), brought(carried)?),
            _ => (Vec::new(), BTreeMap::new()),
        };
        let mut live = self.live_mut();
        if number <= live.through {
            return Ok(());
        }
        for (key, attempt) in booked {
            live.fresh.entry(key).or_default().add(attempt);
        }
        for (key, more) in brought {
            live.fresh.entry(key).or_default().merge(&more);
        }
        live.through = if let Entry::Gap(through) = entry { *through } else { number };
        Ok(())
    }

    /// How much of what may be gathered in memory is there: from 1 on it should be written.
    pub(super) fn fill(&self) -> u64 {
        let live = self.live();
        let entries = live.through.saturating_sub(live.written());
        (entries / ENTRIES).max((live.fresh.len() / ROWS) as u64)
    }

    /// Writes what is in memory, all of it.
    pub(super) fn fold(&self, pruned: &Pruned) -> Result<()> {
        let _one = held(&self.folding);
        // What could not be written the last time comes first.
        let pieces = 1 + usize::from(self.live().frozen.is_some());
        for _ in 0..pieces {
            let Some(frozen) = self.freeze() else { break };
            let mut writing = Writing::begin(&*self.disk, frozen.of)?;
            for (key, sums) in frozen.rows.iter().filter(|(key, _)| pruned.keeps(key)) {
                writing.add(key, &pack(sums))?;
            }
            let run = writing.finish()?;
            let mut live = self.live_mut();
            live.runs.push(Arc::new(run));
            live.frozen = None;
        }
        Ok(())
    }

    fn freeze(&self) -> Option<Arc<Frozen>> {
        let mut live = self.live_mut();
        if live.frozen.is_none() && live.through > live.written() {
            let of = Stretch { first: live.written() + 1, last: live.through };
            live.frozen = Some(Arc::new(Frozen { of, rows: std::mem::take(&mut live.fresh) }));
        }
        live.frozen.clone()
    }

    /// Whether some runs should be made one.
    pub(super) fn is_scattered(&self) -> bool {
        merge::worth(&self.live().runs).is_some()
    }

    /// Makes runs one where there are many.
    pub(super) fn gather(&self, pruned: &Pruned) -> Result<()> {
        let _one = held(&self.merging);
        loop {
            let runs = self.runs();
            let worth = merge::worth(&runs).filter(|_| !self.ending.load(Ordering::Relaxed));
            let Some(worth) = worth else { return Ok(()) };
            self.rewrite(runs.get(worth).unwrap_or_default(), pruned)?;
        }
    }

    /// Leaves what runs are being made one as they are; the next start goes on.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Gives the disk back what is kept no longer: writes the runs anew in which all sums of a kind are too old.
    pub(super) fn shed(&self, pruned: &Pruned) -> Result<()> {
        let _one = held(&self.merging);
        let has_old = |run: &&Arc<Run>| run.spans.iter().any(|(kind, span)| span.newest < pruned.before(*kind));
        self.runs().iter().filter(has_old).try_for_each(|run| self.rewrite(std::slice::from_ref(run), pruned))
    }

    /// Puts one run in the place of these, which lie side by side.
    fn rewrite(&self, runs: &[Arc<Run>], pruned: &Pruned) -> Result<()> {
        let (Some(oldest), Some(newest)) = (runs.first(), runs.last()) else { return Ok(()) };
        let of = Stretch { first: oldest.of.first, last: newest.of.last };
        let mut writing = Writing::begin(&*self.disk, of)?;
        let mut merged = Merged::new(runs)?;
        while let Some((key, value)) = merged.next()? {
            if self.ending.load(Ordering::Relaxed) {
                return Ok(());
            }
            if pruned.keeps(&key) {
                writing.add(&key, &value)?;
            }
        }
        let run = Arc::new(writing.finish()?);
        let mut live = self.live_mut();
        let place = live.runs.partition_point(|run| run.of.first < of.first);
        let end = live.runs.partition_point(|run| run.of.last <= of.last);
        live.runs.splice(place..end, [run]);
        drop(live);
        let replaced = runs.iter().filter(|run| run.of != of);
        replaced
            .map(|run| run.of.name())
            .try_for_each(|name| self.disk.remove(&name))
            .map_err(|error| unwritable(&error))
    }

    /// Shows what there is of the sums of a range, in parts and in any order.
    fn each(&self, range: &Range<Vec<u8>>, visit: Visit<'_>) -> Result<()> {
        if range.start >= range.end {
            return Ok(());
        }
        let live = self.live();
        live.fresh.range(range.clone()).try_for_each(|(key, sums)| visit(key, sums))?;
        let (frozen, runs) = (live.frozen.clone(), live.runs.clone());
        drop(live);
        if let Some(frozen) = frozen {
            frozen.rows.range(range.clone()).try_for_each(|(key, sums)| visit(key, sums))?;
        }
        runs.iter().try_for_each(|run| {
            run.scan(range, &mut |key, value| {
                visit(key, &unpack(value)?)?;
                Ok(ControlFlow::Continue(()))
            })
        })
    }

    fn live(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn live_mut(&self) -> RwLockWriteGuard<'_, Live> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn held(lock: &Mutex<()>) -> MutexGuard<'_, ()> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sums that a request adds to, and the attempt that it adds to each.
fn booked(record: &RequestRecord) -> Result<Vec<(Vec<u8>, &AttemptRecord)>> {
    let (workspace, second) = (record.workspace.as_str(), record.created_at.as_second());
    let day = Grain::Day.begin(second);
    let mut sums = Vec::with_capacity(record.attempts.len() * (keys::DAILY.len() + Grain::ALL.len()));
    for attempt in &record.attempts {
        let (key, provider, model) = (record.key.as_str(), attempt.provider.as_str(), attempt.model.as_str());
        for (kind, name) in keys::DAILY.into_iter().zip([provider, key, model]) {
            sums.push((keys::sum(kind, workspace, day, &[name])?, attempt));
        }
        for grain in Grain::ALL {
            let begin = grain.begin(second);
            sums.push((keys::sum(grain.kind(), workspace, begin, &[key, provider, model])?, attempt));
        }
    }
    Ok(sums)
}

/// The sums that a sum of an older store goes into: of its day, and of no time that is finer.
fn brought(carried: &Carried) -> Result<BTreeMap<Vec<u8>, Rollup>> {
    let day = carried.day.as_second();
    let mut sums = BTreeMap::new();
    for (by, name) in [(By::Provider, &carried.provider), (By::Key, &carried.key)] {
        if let Some(name) = name {
            sums.insert(keys::sum(by.kind(), &carried.workspace, day, &[name])?, carried.sums.clone());
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests;
