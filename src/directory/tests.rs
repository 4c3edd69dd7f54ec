//! The directory over a store: what survives a restart, what a failing store changes, what readers see meanwhile.

mod rotation;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::Timestamp;
use serde_json::{Map, json};

use super::*;
use crate::money::{Money, PICO_PER_DOLLAR};
use crate::quota::{Amount, Limit, Reservation, When};
use crate::store::memory::MemoryStore;
use crate::store::{
    Booking, By, DayRange, Keep, KeyRecord, LogPage, LogQuery, RequestRecord, Rollup, SeriesQuery, Spent,
};
use crate::vault::MasterKey;

/// A memory store whose writes can be made to fail.
#[derive(Default)]
struct Fragile {
    inner: MemoryStore,
    broken: AtomicBool,
    /// Writes that were asked for.
    writes: AtomicUsize,
    /// So many are taken, then it breaks; 0 for no such end.
    last_write: AtomicUsize,
}

impl Fragile {
    fn writable(&self) -> Result<&MemoryStore> {
        let (number, last) = (self.writes.fetch_add(1, Ordering::Relaxed) + 1, self.last_write.load(Ordering::Relaxed));
        if self.broken.load(Ordering::Relaxed) || (last > 0 && number > last) {
            return Err(Error::internal("the disk is full"));
        }
        Ok(&self.inner)
    }
}

impl Store for Fragile {
    fn tenancy(&self) -> Result<Tenancy> {
        self.inner.tenancy()
    }
    fn put_workspace(&self, record: &WorkspaceRecord) -> Result<()> {
        self.writable()?.put_workspace(record)
    }
    fn delete_workspace(&self, id: &str) -> Result<()> {
        self.writable()?.delete_workspace(id)
    }
    fn put_credential(&self, record: &CredentialRecord) -> Result<()> {
        self.writable()?.put_credential(record)
    }
    fn delete_credential(&self, workspace: &str, id: &str) -> Result<()> {
        self.writable()?.delete_credential(workspace, id)
    }
    fn put_key(&self, record: &KeyRecord) -> Result<()> {
        self.writable()?.put_key(record)
    }
    fn delete_key(&self, workspace: &str, id: &str) -> Result<()> {
        self.writable()?.delete_key(workspace, id)
    }
    fn append(&self, bookings: &[Booking]) -> Result<()> {
        self.writable()?.append(bookings)
    }
    fn rollups_by(&self, workspace: &str, by: By, days: DayRange) -> Result<Vec<(String, Rollup)>> {
        self.inner.rollups_by(workspace, by, days)
    }
    fn series(&self, workspace: &str, query: &SeriesQuery) -> Result<Vec<(Timestamp, Rollup)>> {
        self.inner.series(workspace, query)
    }
    fn export(
        &self,
        workspace: &str,
        after: u64,
        days: DayRange,
        visit: &mut dyn FnMut(u64, RequestRecord) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.inner.export(workspace, after, days, visit)
    }
    fn spent(&self, workspace: &str, days: DayRange) -> Result<Vec<Spent>> {
        self.inner.spent(workspace, days)
    }
    fn logs(&self, workspace: &str, query: &LogQuery) -> Result<LogPage> {
        self.inner.logs(workspace, query)
    }
    fn prune(&self, keep: &Keep) -> Result<u64> {
        self.inner.prune(keep)
    }
    fn healthy(&self) -> bool {
        self.writable().is_ok()
    }
}

fn now() -> Timestamp {
    "2026-07-15T12:00:00Z".parse().unwrap()
}

/// The first of these master keys seals, the others open.
fn masters(texts: &[&str]) -> (Vault, VirtualKeys) {
    let master = |text: &&str| MasterKey::from_text(&text.repeat(32)).ok().unwrap();
    let newest = master(&texts[0]);
    let keys = VirtualKeys::new(&newest).ok().unwrap();
    texts[1..].iter().map(master).fold((Vault::new(newest), keys), |(vault, keys), older| {
        let keys = keys.with_older(&older).ok().unwrap();
        (vault.with_older(older), keys)
    })
}

