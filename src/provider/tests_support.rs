//! What the tests of every dialect need.

use super::{AnswerContext, End, StreamOut, StreamTranslator};
use crate::error::ErrorKind;
use crate::sse::Decoder;
use serde_json::Value;

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

/// The items of a list without the numbers that they have in a stream.
pub(crate) fn unnumbered(mut items: Vec<Value>) -> Vec<Value> {
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.shift_remove("index");
    }
    items
}
