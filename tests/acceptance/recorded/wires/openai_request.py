"""Recorded requests of OpenAI's own wire, and of everyone's who is compatible with it: they are sent as they were recorded.

What must come out is the same, save for the name of the model, and that every stream is asked for its usage.
"""

from __future__ import annotations

import re
from typing import Any

from ..recording import Recording
from .base import Sent

# Those whose streams tell the usage unasked, and that document no way of asking.
UNASKED = {"perplexity"}
# OpenAI's own models that refuse `max_tokens` and want it under its newer name.
REASONING = re.compile(r"(ft:)?(o\d|gpt-([5-9]|\d\d))")


def request_of(recording: Recording, address: str) -> Sent:
    """The request whose answer the recording is, for the model of this address."""
    expected = dict(recording.request)
    if recording.provider in UNASKED:
        expected.pop("stream_options", None)
    elif expected.get("stream"):
        expected["stream_options"] = {**(expected.get("stream_options") or {}), "include_usage": True}
    if recording.provider == "openai" and REASONING.match(recording.model) and "max_tokens" in expected:
        expected.setdefault("max_completion_tokens", expected.pop("max_tokens"))
    return Sent({**recording.request, "model": address}, expected)


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """The body itself: nothing in it may change."""
    return body
