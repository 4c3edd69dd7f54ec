"""The form of an answer: one real identity, the members that OpenAI's schema requires, and the order of a stream."""

from __future__ import annotations

from typing import Any

import described

from .reading import Reading
from .result import Result, short

IDENTITY = (("id", str), ("model", str), ("created", int))


def check(result: Result, got: Reading, wanted: Reading, streams: bool) -> None:
    """A whole answer, or all chunks of a stream."""
    values = [value for value in (got.chunks if streams else [got.body]) if not value.get("error")]
    if described.AVAILABLE:
        kind = "chunk" if streams else "answer"
        found = described.stream_violations(values) if streams else described.violations(got.body, kind)
        for text in found:
            result.fail("shape", text)
    identity(result, values, wanted)
    if streams:
        order(result, values, got)


def identity(result: Result, values: list[dict[str, Any]], wanted: Reading) -> None:
    """One identity throughout: the provider's first real one, or a real one of the gateway's."""
    recorded = wanted.chunks if wanted.body is None else [wanted.body]
    for name, kind in IDENTITY:
        found = {value.get(name) for value in values}
        real = next((value[name] for value in recorded if value.get(name)), None)
        if real is not None and type(real) is kind:
            result.compare("shape", name, sorted(found, key=str), [real])
        # Recorders that made answers comparable wrote zero for the time.
        redacted = found == {0} and result.recording.fidelity != "wire"
        if len(found) != 1 or not all(isinstance(value, kind) and (value or redacted) for value in found):
            result.fail("shape", f"{name}: {sorted(map(str, found))}")


def order(result: Result, chunks: list[dict[str, Any]], got: Reading) -> None:
    """A choice says nothing after its end; usage stands once, without choices, after all of them."""
    ended: set[int] = set()
    for number, chunk in enumerate(chunks):
        for choice in chunk.get("choices", []):
            index, delta = choice.get("index", 0), choice.get("delta") or {}
            if index in ended and (delta.get("content") or delta.get("tool_calls")):
                result.fail("shape", f"chunk {number}: choice {index} goes on after its end")
            if choice.get("finish_reason"):
                ended.add(index)
    alone = [number for number, chunk in enumerate(chunks) if not chunk.get("choices") and chunk.get("usage")]
    beside = [number for number, chunk in enumerate(chunks) if chunk.get("choices") and chunk.get("usage")]
    if len(alone) > 1 or (alone and beside):
        result.fail("shape", f"usage in the chunks {alone} and beside choices in {beside}")
    if alone and not got.error and any(chunk.get("choices") for chunk in chunks[alone[0] :]):
        result.fail("shape", f"choices after the usage in chunk {alone[0]}")
