//! Another master key in the place of the old one: everything that the store has sealed is opened and sealed anew.
//!
//! One record after the other, each of them durable before the next, and each readable before and after with both keys here. So a
//! rotation can be stopped anywhere and begun again, and a gateway that has both keys serves at any point of it. Not here: the
//! ciphers (`vault`), the command line's words around it.
//!
//! Invariants: a record is written only if what it will hold opens to what it held; what can't be opened stays as it is, unless its
//! master key is given up by name.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::sealed::{open_pepper, seal_pepper};
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{CredentialRecord, KeyRecord, Store, Tenancy};
use crate::vault::{Vault, VirtualKeys};

/// What a rotation came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotated {
    /// Records that are sealed with the newest master key now, and were not.
    pub resealed: usize,
    /// Records that were already.
    pub kept: usize,
    /// Records that were given up: credentials without a key now, virtual keys that are revoked.
    pub given_up: usize,
    /// What could not be opened, and why, in words.
    pub unreadable: Vec<String>,
}

/// Seals everything with the vault's newest master key. With `give_up`, what was sealed with the master key of this fingerprint,
/// which is lost, is ended: its credentials must be given their keys again, its virtual keys are revoked.
///
/// Errors: the store's; then what was done is done, and the rest as it was. The key to be given up is here.
pub fn rotate(
    store: &dyn Store,
    vault: &Vault,
    keys: &VirtualKeys,
    give_up: Option<&str>,
    now: Timestamp,
) -> Result<Rotated> {
    if give_up.is_some_and(|id| vault.knows(id)) {
        return Err(told("The master key that is to be given up is here; nothing of it needs to be."));
    }
    let mut rotation = Rotation { store, vault, keys, give_up, now, done: Rotated::default() };
    let tenancy = store.tenancy()?;
    for record in tenancy.credentials {
        rotation.credential(record)?;
    }
    for record in tenancy.keys {
        rotation.key(record)?;
    }
    Ok(rotation.done)
}

/// A rotation under way.
struct Rotation<'a> {
    store: &'a dyn Store,
    vault: &'a Vault,
    keys: &'a VirtualKeys,
    give_up: Option<&'a str>,
    now: Timestamp,
    done: Rotated,
}

impl Rotation<'_> {
    fn credential(&mut self, mut record: CredentialRecord) -> Result<()> {
        if record.sealed.is_empty() {
            return Ok(());
        }
        if self.is_given_up(&record.sealed) {
            record.sealed.clear();
            self.done.given_up += 1;
            return self.store.put_credential(&record);
        }
        let opened = self.vault.open(&record.workspace, &record.provider, &record.id, &record.sealed);
        let Some(plain) = self.opened(opened, &record.sealed, &record.workspace, &record.id) else { return Ok(()) };
        if self.is_done(&record.sealed) {
            return Ok(());
        }
        let sealed = self.vault.seal(&record.workspace, &record.provider, &record.id, &plain)?;
        check(&self.vault.open(&record.workspace, &record.provider, &record.id, &sealed)?, &plain)?;
        record.sealed = sealed;
        self.done.resealed += 1;
        self.store.put_credential(&record)
    }

    fn key(&mut self, mut record: KeyRecord) -> Result<()> {
        let held = record.pepper.clone().unwrap_or_default();
        if self.is_given_up(&held) {
            record.pepper = None;
            record.revoked_at = record.revoked_at.or(Some(self.now));
            self.done.given_up += 1;
            return self.store.put_key(&record);
        }
        // Before peppers were kept there was one master key at a time: the oldest of those that are known.
        let opened = match &record.pepper {
            Some(sealed) => open_pepper(self.vault, &record, sealed),
            None => Ok(self.keys.oldest_pepper().clone()),
        };
        let Some(plain) = self.opened(opened, &held, &record.workspace, &record.id) else { return Ok(()) };
        if self.is_done(&held) {
            return Ok(());
        }
        let sealed = seal_pepper(self.vault, &record.workspace, &record.id, &plain)?;
        check(&open_pepper(self.vault, &record, &sealed)?, &plain)?;
        record.pepper = Some(sealed);
        self.done.resealed += 1;
        self.store.put_key(&record)
    }

    fn is_given_up(&self, sealed: &str) -> bool {
        self.give_up.is_some() && self.vault.stranger(sealed) == self.give_up
    }

    fn is_done(&mut self, sealed: &str) -> bool {
        let done = self.vault.is_newest(sealed);
        self.done.kept += usize::from(done);
        done
    }

    /// What was opened, or a note that it could not be.
    fn opened(&mut self, opened: Result<Secret>, sealed: &str, workspace: &str, id: &str) -> Option<Secret> {
        let why = self.vault.stranger(sealed).map_or_else(
            || "it was changed, or sealed for another place".to_owned(),
            |master| format!("it was sealed with the master key {master}, which is not here"),
        );
        opened.map_err(|_| self.done.unreadable.push(format!("{id} of {workspace}: {why}"))).ok()
    }
}

fn check(opened: &Secret, plain: &Secret) -> Result<()> {
    if opened.is(plain) { Ok(()) } else { Err(told("What was sealed anew does not open to what it was.")) }
}

/// Refuses to go on with a store whose secrets can't be read because their master key is not here: every virtual key and every
/// provider key would fail, one by one, where one word at the start tells why. Notes what a rotation has still to do.
pub(super) fn look_over(tenancy: &Tenancy, vault: &Vault) -> Result<()> {
    let sealed = tenancy.credentials.iter().map(|record| &record.sealed).filter(|sealed| !sealed.is_empty());
    let mut strangers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut older = 0;
    for text in sealed.chain(tenancy.keys.iter().filter_map(|record| record.pepper.as_ref())) {
        match vault.stranger(text) {
            Some(id) => *strangers.entry(id).or_default() += 1,
            None => older += usize::from(!vault.is_newest(text)),
        }
    }
    if older > 0 {
        tracing::info!(secrets = older, "an older master key is still needed; `perpetuo vault rotate` changes that");
    }
    let Some((id, count)) = strangers.first_key_value() else { return Ok(()) };
    Err(told(format!(
        "The store has {count} secrets that were sealed with the master key {id}, which is not here; the one that is here is {}. \
         Start with that key as security.master_key, or name it in security.old_master_keys and run `perpetuo vault rotate`. \
         If it is lost for good, `perpetuo vault rotate --give-up {id}` ends what it sealed: those provider keys must be given \
         again, those virtual keys made anew.",
        vault.newest_id()
    )))
}

fn told(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Internal, text)
}
