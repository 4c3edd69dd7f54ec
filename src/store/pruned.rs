//! What was removed because of its age: one row beside the tenants, and in every checkpoint.

use serde::{Deserialize, Serialize};

use super::rows::{Rows, read};
use super::{Grain, Keep, keys};
use crate::error::Result;

/// The row's key.
pub(super) const PRUNED: &[u8] = b"\0pruned";

/// The moments before which something was removed: seconds, and milliseconds of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pruned {
    /// Records of the log before it are not shown any more, though their segment may still be there.
    pub(super) log: i64,
    minutes: i64,
    hours: i64,
    days: i64,
    /// No record of a removed segment is newer.
    #[serde(default = "always")]
    pub(super) removed: i64,
}

const fn always() -> i64 {
    i64::MIN
}

impl Default for Pruned {
    fn default() -> Self {
        Self::NONE
    }
}

impl Pruned {
    /// Nothing yet.
    pub(super) const NONE: Self =
        Self { log: i64::MIN, minutes: i64::MIN, hours: i64::MIN, days: i64::MIN, removed: i64::MIN };

    /// What was removed from a store with these rows.
    pub(super) fn of(rows: &dyn Rows) -> Result<Self> {
        Ok(rows.get(PRUNED)?.map(|value| read(&value)).transpose()?.unwrap_or_default())
    }

    /// The same once everything is removed that need not be kept. Nothing comes back.
    pub(super) fn and(self, keep: &Keep) -> Self {
        self.or(Self {
            log: keep.logs.as_millisecond(),
            minutes: Grain::Minute.begin(keep.minutes.as_second()),
            hours: Grain::Hour.begin(keep.hours.as_second()),
            days: Grain::Day.begin(keep.days.as_second()),
            removed: i64::MIN,
        })
    }

    /// What either of two says was removed.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            log: self.log.max(other.log),
            minutes: self.minutes.max(other.minutes),
            hours: self.hours.max(other.hours),
            days: self.days.max(other.days),
            removed: self.removed.max(other.removed),
        }
    }

    /// The second before which no sum of this kind is kept.
    pub(super) const fn before(&self, kind: u8) -> i64 {
        if kind == Grain::Minute.kind() {
            self.minutes
        } else if kind == Grain::Hour.kind() {
            self.hours
        } else {
            self.days
        }
    }

    /// Whether the sum with this key is kept.
    pub(super) fn keeps(&self, key: &[u8]) -> bool {
        let kind = key.first().copied().unwrap_or_default();
        keys::read_sum(key).map_or(true, |sum| sum.begin >= self.before(kind))
    }

    /// Whether all that the sum with this key is made of is in the journal still.
    pub(super) fn is_whole(&self, key: &[u8]) -> bool {
        keys::read_sum(key).is_ok_and(|sum| sum.begin.saturating_mul(1000) > self.removed)
    }
}
