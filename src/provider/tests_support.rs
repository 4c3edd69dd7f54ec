//! What the tests of every dialect need.

use super::{AnswerContext, End, StreamOut, StreamTranslator};
use crate::error::ErrorKind;
use crate::sse::Decoder;

/// A context with fixed values.
pub(crate) fn context(provider: &'static str) -> AnswerContext {
    AnswerContext {
        provider,
        id: "chatcmpl-test".to_owned(),
        created: 1_700_000_000,
        model: "model".to_owned(),
        include_usage: false,
        json_object: false,
    }
}

/// Feeds `data:` payloads to a translator, then ends the stream.
pub(crate) fn run(translator: &mut dyn StreamTranslator, payloads: &[&str]) -> (StreamOut, Result<End, ErrorKind>) {
    let mut decoder = Decoder::new(1 << 20);
    for payload in payloads {
        decoder.push(format!("data: {payload}\n\n").as_bytes());
    }
    let mut out = StreamOut::default();
    while let Some(event) = decoder.next_event().unwrap() {
        if let Err(error) = translator.event(&event, &mut out) {
            return (out, Err(error.kind()));
        }
    }
    let end = translator.end(&mut out);
    (out, Ok(end))
}
