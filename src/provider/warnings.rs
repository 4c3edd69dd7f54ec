//! The names of parameters that could not be expressed. Not a place for values: a warning never holds what a client said.

use serde_json::{Map, Value};

use crate::api::chat::{Message, Role};

/// How many are kept; a request that breaks more rules than this has made its point.
const MAX_COUNT: usize = 32;
/// How long one may be.
const MAX_LEN: usize = 80;

/// Parameter names, each once, fit for a header: visible ASCII without commas.
#[derive(Debug, Default)]
pub(in crate::provider) struct Warnings(Vec<String>);

impl Warnings {
    /// Adds a name.
    pub(in crate::provider) fn add(&mut self, name: &str) {
        let fit = |letter: char| if letter.is_ascii_graphic() && letter != ',' { letter } else { '_' };
        let name: String = name.chars().take(MAX_LEN).map(fit).collect();
        if self.0.len() < MAX_COUNT && !self.0.contains(&name) {
            self.0.push(name);
        }
    }

    /// Adds `<prefix><name>` for each member that is neither known nor neutral.
    pub(in crate::provider) fn add_unknown(&mut self, prefix: &str, members: &Map<String, Value>, known: &[&str]) {
        for (name, value) in members {
            if !known.contains(&name.as_str()) && !is_neutral(value) {
                self.add(&format!("{prefix}{name}"));
            }
        }
    }

    /// Adds what only a message of another role has a use for, and a name where it has no place at all. `place` is the
    /// message's place in the conversation.
    pub(in crate::provider) fn add_misplaced(&mut self, place: usize, message: &Message) {
        let role = message.role;
        let spoken = role == Role::Assistant;
        for (field, lost) in [
            ("name", message.name.is_some() && !matches!(role, Role::Tool | Role::Function)),
            ("tool_call_id", message.tool_call_id.is_some() && role != Role::Tool),
            ("tool_calls", message.tool_calls.is_some() && !spoken),
            ("function_call", message.function_call.is_some() && !spoken),
            ("refusal", message.refusal.is_some() && !spoken),
            ("reasoning_content", message.reasoning_content.is_some() && !spoken),
        ] {
            if lost {
                self.add(&format!("messages[{place}].{field}"));
            }
        }
    }

    /// The names.
    pub(in crate::provider) fn into_names(self) -> Vec<String> {
        self.0
    }
}

/// A value that says nothing: leaving it out changes nothing.
pub(in crate::provider) fn is_neutral(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_client_calls_a_field_the_names_fit_a_header_and_are_bounded() {
        let mut warnings = Warnings::default();
        warnings.add("seed");
        warnings.add("seed");
        warnings.add("ü,\r\nx-evil: 1");
        warnings.add(&"a".repeat(500));
        for number in 0..100 {
            warnings.add(&number.to_string());
        }
        let names = warnings.into_names();
        assert_eq!(names.first().unwrap(), "seed");
        assert_eq!(names.get(1).unwrap(), "____x-evil:_1");
        assert_eq!(names.len(), MAX_COUNT);
        assert!(names.iter().all(|name| name.len() <= MAX_LEN));
    }
}
