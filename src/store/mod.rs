//! What outlives the process: workspaces, credentials, virtual keys, the ledger and its roll-ups.
//!
//! [`Store`] is the contract. There is one of it, `ledger`: an append-only journal is what happened, and tenants and sums follow
//! from it. Not here: what anything costs (`meter`), who may do what (`admin`).
//!
//! | module | what |
//! | --- | --- |
//! | `ledger` | the store: commits, applies, writes beside the writers (`job`), prunes (`pruned`) |
//! | `journal` | what happened: segments, indexes, search, checkpoints, repair; `entry` is what it holds, `frame` how bytes are framed |
//! | `sums` | what was used by minute, hour and day: files that are written once; `rollup` adds up |
//! | `tenants` | workspaces, credentials, keys, in `rows` |
//! | `sled`, `memory` | where all that lies: on disk, or nowhere, for tests and for embedders that want nothing on disk |
//! | `verify`, `rebuild` | checks a store, makes it anew |
//! | `carry`, `convert` | bring a store of the first, of the second layout over |
//! | `keys`, `disk`, `records` | how keys order, files that can fail in tests, the records |
//!
//! One suite of tests runs on every store.
//!
//! Invariants: no secret arrives here in clear (provider keys are sealed, virtual keys are hashes); an appended booking is
//! there once, with its roll-ups, or not at all; what was acknowledged is on disk.

mod carry;
mod compact;
mod convert;
mod disk;
mod entry;
#[cfg(test)]
mod faults;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod job;
mod journal;
mod keys;
mod ledger;
pub mod memory;
mod pruned;
pub mod rebuild;
pub mod records;
mod rollup;
mod rows;
pub mod sled;
#[cfg(test)]
pub(crate) mod suite;
mod sums;
mod tenants;
#[cfg(test)]
mod trials;
pub mod verify;

use std::ops::ControlFlow;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::error::{Error, ErrorKind, Result};
pub use records::*;

/// An error that the operator shall read as it is.
fn told(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Internal, text)
}

/// Everything about tenants, read once at start.
#[derive(Clone, Debug, Default)]
pub struct Tenancy {
    /// All workspaces.
    pub workspaces: Vec<WorkspaceRecord>,
    /// All provider credentials, sealed.
    pub credentials: Vec<CredentialRecord>,
    /// All virtual keys, hashed; revoked ones too.
    pub keys: Vec<KeyRecord>,
}

/// The contract. Calls may block on the disk; the request path makes none of them.
///
/// Errors: `Internal`, with the store's own words as the cause.
pub trait Store: Send + Sync {
    /// Reads every tenant record.
    fn tenancy(&self) -> Result<Tenancy>;
    /// Writes a workspace, new or changed, durably.
    fn put_workspace(&self, record: &WorkspaceRecord) -> Result<()>;
    /// Removes a workspace with its credentials and keys. Its ledger stays: what was billed was billed.
    fn delete_workspace(&self, id: &str) -> Result<()>;
    /// Writes a credential, new or changed, durably.
    fn put_credential(&self, record: &CredentialRecord) -> Result<()>;
    /// Removes a credential.
    fn delete_credential(&self, workspace: &str, id: &str) -> Result<()>;
    /// Writes a virtual key, new or changed, durably.
    fn put_key(&self, record: &KeyRecord) -> Result<()>;
    /// Removes a virtual key.
    fn delete_key(&self, workspace: &str, id: &str) -> Result<()>;

    /// Appends bookings and adds them to the roll-ups, all or nothing; on disk when it returns.
    fn append(&self, bookings: &[Booking]) -> Result<()>;
    /// The roll-ups of a workspace over days (UTC, both ends included), sorted by the name of what they are of.
    fn rollups_by(&self, workspace: &str, by: By, days: DayRange) -> Result<Vec<(String, Rollup)>>;
    /// The same, one per provider.
    fn rollups(&self, workspace: &str, days: DayRange) -> Result<Vec<(String, Rollup)>> {
        self.rollups_by(workspace, By::Provider, days)
    }
    /// The roll-ups of a workspace along time, in order; times without an attempt are left out.
    fn series(&self, workspace: &str, query: &SeriesQuery) -> Result<Vec<(Timestamp, Rollup)>>;
    /// What the virtual keys of a workspace spent, by day.
    fn spent(&self, workspace: &str, days: DayRange) -> Result<Vec<Spent>>;
    /// A page of the request log, newest first.
    fn logs(&self, workspace: &str, query: &LogQuery) -> Result<LogPage>;
    /// Shows the records of a workspace that were booked after the one of this number, in the order of booking, with the
    /// numbers of their own. Numbers never change, so a reader can go on where it was. What is booked meanwhile may be left out.
    fn export(
        &self,
        workspace: &str,
        after: u64,
        days: DayRange,
        visit: &mut dyn FnMut(u64, RequestRecord) -> Result<ControlFlow<()>>,
    ) -> Result<()>;
    /// Removes what need not be kept; says how many records of the log that were.
    fn prune(&self, keep: &Keep) -> Result<u64>;
    /// Whether the store can be read and written now.
    fn healthy(&self) -> bool;
}

/// What roll-ups are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The provider.
    Provider,
    /// The virtual key.
    Key,
    /// The upstream name of the model.
    Model,
    /// The day, in UTC.
    Day,
}

/// The length of a time that is summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day in UTC.
    Day,
}

/// Which roll-ups along time are wanted.
#[derive(Clone, Debug)]
pub struct SeriesQuery {
    /// The length of each.
    pub grain: Grain,
    /// Only this virtual key.
    pub key: Option<String>,
    /// Only this provider.
    pub provider: Option<String>,
    /// Only this model, by its upstream name.
    pub model: Option<String>,
    /// Only these days.
    pub days: DayRange,
}

/// What is kept: everything that is not older than these moments, and not more than so many bytes.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// The log's records.
    pub logs: Timestamp,
    /// Bytes of the log; its files are removed whole, the oldest first.
    pub log_bytes: u64,
    /// A file of the log with a record before this moment takes no more, so that it can be removed in time.
    pub close: Timestamp,
    /// Sums by minute.
    pub minutes: Timestamp,
    /// Sums by hour.
    pub hours: Timestamp,
    /// Sums by day.
    pub days: Timestamp,
}

impl Keep {
    /// Everything but the log's records before this moment.
    pub const fn logs_since(moment: Timestamp) -> Self {
        let always = Timestamp::MIN;
        Self { logs: moment, log_bytes: u64::MAX, close: always, minutes: always, hours: always, days: always }
    }
}

/// Days in UTC, both ends included; an absent end is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayRange {
    /// The first day.
    pub start: Option<Date>,
    /// The last day.
    pub end: Option<Date>,
}

impl DayRange {
    /// Whether a day lies inside.
    pub fn contains(&self, day: Date) -> bool {
        self.start.is_none_or(|start| start <= day) && self.end.is_none_or(|end| day <= end)
    }
}

/// Which part of the request log is wanted.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// Pages to skip, from 0.
    pub page: u64,
    /// Rows of a page, 1 to 1000.
    pub limit: u64,
    /// Only requests that this provider answered.
    pub provider: Option<String>,
    /// Only requests of this HTTP status.
    pub status: Option<u16>,
    /// Only these days.
    pub days: DayRange,
}

/// A page of the request log.
#[derive(Clone, Debug, Default)]
pub struct LogPage {
    /// The rows, newest first.
    pub requests: Vec<RequestRecord>,
    /// How many rows match in all.
    pub total: u64,
}
