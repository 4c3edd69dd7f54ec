//! A booking in few bytes and little work: its fields in a fixed order, numbers as varints (postcard's format), words of closed sets
//! as their number.
//!
//! Most of what a booking costs is its way into the journal, and names of fields make up most of its JSON. Not here: the head of an
//! entry, and the JSON that everything else is (`entry`).
//!
//! Invariants: what is read is what was written, to the nanosecond. Fields are only ever added behind the last one of a new form;
//! a word of a closed set keeps its number.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AttemptRecord, RequestRecord};
use crate::api::operation::Operation;
use crate::api::strategy::StrategyName;
use crate::error::{Error, Result};
use crate::money::Money;
use crate::store::told;
use crate::usage::{Certainty, CostSource, Usage};

const STRATEGIES: [StrategyName; 4] =
    [StrategyName::Default, StrategyName::Fastest, StrategyName::Cheapest, StrategyName::Reliable];
const OPERATIONS: [Operation; 2] = [Operation::Chat, Operation::Embeddings];
const CERTAINTIES: [Certainty; 3] = [Certainty::Exact, Certainty::Estimated, Certainty::Unpriced];
const SOURCES: [CostSource; 2] = [CostSource::Reported, CostSource::Catalogue];

#[derive(Serialize, Deserialize)]
struct Request<'a> {
    request_id: &'a str,
    workspace: &'a str,
    key: &'a str,
    model: &'a str,
    served: Served<'a>,
    strategy: u8,
    operation: u8,
    status: u16,
    error: Option<&'a str>,
    stream: bool,
    client_gone: bool,
    latency_ms: u64,
    first_token_ms: Option<u64>,
    /// Since 1970.
    seconds: i64,
    nanoseconds: i32,
    #[serde(borrow)]
    attempts: Vec<Attempt<'a>>,
}

/// Who answered.
#[derive(Serialize, Deserialize)]
enum Served<'a> {
    /// The last attempt's provider with its model.
    Last,
    /// This provider with this model.
    Other(Option<&'a str>, Option<&'a str>),
}

#[derive(Serialize, Deserialize)]
struct Attempt<'a> {
    number: u32,
    provider: &'a str,
    credential: &'a str,
    model: &'a str,
    status: u16,
    error: Option<&'a str>,
    /// One more kind changes the form, which then needs another number.
    usage: [u64; Usage::KINDS],
    /// Pico-dollars.
    cost: u128,
    certainty: u8,
    latency_ms: u64,
    first_token_ms: Option<u64>,
    reason: Option<&'a str>,
    #[serde(borrow)]
    passed_over: Vec<&'a str>,
    source: Option<u8>,
    why: Option<&'a str>,
    tier: Option<&'a str>,
    upstream_request_id: Option<&'a str>,
}

/// Appends a booking.
pub(super) fn write(record: &RequestRecord, out: Vec<u8>) -> Result<Vec<u8>> {
    let request = Request {
        request_id: &record.request_id,
        workspace: &record.workspace,
        key: &record.key,
        model: &record.model,
        served: served(record),
        strategy: number(&STRATEGIES, record.strategy),
        operation: number(&OPERATIONS, record.operation),
        status: record.status,
        error: record.error.as_deref(),
        stream: record.stream,
        client_gone: record.client_gone,
        latency_ms: record.latency_ms,
        first_token_ms: record.first_token_ms,
        seconds: record.created_at.as_second(),
        nanoseconds: record.created_at.subsec_nanosecond(),
        attempts: record.attempts.iter().map(attempt).collect(),
    };
    postcard::to_extend(&request, out).map_err(Error::internal)
}

/// Reads a booking.
pub(super) fn read(bytes: &[u8]) -> Result<RequestRecord> {
    let request: Request<'_> = postcard::from_bytes(bytes).map_err(|_| unreadable())?;
    let attempts: Vec<_> = request.attempts.iter().map(tried).collect::<Result<_>>()?;
    let (provider, model_served) = match request.served {
        Served::Other(provider, model) => (provider.map(str::to_owned), model.map(str::to_owned)),
        Served::Last => attempts.last().map(|last| (last.provider.clone(), last.model.clone())).unzip(),
    };
    Ok(RequestRecord {
        request_id: request.request_id.to_owned(),
        workspace: request.workspace.to_owned(),
        key: request.key.to_owned(),
        model: request.model.to_owned(),
        model_served,
        provider,
        strategy: word(&STRATEGIES, request.strategy)?,
        operation: word(&OPERATIONS, request.operation)?,
        status: request.status,
        error: request.error.map(str::to_owned),
        stream: request.stream,
        client_gone: request.client_gone,
        latency_ms: request.latency_ms,
        first_token_ms: request.first_token_ms,
        created_at: Timestamp::new(request.seconds, request.nanoseconds).map_err(|_| unreadable())?,
        attempts,
    })
}

