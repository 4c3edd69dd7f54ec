//! A sum as it is written: a short array without names, because there is one for every minute of every key, provider and model.
//! What is added comes last and has a default.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::money::Money;
use crate::store::told;
use crate::store::{Histogram, Rollup};
use crate::usage::Usage;

#[derive(Serialize, Deserialize)]
struct Packed([u64; 4], [u64; 7], Money, (u64, u64, Vec<(u16, u64)>), #[serde(default)] More);

/// What was added: the kinds of tokens, those without a price, and the estimated part of the cost.
#[derive(Default, Serialize, Deserialize)]
struct More([u64; 5], u64, Money);

/// The bytes of a sum.
pub(super) fn pack(sums: &Rollup) -> Result<Vec<u8>> {
    // Taken apart field by field, so that a field which is added can't be forgotten here.
    let Rollup { attempts, errors, usage, cost, unpriced, estimated, latency, unpriced_tokens, estimated_cost } = sums;
    let Usage {
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
    } = *usage;
    let Histogram { count, sum_ms, buckets } = latency;
    let counts = [*attempts, *errors, *unpriced, *estimated];
    let tokens = [input, cached_read, cache_write, output, reasoning, audio_input, audio_output];
    let latency = (*count, *sum_ms, buckets.iter().map(|(bucket, count)| (*bucket, *count)).collect());
    let kinds = [cache_write_1h, cached_audio, image_input, image_output, web_searches];
    let packed = Packed(counts, tokens, *cost, latency, More(kinds, *unpriced_tokens, *estimated_cost));
    serde_json::to_vec(&packed).map_err(Error::internal)
}

/// The sum that these bytes are.
pub(in crate::store) fn unpack(bytes: &[u8]) -> Result<Rollup> {
    let Packed(counts, tokens, cost, latency, more) = serde_json::from_slice(bytes)
        .map_err(|error| told(format!("a sum can't be read: {error}; run `perpetuo store verify`")))?;
    let [attempts, errors, unpriced, estimated] = counts;
    let [input, cached_read, cache_write, output, reasoning, audio_input, audio_output] = tokens;
    let More(kinds, unpriced_tokens, estimated_cost) = more;
    let [cache_write_1h, cached_audio, image_input, image_output, web_searches] = kinds;
    let usage = Usage {
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
    };
    let (count, sum_ms, buckets) = latency;
    let latency = Histogram { count, sum_ms, buckets: buckets.into_iter().collect() };
    Ok(Rollup { attempts, errors, usage, cost, unpriced, estimated, latency, unpriced_tokens, estimated_cost })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_of_an_older_version_can_be_read_and_a_new_one_comes_back_whole() {
        let mut sums = unpack(b"[[1,0,0,0],[1,2,3,4,5,6,7],8,[1,10,[[3,1]]]]").unwrap();
        assert_eq!((sums.attempts, sums.usage.audio_output, sums.estimated_cost), (1, 7, Money::ZERO));
        sums.usage = Usage {
            cache_write_1h: 1,
            cached_audio: 2,
            image_input: 3,
            image_output: 4,
            web_searches: 5,
            ..sums.usage
        };
        let sums = Rollup { unpriced_tokens: 6, estimated_cost: Money(7), ..sums };
        assert_eq!(unpack(&pack(&sums).unwrap()).unwrap(), sums);
        assert!(unpack(b"[1]").is_err());
    }
}
