//! The index of a segment in two layers: what was noted is on the disk, what came since is in memory.
//!
//! So what an index takes of memory does not grow with its segment. Not here: the layers themselves (`sidecar`, `index`).
//!
//! Invariant: both number the providers alike; the upper one begins with the names of the lower one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::index::{Block, Brief, Group, Index, Mark, Names};
use super::sidecar::Sidecar;
use crate::error::Result;

/// Marks that are read at once.
const CHUNK: usize = 4096;

/// The index of a segment.
#[derive(Clone, Default)]
pub(super) struct Layers {
    noted: Option<Arc<Sidecar>>,
    fresh: Index,
}

impl From<Index> for Layers {
    fn from(fresh: Index) -> Self {
        Self { noted: None, fresh }
    }
}

impl Layers {
    /// What was noted, and nothing since.
    pub(super) fn over(noted: Sidecar) -> Self {
        let fresh = Index::of(noted.names().clone());
        Self { noted: Some(Arc::new(noted)), fresh }
    }

    /// Adds a record, whose frame begins at this place.
    pub(super) fn add(&mut self, record: Brief<'_>, offset: u32) {
        self.fresh.add(record, offset);
    }

    /// Lets go of what was noted now.
    pub(super) fn settle(&mut self, noted: Sidecar) {
        self.fresh.forget_before(noted.head.length);
        self.noted = Some(Arc::new(noted));
    }

    pub(super) const fn names(&self) -> &Names {
        self.fresh.names()
    }

    /// The time of the oldest and of the newest record.
    pub(super) fn span(&self) -> Option<(i64, i64)> {
        let noted = self.noted.as_ref().and_then(|noted| noted.head.span);
        [noted, self.fresh.span()].into_iter().flatten().reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))
    }

    /// A workspace's part, still to be read.
    pub(super) fn part(&self, workspace: &str) -> Layered {
        Layered { noted: self.noted.clone(), fresh: self.fresh.block(workspace) }
    }

    /// The workspaces, ordered, with their parts in one layer or both.
    pub(super) fn workspaces(&self) -> Result<BTreeMap<String, Vec<Block>>> {
        let mut found: BTreeMap<String, Vec<Block>> = BTreeMap::new();
        for (name, block) in self.noted.as_ref().map_or_else(|| Ok(Vec::new()), |noted| noted.workspaces())? {
            found.entry(name).or_default().push(block);
        }
        for (name, block) in self.fresh.blocks() {
            found.entry(name.clone()).or_default().push(block);
        }
        Ok(found)
    }
}

/// A workspace's part in the layers, which is read without a lock.
pub(super) struct Layered {
    noted: Option<Arc<Sidecar>>,
    fresh: Option<Block>,
}

impl Layered {
    pub(super) fn blocks(self, workspace: &str) -> Result<impl Iterator<Item = Block>> {
        let noted = self.noted.map(|noted| noted.block(workspace)).transpose()?.flatten();
        Ok(noted.into_iter().chain(self.fresh))
    }
}

/// How many records of these blocks have each provider and status.
pub(super) fn groups(blocks: &[Block]) -> Vec<Group> {
    let mut counts: BTreeMap<(u16, u16), u64> = BTreeMap::new();
    for group in blocks.iter().flat_map(|block| &block.groups) {
        *counts.entry((group.provider, group.status)).or_default() += group.count;
    }
    counts.into_iter().map(|((provider, status), count)| Group { provider, status, count }).collect()
}

/// Shows the marks of these blocks by time; of one moment those of the earlier block first.
pub(super) fn each_mark(blocks: &[Block], show: &mut dyn FnMut(&Mark) -> Result<()>) -> Result<()> {
    let mut readers: Vec<Reader<'_>> = blocks.iter().map(Reader::new).collect();
    loop {
        let mut earliest: Option<(&mut Reader<'_>, Mark)> = None;
        for reader in &mut readers {
            if let Some(mark) = reader.peek()?
                && earliest.as_ref().is_none_or(|(_, earliest)| mark.at < earliest.at)
            {
                earliest = Some((reader, mark));
            }
        }
        let Some((reader, mark)) = earliest else { return Ok(()) };
        reader.read.next();
        show(&mark)?;
    }
}

/// A block's marks in their order, some at a time.
struct Reader<'b> {
    block: &'b Block,
    /// The next that is not read yet.
    at: usize,
    read: std::vec::IntoIter<Mark>,
}

impl<'b> Reader<'b> {
    fn new(block: &'b Block) -> Self {
        Self { block, at: 0, read: Vec::new().into_iter() }
    }

    fn peek(&mut self) -> Result<Option<Mark>> {
        if self.read.as_slice().is_empty() && self.at < self.block.count {
            let end = self.block.count.min(self.at + CHUNK);
            self.read = self.block.read(self.at..end)?.into_iter();
            self.at = end;
        }
        Ok(self.read.as_slice().first().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::MemoryDisk;

    fn brief(workspace: &str, at: i64, provider: &'static str) -> (String, i64, &'static str) {
        (workspace.to_owned(), at, provider)
    }

    /// Adds records whose frames are ten bytes long, from this one on.
    fn add(layers: &mut Layers, first: u32, records: &[(String, i64, &'static str)]) {
        for (place, (workspace, at, provider)) in (first..).zip(records) {
            layers.add(Brief { workspace, at: *at, provider: Some(*provider), status: 200 }, place * 10);
        }
    }

    #[test]
    fn an_index_that_was_noted_in_between_is_that_of_the_whole_segment() {
        let early = [brief("a", 5, "one"), brief("b", 6, "two"), brief("a", 9, "one")];
        // Booked late, begun early; and of the very moment of one that was noted.
        let late = [brief("a", 7, "two"), brief("c", 1, "three"), brief("a", 9, "one"), brief("a", 4, "one")];
        let mut whole = Layers::default();
        add(&mut whole, 0, &early);
        add(&mut whole, 3, &late);

        let disk = MemoryDisk::default();
        let mut layers = Layers::default();
        add(&mut layers, 0, &early);
        let noted = Sidecar::write(&disk, "noted", &layers, 3, 30).unwrap();
        // One more came while it was written.
        add(&mut layers, 3, &late[..1]);
        layers.settle(noted);
        add(&mut layers, 4, &late[1..]);

        assert_eq!((layers.span(), layers.names()), (Some((1, 9)), whole.names()));
        let offsets = |layers: &Layers, workspace: &str| {
            let blocks: Vec<Block> = layers.part(workspace).blocks(workspace).unwrap().collect();
            let mut offsets = Vec::new();
            each_mark(&blocks, &mut |mark| {
                offsets.push(mark.offset);
                Ok(())
            })
            .unwrap();
            offsets
        };
        assert_eq!(offsets(&layers, "a"), [60, 0, 30, 20, 50]);
        for workspace in ["a", "b", "c", "d"] {
            assert_eq!(offsets(&layers, workspace), offsets(&whole, workspace));
        }
        assert!(Sidecar::write(&disk, "whole", &layers, 7, 70).unwrap().says(&whole));
    }

    #[test]
    fn what_was_noted_is_not_in_memory() {
        let mut layers = Layers::default();
        add(&mut layers, 0, &[brief("a", 1, "one"), brief("b", 2, "one")]);
        let noted = Sidecar::write(&MemoryDisk::default(), "noted", &layers, 2, 20).unwrap();
        layers.settle(noted);
        assert_eq!(layers.fresh.blocks().count(), 0);
        assert_eq!(layers.workspaces().unwrap().into_keys().collect::<Vec<_>>(), ["a", "b"]);
    }
}
