//! Perpetuo, an LLM gateway.

pub mod admin;
pub mod api;
pub mod balance;
pub mod catalog;
pub mod config;
pub mod directory;
pub mod error;
pub mod guard;
pub mod meter;
pub mod metrics;
pub mod money;
pub mod provider;
pub mod proxy;
pub mod simulator;
pub mod sse;
pub mod store;
pub mod usage;
pub mod vault;
