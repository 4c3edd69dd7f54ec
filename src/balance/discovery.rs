//! Names → addresses, without ever blocking a proxy thread, and never to an address that must not be reached.
//!
//! An answer is kept for [`FRESH`]; when the name server fails, the last good answer serves on. An address that nobody answers at
//! is passed over for as long, in favour of the name's others, which are looked up anew. Every address passes the guard here, and
//! it is the address that is connected to, not the name: one that changes what it resolves to can't slip past the guard.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::guard::Guard;
use crate::provider::Endpoint;

/// How long an answer is taken as current.
pub const FRESH: Duration = Duration::from_secs(30);
/// How long the name server may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How soon a name is looked up again that had no answer, or whose address did not answer. In between, many requests that fail at
/// the same time must not become as many questions.
const AGAIN: Duration = Duration::from_secs(1);

/// Who knows the addresses of a name.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// All of them. Errors: the name has none, or nobody says so.
    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver. It blocks, so that it has threads of its own.
struct System;

#[async_trait]
impl Lookup for System {
    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// The system's resolver.
pub fn system() -> Arc<dyn Lookup> {
    Arc::new(System)
}

/// Resolves and remembers.
pub struct Resolver {
    guard: Arc<Guard>,
    lookup: Arc<dyn Lookup>,
    known: RwLock<HashMap<(String, u16), Known>>,
    /// Addresses that nobody answered at, and since when.
    dead: RwLock<HashMap<SocketAddr, Instant>>,
    /// Whether there are any: most of the time there are none, and no lock is taken.
    some_dead: AtomicBool,
}

/// What is known of a name.
#[derive(Clone, Default)]
struct Known {
    /// When it was last asked for, whether there was an answer or not.
    asked: Option<Instant>,
    /// When the last answer came.
    since: Option<Instant>,
    /// Those of its last answer that may be reached, in the order in which they are tried.
    addresses: Vec<SocketAddr>,
}

impl Known {
    /// Whether it need not be looked up.
    fn is_current(&self) -> bool {
        let younger = |than: Duration| move |when: &Instant| when.elapsed() < than;
        self.since.filter(younger(FRESH)).is_some() || self.asked.filter(younger(AGAIN)).is_some()
    }
}

impl Resolver {
    /// A resolver behind this guard.
    pub fn new(guard: Arc<Guard>) -> Self {
        Self::over(guard, system())
    }

    /// The same with another source of addresses.
    pub fn over(guard: Arc<Guard>, lookup: Arc<dyn Lookup>) -> Self {
        let (known, dead) = (RwLock::default(), RwLock::default());
        Self { guard, lookup, known, dead, some_dead: AtomicBool::new(false) }
    }

    /// The address of an endpoint.
    ///
    /// Errors: `ProviderUnreachable` when the name has no address, none that may be reached, or no one answers.
    pub async fn resolve(&self, endpoint: &Endpoint) -> Result<SocketAddr> {
        if let Ok(address) = endpoint.host.parse::<IpAddr>() {
            self.guard.check_address(endpoint, address)?;
            return Ok(SocketAddr::new(address, endpoint.port));
        }
        let known = self.known(endpoint);
        if known.is_current() {
            return self.best(&known.addresses).ok_or_else(|| unreachable(&"it had no address a moment ago"));
        }
        match self.look_up(endpoint).await {
            Ok(addresses) => self.best(&addresses).ok_or_else(|| unreachable(&"no address that may be reached")),
            Err(error) => self.best(&known.addresses).ok_or(error),
        }
    }

    /// Where to connect for an endpoint that resolved to this address: there, unless nobody answered there a moment ago and the
    /// name has another one.
    pub fn reachable(&self, endpoint: &Endpoint, address: SocketAddr) -> SocketAddr {
        if !self.some_dead.load(Relaxed) || !self.is_dead(&address) {
            return address;
        }
        self.best(&self.known(endpoint).addresses).unwrap_or(address)
    }

    /// Nobody answered at this address: it is passed over for a while, where the endpoint's name has others.
    pub fn pass_over(&self, endpoint: &Endpoint, address: SocketAddr) {
        if endpoint.host.parse::<IpAddr>().is_err() {
            let mut dead = self.dead.write().unwrap_or_else(PoisonError::into_inner);
            dead.insert(address, Instant::now());
            self.some_dead.store(true, Relaxed);
        }
    }

