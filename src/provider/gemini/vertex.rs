//! Vertex AI: the same API for Google's models under a project and a location, and Anthropic's Messages API for Claude.
//!
//! The key is an access token. Exchanging a service account for one needs a network, which dialects do not have, and is
//! refused. The base URL decides the location unless `options.location` does: the constant one serves `global`, any other
//! location is `https://<location>-aiplatform.googleapis.com`.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, Method};
use serde_json::{Value, json};

use super::{GenerateContent, embeddings, request, response, stream};
use crate::api::scan::Body;
use crate::error::{Error, Result};
use crate::provider::anthropic::ANTHROPIC;
use crate::provider::{
    Answer, AnswerContext, ChatCall, Dialect, Outgoing, Provider, ProviderMessage, StreamTranslator, Target,
    secret_header,
};

/// Google Cloud's Vertex AI.
pub static VERTEX: Provider = Provider {
    name: "vertex",
    base_url: "https://aiplatform.googleapis.com",
    key_variable: "VERTEX_ACCESS_TOKEN",
    // Its models are those of others: what a name begins with does not make it Vertex's.
    prefixes: &[],
    keyless: false,
    dialect: &Vertex,
};

/// Vertex AI's address and credential over two APIs.
#[derive(Debug)]
pub struct Vertex;

/// Whether a model is served through Anthropic's API.
fn is_claude(model: &str) -> bool {
    model.starts_with("claude-")
}

impl Dialect for Vertex {
    fn chat(&self, call: &ChatCall<'_>, target: &Target<'_>) -> Result<Outgoing> {
        if is_claude(target.model) {
            return claude(call, target);
        }
        let request::Translated { body, warnings } =
            request::translate(call.request()?, target.model, target.provider.name)?;
        let body = serde_json::to_vec(&body).map_err(Error::internal)?;
        let verb = if call.head.stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        outgoing(target, "google", verb, body.into(), warnings.into_names())
    }

    fn answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        match is_claude(&context.model) {
            true => ANTHROPIC.dialect.answer(body, context),
            false => response::answer(&body, context),
        }
    }

    fn stream(&self, context: AnswerContext) -> Box<dyn StreamTranslator> {
        match is_claude(&context.model) {
            true => ANTHROPIC.dialect.stream(context),
            false => Box::new(stream::Translator::new(context)),
        }
    }

    fn read_error(&self, body: &[u8]) -> ProviderMessage {
        let anthropics = serde_json::from_slice::<Value>(body)
            .is_ok_and(|value| value.get("type").and_then(Value::as_str) == Some("error"));
        if anthropics { ANTHROPIC.dialect.read_error(body) } else { GenerateContent.read_error(body) }
    }

    fn probe(&self, target: &Target<'_>) -> Result<Outgoing> {
        let path = format!("{}/cachedContents?pageSize=1", Place::of(target)?.path());
        Ok(Outgoing {
            method: Method::GET,
            path: target.endpoint.join(&path),
            headers: headers(target)?,
            body: Bytes::new(),
            warnings: Vec::new(),
        })
    }

    fn embeddings(&self, body: &Body, target: &Target<'_>) -> Result<Outgoing> {
        let asked = embeddings::read(body, target.provider.name)?;
        // Since its second version Google's own model speaks another API than its predecessors.
        let (verb, sent) = match target.model.starts_with("gemini-embedding-2") {
            true => ("embedContent", asked.single(target.provider.name)?),
            false => ("predict", asked.instances()),
        };
        outgoing(target, "google", verb, sent.to_string().into(), asked.warnings.into_names())
    }

    fn embeddings_answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        embeddings::answer(&body, context)
    }
}

