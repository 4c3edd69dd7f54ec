//! A run: the sums of a stretch of the journal's entries, in a file that is written once, `{first entry}-{last entry}.sums`.
//!
//! ```text
//! header | a frame for each block of rows | the directory's frame | where that begins 8 | CRC-32 of these 8 bytes 4
//! block      length of the rows 4 | rows, compressed
//! row        length of the key 4 | length of the value 4 | key | value
//! ```
//!
//! The directory is a block too: its rows are, for each kind of sums, a zero byte and the kind → the oldest and the newest time and
//! how many there are; and for each block its first key → where it begins and how long it is.
//!
//! Invariants: rows are ordered by key, and no key is there twice; a file with this name is whole unless the disk changed it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use zstd::bulk::Compressor;

use crate::error::{Error, Result};
use crate::store::disk::{Disk, DiskFile, read_all, read_up_to, write_all};
use crate::store::frame::{self, Content, FILE_HEADER, Frame, header, read_header, u32_at, u64_at};
use crate::store::keys;
use crate::store::rows::Visit;
use crate::store::told;

/// Bytes of rows after which a block is closed.
const BLOCK: usize = 32 * 1024;
/// Bytes that are gathered for one write.
const GATHERED: usize = 1024 * 1024;
/// The longest block that is believed in.
const MAX_BLOCK: usize = 256 * 1024 * 1024;
const LEVEL: i32 = 3;
const FOOTER: usize = 12;
const SUFFIX: &str = ".sums";

/// The entries that a run is of, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) struct Stretch {
    pub(in crate::store) first: u64,
    pub(in crate::store) last: u64,
}

impl Stretch {
    pub(in crate::store) fn name(self) -> String {
        format!("{:020}-{:020}{SUFFIX}", self.first, self.last)
    }

    /// The name while it is written.
    fn unfinished(self) -> String {
        format!("{:020}{SUFFIX}.new", self.first)
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        let (first, last) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        Some(Self { first: first.parse().ok()?, last: last.parse().ok()? })
    }
}

/// The times of the sums of one kind, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) oldest: i64,
    pub(super) newest: i64,
    rows: u64,
}

/// A run that can be read.
pub(in crate::store) struct Run {
    pub(in crate::store) of: Stretch,
    pub(in crate::store) bytes: u64,
    file: Arc<dyn DiskFile>,
    blocks: Vec<Block>,
    pub(super) spans: BTreeMap<u8, Span>,
}

struct Block {
    first: Box<[u8]>,
    offset: u64,
    length: u32,
}

impl Run {
    /// Opens the run of these entries.
    ///
    /// Errors: it is missing or damaged.
    pub(in crate::store) fn open(disk: &dyn Disk, of: Stretch) -> Result<Self> {
        let read = |error: &io::Error| unreadable(of, error);
        let file = disk.open(&of.name()).map_err(|error| read(&error))?;
        let bytes = file.length().map_err(|error| read(&error))?;
        let head = read_up_to(&*file, 0, FILE_HEADER).map_err(|error| read(&error))?;
        match read_header(Content::Sums, &head) {
            Ok(first) if first == of.first => {}
            Err(frame::BadHeader::Newer) => {
                return Err(told(format!("{} was written by a newer version; use that version", of.name())));
            }
            _ => return Err(damaged(of, 0)),
        }
        let end = bytes.saturating_sub(FOOTER as u64);
        let footer = read_up_to(&*file, end, FOOTER).map_err(|error| read(&error))?;
        let crc = footer.first_chunk::<8>().map(|place| crc32fast::hash(place));
        let offset = u64_at(&footer, 0).filter(|offset| *offset <= end && u32_at(&footer, 8) == crc);
        let Some(offset) = offset else { return Err(damaged(of, end)) };
        let mut run = Self { of, bytes, file, blocks: Vec::new(), spans: BTreeMap::new() };
        run.read_directory(offset, (end - offset) as usize)?;
        Ok(run)
    }

