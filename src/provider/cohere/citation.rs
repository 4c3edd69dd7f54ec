//! Citations: Cohere names the sources of a range of text, OpenAI the web page.

use serde_json::Value;

use crate::provider::citations::{Citations, url_citation};

/// Sorts a citation. Where every source is a document with an address, each becomes OpenAI's citation; what is not a web
/// page (a tool's result, a document of the client's own) has no form at OpenAI and stays as Cohere gave it.
pub(super) fn cite(citation: Value, into: &mut Citations) {
    let sources = citation.get("sources").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let pages: Option<Vec<Value>> = sources.iter().map(|source| page(&citation, source)).collect();
    match pages {
        Some(pages) if !pages.is_empty() => into.pages.extend(pages),
        _ => into.others.push(citation),
    }
}

fn page(citation: &Value, source: &Value) -> Option<Value> {
    let document = source.get("document")?;
    let url = document.get("url").and_then(Value::as_str)?;
    let title = document.get("title").and_then(Value::as_str).unwrap_or_default();
    let at = |name: &str| usize::try_from(citation.get(name)?.as_u64()?).ok();
    Some(url_citation(url, title, (at("start")?, at("end")?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_web_page_becomes_openais_citation_and_everything_else_stays() {
        let page =
            json!({"type": "document", "id": "d", "document": {"id": "d", "url": "https://x.org", "title": "X"}});
        let tool = json!({"type": "tool", "id": "t:0", "tool_output": {"content": "5"}});
        let citation = |sources: &[&Value]| json!({"start": 3, "end": 9, "text": "…", "sources": sources});
        let sorted = |sources: &[&Value]| {
            let mut citations = Citations::default();
            cite(citation(sources), &mut citations);
            (citations.pages, citations.others)
        };
        let expected = json!({"start_index": 3, "end_index": 9, "url": "https://x.org", "title": "X"});
        assert_eq!(sorted(&[&page]), (vec![json!({"type": "url_citation", "url_citation": expected})], vec![]));
        for sources in [vec![&page, &tool], vec![&tool], vec![]] {
            assert_eq!(sorted(&sources), (vec![], vec![citation(&sources)]));
        }
    }
}
