//! The master key: read, made, and the keys that are derived from it.
//!
//! Not here: what the derived keys are used for. Invariants: no derived key has two purposes; a key file that others may
//! read is refused; a key file is never overwritten.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind as Io, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{hex, unhex};
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of a master key, and of every key derived from it.
const BYTES: usize = 32;
/// Permissions of others and the right of the group to write; the group may read, as with secrets mounted by orchestrators.
const TOO_OPEN: u32 = 0o037;

/// A master key and its fingerprint.
pub struct MasterKey {
    bytes: Zeroizing<[u8; BYTES]>,
    id: String,
}

impl MasterKey {
    /// Reads the key from a file, or makes one there, for its owner alone, where there is none; its directory, too.
    ///
    /// Errors: `Internal`, with a text for the operator: the file can't be read or made, others may read it, or it holds no key.
    pub fn from_file_or_create(path: &Path) -> Result<Self> {
        match File::open(path) {
            Ok(file) => Self::read(path, &file),
            Err(error) if error.kind() == Io::NotFound => Self::create(path),
            Err(error) => Err(refused(path, "can't be read").with_cause(error)),
        }
    }

    /// Reads a key of 32 bytes from hexadecimal or base64 (either alphabet, padded or not).
    ///
    /// Errors: `Internal` for anything else; the text is not repeated.
    pub fn from_text(text: &str) -> Result<Self> {
        let text = text.trim();
        let bytes = if text.len() == 2 * BYTES { unhex(text) } else { from_base64(text) };
        let no_key = || Error::new(ErrorKind::Internal, "The master key must be 32 bytes in hexadecimal or base64.");
        Self::new(Zeroizing::new(bytes.ok_or_else(no_key)?))
    }

    /// The fingerprint: names the key, says nothing about it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A secret text for one purpose outside of the vault: 64 hexadecimal digits.
    pub fn secret(&self, purpose: &str) -> Result<Secret> {
        Ok(Secret::new(hex(&self.derive(purpose, "")?[..])))
    }

    /// The key for one purpose and one subject.
    pub(super) fn derive(&self, purpose: &str, subject: &str) -> Result<Zeroizing<[u8; BYTES]>> {
        derive(&self.bytes, purpose, subject)
    }

    fn new(bytes: Zeroizing<[u8; BYTES]>) -> Result<Self> {
        let fingerprint = derive(&bytes, "perpetuo master key id", "")?;
        let id = hex(&fingerprint[..]).chars().take(12).collect();
        Ok(Self { bytes, id })
    }

    fn read(path: &Path, file: &File) -> Result<Self> {
        let mode =
            file.metadata().map_err(|error| refused(path, "can't be read").with_cause(error))?.permissions().mode();
        if mode & TOO_OPEN != 0 {
            return Err(refused(path, "may be read or changed by others; set its mode to 0600"));
        }
        let text = std::io::read_to_string(file).map(Zeroizing::new);
        Self::from_text(&text.map_err(|error| refused(path, "can't be read").with_cause(error))?)
            .map_err(|_| refused(path, "holds no key of 32 bytes in hexadecimal or base64"))
    }

    fn create(path: &Path) -> Result<Self> {
        let mut bytes = Zeroizing::new([0; BYTES]);
        getrandom::fill(&mut bytes[..]).map_err(Error::internal)?;
        let text = Zeroizing::new(hex(&bytes[..]));
        match write_new(path, text.as_bytes()) {
            Ok(()) => Self::new(bytes),
            // Another process made it at the same moment; its key is the key.
            Err(error) if error.kind() == Io::AlreadyExists => {
                let file = File::open(path).map_err(|error| refused(path, "can't be read").with_cause(error))?;
                Self::read(path, &file)
            }
            Err(error) => Err(refused(path, "can't be made").with_cause(error)),
        }
    }
}

fn derive(master: &[u8; BYTES], purpose: &str, subject: &str) -> Result<Zeroizing<[u8; BYTES]>> {
    let mut key = Zeroizing::new([0; BYTES]);
    let info = [purpose.as_bytes(), &[0], subject.as_bytes()];
    Hkdf::<Sha256>::new(None, master).expand_multi_info(&info, &mut key[..]).map_err(Error::internal)?;
    Ok(key)
}

/// Writes a file that is whole when it appears: under another name first, then linked, which never replaces one.
fn write_new(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.new", std::process::id()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::hard_link(&draft, path)
    };
    let written = write();
    let _ = fs::remove_file(&draft);
    written?;
    File::open(dir)?.sync_all()
}

fn from_base64(text: &str) -> Option<[u8; BYTES]> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabets = [alphabet::STANDARD, alphabet::URL_SAFE];
    let mut decoded = alphabets.iter().filter_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok());
    let decoded = Zeroizing::new(decoded.next()?);
    decoded.as_slice().try_into().ok()
}

fn refused(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("The master key file {} {why}.", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    #[test]
    fn a_key_file_is_made_once_for_its_owner_only_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new").join("master.key");
        let made = MasterKey::from_file_or_create(&path).ok().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = MasterKey::from_file_or_create(&path).ok().unwrap();
        assert_eq!(made.bytes, read.bytes);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "the draft was left behind");
        let other = MasterKey::from_file_or_create(&dir.path().join("other")).ok().unwrap();
        assert_ne!(made.id(), other.id());
    }

    #[test]
    fn a_link_to_nowhere_is_refused_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(MasterKey::from_file_or_create(&path).is_err());
        assert!(path.is_symlink());
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        MasterKey::from_file_or_create(&path).ok().unwrap();
        for (mode, accepted) in [(0o644, false), (0o604, false), (0o660, false), (0o440, true), (0o400, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = MasterKey::from_file_or_create(&path);
            assert_eq!(read.is_ok(), accepted, "{mode:o}");
            assert!(read.err().is_none_or(|error| error.message().contains("0600")));
        }
    }

    #[test]
    fn a_key_file_without_a_key_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        for content in ["", "not-a-key-but-perhaps-a-secret", "\u{e9}"] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = MasterKey::from_file_or_create(&path).err().unwrap();
            assert!(error.message().contains("holds no key") && !format!("{error:?}").contains("perhaps"), "{error:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_key_is_read_from_hexadecimal_and_both_base64_alphabets() {
        let bytes = [0xFB; BYTES];
        let id = MasterKey::from_text(&hex(&bytes)).ok().unwrap().id;
        for text in
            [STANDARD.encode(bytes), URL_SAFE_NO_PAD.encode(bytes), format!(" {}\n", hex(&bytes).to_uppercase())]
        {
            assert_eq!(MasterKey::from_text(&text).ok().unwrap().id, id);
        }
        for text in ["", "short", &"zz".repeat(32), &hex(&[1; 31]), &STANDARD.encode([1; 33])] {
            assert!(MasterKey::from_text(text).is_err());
        }
    }

    #[test]
    fn purposes_and_subjects_have_keys_of_their_own() {
        let master = MasterKey::from_text(&hex(&[7; BYTES])).ok().unwrap();
        let key = master.derive("a", "b").unwrap();
        assert_ne!(key, master.derive("a", "c").unwrap());
        assert_ne!(key, master.derive("b", "b").unwrap());
        assert_eq!(key, master.derive("a", "b").unwrap());
    }
}
