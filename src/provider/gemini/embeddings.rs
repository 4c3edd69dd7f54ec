//! Embeddings: OpenAI's request and answer over `batchEmbedContents`, and over Vertex's `predict` and `embedContent`.
//!
//! Google gives numbers only; the gateway gives them the form that `encoding_format` asks for.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::response::{error_in_answer, text, usage_wire};
use super::usage::UsageWire;
use super::warnings::{Warnings, is_neutral};
use crate::api::scan::Body;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::{Answer, AnswerContext, protocol};
use crate::usage::{Bill, Usage};

/// What was asked, by Google's names.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) texts: Vec<String>,
    pub(super) dimensions: Option<u64>,
    /// `RETRIEVAL_QUERY` and the like, which OpenAI does not know.
    pub(super) task: Option<String>,
    /// The same for a document's title.
    pub(super) title: Option<String>,
    pub(super) warnings: Warnings,
}

/// Reads a request.
pub(super) fn read(body: &Body, provider: &'static str) -> Result<Asked> {
    let mut warnings = Warnings::default();
    let mut asked = (None, None);
    for key in body.keys() {
        let value: Value = body.get(key)?.unwrap_or_default();
        match key {
            "model" | "input" | "dimensions" | "timeout" => {}
            "encoding_format" if value == "float" || value == "base64" => {}
            "task_type" | "taskType" => asked.0 = value.as_str().map(str::to_owned),
            "title" => asked.1 = value.as_str().map(str::to_owned),
            _ if is_neutral(&value) => {}
            _ => warnings.add(key),
        }
    }
    let input: Value = body.get("input")?.unwrap_or_default();
    let refuse = || {
        let message = format!("The provider '{provider}' embeds texts, not tokens.");
        Error::new(ErrorKind::UnsupportedParameter, message).with_param("input")
    };
    let texts = match input {
        Value::String(text) => vec![text],
        Value::Array(items) => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(refuse));
            texts.collect::<Result<_>>()?
        }
        _ => return Err(refuse()),
    };
    Ok(Asked { texts, dimensions: body.get("dimensions")?, task: asked.0, title: asked.1, warnings })
}

/// A content of one text.
fn content(text: &str) -> Value {
    json!({"parts": [{"text": text}]})
}

impl Asked {
    fn options(&self, names: [&str; 3]) -> Map<String, Value> {
        let values = [
            self.dimensions.map(Value::from),
            self.task.as_deref().map(Value::from),
            self.title.as_deref().map(Value::from),
        ];
        names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?))).collect()
    }

    /// The body of `batchEmbedContents`.
    pub(super) fn batch(&self, model: &str) -> Value {
        let requests = self.texts.iter().map(|text| {
            let mut request = self.options(["outputDimensionality", "taskType", "title"]);
            request.insert("model".to_owned(), format!("models/{model}").into());
            request.insert("content".to_owned(), content(text));
            Value::Object(request)
        });
        json!({"requests": requests.collect::<Vec<_>>()})
    }

    /// The body of Vertex's `predict`.
    pub(super) fn instances(&self) -> Value {
        let instances = self.texts.iter().map(|text| {
            let mut instance = self.options(["", "task_type", "title"]);
            instance.remove("");
            instance.insert("content".to_owned(), text.clone().into());
            Value::Object(instance)
        });
        let mut body = json!({"instances": instances.collect::<Vec<_>>()});
        if let (Some(dimensions), Some(members)) = (self.dimensions, body.as_object_mut()) {
            members.insert("parameters".to_owned(), json!({"outputDimensionality": dimensions}));
        }
        body
    }

    /// The body of Vertex's `embedContent`, which takes one text.
    pub(super) fn single(&self, provider: &'static str) -> Result<Value> {
        let [text] = self.texts.as_slice() else {
            let message = format!("The provider '{provider}' embeds one text for each request of this model.");
            return Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param("input"));
        };
        let mut body = self.options(["outputDimensionality", "taskType", "title"]);
        body.insert("content".to_owned(), content(text));
        Ok(body.into())
    }
}

