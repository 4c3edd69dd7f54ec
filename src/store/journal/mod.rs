//! The journal: what happened, in order, in files that only grow. Everything else in the store can be made anew from it.
//!
//! It is cut into segments, `{number of its first entry}.journal`. A commit is one write and one sync; several entries share it.
//! A closed segment has its `.index` beside it (`sidecar`); the index of the last one is in memory. `frame` is the form of an
//! entry, `walk` reads a segment through, `search` finds a page of the request log.
//!
//! Not here: what an entry means (`entry`), what follows from it (`state`).
//!
//! Invariants: an entry that was committed is on disk; one that was not is cut off before the next is written, so what failed
//! may be committed again; only the end of the last segment is ever cut.

pub(super) mod checkpoint;
mod frame;
mod index;
pub(super) mod repair;
mod search;
mod sidecar;
mod walk;

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::disk::{Disk, DiskFile, read_all, read_up_to, write_all};
use super::entry::{self, Codec, Entry};
use crate::error::{Error, ErrorKind, Result};
use crate::store::told;
use frame::{BadHeader, FILE_HEADER, FRAME_HEADER, Frame, MAX_FRAMES};
use frame::{Content, header, read_header};
pub(super) use index::Brief;
use index::Index;
pub(super) use search::{Found, Wanted};
use search::{Part, search};
use sidecar::Sidecar;
use walk::Tail;

/// Bytes after which a segment is closed.
pub(super) const SEGMENT_BYTES: u64 = 32 * 1024 * 1024;
/// A segment that can't be closed grows on up to here, and no further.
const MAX_SEGMENT_BYTES: u64 = 1024 * 1024 * 1024;
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
    index: Index,
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
            let next = closed.last().map_or(first, |before: &Arc<Closed>| before.sidecar.directory.last + 1);
            check_follows(&*disk, next, first)?;
            closed.push(Arc::new(open_closed(&*disk, &codec, first)?));
        }
        let next = closed.last().map(|before| before.sidecar.directory.last + 1);
        let (active, writer) = match last {
            None => begin_segment(&*disk, begin)?,
            Some(first) => {
                check_follows(&*disk, next.unwrap_or(first), first)?;
                open_active(&*disk, &codec, first)?
            }
        };
        let segments = RwLock::new(Segments { closed, active });
        Ok(Self { disk, codec, segment_bytes, segments, writer: Mutex::new(writer), failing: AtomicBool::new(false) })
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
        search(&self.parts(workspace, wanted.provider), wanted)
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
        for (first, last, file) in self.files() {
            if last.is_some_and(|last| last < from) {
                continue;
            }
            let bytes = read_all(&*file).map_err(|error| unreadable(&error))?;
            let walked = walk::walk(&bytes, first, &mut |frame, _| {
                if frame.sequence < from { Ok(()) } else { visit(frame.sequence, decoder.decode(frame.payload)?) }
            })?;
            if last.is_some_and(|last| walked.next <= last) {
                return Err(damaged(&*self.disk, &segment_name(first), walked.end));
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
        for part in self.parts(workspace, wanted.provider) {
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
            let directory = &closed.sidecar.directory;
            Kept {
                first: closed.first,
                last: directory.last,
                bytes: directory.length,
                newest: directory.span.map(|span| span.1),
            }
        };
        self.segments.read().unwrap_or_else(PoisonError::into_inner).closed.iter().map(kept).collect()
    }

    /// How many records came before this moment, of all workspaces.
    pub(super) fn records_before(&self, moment: i64) -> Result<u64> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let mut blocks = Vec::new();
        for closed in &segments.closed {
            blocks.extend(closed.sidecar.workspaces().filter_map(|workspace| closed.sidecar.block(workspace)));
        }
        let index = &segments.active.index;
        blocks.extend(index.workspaces().filter_map(|(workspace, ..)| index.block(workspace)));
        drop(segments);
        blocks.iter().map(|block| Ok(block.before(moment)? as u64)).sum()
    }

    /// Removes the oldest segments up to this sequence number.
    pub(super) fn remove_through(&self, last: u64) -> Result<()> {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        while let Some(oldest) = segments.closed.first().filter(|oldest| oldest.sidecar.directory.last <= last) {
            let first = oldest.first;
            // The index first: a segment without one is whole, an index without a segment is litter.
            match self.disk.remove(&index_name(first)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(&error)),
                _ => self.disk.remove(&segment_name(first)).map_err(|error| unwritable(&error))?,
            }
            segments.closed.remove(0);
        }
        self.disk.sync().map_err(|error| unwritable(&error))
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
    fn parts(&self, workspace: &str, provider: Option<&str>) -> Vec<Part> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let known = |names: &index::Names| match provider {
            None => Some(None),
            Some(name) => names.find(name).map(Some),
        };
        let mut parts = Vec::with_capacity(segments.closed.len() + 1);
        for closed in &segments.closed {
            let (block, provider) = (closed.sidecar.block(workspace), known(closed.sidecar.names()));
            let part = |(block, provider)| Part { block, provider, file: Arc::clone(&closed.file) };
            parts.extend(block.zip(provider).map(part));
        }
        let active = &segments.active;
        let found = active.index.block(workspace).zip(known(active.index.names()));
        parts.extend(found.map(|(block, provider)| Part { block, provider, file: Arc::clone(&active.file) }));
        parts
    }

    /// First number, last number and file of each segment, the oldest first. The segment that is written has no last one.
    fn files(&self) -> Vec<(u64, Option<u64>, Arc<dyn DiskFile>)> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let closed = segments.closed.iter();
        let mut files: Vec<_> = closed
            .map(|closed| (closed.first, Some(closed.sidecar.directory.last), Arc::clone(&closed.file)))
            .collect();
        files.push((segments.active.first, None, Arc::clone(&segments.active.file)));
        files
    }
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
        Some(through) => through + 1,
        None => frame.sequence + 1,
    }
}