    /// An address of the endpoint that was not tried. They are looked up anew, as those that were may have moved.
    pub async fn another(&self, endpoint: &Endpoint, tried: &[SocketAddr]) -> Option<SocketAddr> {
        if endpoint.host.parse::<IpAddr>().is_ok() {
            return None;
        }
        let asked = self.known(endpoint).asked;
        if asked.is_none_or(|asked| asked.elapsed() >= AGAIN) {
            // Without an answer, the addresses that are known are all there are.
            let _ = self.look_up(endpoint).await;
        }
        self.known(endpoint).addresses.into_iter().find(|address| !tried.contains(address))
    }

    fn known(&self, endpoint: &Endpoint) -> Known {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&(endpoint.host.clone(), endpoint.port)).cloned().unwrap_or_default()
    }

    /// The first that answers, or else the first.
    fn best(&self, addresses: &[SocketAddr]) -> Option<SocketAddr> {
        let alive = || addresses.iter().find(|address| !self.is_dead(address));
        let first = addresses.first();
        if self.some_dead.load(Relaxed) { alive().or(first) } else { first }.copied()
    }

    fn is_dead(&self, address: &SocketAddr) -> bool {
        let fresh = |since: &Instant| since.elapsed() < FRESH;
        let dead = self.dead.read().unwrap_or_else(PoisonError::into_inner);
        if dead.values().any(fresh) {
            return dead.get(address).is_some_and(fresh);
        }
        drop(dead);
        let mut dead = self.dead.write().unwrap_or_else(PoisonError::into_inner);
        dead.retain(|_, since| fresh(since));
        self.some_dead.store(!dead.is_empty(), Relaxed);
        false
    }

    /// Asks, and remembers the answer. Without one, what was known before stays.
    async fn look_up(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>> {
        let asked = self.lookup.addresses(&endpoint.host, endpoint.port);
        let found = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(found) => found.map_err(|cause| unreachable(&cause)),
            Err(_) => Err(unreachable(&"the name server did not answer in time")),
        };
        let found = found.and_then(|found| {
            let allowed = |address: &SocketAddr| self.guard.check_address(endpoint, address.ip()).is_ok();
            let mut addresses: Vec<_> = found.into_iter().filter(allowed).collect();
            // IPv4 first: a host without IPv6 connectivity would otherwise fail every first attempt.
            addresses.sort_by_key(SocketAddr::is_ipv6);
            let none = || unreachable(&"no address that may be reached");
            if addresses.is_empty() { Err(none()) } else { Ok(addresses) }
        });
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry((endpoint.host.clone(), endpoint.port)).or_default();
        entry.asked = Some(Instant::now());
        if let Ok(addresses) = &found {
            entry.since = entry.asked;
            entry.addresses.clone_from(addresses);
        }
        found
    }
}

