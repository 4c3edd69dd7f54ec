//! Who was let in and who was not: limits, load, credentials of clients, the admin API. Fed by the proxy, where it is decided.

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::labels;
use super::make::Maker;
use crate::quota::Limit;
use crate::shed::Shed;

/// Why a virtual key or an admin token was refused.
pub(super) const AUTH_FAILURES: [(&str, &str); 7] = [
    ("data", "missing"),
    ("data", "malformed"),
    ("data", "unknown"),
    ("data", "expired"),
    ("admin", "missing"),
    ("admin", "malformed"),
    ("admin", "unknown"),
];
/// Whose limit it is.
pub(super) const SUBJECTS: [&str; 2] = ["key", "workspace"];
/// What was refused not for its own sake, but because of the process.
pub(super) const LEDGER_SHED: [&str; 2] = ["process", "ledger"];
/// By what connection a request came.
pub(super) const ARRIVALS: [&str; 3] = ["new", "reused", "http2"];
/// The methods of the admin API.
pub(super) const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
/// What the admin API is about.
pub(super) const RESOURCES: [&str; 7] =
    ["workspaces", "providers", "api-keys", "usage", "logs", "performance", "route"];

/// The metrics of access.
pub struct Access {
    rate_limited: IntCounterVec,
    shed: IntCounterVec,
    /// Bytes of request bodies that are held; fed when the metrics are read.
    pub buffered_bytes: IntGauge,
    auth_failures: IntCounterVec,
    /// Connections that were closed because a head was not in in time; fed by the proxy.
    pub slow_heads: IntCounter,
    admin: IntCounterVec,
    http: [IntCounter; ARRIVALS.len()],
}

impl Access {
    pub(super) fn create(maker: &Maker<'_>) -> prometheus::Result<Self> {
        let http = maker.counters(
            "perpetuo_http_requests_total",
            "HTTP requests of any kind, by the connection that brought them.",
            &["connection"],
        )?;
        let access = Self {
            rate_limited: maker.counters(
                "perpetuo_rate_limited_total",
                "Requests that ran into a limit of their virtual key or workspace.",
                &["limit", "subject"],
            )?,
            shed: maker.counters(
                "perpetuo_shed_total",
                "Requests that were refused because too much was under way, or the process was not able to serve.",
                &["scope", "resource"],
            )?,
            buffered_bytes: maker.gauge("perpetuo_buffered_bytes", "Bytes of request bodies that are held now.")?,
            auth_failures: maker.counters(
                "perpetuo_auth_failures_total",
                "Refused virtual keys and admin tokens.",
                &["plane", "why"],
            )?,
            slow_heads: maker.counter(
                "perpetuo_slow_heads_total",
                "Connections that were closed because the head of a request was not in in time.",
            )?,
            admin: maker.counters(
                "perpetuo_admin_requests_total",
                "Requests to the admin API.",
                &["method", "resource", "code"],
            )?,
            http: ARRIVALS.map(|connection| http.with_label_values(&[connection])),
        };
        access.start_at_zero();
        Ok(access)
    }

    fn start_at_zero(&self) {
        for limit in Limit::ALL {
            for subject in SUBJECTS {
                self.rate_limited.with_label_values(&[limit.as_str(), subject]);
            }
        }
        for labels in Shed::ALL.map(Shed::labels).into_iter().chain([LEDGER_SHED]) {
            self.shed.with_label_values(&labels);
        }
        for (plane, why) in AUTH_FAILURES {
            self.auth_failures.with_label_values(&[plane, why]);
        }
    }

    /// A request ran into a limit of its workspace, or of its key.
    pub fn rate_limited(&self, limit: Limit, of_workspace: bool) {
        let [key, workspace] = SUBJECTS;
        let subject = if of_workspace { workspace } else { key };
        self.rate_limited.with_label_values(&[limit.as_str(), subject]).inc();
    }

    /// A request was shed.
    pub fn shed(&self, shed: Shed) {
        self.shed.with_label_values(&shed.labels()).inc();
    }

    /// A request was refused because the ledger can't keep up.
    pub fn shed_by_ledger(&self) {
        self.shed.with_label_values(&LEDGER_SHED).inc();
    }

    /// A virtual key was refused, for one of the reasons of `AUTH_FAILURES`.
    pub fn key_refused(&self, why: &'static str) {
        self.auth_failures.with_label_values(&["data", why]).inc();
    }

    /// An admin token was refused.
    pub fn token_refused(&self, why: &'static str) {
        self.auth_failures.with_label_values(&["admin", why]).inc();
    }

    /// An admin request was answered.
    pub fn admin_request(&self, method: &str, path: &str, status: u16) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or(labels::OTHER);
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let (first, resource) = (segments.next(), segments.nth(1));
        let resource = resource.or(first).unwrap_or_default();
        let resource = RESOURCES.into_iter().find(|known| *known == resource).unwrap_or(labels::OTHER);
        self.admin.with_label_values(&[method, resource, labels::status(status).text]).inc();
    }

    /// An HTTP request came by this kind of connection: see `ARRIVALS`.
    pub fn arrived(&self, by: Arrival) {
        let [new, reused, http2] = &self.http;
        match by {
            Arrival::New => new,
            Arrival::Reused => reused,
            Arrival::Http2 => http2,
        }
        .inc();
    }
}

/// By what connection a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// As the first one of an HTTP/1 connection.
    New,
    /// As a later one.
    Reused,
    /// As a stream of an HTTP/2 connection.
    Http2,
}
