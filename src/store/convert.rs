//! Carries a store over from the second layout, in which sled held the sums too, row by row, and never gave space back.
//!
//! Its sums become one run (`sums`), its tenants new rows; the old rows are kept beside. Not here: the first layout (`carry`).
//!
//! Invariant: nothing of the old rows is changed, and until they have another name a start begins again.

use std::ops::ControlFlow;
use std::path::Path;

use serde::Deserialize;

use super::disk::Disk;
use super::journal::checkpoint;
use super::pruned::{PRUNED, Pruned};
use super::rows::{Change, Rows, read, write};
use super::sled::{JOURNAL, SUMS, SledRows, disk, unreachable};
use super::sums::{Stretch, Writing, pack};
use super::tenants::{self, Tenants};
use super::{Histogram, Rollup, keys, rebuild};
use crate::error::Result;
use crate::money::Money;
use crate::usage::Usage;

/// The kinds of sums in the order of their keys.
const SUM_KINDS: [u8; 6] = [b'd', b'h', b'm', b'o', b'p', b'v'];

/// Carries over what is in this directory; these are its rows.
///
/// Errors: it can't be read or written; then the old files are as they were.
pub(super) fn over(dir: &Path, old: SledRows) -> Result<()> {
    tracing::info!("the store is of an older layout; it is carried over");
    if dir.join(SUMS).is_dir() {
        // A carrying over that was cut short left it.
        std::fs::remove_dir_all(dir.join(SUMS)).map_err(|error| unreachable(dir, &error))?;
    }
    rebuild::begin(dir)?;
    let through = tenants::through(&old)?;
    let sums = disk(dir, rebuild::UNFINISHED_SUMS)?;
    let is_torn = write_sums(&old, &Stretch { first: 1, last: through }, &*sums)?;
    if is_torn {
        // Some sums have more in them than the rows promise; the journal knows what.
        drop(old);
        return rebuild::make(dir).map(|_| ());
    }
    let rows = SledRows::open(&dir.join(rebuild::UNFINISHED_STATE))?;
    let mut changes: Vec<Change> = Vec::new();
    for kind in keys::TENANTS {
        old.scan(keys::all(vec![kind]), &mut |key, value| {
            changes.push((key.to_vec(), Some(value.to_vec())));
            Ok(ControlFlow::Continue(()))
        })?;
    }
    changes.push((PRUNED.to_vec(), Some(write(&pruned(dir, &old)?)?)));
    rows.apply(changes)?;
    Tenants::open_at(rows, through)?.flush()?;
    drop(old);
    rebuild::put_in_place(dir)?;
    tracing::info!("it was carried over; what it was is in `state-before-…` beside it, and may be deleted");
    Ok(())
}

/// What was removed. Of a store with a checkpoint it is not known which records went with the segments.
fn pruned(dir: &Path, old: &dyn Rows) -> Result<Pruned> {
    let mut pruned = Pruned::of(old)?;
    if checkpoint::newest(&*disk(dir, JOURNAL)?)?.is_some() {
        pruned.removed = i64::MAX;
    }
    Ok(pruned)
}

/// Writes the sums among these rows. Says whether some have more in them than they should.
fn write_sums(old: &dyn Rows, of: &Stretch, sums: &dyn Disk) -> Result<bool> {
    if of.last == 0 {
        return Ok(false);
    }
    let mut writing = Writing::begin(sums, *of)?;
    let mut is_torn = false;
    for kind in SUM_KINDS {
        old.scan(keys::all(vec![kind]), &mut |key, value| {
            let (through, sum) = take_apart(value)?;
            is_torn |= through > of.last;
            writing.add(key, &sum)?;
            Ok(ControlFlow::Continue(()))
        })?;
    }
    writing.finish()?;
    Ok(is_torn)
}

/// A sum as the second layout has it, as JSON, with the number of the last entry in it.
#[derive(Deserialize)]
struct Packed(u64, [u64; 4], [u64; 7], Money, (u64, u64, Vec<(u16, u64)>), #[serde(default)] More);

/// What was added to it later.
#[derive(Default, Deserialize)]
struct More([u64; 5], u64, Money);

/// The number of the last entry in a sum, and the sum as it is written now.
fn take_apart(value: &[u8]) -> Result<(u64, Vec<u8>)> {
    let Packed(through, counts, tokens, cost, latency, more) = read(value)?;
    let [attempts, errors, unpriced, estimated] = counts;
    let [input, cached_read, cache_write, output, reasoning, audio_input, audio_output] = tokens;
    let More(kinds, unpriced_tokens, estimated_cost) = more;
    let [cache_write_1h, cached_audio, image_input, image_output, web_searches] = kinds;
    let (count, sum_ms, buckets) = latency;
    let sums = Rollup {
        attempts,
        errors,
        unpriced,
        estimated,
        usage: Usage {
            input,
            cached_read,
            cache_write,
            output,
            reasoning,
            audio_input,
            audio_output,
            cache_write_1h,
            cached_audio,
            image_input,
            image_output,
            web_searches,
        },
        cost,
        unpriced_tokens,
        estimated_cost,
        latency: Histogram { count, sum_ms, buckets: buckets.into_iter().collect() },
    };
    Ok((through, pack(&sums)))
}

/// Writes the sums of a checkpoint of the second layout as the run of these entries; says whether it has any.
pub(super) fn from_checkpoint(journal: &dyn Disk, through: u64, sums: &dyn Disk) -> Result<bool> {
    let mut writing = Writing::begin(sums, Stretch { first: 1, last: through })?;
    let mut any = false;
    // Its kinds are in another order than a run's.
    for kind in SUM_KINDS {
        checkpoint::load(journal, through, &mut |key, value| {
            if key.first() == Some(&kind) {
                any = true;
                writing.add(key, &take_apart(value)?.1)?;
            }
            Ok(())
        })?;
    }
    if any {
        writing.finish()?;
    }
    Ok(any)
}
