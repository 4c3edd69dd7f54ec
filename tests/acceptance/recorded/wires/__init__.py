"""The provider APIs of the corpus, one module each, and which recording speaks which."""

from __future__ import annotations

from ..recording import Recording
from .anthropic import ANTHROPIC, VERTEX_CLAUDE
from .base import HI, Placement, Sent, Wire
from .bedrock import BEDROCK
from .cohere import COHERE
from .embeddings import EMBEDDINGS, OPENAI_EMBEDDINGS
from .gemini import GEMINI, VERTEX
from .mistral import MISTRAL
from .ollama import OLLAMA
from .openai import AZURE, OPENAI

__all__ = ["HI", "Placement", "Sent", "Wire", "wire_of"]

CHAT = {"azure": AZURE, "mistral": MISTRAL}
GOOGLE_EMBEDDINGS = ("batchEmbedContents", "embedContent", "predict")


def wire_of(recording: Recording) -> Wire | None:
    """The wire of a recording; None where it is of an API that the gateway does not speak."""
    vertex = recording.provider == "vertex"
    match recording.endpoint:
        case "chat":
            return CHAT.get(recording.provider, OPENAI)
        case "messages":
            return VERTEX_CLAUDE if vertex else ANTHROPIC
        case "generateContent" | "streamGenerateContent":
            return VERTEX if vertex else GEMINI
        case "converse" | "converse_stream":
            return BEDROCK
        case "chat_v2":
            return COHERE
        case "ollama_chat":
            return OLLAMA
        case "embeddings" if recording.path == "/api/embeddings":
            return None
        case "embeddings":
            return EMBEDDINGS.get(recording.provider, OPENAI_EMBEDDINGS)
        case endpoint if endpoint in GOOGLE_EMBEDDINGS:
            return EMBEDDINGS[recording.provider]
    return None
