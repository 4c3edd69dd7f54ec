//! What a store does, said once over an ordered map of bytes: [`Rows`] is the map, every `Rows` is a [`Store`].
//!
//! Not here: where the bytes lie (`sled`, `memory`). Invariants: every change is one [`Rows::apply`], atomic and durable;
//! what is read, summed and written back is guarded by [`Rows::writing`].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::{ControlFlow, Range};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::page::Pager;
use super::{
    Booking, CredentialRecord, DayRange, KeyRecord, LogPage, LogQuery, Rollup, Spent, Store, Tenancy, WorkspaceRecord,
    keys,
};
use crate::error::{Error, Result};
use crate::money::Money;

/// Rows removed in one piece when the log is pruned.
const PRUNED_AT_ONCE: usize = 1000;

/// Which way rows are walked.
#[derive(Clone, Copy)]
pub(super) enum Order {
    Ascending,
    Descending,
}

/// A change: key, and the new value or none.
pub(super) type Change = (Vec<u8>, Option<Vec<u8>>);

/// Sees one row: key and value; says whether it wants to see more.
pub(super) type Visit<'v> = &'v mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>;

/// An ordered map of bytes.
pub(super) trait Rows: Send + Sync {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Walks the rows of a range, its end excluded.
    fn scan(&self, range: Range<Vec<u8>>, order: Order, visit: Visit<'_>) -> Result<()>;
    /// Makes all changes or none; durable when it returns, and so is everything before it, even without a change.
    fn apply(&self, changes: Vec<Change>) -> Result<()>;
    /// Held while rows are read to be written back.
    fn writing(&self) -> &Mutex<()>;
}

impl<R: Rows> Store for R {
    fn tenancy(&self) -> Result<Tenancy> {
        Ok(Tenancy {
            workspaces: read_all(self, keys::WORKSPACE)?,
            credentials: read_all(self, keys::CREDENTIAL)?,
            keys: read_all(self, keys::KEY)?,
        })
    }

    fn put_workspace(&self, record: &WorkspaceRecord) -> Result<()> {
        self.apply(vec![put(keys::tenant(keys::WORKSPACE, &record.id, "")?, record)?])
    }

    fn delete_workspace(&self, id: &str) -> Result<()> {
        let mut changes = vec![(keys::tenant(keys::WORKSPACE, id, "")?, None)];
        for kind in [keys::CREDENTIAL, keys::KEY] {
            self.scan(keys::all(keys::prefix(kind, id)?), Order::Ascending, &mut |key, _| {
                changes.push((key.to_vec(), None));
                Ok(ControlFlow::Continue(()))
            })?;
        }
        self.apply(changes)
    }

    fn put_credential(&self, record: &CredentialRecord) -> Result<()> {
        self.apply(vec![put(keys::tenant(keys::CREDENTIAL, &record.workspace, &record.id)?, record)?])
    }

    fn delete_credential(&self, workspace: &str, id: &str) -> Result<()> {
        self.apply(vec![(keys::tenant(keys::CREDENTIAL, workspace, id)?, None)])
    }

    fn put_key(&self, record: &KeyRecord) -> Result<()> {
        self.apply(vec![put(keys::tenant(keys::KEY, &record.workspace, &record.id)?, record)?])
    }

    fn delete_key(&self, workspace: &str, id: &str) -> Result<()> {
        self.apply(vec![(keys::tenant(keys::KEY, workspace, id)?, None)])
    }

    /// A booking that is already there is passed over, so that a batch may be appended again when its flush failed.
    fn append(&self, bookings: &[Booking]) -> Result<()> {
        let _guard = self.writing().lock().unwrap_or_else(PoisonError::into_inner);
        let mut piece = Piece::default();
        for booking in bookings {
            piece.add(self, booking)?;
        }
        self.apply(piece.changes()?)
    }

