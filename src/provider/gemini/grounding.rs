//! Citations: Google gives a text's supports in bytes and its sources beside them, OpenAI a range of characters each.

use serde_json::{Map, Value};

use crate::provider::citations::url_citation;

/// Puts what came later into what came before: streams give such objects more than once, and not always whole.
pub(super) fn merge(before: &mut Value, later: &Value) {
    match (before, later) {
        (Value::Object(before), Value::Object(later)) => {
            for (name, value) in later {
                let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
                if !empty || !before.contains_key(name) {
                    before.insert(name.clone(), value.clone());
                }
            }
        }
        (before, later) => *before = later.clone(),
    }
}

/// The annotations of a text.
pub(super) fn annotations(about: &Map<String, Value>, text: &str) -> Vec<Value> {
    let mut annotations = Vec::new();
    if let Some(grounding) = about.get("groundingMetadata") {
        let chunks = list(grounding, "groundingChunks");
        for support in list(grounding, "groundingSupports") {
            let range = range(support.get("segment").unwrap_or(&Value::Null), text);
            for index in list(support, "groundingChunkIndices") {
                let chunk = index.as_u64().and_then(|index| chunks.get(usize::try_from(index).ok()?));
                let page = chunk.and_then(|chunk| {
                    ["web", "maps", "retrievedContext"]
                        .iter()
                        .find_map(|kind| chunk.get(kind))
                        .filter(|page| page.get("uri").is_some())
                });
                annotations.extend(page.map(|page| annotation(page, range)));
            }
        }
    }
    if let Some(citations) = about.get("citationMetadata") {
        let sources = list(citations, "citationSources").iter().chain(list(citations, "citations"));
        let with_address = sources.filter(|source| source.get("uri").is_some());
        annotations.extend(with_address.map(|source| annotation(source, range(source, text))));
    }
    annotations
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn annotation(page: &Value, range: (usize, usize)) -> Value {
    let text = |name: &str| page.get(name).and_then(Value::as_str).unwrap_or_default();
    url_citation(text("uri"), text("title"), range)
}

/// A range of bytes as one of characters. Where the bytes do not hold the text that Google quotes, the quote is looked
/// for; where there is none, everything is meant.
fn range(segment: &Value, text: &str) -> (usize, usize) {
    let at = |name: &str| segment.get(name).and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok());
    let quote = segment.get("text").and_then(Value::as_str).filter(|quote| !quote.is_empty());
    let (start, end) = (at("startIndex").unwrap_or(0), at("endIndex").unwrap_or(text.len()));
    let fits = text.get(start..end).filter(|held| quote.is_none_or(|quote| quote == *held));
    let found = || quote.and_then(|quote| Some((text.find(quote)?, quote)));
    let (start, held) = fits.map(|held| (start, held)).or_else(found).unwrap_or((0, text));
    let before = text.get(..start).unwrap_or_default().chars().count();
    (before, before + held.chars().count())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_become_characters() {
        let text = "Zürich ist groß. Bern nicht.";
        let end = "Zürich ist groß.".len();
        let about = json!({"groundingMetadata": {
            "groundingChunks": [{"web": {"uri": "https://x.org", "title": "X"}}, {"retrievedContext": {"text": "no address"}}],
            "groundingSupports": [
                {"segment": {"endIndex": end, "text": "Zürich ist groß."}, "groundingChunkIndices": [0, 1, 9]},
                {"segment": {"startIndex": 1, "endIndex": 3, "text": "Bern nicht."}, "groundingChunkIndices": [0]}]},
            "citationMetadata": {"citationSources": [{"startIndex": 0, "endIndex": 3, "uri": "https://y.org"}]}});
        let cite = |start: usize, end: usize, url: &str, title: &str| {
            json!({"type": "url_citation",
                "url_citation": {"start_index": start, "end_index": end, "url": url, "title": title}})
        };
        assert_eq!(
            annotations(about.as_object().unwrap(), text),
            [cite(0, 16, "https://x.org", "X"), cite(17, 28, "https://x.org", "X"), cite(0, 2, "https://y.org", "")]
        );
    }
}
