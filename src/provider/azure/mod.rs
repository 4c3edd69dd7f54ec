//! Azure OpenAI (learn.microsoft.com, "Azure OpenAI REST API reference"): OpenAI's dialect at other paths and with another
//! header. Bytes are forwarded as OpenAI's dialect forwards them, `content_filter_results` and `prompt_filter_results` too.
//!
//! A resource has its own address, so a credential must name it (`https://{resource}.openai.azure.com`). The upstream name of
//! a model is the name of its deployment. `options.api_version` says which version of the API is spoken: a dated one, from
//! 2024-09-01-preview on, because a stream is asked for its usage; or `v1`, the API without versions, which a base URL that
//! ends in `/openai/v1` means, too.

#[cfg(test)]
mod corpus_test;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, Method};
use serde_json::{Map, Value};

use super::openai::OPENAI;
use super::{
    Answer, AnswerContext, ChatCall, Dialect, Outgoing, Provider, ProviderMessage, StreamTranslator, Target,
    secret_header,
};
use crate::api::rope::Rope;
use crate::api::scan::Body;
use crate::error::{Error, ErrorKind, Result};

/// Azure OpenAI.
pub static AZURE: Provider = Provider {
    name: "azure",
    // Every resource has its own.
    base_url: "",
    key_variable: "AZURE_OPENAI_API_KEY",
    prefixes: &[],
    keyless: false,
    dialect: &Azure,
};

/// The newest dated version that is no preview.
const API_VERSION: &str = "2024-10-21";

/// Azure OpenAI's API.
#[derive(Debug)]
pub struct Azure;

impl Dialect for Azure {
    fn chat(&self, call: &ChatCall<'_>, target: &Target<'_>) -> Result<Outgoing> {
        readdress(OPENAI.dialect.chat(call, target)?, target, &deployment(target, "/chat/completions")?)
    }

    fn answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        OPENAI.dialect.answer(body, context)
    }

    fn stream(&self, context: AnswerContext) -> Box<dyn StreamTranslator> {
        OPENAI.dialect.stream(context)
    }

    fn read_error(&self, body: &[u8]) -> ProviderMessage {
        let mut said = OPENAI.dialect.read_error(body);
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        if let Some(inner) = value.pointer("/error/innererror") {
            said.message = explained(said.message, inner);
        }
        said
    }

    fn probe(&self, target: &Target<'_>) -> Result<Outgoing> {
        let path = match api_version(target)? {
            None => "/openai/v1/models".to_owned(),
            Some(version) => format!("/openai/models?api-version={version}"),
        };
        let probe = Outgoing {
            method: Method::GET,
            path: String::new(),
            headers: vec![],
            body: Rope::default(),
            warnings: vec![],
        };
        readdress(probe, target, &path)
    }

    fn embeddings(&self, body: &Body, target: &Target<'_>) -> Result<Outgoing> {
        readdress(OPENAI.dialect.embeddings(body, target)?, target, &deployment(target, "/embeddings")?)
    }

    fn embeddings_answer(&self, body: Bytes, context: &AnswerContext) -> Result<Answer> {
        OPENAI.dialect.embeddings_answer(body, context)
    }
}

/// The same request under Azure's path and with Azure's header for the key. A token of Microsoft Entra has the form of a
/// JWT, which no key has, and travels as a bearer token.
fn readdress(outgoing: Outgoing, target: &Target<'_>, path: &str) -> Result<Outgoing> {
    let key = target.key.expose();
    let is_token = key.starts_with("eyJ") && key.split('.').count() == 3;
    let (name, prefix) = if is_token { (AUTHORIZATION, "Bearer ") } else { (HeaderName::from_static("api-key"), "") };
    let headers = vec![(name, secret_header(prefix, target.key, target.provider.name)?)];
    let base = &target.endpoint.path;
    let resource = base.strip_suffix(V1).or_else(|| base.strip_suffix("/openai")).unwrap_or(base);
    Ok(Outgoing { path: format!("{resource}{path}"), headers, ..outgoing })
}

