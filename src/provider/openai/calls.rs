//! Tool calls of an answer: what compatible servers leave out or write otherwise is put right, so that an SDK can put the
//! pieces of a call together and send it back.
//!
//! * A call without an id gets one, made from the answer's id and the call's place.
//! * A piece of a stream without an index gets the one of the call it belongs to; a call that claims the index of another one
//!   (several servers number all calls of an answer 0) gets an index of its own.
//! * Arguments as an object become JSON text; a whole call without any has `{}`.
//!
//! Invariant: calls in OpenAI's shape stay the bytes they are.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::splice::Splice;

/// A call, or a piece of one.
#[derive(Deserialize)]
struct CallView<'a> {
    #[serde(borrow, default, deserialize_with = "super::choice::present")]
    index: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "super::choice::present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "super::choice::present")]
    r#type: Option<&'a RawValue>,
    #[serde(borrow)]
    function: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct FunctionView<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "super::choice::present")]
    arguments: Option<&'a RawValue>,
}

/// The calls of one choice, as far as they were seen.
#[derive(Debug, Default)]
pub(super) struct Calls {
    known: Vec<Known>,
    /// Which of them the last piece belonged to.
    last: usize,
}

#[derive(Debug)]
struct Known {
    /// What the provider numbers it, if it does.
    theirs: Option<u64>,
    /// Its id as JSON text; empty until it has one.
    id: String,
}

impl Calls {
    /// Puts the calls of a whole message right. `answer` is the answer's id, for those without one.
    pub(super) fn whole(list: &RawValue, answer: &str, splice: &mut Splice<'_>) {
        for (place, (raw, call)) in views(list).into_iter().enumerate() {
            let Some(function) = call.function() else { continue };
            if !says_something(call.id) {
                set(splice, raw, call.id, "id", &made_id(answer, place));
            }
            call.name_type(raw, splice);
            match function.arguments {
                None => insert(splice, call.function, "arguments", "\"{}\""),
                Some(arguments) => function.as_text(arguments, splice, "\"{}\""),
            }
        }
    }

    /// Puts the pieces of one chunk right.
    pub(super) fn pieces(&mut self, list: &RawValue, answer: &str, splice: &mut Splice<'_>) {
        for (raw, call) in views(list) {
            let Some(function) = call.function() else { continue };
            let named = says_something(function.name);
            let theirs = call.index.and_then(|raw| raw.get().parse().ok());
            let begun = self.known.len();
            self.last = self.find(theirs, call.id, named).unwrap_or(begun);
            if self.last == begun {
                self.known.push(Known { theirs, id: String::new() });
                if !says_something(call.id) {
                    set(splice, raw, call.id, "id", &made_id(answer, begun));
                }
                call.name_type(raw, splice);
            }
            if let (Some(id), Some(known)) =
                (call.id.filter(|_| says_something(call.id)), self.known.get_mut(self.last))
            {
                known.id = id.get().to_owned();
            }
            if theirs != Some(self.last as u64) {
                set(splice, raw, call.index, "index", &self.last.to_string());
            }
            if let Some(arguments) = function.arguments {
                function.as_text(arguments, splice, "null");
            }
        }
    }

    /// The call that a piece continues; `None` for one that begins a call.
    fn find(&self, theirs: Option<u64>, id: Option<&RawValue>, named: bool) -> Option<usize> {
        let id = id.map(RawValue::get).filter(|id| !matches!(*id, "null" | "\"\""));
        // Some servers repeat the id with every piece, some write another one each time: only a name begins a call anew.
        let same = |known: &Known| !named || id.is_none_or(|id| known.id.is_empty() || known.id == id);
        match (theirs, id) {
            (Some(theirs), _) => self.known.iter().rposition(|known| known.theirs == Some(theirs) && same(known)),
            (None, Some(id)) if named => self.known.iter().rposition(|known| known.id == id),
            (None, None) if named => None,
            (None, _) => self.last.checked_add(1).filter(|next| *next <= self.known.len()).map(|_| self.last),
        }
    }
}

impl<'a> CallView<'a> {
    fn function(&self) -> Option<FunctionView<'a>> {
        serde_json::from_str(self.function?.get()).ok()
    }

    fn name_type(&self, raw: &RawValue, splice: &mut Splice<'_>) {
        if !says_something(self.r#type) {
            set(splice, raw, self.r#type, "type", "\"function\"");
        }
    }
}

impl FunctionView<'_> {
    /// Arguments as JSON text, whatever they are; `nothing` is what becomes of a `null`.
    fn as_text(&self, arguments: &RawValue, splice: &mut Splice<'_>, nothing: &str) {
        match arguments.get() {
            // Groq's models call a function without parameters with this text.
            nothing @ "\"null\"" if says_something(self.name) => splice.replace(nothing, "\"{}\""),
            text if text.starts_with('"') => {}
            "null" if nothing == "null" => {}
            "null" => splice.replace(arguments.get(), nothing),
            json => splice.replace(json, Value::from(json).to_string()),
        }
    }
}

