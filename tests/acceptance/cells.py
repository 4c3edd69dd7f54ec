"""The test matrix: which recordings stand for which feature of which provider, and what a client sends for them.

`cells.json` is the table, shared with the Node tests. Every recording in it is a real exchange (fidelity `wire` or
`wire_redacted`). Not here: what clients do (`test_*.py`, `node/`).
"""

from __future__ import annotations

import json
from typing import Any

import expect

TABLE: dict[str, dict[str, list[str]]] = json.loads((expect.HERE / "cells.json").read_text(encoding="utf-8"))
# One red dot.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
IMAGE = f"data:image/png;base64,{PNG}"
LOOK = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": IMAGE}}]

# A failing first provider: (name, what it does). `hang` needs a gateway with a short patience.
FAILURES = {
    "500": {"status": 500},
    "429": {"status": 429, "headers": {"retry-after": "7"}},
    "reset": {"reset": True},
    "hang": {"hang": True},
}
# Which provider fails and which one then answers, with what.
FAILOVERS = {
    "500": ("openai", "anthropic", "anthropic-messages-7f6ba69259b0"),
    "429": ("anthropic", "groq", "groq-chat-29b1f4be3fb6"),
    "reset": ("groq", "openai", "openai-chat-805b509c7869"),
    "hang": ("openai", "groq", "groq-chat-70c8ec3aed49"),
}
EXPECTED_STATUS = {"500": 502, "429": 429, "reset": 502, "hang": 504}


def ids(feature: str) -> list[str]:
    """The recordings of a feature, of all providers."""
    return [name for provider in TABLE.values() for name in provider.get(feature, [])]


def request(identity: str) -> dict[str, Any]:
    """The body an app would have sent, in OpenAI's terms; for a stream, with the wish to know the usage."""
    body = expect.request(identity)
    return {**body, "stream_options": {"include_usage": True}} if body.get("stream") else body


def saw_image(provider: str, body: dict[str, Any]) -> bool:
    """Whether a provider received the image of `LOOK`, in its own form."""
    parts = body["messages"][-1]["content"]
    if provider == "anthropic":
        source = {"type": "base64", "media_type": "image/png", "data": PNG}
        return any(part["type"] == "image" and part["source"] == source for part in parts)
    return any(part["type"] == "image_url" and part["image_url"]["url"] == IMAGE for part in parts)
