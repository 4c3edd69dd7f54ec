//! The store: the journal in front, and what follows from it behind. One code for every place that things are kept in.
//!
//! A change is committed to the journal first; from then on it happened. It is applied to the tenants and to the sums, whose memory
//! is written to the disk beside the writers. Not here: the form of the journal (`journal`), what follows from an entry (`tenants`,
//! `sums`).
//!
//! Invariants: one change at a time; a change that returned is on disk, one that failed is not there; the request log is read
//! from the journal, everything else from what follows; nothing that reads a whole file or writes one keeps a writer waiting.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use super::entry::{Entry, Owned};
use super::job::Job;
use super::journal::{Journal, Wanted, checkpoint};
use super::pruned::{PRUNED, Pruned};
use super::rows::{Rows, write};
use super::sums::Sums;
use super::tenants::Tenants;
use super::{
    Booking, By, CredentialRecord, DayRange, Keep, KeyRecord, LogPage, LogQuery, RequestRecord, Rollup, SeriesQuery,
    Spent, Store, Tenancy, WorkspaceRecord, keys,
};
use crate::error::{Error, ErrorKind, Result};

/// How much more than it should the memory of the sums may take while it is written; beyond it the writers wait.
const OVERFULL: u64 = 2;
/// The wait after a failure, before writing the sums is tried again.
const PAUSE: Duration = Duration::from_millis(500);
/// The largest page of the log.
const MAX_ROWS: u64 = 1000;

/// A journal, and the tenants and sums that follow from it.
#[expect(private_bounds, reason = "what rows lie in is this module's own affair")]
pub struct Ledger<R: Rows + 'static> {
    core: Arc<Core<R>>,
    /// Held while a change is made.
    writing: Mutex<()>,
    /// Held while something is removed.
    pruning: Mutex<()>,
    /// Writes the memory of the sums to the disk.
    folds: Job,
    /// Makes the files of the sums few.
    gathers: Job,
}

struct Core<R> {
    tenants: Tenants<R>,
    sums: Sums,
    journal: Journal,
    pruned: RwLock<Pruned>,
}

impl<R: Rows> Core<R> {
    /// The number of the last entry that was applied to everything.
    fn through(&self) -> u64 {
        self.tenants.through().min(self.sums.through())
    }

    fn apply(&self, number: u64, entry: &Entry<'_>) -> Result<()> {
        self.tenants.apply(number, entry)?;
        self.sums.apply(number, entry)
    }

    /// Writes to the disk what a start would have to find out again.
    fn fold(&self) -> Result<()> {
        self.sums.fold(&self.pruned())?;
        self.tenants.flush()?;
        self.journal.note_index()
    }

    fn pruned(&self) -> Pruned {
        *self.pruned.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(private_bounds, reason = "what rows lie in is this module's own affair")]
impl<R: Rows + 'static> Ledger<R> {
    /// Over rows and sums, which are brought up to the journal's last entry.
    ///
    /// Errors: they don't belong together, with what to do.
    pub(super) fn over(rows: R, sums: Sums, journal: Journal) -> Result<Self> {
        let tenants = Tenants::open(rows)?;
        let (first, next) = (journal.first(), journal.next());
        for (what, through) in [("rows", tenants.through()), ("sums", sums.through())] {
            if through >= next {
                return Err(apart(&format!("the journal ends before entry {through}, which the {what} have")));
            }
            if through + 1 < first {
                return Err(apart(&format!("the {what} end with entry {through} and the journal begins with {first}")));
            }
        }
        let pruned = RwLock::new(Pruned::of(tenants.rows())?);
        let core = Arc::new(Core { tenants, sums, journal, pruned });
        let (writing, pruning) = (Mutex::default(), Mutex::default());
        let ledger = Self { core, writing, pruning, folds: Job::default(), gathers: Job::default() };
        ledger.catch_up()?;
        Ok(ledger)
    }

