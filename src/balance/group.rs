//! The candidates of one model in one workspace, inside a real load balancer of pingora-load-balancing.
//!
//! [`Ranked`] is the `BackendSelection`: its iterator yields the candidates in the order of a ranking, each with its [`Placed`]
//! in the backend's extensions, which is how a reason gets out of a balancer that only knows backends. `Upstreams` is the
//! `ServiceDiscovery`: it resolves every candidate's host. Health is read from the live breaker while ranking, not from a
//! check that would lag behind it.
//!
//! Invariants: a backend's `weight` is its slot plus one, because the balancer would otherwise merge two candidates behind
//! one address; a host that could not be resolved keeps its place with the address [`UNRESOLVED`].

use std::cell::Cell;
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

use super::Candidate;
use super::attempt::Attempt;
use super::breaker::Pass;
use super::discovery::Resolver;
use super::rank::{Placed, Ranking, excluded, rank};
use super::reason::{Excluded, Reason};
use super::request::Request;
use super::stats::Refusal;
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

/// What was selected: a candidate, the address to reach it at, and why it was.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The candidate.
    pub candidate: Arc<Candidate>,
    /// Its address, or [`UNRESOLVED`].
    pub address: SocketAddr,
    /// Why this one.
    pub reason: Reason,
}

/// Why no candidate can be asked now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nobody {
    /// How long until the first credential that cools down is free again. Within the deadline it is worth waiting for; else the
    /// answer is a 429 with this `Retry-After`.
    pub wait: Option<Duration>,
    /// Why a credential is out until it is changed, if one is, and whose provider it is.
    pub refused: Option<(Refusal, &'static str)>,
}

impl Group {
    /// Resolves the hosts and builds the balancer.
    pub async fn build(revision: u64, candidates: Vec<Candidate>, resolver: Arc<Resolver>) -> Result<Self> {
        Self::discovered(revision, candidates, Addresses::Resolved(resolver)).await
    }

    /// Builds the balancer over candidates whose addresses are known, in the same order; resolves nothing, now or later.
    pub async fn at(revision: u64, candidates: Vec<Candidate>, addresses: Vec<SocketAddr>) -> Result<Self> {
        Self::discovered(revision, candidates, Addresses::Known(addresses)).await
    }

    async fn discovered(revision: u64, candidates: Vec<Candidate>, addresses: Addresses) -> Result<Self> {
        let candidates: Vec<_> = candidates.into_iter().map(Arc::new).collect();
        let upstreams = Upstreams { candidates: candidates.clone(), addresses };
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

    /// The candidate to ask next, and the attempt, let in by its breaker and from now on under way: to be recorded once it is
    /// over, or dropped if it never begins. For another attempt of the same request: the slot in [`Request::tried`], `now` and
    /// `seed` anew.
    ///
    /// Errors: [`Nobody`] when none can be asked that has not been.
    pub fn select(&self, request: &Request) -> Result<(Choice, Attempt), Nobody> {
        let entered = Cell::new(None);
        let chosen = self.balancer.select_with(&request.encode(), self.candidates.len(), |backend, _| {
            entered.set(enter(backend, request));
            entered.get().is_some()
        });
        let found = chosen.zip(entered.get()).and_then(|(backend, (placed, pass))| {
            let candidate = Arc::clone(self.candidates.get(placed.slot)?);
            let address = backend.addr.as_inet().copied().unwrap_or(UNRESOLVED);
            let attempt = Attempt::begin(Arc::clone(&candidate), pass, request);
            Some((Choice { candidate, address, reason: placed.reason }, attempt))
        });
        found.ok_or_else(|| self.nobody(request))
    }

    /// The whole order with its reasons, and who is left out of it; takes no permission and changes nothing.
    pub fn explain(&self, request: &Request) -> (Vec<Placed>, Vec<(usize, Excluded)>) {
        let mut ranking = rank(&self.candidates, request);
        let excluded = std::mem::take(&mut ranking.excluded);
        (ranking.into_order(), excluded)
    }

    /// Who can't be asked now, by provider, and why; what a strategy thinks of the others is not in it.
    pub fn passed_over(&self, request: &Request) -> Vec<(&'static str, &'static str)> {
        let candidates = self.candidates.iter();
        let why = candidates.map(|candidate| (candidate.credential.provider.name, excluded(candidate, request)));
        why.filter_map(|(provider, why)| Some((provider, why?.as_str()))).collect()
    }

    fn nobody(&self, request: &Request) -> Nobody {
        let waits = self.candidates.iter().filter_map(|candidate| match excluded(candidate, request)? {
            Excluded::Cooling(wait) => Some(wait),
            _ => None,
        });
        let refused = self.candidates.iter().find_map(|candidate| {
            Some((candidate.cooling.refused(candidate.revision)?, candidate.credential.provider.name))
        });
        Nobody { wait: waits.min(), refused }
    }
}

/// Asks the candidate's breaker. It may have changed its mind since the ranking: then the next one is asked.
fn enter(backend: &Backend, request: &Request) -> Option<(Placed, Pass)> {
    let placed = *backend.ext.get::<Placed>()?;
    let candidate = backend.ext.get::<Arc<Candidate>>()?;
    let pass = match placed.reason {
        Reason::Panic => candidate.stats.breaker.enter_anyway(),
        _ => candidate.stats.breaker.enter(request.now),
    };
    pass.map(|pass| (placed, pass))
}

/// The selection: backends in the order of a ranking.
pub struct Ranked {
    /// By slot.
    backends: Box<[Backend]>,
    /// By slot.
    candidates: Box<[Arc<Candidate>]>,
}

impl BackendSelection for Ranked {
    type Iter = RankedIter;
    type Config = ();