    fn rollups(&self, workspace: &str, days: DayRange) -> Result<Vec<(String, Rollup)>> {
        let mut sums: BTreeMap<String, Rollup> = BTreeMap::new();
        self.scan(keys::sums(keys::ROLLUP, workspace, days)?, Order::Ascending, &mut |key, value| {
            let (_, provider) = keys::day_and_subject(key)?;
            sums.entry(provider).or_default().merge(&read(value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(sums.into_iter().collect())
    }

    fn spent(&self, workspace: &str, days: DayRange) -> Result<Vec<Spent>> {
        let mut all = Vec::new();
        self.scan(keys::sums(keys::SPENT, workspace, days)?, Order::Ascending, &mut |key, value| {
            let (day, key) = keys::day_and_subject(key)?;
            all.push(Spent { key, day, cost: read(value)? });
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(all)
    }

    fn logs(&self, workspace: &str, query: &LogQuery) -> Result<LogPage> {
        let mut pager = Pager::new(query);
        self.scan(keys::log_days(workspace, query.days)?, Order::Descending, &mut |_, value| {
            pager.offer(|| read(value))?;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(pager.finish())
    }

    fn prune(&self, before: Timestamp) -> Result<u64> {
        let mut pruned = 0;
        let mut next = keys::all(vec![keys::LOG]);
        while let Some(key) = first(self, next.clone())? {
            let workspace = std::str::from_utf8(keys::workspace(&key)).map_err(Error::internal)?;
            let rows = keys::all(keys::prefix(keys::LOG, workspace)?);
            next.start = rows.end;
            pruned += remove_all(self, &(rows.start..keys::moment(workspace, before)?))?;
        }
        Ok(pruned)
    }

    fn healthy(&self) -> bool {
        let probe = || {
            self.apply(vec![(keys::PROBE.to_vec(), Some(vec![1]))])?;
            self.get(keys::PROBE)
        };
        matches!(probe(), Ok(Some(_)))
    }
}

/// Bookings on their way into one atomic change.
#[derive(Default)]
struct Piece {
    log: BTreeMap<Vec<u8>, Vec<u8>>,
    rollups: BTreeMap<Vec<u8>, Rollup>,
    spent: BTreeMap<Vec<u8>, Money>,
}

impl Piece {
    fn add(&mut self, rows: &impl Rows, booking: &Booking) -> Result<()> {
        let Some((key, value)) = self.place(rows, booking)? else { return Ok(()) };
        self.log.insert(key, value);
        let day = keys::day(booking.created_at);
        for attempt in &booking.attempts {
            let key = keys::daily(keys::ROLLUP, &booking.workspace, day, &attempt.provider)?;
            sum(&mut self.rollups, rows, key)?.add(attempt);
        }
        let cost = booking.cost();
        if cost > Money::ZERO {
            let key = keys::daily(keys::SPENT, &booking.workspace, day, &booking.key)?;
            *sum(&mut self.spent, rows, key)? += cost;
        }
        Ok(())
    }

    /// The row of a booking; none when this very booking is there already. Another one may share its request id and its
    /// millisecond, as clients may name their requests.
    fn place(&self, rows: &impl Rows, booking: &Booking) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let value = write(booking)?;
        let mut twin = 0;
        loop {
            let key = keys::log(&booking.workspace, booking.created_at, &booking.request_id, twin)?;
            let kept = match self.log.get(&key) {
                Some(value) => Some(value.clone()),
                None => rows.get(&key)?,
            };
            match kept {
                None => return Ok(Some((key, value))),
                Some(kept) if kept == value => return Ok(None),
                Some(_) => twin += 1,
            }
        }
    }

    fn changes(self) -> Result<Vec<Change>> {
        let rows = self.log.into_iter().map(|(key, value)| Ok((key, Some(value))));
        let rollups = self.rollups.iter().map(|(key, rollup)| put(key.clone(), rollup));
        rows.chain(rollups).chain(self.spent.iter().map(|(key, cost)| put(key.clone(), cost))).collect()
    }
}

/// The sum under this key: as it was changed in this piece, else as it is kept, else zero.
fn sum<'s, T: DeserializeOwned + Default>(
    sums: &'s mut BTreeMap<Vec<u8>, T>,
    rows: &impl Rows,
    key: Vec<u8>,
) -> Result<&'s mut T> {
    match sums.entry(key) {
        Entry::Occupied(entry) => Ok(entry.into_mut()),
        Entry::Vacant(entry) => {
            let kept = rows.get(entry.key())?.map(|value| read(&value)).transpose()?;
            Ok(entry.insert(kept.unwrap_or_default()))
        }
    }
}

fn first(rows: &impl Rows, range: Range<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    let mut found = None;
    rows.scan(range, Order::Ascending, &mut |key, _| {
        found = Some(key.to_vec());
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// Removes the rows of a range, a thousand at a time, so that bookings get their turn between.
fn remove_all(rows: &impl Rows, range: &Range<Vec<u8>>) -> Result<u64> {
    let mut removed = 0;
    loop {
        let mut changes: Vec<Change> = Vec::new();
        rows.scan(range.clone(), Order::Ascending, &mut |key, _| {
            changes.push((key.to_vec(), None));
            Ok(if changes.len() < PRUNED_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        let count = changes.len();
        if count == 0 {
            return Ok(removed);
        }
        rows.apply(changes)?;
        removed += count as u64;
    }
}

fn read_all<T: DeserializeOwned>(rows: &impl Rows, kind: u8) -> Result<Vec<T>> {
    let mut records = Vec::new();
    rows.scan(keys::all(vec![kind]), Order::Ascending, &mut |_, value| {
        records.push(read(value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(records)
}

fn put(key: Vec<u8>, record: &impl Serialize) -> Result<Change> {
    Ok((key, Some(write(record)?)))
}

fn write(record: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(record).map_err(Error::internal)
}

fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T> {
    serde_json::from_slice(value)
        .map_err(|error| Error::internal(format!("a record of the store can't be read: {error}")))
}
