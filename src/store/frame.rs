//! A piece of a file with its checksum, and the header of a file: entries of the journal, rows of a checkpoint, blocks of sums.
//!
//! ```text
//! header  magic 8 | format 4 | first sequence number 8 | CRC-32 of the 20 bytes before 4
//! frame   length of the payload 4 | CRC-32 of all but itself 4 | sequence number 8 | place in its commit 2 | frames of its commit 2 | payload
//! ```
//!
//! Numbers are little-endian. A commit is written in one piece and synced before the next one begins. So a frame says which
//! commit it belongs to: what is broken in the last commit was never promised, what is broken before it is damage.

/// The length of a file's header.
pub(super) const FILE_HEADER: usize = 24;
/// The length of a frame without its payload.
pub(super) const FRAME_HEADER: usize = 20;
/// The largest payload.
pub(super) const MAX_PAYLOAD: usize = 64 * 1024 * 1024;
/// The most frames of a commit.
pub(super) const MAX_FRAMES: usize = u16::MAX as usize;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Journal,
    Checkpoint,
    Sums,
}

impl Content {
    const fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Journal => b"PERPJRNL",
            Self::Checkpoint => b"PERPCKPT",
            Self::Sums => b"PERPSUMS",
        }
    }
}

/// The layout that is written. Older ones stay readable, newer ones are refused.
const FORMAT: u32 = 1;

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Newer,
    Damaged,
}

/// The header of a file.
pub(super) fn header(content: Content, first: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILE_HEADER);
    bytes.extend_from_slice(content.magic());
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&first.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// The sequence number in a header.
pub(super) fn read_header(content: Content, bytes: &[u8]) -> Result<u64, BadHeader> {
    let (Some(head), Some(crc)) = (bytes.get(..20), u32_at(bytes, 20)) else { return Err(BadHeader::Damaged) };
    if !head.starts_with(content.magic()) || crc32fast::hash(head) != crc {
        return Err(BadHeader::Damaged);
    }
    match (u32_at(bytes, 8), u64_at(bytes, 12)) {
        (Some(FORMAT), Some(first)) => Ok(first),
        _ => Err(BadHeader::Newer),
    }
}

/// A frame that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'b> {
    pub(super) sequence: u64,
    /// Which of its commit's frames it is, from 0.
    pub(super) place: u16,
    /// Frames of its commit.
    pub(super) of: u16,
    pub(super) payload: &'b [u8],
}

impl Frame<'_> {
    /// The sequence number that its commit begins with.
    pub(super) const fn commit(&self) -> u64 {
        self.sequence.saturating_sub(self.place as u64)
    }

    /// Whether its commit ends with it.
    pub(super) const fn is_last(&self) -> bool {
        self.place as u32 + 1 == self.of as u32
    }

    /// Its length with the header.
    pub(super) const fn length(&self) -> usize {
        FRAME_HEADER + self.payload.len()
    }

    /// Writes it.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let length = (self.payload.len() as u32).to_le_bytes();
        let mut rest = [0; 12];
        let (sequence, places) = rest.split_at_mut(8);
        sequence.copy_from_slice(&self.sequence.to_le_bytes());
        let (place, of) = places.split_at_mut(2);
        place.copy_from_slice(&self.place.to_le_bytes());
        of.copy_from_slice(&self.of.to_le_bytes());
        out.extend_from_slice(&length);
        out.extend_from_slice(&crc(&length, &rest, self.payload).to_le_bytes());
        out.extend_from_slice(&rest);
        out.extend_from_slice(self.payload);
    }
}

/// The frame that these bytes begin with; none where they begin with no whole and undamaged one.
pub(super) fn read(bytes: &[u8]) -> Option<Frame<'_>> {
    let length = u32_at(bytes, 0)? as usize;
    let (head, body) = bytes.split_at_checked(FRAME_HEADER)?;
    let payload = body.get(..length).filter(|_| (1..=MAX_PAYLOAD).contains(&length))?;
    if u32_at(head, 4)? != crc(head.get(..4)?, head.get(8..)?, payload) {
        return None;
    }
    let (place, of) = (u16_at(head, 16)?, u16_at(head, 18)?);
    (place < of).then_some(Frame { sequence: u64_at(head, 8)?, place, of, payload })
}

/// The next place, from here on, where a frame begins.
pub(super) fn find(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len().saturating_sub(FRAME_HEADER)).find(|at| bytes.get(*at..).and_then(read).is_some())
}

fn crc(length: &[u8], rest: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(rest);
    hasher.update(payload);
    hasher.finalize()
}

/// A little-endian number at this place.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A little-endian number at this place.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A little-endian number at this place.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(frame: &Frame<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame.put(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn a_frame_comes_back_and_not_when_it_is_cut_or_changed(
            sequence: u64, place in 0_u16..100, more in 1_u16..100, payload in prop::collection::vec(any::<u8>(), 1..300),
            at: prop::sample::Index, bit in 0_u8..8,
        ) {
            let frame = Frame { sequence, place, of: place + more, payload: &payload };
            let mut bytes = written(&frame);
            prop_assert_eq!(read(&bytes), Some(frame));
            let at = at.index(bytes.len());
            prop_assert_eq!(read(&bytes[..at]), None);
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(read(&bytes), None);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(read(&bytes).is_some(), find(&bytes, 0) == Some(0));
        }
    }

    #[test]
    fn a_frame_is_found_behind_what_is_none() {
        let mut bytes = vec![0; 77];
        Frame { sequence: 7, place: 0, of: 1, payload: b"seven" }.put(&mut bytes);
        assert_eq!(find(&bytes, 0), Some(77));
        assert_eq!(find(&bytes, 78), None);
    }

    #[test]
    fn a_header_is_of_its_kind_its_format_and_whole() {
        let bytes = header(Content::Journal, 7);
        assert_eq!(read_header(Content::Journal, &bytes), Ok(7));
        assert_eq!(read_header(Content::Checkpoint, &bytes), Err(BadHeader::Damaged));
        assert_eq!(read_header(Content::Journal, &bytes[..23]), Err(BadHeader::Damaged));
        let mut newer = bytes[..20].to_vec();
        newer[8] = 2;
        newer.extend_from_slice(&crc32fast::hash(&newer).to_le_bytes());
        assert_eq!(read_header(Content::Journal, &newer), Err(BadHeader::Newer));
    }
}
