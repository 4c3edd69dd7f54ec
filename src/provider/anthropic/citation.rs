//! Citations: Anthropic hangs them on blocks of text, OpenAI on the message with the range of text they support.

use serde_json::{Value, json};

/// The annotation for a citation of a text that spans these characters of the answer. What is not a web page has no form
/// at OpenAI and stays as Anthropic gave it.
pub(super) fn annotation(citation: Value, start: usize, end: usize) -> Value {
    let Some(url) = citation.get("url").and_then(Value::as_str) else {
        return citation;
    };
    let title = citation.get("title").and_then(Value::as_str).unwrap_or_default();
    json!({
        "type": "url_citation",
        "url_citation": {"start_index": start, "end_index": end, "url": url, "title": title},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_page_becomes_openais_citation_and_a_document_stays() {
        let web =
            json!({"type": "web_search_result_location", "url": "https://x.org", "title": "X", "cited_text": "…"});
        let expected = json!({"start_index": 3, "end_index": 9, "url": "https://x.org", "title": "X"});
        assert_eq!(annotation(web, 3, 9), json!({"type": "url_citation", "url_citation": expected}));
        let page = json!({"type": "page_location", "document_index": 0});
        assert_eq!(annotation(page.clone(), 0, 1), page);
    }
}
