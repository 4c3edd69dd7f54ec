//! What follows from the journal: tenants and sums. Every entry is applied once, in order.
//!
//! Changes are gathered in memory and folded into the rows now and then; after a crash the journal gives again what was not
//! folded. Not here: the request log (`journal`), when to fold (`ledger`).
//!
//! Invariants: every sum knows the last entry in it, so that an entry which is applied again, because its fold was cut in the
//! middle, counts once; `through` is written after everything that it promises.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::ops::{ControlFlow, Range};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::entry::{Carried, Entry};
use super::rows::{Change, Rows, read, remove_all, workspaces, write};
use super::{By, DayRange, Grain, Histogram, Rollup, SeriesQuery, Tenancy, keys};
use crate::error::{Error, Result};
use crate::money::Money;
use crate::store::RequestRecord;
use crate::store::told;
use crate::usage::Usage;

/// The number of the last entry that is folded in. Keys of the store itself begin with a zero byte, which is no kind.
const THROUGH: &[u8] = b"\0through";
/// The layout of the rows.
const FORMAT_KEY: &[u8] = b"\0format";
const FORMAT: &[u8] = b"2";

/// Tenants and sums over some rows.
pub(super) struct State<R> {
    rows: R,
    fresh: RwLock<Fresh>,
}

/// What is not folded yet. Its values stand for the rows of the same keys.
#[derive(Default)]
struct Fresh {
    through: u64,
    sums: BTreeMap<Vec<u8>, Sum>,
    tenants: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// A sum, and the last entry in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Packed", into = "Packed")]
pub(super) struct Sum {
    through: u64,
    pub(super) sums: Rollup,
}

/// A sum as it is written: without names, because there is one for every minute of every key, provider and model. What is
/// added comes last and has a default.
#[derive(Serialize, Deserialize)]
struct Packed(u64, [u64; 4], [u64; 7], Money, (u64, u64, Vec<(u16, u64)>), #[serde(default)] PackedMore);

/// What was added: the kinds of tokens, those without a price, and the estimated part of the cost.
#[derive(Default, Serialize, Deserialize)]
struct PackedMore([u64; 5], u64, Money);

impl From<Sum> for Packed {
    fn from(sum: Sum) -> Self {
        // Taken apart field by field, so that a field which is added can't be forgotten here.
        let Rollup { attempts, errors, usage, cost, unpriced, estimated, latency, unpriced_tokens, estimated_cost } =
            sum.sums;
        let Usage {
            input,
            cached_read,
            cache_write,
            output,
            reasoning,
            audio_input,
            audio_output,
            cache_write_1h,
            cached_audio,
            image_input,
            image_output,
            web_searches,
        } = usage;
        let Histogram { count, sum_ms, buckets } = latency;
        let tokens = [input, cached_read, cache_write, output, reasoning, audio_input, audio_output];
        let latency = (count, sum_ms, buckets.into_iter().collect());
        let kinds = [cache_write_1h, cached_audio, image_input, image_output, web_searches];
        let more = PackedMore(kinds, unpriced_tokens, estimated_cost);
        Self(sum.through, [attempts, errors, unpriced, estimated], tokens, cost, latency, more)
    }
}

impl From<Packed> for Sum {
    fn from(Packed(through, attempts, tokens, cost, latency, more): Packed) -> Self {
        let [attempts, errors, unpriced, estimated] = attempts;
        let [input, cached_read, cache_write, output, reasoning, audio_input, audio_output] = tokens;
        let PackedMore(kinds, unpriced_tokens, estimated_cost) = more;
        let [cache_write_1h, cached_audio, image_input, image_output, web_searches] = kinds;
        let usage = Usage {
            input,
            cached_read,
            cache_write,
            output,
            reasoning,
            audio_input,
            audio_output,
            cache_write_1h,
            cached_audio,
            image_input,
            image_output,
            web_searches,
        };
        let (count, sum_ms, buckets) = latency;
        let latency = Histogram { count, sum_ms, buckets: buckets.into_iter().collect() };
        let sums =
            Rollup { attempts, errors, usage, cost, unpriced, estimated, latency, unpriced_tokens, estimated_cost };
        Self { through, sums }
    }
}

impl<R: Rows> State<R> {
    /// Over rows that are of this layout, or empty.
    ///
    /// Errors: another layout.
    pub(super) fn open(rows: R) -> Result<Self> {
        match rows.get(FORMAT_KEY)? {
            None => rows.apply(vec![(FORMAT_KEY.to_vec(), Some(FORMAT.to_vec()))])?,
            Some(format) if format == FORMAT => {}
            Some(_) => return Err(told("its rows were written by a newer version; use that version")),
        }
        let through = match rows.get(THROUGH)? {
            Some(digits) => String::from_utf8_lossy(&digits).parse().map_err(Error::internal)?,
            None => 0,
        };
        Ok(Self { rows, fresh: RwLock::new(Fresh { through, ..Fresh::default() }) })
    }

    /// Over rows that are as of this entry.
    pub(super) fn open_at(rows: R, through: u64) -> Result<Self> {
        rows.apply(vec![(THROUGH.to_vec(), Some(through.to_string().into_bytes()))])?;
        Self::open(rows)
    }

    /// Whether these rows were ever opened.
    pub(super) fn is_begun(rows: &dyn Rows) -> Result<bool> {
        Ok(rows.get(FORMAT_KEY)?.is_some())
    }

    /// The number of the last entry that was applied.
    pub(super) fn through(&self) -> u64 {
        self.fresh().through
    }

    /// How many rows are to be folded.
    pub(super) fn unfolded(&self) -> usize {
        let fresh = self.fresh();
        fresh.sums.len() + fresh.tenants.len()
    }

    pub(super) const fn rows(&self) -> &R {
        &self.rows
    }

    /// Applies an entry. What is applied already is passed over.
    pub(super) fn apply(&self, number: u64, entry: &Entry<'_>) -> Result<()> {
        let mut fresh = self.fresh.write().unwrap_or_else(PoisonError::into_inner);
        if number <= fresh.through {
            return Ok(());
        }
        match entry {
            Entry::Booking(record) => self.add(&mut fresh, number, booked(record)?)?,
            Entry::Carried(carried) => self.add(&mut fresh, number, brought(carried)?)?,
            Entry::Logged(_) => {}
            Entry::Gap(through) => {
                fresh.through = *through;
                return Ok(());
            }
            tenant => self.change(&mut fresh, tenant)?,
        }
        fresh.through = number;
        Ok(())
    }

    fn add(&self, fresh: &mut Fresh, number: u64, sums: BTreeMap<Vec<u8>, Rollup>) -> Result<()> {
        for (key, more) in sums {
            let sum = match fresh.sums.entry(key) {
                Slot::Occupied(slot) => slot.into_mut(),
                Slot::Vacant(slot) => {
                    let kept: Option<Sum> = self.rows.get(slot.key())?.map(|value| read(&value)).transpose()?;
                    slot.insert(kept.unwrap_or_default())
                }
            };
            if number > sum.through {
                sum.sums.merge(&more);
                sum.through = number;
            }
        }
        Ok(())
    }

    fn change(&self, fresh: &mut Fresh, entry: &Entry<'_>) -> Result<()> {
        let (key, value) = match entry {
            Entry::Workspace(record) => (keys::tenant(keys::WORKSPACE, &record.id, "")?, Some(write(record)?)),
            Entry::Credential(record) => {
                (keys::tenant(keys::CREDENTIAL, &record.workspace, &record.id)?, Some(write(record)?))
            }
            Entry::Key(record) => (keys::tenant(keys::KEY, &record.workspace, &record.id)?, Some(write(record)?)),
            Entry::WorkspaceDeleted(id) => {
                for kind in [keys::CREDENTIAL, keys::KEY] {
                    for (key, _) in self.tenants(fresh, keys::all(keys::prefix(kind, id)?))? {
                        fresh.tenants.insert(key, None);
                    }
                }
                (keys::tenant(keys::WORKSPACE, id, "")?, None)
            }
            Entry::CredentialDeleted(owned) => (keys::tenant(keys::CREDENTIAL, &owned.workspace, &owned.id)?, None),
            Entry::KeyDeleted(owned) => (keys::tenant(keys::KEY, &owned.workspace, &owned.id)?, None),
            _ => return Ok(()),
        };
        fresh.tenants.insert(key, value);
        Ok(())
    }

    /// Folds what was gathered into the rows, and brings them to the disk. Only one may fold or apply at a time.
    pub(super) fn fold(&self) -> Result<()> {
        let fresh = self.fresh();
        let sums = fresh.sums.iter().map(|(key, sum)| Ok((key.clone(), Some(write(sum)?))));
        let tenants = fresh.tenants.iter().map(|(key, value)| Ok((key.clone(), value.clone())));
        let changes: Vec<Change> = sums.chain(tenants).collect::<Result<_>>()?;
        let through = fresh.through;
        drop(fresh);
        self.rows.apply(changes)?;
        self.rows.apply(vec![(THROUGH.to_vec(), Some(through.to_string().into_bytes()))])?;
        self.rows.flush()?;
        let mut fresh = self.fresh.write().unwrap_or_else(PoisonError::into_inner);
        fresh.sums.clear();
        fresh.tenants.clear();
        Ok(())
    }

    /// Every tenant.
    pub(super) fn tenancy(&self) -> Result<Tenancy> {
        let fresh = self.fresh();
        Ok(Tenancy {
            workspaces: self.records(&fresh, keys::WORKSPACE)?,
            credentials: self.records(&fresh, keys::CREDENTIAL)?,
            keys: self.records(&fresh, keys::KEY)?,
        })
    }

    fn records<T: DeserializeOwned>(&self, fresh: &Fresh, kind: u8) -> Result<Vec<T>> {
        self.tenants(fresh, keys::all(vec![kind]))?.values().map(|value| read(value)).collect()
    }

    /// The tenants' rows of a range, as they are with what is not folded.
    fn tenants(&self, fresh: &Fresh, range: Range<Vec<u8>>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut found = BTreeMap::new();
        self.rows.scan(range.clone(), &mut |key, value| {
            found.insert(key.to_vec(), value.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
        for (key, value) in fresh.tenants.range(range) {
            match value {
                Some(value) => drop(found.insert(key.clone(), value.clone())),
                None => drop(found.remove(key)),
            }
        }
        Ok(found)
    }

    /// The sums of a workspace over days, grouped.
    pub(super) fn rollups(&self, workspace: &str, by: By, days: DayRange) -> Result<BTreeMap<String, Rollup>> {
        let range = keys::sums(by.kind(), workspace, &keys::seconds(days)?)?;
        let mut groups: BTreeMap<String, Rollup> = BTreeMap::new();
        self.sums(range, &mut |key, sums| {
            let key = keys::read_sum(key)?;
            let name = if by == By::Day { keys::day(key.begin)?.to_string() } else { key.of.concat() };
            groups.entry(name).or_default().merge(sums);
            Ok(())
        })?;
        Ok(groups)
    }

    /// The daily sums of a workspace's virtual keys: day, key, sums.
    pub(super) fn spent(
        &self,
        workspace: &str,
        days: DayRange,
        visit: &mut dyn FnMut(i64, &str, &Rollup),
    ) -> Result<()> {
        self.sums(keys::sums(By::Key.kind(), workspace, &keys::seconds(days)?)?, &mut |key, sums| {
            let key = keys::read_sum(key)?;
            visit(key.begin, &key.of.concat(), sums);
            Ok(())
        })
    }

    /// The sums of a workspace along time.
    pub(super) fn series(&self, workspace: &str, query: &SeriesQuery) -> Result<BTreeMap<Timestamp, Rollup>> {
        let range = keys::sums(query.grain.kind(), workspace, &keys::seconds(query.days)?)?;
        let wanted = [&query.key, &query.provider, &query.model];
        let mut series: BTreeMap<Timestamp, Rollup> = BTreeMap::new();
        self.sums(range, &mut |key, sums| {
            let key = keys::read_sum(key)?;
            if wanted.iter().zip(&key.of).all(|(wanted, name)| wanted.as_ref().is_none_or(|wanted| wanted == name)) {
                let begin = Timestamp::from_second(key.begin).map_err(Error::internal)?;
                series.entry(begin).or_default().merge(sums);
            }
            Ok(())
        })?;
        Ok(series)
    }

    fn sums(&self, range: Range<Vec<u8>>, visit: &mut dyn FnMut(&[u8], &Rollup) -> Result<()>) -> Result<()> {
        if range.start >= range.end {
            return Ok(());
        }
        let fresh = self.fresh();
        self.rows.scan(range.clone(), &mut |key, value| {
            if !fresh.sums.contains_key(key) {
                visit(key, &read::<Sum>(value)?.sums)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        fresh.sums.range(range).try_for_each(|(key, sum)| visit(key, &sum.sums))
    }

    /// Removes the sums of a kind whose time began before this second. Only what is folded is removed.
    pub(super) fn prune(&self, kind: u8, before: i64) -> Result<()> {
        for workspace in workspaces(&self.rows, kind)? {
            remove_all(&self.rows, &keys::sums(kind, &workspace, &(None..Some(before)))?)?;
        }
        Ok(())
    }

    fn fresh(&self) -> RwLockReadGuard<'_, Fresh> {
        self.fresh.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sums that a request adds to, and what it adds.
fn booked(record: &RequestRecord) -> Result<BTreeMap<Vec<u8>, Rollup>> {
    let mut sums: BTreeMap<Vec<u8>, Rollup> = BTreeMap::new();
    let (workspace, second) = (record.workspace.as_str(), record.created_at.as_second());
    let day = Grain::Day.begin(second);
    for attempt in &record.attempts {
        let (key, provider, model) = (record.key.as_str(), attempt.provider.as_str(), attempt.model.as_str());
        for (kind, name) in keys::DAILY.into_iter().zip([provider, key, model]) {
            sums.entry(keys::sum(kind, workspace, day, &[name])?).or_default().add(attempt);
        }
        for grain in Grain::ALL {
            let key = keys::sum(grain.kind(), workspace, grain.begin(second), &[key, provider, model])?;
            sums.entry(key).or_default().add(attempt);
        }
    }
    Ok(sums)
}

/// The sums that a sum of an older store goes into: of its day, and of no time that is finer.
fn brought(carried: &Carried) -> Result<BTreeMap<Vec<u8>, Rollup>> {
    let day = carried.day.as_second();
    let mut sums = BTreeMap::new();
    for (by, name) in [(By::Provider, &carried.provider), (By::Key, &carried.key)] {
        if let Some(name) = name {
            sums.insert(keys::sum(by.kind(), &carried.workspace, day, &[name])?, carried.sums.clone());
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_of_an_older_version_can_be_read_and_a_new_one_comes_back_whole() {
        let old = "[9,[1,0,0,0],[1,2,3,4,5,6,7],8,[1,10,[[3,1]]]]";
        let Sum { through, mut sums } = serde_json::from_str(old).unwrap();
        assert_eq!((through, sums.usage.audio_output, sums.estimated_cost), (9, 7, Money::ZERO));
        sums.usage = Usage {
            cache_write_1h: 1,
            cached_audio: 2,
            image_input: 3,
            image_output: 4,
            web_searches: 5,
            ..sums.usage
        };
        let sum = Sum { through, sums: Rollup { unpriced_tokens: 6, estimated_cost: Money(7), ..sums } };
        assert_eq!(serde_json::from_str::<Sum>(&serde_json::to_string(&sum).unwrap()).unwrap(), sum);
    }
}
