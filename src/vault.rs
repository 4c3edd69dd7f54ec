//! STAND-IN of the admin branch: dropped at the merge.
#![allow(missing_docs)]
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};

use crate::config::Secret;
use crate::error::{Error, Result};

pub struct MasterKey(pub [u8; 32]);
pub struct Vault(());
impl Vault {
    pub fn new(_: &MasterKey) -> Self {
        Self(())
    }
    pub fn seal(&self, workspace: &str, provider: &str, id: &str, plain: &Secret) -> Result<String> {
        Ok(STANDARD.encode(format!("{workspace}|{provider}|{id}|{}", plain.expose())))
    }
    pub fn open(&self, workspace: &str, provider: &str, id: &str, sealed: &str) -> Result<Secret> {
        let text = String::from_utf8(STANDARD.decode(sealed).map_err(Error::internal)?).map_err(Error::internal)?;
        let plain = text.strip_prefix(&format!("{workspace}|{provider}|{id}|"));
        plain.map(Secret::new).ok_or_else(|| Error::internal("not sealed for this"))
    }
}
pub struct VirtualKeys([u8; 32]);
impl VirtualKeys {
    pub fn new(key: &MasterKey) -> Self {
        Self(key.0)
    }
    pub fn mint() -> Result<Secret> {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes).map_err(Error::internal)?;
        Ok(Secret::new(format!("pk_{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())))
    }
    pub fn well_formed(text: &str) -> bool {
        text.len() == 67 && text.starts_with("pk_")
    }
    pub fn hash(&self, text: &str) -> [u8; 32] {
        let mut mac = <Hmac<sha2::Sha256> as Mac>::new_from_slice(&self.0).unwrap_or_else(|_| unreachable!());
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }
}
