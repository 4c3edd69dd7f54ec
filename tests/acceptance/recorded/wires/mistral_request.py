"""Mistral's chat completions in OpenAI's terms: nearly the same API, with other names and typed content.

`prompt_mode`, `safe_prompt` and the like have no word at OpenAI and are forwarded.
"""

from __future__ import annotations

from typing import Any

from ..recording import Recording
from .base import Sent

NAMES = {"random_seed": "seed", "max_tokens": "max_completion_tokens", "output_dimension": "dimensions"}
# OpenAI's words, which the gateway does not forward because Mistral refuses them ("Logprobs are not enabled for this model").
REFUSED = ("logprobs", "top_logprobs")
NATIVE = ("guardrails", "prompt_mode", "safe_prompt")


def request_of(recording: Recording, address: str) -> Sent:
    """The request whose answer the recording is, for the model of this address."""
    recorded = recording.request
    expected = {name: value for name, value in recorded.items() if name not in REFUSED}
    sent = Sent({}, expected)
    for name, value in recorded.items():
        if name == "messages":
            value = [_message(message) for message in value]
        elif name == "tool_choice" and value == "any":
            value = "required"
        sent.body[NAMES.get(name, name)] = value
        sent.native += [name] if name in NATIVE else []
        if name in REFUSED:
            sent.lost.append(f"{name}: Mistral refuses it, so the gateway takes it out and says so")
    sent.body["model"] = address
    if recorded.get("stream"):
        sent.body["stream_options"] = {"include_usage": True}
    return sent


def _message(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts = [_part(part) for part in content if part["type"] != "thinking"]
    made = {**message, "content": parts}
    thinking = [inner["text"] for part in content if part["type"] == "thinking" for inner in part["thinking"]]
    if thinking:
        made["reasoning_content"] = "".join(thinking)
        made["content"] = "".join(part["text"] for part in parts)
    return made


def _part(part: dict[str, Any]) -> dict[str, Any]:
    match part["type"]:
        case "document_url":
            name = {"filename": part["document_name"]} if part.get("document_name") else {}
            return {"type": "file", "file": {"file_data": part["document_url"], **name}}
        case "input_audio":
            return {"type": "input_audio", "input_audio": {"data": part["input_audio"], "format": "mp3"}}
    return part


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """The same meaning in one form: ids numbered in their order, because Mistral wants them in a form of its own; the
    thinking of a message in one piece; nothing that says nothing."""
    result = {name: value for name, value in body.items() if value is not None}
    ids: dict[str, int] = {}
    if "messages" in result:
        result["messages"] = [_normal_message(message, ids) for message in result["messages"]]
    return result


def _normal_message(message: dict[str, Any], ids: dict[str, int]) -> dict[str, Any]:
    kept = dict(message)
    if isinstance(kept.get("content"), list):
        kept["content"] = [_normal_part(part) for part in kept["content"]]
    if kept.get("tool_calls"):
        kept["tool_calls"] = [{**call, "id": ids.setdefault(call["id"], len(ids))} for call in kept["tool_calls"]]
    if kept.get("tool_call_id") is not None:
        kept["tool_call_id"] = ids.setdefault(kept["tool_call_id"], len(ids))
    return kept


def _normal_part(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") != "thinking":
        return part
    return {**part, "thinking": [{"type": "text", "text": "".join(inner["text"] for inner in part["thinking"])}]}