fn open_with(store: &Arc<Fragile>, texts: &[&str]) -> Result<Directory> {
    let (vault, keys) = masters(texts);
    Directory::open(store.clone(), vault, keys)
}

fn open(store: &Arc<Fragile>, master: &str) -> Directory {
    open_with(store, &[master]).ok().unwrap()
}

fn workspace(directory: &Directory) -> Arc<Workspace> {
    let change = WorkspaceChange { name: Some("Team".to_owned()), ..WorkspaceChange::default() };
    directory.create_workspace(change, now()).ok().unwrap()
}

fn credential(directory: &Directory, workspace: &str, priority: u32) -> Arc<Credential> {
    let options = json!({"session_token": "t", "region": "eu"});
    let change = CredentialChange {
        api_key: Some(Secret::new("sk-0123456789abcd")),
        priority: Some(priority),
        options: options.as_object().cloned(),
        ..CredentialChange::default()
    };
    directory.create_credential(workspace, "openai", change, now()).ok().unwrap()
}

#[test]
fn a_restart_loses_nothing() {
    let store = Arc::new(Fragile::default());
    let directory = open(&store, "07");
    let id = workspace(&directory).id.clone();
    let second = credential(&directory, &id, 2);
    let first = credential(&directory, &id, 1);
    let (key, secret) = directory.create_key(&id, NewKey::default(), now()).ok().unwrap();

    let directory = open(&store, "07");
    let found = directory.workspace(&id).unwrap();
    assert_eq!(found.name, "Team");
    let order: Vec<&str> = found.credentials.iter().map(|credential| credential.id.as_str()).collect();
    assert_eq!(order, [&first.id, &second.id]);
    let held = &found.credentials[0];
    assert_eq!(held.key.expose(), "sk-0123456789abcd");
    assert_eq!(held.last_four, "abcd");
    assert_eq!(Some(&*held.options), json!({"session_token": "t", "region": "eu"}).as_object());
    assert_eq!(directory.authenticate(secret.expose(), now()).unwrap().key.id, key.id);
}

#[test]
fn a_credential_that_cannot_be_unsealed_is_kept_disabled_until_its_key_is_given_again() {
    let store = Arc::new(Fragile::default());
    let directory = open(&store, "07");
    let id = workspace(&directory).id.clone();
    let made = credential(&directory, &id, 1);
    let mut damaged = store.tenancy().unwrap().credentials.remove(0);
    damaged.sealed.truncate(damaged.sealed.len() - 4);
    store.put_credential(&damaged).unwrap();

    let directory = open(&store, "07");
    let held = directory.workspace(&id).unwrap().credentials[0].clone();
    assert!(!held.usable && !held.enabled && held.switched_on());
    assert!(held.key.expose().is_empty());
    let renamed = CredentialChange { priority: Some(9), ..CredentialChange::default() };
    assert!(!directory.update_credential(&id, &made.id, renamed).ok().unwrap().usable);

    let refused = |change: CredentialChange| {
        let error = directory.update_credential(&id, &made.id, change).err().unwrap();
        error.param().unwrap().to_owned()
    };
    let key = || Some(Secret::new("sk-again-0123456789"));
    assert_eq!(refused(CredentialChange { api_key: key(), ..CredentialChange::default() }), "options");
    assert_eq!(refused(CredentialChange { options: Some(Map::new()), ..CredentialChange::default() }), "api_key");
    let whole = CredentialChange { api_key: key(), options: Some(Map::new()), ..CredentialChange::default() };
    let healed = directory.update_credential(&id, &made.id, whole).ok().unwrap();
    assert!(healed.usable && healed.enabled && healed.priority == 9);
}

