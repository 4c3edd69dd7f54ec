//! The store: the journal in front, and what follows from it behind. One code for every place that rows are kept in.
//!
//! A change is committed to the journal first; from then on it happened. It is applied to the state in memory, and folded into
//! the rows after a while. Not here: the form of the journal (`journal`), what follows from an entry (`state`).
//!
//! Invariants: one change at a time; a change that returned is on disk, one that failed is not there; the request log is read
//! from the journal, everything else from the state.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::entry::{Entry, Owned};
use super::journal::{Journal, Wanted, checkpoint};
use super::rows::{Rows, read, write};
use super::state::State;
use super::{
    Booking, By, CredentialRecord, DayRange, Grain, Keep, KeyRecord, LogPage, LogQuery, RequestRecord, Rollup,
    SeriesQuery, Spent, Store, Tenancy, WorkspaceRecord, keys,
};
use crate::error::{Error, ErrorKind, Result};
use crate::money::Money;

/// Entries after which the state is folded: what a start after a crash has to apply again at most.
const FOLD_AFTER: u64 = 16_384;
/// Rows after which the state is folded: what it may gather in memory.
const FOLD_ROWS: usize = 20_000;
/// The largest page of the log.
const MAX_ROWS: u64 = 1000;
/// The moments before which rows were removed, by kind.
pub(super) const PRUNED: &[u8] = b"\0pruned";

/// A journal and the rows that follow from it.
#[expect(private_bounds, reason = "what rows lie in is this module's own affair")]
pub struct Ledger<R: Rows> {
    state: State<R>,
    journal: Journal,
    /// The last entry that is folded; held while a change is made.
    folded: Mutex<u64>,
    /// The log's records before this millisecond are not shown any more, though their segment is still there.
    horizon: AtomicI64,
}

#[expect(private_bounds, reason = "what rows lie in is this module's own affair")]
impl<R: Rows> Ledger<R> {
    /// Over rows, which are brought up to the journal's last entry.
    ///
    /// Errors: rows and journal don't belong together, with what to do.
    pub(super) fn over(rows: R, journal: Journal) -> Result<Self> {
        let state = State::open(rows)?;
        let (through, first, next) = (state.through(), journal.first(), journal.next());
        if through >= next {
            return Err(apart(&format!("the journal ends before entry {through}, which the rows have")));
        }
        if through + 1 < first {
            return Err(apart(&format!("the rows end with entry {through} and the journal begins with {first}")));
        }
        let horizon = pruned(state.rows())?.log;
        let ledger = Self { state, journal, folded: Mutex::new(through), horizon: AtomicI64::new(horizon) };
        let mut folded = ledger.writing();
        ledger.catch_up(&mut folded)?;
        drop(folded);
        Ok(ledger)
    }