/// The path of the API without versions, with which SDKs write a resource's base URL.
const V1: &str = "/openai/v1";

/// The path of a deployment's operation. Its name becomes part of a path and a query follows it, so nothing but what a
/// deployment can be called is let through.
fn deployment(target: &Target<'_>, operation: &str) -> Result<String> {
    let Some(version) = api_version(target)? else { return Ok(format!("{V1}{operation}")) };
    if !is_plain(target.model) {
        let message = "The provider 'azure' takes the name of a deployment: letters, digits, '-', '_' and '.'.";
        return Err(Error::new(ErrorKind::UnsupportedParameter, message).with_param("model"));
    }
    Ok(format!("/openai/deployments/{}{operation}?api-version={version}", target.model))
}

/// The dated version; `None` for the API without versions.
fn api_version<'a>(target: &Target<'a>) -> Result<Option<&'a str>> {
    if target.endpoint.path.ends_with(V1) {
        return Ok(None);
    }
    match target.options.get("api_version") {
        None | Some(Value::Null) => Ok(Some(API_VERSION)),
        Some(Value::String(version)) if version == "v1" => Ok(None),
        Some(Value::String(version)) if is_plain(version) => Ok(Some(version)),
        Some(_) => {
            let message = "The credential's option 'api_version' is not a version such as 2024-10-21 or v1.";
            Err(Error::new(ErrorKind::ProviderKeyInvalid, message).with_provider(target.provider.name))
        }
    }
}

fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty() && text.bytes().all(plain) && text.bytes().any(|byte| byte != b'.')
}

