"""What a provider of OpenAI's own API sent must reach the client with every field, known or not.

More may be there: what OpenAI's description requires and the provider left out. What is put into OpenAI's words is judged
elsewhere, as the identity of a stream, its finish, its calls or its usage, and left out here.
"""

from __future__ import annotations

from typing import Any

from .reading import Reading, loose
from .result import Result, short

# Judged as the identity of the answer, as its finish, and as its usage.
ELSEWHERE = {
    "$": {"id", "object", "created", "model"},
    "$.choices[]": {"finish_reason"},
    "$.usage": {"prompt_tokens", "completion_tokens", "total_tokens"},
    "$.usage.prompt_tokens_details": {"cached_tokens"},
    "$.usage.completion_tokens_details": {"reasoning_tokens"},
}
# Service tiers by other names: Groq's, Anthropic's and Google's.
TIERS = {"on_demand": "default", "performance": "priority", "standard": "default", "provisioned": "scale"}


def _ended_once(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the chunks that say nothing but once more why a choice ended: a choice ends once."""
    ended: set[int] = set()
    kept = []
    for chunk in chunks:
        choices = chunk.get("choices") or []
        says = [text for choice in choices for name, text in (choice.get("delta") or {}).items() if name != "role" and text]
        again = choices and all(choice.get("finish_reason") and choice.get("index", 0) in ended for choice in choices)
        ended |= {choice.get("index", 0) for choice in choices if choice.get("finish_reason")}
        if not again or says or chunk.get("usage"):
            kept.append(chunk)
    return kept


def check(result: Result, got: Reading, wanted: Reading) -> None:
    """Chunk by chunk, or the whole answer. Usage that came along with choices may stand in OpenAI's usage chunk instead."""
    ours, theirs = (got.chunks, wanted.chunks) if wanted.body is None else ([got.body], [wanted.body])
    ours, theirs = ([value for value in values if not value.get("error")] for values in (ours, theirs))
    theirs = _ended_once(theirs)
    told = any(value.get("usage") and not value.get("choices") for value in ours)
    if told and len(ours) == len(theirs) + 1:
        ours = [value for value in ours if value.get("choices") or not value.get("usage")]
    result.compare("shape", "number of chunks", len(ours), len(theirs))
    # Usage that is told choice by choice is added up in the last of its chunks.
    apart = sum(1 for value in theirs if value.get("usage") and not value.get("choices")) > 1
    for index, (value, recorded) in enumerate(zip(ours, theirs)):
        if apart:
            recorded = {name: member for name, member in recorded.items() if name != "usage"}
        if told and recorded.get("choices") and recorded.get("usage") and value.get("usage") is None:
            recorded = {**recorded, "usage": None}
        if lacking := lacks(value, recorded):
            result.fail("shape", f"chunk {index} lacks {lacking}")
            return


def lacks(value: Any, recorded: Any, path: str = "$") -> str | None:
    """The first place where the recorded JSON is not found again; more may be there."""
    if isinstance(recorded, dict) and isinstance(value, dict):
        names = [name for name in recorded if name not in ELSEWHERE.get(path, ())]
        missing = (f"{path}.{name}" for name in names if name not in value)
        inner = (lacks(value[name], recorded[name], f"{path}.{name}") for name in names if name in value)
        return next(missing, None) or next(filter(None, inner), None)
    if isinstance(recorded, list) and isinstance(value, list) and len(recorded) == len(value):
        inner = (lacks(*both, f"{path}[]") for both in zip(value, recorded))
        return next(filter(None, inner), None)
    return None if same(value, recorded, path) else f"{path}: expected {short(recorded)}, got {short(value)}"


def same(value: Any, recorded: Any, path: str) -> bool:
    """Whether a value is the recorded one, or what stands for it in OpenAI's words."""
    if value == recorded:
        return True
    if path.endswith(".service_tier"):
        return value == TIERS.get(recorded)
    if path.endswith(".function.arguments") and isinstance(value, str):
        return loose(value) == (recorded if isinstance(recorded, dict) else loose(recorded or "") or {})
    if path.endswith(".annotations"):
        # Those of other types stand aside, where they are judged as citations.
        return value == [annotation for annotation in recorded if annotation.get("type") == "url_citation"]
    if path.endswith("_tokens_details"):
        return recorded is None
    if path.startswith("$.usage.") and path.endswith("_tokens"):
        return recorded is None and value == 0
    if path.endswith((".tool_calls[].id", ".reasoning_content", ".delta", ".message")):
        return not recorded
    return False
