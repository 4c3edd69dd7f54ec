"""What real clients must get for a recording: the corpus as the tests of SDKs need it. The work is done in `recorded`."""

from __future__ import annotations

from typing import Any

from recorded.reading import Call, Choice, Reading, Usage, loose
from recorded.recording import CORPUS, HERE, NO_CORPUS, Recording, load
from recorded.wires import wire_of
from recorded.wires.openai import usage_of

__all__ = [
    "CORPUS", "HERE", "NO_CORPUS", "Call", "Choice", "Reading", "Recording", "Usage", "load", "loose", "reading", "request",
    "usage_of",
]  # fmt: skip


def reading(identity: str) -> Reading:
    """What the provider said."""
    recording = load(identity)
    return wire_of(recording).read(recording)


def request(identity: str) -> dict[str, Any]:
    """The body an app would have sent, in OpenAI's terms."""
    recording = load(identity)
    return wire_of(recording).request_of(recording).body
