//! Every tenant in memory: what the request path reads, and what the admin plane and the first start write through.
//!
//! A reader takes one short read lock and clones an `Arc`; it never waits for the disk. A writer takes its turn, writes the store
//! first and then memory, so that what is in memory is on disk, and a revoked key is refused by the very next
//! [`Directory::authenticate`]. Not here: who may write (`admin`), ranking (`balance`), the ciphers (`vault`).
//!
//! Invariants: a workspace's `revision` is new after every change of it or its credentials; keys are found by their HMAC alone; a
//! credential is always looked up with its workspace; a stored key never moves to another address without being given anew.

mod check;
pub mod rotate;
mod sealed;
mod tenant;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Map;
use uuid::Uuid;

use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::Guard;
use crate::provider::{self, Endpoint, Provider};
use crate::quota::Allowance;
use crate::store::{CredentialRecord, DayRange, Store, Tenancy, WorkspaceRecord};
use crate::vault::{Vault, VirtualKeys, hex, looks_right, unhex, well_formed};

pub use check::{CredentialChange, NewKey, WorkspaceChange, is_upstream_model};
use sealed::Secrets;
pub use sealed::{Options, SEALED};
use tenant::stored_allowance;
pub use tenant::{Caller, Credential, VirtualKey, Workspace};

/// The next revision; of the process, so that a cache that is keyed by it can't mistake one workspace for another.
static REVISION: AtomicU64 = AtomicU64::new(1);

fn next_revision() -> u64 {
    REVISION.fetch_add(1, Ordering::Relaxed)
}

/// All tenants.
pub struct Directory {
    store: Arc<dyn Store>,
    vault: Vault,
    keys: VirtualKeys,
    /// Swapped when the configuration is reloaded.
    guard: ArcSwap<Guard>,
    tenants: RwLock<Tenants>,
    /// Held by a writer from its first look to its last change.
    turn: Mutex<()>,
}

#[derive(Default)]
struct Tenants {
    by_id: HashMap<String, Tenant>,
    /// Keys that are not revoked, by HMAC.
    by_hash: HashMap<[u8; 32], Arc<VirtualKey>>,
}

struct Tenant {
    workspace: Arc<Workspace>,
    keys: BTreeMap<String, Arc<VirtualKey>>,
}

impl Directory {
    /// Reads the store and unseals every credential. One that can't be unsealed is kept, disabled, and logged by id.
    ///
    /// Errors: the store's; something in it was sealed with a master key that is not here, with what to do.
    pub fn open(store: Arc<dyn Store>, vault: Vault, mut keys: VirtualKeys) -> Result<Self> {
        let tenancy = store.tenancy()?;
        rotate::look_over(&tenancy, &vault)?;
        learn_peppers(&tenancy, &vault, &mut keys);
        let tenants = RwLock::new(Tenants::load(tenancy, &vault));
        Ok(Self { store, vault, keys, guard: ArcSwap::default(), tenants, turn: Mutex::new(()) })
    }

    /// Charges every account with what the ledger says was spent this month, so that a restart opens no budget again.
    ///
    /// Errors: the store's.
    pub fn recall_spending(&self, today: Date) -> Result<()> {
        let days = DayRange { start: Some(today.first_of_month()), end: Some(today) };
        for tenant in self.read().by_id.values() {
            for spent in self.store.spent(&tenant.workspace.id, days)? {
                tenant.workspace.account.spent_before(spent.day, spent.cost);
                if let Some(key) = tenant.keys.get(&spent.key) {
                    key.account.spent_before(spent.day, spent.cost);
                }
            }
        }
        Ok(())
    }

    /// Lets credentials that are made from now on point at what this guard allows; before the first call, at public hosts.
    pub fn set_guard(&self, guard: Arc<Guard>) {
        self.guard.store(guard);
    }

    /// Who presents this virtual key; `None` for what is malformed, unknown, revoked or expired, all alike. It is looked up by its
    /// HMAC, which nobody can choose, so that the time it takes tells nothing of the keys that there are.
    pub fn authenticate(&self, presented: &str, now: Timestamp) -> Option<Caller> {
        if !looks_right(presented) {
            return None;
        }
        let tenants = self.read();
        let found = self.keys.hashes(presented).find_map(|hash| tenants.by_hash.get(&hash));
        let key = found.filter(|key| key.is_valid(now))?;
        let tenant = tenants.by_id.get(&key.workspace)?;
        Some(Caller { key: key.clone(), workspace: tenant.workspace.clone() })
    }

