//! The tool calls of a message or a delta: what OpenAI's description requires of them and some providers write otherwise.
//!
//! Arguments are JSON text, also where a server writes the object itself. A whole call has a type and arguments; a piece of a
//! streamed one has its index.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::required::present;
use super::splice::Splice;

#[derive(Deserialize)]
struct CallView<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    index: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    r#type: Option<&'a RawValue>,
    #[serde(borrow)]
    function: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct FunctionView<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    arguments: Option<&'a RawValue>,
}

/// The calls of a whole message.
pub(super) fn settle_whole(calls: &RawValue, splice: &mut Splice<'_>) {
    for (raw, call) in views(calls) {
        if call.r#type.is_none() && call.function.is_some() {
            splice.insert_inside(raw.get(), &["\"type\":\"function\"".to_owned()]);
        }
        settle_arguments(&call, Some("\"{}\""), splice);
    }
}

/// The pieces of calls in a delta.
pub(super) fn settle_pieces(calls: &RawValue, splice: &mut Splice<'_>) {
    for (position, (raw, call)) in views(calls).into_iter().enumerate() {
        if call.index.is_none() {
            splice.insert_inside(raw.get(), &[format!("\"index\":{position}")]);
        }
        settle_arguments(&call, None, splice);
    }
}

fn views(calls: &RawValue) -> Vec<(&RawValue, CallView<'_>)> {
    let raws: Vec<&RawValue> = serde_json::from_str(calls.get()).unwrap_or_default();
    raws.into_iter().filter_map(|raw| Some((raw, serde_json::from_str(raw.get()).ok()?))).collect()
}

/// `missing` stands where a call has no arguments at all.
fn settle_arguments(call: &CallView<'_>, missing: Option<&str>, splice: &mut Splice<'_>) {
    let Some(function) = call.function else { return };
    let Ok(view) = serde_json::from_str::<FunctionView<'_>>(function.get()) else { return };
    match (view.arguments.map(RawValue::get), missing) {
        (None, Some(missing)) => splice.insert_inside(function.get(), &[format!("\"arguments\":{missing}")]),
        (Some(null @ "null"), Some(missing)) => splice.replace(null, missing),
        (Some(object), _) if object.starts_with('{') => splice.replace(object, Value::from(object).to_string()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(text: &str, settle: fn(&RawValue, &mut Splice<'_>)) -> String {
        let mut splice = Splice::new(text.as_bytes());
        settle(serde_json::from_str(text).unwrap(), &mut splice);
        splice.apply().map_or_else(|| text.to_owned(), |bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_whole_call_has_a_type_and_its_arguments_as_text() {
        assert_eq!(
            settled(r#"[{"id":"a","function":{"name":"f"}}]"#, settle_whole),
            r#"[{"type":"function","id":"a","function":{"arguments":"{}","name":"f"}}]"#
        );
        assert_eq!(
            settled(r#"[{"type":"function","function":{"name":"f","arguments":{"a": "b"}}}]"#, settle_whole),
            r#"[{"type":"function","function":{"name":"f","arguments":"{\"a\": \"b\"}"}}]"#
        );
        let fine = r#"[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]"#;
        assert_eq!(settled(fine, settle_whole), fine);
    }

    #[test]
    fn a_piece_of_a_call_has_its_index() {
        assert_eq!(
            settled(r#"[{"function":{"name":"f"}},{"index":1}]"#, settle_pieces),
            r#"[{"index":0,"function":{"name":"f"}},{"index":1}]"#
        );
    }
}
