//! What `fuzz/` needs of the journal, which is private: segments made of any payloads, and the laws of reading any segment. Built
//! with the feature `fuzzing` alone.

use std::sync::Arc;

use super::disk::{Disk, MemoryDisk, write_all};
use super::entry::Entry;
use super::frame::{Content, Frame, header};
use super::journal::{Journal, SEGMENT_BYTES, repair};
use super::memory::{MemoryRows, MemoryStore};
use super::sums::Sums;

/// The file name of a journal's first segment, and of the index beside it.
const FILES: [&str; 2] = ["00000000000000000001.journal", "00000000000000000001.index"];

/// A segment with these payloads in frames whose checksums are right: each a commit of its own, or all of them one.
pub fn segment(payloads: &[&[u8]], one_commit: bool) -> Vec<u8> {
    let mut bytes = header(Content::Journal, 1);
    let of = if one_commit { u16::try_from(payloads.len()).unwrap_or(u16::MAX) } else { 1 };
    for (sequence, payload) in (1_u64..).zip(payloads) {
        let place = if one_commit { u16::try_from(sequence - 1).unwrap_or(u16::MAX) } else { 0 };
        Frame { sequence, place, of, payload }.put(&mut bytes);
    }
    bytes
}

/// Reads a journal of one segment and perhaps an index, whatever their bytes are, then mends it and reads it again.
///
/// Errors: the law that does not hold.
pub fn read_segment(segment: &[u8], index: Option<&[u8]>) -> Result<(), String> {
    let disk = disk(segment, index)?;
    let inspected =
        repair::inspect(&*disk, &mut |_, _| Ok(())).map_err(|error| format!("it can't be inspected: {error}"))?;
    let told = read(&disk);
    match &told {
        Ok(entries) if inspected.problems.is_empty() && *entries != inspected.entries => {
            return Err(format!("{entries} entries are read, {} were inspected", inspected.entries));
        }
        Err(error) if inspected.problems.is_empty() => {
            return Err(format!("what has no problem can't be read: {error}"));
        }
        _ => {}
    }
    let disk = self::disk(segment, index)?;
    repair::salvage(&*disk).map_err(|error| format!("it can't be mended: {error}"))?;
    let mended = repair::inspect(&*disk, &mut |_, _| Ok(())).map_err(|error| format!("what was mended: {error}"))?;
    if let Some(problem) = mended.problems.first() {
        return Err(format!("what was mended has a problem: {problem}"));
    }
    match read(&disk) {
        Ok(entries) if entries == mended.entries && entries >= inspected.entries => Ok(()),
        other => Err(format!("{other:?} is read of what was mended, {mended:?}, before {inspected:?}")),
    }
}

fn disk(segment: &[u8], index: Option<&[u8]>) -> Result<Arc<MemoryDisk>, String> {
    let disk = Arc::new(MemoryDisk::default());
    for (name, bytes) in FILES.into_iter().zip([Some(segment), index]) {
        let Some(bytes) = bytes else { continue };
        disk.create(name).and_then(|file| write_all(&*file, bytes, 0)).map_err(|error| error.to_string())?;
    }
    Ok(disk)
}

/// Opens the journal, adds up what it says, and counts its entries; one more that is committed must be read, too.
fn read(disk: &Arc<MemoryDisk>) -> crate::error::Result<u64> {
    let open = || Journal::open(Arc::clone(disk) as Arc<dyn Disk>, SEGMENT_BYTES, 1);
    let count = |journal: &Journal| -> crate::error::Result<u64> {
        let mut entries = 0;
        journal.replay(1, &mut |_, _| {
            entries += 1;
            Ok(())
        })?;
        Ok(entries)
    };
    let journal = open()?;
    let before = count(&journal)?;
    journal.commit(&[Entry::WorkspaceDeleted("ws_1".into())])?;
    drop(journal);
    let journal = open()?;
    let after = count(&journal)?;
    if after != before + 1 {
        return Err(super::told(format!("{before} entries and one more are {after}")));
    }
    MemoryStore::over(MemoryRows::default(), Sums::open(Arc::new(MemoryDisk::default()))?, journal)?;
    Ok(before)
}
