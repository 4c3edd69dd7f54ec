//! What a ranking may know of a request, and its form as the key of a load balancer.
//!
//! A `BackendSelection` is given bytes and nothing else, so everything travels in them, time and randomness included. What
//! comes out of [`Request::decode`] is what went into [`Request::encode`].

use jiff::Timestamp;

use super::Moment;
use crate::api::strategy::StrategyName;

/// One request, at the moment of one of its attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// How candidates are ranked.
    pub strategy: StrategyName,
    /// Now.
    pub now: Moment,
    /// The same on the wall clock, to the millisecond: prices change by date.
    pub date: Timestamp,
    /// Randomness of this attempt: ties, weights and exploration are drawn from it.
    pub seed: u64,
    /// Prompt tokens, estimated from the body's bytes.
    pub prompt_tokens: u64,
    /// Whether the answer comes as a stream, whose first token can be waited for.
    pub stream: bool,
    /// The client's limit of completion tokens.
    pub max_output: Option<u64>,
    /// The virtual key, by [`hash`](super::hash): its answers have a usual length.
    pub key: u64,
    /// The beginning of the prompt, by [`prefix`](super::stats::prefix).
    pub prefix: Option<u64>,
    /// Milliseconds until the deadline.
    pub left_ms: Option<u64>,
    /// Slots that this request has tried.
    pub tried: Vec<u32>,
}

/// Fields that are numbers, in the order of the key.
const NUMBERS: usize = 8;
/// The bit that says whether it is a stream; the ones below say which options are there.
const STREAM: u8 = 3;

impl Request {
    /// As bytes: the strategy, which options are there, the numbers, and the tried slots.
    pub fn encode(&self) -> Vec<u8> {
        let strategy = StrategyName::ALL.iter().position(|known| *known == self.strategy).unwrap_or_default();
        let present = [self.max_output, self.prefix, self.left_ms];
        let options = (0..).zip(present).fold(0, |flags, (bit, option)| flags | (u8::from(option.is_some()) << bit));
        let flags = options | (u8::from(self.stream) << STREAM);
        let numbers: [u64; NUMBERS] = [
            self.now.0,
            u64::try_from(self.date.as_millisecond()).unwrap_or_default(),
            self.seed,
            self.prompt_tokens,
            self.key,
            self.max_output.unwrap_or_default(),
            self.prefix.unwrap_or_default(),
            self.left_ms.unwrap_or_default(),
        ];
        let mut key = Vec::with_capacity(2 + 8 * NUMBERS + 4 * self.tried.len());
        key.extend([u8::try_from(strategy).unwrap_or_default(), flags]);
        numbers.iter().for_each(|number| key.extend(number.to_le_bytes()));
        self.tried.iter().for_each(|slot| key.extend(slot.to_le_bytes()));
        key
    }

    /// From such bytes; what is missing is as in the default.
    pub fn decode(key: &[u8]) -> Self {
        let strategy = key.first().and_then(|place| StrategyName::ALL.get(usize::from(*place)).copied());
        let flags = key.get(1).copied().unwrap_or_default();
        let rest = key.get(2..).unwrap_or_default();
        let (numbers, tried) = rest.split_at_checked(8 * NUMBERS).unwrap_or_default();
        let mut words = numbers.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mut next = || words.next().unwrap_or_default();
        let (now, date, seed, prompt_tokens, key) = (Moment(next()), next(), next(), next(), next());
        let date = i64::try_from(date).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let mut option = |bit: u8| Some(next()).filter(|_| flags & (1 << bit) != 0);
        Self {
            strategy: strategy.unwrap_or_default(),
            now,
            date: date.unwrap_or_default(),
            seed,
            prompt_tokens,
            key,
            stream: flags & (1 << STREAM) != 0,
            max_output: option(0),
            prefix: option(1),
            left_ms: option(2),
            tried: tried.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_carries_the_whole_request(
            place in 0..StrategyName::ALL.len(),
            numbers: [u64; 4],
            ms in 0..100_000_000_000_000_i64,
            options: [Option<u64>; 3],
            stream: bool,
            tried in prop::collection::vec(any::<u32>(), 0..5),
        ) {
            let [now, seed, prompt_tokens, key] = numbers;
            let [max_output, prefix, left_ms] = options;
            let (now, strategy) = (Moment(now), StrategyName::ALL[place]);
            let date = Timestamp::from_millisecond(ms).unwrap();
            let request =
                Request { strategy, now, date, seed, prompt_tokens, stream, max_output, key, prefix, left_ms, tried };
            prop_assert_eq!(Request::decode(&request.encode()), request);
        }

        #[test]
        fn any_bytes_are_some_request(key: Vec<u8>) {
            drop(Request::decode(&key));
        }
    }
}