#[test]
fn what_the_store_did_not_take_is_not_in_memory() {
    let store = Arc::new(Fragile::default());
    let directory = open(&store, "07");
    let id = workspace(&directory).id.clone();
    let held = credential(&directory, &id, 1);
    let (key, secret) = directory.create_key(&id, NewKey::default(), now()).ok().unwrap();
    let revision = directory.workspace(&id).unwrap().revision;

    store.broken.store(true, Ordering::Relaxed);
    let change = CredentialChange { priority: Some(5), ..CredentialChange::default() };
    assert!(directory.update_credential(&id, &held.id, change).is_err());
    assert!(directory.delete_credential(&id, &held.id).is_err());
    assert!(directory.revoke_key(&id, &key.id, now()).is_err());
    assert!(directory.delete_key(&id, &key.id).is_err());
    assert!(directory.create_key(&id, NewKey::default(), now()).is_err());
    assert!(directory.delete_workspace(&id).is_err());

    let found = directory.workspace(&id).unwrap();
    assert_eq!((found.revision, found.credentials[0].priority), (revision, 1));
    assert_eq!(directory.keys(&id).len(), 1);
    assert!(directory.authenticate(secret.expose(), now()).is_some());
}

proptest::proptest! {
    #[test]
    fn no_text_but_a_key_opens_the_door(text in ".{0,80}", cut in 0_usize..52, other in "[0-9A-Za-z]{0,52}") {
        let directory = open(&Arc::default(), "07");
        let id = workspace(&directory).id.clone();
        let (_, secret) = directory.create_key(&id, NewKey::default(), now()).ok().unwrap();
        let spliced = format!("{}{other}", &secret.expose()[..cut]);
        for presented in [&*text, &*spliced] {
            let opens = directory.authenticate(presented, now()).is_some();
            assert_eq!(opens, presented == secret.expose(), "{presented}");
            directory.refusal(presented, now());
        }
    }
}

#[test]
fn every_change_has_a_revision_of_its_own() {
    let store = Arc::new(Fragile::default());
    let directory = open(&store, "07");
    let (one, two) = (workspace(&directory).id.clone(), workspace(&directory).id.clone());
    let mut seen = HashSet::new();
    let mut note = |id: &str| assert!(seen.insert(directory.workspace(id).unwrap().revision), "a revision came twice");
    note(&one);
    note(&two);
    let held = credential(&directory, &one, 1);
    note(&one);
    let off = CredentialChange { enabled: Some(false), ..CredentialChange::default() };
    assert!(!directory.update_credential(&one, &held.id, off).ok().unwrap().enabled);
    note(&one);
    assert!(directory.delete_credential(&one, &held.id).is_ok());
    note(&one);
    assert!(directory.update_workspace(&two, WorkspaceChange::default()).is_ok());
    note(&two);
    let reopened = open(&store, "07");
    assert!(seen.insert(reopened.workspace(&one).unwrap().revision));
}

#[test]
fn a_credential_is_found_in_its_own_workspace_only() {
    let store = Arc::new(Fragile::default());
    let directory = open(&store, "07");
    let (one, two) = (workspace(&directory).id.clone(), workspace(&directory).id.clone());
    let held = credential(&directory, &one, 1);
    let (key, _) = directory.create_key(&one, NewKey::default(), now()).ok().unwrap();
    let kinds = [
        directory.update_credential(&two, &held.id, CredentialChange::default()).err(),
        directory.delete_credential(&two, &held.id).err(),
        directory.revoke_key(&two, &key.id, now()).err(),
        directory.delete_key(&two, &key.id).err(),
    ];
    assert!(kinds.iter().all(|error| error.as_ref().is_some_and(|error| error.kind() == ErrorKind::NotFound)));
    assert_eq!(directory.workspace(&one).unwrap().credentials.len(), 1);
}

#[test]
fn a_flood_of_writers_loses_no_change() {
    let store = Arc::new(Fragile::default());
    let directory = open(&store, "07");
    let id = workspace(&directory).id.clone();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (1..=10).for_each(|priority| drop(credential(&directory, &id, priority))));
        }
    });
    let found = directory.workspace(&id).unwrap();
    assert_eq!(found.credentials.len(), 40);
    assert!(found.credentials.is_sorted_by_key(|credential| credential.priority));
    assert_eq!(store.tenancy().unwrap().credentials.len(), 40);
}

