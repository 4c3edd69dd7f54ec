//! Secrets at rest: provider keys sealed under a master key (`master`), virtual keys minted, checked and hashed (`keys`).
//!
//! Not here: where what is sealed is kept (`store`), who may use it (`admin`). Invariants: nothing here has a `Debug`; what
//! was sealed opens only in its own workspace, for its own provider and id; the newest master key seals, older ones only open.

mod keys;
mod master;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::error::{Error, Result};

pub use keys::{VirtualKeys, hex, looks_right, unhex, well_formed};
pub use master::MasterKey;

/// The version of the sealed form.
const VERSION: &str = "v1";
/// Bytes of an XChaCha20 nonce: enough to draw them at random.
const NONCE_BYTES: usize = 24;

/// Seals provider keys and opens them.
pub struct Vault {
    newest: MasterKey,
    older: Vec<MasterKey>,
}

impl Vault {
    /// A vault that seals and opens with this key.
    pub const fn new(newest: MasterKey) -> Self {
        Self { newest, older: Vec::new() }
    }

    /// Opens what this older key sealed, too.
    pub fn with_older(mut self, older: MasterKey) -> Self {
        self.older.push(older);
        self
    }

    /// Seals a text as `v1.<key id>.<nonce>.<ciphertext>`, the last two in base64url.
    ///
    /// Errors: `Internal` when the system has no randomness.
    pub fn seal(&self, workspace: &str, provider: &str, id: &str, plain: &Secret) -> Result<String> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(Error::internal)?;
        let aad = place(workspace, provider, id);
        let payload = Payload { msg: plain.expose().as_bytes(), aad: &aad };
        let sealed = cipher(&self.newest, workspace)?
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| Error::internal("sealing failed"))?;
        let (nonce, sealed) = (URL_SAFE_NO_PAD.encode(nonce), URL_SAFE_NO_PAD.encode(sealed));
        Ok(format!("{VERSION}.{}.{nonce}.{sealed}", self.newest.id()))
    }

    /// Opens what was sealed for this workspace, provider and id.
    ///
    /// Errors: `Internal`: it was sealed for another place or with a master key that is not here, or it was changed.
    pub fn open(&self, workspace: &str, provider: &str, id: &str, sealed: &str) -> Result<Secret> {
        let (master, nonce, ciphertext) = self.read(sealed)?;
        let aad = place(workspace, provider, id);
        let payload = Payload { msg: &ciphertext, aad: &aad };
        let plain = cipher(master, workspace)?
            .decrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| Error::internal("a sealed credential was changed, or sealed for another place"))?;
        let plain = Zeroizing::new(plain);
        let text = std::str::from_utf8(&plain).map_err(|_| Error::internal("a sealed credential is no text"))?;
        Ok(Secret::new(text))
    }

    /// Whether the newest master key sealed this; what an older one did should be opened and sealed again.
    pub fn is_newest(&self, sealed: &str) -> bool {
        sealed.split('.').nth(1) == Some(self.newest.id())
    }

    /// The newest master key's fingerprint.
    pub fn newest_id(&self) -> &str {
        self.newest.id()
    }

    /// The fingerprint of the master key that sealed this, where that key is not here.
    pub fn stranger<'s>(&self, sealed: &'s str) -> Option<&'s str> {
        let id = sealed.strip_prefix(VERSION)?.strip_prefix('.')?.split('.').next()?;
        (!self.knows(id)).then_some(id)
    }

    /// Whether the master key with this fingerprint is here.
    pub fn knows(&self, id: &str) -> bool {
        self.masters().any(|master| master.id() == id)
    }

    fn masters(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.newest).chain(&self.older)
    }

    fn read(&self, sealed: &str) -> Result<(&MasterKey, [u8; NONCE_BYTES], Vec<u8>)> {
        let malformed = || Error::internal("a sealed credential is malformed");
        let parts: Vec<&str> = sealed.split('.').collect();
        let [VERSION, kid, nonce, ciphertext] = parts.as_slice() else { return Err(malformed()) };
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| malformed());
        let nonce = decode(nonce)?.try_into().map_err(|_| malformed())?;
        let master = self.masters().find(|master| master.id() == *kid);
        let master =
            master.ok_or_else(|| Error::internal("a credential was sealed with a master key that is not here"))?;
        Ok((master, nonce, decode(ciphertext)?))
    }
}