    /// Commits and applies.
    fn change(&self, entries: &[Entry<'_>]) -> Result<()> {
        let _one = held(&self.writing);
        self.make_room()?;
        let first = self.core.journal.commit(entries)?;
        // From here on it happened. What can't be applied now is applied from the journal later.
        if let Err(error) = self.apply(first, entries) {
            tracing::error!(?error, "the ledger's sums are behind its journal");
        }
        Ok(())
    }

    fn apply(&self, first: u64, entries: &[Entry<'_>]) -> Result<()> {
        if self.core.through() + 1 != first {
            return self.catch_up();
        }
        for (number, entry) in (first..).zip(entries) {
            self.core.apply(number, entry)?;
        }
        if self.core.sums.fill() > 0 {
            self.begin_fold();
        }
        Ok(())
    }

    /// Applies what the journal has and the rest has not.
    fn catch_up(&self) -> Result<()> {
        let core = &self.core;
        let through = core.through();
        core.journal.replay(through + 1, &mut |number, entry| {
            core.apply(number, &entry)?;
            if core.sums.fill() > 0 { core.fold() } else { Ok(()) }
        })?;
        // The next start need not do it again.
        if core.through() > through {
            self.begin_fold();
        }
        Ok(())
    }

    /// Keeps the memory within bounds while the disk is slower than the writers.
    fn make_room(&self) -> Result<()> {
        if self.core.sums.fill() < OVERFULL {
            return Ok(());
        }
        self.folds.wait();
        if self.core.sums.fill() < OVERFULL { Ok(()) } else { self.core.fold() }
    }

    fn begin_fold(&self) {
        if self.folds.is_running() {
            return;
        }
        let core = Arc::clone(&self.core);
        self.folds.start("ledger-fold", move || {
            if let Err(error) = core.fold() {
                tracing::error!(?error, "the ledger's sums can't be written; they stay in memory and in the journal");
                std::thread::sleep(PAUSE);
            }
        });
        let core = Arc::clone(&self.core);
        if core.sums.is_scattered() {
            self.gathers.start("ledger-gather", move || {
                if let Err(error) = core.sums.gather(&core.pruned()) {
                    tracing::error!(?error, "the files of the ledger's sums stay many");
                }
            });
        }
    }

    /// Removes whole segments that nobody needs, oldest first, once a checkpoint has what follows from them. Gives how many records
    /// went that were shown until now.
    fn drop_segments(&self, keep: &Keep, pruned: &mut Pruned) -> Result<u64> {
        let core = &self.core;
        let closed = core.journal.closed();
        let through = core.sums.folded().min(core.tenants.through());
        let mut bytes: u64 = closed.iter().map(|segment| segment.bytes).sum();
        let mut last = None;
        for segment in closed.into_iter().take_while(|segment| segment.last <= through) {
            let outdated = segment.newest.is_none_or(|newest| newest < keep.logs.as_millisecond());
            if !outdated && bytes <= keep.log_bytes {
                break;
            }
            bytes -= segment.bytes;
            last = Some(segment.last);
            pruned.removed = pruned.removed.max(segment.newest.unwrap_or(i64::MIN));
        }
        let Some(last) = last else { return Ok(0) };
        let mut writing = checkpoint::Writing::begin(core.journal.disk(), through)?;
        writing.add(PRUNED, &write(pruned)?)?;
        for kind in keys::TENANTS {
            core.tenants.rows().scan(keys::all(vec![kind]), &mut |key, value| {
                writing.add(key, value)?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        writing.finish()?;
        core.tenants.rows().apply(vec![(PRUNED.to_vec(), Some(write(pruned)?))])?;
        let records = core.journal.count(pruned.log..i64::MAX, Some(last))?;
        core.journal.remove_through(last)?;
        Ok(records)
    }

    #[cfg(test)]
    pub(super) fn journal_bytes(&self) -> u64 {
        self.core.journal.bytes()
    }

    /// The wanted time of the log, in milliseconds.
    fn wanted<'q>(&self, days: DayRange) -> Result<Wanted<'q>> {
        let seconds = keys::seconds(days)?;
        let milliseconds = |second: i64| second.saturating_mul(1000);
        let horizon = self.core.pruned().log;
        let from = seconds.start.map_or(horizon, |start| milliseconds(start).max(horizon));
        Ok(Wanted { from: Some(from), until: seconds.end.map(milliseconds), ..Wanted::default() })
    }
}

impl<R: Rows + 'static> Drop for Ledger<R> {
    fn drop(&mut self) {
        self.core.sums.end();
        self.folds.wait();
        self.gathers.wait();
        let ended = self.core.fold().and_then(|()| self.core.journal.close());
        if let Err(error) = ended {
            tracing::warn!(?error, "the ledger could not be put in order at its end; the next start does it");
        }
    }
}

fn held(lock: &Mutex<()>) -> MutexGuard<'_, ()> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: Rows + 'static> Store for Ledger<R> {
    fn tenancy(&self) -> Result<Tenancy> {
        self.core.tenants.tenancy()
    }

    fn put_workspace(&self, record: &WorkspaceRecord) -> Result<()> {
        keys::prefix(keys::WORKSPACE, &record.id)?;
        self.change(&[Entry::Workspace(Cow::Borrowed(record))])
    }

    fn delete_workspace(&self, id: &str) -> Result<()> {
        keys::prefix(keys::WORKSPACE, id)?;
        self.change(&[Entry::WorkspaceDeleted(id.into())])
    }

    fn put_credential(&self, record: &CredentialRecord) -> Result<()> {
        keys::prefix(keys::CREDENTIAL, &record.workspace)?;
        self.change(&[Entry::Credential(Cow::Borrowed(record))])
    }

    fn delete_credential(&self, workspace: &str, id: &str) -> Result<()> {
        keys::prefix(keys::CREDENTIAL, workspace)?;
        self.change(&[Entry::CredentialDeleted(Owned { workspace: workspace.into(), id: id.into() })])
    }

    fn put_key(&self, record: &KeyRecord) -> Result<()> {
        keys::prefix(keys::KEY, &record.workspace)?;
        self.change(&[Entry::Key(Cow::Borrowed(record))])
    }

    fn delete_key(&self, workspace: &str, id: &str) -> Result<()> {
        keys::prefix(keys::KEY, workspace)?;
        self.change(&[Entry::KeyDeleted(Owned { workspace: workspace.into(), id: id.into() })])
    }

    fn append(&self, bookings: &[Booking]) -> Result<()> {
        for booking in bookings {
            keys::prefix(keys::WORKSPACE, &booking.workspace)?;
        }
        let entries: Vec<Entry<'_>> = bookings.iter().map(|record| Entry::Booking(Cow::Borrowed(record))).collect();
        if entries.is_empty() { Ok(()) } else { self.change(&entries) }
    }

    fn rollups_by(&self, workspace: &str, by: By, days: DayRange) -> Result<Vec<(String, Rollup)>> {
        Ok(self.core.sums.rollups(workspace, by, days, &self.core.pruned())?.into_iter().collect())
    }

    fn series(&self, workspace: &str, query: &SeriesQuery) -> Result<Vec<(jiff::Timestamp, Rollup)>> {
        Ok(self.core.sums.series(workspace, query, &self.core.pruned())?.into_iter().collect())
    }

    fn spent(&self, workspace: &str, days: DayRange) -> Result<Vec<Spent>> {
        self.core.sums.spent(workspace, days, &self.core.pruned())
    }

    fn logs(&self, workspace: &str, query: &LogQuery) -> Result<LogPage> {
        let rows = query.limit.clamp(1, MAX_ROWS);
        let (provider, status, skip) = (query.provider.as_deref(), query.status, query.page.saturating_mul(rows));
        let wanted = Wanted { provider, status, skip, rows, ..self.wanted(query.days)? };
        let found = self.core.journal.search(workspace, &wanted)?;
        let requests = self.core.journal.read(&found)?.into_iter().filter_map(record).collect();
        Ok(LogPage { requests, total: found.total })
    }

    fn export(
        &self,
        workspace: &str,
        after: u64,
        days: DayRange,
        visit: &mut dyn FnMut(u64, RequestRecord) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.core.journal.export(workspace, after, &self.wanted(days)?, &mut |number, entry| match record(entry) {
            Some(record) => visit(number, record),
            None => Ok(ControlFlow::Continue(())),
        })
    }

    fn prune(&self, keep: &Keep) -> Result<u64> {
        let _one = held(&self.pruning);
        let core = &self.core;
        core.journal.close_if_older(keep.close.as_millisecond())?;
        core.fold()?;
        let mut pruned = core.pruned();
        let gone = self.drop_segments(keep, &mut pruned)?;
        let hidden = pruned.log;
        let pruned = pruned.and(keep);
        core.tenants.rows().apply(vec![(PRUNED.to_vec(), Some(write(&pruned)?))])?;
        let hiding = core.journal.count(hidden..pruned.log, None)?;
        *core.pruned.write().unwrap_or_else(PoisonError::into_inner) = pruned;
        core.sums.shed(&pruned)?;
        Ok(gone + hiding)
    }

    fn healthy(&self) -> bool {
        self.core.journal.is_writable() && self.core.tenants.rows().get(PRUNED).is_ok()
    }
}

fn record(entry: Entry<'static>) -> Option<RequestRecord> {
    match entry {
        Entry::Booking(record) | Entry::Logged(record) => Some(record.into_owned()),
        _ => None,
    }
}

fn apart(cause: &str) -> Error {
    let text =
        format!("The parts of the store don't belong together: {cause}. `perpetuo store rebuild` makes them anew.");
    Error::new(ErrorKind::Internal, text)
}