fn segment_name(first: u64) -> String {
    format!("{first:020}.journal")
}

fn index_name(first: u64) -> String {
    format!("{first:020}.index")
}

/// The first numbers of the segments, in order.
fn segment_numbers(disk: &dyn Disk) -> Result<Vec<u64>> {
    let names = disk.list().map_err(|error| unreadable(&error))?;
    let numbers = names.iter().filter_map(|name| name.strip_suffix(".journal")?.parse().ok());
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// A last segment that has not even a header was about to be made when the process died. Gives its number.
fn drop_unborn(disk: &dyn Disk, firsts: &mut Vec<u64>) -> Result<Option<u64>> {
    let Some(last) = firsts.last().copied() else { return Ok(None) };
    let file = disk.open(&segment_name(last)).map_err(|error| unreadable(&error))?;
    let bytes = read_up_to(&*file, 0, FILE_HEADER + 1).map_err(|error| unreadable(&error))?;
    if bytes.len() <= FILE_HEADER && read_header(Content::Journal, &bytes) == Err(BadHeader::Damaged) {
        disk.remove(&segment_name(last)).map_err(|error| unwritable(&error))?;
        return Ok(firsts.pop());
    }
    Ok(None)
}

fn check_follows(disk: &dyn Disk, expected: u64, first: u64) -> Result<()> {
    if expected == first {
        return Ok(());
    }
    let text = format!("the entries {expected} to {} are missing", first.saturating_sub(1));
    Err(broken(disk, &text))
}

fn begin_segment(disk: &dyn Disk, first: u64) -> Result<(Active, Writer)> {
    let begin = || {
        let file = disk.create(&segment_name(first))?;
        write_all(&*file, &header(Content::Journal, first), 0)?;
        file.sync()?;
        disk.sync()?;
        Ok(file)
    };
    let file = begin().map_err(|error| unwritable(&error))?;
    let writer = Writer { end: FILE_HEADER as u64, next: first, failed: false };
    Ok((Active { first, file, index: Index::default() }, writer))
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

fn open_closed(disk: &dyn Disk, codec: &Codec, first: u64) -> Result<Closed> {
    let file = open_segment(disk, first)?;
    let length = file.length().map_err(|error| unreadable(&error))?;
    if let Some(sidecar) = Sidecar::open(disk, &index_name(first)) {
        if sidecar.directory.length != length {
            return Err(damaged(disk, &segment_name(first), sidecar.directory.length.min(length) as usize));
        }
        return Ok(Closed { first, file, sidecar });
    }
    let (index, walked) = index_segment(&*file, codec, first)?;
    if walked.tail != Tail::Clean {
        return Err(damaged(disk, &segment_name(first), walked.end));
    }
    let sidecar = Sidecar::write(disk, &index_name(first), &index, walked.next - 1, length)?;
    Ok(Closed { first, file, sidecar })
}

fn open_active(disk: &dyn Disk, codec: &Codec, first: u64) -> Result<(Active, Writer)> {
    let file = open_segment(disk, first)?;
    let (index, walked) = index_segment(&*file, codec, first)?;
    match walked.tail {
        Tail::Clean => {}
        Tail::Damaged => return Err(damaged(disk, &segment_name(first), walked.end)),
        Tail::Torn => {
            tracing::warn!(at = walked.end, "the last commit of the journal was never finished; it is cut off");
            file.set_len(walked.end as u64).and_then(|()| file.sync()).map_err(|error| unwritable(&error))?;
        }
    }
    let writer = Writer { end: walked.end as u64, next: walked.next, failed: false };
    Ok((Active { first, file, index }, writer))
}

/// Reads a segment through.
fn index_segment(file: &dyn DiskFile, codec: &Codec, first: u64) -> Result<(Index, walk::Walked)> {
    let bytes = read_all(file).map_err(|error| unreadable(&error))?;
    let mut index = Index::default();
    let mut decoder = codec.decoder()?;
    let walked = walk::walk(&bytes, first, &mut |frame, at| {
        if let Some(mark) = decoder.mark(frame.payload)? {
            index.add(mark.brief(), at as u32);
        }
        Ok(())
    })?;
    Ok((index, walked))
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
