//! The candidates of one model in one workspace, inside a real load balancer of pingora-load-balancing.
//!
//! [`Ranked`] is the `BackendSelection`: its iterator yields the candidates in the order of a strategy. `Upstreams` is the
//! `ServiceDiscovery`: it resolves every candidate's host. Health is read from the live breaker when a candidate is
//! accepted, not from a check that would lag behind it.
//!
//! Invariants: a backend's `weight` is its slot plus one, because the balancer would otherwise merge two candidates behind
//! one address; a host that could not be resolved keeps its place with the address [`UNRESOLVED`].

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::selection::{BackendIter, BackendSelection};
use pingora::lb::{Backend, Backends, Extensions, LoadBalancer};
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use tokio::task::JoinSet;

use super::breaker::State;
use super::discovery::Resolver;
use super::{Candidate, Estimate, Moment, strategy};
use crate::api::strategy::StrategyName;
use crate::error::{Error, Result};

/// The address of a candidate whose host could not be resolved.
pub const UNRESOLVED: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// The candidates of one model in one workspace.
pub struct Group {
    /// The workspace's revision that this group was made from.
    pub revision: u64,
    candidates: Vec<Arc<Candidate>>,
    balancer: LoadBalancer<Ranked>,
    /// When the hosts were last resolved.
    resolved: Mutex<Instant>,
}

/// What was selected: a candidate, and the address to reach it at.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The candidate.
    pub candidate: Arc<Candidate>,
    /// Its address, or [`UNRESOLVED`].
    pub address: SocketAddr,
}

/// Why a candidate is passed over now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excluded {
    /// Its credential cools down for so long.
    Cooling(Duration),
    /// Its breaker is open.
    Open,
}

impl Group {
    /// Resolves the hosts and builds the balancer.
    pub async fn build(revision: u64, candidates: Vec<Candidate>, resolver: Arc<Resolver>) -> Result<Self> {
        let candidates: Vec<_> = candidates.into_iter().map(Arc::new).collect();
        let upstreams = Upstreams { candidates: candidates.clone(), resolver };
        let balancer = LoadBalancer::<Ranked>::from_backends(Backends::new(Box::new(upstreams)));
        balancer.update().await.map_err(Error::internal)?;
        Ok(Self { revision, candidates, balancer, resolved: Mutex::new(Instant::now()) })
    }

    /// The candidates, by slot.
    pub fn candidates(&self) -> &[Arc<Candidate>] {
        &self.candidates
    }

    /// Resolves the hosts again, beside the requests, when that is due.
    pub fn refresh(self: &Arc<Self>) {
        // A lock that someone else holds is one who refreshes already.
        let Ok(mut resolved) = self.resolved.try_lock() else { return };
        if resolved.elapsed() < super::discovery::FRESH {
            return;
        }
        *resolved = Instant::now();
        let group = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = group.balancer.update().await {
                tracing::warn!(%error, "addresses of a group could not be refreshed");
            }
        });
    }

    /// The best candidate that `accept`s, by this strategy.
    pub fn select(
        &self,
        name: StrategyName,
        estimate: Estimate,
        accept: impl Fn(&Candidate) -> bool,
    ) -> Option<Choice> {
        let key = encode(name, estimate);
        let backend = self.balancer.select_with(&key, self.candidates.len(), |backend, _| {
            backend.ext.get::<Arc<Candidate>>().is_some_and(|candidate| accept(candidate))
        })?;
        let candidate = Arc::clone(backend.ext.get::<Arc<Candidate>>()?);
        let address = backend.addr.as_inet().copied().unwrap_or(UNRESOLVED);
        Some(Choice { candidate, address })
    }
}

/// Why a candidate would be passed over now, if it would.
pub fn excluded(candidate: &Candidate, now: Moment) -> Option<Excluded> {
    if let Some(wait) = candidate.cooling.cooling(now) {
        return Some(Excluded::Cooling(wait));
    }
    (candidate.stats.breaker.state(now) == State::Open).then_some(Excluded::Open)
}

/// Strategy and estimate as the balancer's key: 17 bytes.
fn encode(name: StrategyName, estimate: Estimate) -> [u8; 17] {
    let mut key = [0; 17];
    let place = StrategyName::ALL.iter().position(|known| *known == name).unwrap_or_default();
    let bytes = std::iter::once(u8::try_from(place).unwrap_or_default())
        .chain(estimate.prompt_tokens.to_le_bytes())
        .chain(estimate.output_tokens.to_le_bytes());
    key.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = byte);
    key
}

fn decode(key: &[u8]) -> (StrategyName, Estimate) {
    let name = key.first().and_then(|place| StrategyName::ALL.get(usize::from(*place)).copied());
    let number = |from: usize| {
        let bytes = key.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
    (name.unwrap_or_default(), Estimate { prompt_tokens: number(1), output_tokens: number(9) })
}

/// The selection: backends in the order of a strategy.
pub struct Ranked {
    /// By slot.
    backends: Box<[Backend]>,
}

impl BackendSelection for Ranked {
    type Iter = RankedIter;
    type Config = ();

    fn build(backends: &BTreeSet<Backend>) -> Self {
        let mut backends: Box<[Backend]> = backends.iter().cloned().collect();
        backends.sort_by_key(|backend| backend.weight);
        Self { backends }
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> RankedIter {
        let (name, estimate) = decode(key);
        let candidates = self.backends.iter().filter_map(|backend| backend.ext.get::<Arc<Candidate>>());
        let order = strategy::rank(strategy::find(name), candidates.map(Arc::as_ref), estimate);
        RankedIter { selection: Arc::clone(self), order: order.into_iter() }
    }
}

/// Walks a ranking.
pub struct RankedIter {
    selection: Arc<Ranked>,
    order: std::vec::IntoIter<usize>,
}

impl BackendIter for RankedIter {
    fn next(&mut self) -> Option<&Backend> {
        let slot = self.order.next()?;
        self.selection.backends.get(slot)
    }
}

/// The discovery: every candidate, at the address its host has now.
struct Upstreams {
    candidates: Vec<Arc<Candidate>>,
    resolver: Arc<Resolver>,
}

#[async_trait]
impl ServiceDiscovery for Upstreams {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let mut lookups = JoinSet::new();
        for candidate in self.candidates.iter().cloned() {
            let resolver = Arc::clone(&self.resolver);
            lookups.spawn(async move {
                let resolved = resolver.resolve(&candidate.credential.endpoint).await;
                backend(candidate, resolved.unwrap_or(UNRESOLVED))
            });
        }
        let backends = lookups.join_all().await.into_iter().collect();
        Ok((backends, HashMap::new()))
    }
}

fn backend(candidate: Arc<Candidate>, address: SocketAddr) -> Backend {
    let weight = candidate.slot + 1;
    let mut ext = Extensions::new();
    ext.insert(candidate);
    Backend { addr: PingoraAddr::Inet(address), weight, ext }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_carries_strategy_and_estimate() {
        let estimate = Estimate { prompt_tokens: 70_000, output_tokens: u64::MAX };
        for name in StrategyName::ALL {
            assert_eq!(decode(&encode(name, estimate)), (name, estimate));
        }
        assert_eq!(decode(b""), (StrategyName::Default, Estimate::default()));
    }
}
