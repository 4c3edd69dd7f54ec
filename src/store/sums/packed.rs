//! A sum as it is written: numbers of as many bytes as they need, because there is a sum for every minute of every key, provider
//! and model.
//!
//! ```text
//! how many plain numbers | each of them | latencies: how many, their sum, how many buckets | bucket, how many | …
//! ```
//!
//! A number that is added comes last among the plain ones; where it is missing it is 0.

use crate::error::Result;
use crate::money::Money;
use crate::store::told;
use crate::store::{Histogram, Rollup};
use crate::usage::Usage;

/// How many plain numbers there are.
const PLAIN: usize = 19;

/// The bytes of a sum.
pub(in crate::store) fn pack(sums: &Rollup) -> Vec<u8> {
    // Taken apart field by field, so that a field which is added can't be forgotten here.
    let Rollup { attempts, errors, usage, cost, unpriced, estimated, latency, unpriced_tokens, estimated_cost } = sums;
    let [tokens @ .., cache_write_1h, cached_audio, image_input, image_output, web_searches] = usage.counts();
    let Histogram { count, sum_ms, buckets } = latency;
    let counts = [*attempts, *errors, *unpriced, *estimated];
    let tokens: [u64; 7] = tokens;
    let more = [cache_write_1h, cached_audio, image_input, image_output, web_searches, *unpriced_tokens];
    let mut bytes = Vec::with_capacity(64);
    put(&mut bytes, PLAIN as u128);
    counts.into_iter().chain(tokens).for_each(|number| put(&mut bytes, number.into()));
    put(&mut bytes, cost.0);
    more.into_iter().for_each(|number| put(&mut bytes, number.into()));
    put(&mut bytes, estimated_cost.0);
    [*count, *sum_ms, buckets.len() as u64].into_iter().for_each(|number| put(&mut bytes, number.into()));
    for (bucket, count) in buckets {
        put(&mut bytes, u128::from(*bucket));
        put(&mut bytes, u128::from(*count));
    }
    bytes
}

/// The sum that these bytes are.
pub(in crate::store) fn unpack(bytes: &[u8]) -> Result<Rollup> {
    let mut rest = bytes;
    let sums = read(&mut rest).filter(|_| rest.is_empty());
    sums.ok_or_else(|| told("a sum can't be read; run `perpetuo store verify`"))
}

fn read(rest: &mut &[u8]) -> Option<Rollup> {
    let mut plain = [0_u128; PLAIN];
    let count = usize::try_from(take(rest)?).ok()?;
    for number in plain.get_mut(..count)? {
        *number = take(rest)?;
    }
    let count = small(rest)?;
    let sum_ms = small(rest)?;
    let buckets = small(rest)?;
    let buckets =
        (0..buckets).map(|_| Some((u16::try_from(take(rest)?).ok()?, small(rest)?))).collect::<Option<_>>()?;
    let number = |place: usize| plain.get(place).and_then(|number| u64::try_from(*number).ok());
    let money = |place: usize| plain.get(place).map(|number| Money(*number));
    let usage = Usage {
        input: number(4)?,
        cached_read: number(5)?,
        cache_write: number(6)?,
        output: number(7)?,
        reasoning: number(8)?,
        audio_input: number(9)?,
        audio_output: number(10)?,
        cache_write_1h: number(12)?,
        cached_audio: number(13)?,
        image_input: number(14)?,
        image_output: number(15)?,
        web_searches: number(16)?,
    };
    Some(Rollup {
        attempts: number(0)?,
        errors: number(1)?,
        unpriced: number(2)?,
        estimated: number(3)?,
        usage,
        cost: money(11)?,
        unpriced_tokens: number(17)?,
        estimated_cost: money(18)?,
        latency: Histogram { count, sum_ms, buckets },
    })
}

/// Seven bits in a byte, the lowest first; the eighth says that more follow.
fn put(bytes: &mut Vec<u8>, mut number: u128) {
    while number > 0x7F {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(rest: &mut &[u8]) -> Option<u128> {
    let mut number = 0;
    for shift in (0..128).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number |= u128::from(byte & 0x7F) << shift;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn small(rest: &mut &[u8]) -> Option<u64> {
    u64::try_from(take(rest)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_comes_back_whole_and_one_with_fewer_numbers_has_zeros_for_the_rest() {
        let usage = Usage {
            input: 1,
            cached_read: 2,
            cache_write: u64::MAX,
            output: 4,
            reasoning: 5,
            audio_input: 6,
            audio_output: 7,
            cache_write_1h: 8,
            cached_audio: 9,
            image_input: 10,
            image_output: 11,
            web_searches: 12,
        };
        let latency = Histogram { count: 3, sum_ms: 300, buckets: [(0, 1), (30, 127), (u16::MAX, 128)].into() };
        let cost = Money(u128::MAX);
        let sums =
            Rollup { attempts: 13, errors: 14, usage, cost, unpriced: 15, estimated: 16, latency, ..Rollup::default() };
        let sums = Rollup { unpriced_tokens: 17, estimated_cost: Money(18), ..sums };
        let bytes = pack(&sums);
        assert_eq!(unpack(&bytes).unwrap(), sums);
        assert!((0..bytes.len()).all(|end| unpack(&bytes[..end]).is_err()), "no part of it is one");
        let older = unpack(&[2, 13, 14, 0, 0, 0]).unwrap();
        assert_eq!(older, Rollup { attempts: 13, errors: 14, ..Rollup::default() });
    }
}
