//! Where the request log's records lie in a segment: for each workspace its records by time, sixteen bytes each, with how many
//! there are of each provider and status.
//!
//! An [`Index`] is in memory, for what was written lately; what was noted, and all of a closed segment, is in a file of its own
//! (`sidecar`). Both give a workspace's part as a [`Block`]. Not here: the two together (`layers`), which records a query wants
//! (`search`).
//!
//! Invariant: the marks of a block are ordered by time, and those of one moment by when they were written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use serde::Deserialize;

use super::frame::{u16_at, u32_at, u64_at};
use crate::error::{Error, Result};
use crate::store::disk::{DiskFile, read_up_to};
use crate::store::told;

/// The length of a mark in a file.
pub(super) const MARK: usize = 16;
/// The number of no provider.
const NO_PROVIDER: u16 = u16::MAX;
/// Marks that are read at once where one would do.
const READ_AHEAD: usize = 512;

/// What an index knows of a record.
#[derive(Clone, Copy)]
pub(in crate::store) struct Brief<'r> {
    pub(in crate::store) workspace: &'r str,
    /// Milliseconds since 1970.
    pub(in crate::store) at: i64,
    pub(in crate::store) provider: Option<&'r str>,
    pub(in crate::store) status: u16,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) at: i64,
    /// Where its frame begins in the segment.
    pub(super) offset: u32,
    pub(super) status: u16,
    /// The number of its provider's name.
    pub(super) provider: u16,
}

impl Mark {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.at.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&self.provider.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            at: u64_at(bytes, 0)?.cast_signed(),
            offset: u32_at(bytes, 8)?,
            status: u16_at(bytes, 12)?,
            provider: u16_at(bytes, 14)?,
        })
    }
}

/// Names of providers by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    list: Vec<String>,
    numbers: HashMap<String, u16>,
}

impl Names {
    pub(super) fn new(list: Vec<String>) -> Self {
        let numbers = list.iter().cloned().zip(0..).collect();
        Self { list, numbers }
    }

    pub(super) fn list(&self) -> &[String] {
        &self.list
    }

    /// The number that no record without this provider has.
    pub(super) fn find(&self, name: &str) -> Option<u16> {
        self.numbers.get(name).copied()
    }

    fn number(&mut self, name: Option<&str>) -> u16 {
        let Some(name) = name else { return NO_PROVIDER };
        if let Some(number) = self.find(name) {
            return number;
        }
        let Some(next) = u16::try_from(self.list.len()).ok().filter(|next| *next != NO_PROVIDER) else {
            return NO_PROVIDER;
        };
        self.list.push(name.to_owned());
        self.numbers.insert(name.to_owned(), next);
        next
    }
}

/// How many records of a block have this provider and status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Group {
    pub(super) provider: u16,
    pub(super) status: u16,
    pub(super) count: u64,
}

/// An index in memory.
#[derive(Clone, Default)]
pub(super) struct Index {
    names: Names,
    workspaces: BTreeMap<String, Workspace>,
}

#[derive(Clone, Default)]
struct Workspace {
    marks: Arc<Vec<Mark>>,
    /// How many there are of each provider and status.
    counts: BTreeMap<(u16, u16), u64>,
}

impl Workspace {
    fn of(marks: Vec<Mark>) -> Self {
        let mut counts = BTreeMap::new();
        for mark in &marks {
            *counts.entry((mark.provider, mark.status)).or_default() += 1;
        }
        Self { marks: Arc::new(marks), counts }
    }

    fn block(&self) -> Option<Block> {
        let marks = &self.marks;
        Some(Block {
            oldest: marks.first()?.at,
            newest: marks.last()?.at,
            count: marks.len(),
            groups: self.groups(),
            marks: Marks::Memory(Arc::clone(marks)),
        })
    }

    fn groups(&self) -> Vec<Group> {
        let groups = self.counts.iter();
        groups
            .map(|((provider, status), count)| Group { provider: *provider, status: *status, count: *count })
            .collect()
    }
}

impl Index {
    /// One with these providers, and no record yet.
    pub(super) fn of(names: Names) -> Self {
        Self { names, workspaces: BTreeMap::new() }
    }

    /// Puts a workspace's records, which are ordered.
    pub(super) fn put(&mut self, workspace: String, marks: Vec<Mark>, groups: &[Group]) {
        let counts = groups.iter().map(|group| ((group.provider, group.status), group.count)).collect();
        self.workspaces.insert(workspace, Workspace { marks: Arc::new(marks), counts });
    }

