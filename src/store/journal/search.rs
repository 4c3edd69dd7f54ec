//! One page of the log out of the indexes of all segments: newest first, with how many records match in all.
//!
//! Times of segments overlap, because a long request is booked late. So time is cut where a segment begins or ends, and between
//! two cuts the segments that have records there are merged. What lies before the page is counted and not walked.
//!
//! Not here: the records themselves. Invariant: what a block's groups tell is never counted mark by mark, save for overlaps.

use std::ops::Range;
use std::sync::Arc;

use super::index::{Block, Mark};
use crate::error::Result;
use crate::store::disk::DiskFile;

/// Marks that are read at once.
const CHUNK: usize = 4096;

/// Which records are wanted; times in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store) struct Wanted<'q> {
    pub(in crate::store) provider: Option<&'q str>,
    pub(in crate::store) status: Option<u16>,
    /// The first moment.
    pub(in crate::store) from: Option<i64>,
    /// The moment after the last.
    pub(in crate::store) until: Option<i64>,
    /// Matches to skip, newest first.
    pub(in crate::store) skip: u64,
    /// Matches to give.
    pub(in crate::store) rows: u64,
}

impl Wanted<'_> {
    /// Whether a segment with records of this time can have what is wanted.
    pub(super) fn overlaps(&self, (oldest, newest): (i64, i64)) -> bool {
        self.from.is_none_or(|from| newest >= from) && self.until.is_none_or(|until| oldest < until)
    }
}

/// A workspace's records in one segment, and the segment.
pub(super) struct Part {
    pub(super) block: Block,
    /// The segment's number of the wanted provider; none where any will do.
    pub(super) provider: Option<u16>,
    pub(super) file: Arc<dyn DiskFile>,
}

/// Where a page's records are: their files, and where their frames begin.
pub(in crate::store) struct Found {
    pub(super) places: Vec<(Arc<dyn DiskFile>, u32)>,
    pub(in crate::store) total: u64,
}

/// Searches segments, the oldest first.
pub(super) fn search(parts: &[Part], wanted: &Wanted<'_>) -> Result<Found> {
    let mut slices = Vec::new();
    for part in parts {
        slices.extend(Slice::new(part, wanted)?);
    }
    let mut cuts: Vec<i64> = slices.iter().flat_map(|slice| [slice.oldest, slice.newest.saturating_add(1)]).collect();
    cuts.sort_unstable_by(|one, other| other.cmp(one));
    cuts.dedup();
    for slice in &mut slices {
        slice.cut(&cuts)?;
    }
    let mut found = Found { places: Vec::new(), total: 0 };
    let mut skip = wanted.skip;
    for interval in 0..cuts.len().saturating_sub(1) {
        let here: u64 = slices.iter().filter_map(|slice| slice.counts.get(interval)).sum();
        found.total += here;
        let missing = usize::try_from(wanted.rows).unwrap_or(usize::MAX).saturating_sub(found.places.len());
        if skip >= here || missing == 0 {
            skip = skip.saturating_sub(here);
            continue;
        }
        Merge::new(&slices, interval).collect(skip, missing, &mut found.places)?;
        skip = 0;
    }
    Ok(found)
}

/// Where the wanted records of a part are, in the order in which they were written.
pub(super) fn places(part: &Part, wanted: &Wanted<'_>) -> Result<Vec<u32>> {
    let Some(slice) = Slice::new(part, wanted)? else { return Ok(Vec::new()) };
    let marks = part.block.read(slice.range.clone())?;
    let taken = marks.iter().filter(|mark| slice.takes(mark.provider, mark.status));
    let mut places: Vec<u32> = taken.map(|mark| mark.offset).collect();
    places.sort_unstable();
    Ok(places)
}

/// The records of a part that lie in the wanted time.
struct Slice<'p> {
    part: &'p Part,
    status: Option<u16>,
    range: Range<usize>,
    oldest: i64,
    newest: i64,
    /// The part of each interval, the newest first.
    ranges: Vec<Range<usize>>,
    /// How many of them match.
    counts: Vec<u64>,
}

