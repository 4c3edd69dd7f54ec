//! Names → addresses, without ever blocking a proxy thread, and never to an address that must not be reached.
//!
//! An answer is kept for [`FRESH`]; when the name server fails, the last good answer serves on. Every address passes the
//! guard here, right before it is connected to, so that a name that changes its address can't slip past it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::guard::Guard;
use crate::provider::Endpoint;

/// How long an answer is taken as current.
pub const FRESH: Duration = Duration::from_secs(30);
/// How long the name server may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Resolves and remembers.
pub struct Resolver {
    guard: Arc<Guard>,
    known: RwLock<HashMap<(String, u16), (Instant, SocketAddr)>>,
}

impl Resolver {
    /// A resolver behind this guard.
    pub fn new(guard: Arc<Guard>) -> Self {
        Self { guard, known: RwLock::default() }
    }

    /// The address of an endpoint.
    ///
    /// Errors: `ProviderUnreachable` when the name has no address, none that may be reached, or no one answers.
    pub async fn resolve(&self, endpoint: &Endpoint) -> Result<SocketAddr> {
        if let Ok(address) = endpoint.host.parse::<IpAddr>() {
            self.guard.check_address(endpoint, address)?;
            return Ok(SocketAddr::new(address, endpoint.port));
        }
        let key = (endpoint.host.clone(), endpoint.port);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if let Some((_, address)) = known.filter(|(since, _)| since.elapsed() < FRESH) {
            return Ok(address);
        }
        match self.look_up(endpoint).await {
            Ok(address) => {
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                known.insert(key, (Instant::now(), address));
                Ok(address)
            }
            Err(error) => known.map(|(_, address)| address).ok_or(error),
        }
    }

    async fn look_up(&self, endpoint: &Endpoint) -> Result<SocketAddr> {
        let unreachable = |cause: &dyn std::fmt::Display| {
            Error::new(ErrorKind::ProviderUnreachable, "The provider's host name could not be resolved.")
                .with_cause(cause)
        };
        let look_up = tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port));
        let found = tokio::time::timeout(PATIENCE, look_up)
            .await
            .map_err(|_| unreachable(&"the name server did not answer in time"))?
            .map_err(|cause| unreachable(&cause))?;
        let allowed = |address: &SocketAddr| self.guard.check_address(endpoint, address.ip()).is_ok();
        let mut addresses: Vec<_> = found.filter(allowed).collect();
        // IPv4 first: a host without IPv6 connectivity would otherwise fail every first attempt.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses.first().copied().ok_or_else(|| unreachable(&"no address that may be reached"))
    }
}
