//! Whose request it is: a Bedrock API key as bearer token, or an AWS access key that signs.
//!
//! `api_key` wins. Otherwise `options` must hold `access_key_id` and `secret_access_key`, and `session_token` where the key is
//! temporary. The region of a signature is the one in the host's name; `options.region` names it for hosts that do not (a
//! proxy, a private name). It never moves a request to another region: the credential's `base_url` does that, and a region
//! that contradicts the host is refused rather than served elsewhere than was asked.

use http::{HeaderName, HeaderValue, Method, header};

use super::sigv4::{Identity, Signable, sign};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::{Target, secret_header};

/// The headers that authenticate this request.
pub(super) fn headers(
    target: &Target<'_>,
    method: &Method,
    path: &str,
    body: &[u8],
) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let region = region(target)?;
    if !target.key.expose().is_empty() {
        let bearer = secret_header("Bearer ", target.key, target.provider.name)?;
        return Ok(vec![(header::AUTHORIZATION, bearer)]);
    }
    let missing = |name: &str| refuse(target, &format!("has neither an 'api_key' nor an 'options.{name}'"));
    let identity = Identity {
        access_key_id: option(target, "access_key_id").ok_or_else(|| missing("access_key_id"))?,
        secret_access_key: option(target, "secret_access_key").ok_or_else(|| missing("secret_access_key"))?,
        session_token: option(target, "session_token"),
        region,
        service: "bedrock",
    };
    let host = target.endpoint.authority();
    sign(&Signable { method, host: &host, path, body, now: target.now }, &identity)
        .map_err(|_| refuse(target, "is not fit for a header"))
}

/// The region that serves.
fn region<'a>(target: &'a Target<'_>) -> Result<&'a str> {
    let wanted = option(target, "region");
    match (region_of(&target.endpoint.host), wanted) {
        (Some(host), Some(wanted)) if host != wanted => {
            let why = format!("names the region '{wanted}' but a 'base_url' in '{host}'");
            Err(refuse(target, &why))
        }
        (Some(region), _) | (None, Some(region)) => Ok(region),
        (None, None) => Ok("us-east-1"),
    }
}

/// `bedrock-runtime.<region>.amazonaws.com`, also with FIPS and behind a VPC endpoint.
fn region_of(host: &str) -> Option<&str> {
    let mut labels = host.split('.');
    labels.find(|label| matches!(*label, "bedrock-runtime" | "bedrock-runtime-fips"))?;
    let region = labels.next()?;
    host.contains(".amazonaws.com").then_some(region)
}

fn option<'a>(target: &'a Target<'_>, name: &str) -> Option<&'a str> {
    target.options.get(name)?.as_str().filter(|value| !value.is_empty())
}

fn refuse(target: &Target<'_>, why: &str) -> Error {
    let name = target.provider.name;
    Error::new(ErrorKind::ProviderKeyInvalid, format!("The credential that is stored for provider '{name}' {why}."))
        .with_provider(name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::config::Secret;
    use crate::provider::Endpoint;
    use crate::provider::bedrock::BEDROCK;

    const PATH: &str = "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse";

    fn run(base_url: &str, key: &str, options: &Value) -> Result<Vec<(HeaderName, HeaderValue)>> {
        let (endpoint, key) = (Endpoint::parse(base_url).unwrap(), Secret::new(key));
        let options: &Map<String, Value> = options.as_object().unwrap();
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        let target = Target { provider: &BEDROCK, endpoint: &endpoint, key: &key, options, model: "m", now };
        headers(&target, &Method::POST, PATH, b"{}")
    }

    fn authorization(headers: &[(HeaderName, HeaderValue)]) -> &str {
        let (name, value) = headers.last().unwrap();
        assert!(*name == header::AUTHORIZATION && value.is_sensitive());
        value.to_str().unwrap()
    }

    fn keys() -> Value {
        json!({"access_key_id": "AKIDEXAMPLE", "secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"})
    }

    #[test]
    fn a_bedrock_api_key_is_a_bearer_token() {
        let headers = run(BEDROCK.base_url, "ABSK1", &json!({})).unwrap();
        assert_eq!((authorization(&headers), headers.len()), ("Bearer ABSK1", 1));
    }

    #[test]
    fn an_access_key_signs_as_awss_own_library_does() {
        // Both signatures are botocore's, for the same request at the same time.
        let headers = run(BEDROCK.base_url, "", &keys()).unwrap();
        let signature = "3854dce68d92abe3e73d93937ea1f5169266acd382b9b7849b377a48364754c5";
        assert!(authorization(&headers).ends_with(signature));
        let mut temporary = keys();
        temporary["session_token"] = json!("token/with+chars==");
        let headers = run(BEDROCK.base_url, "", &temporary).unwrap();
        let signature = "07f13a589d827f6bb6d7c72e4516a56fe81fc119bf68dbdd836d052321f10960";
        assert!(authorization(&headers).ends_with(signature));
        assert_eq!(headers[1].0, "x-amz-security-token");
        assert!(headers[1].1.is_sensitive());
    }

    #[test]
    fn the_host_says_the_region_and_a_contradiction_is_refused() {
        let scope = |base_url: &str, region: Option<&str>| {
            let mut options = keys();
            options["region"] = json!(region);
            run(base_url, "", &options).map(|headers| authorization(&headers).split('/').nth(2).unwrap().to_owned())
        };
        let runtime = |region: &str| format!("https://bedrock-runtime.{region}.amazonaws.com");
        assert_eq!(scope(&runtime("eu-west-1"), None).unwrap(), "eu-west-1");
        assert_eq!(scope(&runtime("cn-north-1").replace(".com", ".com.cn"), None).unwrap(), "cn-north-1");
        let endpoint = "https://vpce-1.bedrock-runtime.eu-north-1.vpce.amazonaws.com";
        assert_eq!(scope(endpoint, None).unwrap(), "eu-north-1");
        assert_eq!(scope("http://127.0.0.1:9000", Some("sa-east-1")).unwrap(), "sa-east-1");
        assert_eq!(scope("http://127.0.0.1:9000", None).unwrap(), "us-east-1");
        let error = scope(&runtime("us-east-1"), Some("eu-west-1")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ProviderKeyInvalid);
        assert!(error.message().contains("'eu-west-1'") && error.message().contains("'us-east-1'"));
    }

    #[test]
    fn half_a_credential_is_refused_without_its_text() {
        let error = run(BEDROCK.base_url, "", &json!({"access_key_id": "AKID"})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ProviderKeyInvalid);
        assert!(error.message().contains("secret_access_key"));
        let error = run(BEDROCK.base_url, "", &json!({"access_key_id": "A\nB", "secret_access_key": "s"})).unwrap_err();
        assert!(error.kind() == ErrorKind::ProviderKeyInvalid && !error.message().contains("A\nB"));
    }
}