    /// Adds a record, whose frame begins at this place.
    pub(super) fn add(&mut self, record: Brief<'_>, offset: u32) {
        let provider = self.names.number(record.provider);
        let mark = Mark { at: record.at, offset, status: record.status, provider };
        if !self.workspaces.contains_key(record.workspace) {
            self.workspaces.insert(record.workspace.to_owned(), Workspace::default());
        }
        if let Some(Workspace { marks, counts }) = self.workspaces.get_mut(record.workspace) {
            *counts.entry((provider, record.status)).or_default() += 1;
            // Nearly always the end: requests are booked about in the order they came.
            let place = marks.partition_point(|known| known.at <= mark.at);
            Arc::make_mut(marks).insert(place, mark);
        }
    }

    pub(super) const fn names(&self) -> &Names {
        &self.names
    }

    /// Its workspaces, ordered, with their parts.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (&String, Block)> {
        self.workspaces.iter().filter_map(|(name, workspace)| Some((name, workspace.block()?)))
    }

    /// A workspace's part.
    pub(super) fn block(&self, workspace: &str) -> Option<Block> {
        self.workspaces.get(workspace)?.block()
    }

    /// Forgets the records whose frames begin before this place.
    pub(super) fn forget_before(&mut self, place: u64) {
        self.workspaces.retain(|_, workspace| {
            let kept = workspace.marks.iter().filter(|mark| u64::from(mark.offset) >= place).copied();
            *workspace = Workspace::of(kept.collect());
            !workspace.marks.is_empty()
        });
    }

    /// The time of the oldest and of the newest record.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        let marks = self.workspaces.values().map(|workspace| &workspace.marks);
        let ends = marks.filter_map(|marks| Some((marks.first()?.at, marks.last()?.at)));
        ends.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
    }
}

/// A workspace's records in one segment.
#[derive(Clone)]
pub(super) struct Block {
    pub(super) oldest: i64,
    pub(super) newest: i64,
    pub(super) count: usize,
    pub(super) groups: Vec<Group>,
    pub(super) marks: Marks,
}

/// Where the marks are.
#[derive(Clone)]
pub(super) enum Marks {
    Memory(Arc<Vec<Mark>>),
    File(Arc<dyn DiskFile>, u64),
}

impl Block {
    /// The marks in this range.
    pub(super) fn read(&self, range: Range<usize>) -> Result<Vec<Mark>> {
        let length = range.end.saturating_sub(range.start);
        match &self.marks {
            Marks::Memory(marks) => Ok(marks.get(range).unwrap_or_default().to_vec()),
            Marks::File(file, start) => {
                let offset = start + (range.start * MARK) as u64;
                let bytes = read_up_to(&**file, offset, length * MARK).map_err(Error::internal)?;
                let marks: Option<Vec<Mark>> = bytes.chunks(MARK).map(Mark::read).collect();
                let whole = marks.filter(|marks| marks.len() == length);
                whole.ok_or_else(|| told("an index of the journal ends too early"))
            }
        }
    }

    /// How many records came before this moment.
    pub(super) fn before(&self, moment: i64) -> Result<usize> {
        if moment <= self.oldest {
            return Ok(0);
        }
        if moment > self.newest {
            return Ok(self.count);
        }
        let (mut low, mut high) = (0, self.count);
        while high - low > READ_AHEAD {
            let middle = low + (high - low) / 2;
            let earlier = self.read(middle..middle + 1)?.first().is_some_and(|mark| mark.at < moment);
            if earlier { low = middle + 1 } else { high = middle }
        }
        Ok(low + self.read(low..high)?.partition_point(|mark| mark.at < moment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_ordered_by_time_and_then_by_when_they_were_written() {
        let mut index = Index::default();
        for (offset, at) in [(0, 5), (1, 3), (2, 5), (3, 4)] {
            index.add(Brief { workspace: "ws", at, provider: Some("one"), status: 200 }, offset);
        }
        let block = index.block("ws").unwrap();
        assert_eq!(block.read(0..4).unwrap().iter().map(|mark| mark.offset).collect::<Vec<_>>(), [1, 3, 0, 2]);
        assert_eq!([2, 3, 4, 5, 6].map(|moment| block.before(moment).unwrap()), [0, 0, 1, 2, 4]);
        assert_eq!(index.span(), Some((3, 5)));
        assert!(index.block("other").is_none());
    }

    #[test]
    fn kinds_are_counted_and_a_record_without_a_provider_is_one_too() {
        let mut index = Index::default();
        for (provider, status) in [(Some("one"), 200), (None, 503), (Some("two"), 200), (Some("one"), 200)] {
            index.add(Brief { workspace: "ws", at: 0, provider, status }, 0);
        }
        let counts: Vec<u64> = index.block("ws").unwrap().groups.iter().map(|group| group.count).collect();
        assert_eq!(counts, [2, 1, 1]);
        assert_eq!(index.names().find("two"), Some(1));
    }
}
