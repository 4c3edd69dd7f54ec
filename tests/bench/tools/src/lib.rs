//! What the gateway is measured with: see `src/bin`.
//!
//! Neither is a model of a real provider or client: they do the least that lets a proxy do all of its work.

pub mod clients;
pub mod provider;
pub mod steps;
pub mod wire;
