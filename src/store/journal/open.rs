//! How a journal's files are found, begun and opened.
//!
//! Invariants: only what was never promised is cut off, and only at the end of the last segment; whatever else is not as it
//! should be is refused, and nothing is changed.

use std::io::ErrorKind;
use std::sync::Arc;

use super::layers::Layers;
use super::sidecar::Sidecar;
use super::walk::{self, Tail, Walked};
use super::{Active, Closed, Noted, Writer, broken, damaged, index_name, newer, segment_name, unreadable, unwritable};
use crate::error::Result;
use crate::store::disk::{Disk, DiskFile, read_up_to, write_all};
use crate::store::entry::Codec;
use crate::store::frame::{BadHeader, Content, FILE_HEADER, header, read_header};

/// The first numbers of the segments, in order.
pub(super) fn segment_numbers(disk: &dyn Disk) -> Result<Vec<u64>> {
    let names = disk.list().map_err(|error| unreadable(&error))?;
    let numbers = names.iter().filter_map(|name| name.strip_suffix(".journal")?.parse().ok());
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A last segment without a commit was about to be begun when the process died, or when the disk failed: the one before it may
/// have gone on. Gives its number, if it was the only one.
pub(super) fn drop_unborn(disk: &dyn Disk, firsts: &mut Vec<u64>) -> Result<Option<u64>> {
    let Some(last) = firsts.last().copied() else { return Ok(None) };
    if !is_unborn(disk, last)? {
        return Ok(None);
    }
    disk.remove(&segment_name(last)).map_err(|error| unwritable(&error))?;
    firsts.pop();
    Ok(firsts.is_empty().then_some(last))
}

fn is_unborn(disk: &dyn Disk, first: u64) -> Result<bool> {
    let file = disk.open(&segment_name(first)).map_err(|error| unreadable(&error))?;
    let bytes = read_up_to(&*file, 0, FILE_HEADER + 1).map_err(|error| unreadable(&error))?;
    let is_empty = bytes.len() <= FILE_HEADER && read_header(Content::Journal, &bytes) != Err(BadHeader::Newer);
    // One that has an index had commits.
    Ok(is_empty && disk.open(&index_name(first)).is_err())
}

pub(super) fn check_follows(disk: &dyn Disk, expected: u64, first: u64) -> Result<()> {
    if expected == first {
        return Ok(());
    }
    let text = format!("the entries {expected} to {} are missing", first.saturating_sub(1));
    Err(broken(disk, &text))
}

pub(super) fn begin_segment(disk: &dyn Disk, first: u64) -> Result<(Active, Writer)> {
    let begin = || {
        // Of a segment that was lost; it would be taken for that of this one.
        match disk.remove(&index_name(first)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(&segment_name(first))?;
        write_all(&*file, &header(Content::Journal, first), 0)?;
        file.sync()?;
        disk.sync()?;
        Ok(file)
    };
    let file = begin().map_err(|error| {
        // The one before it goes on, and this one must not stand in its way.
        let _ = disk.remove(&segment_name(first));
        unwritable(&error)
    })?;
    let writer = Writer { end: FILE_HEADER as u64, next: first, failed: false };
    let noted = Noted { end: FILE_HEADER as u64, next: first };
    Ok((Active { first, file, index: Layers::default(), noted }, writer))
}

fn open_segment(disk: &dyn Disk, first: u64) -> Result<Arc<dyn DiskFile>> {
    let name = segment_name(first);
    let file = disk.open(&name).map_err(|error| unreadable(&error))?;
    let head = read_up_to(&*file, 0, FILE_HEADER).map_err(|error| unreadable(&error))?;
    match read_header(Content::Journal, &head) {
        Ok(number) if number == first => Ok(file),
        Err(BadHeader::Newer) => Err(newer(disk)),
        _ => Err(damaged(disk, &name, 0)),
    }
}

pub(super) fn open_closed(disk: &dyn Disk, codec: &Codec, first: u64) -> Result<Closed> {
    let file = open_segment(disk, first)?;
    let length = file.length().map_err(|error| unreadable(&error))?;
    if let Some(sidecar) = Sidecar::open(disk, &index_name(first)) {
        if sidecar.head.length != length {
            return Err(damaged(disk, &segment_name(first), sidecar.head.length.min(length) as usize));
        }
        return Ok(Closed { first, file, sidecar });
    }
    let start = Noted { end: FILE_HEADER as u64, next: first };
    let (index, walked) = index_segment(&*file, codec, start, Layers::default())?;
    if walked.tail != Tail::Clean {
        return Err(damaged(disk, &segment_name(first), walked.end));
    }
    let sidecar = Sidecar::write(disk, &index_name(first), &index, walked.next - 1, length)?;
    Ok(Closed { first, file, sidecar })
}

pub(super) fn open_active(disk: &dyn Disk, codec: &Codec, first: u64) -> Result<(Active, Writer)> {
    let file = open_segment(disk, first)?;
    let sidecar = Sidecar::open(disk, &index_name(first)).filter(|sidecar| sidecar.workspaces().is_ok());
    let (noted, index) = match sidecar {
        Some(sidecar) => {
            let length = file.length().map_err(|error| unreadable(&error))?;
            if sidecar.head.length > length {
                return Err(damaged(disk, &segment_name(first), length as usize));
            }
            (Noted { end: sidecar.head.length, next: sidecar.head.last + 1 }, Layers::over(sidecar))
        }
        None => (Noted { end: FILE_HEADER as u64, next: first }, Layers::default()),
    };
    let (index, walked) = index_segment(&*file, codec, noted, index)?;
    match walked.tail {
        Tail::Clean => {}
        Tail::Damaged => return Err(damaged(disk, &segment_name(first), walked.end)),
        Tail::Torn => {
            tracing::warn!(at = walked.end, "the last commit of the journal was never finished; it is cut off");
            file.set_len(walked.end as u64).and_then(|()| file.sync()).map_err(|error| unwritable(&error))?;
        }
    }
    let writer = Writer { end: walked.end as u64, next: walked.next, failed: false };
    Ok((Active { first, file, index, noted }, writer))
}

/// Reads a segment through from here on, and adds what is there to its index.
fn index_segment(file: &dyn DiskFile, codec: &Codec, from: Noted, mut index: Layers) -> Result<(Layers, Walked)> {
    let length = file.length().map_err(|error| unreadable(&error))?.saturating_sub(from.end);
    let bytes = read_up_to(file, from.end, length as usize).map_err(|error| unreadable(&error))?;
    let mut decoder = codec.decoder()?;
    let mut walked = walk::walk_from(&bytes, 0, from.next, &mut |frame, at| {
        if let Some(mark) = decoder.mark(frame.payload)? {
            index.add(mark.brief(), (from.end + at as u64) as u32);
        }
        Ok(())
    })?;
    walked.end += from.end as usize;
    Ok((index, walked))
}
