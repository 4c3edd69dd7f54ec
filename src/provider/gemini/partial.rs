//! A call while it comes, whole or argument by argument (`partialArgs`, which clients must ask Google for).

use serde_json::{Map, Value};

/// A longer list than this is not believed.
const MAX_INDEX: usize = 4096;
/// Nor are deeper arguments.
const MAX_DEPTH: usize = 64;

/// What has come of a call.
#[derive(Debug)]
pub(super) struct OpenCall {
    pub(super) id: Option<String>,
    pub(super) name: String,
    /// An object.
    pub(super) args: Value,
    pub(super) signature: Option<Value>,
}

impl Default for OpenCall {
    fn default() -> Self {
        Self { id: None, name: String::new(), args: Value::Object(Map::new()), signature: None }
    }
}

impl OpenCall {
    /// Takes the next piece.
    pub(super) fn absorb(&mut self, call: &Map<String, Value>, signature: Option<Value>) {
        let text = |name: &str| call.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(name) = text("name") {
            name.clone_into(&mut self.name);
        }
        self.id = text("id").map(str::to_owned).or(self.id.take());
        self.signature = signature.or(self.signature.take());
        if let Some(args @ Value::Object(_)) = call.get("args") {
            self.args = args.clone();
        }
        for piece in call.get("partialArgs").and_then(Value::as_array).into_iter().flatten() {
            self.argument(piece);
        }
    }

    fn argument(&mut self, piece: &Value) {
        let path = piece.get("jsonPath").and_then(Value::as_str).unwrap_or_default();
        let Some(place) = place(&mut self.args, path) else { return };
        if let Some(more) = piece.get("stringValue").and_then(Value::as_str) {
            match place {
                Value::String(text) => text.push_str(more),
                place => *place = more.into(),
            }
        } else if let Some(value) = piece.get("numberValue").or_else(|| piece.get("boolValue")) {
            *place = value.clone();
        }
    }
}

/// The place of a path like `$.a.b[0]['c d']`, made where it does not exist.
fn place<'v>(root: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    let mut place = root;
    let mut rest = path.strip_prefix('$')?;
    for _ in 0..MAX_DEPTH {
        if rest.is_empty() {
            return Some(place);
        }
        if let Some(bracket) = rest.strip_prefix('[') {
            let (inside, tail) = bracket.split_once(']')?;
            rest = tail;
            place = match inside.parse::<usize>() {
                Ok(index) => element(place, index)?,
                Err(_) => member(place, inside.trim_matches(['\'', '"']))?,
            };
        } else {
            let name = rest.strip_prefix('.')?;
            let end = name.find(['.', '[']).unwrap_or(name.len());
            let (name, tail) = name.split_at_checked(end)?;
            rest = tail;
            place = member(place, name)?;
        }
    }
    None
}

fn member<'v>(place: &'v mut Value, name: &str) -> Option<&'v mut Value> {
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    Some(place.as_object_mut()?.entry(name).or_insert(Value::Null))
}

fn element(place: &mut Value, index: usize) -> Option<&mut Value> {
    if !place.is_array() {
        *place = Value::Array(Vec::new());
    }
    let list = place.as_array_mut()?;
    if index > MAX_INDEX {
        return None;
    }
    if list.len() <= index {
        list.resize(index + 1, Value::Null);
    }
    list.get_mut(index)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_path_makes_its_place_and_nonsense_makes_nothing() {
        let mut args = json!({});
        *place(&mut args, "$.a.b[1]['c d']").unwrap() = json!(1);
        *place(&mut args, "$.a.e").unwrap() = json!(true);
        assert_eq!(args, json!({"a": {"b": [null, {"c d": 1}], "e": true}}));
        for nonsense in ["", "a", "$a", "$.a[", "$.x[99999999999]", "$.x[100000]"] {
            assert!(place(&mut json!({}), nonsense).is_none(), "{nonsense}");
        }
    }
}
