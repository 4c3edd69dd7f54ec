//! Every provider's whole answers, embeddings and errors: JSON for the client or an error, whatever came.
//!
//! The input: which provider, which status, and the body.
#![no_main]

use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use perpetuo::provider::{AnswerContext, Failure, PROVIDERS, failure};
use serde_json::value::RawValue;

fuzz_target!(|input: &[u8]| {
    let Some(([which, status], body)) = input.split_first_chunk() else { return };
    let provider = PROVIDERS[usize::from(*which) % PROVIDERS.len()];
    let context = AnswerContext {
        provider: provider.name,
        id: "chatcmpl-1".to_owned(),
        created: 1_700_000_000,
        model: "model".to_owned(),
        include_usage: true,
        json_object: status % 2 == 1,
    };
    let bytes = Bytes::copy_from_slice(body);
    let answers =
        [provider.dialect.answer(bytes.clone(), &context), provider.dialect.embeddings_answer(bytes.clone(), &context)];
    for answer in answers.into_iter().flatten() {
        // What is no UTF-8 in a provider's own bytes, and numbers that no 64 bits hold, may be handed on.
        let text = String::from_utf8_lossy(&answer.body);
        assert!(serde_json::from_str::<&RawValue>(&text).is_ok(), "{}: no JSON: {text}", provider.name);
    }
    let said = provider.dialect.read_error(body);
    let (headers, now) = (HeaderMap::new(), Timestamp::UNIX_EPOCH);
    let error = failure(&Failure { status: 400 + u16::from(*status), headers: &headers, now }, said, provider.name);
    assert!(!error.message().is_empty());
});