#[test]
fn a_server_of_ones_own_needs_an_address_and_no_key() {
    let directory = open(&Arc::default(), "ab");
    directory.set_guard(Arc::new(Guard::new(["gpu.internal"])));
    let team = workspace(&directory).id.clone();
    let made = |change| directory.create_credential(&team, "custom", change, now());
    let error = made(CredentialChange::default()).err().unwrap();
    assert_eq!((error.status(), error.param()), (400, Some("base_url")));
    let base_url = Some(Some("http://gpu.internal:8000/v1".to_owned()));
    let credential = made(CredentialChange { base_url, ..CredentialChange::default() }).unwrap();
    assert_eq!(credential.endpoint.authority(), "gpu.internal:8000");
    let gone = CredentialChange { base_url: Some(None), ..CredentialChange::default() };
    let error = directory.update_credential(&team, &credential.id, gone).err().unwrap();
    assert_eq!(error.param(), Some("base_url"));
}

#[test]
fn a_provider_without_an_address_of_its_own_is_told_one_by_its_credential() {
    let directory = open(&Arc::new(Fragile::default()), "07");
    let id = workspace(&directory).id.clone();
    let change = |base_url: Option<&str>| CredentialChange {
        api_key: Some(Secret::new("azure-key-0123456789")),
        base_url: base_url.map(|url| Some(url.to_owned())),
        ..CredentialChange::default()
    };
    let refused = directory.create_credential(&id, "azure", change(None), now()).err().unwrap();
    assert_eq!(refused.param(), Some("base_url"));
    assert!(refused.message().contains("'azure' has no address of its own"), "{}", refused.message());
    let address = change(Some("https://mine.openai.azure.com"));
    let made = directory.create_credential(&id, "azure", address, now()).ok().unwrap();
    assert_eq!(made.endpoint.host, "mine.openai.azure.com");
    let cleared = CredentialChange { base_url: Some(None), ..change(None) };
    let refused = directory.update_credential(&id, &made.id, cleared).err().unwrap();
    assert_eq!(refused.param(), Some("base_url"));
}

#[test]
fn what_was_spent_this_month_counts_again_after_a_restart() {
    let store = Arc::new(Fragile::default());
    let directory = open(&store, "07");
    let limits = serde_json::json!({"usd_per_month": 5}).as_object().unwrap().clone();
    let change = WorkspaceChange { name: Some("Team".to_owned()), limits: Some(limits), ..WorkspaceChange::default() };
    let workspace = directory.create_workspace(change, now()).ok().unwrap();
    let (key, _) = directory.create_key(&workspace.id, NewKey::default(), now()).ok().unwrap();
    for day in ["2026-06-30", "2026-07-01", "2026-07-15"] {
        let mut booking = crate::store::suite::booking(&workspace.id, day, &format!("{day}T10:00:00Z"));
        booking.key.clone_from(&key.id);
        booking.attempts.truncate(1);
        booking.attempts[0].cost = Money(2 * PICO_PER_DOLLAR);
        store.append(&[booking]).unwrap();
    }

    let directory = open(&store, "07");
    directory.recall_spending("2026-07-15".parse().unwrap()).unwrap();
    let caller = Caller {
        key: directory.key(&workspace.id, &key.id).unwrap(),
        workspace: directory.workspace(&workspace.id).unwrap(),
    };
    let take = |dollars: u128| {
        let amount = Amount { tokens: 0, cost: Money(dollars * PICO_PER_DOLLAR) };
        Reservation::take(&caller.subjects(), amount, When { ms: 0, at: now() })
    };
    assert_eq!(take(2).unwrap_err().limit, Limit::Month, "4 of 5 were spent in July");
    assert!(take(1).is_ok());
}
