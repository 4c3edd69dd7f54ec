//! What the journal holds, and how an entry becomes bytes.
//!
//! ```text
//! payload  form 1 | kind 1 | length of the JSON 4 | JSON                    (form 0: a gap, which must be found without more)
//!          form 1 | kind 1 | length of the JSON 4 | JSON, compressed        (form 1: what is written seldom)
//!          form 1 | kind 1 | fields in their order                          (form 2: a booking, see `compact`)
//! ```
//!
//! What is written seldom is JSON, so that a field can come or go; bookings of older versions were, too, compressed against a sample
//! of one. Not here: where entries lie (`journal`), what follows from them (`state`).

use std::borrow::Cow;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use super::compact;
use super::journal::Brief;
use super::{CredentialRecord, KeyRecord, RequestRecord, Rollup, WorkspaceRecord};
use crate::error::{Error, Result};
use crate::store::told;

/// The sample. It is part of the form: another one needs another number.
const SAMPLE: &[u8] = include_bytes!("entry.sample.json");
const COMPRESSED: u8 = 1;
const PLAIN: u8 = 0;
const COMPACT: u8 = 2;
const HEAD: usize = 6;
/// The fastest level is within a tenth of the best for so little text.
const LEVEL: i32 = 1;
/// Bytes of most bookings.
const USUAL: usize = 384;
/// The longest JSON.
const MAX_JSON: usize = 64 * 1024 * 1024;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry<'r> {
    /// A request ended: a row of the log, and sums.
    Booking(Cow<'r, RequestRecord>),
    /// A row of the log that is in the sums already, from a store without a journal.
    Logged(Cow<'r, RequestRecord>),
    /// A workspace was made or changed.
    Workspace(Cow<'r, WorkspaceRecord>),
    /// A credential was made or changed.
    Credential(Cow<'r, CredentialRecord>),
    /// A virtual key was made or changed.
    Key(Cow<'r, KeyRecord>),
    /// A workspace was deleted, with its credentials and keys.
    WorkspaceDeleted(Cow<'r, str>),
    /// A credential was deleted.
    CredentialDeleted(Owned<'r>),
    /// A virtual key was deleted.
    KeyDeleted(Owned<'r>),
    /// Sums from a store without a journal.
    Carried(Box<Carried>),
    /// Entries up to this number are lost.
    Gap(u64),
}

/// Something of a workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Owned<'r> {
    pub(super) workspace: Cow<'r, str>,
    pub(super) id: Cow<'r, str>,
}

/// A sum over a day: of a provider, or of a virtual key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Carried {
    pub(super) workspace: String,
    /// The beginning of the day.
    pub(super) day: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    pub(super) sums: Rollup,
}

const BOOKING: u8 = 1;
const LOGGED: u8 = 2;
const WORKSPACE: u8 = 3;
const CREDENTIAL: u8 = 4;
const KEY: u8 = 5;
const WORKSPACE_DELETED: u8 = 6;
const CREDENTIAL_DELETED: u8 = 7;
const KEY_DELETED: u8 = 8;
const CARRIED: u8 = 9;
const GAP: u8 = 255;

impl Entry<'_> {
    const fn kind(&self) -> u8 {
        match self {
            Self::Booking(_) => BOOKING,
            Self::Logged(_) => LOGGED,
            Self::Workspace(_) => WORKSPACE,
            Self::Credential(_) => CREDENTIAL,
            Self::Key(_) => KEY,
            Self::WorkspaceDeleted(_) => WORKSPACE_DELETED,
            Self::CredentialDeleted(_) => CREDENTIAL_DELETED,
            Self::KeyDeleted(_) => KEY_DELETED,
            Self::Carried(_) => CARRIED,
            Self::Gap(_) => GAP,
        }
    }

    fn json(&self) -> serde_json::Result<Vec<u8>> {
        match self {
            Self::Booking(record) | Self::Logged(record) => serde_json::to_vec(record),
            Self::Workspace(record) => serde_json::to_vec(record),
            Self::Credential(record) => serde_json::to_vec(record),
            Self::Key(record) => serde_json::to_vec(record),
            Self::WorkspaceDeleted(id) => serde_json::to_vec(id),
            Self::CredentialDeleted(owned) | Self::KeyDeleted(owned) => serde_json::to_vec(owned),
            Self::Carried(carried) => serde_json::to_vec(carried),
            Self::Gap(through) => serde_json::to_vec(through),
        }
    }

    /// What the request log's index knows of it; none for what is no row of the log.
    pub(super) fn brief(&self) -> Option<Brief<'_>> {
        match self {
            Self::Booking(record) | Self::Logged(record) => Some(Brief {
                workspace: &record.workspace,
                at: record.created_at.as_millisecond(),
                provider: record.provider.as_deref(),
                status: record.status,
            }),
            _ => None,
        }
    }
}

/// The number up to which a payload says that entries are lost; none for every other payload.
pub(super) fn gap(payload: &[u8]) -> Option<u64> {
    let json = payload.strip_prefix(&[PLAIN, GAP])?.get(HEAD - 2..)?;
    serde_json::from_slice(json).ok()
}

/// The fields that an index is made of.
#[derive(Deserialize)]
pub(super) struct Indexed {
    workspace: String,
    created_at: Timestamp,
    #[serde(default)]
    provider: Option<String>,
    status: u16,
}

impl Indexed {
    pub(super) fn brief(&self) -> Brief<'_> {
        let (provider, status) = (self.provider.as_deref(), self.status);
        Brief { workspace: &self.workspace, at: self.created_at.as_millisecond(), provider, status }
    }
}

/// Makes bytes of entries.
pub(super) struct Codec {
    compressor: Mutex<Compressor<'static>>,
}

impl Codec {
    pub(super) fn new() -> Result<Self> {
        let mut compressor = Compressor::with_dictionary(LEVEL, SAMPLE).map_err(Error::internal)?;
        // The length stands in the head.
        compressor.set_parameter(CParameter::ContentSizeFlag(false)).map_err(Error::internal)?;
        Ok(Self { compressor: Mutex::new(compressor) })
    }

    pub(super) fn encode(&self, entry: &Entry<'_>) -> Result<Vec<u8>> {
        if let Entry::Booking(record) | Entry::Logged(record) = entry {
            let mut payload = Vec::with_capacity(USUAL);
            payload.extend_from_slice(&[COMPACT, entry.kind()]);
            let payload = compact::write(record, payload)?;
            return if payload.len() > MAX_JSON { Err(too_large()) } else { Ok(payload) };
        }
        self.encode_json(entry)
    }

    fn encode_json(&self, entry: &Entry<'_>) -> Result<Vec<u8>> {
        let json = entry.json().map_err(Error::internal)?;
        let Some(length) = u32::try_from(json.len()).ok().filter(|length| *length as usize <= MAX_JSON) else {
            return Err(too_large());
        };
        let form = if matches!(entry, Entry::Gap(_)) { PLAIN } else { COMPRESSED };
        let mut payload = vec![form, entry.kind()];
        payload.extend_from_slice(&length.to_le_bytes());
        if form == PLAIN {
            payload.extend_from_slice(&json);
        } else {
            let mut compressor = self.compressor.lock().unwrap_or_else(PoisonError::into_inner);
            payload.extend_from_slice(&compressor.compress(&json).map_err(Error::internal)?);
        }
        Ok(payload)
    }

    /// Reads entries. Making one costs more than using it.
    #[expect(clippy::unused_self, reason = "whoever reads must have what wrote")]
    pub(super) fn decoder(&self) -> Result<Decoder> {
        Ok(Decoder { decompressor: Decompressor::with_dictionary(SAMPLE).map_err(Error::internal)? })
    }
}

/// Makes entries of bytes.
pub(super) struct Decoder {
    decompressor: Decompressor<'static>,
}

impl Decoder {
    pub(super) fn decode(&mut self, payload: &[u8]) -> Result<Entry<'static>> {
        if let Some((&[COMPACT, kind], fields)) = payload.split_first_chunk() {
            let record = Cow::Owned(compact::read(fields)?);
            return match kind {
                BOOKING => Ok(Entry::Booking(record)),
                LOGGED => Ok(Entry::Logged(record)),
                _ => Err(unknown()),
            };
        }
        let (kind, json) = self.json(payload)?;
        Ok(match kind {
            BOOKING => Entry::Booking(Cow::Owned(read(&json)?)),
            LOGGED => Entry::Logged(Cow::Owned(read(&json)?)),
            WORKSPACE => Entry::Workspace(Cow::Owned(read(&json)?)),
            CREDENTIAL => Entry::Credential(Cow::Owned(read(&json)?)),
            KEY => Entry::Key(Cow::Owned(read(&json)?)),
            WORKSPACE_DELETED => Entry::WorkspaceDeleted(Cow::Owned(read(&json)?)),
            CREDENTIAL_DELETED => Entry::CredentialDeleted(read(&json)?),
            KEY_DELETED => Entry::KeyDeleted(read(&json)?),
            CARRIED => Entry::Carried(read(&json)?),
            GAP => Entry::Gap(read(&json)?),
            _ => return Err(unknown()),
        })
    }

    /// What an index knows of an entry; none for what is no row of the log.
    pub(super) fn mark(&mut self, payload: &[u8]) -> Result<Option<Indexed>> {
        if !matches!(payload.get(1), Some(&(BOOKING | LOGGED))) {
            return Ok(None);
        }
        if let Some((&[COMPACT, _], fields)) = payload.split_first_chunk() {
            let RequestRecord { workspace, created_at, provider, status, .. } = compact::read(fields)?;
            return Ok(Some(Indexed { workspace, created_at, provider, status }));
        }
        let (_, json) = self.json(payload)?;
        read(&json).map(Some)
    }

    fn json(&mut self, payload: &[u8]) -> Result<(u8, Vec<u8>)> {
        let (Some((&[form, kind, a, b, c, d], body)), true) = (payload.split_first_chunk(), payload.len() > HEAD)
        else {
            return Err(unknown());
        };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        match form {
            PLAIN => Ok((kind, body.to_vec())),
            COMPRESSED if length <= MAX_JSON => {
                Ok((kind, self.decompressor.decompress(body, length).map_err(Error::internal)?))
            }
            _ => Err(unknown()),
        }
    }
}

fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| told(format!("an entry of the journal can't be read: {error}")))
}

