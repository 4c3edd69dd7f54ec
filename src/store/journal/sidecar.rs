//! The index of a closed segment, in a file beside it: the marks of each workspace, then a directory of them.
//!
//! ```text
//! marks of the first workspace | of the second | … | directory (JSON) | its length 8 | its CRC-32 4 | magic 8
//! ```
//!
//! Invariant: it holds nothing that the segment does not; where it is missing or damaged it is made anew.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::frame::{u32_at, u64_at};
use super::index::{Block, Group, Index, MARK, Marks, Names};
use super::unwritable;
use crate::error::{Error, Result};
use crate::store::disk::{Disk, DiskFile, read_up_to, write_all};

/// The end of every such file; its last letter is the layout.
const MAGIC: &[u8; 8] = b"PERPIDX1";
const FOOTER: usize = 20;

/// What is known of a segment without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Directory {
    /// The sequence number of its last frame.
    pub(super) last: u64,
    /// Its length in bytes.
    pub(super) length: u64,
    /// The time of the oldest and of the newest record; none where there is no record.
    pub(super) span: Option<(i64, i64)>,
    providers: Vec<String>,
    workspaces: HashMap<String, Part>,
}

/// A workspace's marks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    offset: u64,
    count: usize,
    oldest: i64,
    newest: i64,
    groups: Vec<Group>,
}

/// An opened index.
pub(super) struct Sidecar {
    file: Arc<dyn DiskFile>,
    pub(super) directory: Directory,
    names: Names,
}

impl Sidecar {
    /// Writes the index of a segment that ends with this sequence number and is this long.
    pub(super) fn write(disk: &dyn Disk, name: &str, index: &Index, last: u64, length: u64) -> Result<Self> {
        let (mut bytes, directory) = encode(index, last, length);
        let json = serde_json::to_vec(&directory).map_err(Error::internal)?;
        bytes.extend_from_slice(&json);
        bytes.extend_from_slice(&(json.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&json).to_le_bytes());
        bytes.extend_from_slice(MAGIC);
        let temporary = format!("{name}.new");
        let write = || {
            let file = disk.create(&temporary)?;
            write_all(&*file, &bytes, 0)?;
            file.sync()?;
            disk.rename(&temporary, name)?;
            disk.sync()?;
            Ok(file)
        };
        let file = write().map_err(|error| unwritable(&error))?;
        let names = Names::new(directory.providers.clone());
        Ok(Self { file, directory, names })
    }

    /// Opens it; none where it is missing, damaged or of another layout.
    pub(super) fn open(disk: &dyn Disk, name: &str) -> Option<Self> {
        let file = disk.open(name).ok()?;
        let length = file.length().ok()?;
        let footer = read_up_to(&*file, length.checked_sub(FOOTER as u64)?, FOOTER).ok()?;
        let size = u64_at(&footer, 0).filter(|_| footer.ends_with(MAGIC))?;
        let start = length.checked_sub(FOOTER as u64)?.checked_sub(size)?;
        let json = read_up_to(&*file, start, usize::try_from(size).ok()?).ok()?;
        if u32_at(&footer, 8)? != crc32fast::hash(&json) {
            return None;
        }
        let directory: Directory = serde_json::from_slice(&json).ok()?;
        let names = Names::new(directory.providers.clone());
        Some(Self { file, directory, names })
    }

    pub(super) const fn names(&self) -> &Names {
        &self.names
    }

    pub(super) fn workspaces(&self) -> impl Iterator<Item = &String> {
        self.directory.workspaces.keys()
    }

    /// A workspace's part.
    pub(super) fn block(&self, workspace: &str) -> Option<Block> {
        let part = self.directory.workspaces.get(workspace)?;
        Some(Block {
            oldest: part.oldest,
            newest: part.newest,
            count: part.count,
            groups: part.groups.clone(),
            marks: Marks::File(Arc::clone(&self.file), part.offset),
        })
    }

    /// Whether it says the same as an index that was made from the segment, byte by byte.
    pub(super) fn says(&self, index: &Index) -> bool {
        let (bytes, directory) = encode(index, self.directory.last, self.directory.length);
        let kept = read_up_to(&*self.file, 0, bytes.len());
        directory == self.directory && kept.is_ok_and(|kept| kept == bytes)
    }
}

fn encode(index: &Index, last: u64, length: u64) -> (Vec<u8>, Directory) {
    let mut bytes = Vec::new();
    let mut workspaces = HashMap::new();
    for (workspace, marks, groups) in index.workspaces() {
        let (Some(oldest), Some(newest)) = (marks.first(), marks.last()) else { continue };
        let offset = bytes.len();
        bytes.reserve(marks.len() * MARK);
        marks.iter().for_each(|mark| mark.put(&mut bytes));
        let offset = offset as u64;
        let part = Part { offset, count: marks.len(), oldest: oldest.at, newest: newest.at, groups };
        workspaces.insert(workspace.clone(), part);
    }
    let providers = index.names().list().to_vec();
    (bytes, Directory { last, length, span: index.span(), providers, workspaces })
}
