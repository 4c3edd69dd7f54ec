//! One page of the log: which rows match, which of them lie on the page, how many there are.
//!
//! Not here: where rows come from. Invariant: `total` counts every match, on the page or not.

use super::{LogPage, LogQuery, RequestRecord};
use crate::error::Result;

/// The largest page.
const MAX_ROWS: u64 = 1000;

impl LogQuery {
    /// Whether a row's own fields have to be read to know whether it matches; days are in its key.
    const fn filters(&self) -> bool {
        self.provider.is_some() || self.status.is_some()
    }

    fn matches(&self, record: &RequestRecord) -> bool {
        self.status.is_none_or(|status| status == record.status)
            && self.provider.as_ref().is_none_or(|name| record.provider.as_ref() == Some(name))
    }
}

/// A page that is being filled.
pub(super) struct Pager<'q> {
    query: &'q LogQuery,
    first: u64,
    end: u64,
    page: LogPage,
}

impl<'q> Pager<'q> {
    pub(super) fn new(query: &'q LogQuery) -> Self {
        let rows = query.limit.clamp(1, MAX_ROWS);
        let first = query.page.saturating_mul(rows);
        Self { query, first, end: first.saturating_add(rows), page: LogPage::default() }
    }

    /// Offers the next row. Rows off the page are read only where a filter needs to see inside.
    pub(super) fn offer(&mut self, read: impl FnOnce() -> Result<RequestRecord>) -> Result<()> {
        let on_page = (self.first..self.end).contains(&self.page.total);
        if on_page || self.query.filters() {
            let record = read()?;
            if !self.query.matches(&record) {
                return Ok(());
            }
            if on_page {
                self.page.requests.push(record);
            }
        }
        self.page.total += 1;
        Ok(())
    }

    pub(super) fn finish(self) -> LogPage {
        self.page
    }
}
