//! Citations: Anthropic hangs them on blocks of text, OpenAI on the message with the range of text they support.

use serde_json::Value;

use crate::provider::citations::{Citations, url_citation};

/// Sorts a citation of a text that spans these characters of the answer.
pub(super) fn cite(citation: Value, range: (usize, usize), into: &mut Citations) {
    match citation.get("url").and_then(Value::as_str) {
        Some(url) => {
            let title = citation.get("title").and_then(Value::as_str).unwrap_or_default();
            into.pages.push(url_citation(url, title, range));
        }
        None => into.add_other(citation, range),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_web_page_becomes_openais_citation_and_a_document_stays() {
        let mut citations = Citations::default();
        let web =
            json!({"type": "web_search_result_location", "url": "https://x.org", "title": "X", "cited_text": "…"});
        cite(web, (3, 9), &mut citations);
        cite(json!({"type": "page_location", "document_index": 0}), (0, 1), &mut citations);
        let expected = json!({"start_index": 3, "end_index": 9, "url": "https://x.org", "title": "X"});
        assert_eq!(citations.pages, [json!({"type": "url_citation", "url_citation": expected})]);
        let page = json!({"type": "page_location", "document_index": 0, "start_index": 0, "end_index": 1});
        assert_eq!(citations.others, [page]);
    }
}
