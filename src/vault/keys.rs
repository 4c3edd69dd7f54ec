//! Virtual keys: `pk_`, 256 random bits in base62, a checksum of six characters.
//!
//! Not here: whose a key is (`store`). Invariants: only a keyed hash of a key is ever stored; what has not the form of a key is
//! refused by [`looks_right`], before any lookup, and a typo is told from an unknown key by [`well_formed`].

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::MasterKey;
use crate::config::Secret;
use crate::error::{Error, Result};

/// What every key begins with.
const PREFIX: &str = "pk_";
/// Random characters: 62^43 is just above 2^256.
const RANDOM: usize = 43;
/// Characters of the checksum.
const CHECKSUM: usize = 6;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Random bytes below this are taken modulo 62, others are drawn again: every character is equally likely.
const FAIR: u8 = 248;

/// Mints and hashes virtual keys. The pepper of the hash is derived from the master key, so hashes alone are of no use.
///
/// A hash can't be made anew without its key, which nobody here has. So a pepper outlives the master key that it is derived from:
/// it is kept with the keys that were hashed with it, sealed as provider keys are.
pub struct VirtualKeys {
    newest: Pepper,
    older: Vec<Pepper>,
}

/// What keys are hashed with.
struct Pepper {
    text: Secret,
    hmac: Hmac<Sha256>,
}

impl VirtualKeys {
    /// Hashes with this master key. Errors: none that a sound build can meet.
    pub fn new(master: &MasterKey) -> Result<Self> {
        Ok(Self { newest: Pepper::of(master)?, older: Vec::new() })
    }

    /// Finds keys that were hashed with this older master key, too.
    pub fn with_older(mut self, older: &MasterKey) -> Result<Self> {
        self.older.push(Pepper::of(older)?);
        Ok(self)
    }

    /// Finds keys that were hashed with this pepper, too. Errors: it is none.
    pub fn learn(&mut self, pepper: &Secret) -> Result<()> {
        let known = std::iter::once(&self.newest).chain(&self.older).any(|held| held.text.is(pepper));
        if !known {
            self.older.push(Pepper::read(pepper)?);
        }
        Ok(())
    }

    /// What new keys are hashed with.
    pub(crate) const fn pepper(&self) -> &Secret {
        &self.newest.text
    }

    /// The pepper of the oldest master key that is known.
    pub(crate) fn oldest_pepper(&self) -> &Secret {
        &self.older.last().unwrap_or(&self.newest).text
    }

    /// A new key. Errors: `Internal` when the system has no randomness.
    pub fn mint() -> Result<Secret> {
        let mut key = Zeroizing::new(String::with_capacity(PREFIX.len() + RANDOM + CHECKSUM));
        key.push_str(PREFIX);
        let mut bytes = Zeroizing::new([0; 2 * RANDOM]);
        while key.len() < PREFIX.len() + RANDOM {
            getrandom::fill(&mut bytes[..]).map_err(Error::internal)?;
            let missing = PREFIX.len() + RANDOM - key.len();
            let fair = bytes.iter().filter(|byte| **byte < FAIR).take(missing);
            key.extend(fair.map(|byte| base62(u32::from(*byte))));
        }
        let checksum = checksum(&key);
        key.extend(checksum);
        Ok(Secret::new(key.as_str()))
    }

    /// The hash under which a key is stored.
    pub fn hash(&self, key: &str) -> [u8; 32] {
        self.newest.hash(key)
    }

    /// Every hash under which a key may have been stored, the newest master key's first.
    pub fn hashes(&self, key: &str) -> impl Iterator<Item = [u8; 32]> {
        std::iter::once(&self.newest).chain(&self.older).map(move |pepper| pepper.hash(key))
    }
}

impl Pepper {
    fn of(master: &MasterKey) -> Result<Self> {
        Self::read(&master.secret("perpetuo virtual key pepper")?)
    }

    fn read(text: &Secret) -> Result<Self> {
        let bytes = unhex(text.expose()).map(Zeroizing::new).ok_or_else(|| Error::internal("a pepper is malformed"))?;
        let hmac = Hmac::new_from_slice(&bytes[..]).map_err(Error::internal)?;
        Ok(Self { text: text.clone(), hmac })
    }

    fn hash(&self, key: &str) -> [u8; 32] {
        self.hmac.clone().chain_update(key.as_bytes()).finalize().into_bytes().into()
    }
}

