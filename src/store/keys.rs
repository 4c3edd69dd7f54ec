//! How rows are keyed: one letter for the kind, the workspace, then what orders the rows inside of it.
//!
//! Not here: what a row holds. Invariants: parts end with a zero byte, which no name may hold, so no workspace's rows can
//! lie among another's; the log's time is big-endian with its sign turned, so bytes order as moments do.

use std::ops::Range;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::DayRange;
use crate::error::{Error, Result};

/// A workspace.
pub(super) const WORKSPACE: u8 = b'w';
/// A provider credential.
pub(super) const CREDENTIAL: u8 = b'c';
/// A virtual key.
pub(super) const KEY: u8 = b'k';
/// A row of the request log.
pub(super) const LOG: u8 = b'l';
/// A roll-up.
pub(super) const ROLLUP: u8 = b'r';
/// What a virtual key spent on a day.
pub(super) const SPENT: u8 = b's';
/// What is written to see whether writing works. Keys of the store itself begin with a zero byte, which is no kind.
pub(super) const PROBE: &[u8] = b"\0probe";

/// The beginning of every key of this kind in a workspace. Errors: a zero byte in the name.
pub(super) fn prefix(kind: u8, workspace: &str) -> Result<Vec<u8>> {
    let mut key = vec![kind];
    part(&mut key, workspace)?;
    Ok(key)
}

/// The key of something of a workspace, or of a workspace itself (with an empty id).
pub(super) fn tenant(kind: u8, workspace: &str, id: &str) -> Result<Vec<u8>> {
    let mut key = prefix(kind, workspace)?;
    key.extend_from_slice(id.as_bytes());
    Ok(key)
}

/// The key of a log row. `twin` tells bookings apart that share the moment and the request id.
pub(super) fn log(workspace: &str, at: Timestamp, request_id: &str, twin: u32) -> Result<Vec<u8>> {
    let mut key = moment(workspace, at)?;
    key.push(0);
    part(&mut key, request_id)?;
    key.extend_from_slice(&twin.to_be_bytes());
    Ok(key)
}

/// The smallest key of the log's rows of this moment.
pub(super) fn moment(workspace: &str, at: Timestamp) -> Result<Vec<u8>> {
    let mut key = prefix(LOG, workspace)?;
    key.extend_from_slice(&(at.as_millisecond() ^ i64::MIN).to_be_bytes());
    Ok(key)
}

/// The key of a sum over a day: a roll-up of a provider, or what a virtual key spent.
pub(super) fn daily(kind: u8, workspace: &str, day: Date, of: &str) -> Result<Vec<u8>> {
    let mut key = prefix(kind, workspace)?;
    part(&mut key, &day.to_string())?;
    key.extend_from_slice(of.as_bytes());
    Ok(key)
}

/// The day of such a key, and what the sum is of.
pub(super) fn day_and_subject(key: &[u8]) -> Result<(Date, String)> {
    let text = std::str::from_utf8(key).map_err(|_| Error::internal("a sum's key is no text"))?;
    let mut parts = text.rsplit('\0');
    let (of, day) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let day = day.parse().map_err(|_| Error::internal("a sum's key names no day"))?;
    Ok((day, of.to_owned()))
}

/// The workspace in a key, as bytes.
pub(super) fn workspace(key: &[u8]) -> &[u8] {
    key.split(|byte| *byte == 0).next().and_then(|head| head.get(1..)).unwrap_or_default()
}

/// All keys with this beginning.
pub(super) fn all(prefix: Vec<u8>) -> Range<Vec<u8>> {
    let end = after(prefix.clone());
    prefix..end
}

/// The log's rows of these days.
pub(super) fn log_days(workspace: &str, days: DayRange) -> Result<Range<Vec<u8>>> {
    let mut range = all(prefix(LOG, workspace)?);
    if let Some(start) = days.start {
        range.start = moment(workspace, midnight(start)?)?;
    }
    // The last of all days has no day after it; its end is the end of the log.
    if let Some(Ok(next)) = days.end.map(Date::tomorrow) {
        range.end = moment(workspace, midnight(next)?)?;
    }
    Ok(range)
}

/// The daily sums of a kind over these days.
pub(super) fn sums(kind: u8, workspace: &str, days: DayRange) -> Result<Range<Vec<u8>>> {
    let mut range = all(prefix(kind, workspace)?);
    if let Some(start) = days.start {
        range.start = daily(kind, workspace, start, "")?;
    }
    if let Some(end) = days.end {
        range.end = after(daily(kind, workspace, end, "")?);
    }
    Ok(range)
}

/// The day of a moment, in UTC.
pub(super) fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

fn midnight(day: Date) -> Result<Timestamp> {
    let zoned = day.to_zoned(TimeZone::UTC);
    zoned.map(|zoned| zoned.timestamp()).map_err(|_| Error::invalid("start_date", "This day lies out of range."))
}

/// The smallest key above every key with this beginning: its last byte is a letter or the zero that ends a part.
fn after(mut prefix: Vec<u8>) -> Vec<u8> {
    if let Some(last) = prefix.last_mut() {
        *last = last.saturating_add(1);
    }
    prefix
}

fn part(key: &mut Vec<u8>, text: &str) -> Result<()> {
    if text.contains('\0') {
        return Err(Error::internal("a name in the store holds a zero byte"));
    }
    key.extend_from_slice(text.as_bytes());
    key.push(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_keys_order_as_moments_do_even_before_1970() {
        let moments = [i64::from(i32::MIN), -1, 0, 1, 255, 256, 1_780_000_000_000];
        let keys: Vec<_> =
            moments.iter().map(|ms| log("ws", Timestamp::from_millisecond(*ms).unwrap(), "r", 0).unwrap()).collect();
        assert!(keys.is_sorted());
    }

    #[test]
    fn a_name_with_a_zero_byte_is_refused() {
        assert!(tenant(KEY, "ws\0other", "id").is_err());
        assert!(log("ws", Timestamp::UNIX_EPOCH, "r\0", 0).is_err());
    }
}
