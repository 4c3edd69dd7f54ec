//! What a key is fetched with where none is stored: a service account, whose signed word is exchanged for a token (RFC 7523).
//!
//! Only what is asked for, and the form of the question. Not here: the network and the waiting (`proxy`).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Endpoint, Outgoing, protocol};
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};

/// How long a signed word is good for, in seconds; what Google allows at most.
const LIFETIME: i64 = 3600;

/// A service account that asks for a token.
pub struct Grant {
    /// Where.
    pub endpoint: Endpoint,
    /// The same as it was written, which the word is signed for.
    pub audience: String,
    /// Who.
    pub issuer: String,
    /// Which of its keys, by the name in the header.
    pub key_id: Option<String>,
    /// The key as PEM.
    pub private_key: Secret,
    /// What for.
    pub scope: &'static str,
}

/// The address may be shown; the rest belongs to the account.
impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A token and for how many seconds it is good.
pub struct Granted {
    /// The token.
    pub token: Secret,
    /// Seconds.
    pub expires_in: u64,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

impl Grant {
    /// A name for this account with this key, from which neither can be told.
    pub fn fingerprint(&self) -> String {
        let parts = [&self.audience, &self.issuer, self.scope, self.private_key.expose()];
        URL_SAFE_NO_PAD.encode(Sha256::digest(parts.join("\n")))
    }

    /// The request for a token. Errors: `ProviderKeyInvalid` when the key is none.
    pub fn request(&self, provider: &'static str, now: Timestamp) -> Result<Outgoing> {
        // The cause is left out: it could quote the key.
        let unfit = |_| {
            let message = format!("The stored service account of provider '{provider}' holds no usable private key.");
            Error::new(ErrorKind::ProviderKeyInvalid, message).with_provider(provider)
        };
        let key = EncodingKey::from_rsa_pem(self.private_key.expose().as_bytes()).map_err(unfit)?;
        let iat = now.as_second();
        let claims = Claims { iss: &self.issuer, scope: self.scope, aud: &self.audience, iat, exp: iat + LIFETIME };
        let header = Header { kid: self.key_id.clone(), ..Header::new(Algorithm::RS256) };
        let assertion = jsonwebtoken::encode(&header, &claims, &key).map_err(unfit)?;
        let body = format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={assertion}");
        Ok(Outgoing {
            method: Method::POST,
            path: self.endpoint.join(""),
            headers: vec![(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))],
            body: body.into(),
            warnings: Vec::new(),
        })
    }
}

/// Reads the answer to [`Grant::request`].
pub fn granted(body: &Bytes, provider: &'static str) -> Result<Granted> {
    #[derive(Deserialize)]
    struct Wire {
        access_token: String,
        expires_in: Option<u64>,
    }
    // The cause is left out: it could quote the token.
    let wire: Wire = serde_json::from_slice(body).map_err(|_| protocol(provider, "no token in the answer"))?;
    Ok(Granted { token: Secret::new(wire.access_token), expires_in: wire.expires_in.unwrap_or(0) })
}