/// Whether a text has the form of a key. Whether its checksum is right need not be asked before a look-up, which settles more.
pub fn looks_right(text: &str) -> bool {
    let rest = text.strip_prefix(PREFIX);
    rest.is_some_and(|rest| rest.len() == RANDOM + CHECKSUM && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Whether a text is a key that may have been minted here: its form and its checksum are right.
pub fn well_formed(text: &str) -> bool {
    let Some((body, told)) = text.split_at_checked(PREFIX.len() + RANDOM) else { return false };
    looks_right(text) && told.chars().eq(checksum(body))
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Thirty-two bytes from hexadecimal.
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// The first 32 bits of SHA-256, in base62. It finds typos and leaked keys; it protects nothing.
fn checksum(body: &str) -> [char; CHECKSUM] {
    let digest = Sha256::digest(body.as_bytes());
    let mut rest = digest.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte));
    std::array::from_fn(|_| {
        let digit = base62(rest);
        rest /= 62;
        digit
    })
}

fn base62(number: u32) -> char {
    BASE62.get((number % 62) as usize).map_or('0', |byte| char::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn master(byte: u8) -> MasterKey {
        MasterKey::from_text(&hex(&[byte; 32])).ok().unwrap()
    }

    fn key() -> String {
        VirtualKeys::mint().ok().unwrap().expose().to_owned()
    }

    #[test]
    fn minted_keys_are_well_formed_and_all_different() {
        let keys: HashSet<_> = (0..200).map(|_| key()).collect();
        assert_eq!(keys.len(), 200);
        for key in &keys {
            assert!(well_formed(key), "{key}");
            assert_eq!(key.len(), 52);
        }
        let used: HashSet<_> = keys.iter().flat_map(|key| key[3..46].chars()).collect();
        assert_eq!(used.len(), 62, "some character is never drawn");
    }

    #[test]
    fn a_key_with_any_typo_is_refused() {
        let key = key();
        for at in 0..key.len() {
            let mut bytes = key.clone().into_bytes();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            assert!(!well_formed(&String::from_utf8(bytes).unwrap()), "byte {at}");
        }
        for text in ["", "pk_", &key[..51], &format!("{key}0"), &format!(" {key}"), &"\u{e9}".repeat(26)] {
            assert!(!well_formed(text), "{text}");
        }
    }

    #[test]
    fn the_form_of_a_key_stays_what_clients_hold() {
        assert!(well_formed(&format!("pk_{}QftNj2", "0".repeat(43))));
    }

    #[test]
    fn a_hash_depends_on_the_key_and_on_the_master_key() {
        let (one, two) = (VirtualKeys::new(&master(1)).ok().unwrap(), VirtualKeys::new(&master(2)).ok().unwrap());
        assert_eq!(one.hash("pk_a"), one.hash("pk_a"));
        assert_ne!(one.hash("pk_a"), one.hash("pk_b"));
        assert_ne!(one.hash("pk_a"), two.hash("pk_a"));
        assert_eq!(hex(&one.hash("pk_a")).len(), 64);
        assert_eq!(hex(&[0x00, 0x0f, 0xa5]), "000fa5");
    }

    #[test]
    fn after_a_rotation_keys_are_found_under_both_hashes() {
        let old = VirtualKeys::new(&master(1)).ok().unwrap();
        let rotated = VirtualKeys::new(&master(2)).ok().unwrap().with_older(&master(1)).ok().unwrap();
        let hashes: Vec<_> = rotated.hashes("pk_a").collect();
        assert_eq!(hashes, [rotated.hash("pk_a"), old.hash("pk_a")]);
    }

    #[test]
    fn a_pepper_is_learned_once_and_finds_what_its_master_key_hashed() {
        let old = VirtualKeys::new(&master(1)).ok().unwrap();
        let mut new = VirtualKeys::new(&master(2)).ok().unwrap();
        for pepper in [old.pepper(), old.pepper(), &new.pepper().clone()] {
            new.learn(pepper).ok().unwrap();
        }
        assert_eq!(new.hashes("pk_a").collect::<Vec<_>>(), [new.hash("pk_a"), old.hash("pk_a")]);
        for malformed in ["", "07", &"zz".repeat(32)] {
            assert!(new.learn(&Secret::new(malformed)).is_err());
        }
    }
}