    fn writing(&self) -> MutexGuard<'_, u64> {
        self.folded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits and applies.
    fn change(&self, entries: &[Entry<'_>]) -> Result<()> {
        let mut folded = self.writing();
        let first = self.journal.commit(entries)?;
        // From here on it happened. What can't be applied now is applied from the journal later.
        if let Err(error) = self.apply(first, entries, &mut folded) {
            tracing::error!(?error, "the ledger's sums are behind its journal");
        }
        Ok(())
    }

    fn apply(&self, first: u64, entries: &[Entry<'_>], folded: &mut u64) -> Result<()> {
        if self.state.through() + 1 != first {
            return self.catch_up(folded);
        }
        for (number, entry) in (first..).zip(entries) {
            self.state.apply(number, entry)?;
        }
        let tenants = entries.iter().any(|entry| !matches!(entry, Entry::Booking(_)));
        self.fold_when_due(folded, tenants)
    }

    /// Applies what the journal has and the state has not.
    fn catch_up(&self, folded: &mut u64) -> Result<()> {
        self.journal.replay(self.state.through() + 1, &mut |number, entry| {
            self.state.apply(number, &entry)?;
            self.fold_when_due(folded, false)
        })
    }

    fn fold_when_due(&self, folded: &mut u64, now: bool) -> Result<()> {
        let through = self.state.through();
        if now || through.saturating_sub(*folded) >= FOLD_AFTER || self.state.unfolded() >= FOLD_ROWS {
            self.state.fold()?;
            *folded = through;
        }
        Ok(())
    }

    /// Removes whole segments that nobody needs, oldest first, once a checkpoint has what follows from them.
    fn drop_segments(&self, keep: &Keep) -> Result<()> {
        let closed = self.journal.closed();
        let mut bytes: u64 = closed.iter().map(|segment| segment.bytes).sum();
        let mut last = None;
        for segment in closed {
            let outdated = segment.newest.is_none_or(|newest| newest < keep.logs.as_millisecond());
            if !outdated && bytes <= keep.log_bytes {
                break;
            }
            bytes -= segment.bytes;
            last = Some(segment.last);
        }
        let Some(last) = last else { return Ok(()) };
        let mut writing = checkpoint::Writing::begin(self.journal.disk(), self.state.through())?;
        for kind in keys::TENANTS.into_iter().chain(keys::DAILY).chain(keys::FINE) {
            self.state.rows().scan(keys::all(vec![kind]), &mut |key, value| {
                writing.add(key, value)?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        writing.finish()?;
        self.journal.remove_through(last)
    }

    fn prune_sums(&self, keep: &Keep, pruned: &mut Pruned) -> Result<()> {
        let days = keep.days.as_second();
        pruned.days = Grain::Day.begin(days).max(pruned.days);
        pruned.hours = Grain::Hour.begin(keep.hours.as_second()).max(pruned.hours);
        pruned.minutes = Grain::Minute.begin(keep.minutes.as_second()).max(pruned.minutes);
        self.state.rows().apply(vec![(PRUNED.to_vec(), Some(write(pruned)?))])?;
        for kind in keys::DAILY.into_iter().chain(keys::FINE) {
            self.state.prune(kind, pruned.before(kind))?;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn rows_for_test(&self) -> Vec<super::rows::Change> {
        let mut all = Vec::new();
        self.state.fold().unwrap();
        let visit = &mut |key: &[u8], value: &[u8]| {
            all.push((key.to_vec(), Some(value.to_vec())));
            Ok(ControlFlow::Continue(()))
        };
        self.state.rows().scan(Vec::new()..vec![255], visit).unwrap();
        all
    }

    /// The wanted time of the log, in milliseconds.
    fn wanted<'q>(&self, days: DayRange) -> Result<Wanted<'q>> {
        let seconds = keys::seconds(days)?;
        let milliseconds = |second: i64| second.saturating_mul(1000);
        let horizon = self.horizon.load(Ordering::Relaxed);
        let from = seconds.start.map_or(horizon, |start| milliseconds(start).max(horizon));
        Ok(Wanted { from: Some(from), until: seconds.end.map(milliseconds), ..Wanted::default() })
    }
}

impl<R: Rows> Drop for Ledger<R> {
    fn drop(&mut self) {
        let mut folded = self.writing();
        let folding = self.fold_when_due(&mut folded, true);
        drop(folded);
        if let Err(error) = folding {
            tracing::warn!(?error, "the ledger's sums could not be folded; the next start does it");
        }
    }
}

/// The moments before which rows were removed: seconds, and milliseconds of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Pruned {
    log: i64,
    minutes: i64,
    hours: i64,
    days: i64,
}

impl Default for Pruned {
    fn default() -> Self {
        Self { log: i64::MIN, minutes: i64::MIN, hours: i64::MIN, days: i64::MIN }
    }
}

impl Pruned {
    /// The second before which no sum of this kind is kept.
    pub(super) const fn before(&self, kind: u8) -> i64 {
        if kind == Grain::Minute.kind() {
            self.minutes
        } else if kind == Grain::Hour.kind() {
            self.hours
        } else {
            self.days
        }
    }
}

/// What was removed from these rows.
pub(super) fn pruned(rows: &dyn Rows) -> Result<Pruned> {
    Ok(rows.get(PRUNED)?.map(|value| read(&value)).transpose()?.unwrap_or_default())
}

impl<R: Rows> Store for Ledger<R> {
    fn tenancy(&self) -> Result<Tenancy> {
        self.state.tenancy()
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
        Ok(self.state.rollups(workspace, by, days)?.into_iter().collect())
    }

    fn series(&self, workspace: &str, query: &SeriesQuery) -> Result<Vec<(jiff::Timestamp, Rollup)>> {
        Ok(self.state.series(workspace, query)?.into_iter().collect())
    }

    fn spent(&self, workspace: &str, days: DayRange) -> Result<Vec<Spent>> {
        let mut sums = Vec::new();
        self.state.spent(workspace, days, &mut |begin, key, rollup| sums.push((begin, key.to_owned(), rollup.cost)))?;
        let costly = sums.into_iter().filter(|(_, _, cost)| *cost > Money::ZERO);
        costly.map(|(begin, key, cost)| Ok(Spent { key, day: keys::day(begin)?, cost })).collect()
    }

    fn logs(&self, workspace: &str, query: &LogQuery) -> Result<LogPage> {
        let rows = query.limit.clamp(1, MAX_ROWS);
        let (provider, status, skip) = (query.provider.as_deref(), query.status, query.page.saturating_mul(rows));
        let wanted = Wanted { provider, status, skip, rows, ..self.wanted(query.days)? };
        let found = self.journal.search(workspace, &wanted)?;
        let requests = self.journal.read(&found)?.into_iter().filter_map(record).collect();
        Ok(LogPage { requests, total: found.total })
    }

    fn export(
        &self,
        workspace: &str,
        after: u64,
        days: DayRange,
        visit: &mut dyn FnMut(u64, RequestRecord) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.journal.export(workspace, after, &self.wanted(days)?, &mut |number, entry| match record(entry) {
            Some(record) => visit(number, record),
            None => Ok(ControlFlow::Continue(())),
        })
    }

    fn prune(&self, keep: &Keep) -> Result<u64> {
        let mut folded = self.writing();
        self.fold_when_due(&mut folded, true)?;
        let mut pruned = pruned(self.state.rows())?;
        let (before, now) = (pruned.log, keep.logs.as_millisecond().max(pruned.log));
        let shown = self.journal.records_before(i64::MAX)? - self.journal.records_before(before)?;
        self.journal.close_if_older(keep.close.as_millisecond())?;
        self.drop_segments(keep)?;
        pruned.log = now;
        self.prune_sums(keep, &mut pruned)?;
        self.horizon.store(now, Ordering::Relaxed);
        let left = self.journal.records_before(i64::MAX)? - self.journal.records_before(now)?;
        Ok(shown.saturating_sub(left))
    }

    fn healthy(&self) -> bool {
        self.journal.is_writable() && self.state.rows().get(PRUNED).is_ok()
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
        format!("The store's rows don't belong to its journal: {cause}. `perpetuo store rebuild` makes them anew.");
    Error::new(ErrorKind::Internal, text)
}
