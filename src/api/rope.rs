//! A body in pieces that follow each other, so that what stays of a large one need not be copied where a little of it changes.
//!
//! Not here: what changes (`scan`). Invariant: no piece is empty; of a small body there is one piece at most.

use std::fmt;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// Bytes from which on a part of a body is a piece of its own; it costs less to copy fewer.
const LARGE: usize = 16 * 1024;

/// A body.
#[derive(Clone, Default)]
pub struct Rope {
    /// Empty only where all is.
    first: Bytes,
    rest: Vec<Bytes>,
}

impl Rope {
    fn of(pieces: Vec<Bytes>) -> Self {
        let mut pieces = pieces.into_iter();
        Self { first: pieces.next().unwrap_or_default(), rest: pieces.collect() }
    }

    /// The pieces, in their order.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        Some(&self.first).filter(|first| !first.is_empty()).into_iter().chain(&self.rest)
    }

    /// How many bytes all of them have.
    pub fn len(&self) -> usize {
        self.pieces().map(Bytes::len).sum()
    }

    /// Whether there is nothing.
    pub const fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// All of it; the same buffer where there is one piece.
    pub fn whole(&self) -> Bytes {
        if self.rest.is_empty() {
            return self.first.clone();
        }
        let mut whole = BytesMut::with_capacity(self.len());
        self.pieces().for_each(|piece| whole.extend_from_slice(piece));
        whole.freeze()
    }
}

impl<T: Into<Bytes>> From<T> for Rope {
    fn from(whole: T) -> Self {
        Self { first: whole.into(), rest: Vec::new() }
    }
}

impl fmt::Debug for Rope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rope").field("pieces", &self.pieces().count()).field("len", &self.len()).finish()
    }
}

/// Puts a body together out of parts of another one and of new text.
pub(super) struct Assembly<'s> {
    source: &'s Bytes,
    done: Vec<Bytes>,
    /// What comes next, as far as it is copied.
    copied: Vec<u8>,
    /// The part of the source behind it.
    kept: Range<usize>,
}

impl<'s> Assembly<'s> {
    /// Of parts of this body.
    pub(super) fn new(source: &'s Bytes) -> Self {
        Self { source, done: Vec::new(), copied: Vec::with_capacity(source.len().min(LARGE) + 128), kept: 0..0 }
    }

    /// Keeps a part of the source.
    pub(super) fn keep(&mut self, part: Range<usize>) {
        if part.start != self.kept.end {
            self.close();
            self.kept = part;
        } else {
            self.kept.end = part.end;
        }
    }

    /// Puts a text.
    pub(super) fn put(&mut self, text: &[u8]) {
        self.close();
        self.copied.extend_from_slice(text);
    }

    pub(super) fn finish(mut self) -> Rope {
        self.close();
        self.done.extend(Some(Bytes::from(self.copied)).filter(|rest| !rest.is_empty()));
        Rope::of(self.done)
    }

    /// Settles what becomes of the part that was kept last.
    fn close(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        let Some(part) = self.source.get(kept.clone()) else { return };
        if part.len() < LARGE {
            self.copied.extend_from_slice(part);
            return;
        }
        let before = Bytes::from(std::mem::take(&mut self.copied));
        self.done.extend(Some(before).filter(|before| !before.is_empty()));
        self.done.push(self.source.slice(kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<T: AsRef<[u8]>> PartialEq<T> for Rope {
        fn eq(&self, other: &T) -> bool {
            self.whole() == other.as_ref()
        }
    }

    #[test]
    fn a_large_part_that_stays_is_not_copied_and_small_ones_are_one_piece() {
        let source = Bytes::from(vec![b'x'; 3 * LARGE]);
        let mut assembly = Assembly::new(&source);
        assembly.put(b"{");
        assembly.keep(1..10);
        assembly.put(b"new");
        assembly.keep(20..LARGE);
        assembly.keep(LARGE..2 * LARGE);
        assembly.put(b"}");
        let made = assembly.finish();
        assert_eq!(made.pieces().map(Bytes::len).collect::<Vec<_>>(), [1 + 9 + 3, 2 * LARGE - 20, 1]);
        assert_eq!(made.pieces().nth(1).unwrap().as_ptr(), source[20..].as_ptr());
        assert_eq!(made, ["{xxxxxxxxxnew".to_owned(), "x".repeat(2 * LARGE - 20), "}".to_owned()].concat());
        assert_eq!((made.len(), made.is_empty(), Rope::from(Bytes::new()).is_empty()), (2 * LARGE - 6, false, true));
    }
}