    /// Opens it, or where its directory is damaged, finds its blocks. What is not there any more is noted.
    pub(in crate::store) fn open_or_salvage(disk: &dyn Disk, of: Stretch, lost: &mut Vec<String>) -> Result<Self> {
        let error = match Self::open(disk, of) {
            Ok(run) => return Ok(run),
            Err(error) => error,
        };
        let file = disk.open(&of.name()).map_err(|error| unreadable(of, &error))?;
        let all = read_all(&*file).map_err(|error| unreadable(of, &error))?;
        let mut run = Self { of, bytes: all.len() as u64, file, blocks: Vec::new(), spans: BTreeMap::new() };
        let mut at = 0;
        while let Some(place) = frame::find(&all, at) {
            let length = all.get(place..).and_then(frame::read).map_or(1, |found| found.length());
            let rows = run.block(place as u64, length).unwrap_or_default();
            // The directory begins with what is no key.
            if let Some((key, ..)) = row(&rows, 0).filter(|(key, ..)| key.first() != Some(&0)) {
                run.blocks.push(Block { first: key.into(), offset: place as u64, length: length as u32 });
            }
            at = place + length;
        }
        lost.push(format!("{error}; {} blocks of it can be read", run.blocks.len()));
        Ok(run)
    }

    fn read_directory(&mut self, offset: u64, length: usize) -> Result<()> {
        let directory = self.block(offset, length)?;
        let broken = || damaged(self.of, offset);
        let (mut blocks, mut spans) = (Vec::new(), BTreeMap::new());
        let mut at = 0;
        while let Some((key, value, next)) = row(&directory, at) {
            match key {
                [0, kind] => {
                    let (oldest, newest) = u64_at(value, 0).zip(u64_at(value, 8)).ok_or_else(broken)?;
                    let rows = u64_at(value, 16).ok_or_else(broken)?;
                    spans.insert(*kind, Span { oldest: oldest.cast_signed(), newest: newest.cast_signed(), rows });
                }
                _ => {
                    let (offset, length) = u64_at(value, 0).zip(u32_at(value, 8)).ok_or_else(broken)?;
                    blocks.push(Block { first: key.into(), offset, length });
                }
            }
            at = next;
        }
        if at != directory.len() {
            return Err(broken());
        }
        (self.blocks, self.spans) = (blocks, spans);
        Ok(())
    }

    /// How many sums it has.
    #[cfg(test)]
    pub(in crate::store) fn rows(&self) -> u64 {
        self.spans.values().map(|span| span.rows).sum()
    }

    /// The rows of the block in these bytes of the file.
    fn block(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let bytes = read_up_to(&*self.file, offset, length).map_err(|error| unreadable(self.of, &error))?;
        let Some(found) = frame::read(&bytes) else { return Err(damaged(self.of, offset)) };
        let (head, body) = found.payload.split_first_chunk().ok_or_else(|| damaged(self.of, offset))?;
        let size = u32::from_le_bytes(*head) as usize;
        if size > MAX_BLOCK {
            return Err(damaged(self.of, offset));
        }
        zstd::bulk::decompress(body, size).map_err(|_| damaged(self.of, offset))
    }

    /// The place of the block that this key would be in.
    fn place(&self, key: &[u8]) -> usize {
        self.blocks.partition_point(|block| &*block.first <= key).saturating_sub(1)
    }

