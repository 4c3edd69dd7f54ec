//! The whole gateway, started in-process on free ports, between real clients and simulated providers.
//!
//! One binary, one file for each subject; `support` starts a [`support::World`]. Not here: what a module's own tests can show.

// A test may say what it expects with `unwrap`, `[]` and `panic!`; the lints that forbid them are about the gateway.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// `unreachable_pub` is about a library's surface; here everything is one crate.
#![allow(unreachable_pub)]

mod support;

mod access_log;
mod bad_input;
mod bodies;
mod clients;
mod console;
mod crash;
mod fallback;
mod faults;
mod layout;
mod lifecycle;
mod lifecycle_deploy;
mod lifecycle_upgrade;
mod limits;
mod metering;
mod metrics;
mod process;
mod reconcile;
mod resilience;
mod routing;
mod secrets;
mod service_accounts;
mod soak;
mod ssrf;
mod streams;
mod tenancy;
mod tool_loop;
mod tracing;
mod upstreams;
mod vault;
mod ways;
