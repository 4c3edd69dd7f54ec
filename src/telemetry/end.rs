//! A request that is over, as the access log and the spans tell it.
//!
//! Filled in by the proxy from the record that it books. Invariant: the path is without its query, and no header of the client is
//! in here but its trace context and, where that is asked for, `X-Forwarded-For`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::{SignedDuration, Timestamp};

use super::trace::TraceContext;
use crate::error::{ErrorKind, Fault, Source};
use crate::store::{AttemptRecord, Booking};

/// The most of a client's text that is kept.
pub(super) const MAX_TEXT: usize = 256;

/// A request that is over.
#[derive(Debug)]
pub struct RequestEnd {
    /// When its head was read.
    pub began: Timestamp,
    /// Until its last byte was written.
    pub took: Duration,
    /// What its spans are called.
    pub trace: Arc<TraceContext>,
    /// The method.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The pattern that the path fits; none for an unknown one.
    pub route: Option<&'static str>,
    /// Asked by machines that watch this one; not worth a line when all is well.
    pub probe: bool,
    /// Who asked, where that is to be known.
    pub client: Option<Client>,
    /// The answer's `x-request-id`.
    pub request_id: String,
    /// Whose it was, as far as that was known.
    pub workspace: Option<String>,
    /// The virtual key's id.
    pub key: Option<String>,
    /// The status that the client saw; 499 when it left before there was one.
    pub status: u16,
    /// Why it failed.
    pub error: Option<ErrorKind>,
    /// Whether the client left before the end.
    pub client_gone: bool,
    /// Bytes of the request's body that were read.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were written.
    pub bytes_out: u64,
    /// What was booked; none for what is not for a model, or did not get that far.
    pub booking: Option<Booking>,
    /// What the booking does not say of its attempts, in its order.
    pub attempts: Vec<AttemptEnd>,
}

/// One attempt, beside its record in the booking.
#[derive(Clone, Debug)]
pub struct AttemptEnd {
    /// Its span.
    pub span_id: u64,
    /// From the request's head to its beginning.
    pub after: Duration,
    /// How long it took.
    pub took: Duration,
    /// From its beginning to the first content.
    pub first_content: Option<Duration>,
    /// Where it went.
    pub host: String,
    /// The port there.
    pub port: u16,
}

/// Why an attempt failed, in the words of [`ErrorKind`]'s reasons.
pub(super) fn failure(record: &AttemptRecord) -> Option<&str> {
    let code = record.error.as_deref()?;
    Some(ErrorKind::from_code(code).map_or(code, |kind| kind.row().reason))
}

/// Where a request came from.
#[derive(Clone, Debug)]
pub struct Client {
    /// The other end of the connection, which may be a proxy.
    pub address: IpAddr,
    /// `X-Forwarded-For` as it was sent: anybody can write anything there.
    pub forwarded_for: Option<String>,
}

/// The beginning of what was said.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Of the request's body.
    pub request: Vec<u8>,
    /// Of the answer's body.
    pub response: Vec<u8>,
    /// How much of each is kept.
    pub limit: usize,
}

impl Content {
    /// The content of a request with this body.
    pub fn of(request: &[u8], limit: usize) -> Self {
        Self { request: request.iter().take(limit).copied().collect(), response: Vec::new(), limit }
    }

    /// Notes a piece of the answer.
    pub fn answer(&mut self, piece: &[u8]) {
        let room = self.limit.saturating_sub(self.response.len());
        self.response.extend(piece.iter().take(room));
    }

    /// How much is kept.
    pub(super) fn bytes(&self) -> usize {
        self.request.len() + self.response.len()
    }
}

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// It went well, or the client left.
    Info,
    /// The client's fault, or a limit that was applied.
    Warn,
    /// The gateway's or a provider's fault.
    Error,
}

impl Level {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

impl RequestEnd {
    /// When it was over.
    pub(super) fn ended(&self) -> Timestamp {
        let took = SignedDuration::try_from(self.took).unwrap_or(SignedDuration::ZERO);
        self.began.checked_add(took).unwrap_or(self.began)
    }

    /// Why it failed; an answer of the admin API has no error but its status.
    pub(super) fn failure(&self) -> Option<ErrorKind> {
        let own = |kind: &ErrorKind| kind.row().status == self.status && kind.row().source != Source::Provider;
        self.error.or_else(|| ErrorKind::ALL.into_iter().find(own).filter(|_| self.status >= 400))
    }

    /// The word of a closed vocabulary for how it ended.
    pub(super) fn reason(&self) -> &'static str {
        self.failure().map_or("ok", |kind| kind.row().reason)
    }

    pub(super) fn level(&self) -> Level {
        match self.failure() {
            None | Some(ErrorKind::ClientGone) => Level::Info,
            Some(kind) => match kind.row().fault() {
                Fault::Client | Fault::Policy => Level::Warn,
                Fault::Provider | Fault::Gateway => Level::Error,
            },
        }
    }

    pub(super) fn millis(&self) -> u64 {
        u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether it is told of at all.
    pub(super) fn is_worth_a_line(&self) -> bool {
        !self.probe || self.status >= 400
    }
}

#[cfg(test)]
pub(super) mod sample {
    //! A request that failed over once.

    use super::*;
    use crate::store::suite::booking;

    pub(in super::super) fn ended() -> RequestEnd {
        let booking = booking("ws_1", "req_1", "2026-11-26T18:00:00Z");
        let attempt = |span_id, after, took| AttemptEnd {
            span_id,
            after: Duration::from_millis(after),
            took: Duration::from_millis(took),
            first_content: Some(Duration::from_millis(20)),
            host: "api.example".to_owned(),
            port: 443,
        };
        RequestEnd {
            began: booking.created_at,
            took: Duration::from_millis(300),
            trace: Arc::new(TraceContext { trace_id: 0xabc, span_id: 1, sampled: true, ..TraceContext::default() }),
            method: Method::POST,
            path: "/v1/chat/completions".to_owned(),
            route: Some("/v1/chat/completions"),
            probe: false,
            client: None,
            request_id: booking.request_id.clone(),
            workspace: Some(booking.workspace.clone()),
            key: Some(booking.key.clone()),
            status: 200,
            error: None,
            client_gone: false,
            bytes_in: 100,
            bytes_out: 2000,
            attempts: vec![attempt(2, 1, 40), attempt(3, 50, 250)],
            booking: Some(booking),
        }
    }
}
