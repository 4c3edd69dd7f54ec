//! The journal: what happened, in order, in files that only grow. Everything else in the store can be made anew from it.
//!
//! It is cut into segments, `{number of its first entry}.journal`. A commit is one write and one sync; several entries share it.
//! A closed segment has its `.index` beside it (`sidecar`); that of the last one is noted on disk now and then, and only what came
//! after is in memory (`layers`), so that a start reads no more than that (`open`). `walk` reads a segment through, `search` finds a page of the
//! request log, `checkpoint` keeps what follows from segments that are gone, `repair` judges and mends.
//!
//! Not here: what an entry means (`entry`), what follows from it (`state`).
//!
//! Invariants: an entry that was committed is on disk; one that was not is cut off before the next is written, so what failed
//! may be committed again; only the end of the last segment is ever cut.

pub(super) mod checkpoint;
mod index;
mod layers;
mod open;
pub(super) mod repair;
mod search;
mod sidecar;
mod walk;

use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::disk::{Disk, DiskFile, read_up_to, write_all};
use super::entry::{self, Codec, Entry};
use super::frame;
use crate::error::{Error, ErrorKind, Result};
use crate::store::told;
use frame::{FILE_HEADER, FRAME_HEADER, Frame, MAX_FRAMES};
pub(super) use index::Brief;
use layers::Layers;
use open::{begin_segment, check_follows, drop_unborn, open_active, open_closed, segment_numbers};
pub(super) use search::{Found, Wanted};
use search::{Part, search};
use sidecar::Sidecar;

/// Bytes after which a segment is closed.
pub(super) const SEGMENT_BYTES: u64 = 32 * 1024 * 1024;
/// A segment that can't be closed grows on up to here, and no further.
const MAX_SEGMENT_BYTES: u64 = 1024 * 1024 * 1024;
/// In so many parts the index of a segment is noted: a start after a crash reads one part at most, and one is in memory.
const NOTES: u64 = 8;
/// Bytes that are read where a frame is expected; most are smaller.
const READ_AHEAD: usize = 1024;

/// What is written to see whether writing works.
const PROBE: &str = "probe";

/// The journal of a store.
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    codec: Codec,
    segment_bytes: u64,
    segments: RwLock<Segments>,
    writer: Mutex<Writer>,
    /// Held while the index of the segment that is written is noted.
    noting: Mutex<()>,
    /// Whether the last commit failed.
    failing: AtomicBool,
}

struct Segments {
    /// The oldest first.
    closed: Vec<Arc<Closed>>,
    active: Active,
}

/// A segment that is not written any more.
struct Closed {
    first: u64,
    file: Arc<dyn DiskFile>,
    sidecar: Sidecar,
}

/// The segment that is written.
struct Active {
    first: u64,
    file: Arc<dyn DiskFile>,
    index: Layers,
    noted: Noted,
}

/// Up to where the index on disk goes: a place between two commits, and the number of the entry that begins there.
#[derive(Clone, Copy)]
struct Noted {
    end: u64,
    next: u64,
}

struct Writer {
    /// Where the next commit goes.
    end: u64,
    /// The sequence number of the next entry.
    next: u64,
    /// Whether a commit failed and its remains may lie behind the end.
    failed: bool,
}

/// A closed segment, for who decides what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The sequence numbers of its first and its last entry.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) bytes: u64,
    /// The time of its newest record; none where it has no record.
    pub(super) newest: Option<i64>,
}

