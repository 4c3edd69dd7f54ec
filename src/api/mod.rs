//! What clients speak: OpenAI's shapes, as data.
//!
//! Nothing here knows a provider, a clock or a socket. [`scan`] looks at a body without parsing it whole, [`head`] reads what
//! every request is asked, [`walk`] takes valid texts apart, [`literal`] writes them into bodies,
//! a [`rope`] is a body that shares what stays the same. [`chat`] is the typed request a foreign dialect translates from,
//! [`answer`] what it translates into, [`envelope`] an error as JSON.

pub mod answer;
pub mod chat;
pub mod embeddings;
pub mod envelope;
mod grammar;
pub mod head;
pub mod literal;
pub mod models;
pub mod operation;
pub mod rope;
pub mod scan;
pub mod strategy;
pub mod walk;
