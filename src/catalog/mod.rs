//! Models, their prices and their aliases: `conf/models.toml`, read and checked.

use crate::money::Money;

/// What a model costs per token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices {
    /// A prompt token.
    pub input: Money,
    /// A completion token.
    pub output: Money,
    /// A prompt token read from a cache.
    pub cached_read: Option<Money>,
    /// A prompt token written to a cache.
    pub cache_write: Option<Money>,
    /// A prompt token written to a cache for an hour.
    pub cache_write_1h: Option<Money>,
}
