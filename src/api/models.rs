//! `GET /v1/models`: OpenAI's model list.

use serde::Serialize;

/// One model a key can call.
#[derive(Clone, Debug, Serialize)]
pub struct Model {
    /// The name to put into `model`.
    pub id: String,
    /// Always `model`.
    pub object: &'static str,
    /// Seconds since 1970.
    pub created: i64,
    /// The provider, or `perpetuo` for an alias.
    pub owned_by: String,
}

/// The list.
#[derive(Clone, Debug, Serialize)]
pub struct ModelList {
    /// Always `list`.
    pub object: &'static str,
    /// Sorted by id.
    pub data: Vec<Model>,
}