/// Anthropic's body with the model in the path and the version in the body. What Anthropic's own address would need is
/// left out.
fn claude(call: &ChatCall<'_>, target: &Target<'_>) -> Result<Outgoing> {
    let made = ANTHROPIC.dialect.chat(call, target)?;
    let body = Body::scan(made.body)?;
    let mut edit = body.edit();
    edit.remove("model").set("anthropic_version", json!("vertex-2023-10-16").to_string());
    let verb = if call.head.stream { "streamRawPredict" } else { "rawPredict" };
    let mut sent = outgoing(target, "anthropic", verb, edit.apply(), made.warnings)?;
    let beta = HeaderName::from_static("anthropic-beta");
    sent.headers.extend(made.headers.into_iter().filter(|(name, _)| *name == beta));
    Ok(sent)
}

fn outgoing(target: &Target<'_>, publisher: &str, verb: &str, body: Bytes, warnings: Vec<String>) -> Result<Outgoing> {
    let model = super::path_segment(target.model);
    let path = format!("{}/publishers/{publisher}/models/{model}:{verb}", Place::of(target)?.path());
    Ok(Outgoing { method: Method::POST, path: target.endpoint.join(&path), headers: headers(target)?, body, warnings })
}

fn headers(target: &Target<'_>) -> Result<Vec<(HeaderName, http::HeaderValue)>> {
    Ok(vec![(AUTHORIZATION, secret_header("Bearer ", target.key, target.provider.name)?)])
}

/// Where a request is served.
struct Place<'a> {
    project: &'a str,
    location: &'a str,
}

impl<'a> Place<'a> {
    fn of(target: &Target<'a>) -> Result<Self> {
        if target.options.get("service_account").is_some_and(|value| !value.is_null()) {
            let message = "The provider 'vertex' can't exchange 'options.service_account' for an access token: give an \
                           access token as the api_key instead.";
            return Err(Error::invalid("options.service_account", message));
        }
        let host = target.endpoint.host.as_str();
        let of_host = host.strip_suffix("aiplatform.googleapis.com").and_then(|rest| rest.strip_suffix('-'));
        let location = option(target, "location")?.or(of_host).unwrap_or("global");
        let elsewhere = host == "aiplatform.googleapis.com" && location != "global";
        if elsewhere || of_host.is_some_and(|of_host| of_host != location) {
            let needed = match location {
                "global" => "https://aiplatform.googleapis.com".to_owned(),
                _ => format!("https://{location}-aiplatform.googleapis.com"),
            };
            let message = format!("The location '{location}' of 'options.location' needs the base_url {needed}.");
            return Err(Error::invalid("options.location", message));
        }
        let project = option(target, "project")?.ok_or_else(|| {
            Error::invalid("options.project", "The provider 'vertex' needs 'options.project', the id of the project.")
        })?;
        Ok(Self { project, location })
    }

    fn path(&self) -> String {
        format!("/v1/projects/{}/locations/{}", self.project, self.location)
    }
}

