//! How rows are keyed: one letter for the kind, the workspace, then what orders the rows inside of it.
//!
//! ```text
//! tenant  kind | workspace | 0 | id
//! sum     kind | workspace | 0 | beginning of its time (seconds, 8 bytes) | what it is of
//! ```
//!
//! Not here: what a row holds. Invariants: no name holds a zero byte, so no workspace's rows can lie among another's; times are
//! big-endian with their sign turned, so bytes order as moments do.

use std::ops::Range;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use memchr::memchr;

use super::{By, DayRange, Grain};
use crate::error::{Error, Result};
use crate::store::told;

/// A workspace.
pub(super) const WORKSPACE: u8 = b'w';
/// A provider credential.
pub(super) const CREDENTIAL: u8 = b'c';
/// A virtual key.
pub(super) const KEY: u8 = b'k';
/// Kinds of tenants' rows.
pub(super) const TENANTS: [u8; 3] = [WORKSPACE, CREDENTIAL, KEY];
/// Daily sums of a provider, of a virtual key, of a model.
pub(super) const DAILY: [u8; 3] = [b'p', b'v', b'o'];
/// Sums of a virtual key at a provider with a model, by minute, hour and day.
pub(super) const FINE: [u8; 3] = [b'm', b'h', b'd'];

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

impl By {
    /// The kind of the daily sums that it groups.
    pub(super) const fn kind(self) -> u8 {
        match self {
            Self::Provider | Self::Day => DAILY[0],
            Self::Key => DAILY[1],
            Self::Model => DAILY[2],
        }
    }
}

impl Grain {
    /// Its kind of sums.
    pub(super) const fn kind(self) -> u8 {
        match self {
            Self::Minute => FINE[0],
            Self::Hour => FINE[1],
            Self::Day => FINE[2],
        }
    }

    /// Every grain.
    pub(super) const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// The second that the time of this second begins with.
    pub(super) const fn begin(self, second: i64) -> i64 {
        let length = match self {
            Self::Minute => MINUTE,
            Self::Hour => HOUR,
            Self::Day => DAY,
        };
        second - second.rem_euclid(length)
    }
}

/// About how long a sum's key is.
const USUAL: usize = 128;

/// The beginning of every key of this kind in a workspace. Errors: a zero byte in the name.
pub(super) fn prefix(kind: u8, workspace: &str) -> Result<Vec<u8>> {
    prefix_of(kind, workspace, 64)
}

/// The same, of a key of about so many bytes.
fn prefix_of(kind: u8, workspace: &str, about: usize) -> Result<Vec<u8>> {
    if memchr(0, workspace.as_bytes()).is_some() {
        return Err(Error::invalid("workspace", "A workspace's name can't hold a zero byte."));
    }
    let mut key = Vec::with_capacity(about);
    key.push(kind);
    key.extend_from_slice(workspace.as_bytes());
    key.push(0);
    Ok(key)
}

/// The key of something of a workspace, or of a workspace itself (with an empty id).
pub(super) fn tenant(kind: u8, workspace: &str, id: &str) -> Result<Vec<u8>> {
    let mut key = prefix(kind, workspace)?;
    key.extend_from_slice(id.as_bytes());
    Ok(key)
}

/// The key of a sum: of the time that begins with this second, of what these names say.
pub(super) fn sum(kind: u8, workspace: &str, begin: i64, of: &[&str]) -> Result<Vec<u8>> {
    let mut key = moment(kind, workspace, begin)?;
    for (place, name) in of.iter().enumerate() {
        if place > 0 {
            key.push(0);
        }
        if memchr(0, name.as_bytes()).is_none() {
            key.extend_from_slice(name.as_bytes());
        } else {
            // A model's name comes from a client and must not keep its booking out of the sums.
            key.extend(name.bytes().map(|byte| if byte == 0 { b'?' } else { byte }));
        }
    }
    Ok(key)
}