/// The message with the filters that were triggered, which only the inner error names.
fn explained(message: Option<String>, inner: &Value) -> Option<String> {
    let message = message.or_else(|| Some(inner.get("message")?.as_str()?.to_owned()));
    let result = inner.get("content_filter_result").or_else(|| inner.get("content_filter_results"));
    let triggered = |verdict: &Value| {
        ["filtered", "detected"].iter().any(|mark| verdict.get(mark).and_then(Value::as_bool) == Some(true))
    };
    let members = result.and_then(Value::as_object).into_iter().flat_map(Map::iter);
    let filters: Vec<&str> = members.filter(|(_, verdict)| triggered(verdict)).map(|(name, _)| name.as_str()).collect();
    match message {
        Some(message) if !filters.is_empty() => Some(format!("{message} (triggered: {})", filters.join(", "))),
        message => message,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::head::ChatHead;
    use crate::config::Secret;
    use crate::provider::Endpoint;

    /// What is sent for this deployment and these options: a chat, embeddings and a probe.
    fn send(model: &str, options: &Value) -> [Result<Outgoing>; 3] {
        send_to("https://mine.openai.azure.com/", "azure-key", model, options)
    }

    fn send_to(base_url: &str, key: &str, model: &str, options: &Value) -> [Result<Outgoing>; 3] {
        let bytes = br#"{"model":"alias","messages":[{"role":"user","content":"q"}],"input":"q"}"#;
        let body = Body::scan(Bytes::from_static(bytes)).unwrap();
        let head = ChatHead::read(&body).unwrap();
        let endpoint = Endpoint::parse(base_url).unwrap();
        let (key, options) = (Secret::new(key), options.as_object().unwrap().clone());
        let now = jiff::Timestamp::UNIX_EPOCH;
        let target = Target { provider: &AZURE, endpoint: &endpoint, key: &key, options: &options, model, now };
        let call = ChatCall::new(&body, &head);
        [Azure.chat(&call, &target), Azure.embeddings(&body, &target), Azure.probe(&target)]
    }

    #[test]
    fn a_deployment_is_part_of_the_path_and_the_key_has_its_own_header() {
        let sent = send("gpt-4o_mini", &json!({})).map(Result::unwrap);
        let paths = sent.each_ref().map(|outgoing| outgoing.path.as_str());
        assert_eq!(
            paths,
            [
                "/openai/deployments/gpt-4o_mini/chat/completions?api-version=2024-10-21",
                "/openai/deployments/gpt-4o_mini/embeddings?api-version=2024-10-21",
                "/openai/models?api-version=2024-10-21",
            ]
        );
        for Outgoing { headers, .. } in &sent {
            let [(name, value)] = headers.as_slice() else { panic!("one header") };
            assert_eq!((name.as_str(), value.to_str().unwrap()), ("api-key", "azure-key"));
            assert!(value.is_sensitive());
        }
        let body: Value = serde_json::from_slice(&sent[0].body.whole()).unwrap();
        assert_eq!(body["model"], "gpt-4o_mini");
    }

    #[test]
    fn the_version_is_the_credentials() {
        let path = |version: &str| send("d", &json!({"api_version": version}))[0].as_ref().unwrap().path.clone();
        let dated = path("2025-04-01-preview");
        assert_eq!(dated, "/openai/deployments/d/chat/completions?api-version=2025-04-01-preview");
        assert_eq!(path("v1"), "/openai/v1/chat/completions");
        assert_eq!(send("d", &json!({"api_version": "v1"}))[2].as_ref().unwrap().path, "/openai/v1/models");
    }

    #[test]
    fn a_base_url_may_say_the_version_and_a_token_is_no_key() {
        let sent = |base_url: &str, key: &str| send_to(base_url, key, "d", &json!({})).map(Result::unwrap);
        let [chat, _, probe] = sent("https://mine.openai.azure.com/openai/v1/", "k");
        assert_eq!((chat.path.as_str(), probe.path.as_str()), ("/openai/v1/chat/completions", "/openai/v1/models"));
        let [chat, ..] = sent("https://gate.example/mine/openai", "eyJhbGciOi.eyJhdWQiOi.c2ln");
        assert_eq!(chat.path, "/mine/openai/deployments/d/chat/completions?api-version=2024-10-21");
        let [(name, value)] = chat.headers.as_slice() else { panic!("one header") };
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer eyJhbGciOi.eyJhdWQiOi.c2ln"));
        assert!(value.is_sensitive());
    }

    #[test]
    fn nothing_can_be_smuggled_into_the_path() {
        for bad in ["a/b", "..", "a?x=1", "a#b", "a%2fb", ""] {
            assert_eq!(send(bad, &json!({}))[0].as_ref().err().unwrap().param(), Some("model"), "{bad}");
        }
        for bad in [json!("2024&x=1"), json!(7), json!("")] {
            let error = send("d", &json!({"api_version": bad}))[2].as_ref().err().unwrap().kind();
            assert_eq!(error, ErrorKind::ProviderKeyInvalid);
        }
    }

    #[test]
    fn a_blocked_prompt_says_what_blocked_it() {
        let filters = json!({"hate": {"filtered": true, "severity": "high"}, "sexual": {"filtered": false},
            "jailbreak": {"filtered": false, "detected": true}});
        let inner = json!({"code": "ResponsibleAIPolicyViolation", "content_filter_result": filters});
        let body = json!({"error": {"message": "Filtered.", "type": null, "param": "prompt", "code": "content_filter",
            "status": 400, "innererror": inner}});
        let said = Azure.read_error(body.to_string().as_bytes());
        assert_eq!(said.message.as_deref(), Some("Filtered. (triggered: hate, jailbreak)"));
        assert_eq!((said.code.as_deref(), said.param.as_deref()), (Some("content_filter"), Some("prompt")));
        let said = Azure.read_error(br#"{"error":{"code":"401","message":"Access denied"}}"#);
        assert_eq!((said.code.as_deref(), said.message.as_deref()), (Some("401"), Some("Access denied")));
    }
}