fn too_large() -> Error {
    Error::invalid("booking", "A record is larger than the journal takes.")
}

fn unknown() -> Error {
    told("an entry of the journal is of a kind that this version does not know")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::suite::booking;

    #[test]
    fn entries_come_back_and_a_booking_takes_a_fraction_of_its_json() {
        let codec = Codec::new().unwrap();
        let record = booking("ws_0123456789abcdef", "req_0123456789abcdef0123456789abcdef", "2026-01-01T00:00:00Z");
        let json = serde_json::to_vec(&record).unwrap().len();
        let owned = Owned { workspace: "ws".into(), id: "key_1".into() };
        let entries = [
            Entry::Booking(Cow::Owned(record)),
            Entry::WorkspaceDeleted("ws".into()),
            Entry::KeyDeleted(owned),
            Entry::Gap(77),
        ];
        for entry in &entries {
            let payload = codec.encode(entry).unwrap();
            assert_eq!(&codec.decoder().unwrap().decode(&payload).unwrap(), entry);
            assert_eq!(gap(&payload), if *entry == Entry::Gap(77) { Some(77) } else { None });
        }
        let payload = codec.encode(&entries[0]).unwrap();
        assert!(payload.len() * 3 < json, "{} of {json} bytes", payload.len());
        assert_eq!(codec.decoder().unwrap().mark(&payload).unwrap().unwrap().brief().workspace, "ws_0123456789abcdef");
    }

    #[test]
    fn a_booking_of_an_older_version_is_read() {
        let codec = Codec::new().unwrap();
        let entry = Entry::Booking(Cow::Owned(booking("ws_1", "req_1", "2026-01-01T00:00:00Z")));
        let payload = codec.encode_json(&entry).unwrap();
        assert_eq!(payload[0], COMPRESSED);
        assert_eq!(codec.decoder().unwrap().decode(&payload).unwrap(), entry);
        assert_eq!(codec.decoder().unwrap().mark(&payload).unwrap().unwrap().brief().workspace, "ws_1");
    }

    #[test]
    fn what_no_version_wrote_is_an_error() {
        let mut decoder = Codec::new().unwrap().decoder().unwrap();
        for payload in [
            &[][..],
            &[1, 1],
            &[9, 1, 2, 0, 0, 0, b'{', b'}'],
            &[0, 99, 2, 0, 0, 0, b'1'],
            &[1, 1, 255, 255, 255, 255, 0],
        ] {
            assert!(decoder.decode(payload).is_err(), "{payload:?}");
        }
    }
}
