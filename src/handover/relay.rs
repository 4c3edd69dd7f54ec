//! The store of a process that may have to give it away: here, then nowhere for a moment, then with the process that follows.
//!
//! Only bookings follow the store to the other process; everything else is refused from then on, as whoever answers must know
//! about tenants what is in the store.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::forward::Forward;
use super::told;
use super::wire::Wire;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{
    Booking, By, CredentialRecord, DayRange, Keep, KeyRecord, LogPage, LogQuery, RequestRecord, Rollup, SeriesQuery,
    Spent, Store, Tenancy, WorkspaceRecord,
};

/// Opens the store.
pub type Open = Arc<dyn Fn() -> Result<Arc<dyn Store>> + Send + Sync>;

/// How often a store that is still being read is looked at, and one that can't be opened is tried again.
const LOOK: Duration = Duration::from_millis(5);
const OPEN_AGAIN: Duration = Duration::from_millis(200);

/// A store that can be given away.
pub struct Relay {
    place: Mutex<Place>,
    moved: Condvar,
    open: Open,
}

/// Where the store is.
enum Place {
    Here(Arc<dyn Store>),
    /// Closed, until it is known whose it is. Bookings wait.
    Away,
    /// With the process that follows.
    There(Arc<Forward>),
}

impl Relay {
    /// Opens the store. Errors: those of opening it.
    pub fn open(open: Open) -> Result<Self> {
        let store = open()?;
        Ok(Self { place: Mutex::new(Place::Here(store)), moved: Condvar::new(), open })
    }

    /// Closes the store, so that another process can open it. Bookings wait from now on.
    ///
    /// Errors: something goes on reading it for longer than this; then it stays.
    pub(crate) fn release(&self, patience: Duration) -> Result<()> {
        let store = self.take()?;
        let deadline = Instant::now() + patience;
        while Arc::strong_count(&store) > 1 {
            if Instant::now() >= deadline {
                self.put(Place::Here(store));
                return Err(told("The store is still being read, by an export perhaps; try again."));
            }
            std::thread::sleep(LOOK);
        }
        drop(store);
        Ok(())
    }

    /// Takes the store out of its place. Errors: it is not here.
    fn take(&self) -> Result<Arc<dyn Store>> {
        let mut place = self.place();
        let store = match &*place {
            Place::Here(store) => Arc::clone(store),
            _ => return Err(gone()),
        };
        *place = Place::Away;
        Ok(store)
    }

    /// Opens the store again if it was closed, as nobody followed; tries until it is open.
    pub(crate) fn take_back(&self) {
        if !matches!(&*self.place(), Place::Away) {
            return;
        }
        let store = loop {
            match (self.open)() {
                Ok(store) => break store,
                Err(error) => tracing::error!(%error, "the store can't be opened again yet; bookings wait"),
            }
            std::thread::sleep(OPEN_AGAIN);
        };
        self.put(Place::Here(store));
    }

    /// Closes the store for good. Errors: as for giving it away; then the next opening has more to do.
    pub fn close(&self, patience: Duration) -> Result<()> {
        self.release(patience)
    }

    /// From now on, bookings go to the process that follows.
    pub(crate) fn follow(&self, wire: Wire, path: PathBuf) {
        self.put(Place::There(Arc::new(Forward::new(wire, path, Arc::clone(&self.open)))));
    }

    fn put(&self, place: Place) {
        *self.place() = place;
        self.moved.notify_all();
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn here(&self) -> Result<Arc<dyn Store>> {
        match &*self.place() {
            Place::Here(store) => Ok(Arc::clone(store)),
            _ => Err(gone()),
        }
    }

    /// Where bookings go, once that is known.
    fn decided(&self) -> Place {
        let away = |place: &mut Place| matches!(place, Place::Away);
        let place = self.moved.wait_while(self.place(), away).unwrap_or_else(PoisonError::into_inner);
        match &*place {
            Place::Here(store) => Place::Here(Arc::clone(store)),
            Place::There(forward) => Place::There(Arc::clone(forward)),
            Place::Away => Place::Away,
        }
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Overloaded, "Another process takes over from this one; try again.")
}

impl Store for Relay {
    fn tenancy(&self) -> Result<Tenancy> {
        self.here()?.tenancy()
    }

