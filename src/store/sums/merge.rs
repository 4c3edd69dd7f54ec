//! Several runs as one: a walk over their rows in order, and which runs are worth making one of.

use std::ops::Range;
use std::sync::Arc;

use super::packed::{pack, unpack};
use super::run::{Cursor, Row, Run};
use crate::error::Result;

/// Runs of about one size that lie side by side before they are made one.
const MANY: usize = 4;
/// Bytes of the smallest size; each one is four times the one before.
const SMALLEST: u64 = 64 * 1024;

/// The rows of runs in order of their keys; sums of the same key are added up.
pub(in crate::store) struct Merged {
    sources: Vec<(Option<Row>, Cursor)>,
}

impl Merged {
    pub(in crate::store) fn new(runs: &[Arc<Run>]) -> Result<Self> {
        Self::over(runs.iter().map(|run| Cursor::new(Arc::clone(run))).collect())
    }

    /// The same of all that can be read.
    pub(in crate::store) fn lenient(runs: &[Arc<Run>]) -> Result<Self> {
        Self::over(runs.iter().map(|run| Cursor::lenient(Arc::clone(run))).collect())
    }

    fn over(cursors: Vec<Cursor>) -> Result<Self> {
        let sources = cursors.into_iter().map(|mut cursor| Ok((cursor.next()?, cursor)));
        Ok(Self { sources: sources.collect::<Result<_>>()? })
    }

    pub(in crate::store) fn next(&mut self) -> Result<Option<Row>> {
        let keys = self.sources.iter().filter_map(|(head, _)| head.as_ref().map(|(key, _)| key));
        let Some(least) = keys.min().cloned() else { return Ok(None) };
        let mut found: Vec<Vec<u8>> = Vec::new();
        for (head, cursor) in &mut self.sources {
            if head.as_ref().is_some_and(|(key, _)| *key == least) {
                found.extend(head.take().map(|(_, value)| value));
                *head = cursor.next()?;
            }
        }
        if found.len() > 1 {
            let mut all = crate::store::Rollup::default();
            for value in &found {
                all.merge(&unpack(value)?);
            }
            found = vec![pack(&all)];
        }
        Ok(found.pop().map(|value| (least, value)))
    }

    /// What could not be read, in words.
    pub(in crate::store) fn lost(self) -> Vec<String> {
        self.sources.into_iter().flat_map(|(_, cursor)| cursor.lost()).collect()
    }
}

/// The runs, by their places, that should be made one: the smallest that have grown many. Each sum is written again once for
/// every size, and there are few runs of each.
pub(super) fn worth(runs: &[Arc<Run>]) -> Option<Range<usize>> {
    let sizes: Vec<u32> = runs.iter().map(|run| (run.bytes / SMALLEST).max(1).ilog(4)).collect();
    let mut levels = sizes.clone();
    levels.sort_unstable();
    levels.dedup();
    levels.into_iter().find_map(|level| {
        let mut start = 0;
        for stretch in sizes.chunk_by(|one, next| (*one <= level) == (*next <= level)) {
            if stretch.len() >= MANY && stretch.first().is_some_and(|size| *size <= level) {
                return Some(start..start + stretch.len());
            }
            start += stretch.len();
        }
        None
    })
}