/// The calls with their texts; none where the list is not understood.
fn views(list: &RawValue) -> Vec<(&RawValue, CallView<'_>)> {
    let list: Vec<&RawValue> = serde_json::from_str(list.get()).unwrap_or_default();
    list.into_iter().filter_map(|raw| Some((raw, serde_json::from_str(raw.get()).ok()?))).collect()
}

fn says_something(raw: Option<&RawValue>) -> bool {
    raw.is_some_and(|raw| !matches!(raw.get(), "null" | "\"\""))
}

fn made_id(answer: &str, place: usize) -> String {
    Value::from(format!("call_{}_{place}", answer.trim_start_matches("chatcmpl-"))).to_string()
}

/// Gives a member this value, in its place or as a new one.
fn set(splice: &mut Splice<'_>, object: &RawValue, old: Option<&RawValue>, name: &str, value: &str) {
    match old {
        Some(old) => splice.replace(old.get(), value),
        None => insert(splice, Some(object), name, value),
    }
}

/// Puts a new member into an object.
fn insert(splice: &mut Splice<'_>, object: Option<&RawValue>, name: &str, value: &str) {
    if let Some(object) = object {
        splice.insert_inside(object.get(), &[format!("\"{name}\":{value}")]);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn edit(text: &str, run: impl FnOnce(&RawValue, &mut Splice<'_>)) -> String {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let mut splice = Splice::new(text.as_bytes());
        run(raw, &mut splice);
        splice.apply().map_or_else(|| text.to_owned(), |bytes| String::from_utf8(bytes).unwrap())
    }

    fn whole(text: &str) -> String {
        edit(text, |raw, splice| Calls::whole(raw, "chatcmpl-1", splice))
    }

    fn pieces(calls: &mut Calls, text: &str) -> Value {
        serde_json::from_str(&edit(text, |raw, splice| calls.pieces(raw, "chatcmpl-1", splice))).unwrap()
    }

    #[test]
    fn calls_in_openais_shape_stay_as_they_are() {
        let text = r#"[ {"id":"a","type":"function", "function":{"name":"f","arguments":"{}"}} ]"#;
        assert_eq!(whole(text), text);
        let mut calls = Calls::default();
        for text in [
            r#"[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}]"#,
            r#"[{"index":0,"function":{"arguments":"{\"a\""}}]"#,
            r#"[{"index":1,"id":"b","type":"function","function":{"name":"f","arguments":""}}]"#,
            r#"[{"index":1,"id":"b","type":"function","function":{"name":null,"arguments":"{}"}}]"#,
            r#"[{"index":0,"id":"a","function":{"name":"f","arguments":":1}"}}]"#,
        ] {
            assert_eq!(edit(text, |raw, splice| calls.pieces(raw, "x", splice)), text);
        }
    }

    #[test]
    fn a_whole_call_gets_what_it_lacks() {
        let got: Value = serde_json::from_str(&whole(
            r#"[{"id":null,"function":{"name":"f","arguments":{"a": 1}}},{"type":"","function":{"name":"g"}},{"id":"x","type":"function","function":{"name":"h","arguments":null}}]"#,
        ))
        .unwrap();
        let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        assert_eq!(
            got,
            json!([call("call_1_0", "f", "{\"a\": 1}"), call("call_1_1", "g", "{}"), call("x", "h", "{}")])
        );
    }

    #[test]
    fn calls_that_share_an_index_are_told_apart_by_their_ids() {
        let mut calls = Calls::default();
        let first = |id: &str| {
            format!(r#"[{{"index":0,"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}]"#)
        };
        assert_eq!(pieces(&mut calls, &first("a"))[0]["index"], 0);
        assert_eq!(pieces(&mut calls, &first("b"))[0]["index"], 1);
        let more = r#"[{"index":0,"function":{"arguments":"x"}}]"#;
        assert_eq!(pieces(&mut calls, more)[0]["index"], 1, "it continues the newer one");
        // A new id without a name is the same call: some servers make one up for every piece.
        assert_eq!(pieces(&mut calls, r#"[{"index":0,"id":"c","function":{"arguments":"x"}}]"#)[0]["index"], 1);
    }

    #[test]
    fn pieces_without_an_index_find_their_call() {
        let mut calls = Calls::default();
        let begun = pieces(
            &mut calls,
            r#"[{"function":{"name":"f","arguments":{"a":1}}},{"id":"b","function":{"name":"g","arguments":""}}]"#,
        );
        let first = json!({"index": 0, "id": "call_1_0", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}});
        let second = json!({"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}});
        assert_eq!(begun, json!([first, second]));
        assert_eq!(pieces(&mut calls, r#"[{"index":null,"function":{"arguments":"{}"}}]"#)[0]["index"], 1);
        assert_eq!(pieces(&mut calls, r#"[{"id":"b","function":{"name":"g","arguments":"{}"}}]"#)[0]["index"], 1);
    }
}
