//! What outlives the process: workspaces, credentials, virtual keys, the ledger and its roll-ups.
//!
//! [`Store`] is the contract; `sled` keeps it on disk, `memory` in tests and for embedders that want nothing on disk. One
//! suite of tests runs on both. Not here: what anything costs (`meter`), who may do what (`admin`).
//!
//! Invariants: no secret arrives here in clear (provider keys are sealed, virtual keys are hashes); an appended booking is
//! there once, with its roll-ups, or not at all.
//!
//! `rows` says once what a store does, over any ordered map of bytes; `keys` orders the rows, `page` pages the log, `rollup` sums.

mod keys;
pub mod memory;
mod page;
pub mod records;
mod rollup;
mod rows;
pub mod sled;
#[cfg(test)]
pub(crate) mod suite;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::error::Result;
pub use records::*;

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
    /// The roll-ups of a workspace over days (UTC, both ends included), one per provider, sorted by name.
    fn rollups(&self, workspace: &str, days: DayRange) -> Result<Vec<(String, Rollup)>>;
    /// What the virtual keys of a workspace spent, by day.
    fn spent(&self, workspace: &str, days: DayRange) -> Result<Vec<Spent>>;
    /// A page of the request log, newest first.
    fn logs(&self, workspace: &str, query: &LogQuery) -> Result<LogPage>;
    /// Removes the log's rows of requests that came before this moment and says how many; the roll-ups stay.
    fn prune(&self, before: Timestamp) -> Result<u64>;
    /// Whether the store can be read and written now.
    fn healthy(&self) -> bool;
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
