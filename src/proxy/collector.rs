//! The way to a collector of spans, on the same connections that lead to providers: their TLS, their pool.
//!
//! The operator names it, so that the guard of private addresses does not apply.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::connections::Connections;
use super::exchange::Exchange;
use super::upstream::{Route, Upstream};
use crate::config::{Config, headers};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::{Endpoint, Outgoing};
use crate::telemetry::{Reply, Transport};

/// Where spans are posted, under the collector's root.
const PATH: &str = "/v1/traces";
/// How much of an answer is read.
const MAX_ANSWER: usize = 64 * 1024;
/// The longest wait that a collector can ask for.
const MAX_WAIT: Duration = Duration::from_secs(60);

struct Collector {
    upstream: Upstream,
    endpoint: Endpoint,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    idle: Duration,
}

/// The collector of this configuration. Errors: it has none.
pub(super) fn dial(config: &Config) -> Result<Box<dyn Transport>> {
    let url = config.tracing.endpoint.as_ref().ok_or_else(|| Error::internal("no collector is configured"))?;
    let endpoint = Endpoint::parse(url.as_str())?;
    let path = if endpoint.path.ends_with(PATH) { endpoint.path.clone() } else { endpoint.join(PATH) };
    let own = config.tracing.headers.as_ref().and_then(headers).unwrap_or_default();
    let upstream = Upstream::new(Arc::new(Connections::new(config)), config.timeouts.clone(), None);
    Ok(Box::new(Collector { upstream, endpoint, path, headers: own, idle: config.timeouts.idle }))
}

#[async_trait]
impl Transport for Collector {
    async fn post(&self, body: Bytes) -> Result<Reply> {
        let (path, headers) = (self.path.clone(), self.headers.clone());
        let request = Outgoing { method: Method::POST, path, headers, body: body.into(), warnings: Vec::new() };
        let mut exchange = self.exchange(&request).await?;
        let (status, headers) = (exchange.status(), exchange.headers());
        let body = exchange.read_all(MAX_ANSWER, self.idle).await;
        self.upstream.finish(exchange).await;
        Ok(Reply { status, retry_after: retry_after(&headers), body: body.unwrap_or_default() })
    }
}

impl Collector {
    /// The first of its addresses that answers.
    async fn exchange(&self, request: &Outgoing) -> Result<Box<Exchange>> {
        let route = Route { endpoint: &self.endpoint, http2: None, provider: "" };
        let unreachable = |cause: &dyn std::fmt::Display| {
            Error::new(ErrorKind::ProviderUnreachable, "The collector could not be reached.").with_cause(cause)
        };
        let name = (self.endpoint.host.as_str(), self.endpoint.port);
        let addresses: Vec<SocketAddr> =
            tokio::net::lookup_host(name).await.map_err(|cause| unreachable(&cause))?.collect();
        let mut last = unreachable(&"its name has no address");
        for address in addresses {
            match self.upstream.exchange(&route, address, request, false, |_| ()).await {
                Ok(exchange) => return Ok(exchange),
                Err(error) => last = unreachable(&error.cause().unwrap_or(error.message())),
            }
        }
        Err(last)
    }
}

/// In whole seconds; a date is as good as nothing.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_WAIT))
}
