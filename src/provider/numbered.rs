//! Numbers for the items of a list that comes in several chunks: OpenAI's SDKs put such a list together by `index` and fail
//! on an item without one. A client that sends a message back sends the numbers, too; dialects take them out again.

use serde_json::Value;

/// Counts the items of one list over a whole stream.
#[derive(Debug, Default)]
pub(in crate::provider) struct Numbered(u64);

impl Numbered {
    /// The count at the beginning of a stream.
    pub(in crate::provider) const fn new() -> Self {
        Self(0)
    }

    /// Gives each item the next number.
    pub(in crate::provider) fn number(&mut self, mut items: Vec<Value>) -> Vec<Value> {
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            item.insert("index".to_owned(), self.0.into());
            self.0 += 1;
        }
        items
    }
}
