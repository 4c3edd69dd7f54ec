//! The configuration: as written → as checked, every problem at once.

mod secret;

pub use secret::Secret;