/// An option that fits into a path: the characters that ids of projects and locations are made of.
fn option<'a>(target: &Target<'a>, name: &str) -> Result<Option<&'a str>> {
    let Some(value) = target.options.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let fit = |text: &&str| {
        let sane = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | ':');
        !text.is_empty() && text.chars().all(sane) && !text.contains("..")
    };
    let param = format!("options.{name}");
    let message = format!("Invalid value for '{param}': expected an id of letters, digits and '-'.");
    value.as_str().filter(fit).map(Some).ok_or_else(|| Error::invalid(param, message))
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::api::chat::ChatRequest;
    use crate::api::head::ChatHead;
    use crate::config::Secret;
    use crate::provider::Endpoint;
    use crate::provider::tests_support::context;

    fn send(base_url: &str, options: &Value, model: &str, stream: bool) -> Result<Outgoing> {
        let talk = json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}], "user": ""});
        let body = Body::scan(Bytes::from(talk.to_string())).unwrap();
        let head = ChatHead::read(&body).unwrap();
        let (endpoint, key) = (Endpoint::parse(base_url).unwrap(), Secret::new("token"));
        let options: Map<String, Value> = options.as_object().unwrap().clone();
        let now = jiff::Timestamp::UNIX_EPOCH;
        let target = Target { provider: &VERTEX, endpoint: &endpoint, key: &key, options: &options, model, now };
        Vertex.chat(&ChatCall::new(&body, &head), &target)
    }

    #[test]
    fn project_and_location_are_in_the_path_and_the_token_in_the_header() {
        let sent = send(VERTEX.base_url, &json!({"project": "p-1"}), "gemini-2.5-flash", false).unwrap();
        let path = "/v1/projects/p-1/locations/global/publishers/google/models/gemini-2.5-flash:generateContent";
        assert_eq!(sent.path, path);
        assert_eq!((sent.headers[0].1.to_str().unwrap(), sent.headers[0].1.is_sensitive()), ("Bearer token", true));
        let region = "https://europe-west4-aiplatform.googleapis.com";
        let sent = send(region, &json!({"project": "p"}), "gemini-2.5-flash", true).unwrap();
        let path = "/v1/projects/p/locations/europe-west4/publishers/google/models/gemini-2.5-flash:streamGenerateContent?alt=sse";
        assert_eq!(sent.path, path);
    }

    #[test]
    fn what_is_missing_or_can_not_be_is_named() {
        let refused = |options: Value| {
            let error = send(VERTEX.base_url, &options, "gemini-2.5-flash", false).err().unwrap();
            error.param().unwrap().to_owned()
        };
        assert_eq!(refused(json!({})), "options.project");
        assert_eq!(refused(json!({"project": "a/b"})), "options.project");
        assert_eq!(refused(json!({"project": "p", "location": "us-east1"})), "options.location");
        assert_eq!(refused(json!({"project": "p", "service_account": "{}"})), "options.service_account");
    }

    #[test]
    fn claude_gets_anthropics_body_at_its_own_path() {
        let sent = send(VERTEX.base_url, &json!({"project": "p"}), "claude-haiku-4-5", true).unwrap();
        let path = "/v1/projects/p/locations/global/publishers/anthropic/models/claude-haiku-4-5:streamRawPredict";
        assert_eq!(sent.path, path);
        let body: Value = serde_json::from_slice(&sent.body).unwrap();
        assert_eq!((&body["anthropic_version"], &body["stream"]), (&json!("vertex-2023-10-16"), &json!(true)));
        assert!(body.get("model").is_none() && body["messages"].is_array());
        assert_eq!(sent.headers.len(), 1);
        let answered = json!({"id": "m", "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"});
        let claude = AnswerContext { model: "claude-haiku-4-5".to_owned(), ..context("vertex") };
        let answer = Vertex.answer(Bytes::from(answered.to_string()), &claude).unwrap();
        let answer: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer["choices"][0]["message"]["content"], "Hi");
    }

    #[test]
    fn calls_and_results_go_without_the_ids_that_the_api_does_not_know() {
        let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let given = json!([{"executableCode": {"code": "1"}}, {"functionCall": {"name": "f", "args": {}}}]);
        let messages = json!([
            {"role": "user", "content": "q"},
            {"role": "assistant", "tool_calls": [call], "provider_specific_fields": {"content_parts": given}},
            {"role": "tool", "tool_call_id": "1", "content": "a"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "b"},
        ]);
        let body = json!({"model": "m", "messages": messages}).to_string();
        let request = ChatRequest::parse(&Body::scan(Bytes::from(body)).unwrap()).unwrap();
        let sent = |provider| Value::from(request::translate(&request, "gemini-2.5-pro", provider).unwrap().body);
        assert!(!sent("vertex").to_string().contains("\"id\""));
        let parts = &sent("vertex")["contents"][1]["parts"];
        assert_eq!(*parts, given);
        assert_eq!(sent("gemini").to_string().matches("\"id\":\"1\"").count(), 4);
    }

    #[test]
    fn errors_are_read_in_the_words_of_both() {
        let message = |body: Value| Vertex.read_error(body.to_string().as_bytes()).message.unwrap();
        assert_eq!(message(json!({"type": "error", "error": {"type": "overloaded_error", "message": "a"}})), "a");
        assert_eq!(message(json!({"error": {"code": 403, "message": "b", "status": "PERMISSION_DENIED"}})), "b");
    }
}
