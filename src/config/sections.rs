//! The sections of the configuration: each key with its type, default and bounds, declared once.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::reader::Reader;
use super::secret::Secret;
use super::setting::{Setting, Words};
use super::source::{Literal, take_secret, take_secrets};
use crate::api::strategy::StrategyName;

const MIB: usize = 1024 * 1024;
const GIB: usize = 1024 * MIB;
/// More than any machine has of anything.
const MANY: u64 = 1 << 48;
const MEBIBYTE: u64 = 1 << 20;
const GIBIBYTE: u64 = 1 << 30;
const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// `[server]`: the data plane.
#[derive(Clone, Debug)]
pub struct Server {
    /// The address that clients call; loopback unless the admin plane has its own.
    pub listen: SocketAddr,
    /// Worker threads; one for each CPU unless set.
    pub threads: usize,
    /// Whether HTTP/2 without TLS is accepted beside HTTP/1.1.
    pub h2c: bool,
    /// How long an idle client connection stays open.
    pub max_keepalive: Duration,
    /// How long a process that is to end goes on taking connections.
    pub grace: Duration,
    /// How long it then waits for running answers.
    pub drain: Duration,
}

impl Server {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from).min(1024);
        Self {
            listen: reader.take("server.listen", loopback(3000)),
            threads: reader.within("server.threads", cpus, 1..=1024),
            h2c: reader.take("server.h2c", true),
            max_keepalive: reader.within("server.max_keepalive", 75 * SECOND, SECOND..=DAY),
            grace: reader.within("server.grace", Duration::ZERO, Duration::ZERO..=DAY),
            drain: reader.within("server.drain", 30 * SECOND, Duration::ZERO..=DAY),
        }
    }
}

/// `[admin]`: the admin plane.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Its own address; without one it shares the server's.
    pub listen: Option<SocketAddr>,
    /// Whether the console is served there.
    pub console: bool,
}

impl Admin {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { listen: reader.optional("admin.listen"), console: reader.take("admin.console", true) }
    }
}

/// `[metrics]`: the page for Prometheus.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Whether it is served at all.
    pub enabled: bool,
    /// Its address.
    pub listen: SocketAddr,
    /// Workspaces that have series of their own; the others share one name.
    pub max_workspaces: usize,
    /// Models, each at each provider, that have series of their own; the others share one name.
    pub max_models: usize,
}

impl Metrics {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            enabled: reader.take("metrics.enabled", true),
            listen: reader.take("metrics.listen", loopback(9464)),
            max_workspaces: reader.within("metrics.max_workspaces", 100, 0..=10_000),
            max_models: reader.within("metrics.max_models", 200, 0..=10_000),
        }
    }
}

/// `[limits]`: sizes in bytes, and how much may be under way.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest request body.
    pub max_body_bytes: usize,
    /// The largest single event of a stream.
    pub max_event_bytes: usize,
    /// The largest whole answer, which is held until it is complete.
    pub max_answer_bytes: usize,
    /// Requests under way in all.
    pub max_in_flight: u64,
    /// Requests under way of one workspace, which its own `max_in_flight` can only lower.
    pub max_in_flight_per_workspace: u64,
    /// Bytes of request bodies that are held in all.
    pub max_buffered_bytes: u64,
    /// Bytes of request bodies that are held for one workspace.
    pub max_buffered_bytes_per_workspace: u64,
    /// Connections that a listener holds open in all.
    pub max_connections: usize,
    /// The same from one address.
    pub max_connections_per_address: usize,
    /// The largest head of a request.
    pub max_header_bytes: usize,
    /// Bytes of a request's body per second below which it is given up.
    pub min_body_rate: u32,
}

impl Limits {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            max_body_bytes: reader.within("limits.max_body_bytes", 32 * MIB, 1..=GIB),
            max_event_bytes: reader.within("limits.max_event_bytes", 16 * MIB, 1..=GIB),
            max_answer_bytes: reader.within("limits.max_answer_bytes", 64 * MIB, 1..=GIB),
            max_in_flight: reader.within("limits.max_in_flight", 32_768, 1..=MANY),
            max_in_flight_per_workspace: reader.within("limits.max_in_flight_per_workspace", 16_384, 1..=MANY),
            max_buffered_bytes: reader.within("limits.max_buffered_bytes", 1 << 30, 1..=MANY),
            max_buffered_bytes_per_workspace: reader.within(
                "limits.max_buffered_bytes_per_workspace",
                1 << 29,
                1..=MANY,
            ),
            max_connections: reader.within("limits.max_connections", 32_768, 1..=10_000_000),
            max_connections_per_address: reader.within("limits.max_connections_per_address", 16_384, 1..=10_000_000),
            max_header_bytes: reader.within("limits.max_header_bytes", 64 * 1024, 1024..=MIB),
            min_body_rate: reader.within("limits.min_body_rate", 1024, 1..=1_000_000_000),
        }
    }
}

