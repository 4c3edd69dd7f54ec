"""The rows of the table: which request, how it is driven, and what bound holds for it.

A bound is how much a proxy may cost beside a bare Pingora proxy in the same run. Not here: how that is measured (`measure`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

WORDS = "The quick brown fox asks the lazy dog what it would have answered. "


@dataclass(frozen=True)
class Row:
    """One kind of request."""

    name: str
    title: str
    dialect: str
    # Bytes of the whole body, about.
    size: int
    # How a stream comes: `step` (each event when the client has the one before), `burst`, or none for JSON.
    stream: str | None = None
    # Most that it may cost, as a share of bare Pingora: instructions, CPU time.
    bounds: tuple[float | None, float | None] = (None, None)
    connections: int = 64
    # Requests of one timed round, and of one count of instructions.
    requests: int = 8000
    counted: int = 400


ROWS = [
    Row("json", "OpenAI → OpenAI, 1 KB, JSON", "openai", 1000, bounds=(1.30, 1.35)),
    Row("json-translated", "OpenAI → Anthropic and back, 1 KB, JSON", "anthropic", 1000, bounds=(1.75, 1.75)),
    Row("100k", "100 KB, same dialect", "openai", 100_000, bounds=(1.15, 1.15), connections=16, requests=2000, counted=100),
    Row("1m", "1 MB, same dialect", "openai", 1_000_000, bounds=(1.15, 1.15), connections=8, requests=300, counted=30),
    Row("1m-translated", "1 MB, translated", "anthropic", 1_000_000, bounds=(2.2, 2.2), connections=8, requests=200, counted=30),
    Row("stream", "stream of 100 events, same dialect", "openai", 1000, "step", (1.15, 1.15), 16, 400, 30),
    Row("stream-translated", "stream of 100 events, translated", "anthropic", 1000, "step", (1.4, 1.4), 16, 400, 30),
    Row("burst", "the same in one burst, same dialect", "openai", 1000, "burst", (None, None), 16, 2000, 60),
    Row("burst-translated", "the same in one burst, translated", "anthropic", 1000, "burst", (None, None), 16, 2000, 60),
]  # fmt: skip


def body(model: str, size: int, stream: str | None = None) -> str:
    """A request as an SDK writes it: a system text, some turns, and a text that fills it up."""
    request: dict[str, Any] = {"model": model, "max_tokens": 400, "temperature": 0.7}
    if stream:
        request |= {"stream": True, "stream_options": {"include_usage": True}, "user": f"{stream}-{{stream}}"}
    messages = [
        {"role": "system", "content": "You are a helpful assistant. Answer shortly, and say so when you do not know."},
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": ""},
    ]
    request["messages"] = messages
    missing = max(0, size - len(json.dumps(request, separators=(",", ":"))))
    messages[-1]["content"] = (WORDS * (missing // len(WORDS) + 1))[:missing] or "And of Italy?"
    return json.dumps(request, separators=(",", ":"), ensure_ascii=False)