fn served(record: &RequestRecord) -> Served<'_> {
    let last = record.attempts.last().map(|last| (last.provider.as_str(), last.model.as_str())).unzip();
    let said = (record.provider.as_deref(), record.model_served.as_deref());
    if last == said { Served::Last } else { Served::Other(said.0, said.1) }
}

fn attempt(record: &AttemptRecord) -> Attempt<'_> {
    Attempt {
        number: record.number,
        provider: &record.provider,
        credential: &record.credential,
        model: &record.model,
        status: record.status,
        error: record.error.as_deref(),
        usage: record.usage.counts(),
        cost: record.cost.0,
        certainty: number(&CERTAINTIES, record.certainty),
        latency_ms: record.latency_ms,
        first_token_ms: record.first_token_ms,
        reason: record.reason.as_deref(),
        passed_over: record.passed_over.iter().map(String::as_str).collect(),
        source: record.cost_source.map(|source| number(&SOURCES, source)),
        why: record.why.as_deref(),
        tier: record.service_tier.as_deref(),
        upstream_request_id: record.upstream_request_id.as_deref(),
    }
}

fn tried(attempt: &Attempt<'_>) -> Result<AttemptRecord> {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Ok(AttemptRecord {
        number: attempt.number,
        provider: attempt.provider.to_owned(),
        credential: attempt.credential.to_owned(),
        model: attempt.model.to_owned(),
        status: attempt.status,
        error: owned(attempt.error),
        usage: Usage::from_counts(attempt.usage),
        cost: Money(attempt.cost),
        certainty: word(&CERTAINTIES, attempt.certainty)?,
        latency_ms: attempt.latency_ms,
        first_token_ms: attempt.first_token_ms,
        reason: owned(attempt.reason),
        passed_over: attempt.passed_over.iter().map(|text| (*text).to_owned()).collect(),
        cost_source: attempt.source.map(|source| word(&SOURCES, source)).transpose()?,
        why: owned(attempt.why),
        service_tier: owned(attempt.tier),
        upstream_request_id: owned(attempt.upstream_request_id),
    })
}

/// Not in its set is no word of a set that a test walks.
fn number<T: Copy + PartialEq>(words: &[T], word: T) -> u8 {
    words.iter().zip(0..).find(|(known, _)| **known == word).map_or(u8::MAX, |(_, number)| number)
}

fn word<T: Copy>(words: &[T], number: u8) -> Result<T> {
    words.get(usize::from(number)).copied().ok_or_else(unreadable)
}

fn unreadable() -> Error {
    told("a booking of the journal can't be read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::suite::booking;

    fn again(record: &RequestRecord) -> RequestRecord {
        read(&write(record, Vec::new()).unwrap()).unwrap()
    }

    #[test]
    fn a_booking_is_read_as_it_was_written() {
        let mut record = booking("ws_1", "req_1", "2026-01-01T00:00:00.123456789Z");
        assert_eq!(again(&record), record);
        record.provider = None;
        record.error = Some("stream_truncated".into());
        let attempt = &mut record.attempts[0];
        attempt.usage = Usage::from_counts([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, u64::MAX]);
        attempt.cost = Money(u128::MAX);
        attempt.passed_over = vec!["groq:cooling".into(), String::new()];
        attempt.cost_source = Some(CostSource::Reported);
        attempt.upstream_request_id = Some("ü".into());
        assert_eq!(again(&record), record);
        record.attempts.clear();
        assert_eq!(again(&record), record);
        record.model_served = None;
        assert_eq!(again(&record), record);
    }

    #[test]
    fn every_word_of_a_closed_set_has_its_number() {
        for strategy in StrategyName::ALL {
            assert_eq!(word(&STRATEGIES, number(&STRATEGIES, strategy)).unwrap(), strategy);
        }
        for operation in Operation::ALL {
            assert_eq!(word(&OPERATIONS, number(&OPERATIONS, operation)).unwrap(), operation);
        }
    }

    #[test]
    fn what_was_cut_or_changed_is_an_error_or_another_booking_and_never_a_panic() {
        let bytes = write(&booking("ws_1", "req_1", "2026-01-01T00:00:00Z"), Vec::new()).unwrap();
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "{end}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0xff;
            let _ = read(&changed);
        }
    }
}
