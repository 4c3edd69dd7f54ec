//! Perpetuo, an LLM gateway that is a Pingora `ProxyHttp`.
//!
//! Apps point their OpenAI base URL at it. It authenticates them by virtual key, ranks the providers that can serve the
//! model, rewrites the request into the chosen provider's API, falls back while the client has seen nothing, turns the
//! answer back into OpenAI's shape as it streams, and books every token and every cent.
//!
//! # Code map, from the top down
//!
//! | module | what |
//! | --- | --- |
//! | `main`, `cli` | the command line (binary only) |
//! | [`proxy`] | the only code that knows connections and Pingora: admit, attempt, commit, stream, answer |
//! | [`admin`] | the admin API: an axum router, one file per resource; the console, a page over it |
//! | [`live`] | the requests under way, for the console |
//! | [`balance`] | candidates → order: planning, live counters, breaker, strategies, discovery |
//! | [`telemetry`] | what is told of a request at its end: the access log, spans for a collector |
//! | [`meter`] | the only writer of usage: prices it, books it, feeds the metrics |
//! | [`directory`] | tenants in memory: what the request path reads and the admin API writes through |
//! | [`shed`] | bounded load: requests under way, bytes of bodies |
//! | [`quota`] | rate limits and budgets of workspaces and virtual keys |
//! | [`guard`] | which upstream addresses may be reached |
//! | [`provider`] | upstream dialects, sans-I/O: one folder per API, one row per provider |
//! | [`store`] | what outlives the process: a journal, and the tenants and roll-ups that follow from it; on disk or in memory |
//! | [`handover`] | a new process in the place of a running one: sockets, store and bookings change hands |
//! | [`vault`] | the master key, sealing of provider keys, hashing of virtual keys |
//! | [`metrics`] | every metric as a field of one struct |
//! | [`catalog`] | models, prices, aliases: `conf/models.toml` |
//! | [`config`] | `conf/perpetuo.toml` as written → as checked |
//! | [`api`], [`usage`], [`money`] | what clients speak; tokens; integer money |
//! | [`frames`], [`sse`], [`ndjson`], [`eventstream`] | bytes in any cut → events |
//! | [`http1`] | HTTP/1 where it is not Pingora's, sans-I/O: usual requests, and answers of upstreams |
//! | [`seldom`] | what may be said only now and then |
//! | [`error`] | the one error type and the one table from an error to an answer |
//! | [`simulator`] | simulated providers for the demo, the tests and benchmarks |
//!
//! Dependencies point down this table; a test holds them to it.
//!
//! # A request's walk
//!
//! 1. A usual request is taken off its connection itself ([`http1`]); every other one comes by Pingora, to the `request_filter` of
//!    [`proxy::Listener`]. The route is found, and one snapshot of the configuration taken.
//! 2. *admit*: virtual key → room for it ([`shed`]) → size → `Expect` → body under one deadline and one cap → head without a full
//!    parse → the [`balance::group::Group`] of candidates for this model in this workspace → its limits ([`quota`]).
//! 3. *the loop*: the best candidate that is not tried, open, cooling or disabled; its dialect makes the request; one attempt, and
//!    a hedge where it is due, raced against the client's leaving. A retryable error goes on to the next candidate, as far as the
//!    retry budget goes.
//! 4. *one attempt*: connect or reuse, send, read the head, translate up to the **first content**. Until then nothing has been
//!    written to the client, so a failure is invisible to it.
//! 5. *commit*: the head is written, and names what serves. From here on a failure is an error event, never a clean end.
//! 6. *end*: counters and breaker learn the outcome; one booking goes to the ledger, before the last byte of a success.
//!
//! # Invariants
//!
//! * One place retries (`proxy::serve`), one books (`Gateway::finish`), one answers errors (`proxy::respond`).
//! * Nothing a client sent is lost in silence: it is translated, passed on, reported by name, or refused.
//! * Same dialect in and out: the bytes are forwarded, and only what must change is changed.
//! * A broken stream never looks complete.
//! * No secret can be printed: [`config::Secret`] has neither `Debug` nor `Display`.
//!
//! # Embedding
//!
//! ```no_run
//! use perpetuo::config::Config;
//! use perpetuo::proxy::{Gateway, Planes};
//!
//! # async fn request_filter(session: &mut pingora::proxy::Session, gateway: &Gateway) -> pingora::Result<bool> {
//! // Once, at start: `let gateway = Gateway::open(Config::default())?;`
//! // Then, in the `request_filter` of any Pingora program:
//! if session.req_header().uri.path().starts_with("/v1/") {
//!     gateway.handle(session, Planes { data: true, ..Planes::default() }).await;
//!     return Ok(true);
//! }
//! # Ok(false)
//! # }
//! ```

pub mod admin;
pub mod api;
pub mod balance;
pub mod catalog;
pub mod config;
pub mod directory;
pub mod error;
pub mod eventstream;
pub mod frames;
pub mod guard;
pub mod handover;
pub mod http1;
pub mod live;
pub mod meter;
pub mod metrics;
pub mod money;
pub mod ndjson;
pub mod provider;
pub mod proxy;
pub mod quota;
pub mod seldom;
pub mod shed;
pub mod simulator;
pub mod sse;
pub mod store;
pub mod telemetry;
pub mod usage;
pub mod vault;