fn cipher(master: &MasterKey, workspace: &str) -> Result<XChaCha20Poly1305> {
    let key = master.derive("perpetuo provider key", workspace)?;
    Ok(XChaCha20Poly1305::new(key.as_slice().into()))
}

/// What a ciphertext is bound to. Lengths go first, so that no two places read alike.
fn place(workspace: &str, provider: &str, id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [VERSION, workspace, provider, id] {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(byte: u8) -> MasterKey {
        MasterKey::from_text(&hex(&[byte; 32])).unwrap()
    }

    fn sealed(vault: &Vault) -> String {
        vault.seal("ws_1", "openai", "prov_1", &Secret::new("sk-secret")).unwrap()
    }

    fn fails(vault: &Vault, workspace: &str, provider: &str, id: &str, sealed: &str) -> bool {
        vault.open(workspace, provider, id, sealed).is_err()
    }

    #[test]
    fn what_was_sealed_opens_in_its_place_and_does_not_show() {
        let vault = Vault::new(master(1));
        let text = sealed(&vault);
        assert_eq!(vault.open("ws_1", "openai", "prov_1", &text).ok().unwrap().expose(), "sk-secret");
        assert!(text.starts_with("v1.") && !text.contains("secret"), "{text}");
        assert_ne!(text, sealed(&vault), "a nonce was used twice");
    }

    #[test]
    fn a_ciphertext_that_was_moved_does_not_open() {
        let vault = Vault::new(master(1));
        let text = sealed(&vault);
        assert!(fails(&vault, "ws_2", "openai", "prov_1", &text));
        assert!(fails(&vault, "ws_1", "groq", "prov_1", &text));
        assert!(fails(&vault, "ws_1", "openai", "prov_2", &text));
        assert!(fails(&vault, "ws_1", "openaiprov", "_1", &text));
    }

    #[test]
    fn a_ciphertext_that_was_changed_anywhere_does_not_open() {
        let vault = Vault::new(master(1));
        let text = sealed(&vault);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(fails(&vault, "ws_1", "openai", "prov_1", &changed), "byte {at}");
        }
        for end in 0..text.len() {
            assert!(fails(&vault, "ws_1", "openai", "prov_1", &text[..end]), "cut at {end}");
        }
        assert!(fails(&vault, "ws_1", "openai", "prov_1", &format!("{text}.")));
    }

    #[test]
    fn after_a_rotation_old_and_new_open_and_only_the_newest_seals() {
        let old = sealed(&Vault::new(master(1)));
        let rotated = Vault::new(master(2)).with_older(master(1));
        assert_eq!(rotated.open("ws_1", "openai", "prov_1", &old).ok().unwrap().expose(), "sk-secret");
        assert!(!rotated.is_newest(&old));
        let new = sealed(&rotated);
        assert!(rotated.is_newest(&new));
        assert_eq!((rotated.stranger(&old), rotated.stranger(&new)), (None, None));
        let alone = Vault::new(master(2));
        assert_eq!(alone.open("ws_1", "openai", "prov_1", &new).ok().unwrap().expose(), "sk-secret");
        assert!(fails(&alone, "ws_1", "openai", "prov_1", &old));
        assert_eq!(alone.stranger(&old), Some(master(1).id()));
        assert!(alone.knows(alone.newest_id()) && !alone.knows(master(1).id()));
        assert_eq!(["", "v2.x.y.z", "nonsense"].map(|text| alone.stranger(text)), [None; 3]);
    }

    #[test]
    fn an_error_names_neither_the_secret_nor_the_ciphertext() {
        let text = sealed(&Vault::new(master(1)));
        let error = Vault::new(master(2)).open("ws_1", "openai", "prov_1", &text).err().unwrap();
        assert!(!format!("{error:?}").contains(text.split('.').next_back().unwrap()));
    }
}
