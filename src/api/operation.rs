//! What a request asks of a model, in OpenTelemetry's words.

use serde::{Deserialize, Serialize};

/// The operation of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Chat completions.
    #[default]
    Chat,
    /// Embeddings.
    Embeddings,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 2] = [Self::Chat, Self::Embeddings];

    /// The word of OpenTelemetry's `gen_ai.operation.name`, and of the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Embeddings => "embeddings",
        }
    }

    /// Whether it is the usual one, which the ledger leaves out.
    pub fn is_chat(&self) -> bool {
        *self == Self::Chat
    }
}
