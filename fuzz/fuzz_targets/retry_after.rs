//! When a provider may be asked again, by its headers and its words: never a panic, never longer than five minutes.
//!
//! The input: a status, seconds since 1970, and lines: headers (`name: value`), then a blank line and the error's text.
#![no_main]

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use perpetuo::provider::{Failure, PROVIDERS, ProviderMessage, failure};

fuzz_target!(|input: &[u8]| {
    let Some(([status, a, b, c, d], rest)) = input.split_first_chunk() else { return };
    let now = Timestamp::from_second(i64::from(u32::from_be_bytes([*a, *b, *c, *d]))).expect("a second since 1970");
    let text = String::from_utf8_lossy(rest);
    let (heads, message) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut headers = HeaderMap::new();
    for line in heads.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let name = HeaderName::from_bytes(name.trim().as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.trim().as_bytes())) {
            headers.append(name, value);
        }
    }
    let status = [429, 503, 500, 529, 400, 403][usize::from(*status) % 6];
    let said = ProviderMessage { message: Some(message.to_owned()), ..ProviderMessage::default() };
    let error = failure(&Failure { status, headers: &headers, now }, said, PROVIDERS[0].name);
    assert!(error.retry_after().is_none_or(|wait| wait <= Duration::from_secs(300)), "{:?}", error.retry_after());
});
