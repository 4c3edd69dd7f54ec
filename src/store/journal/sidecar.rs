//! The index of a segment, in a file beside it: the marks of each workspace, and where they are.
//!
//! ```text
//! marks of the first workspace | of the second | … | its entries | its table | head (JSON) | length 8 | CRC-32 of the head 4 | magic 8
//! entry   length 4 | CRC-32 of the rest 4 | where the marks begin 8 | how many 8 | oldest 8 | newest 8 | groups 2 | group … | name
//! group   provider 2 | status 2 | how many 8
//! table   for each workspace, ordered: hash of the name 8 | where its entry begins 8
//! ```
//!
//! Only the head is in memory: with many workspaces and many segments the rest is not small. The index of the segment that is
//! written is shorter than that: it says what was there when it was noted, so that a start need not read it again (`open`).
//!
//! Invariant: it holds nothing that the segment does not; where it is missing or damaged it is made anew.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::index::{Block, Group, Index, MARK, Marks, Names};
use super::layers::{Layers, each_mark, groups};
use super::{frame, unreadable, unwritable};
use crate::error::{Error, Result};
use crate::store::disk::{Disk, DiskFile, read_up_to, write_all};
use crate::store::told;
use frame::{u16_at, u32_at, u64_at};

/// The end of every such file; its last letter is the layout.
const MAGIC: &[u8; 8] = b"PERPIDX2";
/// The layout whose head names every workspace.
const FIRST: &[u8; 8] = b"PERPIDX1";
/// The name of one that is noted, until it counts. Not that of a whole index, which may be written meanwhile.
const NOTED: &str = "index.noted";
const FOOTER: usize = 20;
/// A line of the table.
const LINE: usize = 16;
/// Lines that are read at once.
const LINES: u64 = 512;
const GROUP: usize = 12;
/// Bytes that are gathered for one write.
const GATHERED: usize = 64 * 1024;
/// The parts of an entry before its groups.
const ENTRY: usize = 42;
/// The longest entry that is believed in.
const MAX_ENTRY: u32 = 16 * 1024 * 1024;

/// What is known of a segment without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The sequence number of its last frame.
    pub(super) last: u64,
    /// Its length in bytes.
    pub(super) length: u64,
    /// The time of the oldest and of the newest record; none where there is no record.
    pub(super) span: Option<(i64, i64)>,
    providers: Vec<String>,
    /// How many workspaces there are, where their entries begin, and where the table does.
    #[serde(default)]
    workspaces: u64,
    #[serde(default)]
    entries: u64,
    #[serde(default)]
    table: u64,
}

/// An opened index.
pub(super) struct Sidecar {
    file: Arc<dyn DiskFile>,
    pub(super) head: Head,
    names: Names,
}

impl Sidecar {
    /// Writes the index of a segment that ends with this sequence number and is this long.
    pub(super) fn write(disk: &dyn Disk, name: &str, index: &Layers, last: u64, length: u64) -> Result<Self> {
        let written = Self::put(disk, &format!("{name}.new"), index, last, length)?;
        disk.rename(&format!("{name}.new"), name).and_then(|()| disk.sync()).map_err(|error| unwritable(&error))?;
        Ok(written)
    }

    /// Writes what there is of the index of a segment that is still written. It counts once it is named; one at a time.
    pub(super) fn note(disk: &dyn Disk, index: &Layers, last: u64, length: u64) -> Result<Self> {
        Self::put(disk, NOTED, index, last, length)
    }

    /// Gives what was noted its name. It need not outlive a power cut: there is the one before, or none.
    pub(super) fn name_noted(disk: &dyn Disk, name: &str) -> Result<()> {
        disk.rename(NOTED, name).map_err(|error| unwritable(&error))
    }