fn unreachable(cause: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::ProviderUnreachable, "The provider's host name could not be resolved.").with_cause(cause)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Answers by a script; the last answer is for ever.
    struct Scripted {
        answers: Mutex<Vec<io::Result<Vec<SocketAddr>>>>,
        asked: Mutex<usize>,
    }

    impl Scripted {
        fn new(answers: &[&[&str]]) -> Arc<Self> {
            let read = |answer: &&[&str]| match answer.is_empty() {
                true => Err(io::Error::other("the name server is down")),
                false => Ok(answer.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 443)).collect()),
            };
            let answers = answers.iter().rev().map(read).collect();
            Arc::new(Self { answers: Mutex::new(answers), asked: Mutex::default() })
        }

        fn asked(&self) -> usize {
            *self.asked.lock().unwrap()
        }
    }

    #[async_trait]
    impl Lookup for Scripted {
        async fn addresses(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            *self.asked.lock().unwrap() += 1;
            let mut answers = self.answers.lock().unwrap();
            let answer = if answers.len() > 1 {
                answers.pop().unwrap()
            } else {
                match &answers[0] {
                    Ok(addresses) => Ok(addresses.clone()),
                    Err(cause) => Err(io::Error::other(cause.to_string())),
                }
            };
            drop(answers);
            answer
        }
    }

    fn endpoint() -> Endpoint {
        Endpoint::parse("https://api.acme.example/v1").unwrap()
    }

    fn resolver(answers: &[&[&str]]) -> (Resolver, Arc<Scripted>) {
        let lookup = Scripted::new(answers);
        (Resolver::over(Arc::default(), Arc::clone(&lookup) as Arc<dyn Lookup>), lookup)
    }

    /// Makes what is known so old that it is looked up again.
    fn age(resolver: &Resolver) {
        for known in resolver.known.write().unwrap().values_mut() {
            known.asked = None;
            known.since = None;
        }
    }

    async fn resolved(resolver: &Resolver) -> Option<String> {
        resolver.resolve(&endpoint()).await.ok().map(|address| address.ip().to_string())
    }

    /// A name that resolves to a public address when it is checked and to a private one later: the connection goes to what was
    /// checked, and the private address is never given out.
    #[tokio::test]
    async fn a_name_that_turns_private_is_never_connected_to() {
        let (resolver, lookup) = resolver(&[&["9.9.9.9"], &["169.254.169.254"]]);
        assert_eq!(resolved(&resolver).await.as_deref(), Some("9.9.9.9"));
        assert_eq!(resolved(&resolver).await.as_deref(), Some("9.9.9.9"), "not asked again for the same connection");
        assert_eq!(lookup.asked(), 1);
        age(&resolver);
        assert_eq!(resolved(&resolver).await.as_deref(), Some("9.9.9.9"), "what was public goes on");
        assert_eq!(resolver.another(&endpoint(), &["9.9.9.9:443".parse().unwrap()]).await, None);
    }

    #[tokio::test]
    async fn no_private_address_among_public_ones_is_given_out() {
        for private in
            ["10.0.0.1", "::1", "fd00:ec2::254", "::ffff:10.0.0.1", "64:ff9b::a00:1", "0.0.0.0", "100.64.0.1"]
        {
            let (alone, _) = resolver(&[&[private]]);
            assert_eq!(resolved(&alone).await, None, "{private}");
            let (beside, _) = resolver(&[&[private, "9.9.9.9"]]);
            assert_eq!(resolved(&beside).await.as_deref(), Some("9.9.9.9"), "{private}");
            assert_eq!(beside.another(&endpoint(), &["9.9.9.9:443".parse().unwrap()]).await, None, "{private}");
        }
    }

    #[tokio::test]
    async fn an_address_that_nobody_answers_at_is_passed_over_for_the_others() {
        let (resolver, lookup) = resolver(&[&["2606:4700::1111", "9.9.9.9", "1.1.1.1"], &["1.1.1.1", "8.8.8.8"]]);
        let first = resolver.resolve(&endpoint()).await.unwrap();
        assert_eq!(first.ip().to_string(), "9.9.9.9", "IPv4 first");
        resolver.pass_over(&endpoint(), first);
        let second = resolver.another(&endpoint(), &[first]).await.unwrap();
        assert_eq!((second.ip().to_string().as_str(), lookup.asked()), ("1.1.1.1", 1));
        assert_eq!(resolver.reachable(&endpoint(), first), second, "whoever knows the first one gets the second");
        assert_eq!(resolver.reachable(&endpoint(), second), second);
        resolver.pass_over(&endpoint(), second);
        let third = resolver.another(&endpoint(), &[first, second]).await.unwrap();
        assert!(third.is_ipv6(), "the last resort");
        assert_eq!(resolver.reachable(&endpoint(), first), third, "the others are dead, too");
        age(&resolver);
        let moved = resolver.another(&endpoint(), &[first, second, third]).await.unwrap();
        assert_eq!((moved.ip().to_string().as_str(), lookup.asked()), ("8.8.8.8", 2), "the name was looked up anew");
    }

    #[tokio::test]
    async fn the_last_good_answer_serves_on_when_the_name_server_fails() {
        let (resolver, lookup) = resolver(&[&["9.9.9.9"], &[]]);
        assert_eq!(resolved(&resolver).await.as_deref(), Some("9.9.9.9"));
        age(&resolver);
        for _ in 0..10 {
            assert_eq!(resolved(&resolver).await.as_deref(), Some("9.9.9.9"));
        }
        assert_eq!(lookup.asked(), 2, "it is not asked again by every request");
    }

    /// Never answers.
    struct Mute;

    #[async_trait]
    impl Lookup for Mute {
        async fn addresses(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            std::future::pending().await
        }
    }

    /// A name server that never answers is waited for two seconds, and not by every request anew.
    #[tokio::test(start_paused = true)]
    async fn fault_40_name_server_that_never_answers() {
        let resolver = Resolver::over(Arc::default(), Arc::new(Mute));
        let before = tokio::time::Instant::now();
        let error = resolver.resolve(&endpoint()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ProviderUnreachable);
        assert_eq!(before.elapsed(), PATIENCE);
        assert!(resolver.resolve(&endpoint()).await.is_err());
        assert_eq!(before.elapsed(), PATIENCE, "the next one does not wait");
    }
}