    /// The word for why this virtual key is refused: `malformed`, `expired`, or `unknown`, which it is once it is revoked. For
    /// operators; a client learns nothing of it.
    pub fn refusal(&self, presented: &str, now: Timestamp) -> &'static str {
        if !well_formed(presented) {
            return "malformed";
        }
        let tenants = self.read();
        let found = self.keys.hashes(presented).find_map(|hash| tenants.by_hash.get(&hash));
        if found.is_some_and(|key| !key.is_valid(now)) { "expired" } else { "unknown" }
    }

    /// A workspace by id.
    pub fn workspace(&self, id: &str) -> Option<Arc<Workspace>> {
        self.read().by_id.get(id).map(|tenant| tenant.workspace.clone())
    }

    /// Every workspace, in the order of their making.
    pub fn workspaces(&self) -> Vec<Arc<Workspace>> {
        let mut all: Vec<_> = self.read().by_id.values().map(|tenant| tenant.workspace.clone()).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Makes a workspace. Errors: a 400 on the field at fault, or the store's.
    pub fn create_workspace(&self, change: WorkspaceChange, now: Timestamp) -> Result<Arc<Workspace>> {
        let fresh = WorkspaceRecord {
            id: new_id("ws"),
            name: String::new(),
            strategy: None,
            limits: Map::new(),
            hedging: false,
            refuse_unpriced: false,
            created_at: now,
        };
        if change.name.is_none() {
            return Err(Error::invalid("name", "The field 'name' is missing."));
        }
        let _turn = self.turn();
        self.save_workspace(unfilled(fresh), change)
    }

    /// Changes a workspace. Errors: 404, a 400 on the field at fault, or the store's.
    pub fn update_workspace(&self, id: &str, change: WorkspaceChange) -> Result<Arc<Workspace>> {
        let _turn = self.turn();
        let workspace = self.workspace(id).ok_or_else(no_workspace)?;
        self.save_workspace(Workspace::clone(&workspace), change)
    }

    /// Removes a workspace with its credentials and keys; its ledger stays. Errors: 404, or the store's.
    pub fn delete_workspace(&self, id: &str) -> Result<()> {
        let _turn = self.turn();
        self.workspace(id).ok_or_else(no_workspace)?;
        self.store.delete_workspace(id)?;
        let mut tenants = self.write();
        let gone = tenants.by_id.remove(id);
        gone.iter().flat_map(|tenant| tenant.keys.values()).for_each(|key| tenants.shut(key));
        Ok(())
    }

    /// Seals and adds a provider credential. Errors: 404, a 400 on the field at fault, or the store's.
    pub fn create_credential(
        &self,
        workspace: &str,
        provider: &str,
        change: CredentialChange,
        now: Timestamp,
    ) -> Result<Arc<Credential>> {
        let _turn = self.turn();
        let workspace = self.workspace(workspace).ok_or_else(no_workspace)?;
        let provider = check::known_provider(provider)?;
        let fresh = CredentialRecord {
            id: new_id("prov"),
            workspace: workspace.id.clone(),
            provider: provider.name.to_owned(),
            priority: 1,
            weight: 1,
            base_url: None,
            models: BTreeMap::new(),
            enabled: true,
            options: Map::new(),
            sealed: String::new(),
            last_four: String::new(),
            created_at: now,
        };
        let credential = self.changed(fresh, provider, None, change)?;
        self.save_credential(&workspace, credential)
    }

    /// Changes a provider credential. Errors: 404, a 400 on the field at fault, or the store's.
    pub fn update_credential(&self, workspace: &str, id: &str, change: CredentialChange) -> Result<Arc<Credential>> {
        let _turn = self.turn();
        let workspace = self.workspace(workspace).ok_or_else(no_workspace)?;
        let held = workspace.credential(id).ok_or_else(no_credential)?;
        let credential = self.changed(held.record.clone(), held.provider, Some(held), change)?;
        self.save_credential(&workspace, credential)
    }

    /// Removes a provider credential. Errors: 404, or the store's.
    pub fn delete_credential(&self, workspace: &str, id: &str) -> Result<()> {
        let _turn = self.turn();
        let mut workspace = Workspace::clone(&*self.workspace(workspace).ok_or_else(no_workspace)?);
        workspace.credential(id).ok_or_else(no_credential)?;
        self.store.delete_credential(&workspace.id, id)?;
        workspace.credentials.retain(|credential| credential.id != id);
        self.publish(workspace);
        Ok(())
    }

    /// The virtual keys of a workspace, in the order of their making, revoked ones too.
    pub fn keys(&self, workspace: &str) -> Vec<Arc<VirtualKey>> {
        self.read().by_id.get(workspace).map(|tenant| tenant.keys.values().cloned().collect()).unwrap_or_default()
    }

    /// A virtual key by id.
    pub fn key(&self, workspace: &str, id: &str) -> Option<Arc<VirtualKey>> {
        self.read().by_id.get(workspace)?.keys.get(id).cloned()
    }

    /// Makes a virtual key. The key itself is in the answer and nowhere else. Errors: 404, a 400 on the field at fault, or
    /// the store's.
    pub fn create_key(&self, workspace: &str, new: NewKey, now: Timestamp) -> Result<(Arc<VirtualKey>, Secret)> {
        new.check(now)?;
        let _turn = self.turn();
        let workspace = self.workspace(workspace).ok_or_else(no_workspace)?;
        let secret = VirtualKeys::mint()?;
        let id = new_id("key");
        let key = VirtualKey {
            pepper: Some(sealed::seal_pepper(&self.vault, &workspace.id, &id, self.keys.pepper())?),
            id,
            workspace: workspace.id.clone(),
            allowance: new.allowance(&workspace.allowance)?,
            name: new.name.unwrap_or_else(|| "default".to_owned()),
            strategy: new.strategy,
            limits: new.limits,
            account: Arc::default(),
            expires_at: new.expires_at,
            revoked_at: None,
            last_four: secret.last_four(),
            created_at: now,
            hash: hex(&self.keys.hash(secret.expose())),
        };
        Ok((self.save_key(key)?, secret))
    }

    /// Refuses a virtual key from now on; revoking it again changes nothing. Errors: 404, or the store's.
    pub fn revoke_key(&self, workspace: &str, id: &str, now: Timestamp) -> Result<Arc<VirtualKey>> {
        let _turn = self.turn();
        let held = self.key(workspace, id).ok_or_else(no_key)?;
        if held.revoked_at.is_some() {
            return Ok(held);
        }
        let mut key = VirtualKey::clone(&held);
        key.revoked_at = Some(now);
        self.save_key(key)
    }

    /// Removes a virtual key. Errors: 404, or the store's.
    pub fn delete_key(&self, workspace: &str, id: &str) -> Result<()> {
        let _turn = self.turn();
        let key = self.key(workspace, id).ok_or_else(no_key)?;
        self.store.delete_key(workspace, id)?;
        let mut tenants = self.write();
        tenants.shut(&key);
        if let Some(tenant) = tenants.by_id.get_mut(workspace) {
            tenant.keys.remove(id);
        }
        Ok(())
    }

    fn save_workspace(&self, mut workspace: Workspace, change: WorkspaceChange) -> Result<Arc<Workspace>> {
        change.check()?;
        workspace.name = change.name.unwrap_or(workspace.name);
        workspace.strategy = change.strategy.unwrap_or(workspace.strategy);
        workspace.hedging = change.hedging.unwrap_or(workspace.hedging);
        workspace.refuse_unpriced = change.refuse_unpriced.unwrap_or(workspace.refuse_unpriced);
        workspace.limits = change.limits.unwrap_or(workspace.limits);
        workspace.allowance = Allowance::read(&workspace.limits)?;
        self.store.put_workspace(&workspace.record())?;
        Ok(self.publish(workspace))
    }

    /// The credential after a change: checked, and sealed anew where a secret changed.
    fn changed(
        &self,
        mut record: CredentialRecord,
        provider: &'static Provider,
        held: Option<&Arc<Credential>>,
        mut change: CredentialChange,
    ) -> Result<Credential> {
        change.check()?;
        change.apply_plain(&mut record);
        let endpoint = check::endpoint(provider, record.base_url.as_deref())?;
        self.guard.load().check_url(&endpoint)?;
        let before = Before::new(held, &endpoint);
        let reseals = held.is_none() || change.api_key.is_some() || change.options.is_some();
        before.check(change.api_key.is_some(), change.options.is_some(), reseals)?;
        if !reseals {
            let secrets = held.filter(|held| held.usable).map(|held| Secrets::of(held));
            return Ok(assemble(record, provider, Some(endpoint), secrets));
        }
        if let Some(key) = &change.api_key {
            record.last_four = key.last_four();
        }
        let mut secrets = before.secrets();
        if let Some(options) = change.options {
            (record.options, secrets.options) = sealed::split(options, &secrets.options)?;
        }
        secrets.key = change.api_key.unwrap_or(secrets.key);
        if secrets.is_empty() && !provider.keyless {
            return Err(Error::invalid("api_key", "The field 'api_key' is missing."));
        }
        let options = sealed::merge(&record.options, &secrets.options);
        if let Some(grant) = provider.dialect.grant(&secrets.key, &options)? {
            let refuse = |_| check::invalid("options", "the token_uri is not public and not allowed by the operator");
            self.guard.load().check_url(&grant.endpoint).map_err(refuse)?;
        }
        record.sealed = sealed::seal(&self.vault, &record, &secrets)?;
        Ok(assemble(record, provider, Some(endpoint), Some(secrets)))
    }

    fn save_credential(&self, workspace: &Workspace, credential: Credential) -> Result<Arc<Credential>> {
        self.store.put_credential(&credential.record)?;
        let credential = Arc::new(credential);
        let mut workspace = workspace.clone();
        workspace.credentials.retain(|held| held.id != credential.id);
        workspace.credentials.push(credential.clone());
        self.publish(workspace);
        Ok(credential)
    }

    fn save_key(&self, key: VirtualKey) -> Result<Arc<VirtualKey>> {
        self.store.put_key(&key.record())?;
        let key = Arc::new(key);
        self.write().put_key(key.clone());
        Ok(key)
    }

    /// Puts a changed workspace in the place of the old one, under a new revision.
    fn publish(&self, mut workspace: Workspace) -> Arc<Workspace> {
        order(&mut workspace.credentials);
        workspace.revision = next_revision();
        let workspace = Arc::new(workspace);
        self.write().put_workspace(workspace.clone());
        workspace
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Tenants> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tenants> {
        self.tenants.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tenants {
    fn load(tenancy: Tenancy, vault: &Vault) -> Self {
        let mut tenants = Self::default();
        let mut credentials: HashMap<String, Vec<Arc<Credential>>> = HashMap::new();
        for record in tenancy.credentials {
            if let Some(credential) = unsealed(record, vault) {
                credentials.entry(credential.workspace.clone()).or_default().push(Arc::new(credential));
            }
        }
        for record in tenancy.workspaces {
            let mut workspace = unfilled(record);
            workspace.credentials = credentials.remove(&workspace.id).unwrap_or_default();
            workspace.revision = next_revision();
            order(&mut workspace.credentials);
            tenants.put_workspace(Arc::new(workspace));
        }
        for record in tenancy.keys {
            tenants.put_key(Arc::new(record.into()));
        }
        tenants
    }

    fn put_workspace(&mut self, workspace: Arc<Workspace>) {
        let keys = self.by_id.remove(&workspace.id).map(|tenant| tenant.keys).unwrap_or_default();
        self.by_id.insert(workspace.id.clone(), Tenant { workspace, keys });
    }

    fn put_key(&mut self, key: Arc<VirtualKey>) {
        let (Some(hash), Some(tenant)) = (unhex(&key.hash), self.by_id.get_mut(&key.workspace)) else {
            tracing::error!(key = %key.id, "a virtual key without a workspace or with a malformed hash is ignored");
            return;
        };
        tenant.keys.insert(key.id.clone(), key.clone());
        if key.revoked_at.is_some() {
            self.shut(&key);
        } else {
            self.by_hash.insert(hash, key);
        }
    }

    /// Lets a key open nothing any more.
    fn shut(&mut self, key: &VirtualKey) {
        if let Some(hash) = unhex(&key.hash) {
            self.by_hash.remove(&hash);
        }
    }
}

/// Lets keys be found that were hashed with the peppers of earlier master keys. What can't be opened opens no door.
fn learn_peppers(tenancy: &Tenancy, vault: &Vault, keys: &mut VirtualKeys) {
    for record in &tenancy.keys {
        let Some(text) = &record.pepper else { continue };
        let pepper = sealed::open_pepper(vault, record, text);
        if let Err(error) = pepper.and_then(|pepper| keys.learn(&pepper)) {
            tracing::error!(key = %record.id, %error, "what the virtual key was hashed with can't be unsealed; the key is refused");
        }
    }
}

/// What was secret before a change, and whether it may stay.
struct Before<'a> {
    held: Option<&'a Credential>,
    /// The credential now points at another address. Another path on the same host counts: it may be another tenant's there.
    moved: bool,
}

impl<'a> Before<'a> {
    fn new(held: Option<&'a Arc<Credential>>, endpoint: &Endpoint) -> Self {
        let moved = held.is_some_and(|held| held.endpoint != *endpoint);
        Self { held: held.map(Arc::as_ref), moved }
    }

    /// Refuses to keep a secret that would be sent to another address, or that can't be read to be sealed again.
    fn check(&self, key_given: bool, options_given: bool, reseals: bool) -> Result<()> {
        let Some(held) = self.held else { return Ok(()) };
        let lost = reseals && !held.usable;
        let why = if self.moved {
            "another address must not get the stored secret"
        } else {
            "the stored secret is unreadable"
        };
        let has_key = !held.key.expose().is_empty() || !held.usable;
        if (self.moved || lost) && has_key && !key_given {
            return Err(check::invalid("api_key", format!("{why}, so it must be given again")));
        }
        let has_options = held.record.options.values().any(|value| value == SEALED);
        if (self.moved || lost) && has_options && !options_given {
            return Err(check::invalid("options", format!("{why}, so they must be given again")));
        }
        Ok(())
    }

    fn secrets(&self) -> Secrets {
        self.held.filter(|_| !self.moved).map(Secrets::of).unwrap_or_default()
    }
}

/// A stored credential made ready; `None` for a provider this build does not know.
fn unsealed(record: CredentialRecord, vault: &Vault) -> Option<Credential> {
    let Some(provider) = provider::find(&record.provider) else {
        tracing::error!(credential = %record.id, provider = %record.provider, "the provider is unknown; the credential is ignored");
        return None;
    };
    let secrets = sealed::open(vault, &record).ok();
    let endpoint = check::endpoint(provider, record.base_url.as_deref()).ok();
    if secrets.is_none() || endpoint.is_none() {
        tracing::error!(credential = %record.id, "the credential can't be unsealed or its address is unreadable; it is disabled");
    }
    Some(assemble(record, provider, endpoint, secrets))
}

/// A credential from its record and what was sealed in it; without one of them it is unusable.
fn assemble(
    record: CredentialRecord,
    provider: &'static Provider,
    endpoint: Option<Endpoint>,
    secrets: Option<Secrets>,
) -> Credential {
    let usable = endpoint.is_some() && secrets.is_some();
    let secrets = secrets.unwrap_or_default();
    let nowhere = Endpoint { tls: true, host: String::new(), port: 443, path: String::new() };
    Credential {
        id: record.id.clone(),
        workspace: record.workspace.clone(),
        provider,
        priority: record.priority,
        weight: record.weight,
        endpoint: endpoint.unwrap_or(nowhere),
        custom_base_url: record.base_url.is_some(),
        models: record.models.clone(),
        enabled: record.enabled && usable,
        usable,
        options: sealed::merge(&record.options, &secrets.options),
        key: secrets.key,
        last_four: record.last_four.clone(),
        created_at: record.created_at,
        record,
    }
}

/// A workspace without its credentials.
fn unfilled(record: WorkspaceRecord) -> Workspace {
    Workspace {
        allowance: stored_allowance(&record.limits, &record.id),
        account: Arc::default(),
        id: record.id,
        name: record.name,
        strategy: record.strategy,
        limits: record.limits,
        hedging: record.hedging,
        refuse_unpriced: record.refuse_unpriced,
        created_at: record.created_at,
        credentials: Vec::new(),
        revision: 0,
    }
}

fn order(credentials: &mut [Arc<Credential>]) {
    credentials.sort_by(|a, b| (a.priority, &a.id).cmp(&(b.priority, &b.id)));
}

/// An id that sorts by the moment of its making.
fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", Uuid::now_v7().simple())
}

pub(crate) fn no_workspace() -> Error {
    Error::new(ErrorKind::NotFound, "No such workspace.")
}

pub(crate) fn no_credential() -> Error {
    Error::new(ErrorKind::NotFound, "No such provider credential.")
}

pub(crate) fn no_key() -> Error {
    Error::new(ErrorKind::NotFound, "No such API key.")
}