/// `[timeouts]`.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// Until a TCP connection to a provider stands.
    pub connect: Duration,
    /// Until the whole connection stands, TLS included; never shorter than `connect`.
    pub tls: Duration,
    /// From the request being sent until the first content.
    pub first_token: Duration,
    /// Between two reads of an answer.
    pub idle: Duration,
    /// Between two signs of life to the client of a stream that has begun; zero for none.
    pub ping: Duration,
    /// The whole request, all attempts included; the most a client can ask for.
    pub total: Duration,
    /// Until the head of a client's request is in, and from when on its body must keep its pace.
    pub head: Duration,
    /// Until the client's body is in.
    pub body: Duration,
}

impl Timeouts {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let ping = reader.within("timeouts.ping", 15 * SECOND, Duration::ZERO..=DAY);
        let mut limit = |path, seconds| reader.within(path, seconds * SECOND, MILLISECOND..=DAY);
        Self {
            ping,
            connect: limit("timeouts.connect", 2),
            tls: limit("timeouts.tls", 5),
            first_token: limit("timeouts.first_token", 120),
            idle: limit("timeouts.idle", 60),
            total: limit("timeouts.total", 600),
            head: limit("timeouts.head", 10),
            body: limit("timeouts.body", 30),
        }
    }
}

/// `[retry]`.
#[derive(Clone, Debug)]
pub struct Retry {
    /// Attempts for one request, the first included.
    pub max_attempts: u32,
    /// How long a request waits for a credential that cools down, when there is no other.
    pub max_wait: Duration,
    /// Whether the only route of a model is tried again, after a little while.
    pub same_route: bool,
}

impl Retry {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            max_attempts: reader.within("retry.max_attempts", 3, 1..=10),
            max_wait: reader.within("retry.max_wait", 2 * SECOND, Duration::ZERO..=300 * SECOND),
            same_route: reader.take("retry.same_route", false),
        }
    }
}

/// `[routing]`.
#[derive(Clone, Debug)]
pub struct Routing {
    /// The strategy where neither request, key nor workspace names one.
    pub strategy: StrategyName,
}

impl Routing {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { strategy: reader.take("routing.strategy", StrategyName::Default) }
    }
}

/// `[security]`. Its `Debug` shows no secret.
#[derive(Clone)]
pub struct Security {
    /// Hosts that a credential's `base_url` may name although they are private; plain `http` is allowed for them too.
    /// In the form of [`crate::provider::Endpoint::host`].
    pub allow_private_upstreams: Vec<String>,
    /// Seals the providers' keys at rest; without one a file `master.key` in the data directory.
    pub master_key: Option<Secret>,
    /// Those that sealed before it, newest first: what they sealed can still be read, and is sealed anew by a rotation.
    pub old_master_keys: Vec<Secret>,
    /// Certificates to trust instead of the built-in authorities, PEM.
    pub ca_file: Option<PathBuf>,
}

impl Security {
    pub(super) fn read(reader: &mut Reader<'_>, env: &BTreeMap<String, String>) -> Self {
        let hosts: Vec<HostName> = reader.take("security.allow_private_upstreams", Vec::new());
        Self {
            allow_private_upstreams: hosts.into_iter().map(|host| host.0).collect(),
            master_key: take_secret(reader, "security.master_key", Literal::Refused, env),
            old_master_keys: take_secrets(reader, "security.old_master_keys", Literal::Refused, env),
            ca_file: reader.optional("security.ca_file"),
        }
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("allow_private_upstreams", &self.allow_private_upstreams)
            .field("master_key", &hidden(self.master_key.as_ref()))
            .field("old_master_keys", &self.old_master_keys.len())
            .field("ca_file", &self.ca_file)
            .finish()
    }
}

/// `[jwt]`: admin tokens. Its `Debug` shows no secret.
#[derive(Clone)]
pub struct Jwt {
    /// The shared secret of HS256, at least 16 bytes, better 32; without one a file in the data directory.
    pub hs256_secret: Option<Secret>,
    /// The `iss` that tokens must have.
    pub issuer: String,
    /// The `aud` that tokens must have.
    pub audience: String,
    /// The longest life of a token.
    pub max_ttl: Duration,
}

impl Jwt {
    pub(super) fn read(reader: &mut Reader<'_>, env: &BTreeMap<String, String>) -> Self {
        Self {
            hs256_secret: take_secret(reader, "jwt.hs256_secret", Literal::Allowed, env),
            issuer: reader.take("jwt.issuer", "perpetuo".to_owned()),
            audience: reader.take("jwt.audience", "perpetuo-admin".to_owned()),
            max_ttl: reader.within("jwt.max_ttl", DAY, SECOND..=365 * DAY),
        }
    }
}

impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt")
            .field("hs256_secret", &hidden(self.hs256_secret.as_ref()))
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("max_ttl", &self.max_ttl)
            .finish()
    }
}

/// `[meter]`: how usage gets into the ledger.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Bookings that may wait for the store.
    pub queue: usize,
    /// How long bookings are gathered for one commit.
    pub batch: Duration,
    /// What is on disk when an answer ends.
    pub durability: Durability,
    /// What happens to requests while the queue is full.
    pub when_full: WhenFull,
}

impl Meter {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            queue: reader.within("meter.queue", 65_536, 1..=16_777_216),
            batch: reader.within("meter.batch", 20 * MILLISECOND, Duration::ZERO..=50 * MILLISECOND),
            durability: reader.take("meter.durability", Durability::Batch),
            when_full: reader.take("meter.when_full", WhenFull::Continue),
        }
    }
}

/// What is on disk when an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Perhaps not yet its booking; it follows within the time of a batch and a commit.
    Batch,
    /// Its booking: the last byte waits for it.
    Sync,
}

impl Words for Durability {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("batch", Self::Batch), ("sync", Self::Sync)]
    }
}

/// What happens to requests while bookings can't be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// They are served; what could not be booked is counted and logged.
    Continue,
    /// They are refused with a 503, so that nothing is served unbooked.
    Refuse,
}

impl Words for WhenFull {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("continue", Self::Continue), ("refuse", Self::Refuse)]
    }
}

/// `[logs]`: the request log that tenants can read.
#[derive(Clone, Debug)]
pub struct Logs {
    /// Days until an entry is deleted; the usage sums stay.
    pub keep_days: u32,
    /// Bytes on disk beyond which the oldest entries are deleted.
    pub max_bytes: u64,
}

impl Logs {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            keep_days: reader.within("logs.keep_days", 30, 1..=36_500),
            max_bytes: reader.within("logs.max_bytes", 10 * GIBIBYTE, 64 * MEBIBYTE..=MANY),
        }
    }
}

/// `[usage]`: the sums of what was used.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Days until a sum over a day is deleted.
    pub keep_days: u32,
    /// Days until a sum over an hour is deleted.
    pub keep_hours_days: u32,
    /// Days until a sum over a minute is deleted.
    pub keep_minutes_days: u32,
}

impl Usage {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            keep_days: reader.within("usage.keep_days", 1100, 1..=36_500),
            keep_hours_days: reader.within("usage.keep_hours_days", 31, 1..=36_500),
            keep_minutes_days: reader.within("usage.keep_minutes_days", 2, 1..=36_500),
        }
    }
}

/// `[log]`: what the program prints, and the access log.
#[derive(Clone, Debug)]
pub struct Log {
    /// The least important level of the program's own lines.
    pub level: tracing::Level,
    /// The form of the program's own lines.
    pub format: LogFormat,
    /// The form of the access log, a line for each request.
    pub access: AccessFormat,
    /// Its file; without one it is standard output.
    pub access_file: Option<PathBuf>,
    /// Whether it names the address that a request came from.
    pub client_address: bool,
    /// Whether it holds what was said.
    pub content: bool,
    /// Bytes of each body that it holds then.
    pub content_bytes: usize,
}

impl Log {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            level: reader.take("log.level", tracing::Level::INFO),
            format: reader.take("log.format", LogFormat::Auto),
            access: reader.take("log.access", AccessFormat::Auto),
            access_file: reader.optional("log.access_file"),
            client_address: reader.take("log.client_address", false),
            content: reader.take("log.content", false),
            content_bytes: reader.within("log.content_bytes", 16 * 1024, 1..=MIB),
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

impl Words for LogFormat {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("auto", Self::Auto), ("json", Self::Json), ("text", Self::Text)]
    }
}

/// The form of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
    /// None.
    Off,
}

impl Words for AccessFormat {
    fn words() -> Vec<(&'static str, Self)> {
        vec![("auto", Self::Auto), ("json", Self::Json), ("text", Self::Text), ("off", Self::Off)]
    }
}

/// A host in the one form that a parsed URL gives it.
struct HostName(String);

impl Setting for HostName {
    fn expected() -> String {
        "a host name or an address without scheme, port and path".to_owned()
    }

    fn from_toml(value: &toml::de::DeValue<'_>) -> Option<Self> {
        Self::from_text(value.as_str()?)
    }

    fn from_text(text: &str) -> Option<Self> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<std::net::IpAddr>() {
            return Some(Self(address.to_string()));
        }
        url::Host::parse(text).ok().map(|host| Self(host.to_string()))
    }
}

/// How a secret is shown: whether there is one.
pub(super) const fn hidden(secret: Option<&Secret>) -> &'static str {
    if secret.is_some() { "set" } else { "not set" }
}