/// Reads an answer of any of the three.
pub(super) fn answer(body: &[u8], context: &AnswerContext) -> Result<Answer> {
    let mut whole: Map<String, Value> =
        serde_json::from_slice(body).map_err(|cause| protocol(context.provider, cause))?;
    if let Some(error) = whole.get("error") {
        return Err(error_in_answer(error, context.provider));
    }
    let mut usage = usage_wire(&whole).as_ref().and_then(UsageWire::to_usage);
    let mut vectors = Vec::new();
    if let Some(Value::Array(predictions)) = whole.get_mut("predictions").map(Value::take) {
        for mut prediction in predictions {
            let tokens = prediction.pointer("/embeddings/statistics/token_count").and_then(Value::as_f64);
            if let Some(tokens) = tokens.filter(|tokens| *tokens >= 0.0) {
                let usage: &mut Usage = usage.get_or_insert_default();
                usage.input = usage.input.saturating_add(tokens as u64);
            }
            vectors.push(prediction.pointer_mut("/embeddings/values").map(Value::take));
        }
    } else if let Some(Value::Array(embeddings)) = whole.get_mut("embeddings").map(Value::take) {
        vectors = embeddings.into_iter().map(|mut one| one.get_mut("values").map(Value::take)).collect();
    } else if let Some(one) = whole.get_mut("embedding") {
        vectors.push(one.get_mut("values").map(Value::take));
    }
    let vectors: Option<Vec<Value>> = vectors.into_iter().collect();
    let vectors = vectors.filter(|vectors| !vectors.is_empty());
    let vectors = vectors.ok_or_else(|| protocol(context.provider, "no embeddings in the answer"))?;
    let data = vectors.into_iter().enumerate();
    let data = data.map(|(index, vector)| json!({"object": "embedding", "index": index, "embedding": vector}));
    let tokens = usage.unwrap_or_default().prompt_tokens();
    let made = json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": text(&whole, "modelVersion").unwrap_or(&context.model),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    });
    Ok(Answer { body: Bytes::from(made.to_string()), usage, bill: Bill::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::tests_support::context;

    fn asked(body: &Value) -> Result<Asked> {
        read(&Body::scan(Bytes::from(body.to_string())).unwrap(), "gemini")
    }

    #[test]
    fn texts_are_asked_for_in_each_form() {
        let body = json!({"model": "m", "input": ["a", "b"], "dimensions": 8, "task_type": "CLUSTERING",
            "encoding_format": "base64", "user": ""});
        let asked = asked(&body).unwrap();
        let one = |text: &str| {
            json!({"model": "models/e", "content": {"parts": [{"text": text}]}, "outputDimensionality": 8,
                "taskType": "CLUSTERING"})
        };
        assert_eq!(asked.batch("e"), json!({"requests": [one("a"), one("b")]}));
        let instance = |text: &str| json!({"content": text, "task_type": "CLUSTERING"});
        let parameters = json!({"outputDimensionality": 8});
        assert_eq!(asked.instances(), json!({"instances": [instance("a"), instance("b")], "parameters": parameters}));
        assert_eq!(asked.single("vertex").unwrap_err().param(), Some("input"));
        assert!(asked.warnings.into_names().is_empty());
    }

    #[test]
    fn tokens_cannot_be_embedded() {
        for input in [json!([1, 2]), json!([[1], [2]])] {
            assert_eq!(asked(&json!({"model": "m", "input": input})).unwrap_err().param(), Some("input"));
        }
    }

    #[test]
    fn every_form_of_answer_becomes_openais() {
        let vector = json!([0.5, -1.0]);
        for (answered, tokens) in [
            (json!({"embeddings": [{"values": vector}], "usageMetadata": {"promptTokenCount": 7}}), 7),
            (
                json!({"embedding": {"values": vector}, "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7}}),
                7,
            ),
            (json!({"predictions": [{"embeddings": {"values": vector, "statistics": {"token_count": 4.0}}}]}), 4),
        ] {
            let answer = answer(answered.to_string().as_bytes(), &context("gemini")).unwrap();
            assert_eq!(
                serde_json::from_slice::<Value>(&answer.body).unwrap(),
                json!({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": vector}],
                    "model": "model", "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
            );
            assert_eq!(answer.usage.unwrap().input, tokens);
        }
        assert!(answer(b"{}", &context("gemini")).is_err());
    }
}