    fn build(backends: &BTreeSet<Backend>) -> Self {
        let mut backends: Box<[Backend]> = backends.iter().cloned().collect();
        backends.sort_by_key(|backend| backend.weight);
        let candidates = backends.iter().filter_map(|backend| backend.ext.get::<Arc<Candidate>>()).cloned().collect();
        Self { backends, candidates }
    }

    fn iter(self: &Arc<Self>, key: &[u8]) -> RankedIter {
        let ranking = rank(&self.candidates, &Request::decode(key));
        RankedIter { selection: Arc::clone(self), ranking, place: 0, current: None }
    }
}

/// Walks a ranking.
pub struct RankedIter {
    selection: Arc<Ranked>,
    ranking: Ranking,
    place: usize,
    /// The backend with its place in this ranking.
    current: Option<Backend>,
}

impl BackendIter for RankedIter {
    fn next(&mut self) -> Option<&Backend> {
        let placed = *self.ranking.get(self.place)?;
        self.place += 1;
        let mut backend = self.selection.backends.get(placed.slot)?.clone();
        backend.ext.insert(placed);
        Some(self.current.insert(backend))
    }
}

/// Where addresses come from.
enum Addresses {
    /// From the name server, each time anew.
    Resolved(Arc<Resolver>),
    /// By slot.
    Known(Vec<SocketAddr>),
}

/// The discovery: every candidate, at the address its host has now.
struct Upstreams {
    candidates: Vec<Arc<Candidate>>,
    addresses: Addresses,
}

#[async_trait]
impl ServiceDiscovery for Upstreams {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let backends = match &self.addresses {
            Addresses::Resolved(resolver) => self.resolve(resolver).await,
            Addresses::Known(addresses) => {
                let known = |slot: usize| addresses.get(slot).copied().unwrap_or(UNRESOLVED);
                self.candidates.iter().map(|candidate| backend(candidate.clone(), known(candidate.slot))).collect()
            }
        };
        Ok((backends, HashMap::new()))
    }
}

impl Upstreams {
    async fn resolve(&self, resolver: &Arc<Resolver>) -> BTreeSet<Backend> {
        let mut lookups = JoinSet::new();
        for candidate in self.candidates.iter().cloned() {
            let resolver = Arc::clone(resolver);
            lookups.spawn(async move {
                let resolved = resolver.resolve(&candidate.credential.endpoint).await;
                backend(candidate, resolved.unwrap_or(UNRESOLVED))
            });
        }
        lookups.join_all().await.into_iter().collect()
    }
}

fn backend(candidate: Arc<Candidate>, address: SocketAddr) -> Backend {
    let weight = candidate.slot + 1;
    let mut ext = Extensions::new();
    ext.insert(candidate);
    Backend { addr: PingoraAddr::Inet(address), weight, ext }
}
