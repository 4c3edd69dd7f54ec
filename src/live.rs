//! The requests under way, for whoever looks at them: who asks, for what, which attempt is running, what has come so far.
//!
//! Not here: what is over, which is in the ledger. Cheap on the request path: one insertion and one removal in one of
//! `SHARDS` maps, a lock of the request's own for each attempt, and no lock for a piece of a stream. Invariants: whoever has
//! a [`Ticket`] is listed, nobody else is; the table is bounded, and what finds no room is served all the same.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::api::strategy::StrategyName;
use crate::balance::Candidate;
use crate::directory::Caller;

/// Maps that requests are spread over, so that two threads seldom want the same one.
const SHARDS: usize = 16;
/// Entries of one map.
const ROOM: usize = 2048;

type Shard = HashMap<u64, Arc<Entry>>;

/// Every request under way.
#[derive(Default)]
pub struct Table {
    shards: [Mutex<Shard>; SHARDS],
    next: AtomicU64,
}

/// What is known of a request when it begins.
pub struct Entry {
    /// The answer's `x-request-id`.
    pub request_id: String,
    /// Who asks.
    pub caller: Caller,
    /// The model as the client named it.
    pub model: String,
    /// The strategy that holds for it.
    pub strategy: StrategyName,
    /// Whether it wants a stream.
    pub stream: bool,
    /// When its head was read.
    pub created_at: Timestamp,
    /// The same, for durations.
    pub started: Instant,
    /// What has become of it.
    pub progress: Progress,
}

impl Entry {
    /// How long it has been under way, in milliseconds.
    pub fn elapsed_ms(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.started))
    }
}

/// What has become of a request so far.
#[derive(Default)]
pub struct Progress {
    attempt: Mutex<Option<(u32, Arc<Candidate>)>>,
    /// Milliseconds until the first content, and one; zero for none.
    first: AtomicU64,
    generated: AtomicU64,
}

impl Progress {
    /// An attempt begins, or turns out to be the one that serves: its number from 1, and who is asked.
    pub fn attempt(&self, number: u32, candidate: &Arc<Candidate>) {
        *lock(&self.attempt) = Some((number, Arc::clone(candidate)));
    }

    /// The attempt that began last, or that serves.
    pub fn latest(&self) -> Option<(u32, Arc<Candidate>)> {
        lock(&self.attempt).clone()
    }

    /// The first content came so long after the head.
    pub fn first_content(&self, after: Duration) {
        self.first.store(millis(after).saturating_add(1), Relaxed);
    }

    /// Milliseconds until the first content, once it is there.
    pub fn first_content_ms(&self) -> Option<u64> {
        self.first.load(Relaxed).checked_sub(1)
    }

    /// So many bytes of generated text have passed in all.
    pub fn passed(&self, bytes: u64) {
        self.generated.store(bytes, Relaxed);
    }

    /// Bytes of generated text so far.
    pub fn generated(&self) -> u64 {
        self.generated.load(Relaxed)
    }
}

/// A request's place in the table, which it leaves when this is dropped.
pub struct Ticket {
    table: Arc<Table>,
    number: u64,
    entry: Arc<Entry>,
}

impl Ticket {
    /// What becomes of the request, to be told.
    pub fn progress(&self) -> &Progress {
        &self.entry.progress
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        drop(self.table.shard(self.number).map(|mut shard| shard.remove(&self.number)));
    }
}

impl Table {
    /// Takes a request in, unless there is no room.
    pub fn enter(self: &Arc<Self>, entry: Entry) -> Option<Ticket> {
        let number = self.next.fetch_add(1, Relaxed);
        let entry = Arc::new(entry);
        let mut shard = self.shard(number)?;
        if shard.len() >= ROOM {
            return None;
        }
        shard.insert(number, Arc::clone(&entry));
        drop(shard);
        Some(Ticket { table: Arc::clone(self), number, entry })
    }

    /// Everything under way whose workspace is wanted, oldest first.
    pub fn list(&self, wanted: impl Fn(&str) -> bool) -> Vec<Arc<Entry>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = lock(shard);
            let entries = shard.iter().filter(|(_, entry)| wanted(&entry.caller.workspace.id));
            found.extend(entries.map(|(number, entry)| (*number, Arc::clone(entry))));
        }
        found.sort_unstable_by_key(|(number, _)| *number);
        found.into_iter().map(|(_, entry)| entry).collect()
    }

    fn shard(&self, number: u64) -> Option<MutexGuard<'_, Shard>> {
        self.shards.get(number as usize % SHARDS).map(lock)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{VirtualKey, Workspace};

    fn entry(id: usize, workspace: &str) -> Entry {
        let created_at = Timestamp::UNIX_EPOCH;
        let workspace = Arc::new(Workspace {
            id: workspace.to_owned(),
            name: String::new(),
            strategy: None,
            hedging: false,
            refuse_unpriced: false,
            limits: serde_json::Map::new(),
            allowance: crate::quota::Allowance::default(),
            account: Arc::default(),
            created_at,
            credentials: Vec::new(),
            revision: 1,
        });
        let key = Arc::new(VirtualKey::from(crate::store::KeyRecord {
            id: "key_1".to_owned(),
            workspace: workspace.id.clone(),
            name: String::new(),
            hash: String::new(),
            pepper: None,
            last_four: String::new(),
            strategy: None,
            expires_at: None,
            revoked_at: None,
            limits: serde_json::Map::new(),
            created_at,
        }));
        Entry {
            request_id: format!("req_{id}"),
            caller: Caller { key, workspace },
            model: "gpt-4".to_owned(),
            strategy: StrategyName::Default,
            stream: true,
            created_at,
            started: Instant::now(),
            progress: Progress::default(),
        }
    }

    #[test]
    fn a_request_is_listed_in_its_workspace_from_its_ticket_until_the_ticket_is_dropped() {
        let table = Arc::new(Table::default());
        let tickets: Vec<_> = (0..40).map(|id| table.enter(entry(id, "ws_1")).unwrap()).collect();
        let theirs = table.enter(entry(40, "ws_2")).unwrap();
        let ours = table.list(|workspace| workspace == "ws_1");
        assert_eq!(ours.len(), 40);
        assert!(ours.iter().enumerate().all(|(id, entry)| entry.request_id == format!("req_{id}")), "oldest first");
        drop(tickets);
        assert_eq!(table.list(|_| true).len(), 1);
        drop(theirs);
        assert!(table.list(|_| true).is_empty());
    }

    #[test]
    fn progress_is_seen_by_who_looks() {
        let table = Arc::new(Table::default());
        let ticket = table.enter(entry(0, "ws_1")).unwrap();
        let seen = table.list(|_| true);
        assert_eq!((seen[0].progress.first_content_ms(), seen[0].progress.generated()), (None, 0));
        ticket.progress().first_content(Duration::ZERO);
        ticket.progress().passed(400);
        assert_eq!(seen[0].progress.first_content_ms(), Some(0));
        assert_eq!(seen[0].progress.generated(), 400);
        assert!(seen[0].progress.latest().is_none());
    }

    #[test]
    fn a_full_table_takes_nobody_in_and_lets_go_of_nobody() {
        let table = Arc::new(Table::default());
        let full = SHARDS * ROOM;
        let tickets: Vec<_> = (0..full + 100).map(|id| table.enter(entry(id, "ws_1"))).collect();
        assert_eq!(tickets.iter().flatten().count(), full);
        drop(tickets);
        assert!(table.enter(entry(0, "ws_1")).is_some(), "there is room again");
    }
}