    fn put_workspace(&self, record: &WorkspaceRecord) -> Result<()> {
        self.here()?.put_workspace(record)
    }

    fn delete_workspace(&self, id: &str) -> Result<()> {
        self.here()?.delete_workspace(id)
    }

    fn put_credential(&self, record: &CredentialRecord) -> Result<()> {
        self.here()?.put_credential(record)
    }

    fn delete_credential(&self, workspace: &str, id: &str) -> Result<()> {
        self.here()?.delete_credential(workspace, id)
    }

    fn put_key(&self, record: &KeyRecord) -> Result<()> {
        self.here()?.put_key(record)
    }

    fn delete_key(&self, workspace: &str, id: &str) -> Result<()> {
        self.here()?.delete_key(workspace, id)
    }

    fn append(&self, bookings: &[Booking]) -> Result<()> {
        match self.decided() {
            Place::Here(store) => store.append(bookings),
            Place::There(forward) => forward.append(bookings),
            Place::Away => Err(gone()),
        }
    }

    fn rollups_by(&self, workspace: &str, by: By, days: DayRange) -> Result<Vec<(String, Rollup)>> {
        self.here()?.rollups_by(workspace, by, days)
    }

    fn series(&self, workspace: &str, query: &SeriesQuery) -> Result<Vec<(Timestamp, Rollup)>> {
        self.here()?.series(workspace, query)
    }

    fn spent(&self, workspace: &str, days: DayRange) -> Result<Vec<Spent>> {
        self.here()?.spent(workspace, days)
    }

    fn logs(&self, workspace: &str, query: &LogQuery) -> Result<LogPage> {
        self.here()?.logs(workspace, query)
    }

    /// Breaks off, with an error, when the store is given away meanwhile.
    fn export(
        &self,
        workspace: &str,
        after: u64,
        days: DayRange,
        visit: &mut dyn FnMut(u64, RequestRecord) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.here()?.export(workspace, after, days, &mut |number, record| {
            // Asked and dropped: whoever visits may take its time.
            drop(self.here()?);
            visit(number, record)
        })
    }

    fn prune(&self, keep: &Keep) -> Result<u64> {
        self.here()?.prune(keep)
    }

    fn healthy(&self) -> bool {
        // Given away, it is on its way to another process, and nothing is wrong with it.
        self.here().map_or(true, |store| store.healthy())
    }
}

/// Pages of the log that are searched for a booking that may be there.
const PAGES: u64 = 10;

/// Those of these bookings that the store does not have among its newest.
///
/// Errors: the store's.
pub(crate) fn missing(store: &dyn Store, mut bookings: Vec<Booking>) -> Result<Vec<Booking>> {
    for page in 0..PAGES {
        let mut searched: Vec<&String> = bookings.iter().map(|booking| &booking.workspace).collect();
        searched.sort_unstable();
        searched.dedup();
        let mut found = Vec::new();
        for workspace in searched {
            found.extend(store.logs(workspace, &LogQuery { page, limit: 1000, ..LogQuery::default() })?.requests);
        }
        if found.is_empty() {
            break;
        }
        bookings.retain(|booking| !found.iter().any(|record| is_same(booking, record)));
    }
    Ok(bookings)
}

/// Whether a record of the store is this booking; the store keeps its moment to the millisecond.
fn is_same(booking: &Booking, record: &RequestRecord) -> bool {
    booking.request_id == record.request_id
        && booking.created_at.as_millisecond() == record.created_at.as_millisecond()
        && *booking == RequestRecord { created_at: booking.created_at, ..record.clone() }
}

#[cfg(test)]
mod tests;
