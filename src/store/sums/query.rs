//! What reports ask the sums: grouped over days, along time, by virtual key and day.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::Timestamp;

use super::Sums;
use crate::error::{Error, Result};
use crate::money::Money;
use crate::store::pruned::Pruned;
use crate::store::{By, DayRange, Rollup, SeriesQuery, Spent, keys};

impl Sums {
    /// The sums of a workspace over days, grouped.
    pub(in crate::store) fn rollups(
        &self,
        workspace: &str,
        by: By,
        days: DayRange,
        pruned: &Pruned,
    ) -> Result<BTreeMap<String, Rollup>> {
        let mut groups: BTreeMap<String, Rollup> = BTreeMap::new();
        self.each(&kept(by.kind(), workspace, days, pruned)?, &mut |key, sums| {
            let key = keys::read_sum(key)?;
            let name = if by == By::Day { keys::day(key.begin)?.to_string() } else { key.of.concat() };
            groups.entry(name).or_default().merge(sums);
            Ok(())
        })?;
        Ok(groups)
    }

    /// What the virtual keys of a workspace spent by day; nothing is left out.
    pub(in crate::store) fn spent(&self, workspace: &str, days: DayRange, pruned: &Pruned) -> Result<Vec<Spent>> {
        let mut costs: BTreeMap<(i64, String), Money> = BTreeMap::new();
        self.each(&kept(By::Key.kind(), workspace, days, pruned)?, &mut |key, sums| {
            let key = keys::read_sum(key)?;
            *costs.entry((key.begin, key.of.concat())).or_default() += sums.cost;
            Ok(())
        })?;
        let costly = costs.into_iter().filter(|(_, cost)| *cost > Money::ZERO);
        costly.map(|((begin, key), cost)| Ok(Spent { key, day: keys::day(begin)?, cost })).collect()
    }

    /// The sums of a workspace along time.
    pub(in crate::store) fn series(
        &self,
        workspace: &str,
        query: &SeriesQuery,
        pruned: &Pruned,
    ) -> Result<BTreeMap<Timestamp, Rollup>> {
        let wanted = [&query.key, &query.provider, &query.model];
        let mut series: BTreeMap<Timestamp, Rollup> = BTreeMap::new();
        self.each(&kept(query.grain.kind(), workspace, query.days, pruned)?, &mut |key, sums| {
            let key = keys::read_sum(key)?;
            if wanted.iter().zip(&key.of).all(|(wanted, name)| wanted.as_ref().is_none_or(|wanted| wanted == name)) {
                let begin = Timestamp::from_second(key.begin).map_err(Error::internal)?;
                series.entry(begin).or_default().merge(sums);
            }
            Ok(())
        })?;
        Ok(series)
    }
}

/// The keys of the sums of a kind over days, without those that are kept no longer.
fn kept(kind: u8, workspace: &str, days: DayRange, pruned: &Pruned) -> Result<Range<Vec<u8>>> {
    let mut seconds = keys::seconds(days)?;
    let before = Some(pruned.before(kind)).filter(|before| *before > i64::MIN);
    seconds.start = seconds.start.max(before);
    keys::sums(kind, workspace, &seconds)
}