impl<'p> Slice<'p> {
    fn new(part: &'p Part, wanted: &Wanted<'_>) -> Result<Option<Self>> {
        let block = &part.block;
        let start = wanted.from.map_or(Ok(0), |from| block.before(from))?;
        let end = wanted.until.map_or(Ok(block.count), |until| block.before(until))?;
        if start >= end {
            return Ok(None);
        }
        let at = |place: usize| -> Result<i64> {
            Ok(block.read(place..place + 1)?.first().map_or(block.oldest, |mark| mark.at))
        };
        let oldest = if start == 0 { block.oldest } else { at(start)? };
        let newest = if end == block.count { block.newest } else { at(end - 1)? };
        let (range, ranges, counts) = (start..end, Vec::new(), Vec::new());
        Ok(Some(Self { part, status: wanted.status, range, oldest, newest, ranges, counts }))
    }

    /// Finds its parts between the cuts, and counts them.
    fn cut(&mut self, cuts: &[i64]) -> Result<()> {
        let mut end = self.range.end;
        for cut in cuts.iter().skip(1) {
            let start = if *cut <= self.oldest {
                self.range.start
            } else if *cut > self.newest {
                self.range.end
            } else {
                self.part.block.before(*cut)?
            };
            self.ranges.push(start..end);
            end = start;
        }
        self.count()
    }

    /// Counts all parts but the largest, which has the rest.
    fn count(&mut self) -> Result<()> {
        let largest = (0..self.ranges.len()).max_by_key(|at| self.ranges.get(*at).map_or(0, Range::len));
        let mut rest = self.count_all()?;
        for (at, range) in self.ranges.iter().enumerate() {
            let counted = if Some(at) == largest { 0 } else { self.count_range(range.clone())? };
            rest = rest.saturating_sub(counted);
            self.counts.push(counted);
        }
        if let Some(count) = largest.and_then(|at| self.counts.get_mut(at)) {
            *count = rest;
        }
        Ok(())
    }

    fn count_all(&self) -> Result<u64> {
        let block = &self.part.block;
        let outside = (0..self.range.start, self.range.end..block.count);
        if outside.0.len() + outside.1.len() > self.range.len() {
            return self.count_range(self.range.clone());
        }
        let groups = block.groups.iter().filter(|group| self.takes(group.provider, group.status));
        let all: u64 = groups.map(|group| group.count).sum();
        Ok(all.saturating_sub(self.count_range(outside.0)? + self.count_range(outside.1)?))
    }

    fn count_range(&self, range: Range<usize>) -> Result<u64> {
        if self.takes_all() {
            return Ok(range.len() as u64);
        }
        let mut count = 0;
        for start in range.clone().step_by(CHUNK) {
            let marks = self.part.block.read(start..range.end.min(start + CHUNK))?;
            count += marks.iter().filter(|mark| self.takes(mark.provider, mark.status)).count();
        }
        Ok(count as u64)
    }

    const fn takes_all(&self) -> bool {
        self.part.provider.is_none() && self.status.is_none()
    }

    fn takes(&self, provider: u16, status: u16) -> bool {
        self.part.provider.is_none_or(|wanted| wanted == provider) && self.status.is_none_or(|wanted| wanted == status)
    }
}

/// Walks the parts of an interval together, the newest first.
struct Merge<'s> {
    walks: Vec<Walk<'s>>,
}

/// One part, from its end.
struct Walk<'s> {
    slice: &'s Slice<'s>,
    rest: Range<usize>,
    /// Marks that were read, the next one last.
    read: Vec<Mark>,
}

