//! Admin tokens: JWTs of one pinned algorithm (HS256), signed with a secret that is used for nothing else.
//!
//! What the token's header asks for (`alg`, `kid`, `jku`, `jwk`) decides nothing. Whatever is wrong with a token, the answer
//! is one 401 with one text. Not here: which workspace a route is about (`tenant`).

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::AdminState;
use super::respond::Failure;
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Result};

/// How far clocks may be apart, in seconds.
const LEEWAY: i64 = 60;
/// The longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 8 * 1024;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Every workspace; alone makes and deletes workspaces and sets their limits.
    Admin,
    /// The workspaces the token names.
    Workspace,
}

impl std::str::FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "admin" => Ok(Self::Admin),
            "workspace" => Ok(Self::Workspace),
            _ => Err(Error::invalid("role", "Unknown role: use one of admin, workspace.")),
        }
    }
}

/// Who speaks, by a valid token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The token's `sub`.
    pub subject: String,
    /// What it allows.
    pub role: Role,
    /// The workspaces of the role `workspace`.
    pub workspaces: Vec<String>,
}

impl Identity {
    /// Whether this workspace exists for the caller.
    pub fn sees(&self, workspace: &str) -> bool {
        self.role == Role::Admin || self.workspaces.iter().any(|id| id == workspace)
    }

    /// Errors: 403 for every role but `admin`.
    pub(super) fn require_admin(&self) -> Result<()> {
        match self.role {
            Role::Admin => Ok(()),
            Role::Workspace => Err(Error::new(ErrorKind::Forbidden, "This needs a token with the role 'admin'.")),
        }
    }
}

/// The claims that are read; `iss` and `aud` are compared by the library.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    role: Role,
    #[serde(default)]
    workspaces: Vec<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
}

#[derive(Serialize)]
struct Minted<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    role: Role,
    workspaces: &'a [String],
    iat: i64,
    exp: i64,
}

/// Makes tokens and reads them.
pub struct Jwt {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    issuer: String,
    audience: String,
    max_ttl: Duration,
}

impl Jwt {
    /// An issuer and verifier over one secret; `max_ttl` bounds `exp - iat`.
    pub fn new(secret: &Secret, issuer: &str, audience: &str, max_ttl: Duration) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are compared here, with the caller's clock.
        validation.validate_exp = false;
        Self {
            encoding: EncodingKey::from_secret(secret.expose().as_bytes()),
            decoding: DecodingKey::from_secret(secret.expose().as_bytes()),
            validation,
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            max_ttl,
        }
    }

    /// A token of this role. Errors: a 400 when the life is longer than the longest allowed or rounds to nothing, or when the
    /// role `workspace` names none.
    pub fn mint(&self, role: Role, workspaces: &[String], ttl: Duration, now: Timestamp) -> Result<String> {
        if ttl > self.max_ttl || ttl.as_secs() == 0 {
            let most = self.max_ttl.as_secs();
            return Err(Error::invalid("ttl", format!("A token lives from 1 to {most} seconds.")));
        }
        if role == Role::Workspace && workspaces.is_empty() {
            return Err(Error::invalid("workspaces", "A token of the role 'workspace' must name its workspaces."));
        }
        let iat = now.as_second();
        let claims = Minted {
            iss: &self.issuer,
            aud: &self.audience,
            sub: "perpetuo",
            role,
            workspaces,
            iat,
            exp: iat.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding).map_err(Error::internal)
    }

    /// Who speaks with this token. Errors: one constant 401.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Identity> {
        self.claims(token, now.as_second())
            .map(|claims| Identity { subject: claims.sub, role: claims.role, workspaces: claims.workspaces })
            .ok_or_else(refused)
    }

    fn claims(&self, token: &str, now: i64) -> Option<Claims> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let read = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok()?;
        let typed = read.header.typ.as_deref().is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
        let claims = read.claims;
        let life = claims.exp.checked_sub(claims.iat)?;
        let short = life > 0 && u64::try_from(life).is_ok_and(|life| life <= self.max_ttl.as_secs());
        let current = now < claims.exp.saturating_add(LEEWAY)
            && claims.iat <= now.saturating_add(LEEWAY)
            && claims.nbf.is_none_or(|start| start <= now.saturating_add(LEEWAY));
        // An extension that must be understood is not.
        (typed && short && current && read.header.crit.is_none()).then_some(claims)
    }
}

/// Lets a request through with its [`Identity`], or answers 401.
pub(super) async fn require(
    State(state): State<AdminState>,
    mut request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let token = bearer(request.headers()).ok_or_else(refused)?;
    let identity = state.jwt.verify(token, (state.now)())?;
    request.extensions_mut().insert(identity);
    Ok(next.run(request).await)
}

/// The token of the one `Authorization` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// The one refusal.
pub(super) fn refused() -> Error {
    Error::new(ErrorKind::InvalidApiKey, "The admin token is missing or not valid.")
}
