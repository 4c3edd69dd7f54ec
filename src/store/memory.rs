//! STAND-IN of the admin branch: dropped at the merge.
#![allow(missing_docs, clippy::unwrap_used)]
use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;
use crate::error::Result;

#[derive(Default)]
pub struct MemoryStore(Mutex<(Tenancy, Vec<Booking>)>);
impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }
}
impl Store for MemoryStore {
    fn tenancy(&self) -> Result<Tenancy> {
        Ok(self.0.lock().unwrap().0.clone())
    }
    fn put_workspace(&self, record: &WorkspaceRecord) -> Result<()> {
        let all = &mut self.0.lock().unwrap().0.workspaces;
        all.retain(|one| one.id != record.id);
        all.push(record.clone());
        Ok(())
    }
    fn delete_workspace(&self, id: &str) -> Result<()> {
        let all = &mut self.0.lock().unwrap().0;
        all.workspaces.retain(|one| one.id != id);
        all.credentials.retain(|one| one.workspace != id);
        all.keys.retain(|one| one.workspace != id);
        Ok(())
    }
    fn put_credential(&self, record: &CredentialRecord) -> Result<()> {
        let all = &mut self.0.lock().unwrap().0.credentials;
        all.retain(|one| one.id != record.id);
        all.push(record.clone());
        Ok(())
    }
    fn delete_credential(&self, workspace: &str, id: &str) -> Result<()> {
        self.0.lock().unwrap().0.credentials.retain(|one| one.id != id || one.workspace != workspace);
        Ok(())
    }
    fn put_key(&self, record: &KeyRecord) -> Result<()> {
        let all = &mut self.0.lock().unwrap().0.keys;
        all.retain(|one| one.id != record.id);
        all.push(record.clone());
        Ok(())
    }
    fn delete_key(&self, workspace: &str, id: &str) -> Result<()> {
        self.0.lock().unwrap().0.keys.retain(|one| one.id != id || one.workspace != workspace);
        Ok(())
    }
    fn append(&self, bookings: &[Booking]) -> Result<()> {
        self.0.lock().unwrap().1.extend_from_slice(bookings);
        Ok(())
    }
    fn rollups(&self, workspace: &str, days: DayRange) -> Result<Vec<(String, Rollup)>> {
        let mut sums: BTreeMap<String, Rollup> = BTreeMap::new();
        for booking in &self.0.lock().unwrap().1 {
            let day = booking.created_at.to_zoned(jiff::tz::TimeZone::UTC).date();
            if booking.workspace != workspace || !days.contains(day) {
                continue;
            }
            for attempt in &booking.attempts {
                let sum = sums.entry(attempt.provider.clone()).or_default();
                sum.attempts += 1;
                sum.errors += u64::from(attempt.error.is_some());
                sum.usage.input += attempt.usage.input;
                sum.usage.output += attempt.usage.output;
                sum.cost += attempt.cost;
                if attempt.error.is_none() {
                    sum.latency.count += 1;
                    sum.latency.sum_ms += attempt.latency_ms;
                }
            }
        }
        Ok(sums.into_iter().collect())
    }
    fn logs(&self, workspace: &str, query: &LogQuery) -> Result<LogPage> {
        let all = &self.0.lock().unwrap().1;
        let hit = |one: &&Booking| {
            one.workspace == workspace
                && query.provider.as_ref().is_none_or(|name| one.provider.as_ref() == Some(name))
                && query.status.is_none_or(|status| one.status == status)
                && query.days.contains(one.created_at.to_zoned(jiff::tz::TimeZone::UTC).date())
        };
        let mut rows: Vec<Booking> = all.iter().filter(hit).cloned().collect();
        rows.sort_by_key(|one| std::cmp::Reverse(one.created_at));
        let total = rows.len() as u64;
        let skip = (query.page * query.limit) as usize;
        Ok(LogPage { requests: rows.into_iter().skip(skip).take(query.limit as usize).collect(), total })
    }
    fn healthy(&self) -> bool {
        true
    }
}
