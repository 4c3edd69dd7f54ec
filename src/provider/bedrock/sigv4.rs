//! AWS Signature Version 4 (docs.aws.amazon.com, "Create a signed AWS API request"): a request → the headers that sign it.
//!
//! Signed are `host`, `x-amz-date` and, where there is one, `x-amz-security-token`; the host must be the one that is sent.
//! Not here: where the credential comes from. Sans-I/O: the time comes in.

use hmac::{Hmac, Mac as _};
use http::{HeaderName, HeaderValue, Method, header};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// An AWS access key and where it is used.
#[derive(Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) access_key_id: &'a str,
    pub(super) secret_access_key: &'a str,
    pub(super) session_token: Option<&'a str>,
    pub(super) region: &'a str,
    /// The name under which the service signs: `bedrock`.
    pub(super) service: &'a str,
}

/// What is signed.
#[derive(Clone, Copy)]
pub(super) struct Signable<'a> {
    pub(super) method: &'a Method,
    /// The value of the `Host` header.
    pub(super) host: &'a str,
    /// Path and query as they are sent, percent-encoded once; the query's parameters in their order by name.
    pub(super) path: &'a str,
    pub(super) body: &'a [u8],
    pub(super) now: Timestamp,
}

/// The headers to send: date, token, signature. The last two are marked sensitive.
pub(super) fn sign(request: &Signable<'_>, identity: &Identity<'_>) -> Result<Vec<(HeaderName, HeaderValue)>> {
    let time = request.now.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
    let date = time.split('T').next().unwrap_or_default();
    let scope = format!("{date}/{}/{}/aws4_request", identity.region, identity.service);
    let signed =
        if identity.session_token.is_some() { "host;x-amz-date;x-amz-security-token" } else { "host;x-amz-date" };
    let canonical = Zeroizing::new(canonical(request, identity, &time, signed));
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let signature = hex(&*hmac(&*signing_key(identity, date)?, to_sign.as_bytes())?);
    let access_key_id = identity.access_key_id;
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={access_key_id}/{scope}, SignedHeaders={signed}, Signature={signature}");
    let mut headers = vec![(HeaderName::from_static("x-amz-date"), value(&time)?)];
    if let Some(token) = identity.session_token {
        headers.push((HeaderName::from_static("x-amz-security-token"), sensitive(token)?));
    }
    headers.push((header::AUTHORIZATION, sensitive(&authorization)?));
    Ok(headers)
}

fn canonical(request: &Signable<'_>, identity: &Identity<'_>, time: &str, signed: &str) -> String {
    let (path, query) = request.path.split_once('?').unwrap_or((request.path, ""));
    // Every service but S3 wants the path encoded a second time.
    let path = path.replace('%', "%25");
    let path = if path.is_empty() { "/" } else { &path };
    let token = identity.session_token.map(|token| format!("x-amz-security-token:{token}\n")).unwrap_or_default();
    let (method, host) = (request.method, request.host);
    let payload = hex(&Sha256::digest(request.body));
    format!("{method}\n{path}\n{query}\nhost:{host}\nx-amz-date:{time}\n{token}\n{signed}\n{payload}")
}

/// The key of a day, a region and a service.
fn signing_key(identity: &Identity<'_>, date: &str) -> Result<Zeroizing<[u8; 32]>> {
    let secret = Zeroizing::new(format!("AWS4{}", identity.secret_access_key));
    let mut key = hmac(secret.as_bytes(), date.as_bytes())?;
    for part in [identity.region, identity.service, "aws4_request"] {
        key = hmac(&*key, part.as_bytes())?;
    }
    Ok(key)
}

fn hmac(key: &[u8], data: &[u8]) -> Result<Zeroizing<[u8; 32]>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(Error::internal)?;
    mac.update(data);
    Ok(Zeroizing::new(mac.finalize().into_bytes().into()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The cause is left out of an error: it is about a secret.
fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| Error::internal("a signature that no header can hold"))
}

fn sensitive(text: &str) -> Result<HeaderValue> {
    let mut value = value(text)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example credential of AWS's documentation and test suite.
    const EXAMPLE: Identity<'_> = Identity {
        access_key_id: "AKIDEXAMPLE",
        secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        session_token: None,
        region: "us-east-1",
        service: "service",
    };

    fn signature(method: &Method, path: &str, identity: &Identity<'_>) -> String {
        let now = "2015-08-30T12:36:00Z".parse().unwrap();
        let request = Signable { method, host: "example.amazonaws.com", path, body: b"", now };
        let headers = sign(&request, identity).unwrap();
        assert_eq!(headers[0].1, "20150830T123600Z");
        let (name, authorization) = headers.last().unwrap();
        assert!(*name == header::AUTHORIZATION && authorization.is_sensitive());
        authorization.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_key_is_derived_as_in_awss_documentation() {
        let identity = Identity { service: "iam", ..EXAMPLE };
        let key = |date: &str| hex(&*signing_key(&identity, date).unwrap());
        assert_eq!(key("20120215"), "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d");
        assert_eq!(key("20150830"), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }

    #[test]
    fn requests_are_signed_as_in_awss_test_suite() {
        let expected = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
            SignedHeaders=host;x-amz-date, Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        assert_eq!(signature(&Method::GET, "/", &EXAMPLE), expected, "get-vanilla");
        let post = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        assert!(signature(&Method::POST, "/", &EXAMPLE).ends_with(post), "post-vanilla");
        let query = "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb";
        assert!(signature(&Method::GET, "/?Param1=value1", &EXAMPLE).ends_with(query), "get-vanilla-query");
    }
}