impl Journal {
    /// Opens the journal in this directory, or begins it there with this sequence number. A commit that was never finished
    /// is cut off the end.
    ///
    /// Errors: `Internal`, with a text for the operator: damage, gaps, a newer layout, an unwritable disk.
    pub(super) fn open(disk: Arc<dyn Disk>, segment_bytes: u64, begin: u64) -> Result<Self> {
        let codec = Codec::new()?;
        let mut firsts = segment_numbers(&*disk)?;
        let mut closed = Vec::new();
        let begin = drop_unborn(&*disk, &mut firsts)?.unwrap_or(begin);
        let last = firsts.pop();
        for first in firsts {
            let next = closed.last().map_or(first, |before: &Arc<Closed>| before.sidecar.head.last + 1);
            check_follows(&*disk, next, first)?;
            closed.push(Arc::new(open_closed(&*disk, &codec, first)?));
        }
        let next = closed.last().map(|before| before.sidecar.head.last + 1);
        let (active, writer) = match last {
            None => begin_segment(&*disk, begin)?,
            Some(first) => {
                check_follows(&*disk, next.unwrap_or(first), first)?;
                open_active(&*disk, &codec, first)?
            }
        };
        let segments = RwLock::new(Segments { closed, active });
        let (writer, noting, failing) = (Mutex::new(writer), Mutex::default(), AtomicBool::new(false));
        Ok(Self { disk, codec, segment_bytes, segments, writer, noting, failing })
    }