    fn put(disk: &dyn Disk, name: &str, index: &Layers, last: u64, length: u64) -> Result<Self> {
        let file = disk.create(name).map_err(|error| unwritable(&error))?;
        let mut at = 0;
        let mut write = |bytes: &[u8]| {
            write_all(&*file, bytes, at).map_err(|error| unwritable(&error))?;
            at += bytes.len() as u64;
            Ok(())
        };
        let head = encode(index, last, length, &mut write)?;
        let mut end = serde_json::to_vec(&head).map_err(Error::internal)?;
        let (size, sum) = (end.len() as u64, crc32fast::hash(&end));
        end.extend_from_slice(&size.to_le_bytes());
        end.extend_from_slice(&sum.to_le_bytes());
        end.extend_from_slice(MAGIC);
        write(&end)?;
        file.sync().map_err(|error| unwritable(&error))?;
        let names = Names::new(head.providers.clone());
        Ok(Self { file, head, names })
    }

    /// Opens it; none where it is missing, damaged or of another layout. One of the first layout is written anew.
    pub(super) fn open(disk: &dyn Disk, name: &str) -> Option<Self> {
        let file = disk.open(name).ok()?;
        let length = file.length().ok()?;
        let footer = read_up_to(&*file, length.checked_sub(FOOTER as u64)?, FOOTER).ok()?;
        let size = u64_at(&footer, 0).filter(|_| footer.ends_with(MAGIC) || footer.ends_with(FIRST))?;
        let start = length.checked_sub(FOOTER as u64)?.checked_sub(size)?;
        let json = read_up_to(&*file, start, usize::try_from(size).ok()?).ok()?;
        if u32_at(&footer, 8)? != crc32fast::hash(&json) {
            return None;
        }
        let head: Head = serde_json::from_slice(&json_of_numbers(&json, footer.ends_with(FIRST))?).ok()?;
        if footer.ends_with(FIRST) {
            let index = first_layout(&file, &head, &json)?;
            return Self::write(disk, name, &index.into(), head.last, head.length).ok();
        }
        let names = Names::new(head.providers.clone());
        Some(Self { file, head, names })
    }

    pub(super) const fn names(&self) -> &Names {
        &self.names
    }

    /// Its workspaces with their parts.
    pub(super) fn workspaces(&self) -> Result<Vec<(String, Block)>> {
        let mut at = self.head.entries;
        let mut found = Vec::new();
        for _ in 0..self.head.workspaces {
            let (name, block, length) = self.entry(at)?;
            found.push((name, block));
            at += length;
        }
        Ok(found)
    }

    /// A workspace's part.
    pub(super) fn block(&self, workspace: &str) -> Result<Option<Block>> {
        let hash = hash(workspace);
        let (mut low, mut high) = (0, self.head.workspaces);
        while high - low > LINES {
            let middle = low + (high - low) / 2;
            let line = self.lines(middle, 1)?;
            if u64_at(&line, 0).is_some_and(|found| found < hash) { low = middle + 1 } else { high = middle }
        }
        // A name's line may be the one that the search ended before.
        let lines = self.lines(low, (high - low + LINES).min(self.head.workspaces - low))?;
        for line in lines.chunks_exact(LINE) {
            match u64_at(line, 0).zip(u64_at(line, 8)) {
                Some((found, at)) if found == hash => {
                    let (name, block, _) = self.entry(at)?;
                    if name == workspace {
                        return Ok(Some(block));
                    }
                }
                Some((found, _)) if found > hash => break,
                _ => {}
            }
        }
        Ok(None)
    }

    fn lines(&self, from: u64, count: u64) -> Result<Vec<u8>> {
        let length = count as usize * LINE;
        let lines = read_up_to(&*self.file, self.head.table + from * LINE as u64, length);
        let lines = lines.map_err(|error| unreadable(&error))?;
        if lines.len() == length { Ok(lines) } else { Err(ends_early()) }
    }

    /// The entry that begins here: its name, its block, its length.
    fn entry(&self, at: u64) -> Result<(String, Block, u64)> {
        let read = |length: usize| read_up_to(&*self.file, at, length).map_err(|error| unreadable(&error));
        let mut bytes = read(512)?;
        let length = u32_at(&bytes, 0).filter(|length| *length <= MAX_ENTRY).ok_or_else(ends_early)? as usize;
        if length > bytes.len() {
            bytes = read(length)?;
        }
        let bytes = bytes.get(..length).ok_or_else(ends_early)?;
        let rest = bytes.get(8..).filter(|rest| u32_at(bytes, 4) == Some(crc32fast::hash(rest)));
        let (name, block) =
            rest.and_then(|_| self.read_entry(bytes)).ok_or_else(|| told("an index of the journal is damaged"))?;
        Ok((name, block, length as u64))
    }

