//! A walk through the frames of a segment, commit by commit, and the verdict on its end.
//!
//! Invariant: only whole commits are shown; a commit that no other follows was never promised, so its remains are `Torn` and
//! not `Damaged`.

use super::frame::{self, FILE_HEADER, Frame};
use super::next_after;
use crate::error::Result;

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// With its last commit.
    Clean,
    /// With a commit that was never finished.
    Torn,
    /// What was promised can't be read here.
    Damaged,
}

/// What a walk came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walked {
    /// Where the last whole commit ends.
    pub(super) end: usize,
    /// The sequence number that comes next.
    pub(super) next: u64,
    pub(super) tail: Tail,
}

/// Shows a frame and where it begins.
pub(super) type Visit<'v> = &'v mut dyn FnMut(&Frame<'_>, usize) -> Result<()>;

/// Walks a segment, given as a whole, from its header to its first flaw. `next` is the number that its first frame has.
pub(super) fn walk(bytes: &[u8], next: u64, visit: Visit<'_>) -> Result<Walked> {
    walk_from(bytes, FILE_HEADER, next, visit)
}

/// Walks from this place on, where a commit begins.
pub(super) fn walk_from(bytes: &[u8], start: usize, next: u64, visit: Visit<'_>) -> Result<Walked> {
    let mut walked = Walked { end: start.min(bytes.len()), next, tail: Tail::Clean };
    while let Some(end) = commit(bytes, &mut walked, visit)? {
        walked.end = end;
    }
    if walked.end < bytes.len() {
        walked.tail = verdict(bytes, &walked);
    }
    Ok(walked)
}

/// Shows the frames of the commit that begins where the walk is, if all of them are there; says where it ends.
fn commit(bytes: &[u8], walked: &mut Walked, visit: Visit<'_>) -> Result<Option<usize>> {
    let mut frames = Vec::new();
    let (mut at, mut next) = (walked.end, walked.next);
    loop {
        let Some(found) = bytes.get(at..).and_then(frame::read) else { return Ok(None) };
        let belongs = found.sequence == next && usize::from(found.place) == frames.len();
        if !belongs {
            return Ok(None);
        }
        frames.push((found, at));
        at += found.length();
        next = next_after(&found);
        if found.is_last() {
            break;
        }
    }
    for (found, at) in &frames {
        visit(found, *at)?;
    }
    walked.next = next;
    Ok(Some(at))
}

fn verdict(bytes: &[u8], walked: &Walked) -> Tail {
    let mut at = walked.end;
    while let Some(place) = frame::find(bytes, at) {
        let Some(found) = bytes.get(place..).and_then(frame::read) else { break };
        if found.commit() != walked.next {
            return Tail::Damaged;
        }
        at = place + found.length();
    }
    Tail::Torn
}

/// Every frame that can be read, whatever lies between them, with the commits' remains.
pub(super) fn salvage(bytes: &[u8], visit: Visit<'_>) -> Result<()> {
    let mut at = FILE_HEADER;
    while let Some(place) = frame::find(bytes, at) {
        let Some(found) = bytes.get(place..).and_then(frame::read) else { break };
        visit(&found, place)?;
        at = place + found.length();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Content, header};
    use super::*;
    use proptest::prelude::*;

    /// A segment of commits of these sizes, and where each commit ends.
    fn segment(commits: &[u16]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = header(Content::Journal, 1);
        let (mut sequence, mut ends) = (1, vec![bytes.len()]);
        for of in commits {
            for place in 0..*of {
                let payload = vec![b'x'; 1 + sequence as usize % 7];
                Frame { sequence, place, of: *of, payload: &payload }.put(&mut bytes);
                sequence += 1;
            }
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn walked(bytes: &[u8]) -> (Walked, Vec<u64>) {
        let mut seen = Vec::new();
        let walked = walk(bytes, 1, &mut |frame, _| {
            seen.push(frame.sequence);
            Ok(())
        });
        (walked.unwrap(), seen)
    }

    proptest! {
        #[test]
        fn a_segment_that_was_cut_gives_its_whole_commits(sizes in prop::collection::vec(1_u16..5, 1..6), at: prop::sample::Index) {
            let (bytes, ends) = segment(&sizes);
            let at = FILE_HEADER + at.index(bytes.len() - FILE_HEADER + 1);
            let (found, seen) = walked(&bytes[..at]);
            let whole = ends.iter().filter(|end| **end <= at).count() - 1;
            prop_assert_eq!(found.end, ends[whole]);
            prop_assert_eq!(seen.len() as u64, sizes[..whole].iter().map(|size| u64::from(*size)).sum::<u64>());
            prop_assert_eq!(found.tail, if at == ends[whole] { Tail::Clean } else { Tail::Torn });
        }

        /// The pages of a commit may reach the disk in any order.
        #[test]
        fn what_is_broken_in_the_last_commit_is_torn_and_what_is_broken_before_is_damage(
            sizes in prop::collection::vec(1_u16..5, 1..6), at: prop::sample::Index, garbage: u8,
        ) {
            let (mut bytes, ends) = segment(&sizes);
            let at = FILE_HEADER + at.index(bytes.len() - FILE_HEADER);
            prop_assume!(bytes[at] != garbage);
            bytes[at] = garbage;
            let (found, _) = walked(&bytes);
            let last = ends[ends.len() - 2];
            prop_assert_eq!(found.tail, if at >= last { Tail::Torn } else { Tail::Damaged });
            prop_assert_eq!(found.end, *ends.iter().rfind(|end| **end <= at).unwrap());
        }
    }

    #[test]
    fn what_was_promised_and_lies_behind_damage_can_be_salvaged() {
        let (mut bytes, ends) = segment(&[1, 2, 1]);
        bytes[ends[1] + 5] ^= 1;
        let mut seen = Vec::new();
        salvage(&bytes, &mut |frame, _| {
            seen.push(frame.sequence);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [1, 3, 4]);
    }
}