    /// Shows the rows of a range in order.
    pub(super) fn scan(&self, range: &Range<Vec<u8>>, visit: Visit<'_>) -> Result<()> {
        for block in self.blocks.iter().skip(self.place(&range.start)) {
            if *block.first >= *range.end {
                return Ok(());
            }
            let rows = self.block(block.offset, block.length as usize)?;
            let mut at = 0;
            while let Some((key, value, next)) = row(&rows, at) {
                at = next;
                if key >= &*range.end {
                    return Ok(());
                }
                if key >= &*range.start && visit(key, value)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// A walk through all rows of a run, block by block.
pub(super) struct Cursor {
    run: Arc<Run>,
    next_block: usize,
    rows: Vec<u8>,
    at: usize,
    /// What could not be read and was passed over; none where that is an error.
    lost: Option<Vec<String>>,
}

/// A key and its value.
pub(super) type Row = (Vec<u8>, Vec<u8>);

impl Cursor {
    pub(super) const fn new(run: Arc<Run>) -> Self {
        Self { run, next_block: 0, rows: Vec::new(), at: 0, lost: None }
    }

    /// Passes over blocks that can't be read.
    pub(super) const fn lenient(run: Arc<Run>) -> Self {
        Self { run, next_block: 0, rows: Vec::new(), at: 0, lost: Some(Vec::new()) }
    }

    /// What was passed over, in words.
    pub(super) fn lost(self) -> Vec<String> {
        self.lost.unwrap_or_default()
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>> {
        loop {
            if let Some((key, value, next)) = row(&self.rows, self.at) {
                self.at = next;
                return Ok(Some((key.to_vec(), value.to_vec())));
            }
            let Some(block) = self.run.blocks.get(self.next_block) else { return Ok(None) };
            self.next_block += 1;
            self.at = 0;
            match (self.run.block(block.offset, block.length as usize), &mut self.lost) {
                (Ok(rows), _) => self.rows = rows,
                (Err(error), Some(lost)) => {
                    self.rows.clear();
                    lost.push(error.to_string());
                }
                (Err(error), None) => return Err(error),
            }
        }
    }
}

/// A run that is being written.
pub(in crate::store) struct Writing<'d> {
    disk: &'d dyn Disk,
    of: Stretch,
    file: Arc<dyn DiskFile>,
    packer: Compressor<'static>,
    /// The rows of the block that is gathered, and its first key.
    rows: Vec<u8>,
    begins: Vec<u8>,
    /// Bytes for the next write, and how many were written.
    bytes: Vec<u8>,
    written: u64,
    blocks: Vec<Block>,
    spans: BTreeMap<u8, Span>,
}

impl<'d> Writing<'d> {
    /// Begins the run of these entries.
    pub(in crate::store) fn begin(disk: &'d dyn Disk, of: Stretch) -> Result<Self> {
        let file = disk.create(&of.unfinished()).map_err(|error| unwritable(&error))?;
        let packer = Compressor::new(LEVEL).map_err(Error::internal)?;
        let bytes = header(Content::Sums, of.first);
        let (rows, begins, blocks, spans) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
        Ok(Self { disk, of, file, packer, rows, begins, bytes, written: 0, blocks, spans })
    }

    /// Adds a row, whose key lies above the one before.
    pub(in crate::store) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.rows.is_empty() {
            self.begins = key.to_vec();
        }
        put_row(&mut self.rows, key, value);
        let (kind, begin) = (key.first().copied().unwrap_or_default(), keys::read_sum(key)?.begin);
        let span = self.spans.entry(kind).or_insert(Span { oldest: begin, newest: begin, rows: 0 });
        *span = Span { oldest: span.oldest.min(begin), newest: span.newest.max(begin), rows: span.rows + 1 };
        if self.rows.len() < BLOCK { Ok(()) } else { self.close_block() }
    }

    fn close_block(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        let (offset, length) = self.put(&rows)?;
        self.blocks.push(Block { first: std::mem::take(&mut self.begins).into(), offset, length });
        if self.bytes.len() < GATHERED { Ok(()) } else { self.write().map_err(|error| unwritable(&error)) }
    }

    /// Puts a block, and says where.
    fn put(&mut self, rows: &[u8]) -> Result<(u64, u32)> {
        let mut payload = (rows.len() as u32).to_le_bytes().to_vec();
        payload.extend_from_slice(&self.packer.compress(rows).map_err(Error::internal)?);
        let offset = self.written + self.bytes.len() as u64;
        let frame = Frame { sequence: self.blocks.len() as u64, place: 0, of: 1, payload: &payload };
        frame.put(&mut self.bytes);
        Ok((offset, frame.length() as u32))
    }

    /// Brings it to the disk under its name.
    pub(in crate::store) fn finish(mut self) -> Result<Run> {
        if !self.rows.is_empty() {
            self.close_block()?;
        }
        let (offset, _) = self.put(&self.directory())?;
        self.bytes.extend_from_slice(&offset.to_le_bytes());
        self.bytes.extend_from_slice(&crc32fast::hash(&offset.to_le_bytes()).to_le_bytes());
        let mut put = || {
            self.write()?;
            self.file.sync()?;
            self.disk.rename(&self.of.unfinished(), &self.of.name())?;
            self.disk.sync()
        };
        put().map_err(|error| unwritable(&error))?;
        let Self { of, file, written: bytes, blocks, spans, .. } = self;
        Ok(Run { of, bytes, file, blocks, spans })
    }

    fn directory(&self) -> Vec<u8> {
        let mut directory = Vec::new();
        for (kind, span) in &self.spans {
            let times = [span.oldest.cast_unsigned(), span.newest.cast_unsigned(), span.rows];
            put_row(&mut directory, &[0, *kind], &times.map(u64::to_le_bytes).concat());
        }
        for block in &self.blocks {
            let mut value = block.offset.to_le_bytes().to_vec();
            value.extend_from_slice(&block.length.to_le_bytes());
            put_row(&mut directory, &block.first, &value);
        }
        directory
    }

    fn write(&mut self) -> io::Result<()> {
        write_all(&*self.file, &self.bytes, self.written)?;
        self.written += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

fn put_row(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.extend_from_slice(&(key.len() as u32).to_le_bytes());
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

/// The row that begins here: key, value, and where the next one begins.
fn row(rows: &[u8], at: usize) -> Option<(&[u8], &[u8], usize)> {
    let (key, value) = (u32_at(rows, at)? as usize, u32_at(rows, at + 4)? as usize);
    let (key, rest) = rows.get(at + 8..)?.split_at_checked(key)?;
    let end = at + 8 + key.len() + value;
    Some((key, rest.get(..value)?, end))
}

pub(super) fn unwritable(cause: &io::Error) -> Error {
    told(format!("the sums can't be written: {cause}"))
}

fn unreadable(of: Stretch, cause: &io::Error) -> Error {
    told(format!("{} can't be read: {cause}", of.name()))
}

fn damaged(of: Stretch, at: u64) -> Error {
    told(format!(
        "{} is damaged at byte {at}; `perpetuo store rebuild` goes on with everything that can be read",
        of.name()
    ))
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::store::disk::MemoryDisk;

    const OF: Stretch = Stretch { first: 3, last: 9 };

    fn key(number: i64) -> Vec<u8> {
        keys::sum(b'd', "ws", number, &["key", "one", "model"]).unwrap()
    }

    fn written(disk: &dyn Disk, rows: i64) -> Run {
        let mut writing = Writing::begin(disk, OF).unwrap();
        (0..rows).for_each(|number| writing.add(&key(number), number.to_string().as_bytes()).unwrap());
        writing.finish().unwrap()
    }

    fn scanned(run: &Run, range: Range<i64>) -> Vec<String> {
        let mut found = Vec::new();
        run.scan(&(key(range.start)..key(range.end)), &mut |_, value| {
            found.push(String::from_utf8(value.to_vec()).unwrap());
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        found
    }

    #[test]
    fn every_range_of_many_blocks_comes_back_after_it_was_opened_again() {
        let disk = MemoryDisk::default();
        let blocks = written(&disk, 5000).blocks.len();
        assert!(blocks > 4, "{blocks}");
        let run = Run::open(&disk, OF).unwrap();
        assert_eq!((run.rows(), run.spans[&b'd'].oldest, run.spans[&b'd'].newest), (5000, 0, 4999));
        for range in [0..5000, 0..1, 4999..5000, 700..2500, 800..800, 6000..7000] {
            let expected: Vec<String> = range.clone().filter(|n| *n < 5000).map(|n| n.to_string()).collect();
            assert_eq!(scanned(&run, range.clone()), expected, "{range:?}");
        }
    }

    #[test]
    fn a_run_without_rows_is_one_too() {
        let disk = MemoryDisk::default();
        written(&disk, 0);
        assert_eq!(Run::open(&disk, OF).unwrap().rows(), 0);
    }

    #[test]
    fn damage_is_told_and_only_its_block_is_lost() {
        let disk = MemoryDisk::default();
        written(&disk, 5000);
        let file = disk.open(&OF.name()).unwrap();
        let run = Arc::new(Run::open(&disk, OF).unwrap());
        file.write_at(&[0xFF; 4], run.blocks[2].offset + 40).unwrap();
        let mut strict = Cursor::new(Arc::clone(&run));
        assert!(std::iter::from_fn(|| strict.next().transpose()).any(|row| row.is_err()));
        let mut lenient = Cursor::lenient(Arc::clone(&run));
        let left = std::iter::from_fn(|| lenient.next().unwrap()).count();
        assert!(left > 3000 && left < 5000, "{left}");
        assert_eq!(lenient.lost().len(), 1);
        for cut in [0, 10, FILE_HEADER as u64, run.bytes / 2, run.bytes - 1] {
            file.set_len(cut).unwrap();
            assert!(Run::open(&disk, OF).is_err(), "{cut}");
        }
    }
}
