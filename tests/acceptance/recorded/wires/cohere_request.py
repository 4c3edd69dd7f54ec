"""Cohere's chat (its second version) and embeddings in OpenAI's terms."""

from __future__ import annotations

from typing import Any

from ..recording import Recording
from .base import Sent

# Parameters of Cohere's API that the gateway takes by these names, because OpenAI's has no word for them.
NATIVE = ("citation_options", "documents", "k", "p", "priority", "raw_prompting", "safety_mode", "strict_tools", "thinking")
NATIVE_EMBEDDINGS = ("input_type", "max_tokens", "priority", "truncate")


def request_of(recording: Recording, address: str) -> Sent:
    """The request whose answer the recording is, for the model of this address."""
    recorded = recording.request
    if "texts" in recorded:
        return _embeddings(recorded, address)
    sent = Sent({"model": address}, dict(recorded))
    for name, value in recorded.items():
        match name:
            case "messages":
                sent.body[name] = [_message(sent, message) for message in value]
            case "stop_sequences":
                sent.body["stop"] = value
            case "tool_choice":
                sent.body[name] = value.lower()
            case "response_format" if "schema" in value or "json_schema" in value:
                schema = value.get("schema") or value["json_schema"]
                named = {"name": schema.get("title") or "answer", "schema": schema}
                sent.body[name] = {"type": "json_schema", "json_schema": named}
            case "model":
                pass
            case _:
                sent.body[name] = value
                sent.native += [name] if name in NATIVE else []
    if recorded.get("stream"):
        sent.body["stream_options"] = {"include_usage": True}
    return sent


def _message(sent: Sent, message: dict[str, Any]) -> dict[str, Any]:
    made = {name: value for name, value in message.items() if name not in ("tool_plan", "content")}
    if message.get("tool_plan"):
        made["reasoning_content"] = message["tool_plan"]
    content = message.get("content")
    if isinstance(content, list):
        if any(item["type"] == "document" for item in content):
            sent.native.append("a tool's result as a document")
            return {**made, "content": None, "provider_specific_fields": {"content_items": content}}
        thinking = [item for item in content if item["type"] == "thinking"]
        content = [item for item in content if item["type"] != "thinking"]
        made.update({"thinking_blocks": thinking} if thinking else {})
    return {**made, "content": content}


def _embeddings(recorded: dict[str, Any], address: str) -> Sent:
    sent = Sent({"model": address, "input": recorded["texts"]}, dict(recorded))
    if recorded.get("output_dimension") is not None:
        sent.body["dimensions"] = recorded["output_dimension"]
    if recorded.get("embedding_types"):
        (sent.body["encoding_format"],) = recorded["embedding_types"]
    else:
        # The first version had a default; in the second one they must be said.
        sent.expected["embedding_types"] = ["float"]
    for name in NATIVE_EMBEDDINGS:
        if recorded.get(name) is not None:
            sent.body[name] = recorded[name]
            sent.native.append(name)
    return sent


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """The same meaning in one form: contents as items, nothing that says nothing."""
    result = {name: value for name, value in body.items() if value not in (None, False, [])}
    if "messages" in result:
        result["messages"] = [_normal_message(message) for message in result["messages"]]
    return result


def _normal_message(message: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in message.items() if value not in (None, [])}
    if isinstance(kept.get("content"), str):
        kept["content"] = [{"type": "text", "text": kept["content"]}]
    return kept