impl<'s> Merge<'s> {
    fn new(slices: &'s [Slice<'s>], interval: usize) -> Self {
        let walk = |slice: &'s Slice<'s>| {
            let rest = slice.ranges.get(interval)?.clone();
            let any = slice.counts.get(interval).is_some_and(|count| *count > 0);
            any.then_some(Walk { slice, rest, read: Vec::new() })
        };
        Self { walks: slices.iter().filter_map(walk).collect() }
    }

    fn collect(mut self, mut skip: u64, rows: usize, places: &mut Vec<(Arc<dyn DiskFile>, u32)>) -> Result<()> {
        if let [only] = self.walks.as_mut_slice() {
            skip = only.skip(skip);
        }
        let end = places.len().saturating_add(rows);
        while places.len() < end {
            let Some((file, mark)) = self.next()? else { break };
            if skip > 0 {
                skip -= 1;
            } else {
                places.push((Arc::clone(file), mark.offset));
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(&'s Arc<dyn DiskFile>, Mark)>> {
        let mut newest: Option<(usize, i64)> = None;
        for (at, walk) in self.walks.iter_mut().enumerate() {
            // Of one moment, the later segment has the later bookings.
            if let Some(mark) = walk.peek()?
                && newest.is_none_or(|(_, time)| mark.at >= time)
            {
                newest = Some((at, mark.at));
            }
        }
        let walk = newest.and_then(|(at, _)| self.walks.get_mut(at));
        Ok(walk.and_then(|walk| Some((&walk.slice.part.file, walk.read.pop()?))))
    }
}

impl Walk<'_> {
    /// Skips matches without looking at them where all match; says how many are left to skip.
    fn skip(&mut self, matches: u64) -> u64 {
        if !self.slice.takes_all() {
            return matches;
        }
        let skipped = usize::try_from(matches).unwrap_or(usize::MAX).min(self.rest.len());
        self.rest.end -= skipped;
        matches - skipped as u64
    }

    fn peek(&mut self) -> Result<Option<Mark>> {
        while self.read.is_empty() && !self.rest.is_empty() {
            let start = self.rest.start.max(self.rest.end.saturating_sub(CHUNK));
            let marks = self.slice.part.block.read(start..self.rest.end)?;
            self.read = marks.into_iter().filter(|mark| self.slice.takes(mark.provider, mark.status)).collect();
            self.rest.end = start;
        }
        Ok(self.read.last().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::super::index::{Brief, Index};
    use super::*;
    use crate::store::disk::{Disk, MemoryDisk};
    use proptest::prelude::*;

    const PROVIDERS: [&str; 2] = ["one", "two"];

    /// A record: time, provider, status; its offset is its number among all.
    type Row = (i64, usize, u16);

    fn parts(segments: &[Vec<Row>], provider: Option<&str>) -> Vec<Part> {
        let mut number = 0;
        let mut parts = Vec::new();
        for rows in segments {
            let mut index = Index::default();
            for (at, provider, status) in rows {
                let brief = Brief { workspace: "ws", at: *at, provider: Some(PROVIDERS[*provider]), status: *status };
                index.add(brief, number);
                number += 1;
            }
            let known = provider.map(|name| index.names().find(name));
            if let (Some(block), false) = (index.block("ws"), known == Some(None)) {
                parts.push(Part { block, provider: known.flatten(), file: MemoryDisk::default().create("f").unwrap() });
            }
        }
        parts
    }

    proptest! {
        /// The same as sorting everything and cutting the page out.
        #[test]
        fn a_page_is_what_a_walk_over_everything_would_find(
            segments in prop::collection::vec(prop::collection::vec((0_i64..40, 0_usize..2, 200_u16..202), 0..30), 0..5),
            provider in prop::option::of(0_usize..3), status in prop::option::of(200_u16..203),
            from in prop::option::of(0_i64..40), until in prop::option::of(0_i64..41), skip in 0_u64..60, rows in 1_u64..20,
        ) {
            let provider = provider.map(|at| PROVIDERS.get(at).copied().unwrap_or("none"));
            let wanted = Wanted { provider, status, from, until, skip, rows };
            let found = search(&parts(&segments, provider), &wanted).unwrap();
            let mut all: Vec<(i64, u32)> = segments.iter().flatten().zip(0..).filter(|((at, of, code), _)| {
                provider.is_none_or(|name| name == PROVIDERS[*of]) && status.is_none_or(|status| status == *code)
                    && from.is_none_or(|from| *at >= from) && until.is_none_or(|until| *at < until)
            }).map(|((at, _, _), number)| (*at, number)).collect();
            all.sort_unstable_by(|one, other| other.cmp(one));
            prop_assert_eq!(found.total, all.len() as u64);
            let page: Vec<u32> = all.iter().skip(skip as usize).take(rows as usize).map(|row| row.1).collect();
            prop_assert_eq!(found.places.iter().map(|place| place.1).collect::<Vec<_>>(), page);
        }
    }
}
