//! A checkpoint: all tenants as of an entry, and what was removed, so that the segments up to it are needed no more. Those of the
//! second layout have the sums too.
//!
//! `{number of the entry}.checkpoint` is a header and a frame for each row, then an empty row that says it is complete. It is
//! written under another name and renamed, so one that is there is whole unless the disk changed it.

use std::io;
use std::sync::Arc;

use super::frame::{self, Content, FILE_HEADER, Frame, header, read_header};
use super::{unreadable, unwritable};
use crate::error::Result;
use crate::store::disk::{Disk, DiskFile, read_all, write_all};
use crate::store::rows::Show;
use crate::store::told;

/// Bytes that are gathered for one write.
const GATHERED: usize = 1024 * 1024;

fn name(through: u64) -> String {
    format!("{through:020}.checkpoint")
}

/// The number of the newest checkpoint's entry.
pub(in crate::store) fn newest(disk: &dyn Disk) -> Result<Option<u64>> {
    Ok(numbers(disk)?.into_iter().max())
}

fn numbers(disk: &dyn Disk) -> Result<Vec<u64>> {
    let names = disk.list().map_err(|error| unreadable(&error))?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".checkpoint")?.parse().ok()).collect())
}

/// A checkpoint that is being written.
pub(in crate::store) struct Writing<'d> {
    disk: &'d dyn Disk,
    through: u64,
    file: Arc<dyn DiskFile>,
    bytes: Vec<u8>,
    written: u64,
    rows: u64,
}

impl<'d> Writing<'d> {
    /// Begins one as of this entry.
    pub(in crate::store) fn begin(disk: &'d dyn Disk, through: u64) -> Result<Self> {
        let file = disk.create(&format!("{}.new", name(through))).map_err(|error| unwritable(&error))?;
        Ok(Self { disk, through, file, bytes: header(Content::Checkpoint, through), written: 0, rows: 0 })
    }

    /// Adds a row.
    pub(in crate::store) fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut payload = Vec::with_capacity(4 + key.len() + value.len());
        payload.extend_from_slice(&(key.len() as u32).to_le_bytes());
        payload.extend_from_slice(key);
        payload.extend_from_slice(value);
        Frame { sequence: self.rows, place: 0, of: 1, payload: &payload }.put(&mut self.bytes);
        self.rows += 1;
        if self.bytes.len() < GATHERED { Ok(()) } else { self.write().map_err(|error| unwritable(&error)) }
    }

    /// Makes it the newest one, on disk, and removes those before it.
    pub(in crate::store) fn finish(mut self) -> Result<()> {
        self.add(&[], &[])?;
        let mut put = || {
            self.write()?;
            self.file.sync()?;
            self.disk.rename(&format!("{}.new", name(self.through)), &name(self.through))?;
            self.disk.sync()
        };
        put().map_err(|error| unwritable(&error))?;
        for older in numbers(self.disk)?.into_iter().filter(|number| *number < self.through) {
            self.disk.remove(&name(older)).map_err(|error| unwritable(&error))?;
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        write_all(&*self.file, &self.bytes, self.written)?;
        self.written += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

/// Shows every row of the checkpoint as of this entry.
///
/// Errors: it is damaged; then some rows may have been shown.
pub(in crate::store) fn load(disk: &dyn Disk, through: u64, show: Show<'_>) -> Result<()> {
    let damaged = || told(format!("the checkpoint {} is damaged", name(through)));
    let file = disk.open(&name(through)).map_err(|error| unreadable(&error))?;
    let bytes = read_all(&*file).map_err(|error| unreadable(&error))?;
    if read_header(Content::Checkpoint, &bytes) != Ok(through) {
        return Err(damaged());
    }
    let (mut at, mut rows) = (FILE_HEADER, 0);
    loop {
        let found = bytes.get(at..).and_then(frame::read).filter(|found| found.sequence == rows).ok_or_else(damaged)?;
        let (length, rest) = found.payload.split_first_chunk().ok_or_else(damaged)?;
        let (key, value) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(damaged)?;
        if key.is_empty() {
            return Ok(());
        }
        show(key, value)?;
        at += found.length();
        rows += 1;
    }
}