    /// Commits entries, all or none, and gives the number of the first; on disk when it returns.
    ///
    /// Errors: the disk's; then nothing was committed, and the same may be tried again.
    pub(super) fn commit(&self, entries: &[Entry<'_>]) -> Result<u64> {
        let payloads: Vec<Vec<u8>> = entries.iter().map(|entry| self.codec.encode(entry)).collect::<Result<_>>()?;
        let committed = self.write(entries, &payloads);
        self.failing.store(committed.is_err(), Ordering::Relaxed);
        committed
    }

    fn write(&self, entries: &[Entry<'_>], payloads: &[Vec<u8>]) -> Result<u64> {
        let mut writer = self.writer();
        self.mend(&mut writer)?;
        let of = u16::try_from(payloads.len()).map_err(|_| told(format!("more than {MAX_FRAMES} entries")))?;
        let mut bytes = Vec::with_capacity(payloads.iter().map(|payload| payload.len() + FRAME_HEADER).sum());
        let mut places = Vec::with_capacity(payloads.len());
        for (place, payload) in (0..of).zip(payloads) {
            places.push(bytes.len());
            Frame { sequence: writer.next + u64::from(place), place, of, payload }.put(&mut bytes);
        }
        self.make_room(&mut writer, bytes.len() as u64)?;
        let file = Arc::clone(&self.segments.read().unwrap_or_else(PoisonError::into_inner).active.file);
        writer.failed = true;
        write_all(&*file, &bytes, writer.end).and_then(|()| file.sync()).map_err(|error| unwritable(&error))?;
        writer.failed = false;
        let first = writer.next;
        let start = writer.end;
        writer.end += bytes.len() as u64;
        writer.next += u64::from(of);
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        for (entry, place) in entries.iter().zip(places) {
            if let Some(brief) = entry.brief() {
                segments.active.index.add(brief, (start + place as u64) as u32);
            }
        }
        Ok(first)
    }

    /// The sequence number that the next entry gets.
    pub(super) fn next(&self) -> u64 {
        self.writer().next
    }

    /// The sequence number of the oldest entry that is there, or that will be.
    pub(super) fn first(&self) -> u64 {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        segments.closed.first().map_or(segments.active.first, |oldest| oldest.first)
    }

    /// A page of the log of a workspace.
    pub(super) fn search(&self, workspace: &str, wanted: &Wanted<'_>) -> Result<Found> {
        search(&self.parts(workspace, wanted)?, wanted)
    }

    /// The entries at these places.
    pub(super) fn read(&self, found: &Found) -> Result<Vec<Entry<'static>>> {
        let mut decoder = self.codec.decoder()?;
        let read = |(file, offset): &(Arc<dyn DiskFile>, u32)| {
            read_frame(&**file, u64::from(*offset), |frame| decoder.decode(frame.payload))
        };
        found.places.iter().map(read).collect()
    }

    /// Shows every entry from this number on, in order.
    pub(super) fn replay(&self, from: u64, visit: &mut dyn FnMut(u64, Entry<'static>) -> Result<()>) -> Result<()> {
        let mut decoder = self.codec.decoder()?;
        for segment in self.files().into_iter().filter(|segment| segment.last.is_none_or(|last| last >= from)) {
            // What lies before is known, and need not be read.
            let known = Some(segment.noted).filter(|noted| noted.next <= from);
            let Noted { end, next } = known.unwrap_or(Noted { end: FILE_HEADER as u64, next: segment.first });
            let length = segment.file.length().map_err(|error| unreadable(&error))?.saturating_sub(end);
            let bytes = read_up_to(&*segment.file, end, length as usize).map_err(|error| unreadable(&error))?;
            let walked = walk::walk_from(&bytes, 0, next, &mut |frame, _| {
                if frame.sequence < from { Ok(()) } else { visit(frame.sequence, decoder.decode(frame.payload)?) }
            })?;
            if segment.last.is_some_and(|last| walked.next <= last) {
                return Err(damaged(&*self.disk, &segment_name(segment.first), end as usize + walked.end));
            }
        }
        Ok(())
    }

    /// Shows the records of a workspace that were booked after this number, in the order of booking.
    pub(super) fn export(
        &self,
        workspace: &str,
        after: u64,
        wanted: &Wanted<'_>,
        visit: &mut dyn FnMut(u64, Entry<'static>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut decoder = self.codec.decoder()?;
        for part in self.parts(workspace, wanted)? {
            let places = search::places(&part, wanted)?;
            let number = |offset: u32| read_frame(&*part.file, u64::from(offset), |frame| Ok(frame.sequence));
            for offset in skip_to(&places, after, number)? {
                let flow = read_frame(&*part.file, u64::from(*offset), |frame| {
                    visit(frame.sequence, decoder.decode(frame.payload)?)
                });
                if flow?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether the disk takes anything. It is asked only after a commit failed.
    pub(super) fn is_writable(&self) -> bool {
        let probe = || {
            let file = self.disk.create(PROBE)?;
            write_all(&*file, &[0; 4096], 0)?;
            file.sync()?;
            self.disk.remove(PROBE)
        };
        !self.failing.load(Ordering::Relaxed) || probe().is_ok()
    }

    /// Closes the segment that is written, if anything is in it whose record came before this moment.
    pub(super) fn close_if_older(&self, moment: i64) -> Result<()> {
        let mut writer = self.writer();
        let span = self.segments.read().unwrap_or_else(PoisonError::into_inner).active.index.span();
        if span.is_some_and(|(oldest, _)| oldest < moment) {
            self.mend(&mut writer)?;
            self.roll(&mut writer)?;
        }
        Ok(())
    }

    /// The closed segments, the oldest first.
    pub(super) fn closed(&self) -> Vec<Kept> {
        let kept = |closed: &Arc<Closed>| {
            let directory = &closed.sidecar.head;
            Kept {
                first: closed.first,
                last: directory.last,
                bytes: directory.length,
                newest: directory.span.map(|span| span.1),
            }
        };
        self.segments.read().unwrap_or_else(PoisonError::into_inner).closed.iter().map(kept).collect()
    }

    /// How many records of all workspaces are of this time, in milliseconds: in all segments, or in those up to this number.
    pub(super) fn count(&self, time: Range<i64>, through: Option<u64>) -> Result<u64> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let (closed, index) = (segments.closed.clone(), through.is_none().then(|| segments.active.index.clone()));
        drop(segments);
        let of = |block: &index::Block| -> Result<u64> {
            Ok(block.before(time.end)?.saturating_sub(block.before(time.start)?) as u64)
        };
        let mut count = 0;
        for closed in closed.iter().filter(|closed| through.is_none_or(|last| closed.sidecar.head.last <= last)) {
            if closed.sidecar.head.span.is_some_and(|(oldest, newest)| newest >= time.start && oldest < time.end) {
                for (_, block) in closed.sidecar.workspaces()? {
                    count += of(&block)?;
                }
            }
        }
        for block in index.unwrap_or_default().workspaces()?.values().flatten() {
            count += of(block)?;
        }
        Ok(count)
    }

    /// Removes the oldest segments up to this sequence number. Only one may remove at a time.
    pub(super) fn remove_through(&self, last: u64) -> Result<()> {
        loop {
            let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
            let oldest = segments.closed.first().filter(|oldest| oldest.sidecar.head.last <= last);
            let Some(first) = oldest.map(|oldest| oldest.first) else { break };
            drop(segments);
            // The index first: a segment without one is whole, an index without a segment is litter.
            match self.disk.remove(&index_name(first)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(&error)),
                _ => self.disk.remove(&segment_name(first)).map_err(|error| unwritable(&error))?,
            }
            self.segments.write().unwrap_or_else(PoisonError::into_inner).closed.remove(0);
        }
        self.disk.sync().map_err(|error| unwritable(&error))
    }

    /// Notes the index of the segment that is written, where much came since the last time.
    pub(super) fn note_index(&self) -> Result<()> {
        self.note_after(self.segment_bytes / NOTES)
    }

    /// Leaves the journal so that the next start reads nothing again.
    pub(super) fn close(&self) -> Result<()> {
        self.note_after(1)
    }

    fn note_after(&self, bytes: u64) -> Result<()> {
        let _one = self.noting.lock().unwrap_or_else(PoisonError::into_inner);
        // Copied under the lock and written without it. A segment that was closed meanwhile has its own index by then.
        let writer = self.writer();
        let (end, next) = (writer.end, writer.next);
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        if end < segments.active.noted.end + bytes {
            return Ok(());
        }
        let (first, index) = (segments.active.first, segments.active.index.clone());
        drop(segments);
        drop(writer);
        let written = Sidecar::note(&*self.disk, &index, next - 1, end)?;
        // Named under the lock, lest it replace the whole one.
        let _writer = self.writer();
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        if segments.active.first == first {
            Sidecar::name_noted(&*self.disk, &index_name(first))?;
            segments.active.index.settle(written);
            segments.active.noted = Noted { end, next };
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.writer().end
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts off what a failed commit left.
    fn mend(&self, writer: &mut Writer) -> Result<()> {
        if writer.failed {
            let file = Arc::clone(&self.segments.read().unwrap_or_else(PoisonError::into_inner).active.file);
            file.set_len(writer.end).and_then(|()| file.sync()).map_err(|error| unwritable(&error))?;
            writer.failed = false;
        }
        Ok(())
    }

    /// Begins a new segment where this one would become too large.
    fn make_room(&self, writer: &mut Writer, bytes: u64) -> Result<()> {
        if writer.end + bytes <= self.segment_bytes || writer.end == FILE_HEADER as u64 {
            return Ok(());
        }
        match self.roll(writer) {
            Err(error) if writer.end + bytes > MAX_SEGMENT_BYTES => Err(error),
            // There may be room for the entries where there is none for an index.
            _ => Ok(()),
        }
    }

    fn roll(&self, writer: &mut Writer) -> Result<()> {
        // Readers go on while the index is written; it only changes under the writer's lock.
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let first = segments.active.first;
        let (index, last) = (&segments.active.index, writer.next - 1);
        let sidecar = Sidecar::write(&*self.disk, &index_name(first), index, last, writer.end)?;
        drop(segments);
        let (active, begun) = begin_segment(&*self.disk, writer.next)?;
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut segments.active, active);
        segments.closed.push(Arc::new(Closed { first, file: before.file, sidecar }));
        *writer = begun;
        Ok(())
    }

    /// A workspace's records in each segment that can have some of this provider.
    fn parts(&self, workspace: &str, wanted: &Wanted<'_>) -> Result<Vec<Part>> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let known = |names: &index::Names| match wanted.provider {
            None => Some(None),
            Some(name) => names.find(name).map(Some),
        };
        let closed = segments.closed.clone();
        let active = &segments.active;
        let (written, file) = (active.index.part(workspace), Arc::clone(&active.file));
        let provider = known(active.index.names());
        drop(segments);
        let mut parts = Vec::with_capacity(closed.len() + 1);
        for closed in closed.iter().filter(|closed| closed.sidecar.head.span.is_some_and(|span| wanted.overlaps(span)))
        {
            let Some(provider) = known(closed.sidecar.names()) else { continue };
            let part = |block| Part { block, provider, file: Arc::clone(&closed.file) };
            parts.extend(closed.sidecar.block(workspace)?.map(part));
        }
        if let Some(provider) = provider {
            parts.extend(written.blocks(workspace)?.map(|block| Part { block, provider, file: Arc::clone(&file) }));
        }
        Ok(parts)
    }

    /// All segments, the oldest first.
    fn files(&self) -> Vec<Segment> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let closed = segments.closed.iter().map(|closed| Segment {
            first: closed.first,
            last: Some(closed.sidecar.head.last),
            file: Arc::clone(&closed.file),
            noted: Noted { end: FILE_HEADER as u64, next: closed.first },
        });
        let active = &segments.active;
        let (first, file, noted) = (active.first, Arc::clone(&active.file), active.noted);
        closed.chain([Segment { first, last: None, file, noted }]).collect()
    }
}

/// A segment, for who reads it through. The one that is written has no last number.
struct Segment {
    first: u64,
    last: Option<u64>,
    file: Arc<dyn DiskFile>,
    noted: Noted,
}

/// The places from the first one on whose number lies after this one. Numbers rise with places.
fn skip_to(places: &[u32], after: u64, number: impl Fn(u32) -> Result<u64>) -> Result<&[u32]> {
    let (mut low, mut high) = (0, places.len());
    while after > 0 && low < high {
        let middle = low + (high - low) / 2;
        let Some(place) = places.get(middle) else { break };
        if number(*place)? <= after { low = middle + 1 } else { high = middle }
    }
    Ok(places.get(low..).unwrap_or_default())
}

/// The number after a frame's.
fn next_after(frame: &Frame<'_>) -> u64 {
    match entry::gap(frame.payload) {
        Some(through) => through.saturating_add(1),
        None => frame.sequence.saturating_add(1),
    }
}

fn segment_name(first: u64) -> String {
    format!("{first:020}.journal")
}

fn index_name(first: u64) -> String {
    format!("{first:020}.index")
}

fn read_frame<T>(file: &dyn DiskFile, offset: u64, take: impl FnOnce(&Frame<'_>) -> Result<T>) -> Result<T> {
    let mut bytes = read_up_to(file, offset, READ_AHEAD).map_err(|error| unreadable(&error))?;
    let length = FRAME_HEADER.saturating_add(frame::u32_at(&bytes, 0).unwrap_or_default() as usize);
    if length > bytes.len() && length <= frame::MAX_PAYLOAD {
        bytes = read_up_to(file, offset, length).map_err(|error| unreadable(&error))?;
    }
    let Some(found) = frame::read(&bytes) else {
        return Err(told("A record of the journal is damaged; run `perpetuo store verify`."));
    };
    take(&found)
}

/// The disk did not take it.
fn unwritable(cause: &io::Error) -> Error {
    told(format!("the journal can't be written: {cause}"))
}

fn unreadable(cause: &io::Error) -> Error {
    told(format!("the journal can't be read: {cause}"))
}

fn damaged(disk: &dyn Disk, name: &str, at: usize) -> Error {
    broken(disk, &format!("{name} can't be read at byte {at}"))
}

fn broken(disk: &dyn Disk, cause: &str) -> Error {
    let text = format!(
        "The journal at {} is damaged: {cause}. Nothing was changed. `perpetuo store verify` tells what is lost; restore a backup, \
         or let `perpetuo store rebuild` go on with everything that can be read.",
        disk.place()
    );
    Error::new(ErrorKind::Internal, text)
}

fn newer(disk: &dyn Disk) -> Error {
    let text = format!("The journal at {} was written by a newer version; use that version.", disk.place());
    Error::new(ErrorKind::Internal, text)
}
