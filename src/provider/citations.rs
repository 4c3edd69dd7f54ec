//! What an answer was cited from, in OpenAI's places. Only a web page has a form there, `url_citation` among the message's
//! `annotations`, and clients with closed types refuse a whole answer for any annotation of another type. Everything else
//! (documents, results of tools) stays as the provider gave it, in `provider_specific_fields.citations`.

use serde_json::{Map, Value, json};

use super::numbered::Numbered;

/// The member of `provider_specific_fields`.
pub(in crate::provider) const CITATIONS: &str = "citations";

/// Citations of an answer or of a piece of one.
#[derive(Debug, Default)]
pub(in crate::provider) struct Citations {
    /// Web pages, as annotations of OpenAI's form.
    pub(in crate::provider) pages: Vec<Value>,
    /// All others, in the provider's form.
    pub(in crate::provider) others: Vec<Value>,
}

impl Citations {
    /// Adds what is no web page, with the characters of the answer that it supports under OpenAI's names: the block that it
    /// hung on is not there to tell.
    pub(in crate::provider) fn add_other(&mut self, mut citation: Value, (start, end): (usize, usize)) {
        if let Some(members) = citation.as_object_mut() {
            members.entry("start_index").or_insert_with(|| start.into());
            members.entry("end_index").or_insert_with(|| end.into());
        }
        self.others.push(citation);
    }
}

/// OpenAI's citation of a web page for these characters of the answer.
pub(in crate::provider) fn url_citation(url: &str, title: &str, (start, end): (usize, usize)) -> Value {
    json!({
        "type": "url_citation",
        "url_citation": {"start_index": start, "end_index": end, "url": url, "title": title},
    })
}

/// Counts the citations of a stream.
#[derive(Debug, Default)]
pub(in crate::provider) struct Cited {
    pages: Numbered,
    others: Numbered,
}

impl Cited {
    /// The count at the beginning of a stream.
    pub(in crate::provider) const fn new() -> Self {
        Self { pages: Numbered::new(), others: Numbered::new() }
    }

    /// The `annotations` and the `provider_specific_fields` of a chunk, as far as there are any.
    pub(in crate::provider) fn number(
        &mut self,
        citations: Citations,
    ) -> (Option<Vec<Value>>, Option<Map<String, Value>>) {
        let Citations { pages, others } = citations;
        let pages = Some(self.pages.number(pages)).filter(|pages| !pages.is_empty());
        let others = Some(self.others.number(others)).filter(|others| !others.is_empty());
        (pages, others.map(|others| Map::from_iter([(CITATIONS.to_owned(), others.into())])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_for_itself_over_a_whole_stream() {
        let mut cited = Cited::new();
        let mut more = |pages: usize, others: usize| {
            let page = url_citation("https://x.org", "X", (0, 2));
            let mut citations = Citations { pages: vec![page; pages], ..Citations::default() };
            (0..others).for_each(|_| citations.add_other(json!({"document_index": 0}), (3, 5)));
            let (pages, fields) = cited.number(citations);
            let numbers =
                |items: &[Value]| items.iter().map(|item| item["index"].as_u64().unwrap()).collect::<Vec<_>>();
            let others = fields.map(|fields| numbers(fields["citations"].as_array().unwrap()));
            (pages.map(|pages| numbers(&pages)), others)
        };
        assert_eq!(more(2, 1), (Some(vec![0, 1]), Some(vec![0])));
        assert_eq!(more(0, 2), (None, Some(vec![1, 2])));
        assert_eq!(more(1, 0), (Some(vec![2]), None));
    }

    #[test]
    fn what_is_no_page_says_where_it_belongs() {
        let mut citations = Citations::default();
        citations.add_other(json!({"document_index": 0}), (3, 5));
        assert_eq!(citations.others, [json!({"document_index": 0, "start_index": 3, "end_index": 5})]);
        assert!(citations.pages.is_empty());
    }
}