    fn read_entry(&self, bytes: &[u8]) -> Option<(String, Block)> {
        let (offset, count) = (u64_at(bytes, 8)?, u64_at(bytes, 16)?);
        let (oldest, newest) = (u64_at(bytes, 24)?.cast_signed(), u64_at(bytes, 32)?.cast_signed());
        let groups = usize::from(u16_at(bytes, 40)?) * GROUP;
        let (groups, name) = bytes.get(ENTRY..)?.split_at_checked(groups)?;
        let group = |bytes: &[u8]| {
            Some(Group { provider: u16_at(bytes, 0)?, status: u16_at(bytes, 2)?, count: u64_at(bytes, 4)? })
        };
        let groups = groups.chunks_exact(GROUP).map(group).collect::<Option<_>>()?;
        let marks = Marks::File(Arc::clone(&self.file), offset);
        Some((String::from_utf8(name.to_vec()).ok()?, Block { oldest, newest, count: count as usize, groups, marks }))
    }

    /// Whether it says the same as an index that was made from the segment, byte by byte.
    pub(super) fn says(&self, index: &Layers) -> bool {
        let (mut at, mut same) = (0, true);
        let head = encode(index, self.head.last, self.head.length, &mut |bytes| {
            same &= read_up_to(&*self.file, at, bytes.len()).is_ok_and(|kept| kept == bytes);
            at += bytes.len() as u64;
            Ok(())
        });
        same && head.is_ok_and(|head| head == self.head)
    }
}

/// Takes the next bytes of a file.
type Take<'t> = &'t mut dyn FnMut(&[u8]) -> Result<()>;

/// Gives what comes before the head, in pieces, and the head.
fn encode(index: &Layers, last: u64, length: u64, take: Take<'_>) -> Result<Head> {
    let (mut entries, mut table, mut start) = (Vec::new(), Vec::new(), 0_u64);
    let mut gathered = Vec::new();
    for (workspace, blocks) in index.workspaces()? {
        let count: usize = blocks.iter().map(|block| block.count).sum();
        let oldest = blocks.iter().map(|block| block.oldest).min().unwrap_or_default();
        let newest = blocks.iter().map(|block| block.newest).max().unwrap_or_default();
        each_mark(&blocks, &mut |mark| {
            mark.put(&mut gathered);
            if gathered.len() < GATHERED {
                return Ok(());
            }
            take(&gathered)?;
            gathered.clear();
            Ok(())
        })?;
        table.push((hash(&workspace), entries.len() as u64));
        let numbers = [start, count as u64, oldest.cast_unsigned(), newest.cast_unsigned()];
        put_entry(&mut entries, numbers, &groups(&blocks), &workspace);
        start += (count * MARK) as u64;
    }
    let (workspaces, place) = (table.len() as u64, start + entries.len() as u64);
    gathered.append(&mut entries);
    table.sort_unstable();
    for (hash, at) in table {
        gathered.extend_from_slice(&hash.to_le_bytes());
        gathered.extend_from_slice(&(start + at).to_le_bytes());
    }
    take(&gathered)?;
    let providers = index.names().list().to_vec();
    Ok(Head { last, length, span: index.span(), providers, workspaces, entries: start, table: place })
}

fn put_entry(entries: &mut Vec<u8>, numbers: [u64; 4], groups: &[Group], workspace: &str) {
    let mut rest = numbers.map(u64::to_le_bytes).concat();
    let groups = groups.get(..groups.len().min(usize::from(u16::MAX))).unwrap_or_default();
    rest.extend_from_slice(&(groups.len() as u16).to_le_bytes());
    for group in groups {
        rest.extend_from_slice(&group.provider.to_le_bytes());
        rest.extend_from_slice(&group.status.to_le_bytes());
        rest.extend_from_slice(&group.count.to_le_bytes());
    }
    rest.extend_from_slice(workspace.as_bytes());
    entries.extend_from_slice(&(rest.len() as u32 + 8).to_le_bytes());
    entries.extend_from_slice(&crc32fast::hash(&rest).to_le_bytes());
    entries.extend_from_slice(&rest);
}