fn moment(kind: u8, workspace: &str, second: i64) -> Result<Vec<u8>> {
    let mut key = prefix_of(kind, workspace, USUAL)?;
    key.extend_from_slice(&(second ^ i64::MIN).to_be_bytes());
    Ok(key)
}

/// A sum's key, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SumKey<'k> {
    pub(super) begin: i64,
    pub(super) of: Vec<&'k str>,
}

/// Takes a sum's key apart.
pub(super) fn read_sum(key: &[u8]) -> Result<SumKey<'_>> {
    let damaged = || told("a sum's key can't be read");
    let zero = key.iter().position(|byte| *byte == 0).ok_or_else(damaged)?;
    let (time, of) = key.get(zero + 1..).and_then(|rest| rest.split_first_chunk()).ok_or_else(damaged)?;
    let of = std::str::from_utf8(of).map_err(|_| damaged())?.split('\0').collect();
    Ok(SumKey { begin: i64::from_be_bytes(*time) ^ i64::MIN, of })
}

/// All keys with this beginning.
pub(super) fn all(prefix: Vec<u8>) -> Range<Vec<u8>> {
    let end = after(prefix.clone());
    prefix..end
}

/// The sums of a kind whose time begins in this range of seconds.
pub(super) fn sums(kind: u8, workspace: &str, seconds: &Range<Option<i64>>) -> Result<Range<Vec<u8>>> {
    let mut range = all(prefix(kind, workspace)?);
    if let Some(start) = seconds.start {
        range.start = moment(kind, workspace, start)?;
    }
    if let Some(end) = seconds.end {
        range.end = moment(kind, workspace, end)?;
    }
    Ok(range)
}

/// The first second of these days, and the one after the last.
pub(super) fn seconds(days: DayRange) -> Result<Range<Option<i64>>> {
    // The last of all days has no day after it; its end is the end of everything.
    let end = days.end.and_then(|end| end.tomorrow().ok());
    Ok(days.start.map(midnight).transpose()?..end.map(midnight).transpose()?)
}

/// The day that begins with this second, in UTC.
pub(super) fn day(begin: i64) -> Result<Date> {
    Ok(Timestamp::from_second(begin).map_err(Error::internal)?.to_zoned(TimeZone::UTC).date())
}

/// The second that a day begins with, in UTC.
pub(super) fn midnight(day: Date) -> Result<i64> {
    let zoned = day.to_zoned(TimeZone::UTC);
    let begin = zoned.map(|zoned| zoned.timestamp().as_second());
    begin.map_err(|_| Error::invalid("start_date", "This day lies out of range."))
}

/// The smallest key above every key with this beginning: its last byte is a letter or the zero that ends a part.
fn after(mut prefix: Vec<u8>) -> Vec<u8> {
    if let Some(last) = prefix.last_mut() {
        *last = last.saturating_add(1);
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_order_as_moments_do_even_before_1970_and_come_apart_again() {
        let seconds = [i64::from(i32::MIN), -1, 0, 1, 255, 256, 1_780_000_000];
        let keys: Vec<_> =
            seconds.iter().map(|second| sum(b'd', "ws", *second, &["key", "one", "m"]).unwrap()).collect();
        assert!(keys.is_sorted());
        for (key, begin) in keys.iter().zip(seconds) {
            assert_eq!(read_sum(key).unwrap(), SumKey { begin, of: vec!["key", "one", "m"] });
        }
    }

    #[test]
    fn a_workspace_with_a_zero_byte_is_refused_and_a_model_with_one_is_not() {
        assert!(tenant(KEY, "ws\0other", "id").is_err());
        let key = sum(b'd', "ws", 0, &["key", "one", "a\0b"]).unwrap();
        assert_eq!(read_sum(&key).unwrap().of, ["key", "one", "a?b"]);
    }

    #[test]
    fn times_begin_where_they_should() {
        assert_eq!(Grain::ALL.map(|grain| grain.begin(90_061)), [90_060, 90_000, 86_400]);
        assert_eq!(Grain::Day.begin(-1), -86_400);
    }
}
