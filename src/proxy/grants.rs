//! Tokens that service accounts were given, kept until shortly before they expire.
//!
//! Invariants: one exchange at a time for each account, and none waits for another account's; a token is never shown; an
//! attempt that is given up gives up its exchange, too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use jiff::Timestamp;

use super::attempt::Attempts;
use super::upstream::Route;
use crate::config::Secret;
use crate::directory::Credential;
use crate::error::Result;
use crate::provider::{Failure, Grant, Outgoing, ProviderMessage, failure, granted, secret_header};

/// How long before its end a token is no longer used: what a request may take to arrive.
const MARGIN: Duration = Duration::from_secs(60);
/// How much of an answer is read.
const MAX_ANSWER: usize = 64 * 1024;

/// A token and until when it is used.
struct Held {
    token: Secret,
    until: Instant,
}

type Slot = Arc<tokio::sync::Mutex<Option<Held>>>;

/// The tokens of all accounts, by their fingerprints.
#[derive(Default)]
pub(super) struct Grants {
    slots: Mutex<HashMap<String, Slot>>,
}

/// Above so many the book starts afresh: accounts that are gone must not fill the memory.
const MAX_SLOTS: usize = 10_000;

impl Grants {
    fn slot(&self, fingerprint: String) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_SLOTS {
            slots.clear();
        }
        Arc::clone(slots.entry(fingerprint).or_default())
    }

    /// Forgets a token that the provider refused.
    pub(super) fn forget(&self, credential: &Credential) {
        if let Ok(Some(grant)) = credential.provider.dialect.grant(&credential.key, &credential.options) {
            self.slots.lock().unwrap_or_else(PoisonError::into_inner).remove(&grant.fingerprint());
        }
    }
}

impl Attempts {
    /// The request with the token that its credential is given on request; `None` when the request has all it needs.
    ///
    /// Errors: `ProviderKeyInvalid` when the account is refused; the provider's when nothing comes of it.
    pub(super) async fn authorized(&self, credential: &Credential, request: &Outgoing) -> Result<Option<Outgoing>> {
        let Some(grant) = credential.provider.dialect.grant(&credential.key, &credential.options)? else {
            return Ok(None);
        };
        let slot = self.grants.slot(grant.fingerprint());
        let mut held = slot.lock().await;
        if held.as_ref().is_none_or(|held| held.until <= Instant::now()) {
            *held = Some(Box::pin(self.exchange_grant(credential, &grant)).await?);
        }
        let Some(Held { token, .. }) = held.as_ref() else { return Ok(None) };
        let bearer = secret_header("Bearer ", token, credential.provider.name)?;
        let mut headers = request.headers.clone();
        headers.push((AUTHORIZATION, bearer));
        let Outgoing { method, path, body, .. } = request;
        let (method, path, body) = (method.clone(), path.clone(), body.clone());
        Ok(Some(Outgoing { method, path, headers, body, warnings: Vec::new() }))
    }

    async fn exchange_grant(&self, credential: &Credential, grant: &Grant) -> Result<Held> {
        let provider = credential.provider.name;
        let (asked, now) = (Instant::now(), Timestamp::now());
        let request = grant.request(provider, now)?;
        let address = self.resolver.resolve(&grant.endpoint).await?;
        let route = Route { endpoint: &grant.endpoint, http2: None, provider };
        let mut exchange = self.upstream.exchange(&route, address, &request, false, |_| ()).await?;
        let (status, headers) = (exchange.status(), exchange.headers());
        let body = exchange.read_all(MAX_ANSWER, self.timeouts.idle).await;
        self.upstream.finish(exchange).await;
        if status != 200 {
            // What it says is not repeated: it is about the account. A 400 is `invalid_grant`.
            let said = ProviderMessage { key_invalid: matches!(status, 400..=403), ..ProviderMessage::default() };
            return Err(failure(&Failure { status, headers: &headers, now }, said, provider));
        }
        let granted = granted(&body?, provider)?;
        let lifetime = Duration::from_secs(granted.expires_in.min(24 * 3600));
        Ok(Held { token: granted.token, until: asked + lifetime.saturating_sub(MARGIN) })
    }
}