/// FNV-1a: the same on every machine and in every version.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn ends_early() -> Error {
    told("an index of the journal ends too early")
}

/// The head without what only the first layout has in it.
fn json_of_numbers(json: &[u8], is_first: bool) -> Option<Vec<u8>> {
    if !is_first {
        return Some(json.to_vec());
    }
    let mut head: serde_json::Value = serde_json::from_slice(json).ok()?;
    head.as_object_mut()?.remove("workspaces");
    serde_json::to_vec(&head).ok()
}

/// The index that a file of the first layout is.
fn first_layout(file: &Arc<dyn DiskFile>, head: &Head, json: &[u8]) -> Option<Index> {
    #[derive(Deserialize)]
    struct Parts {
        workspaces: HashMap<String, Part>,
    }
    #[derive(Deserialize)]
    struct Part {
        offset: u64,
        count: usize,
        oldest: i64,
        newest: i64,
        groups: Vec<Group>,
    }
    let parts: Parts = serde_json::from_slice(json).ok()?;
    let mut index = Index::of(Names::new(head.providers.clone()));
    for (workspace, Part { offset, count, oldest, newest, groups }) in parts.workspaces {
        let block = Block { oldest, newest, count, groups, marks: Marks::File(Arc::clone(file), offset) };
        index.put(workspace, block.read(0..count).ok()?, &block.groups);
    }
    Some(index)
}

#[cfg(test)]
mod tests {
    use super::super::index::Brief;
    use super::*;
    use crate::store::disk::MemoryDisk;

    fn index(workspaces: usize) -> Layers {
        let mut index = Layers::default();
        for number in 0..3 * workspaces {
            let (workspace, provider) = (format!("ws_{}", number % workspaces), ["one", "two"][number % 2]);
            let brief = Brief { workspace: &workspace, at: number as i64, provider: Some(provider), status: 200 };
            index.add(brief, number as u32);
        }
        index
    }

    #[test]
    fn every_workspace_is_found_among_few_and_among_many_and_no_other() {
        for workspaces in [1, 2, 511, 3000] {
            let disk = MemoryDisk::default();
            let index = index(workspaces);
            Sidecar::write(&disk, "i", &index, 7, 9).unwrap();
            let sidecar = Sidecar::open(&disk, "i").unwrap();
            assert!(sidecar.says(&index));
            for number in 0..workspaces {
                let block = sidecar.block(&format!("ws_{number}")).unwrap().unwrap();
                let offsets: Vec<u32> = block.read(0..block.count).unwrap().iter().map(|mark| mark.offset).collect();
                assert_eq!(offsets, [0, 1, 2].map(|round| (number + round * workspaces) as u32));
                assert_eq!(block.groups.iter().map(|group| group.count).sum::<u64>(), 3);
            }
            assert!(sidecar.block("ws_").unwrap().is_none());
        }
    }

    #[test]
    fn an_index_of_the_first_layout_is_written_anew() {
        let disk = MemoryDisk::default();
        let file = disk.create("i").unwrap();
        let mut bytes = Vec::new();
        let made = {
            let mut index = Layers::default();
            index.add(Brief { workspace: "ws", at: 5, provider: Some("one"), status: 200 }, 24);
            index
        };
        for blocks in made.workspaces().unwrap().values() {
            let marks = blocks.iter().flat_map(|block| block.read(0..block.count).unwrap());
            marks.for_each(|mark| mark.put(&mut bytes));
        }
        let json = br#"{"last":1,"length":99,"span":[5,5],"providers":["one"],"workspaces":{"ws":{"offset":0,"count":1,"oldest":5,"newest":5,"groups":[{"provider":0,"status":200,"count":1}]}}}"#;
        bytes.extend_from_slice(json);
        bytes.extend_from_slice(&(json.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(json).to_le_bytes());
        bytes.extend_from_slice(FIRST);
        file.write_at(&bytes, 0).unwrap();
        for _ in 0..2 {
            let sidecar = Sidecar::open(&disk, "i").unwrap();
            assert_eq!((sidecar.head.last, sidecar.head.length), (1, 99));
            assert!(sidecar.says(&made));
        }
    }
}
