"""Recorded requests of OpenAI's own wire, and of everyone's who is compatible with it: they are sent as they were recorded.

What must come out is the same, save for the name of the model, and that every stream is asked for its usage.
"""

from __future__ import annotations

from typing import Any

from ..recording import Recording
from .base import Sent

# Those whose streams tell the usage unasked, and that document no way of asking.
UNASKED = {"perplexity"}


def request_of(recording: Recording, address: str) -> Sent:
    """The request whose answer the recording is, for the model of this address."""
    expected = dict(recording.request)
    if recording.provider in UNASKED:
        expected.pop("stream_options", None)
    elif expected.get("stream"):
        expected["stream_options"] = {**(expected.get("stream_options") or {}), "include_usage": True}
    return Sent({**recording.request, "model": address}, expected)


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """The body itself: nothing in it may change."""
    return body
