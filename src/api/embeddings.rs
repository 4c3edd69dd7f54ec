//! `POST /v1/embeddings`: what the gateway must know of the request. The rest goes through untouched.

use serde_json::Value;

use super::scan::Body;
use crate::error::{Error, Result};

/// Checks the shape that every provider needs: an `input` that is a text, a list of texts or tokens.
pub fn check(body: &Body) -> Result<()> {
    match body.get::<Value>("input")? {
        Some(Value::String(_)) => Ok(()),
        Some(Value::Array(items)) if !items.is_empty() => Ok(()),
        Some(Value::Array(_)) => Err(Error::invalid("input", "'input' must not be empty.")),
        Some(_) => Err(Error::invalid("input", "'input' must be a string or an array.")),
        None => Err(Error::invalid("input", "You must provide an 'input' parameter.")),
    }
}
