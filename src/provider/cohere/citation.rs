//! Citations: Cohere names the sources of a range of text, OpenAI the web page.

use serde_json::{Value, json};

/// The annotations for one citation. Where every source is a document with an address, each becomes OpenAI's citation; what
/// is not a web page (a tool's result, a document of the client's own) has no form at OpenAI and stays as Cohere gave it.
pub(super) fn annotations(citation: Value) -> Vec<Value> {
    let pages = citation.get("sources").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let pages: Option<Vec<Value>> = pages.iter().map(|source| page(&citation, source)).collect();
    match pages {
        Some(pages) if !pages.is_empty() => pages,
        _ => vec![citation],
    }
}

fn page(citation: &Value, source: &Value) -> Option<Value> {
    let document = source.get("document")?;
    let url = document.get("url").and_then(Value::as_str)?;
    let title = document.get("title").and_then(Value::as_str).unwrap_or_default();
    let (start, end) = (citation.get("start")?.as_u64()?, citation.get("end")?.as_u64()?);
    let cited = json!({"start_index": start, "end_index": end, "url": url, "title": title});
    Some(json!({"type": "url_citation", "url_citation": cited}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_page_becomes_openais_citation_and_everything_else_stays() {
        let page =
            json!({"type": "document", "id": "d", "document": {"id": "d", "url": "https://x.org", "title": "X"}});
        let tool = json!({"type": "tool", "id": "t:0", "tool_output": {"content": "5"}});
        let cite = |sources: &[&Value]| json!({"start": 3, "end": 9, "text": "…", "sources": sources});
        let expected = json!({"start_index": 3, "end_index": 9, "url": "https://x.org", "title": "X"});
        assert_eq!(annotations(cite(&[&page])), [json!({"type": "url_citation", "url_citation": expected})]);
        for sources in [vec![&page, &tool], vec![&tool], vec![]] {
            assert_eq!(annotations(cite(&sources)), [cite(&sources)]);
        }
    }
}
