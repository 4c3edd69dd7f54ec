//! The configuration: as written → as checked, every mistake at once.
//!
//! A file of TOML, then `PERPETUO__SECTION__KEY` of the environment over it. Each key is declared in one place, with its
//! type, its default and its bounds (`sections`). A [`Config`] that exists is a valid one. Not here: models and prices
//! (`catalog`), and what tenants set for themselves (`store`).

mod problems;
pub(crate) mod reader;
mod secret;
mod sections;
pub(crate) mod setting;
mod source;
mod traces;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use problems::{Place, Problem, Problems};
pub use secret::Secret;
pub use sections::{
    AccessFormat, Admin, Durability, Jwt, Limits, Log, LogFormat, Logs, Meter, Metrics, Retry, Routing, Security,
    Server, Timeouts, Usage, WhenFull,
};

pub use traces::{Pair, Propagate, Tracing, headers};

use reader::{Reader, Source};

/// Everything an operator can set, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the store and generated secrets live; relative to the working directory.
    pub data_dir: PathBuf,
    /// A catalogue that replaces the built-in one.
    pub models: Option<PathBuf>,
    /// The address of the data plane, and how it is served.
    pub server: Server,
    /// The address of the admin plane.
    pub admin: Admin,
    /// The address for Prometheus.
    pub metrics: Metrics,
    /// How large things may be.
    pub limits: Limits,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How often one request is tried.
    pub retry: Retry,
    /// How candidates are ranked.
    pub routing: Routing,
    /// What guards the providers' keys and the private network.
    pub security: Security,
    /// What admin tokens must look like.
    pub jwt: Jwt,
    /// How usage is booked.
    pub meter: Meter,
    /// How long the request log is kept.
    pub logs: Logs,
    /// How long sums of usage are kept.
    pub usage: Usage,
    /// What the program prints, and the access log.
    pub log: Log,
    /// Trace contexts, and the export of spans.
    pub tracing: Tracing,
}

impl Default for Config {
    fn default() -> Self {
        Self::read(&mut Reader::empty(Source { file: "", text: "" }), &BTreeMap::new())
    }
}

impl Config {
    /// Reads a file, or nothing when there is no path, and the environment over it.
    ///
    /// Secrets that are named (`env:NAME`, `file:PATH`) are fetched here. Errors: every mistake that was found.
    pub fn load(path: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Self, Problems> {
        let Some(path) = path else { return Self::parse("", "defaults", env) };
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path);
        let parsed = Self::parse(text.as_deref().unwrap_or_default(), &name, env);
        let Err(cause) = text else { return parsed };
        let unreadable =
            Problem { place: Place::File(name, None), key: String::new(), message: format!("cannot be read: {cause}") };
        let rest = parsed.err().map_or_else(Vec::new, |problems| problems.0);
        Err(Problems(std::iter::once(unreadable).chain(rest).collect()))
    }

    /// Reads a text, which messages call `file_name`, and the environment over it.
    ///
    /// Errors: every mistake that was found.
    pub fn parse(text: &str, file_name: &str, env: impl Iterator<Item = (String, String)>) -> Result<Self, Problems> {
        let env: BTreeMap<String, String> = env.collect();
        let mut reader = Reader::document(Source { file: file_name, text });
        reader.override_with(&env);
        let config = Self::read(&mut reader, &env);
        config.check_addresses(&mut reader);
        Problems::or(reader.finish(), config)
    }

    fn read(reader: &mut Reader<'_>, env: &BTreeMap<String, String>) -> Self {
        Self {
            data_dir: reader.take("data_dir", PathBuf::from("data")),
            models: reader.optional("models"),
            server: Server::read(reader),
            admin: Admin::read(reader),
            metrics: Metrics::read(reader),
            limits: Limits::read(reader),
            timeouts: Timeouts::read(reader),
            retry: Retry::read(reader),
            routing: Routing::read(reader),
            security: Security::read(reader, env),
            jwt: Jwt::read(reader, env),
            meter: Meter::read(reader),
            logs: Logs::read(reader),
            usage: Usage::read(reader),
            log: Log::read(reader),
            tracing: Tracing::read(reader, env),
        }
    }

    /// The admin plane is never reachable from outside by accident, and no two planes want the same port.
    fn check_addresses(&self, reader: &mut Reader<'_>) {
        let loopback = self.server.listen.ip().to_canonical().is_loopback();
        if self.admin.listen.is_none() && !loopback && !reader.written("admin.listen") {
            reader.refuse(
                "server.listen",
                "this address is reachable from other machines, and without [admin] listen the admin API would be \
                 served there too; set [admin] listen (for example to \"127.0.0.1:3001\") or listen on 127.0.0.1",
            );
        }
        let planes = [
            ("server.listen", Some(self.server.listen)),
            ("admin.listen", self.admin.listen),
            ("metrics.listen", self.metrics.enabled.then_some(self.metrics.listen)),
        ];
        let planes: Vec<_> = planes.into_iter().filter_map(|(key, address)| Some((key, address?))).collect();
        for (index, (key, address)) in planes.iter().enumerate() {
            let earlier = planes.iter().take(index).find(|(_, other)| collide(*address, *other));
            if let Some((other, _)) = earlier {
                reader.refuse(key, format!("the same address as {other}; each needs its own"));
            }
        }
    }
}

/// Whether the second of two listeners could not be bound. Port 0 means any free port.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_host
}

#[cfg(test)]
mod tests;
