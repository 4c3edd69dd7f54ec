//! Vertex AI: the same API for Google's models under a project and a location, and Anthropic's Messages API for Claude.
//!
//! The key is an access token, or `options.service_account` is the JSON of a service account's key, as Google gives it out, for
//! which the gateway fetches tokens; a key wins. The base URL decides the location unless `options.location` does: the constant one serves `global`, any other
//! location is `https://<location>-aiplatform.googleapis.com`.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, Method};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{GenerateContent, embeddings, request, response, stream};
use crate::api::rope::Rope;
use crate::api::scan::Body;
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::provider::anthropic::ANTHROPIC;
use crate::provider::{
    Answer, AnswerContext, ChatCall, Dialect, Endpoint, Grant, Outgoing, Provider, ProviderMessage, StreamTranslator,
    Target, secret_header,
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
        outgoing(target, "google", verb, body, warnings.into_names())
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
            body: Rope::default(),
            warnings: Vec::new(),
        })
    }

    fn grant(&self, key: &Secret, options: &Map<String, Value>) -> Result<Option<Grant>> {
        if !key.expose().is_empty() {
            return Ok(None);
        }
        account(options)?.map(Account::into_grant).transpose()
    }

    fn embeddings(&self, body: &Body, target: &Target<'_>) -> Result<Outgoing> {
        let asked = embeddings::read(body, target.provider.name)?;
        // Since its second version Google's own model speaks another API than its predecessors.
        let (verb, sent) = match target.model.starts_with("gemini-embedding-2") {
            true => ("embedContent", asked.single(target.provider.name)?),
            false => ("predict", asked.instances()),
        };
        outgoing(target, "google", verb, sent.to_string(), asked.warnings.into_names())
    }

    fn embeddings_answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        embeddings::answer(&body, context)
    }
}

/// Anthropic's body with the model in the path and the version in the body. What Anthropic's own address would need is
/// left out.
fn claude(call: &ChatCall<'_>, target: &Target<'_>) -> Result<Outgoing> {
    let made = ANTHROPIC.dialect.chat(call, target)?;
    let body = Body::scan(made.body.whole())?;
    let mut edit = body.edit();
    edit.remove("model").set("anthropic_version", json!("vertex-2023-10-16").to_string());
    let verb = if call.head.stream { "streamRawPredict" } else { "rawPredict" };
    let mut sent = outgoing(target, "anthropic", verb, edit.rope(), made.warnings)?;
    let beta = HeaderName::from_static("anthropic-beta");
    sent.headers.extend(made.headers.into_iter().filter(|(name, _)| *name == beta));
    Ok(sent)
}

fn outgoing(
    target: &Target<'_>,
    publisher: &str,
    verb: &str,
    body: impl Into<Rope>,
    warnings: Vec<String>,
) -> Result<Outgoing> {
    let model = super::path_segment(target.model);
    let path = format!("{}/publishers/{publisher}/models/{model}:{verb}", Place::of(target)?.path());
    Ok(Outgoing {
        method: Method::POST,
        path: target.endpoint.join(&path),
        headers: headers(target)?,
        body: body.into(),
        warnings,
    })
}

fn headers(target: &Target<'_>) -> Result<Vec<(HeaderName, http::HeaderValue)>> {
    // The token of a service account is added when it is there.
    if target.key.expose().is_empty() && account(target.options)?.is_some() {
        return Ok(Vec::new());
    }
    Ok(vec![(AUTHORIZATION, secret_header("Bearer ", target.key, target.provider.name)?)])
}

/// The key of a service account, as far as it is read.
#[derive(Deserialize)]
struct Account {
    project_id: Option<String>,
    private_key_id: Option<String>,
    private_key: String,
    client_email: String,
    token_uri: Option<String>,
}

/// The service account, as an object or as the text of the file.
fn account(options: &Map<String, Value>) -> Result<Option<Account>> {
    let param = "options.service_account";
    // The cause is left out: it could quote the key.
    let refuse = || {
        let message = format!("Invalid value for '{param}': expected the JSON of a service account's key.");
        Error::invalid(param, message)
    };
    match options.get("service_account").filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(Value::String(text)) => serde_json::from_str(text).map(Some).map_err(|_| refuse()),
        Some(value) => Account::deserialize(value).map(Some).map_err(|_| refuse()),
    }
}

impl Account {
    fn into_grant(self) -> Result<Grant> {
        let audience = self.token_uri.unwrap_or_else(|| TOKEN_URI.to_owned());
        let endpoint = Endpoint::parse(&audience).map_err(|_| {
            let param = "options.service_account.token_uri";
            Error::invalid(param, format!("Invalid value for '{param}': expected a URL."))
        })?;
        let (issuer, key_id, private_key) = (self.client_email, self.private_key_id, Secret::new(self.private_key));
        Ok(Grant { endpoint, audience, issuer, key_id, private_key, scope: SCOPE })
    }
}

/// Where Google exchanges a service account's word for a token (developers.google.com, "Using OAuth 2.0 for Server to Server
/// Applications"), and what the token is for.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Where a request is served.
struct Place<'a> {
    project: Cow<'a, str>,
    location: &'a str,
}

impl<'a> Place<'a> {
    fn of(target: &Target<'a>) -> Result<Self> {
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
        let own = account(target.options)?.and_then(|account| account.project_id).filter(|id| fits(id));
        let project = option(target, "project")?.map(Cow::Borrowed).or(own.map(Cow::Owned)).ok_or_else(|| {
            Error::invalid("options.project", "The provider 'vertex' needs 'options.project', the id of the project.")
        })?;
        Ok(Self { project, location })
    }

    fn path(&self) -> String {
        format!("/v1/projects/{}/locations/{}", self.project, self.location)
    }
}

fn fits(text: &str) -> bool {
    let sane = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | ':');
    !text.is_empty() && text.chars().all(sane) && !text.contains("..")
}

/// An option that fits into a path: the characters that ids of projects and locations are made of.
fn option<'a>(target: &Target<'a>, name: &str) -> Result<Option<&'a str>> {
    let Some(value) = target.options.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    let param = format!("options.{name}");
    let message = format!("Invalid value for '{param}': expected an id of letters, digits and '-'.");
    value.as_str().filter(|text| fits(text)).map(Some).ok_or_else(|| Error::invalid(param, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::chat::ChatRequest;
    use crate::api::head::ChatHead;
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
        let body: Value = serde_json::from_slice(&sent.body.whole()).unwrap();
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
