//! What can be said of a journal that may be damaged, and what can be saved of it.
//!
//! [`inspect`] only reads. [`salvage`] writes every damaged segment anew with what can be read of it, leaves the old one beside
//! it as `.damaged`, and puts a gap where entries are lost, so that nobody takes the journal for whole.

use super::frame::{Content, FILE_HEADER, Frame, header, read_header};
use super::layers::Layers;
use super::open::segment_numbers;
use super::sidecar::Sidecar;
use super::walk::{self, Tail, Walked};
use super::{index_name, next_after, segment_name, unreadable, unwritable};
use crate::error::Result;
use crate::store::disk::{Disk, read_all, write_all};
use crate::store::entry::{Codec, Decoder, Entry};

/// What a journal came to.
#[derive(Debug, Default)]
pub(in crate::store) struct Inspected {
    pub(in crate::store) segments: u64,
    pub(in crate::store) entries: u64,
    pub(in crate::store) bytes: u64,
    /// The number of the first entry.
    pub(in crate::store) first: Option<u64>,
    /// The number after the last entry.
    pub(in crate::store) next: u64,
    /// Entries that an earlier rebuild could not save.
    pub(in crate::store) lost: u64,
    pub(in crate::store) problems: Vec<String>,
}

/// Shows an entry and its number.
pub(in crate::store) type Show<'v> = &'v mut dyn FnMut(u64, Entry<'static>) -> Result<()>;

/// The number of the first entry that is there.
pub(in crate::store) fn first(disk: &dyn Disk) -> Result<Option<u64>> {
    Ok(segment_numbers(disk)?.first().copied())
}

/// Reads the whole journal through, shows every entry that stands where it should, and notes what does not.
pub(in crate::store) fn inspect(disk: &dyn Disk, show: Show<'_>) -> Result<Inspected> {
    let mut found = Inspected::default();
    let numbers = segment_numbers(disk)?;
    let mut decoder = Codec::new()?.decoder()?;
    for (place, first) in numbers.iter().enumerate() {
        if found.first.is_some() && found.next != *first {
            found.problems.push(format!("the entries {} to {} are missing", found.next, first.saturating_sub(1)));
        }
        found.first.get_or_insert(*first);
        let bytes = contents(disk, *first)?;
        let is_last = place + 1 == numbers.len();
        if let Err(problem) = inspect_segment(disk, (*first, is_last, &bytes), &mut decoder, (&mut found, &mut *show))?
        {
            found.problems.push(problem);
        }
        found.segments += 1;
        found.bytes += bytes.len() as u64;
    }
    Ok(found)
}

/// The problem of a segment, if there is one.
fn inspect_segment(
    disk: &dyn Disk,
    (first, is_last, bytes): (u64, bool, &[u8]),
    decoder: &mut Decoder,
    (found, show): (&mut Inspected, Show<'_>),
) -> Result<Result<(), String>> {
    let name = segment_name(first);
    found.next = first;
    if read_header(Content::Journal, bytes) != Ok(first) {
        return Ok(if is_last && bytes.len() <= FILE_HEADER {
            Ok(())
        } else {
            Err(format!("{name} has no valid header"))
        });
    }
    let mut index = Layers::default();
    let mut unreadable = None;
    let sidecar = Sidecar::open(disk, &index_name(first));
    // The index of the last segment is of what was there when it was noted.
    let indexed = sidecar.as_ref().filter(|_| is_last).map_or(u64::MAX, |sidecar| sidecar.head.length);
    let walked = walk::walk(bytes, first, &mut |frame, at| match decoder.decode(frame.payload) {
        Ok(entry) => {
            if let Some(brief) = entry.brief().filter(|_| (at as u64) < indexed) {
                index.add(brief, at as u32);
            }
            found.entries += 1;
            if let Entry::Gap(through) = entry {
                found.lost = found.lost.saturating_add(through.saturating_add(1).saturating_sub(frame.sequence));
            }
            show(frame.sequence, entry)
        }
        Err(error) => {
            unreadable.get_or_insert(format!("entry {} in {name}: {error}", frame.sequence));
            Ok(())
        }
    })?;
    found.next = walked.next;
    if let Some(problem) = unreadable {
        return Ok(Err(problem));
    }
    Ok(judge(sidecar, (first, is_last), &walked, &index))
}

fn judge(
    sidecar: Option<Sidecar>,
    (first, is_last): (u64, bool),
    walked: &Walked,
    index: &Layers,
) -> Result<(), String> {
    let name = segment_name(first);
    if walked.tail == Tail::Damaged || (walked.tail == Tail::Torn && !is_last) {
        return Err(format!("{name} can't be read from byte {} on", walked.end));
    }
    let Some(sidecar) = sidecar else { return Ok(()) };
    let (next, length) = (sidecar.head.last + 1, sidecar.head.length);
    let at_its_end = next == walked.next && length == walked.end as u64;
    let whole = at_its_end || (is_last && next <= walked.next && length <= walked.end as u64);
    if whole && sidecar.says(index) {
        Ok(())
    } else if whole {
        Err(format!("{} does not say what its segment holds; delete it, and it is made anew", index_name(first)))
    } else {
        Err(format!("{name} ends too early: entry {} of {}", walked.next.saturating_sub(1), sidecar.head.last))
    }
}

/// Makes a journal whole again where it is damaged; says which segments were.
pub(in crate::store) fn salvage(disk: &dyn Disk) -> Result<Vec<String>> {
    let numbers = segment_numbers(disk)?;
    let mut mended = Vec::new();
    let mut next = numbers.first().copied().unwrap_or(1);
    for (place, first) in numbers.iter().enumerate() {
        if next < *first {
            write_segment(disk, next, &gap(next, *first))?;
            mended.push(format!("{} (missing)", segment_name(next)));
        }
        let follows = numbers.get(place + 1).copied();
        match whole(disk, *first, follows.is_none())? {
            Some(after) => next = after,
            None => {
                next = mend(disk, *first, follows)?;
                mended.push(segment_name(*first));
            }
        }
    }
    Ok(mended)
}

/// The number after the last entry of a segment without damage.
fn whole(disk: &dyn Disk, first: u64, is_last: bool) -> Result<Option<u64>> {
    let bytes = contents(disk, first)?;
    if read_header(Content::Journal, &bytes) != Ok(first) {
        return Ok(None);
    }
    let mut decoder = Codec::new()?.decoder()?;
    let mut readable = true;
    let walked = walk::walk(&bytes, first, &mut |frame, _| {
        readable &= decoder.decode(frame.payload).is_ok();
        Ok(())
    })?;
    let ended_early = Sidecar::open(disk, &index_name(first))
        .is_some_and(|side| side.head.last + 1 > walked.next || (!is_last && side.head.last + 1 != walked.next));
    let fine = match walked.tail {
        Tail::Clean => true,
        Tail::Torn => is_last,
        Tail::Damaged => false,
    };
    Ok((fine && readable && !ended_early).then_some(walked.next))
}

/// Writes a segment anew with what can be read of it. Gives the number after its last entry.
fn mend(disk: &dyn Disk, first: u64, follows: Option<u64>) -> Result<u64> {
    let bytes = contents(disk, first)?;
    let mut decoder = Codec::new()?.decoder()?;
    let mut kept = Vec::new();
    let mut next = first;
    // Of the file before it was damaged, the index knows the end.
    let end = Sidecar::open(disk, &index_name(first)).map(|sidecar| sidecar.head.last + 1);
    walk::salvage(&bytes, &mut |frame, _| {
        let follows_on = frame.sequence >= next && decoder.decode(frame.payload).is_ok();
        if follows_on {
            if frame.sequence > next {
                kept.extend(gap(next, frame.sequence));
            }
            Frame { place: 0, of: 1, ..*frame }.put(&mut kept);
            next = next_after(frame);
        }
        Ok(())
    })?;
    if let Some(end) = follows.or(end).filter(|end| next < *end) {
        kept.extend(gap(next, end));
        next = end;
    }
    let name = segment_name(first);
    disk.rename(&name, &format!("{name}.damaged")).map_err(|error| unwritable(&error))?;
    write_segment(disk, first, &kept)?;
    Ok(next)
}

/// A frame that says that the entries from here up to this one, which is there again, are lost.
fn gap(from: u64, until: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let payload = Codec::new().and_then(|codec| codec.encode(&Entry::Gap(until.saturating_sub(1))));
    if let Ok(payload) = payload {
        Frame { sequence: from, place: 0, of: 1, payload: &payload }.put(&mut bytes);
    }
    bytes
}

fn write_segment(disk: &dyn Disk, first: u64, frames: &[u8]) -> Result<()> {
    let (name, temporary) = (segment_name(first), format!("{}.new", segment_name(first)));
    let stale = index_name(first);
    let mut bytes = header(Content::Journal, first);
    bytes.extend_from_slice(frames);
    let write = || {
        if disk.list()?.contains(&stale) {
            disk.remove(&stale)?;
        }
        let file = disk.create(&temporary)?;
        write_all(&*file, &bytes, 0)?;
        file.sync()?;
        disk.rename(&temporary, &name)?;
        disk.sync()
    };
    write().map_err(|error| unwritable(&error))
}

fn contents(disk: &dyn Disk, first: u64) -> Result<Vec<u8>> {
    let file = disk.open(&segment_name(first)).map_err(|error| unreadable(&error))?;
    read_all(&*file).map_err(|error| unreadable(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::MemoryDisk;
    use crate::store::frame::header;

    #[test]
    fn a_gap_that_can_not_be_is_counted_and_no_more() {
        for (through, lost) in [(u64::MAX, u64::MAX - 1), (0, 0), (7, 7)] {
            let payload = Codec::new().unwrap().encode(&Entry::Gap(through)).unwrap();
            let mut bytes = header(Content::Journal, 1);
            Frame { sequence: 1, place: 0, of: 1, payload: &payload }.put(&mut bytes);
            let disk = MemoryDisk::default();
            write_all(&*disk.create(&segment_name(1)).unwrap(), &bytes, 0).unwrap();
            let found = inspect(&disk, &mut |_, _| Ok(())).unwrap();
            assert_eq!((found.entries, found.lost), (1, lost), "through {through}");
        }
    }
}
