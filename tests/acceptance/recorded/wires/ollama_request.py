"""Ollama's own `/api/chat` in OpenAI's terms."""

from __future__ import annotations

import json
from typing import Any

from ..recording import Recording
from .base import Sent

# Members of `options` that OpenAI has, too; the gateway takes the others by their own names.
OPTIONS = {"num_predict": "max_completion_tokens", "temperature": "temperature", "top_p": "top_p", "stop": "stop", "seed": "seed"}


def request_of(recording: Recording, address: str) -> Sent:
    """The request whose answer the recording is, for the model of this address."""
    recorded = recording.request
    sent = Sent({"model": address}, dict(recorded))
    for name, value in recorded.items():
        match name:
            case "model":
                pass
            case "messages":
                sent.body[name] = _Conversation().messages(value)
            case "think" if isinstance(value, bool):
                sent.body["reasoning_effort"] = "medium" if value else "none"
            case "format" if value == "json":
                sent.body["response_format"] = {"type": "json_object"}
            case "format" if isinstance(value, dict):
                named = {"name": value.get("title") or "answer", "schema": value}
                sent.body["response_format"] = {"type": "json_schema", "json_schema": named}
            case "options":
                for inner, said in value.items():
                    sent.body[OPTIONS.get(inner, inner)] = said
                    sent.native += [] if inner in OPTIONS else [f"options.{inner}"]
            case _:
                sent.body[name] = value
                sent.native += ["keep_alive"] if name == "keep_alive" else []
    if recorded.get("stream"):
        sent.body["stream_options"] = {"include_usage": True}
    return sent


class _Conversation:
    """Messages in OpenAI's form. Results follow their calls in order, and OpenAI's results name them by an id."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.made = 0

    def messages(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self._message(message) for message in messages]

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {"role": message["role"], "content": self._content(message)}
        if message["role"] == "tool":
            made["tool_call_id"] = self.open.pop(0)
        if message.get("thinking"):
            made["reasoning_content"] = message["thinking"]
        if message.get("tool_calls"):
            made["tool_calls"] = [self._call(call) for call in message["tool_calls"]]
        return made

    @staticmethod
    def _content(message: dict[str, Any]) -> Any:
        images = message.get("images") or []
        if not images:
            return message.get("content")
        urls = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}} for image in images]
        return [{"type": "text", "text": message.get("content") or ""}, *urls]

    def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        self.made += 1
        identity = call.get("id") or f"call_{self.made}"
        self.open.append(identity)
        function = call["function"]
        called = {"name": function["name"], "arguments": json.dumps(function.get("arguments") or {})}
        return {"id": identity, "type": "function", "function": called}


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """The same meaning in one form: nothing that says nothing, and no ids, which older versions don't have. The function of
    a result is that of its call, whether it is named again or not."""
    result = {name: value for name, value in body.items() if value not in (None, "", {}, [])}
    calls: list[str] = []
    messages = []
    for message in result.get("messages") or []:
        kept = {name: value for name, value in message.items() if value not in (None, []) and name != "tool_call_id"}
        if "tool_calls" in kept:
            kept["tool_calls"] = [{"function": call["function"]} for call in kept["tool_calls"]]
            calls += [call["function"]["name"] for call in kept["tool_calls"]]
        if kept.get("role") == "tool" and calls:
            called = calls.pop(0)
            kept = {"tool_name": called, **kept}
        messages.append(kept)
    return {**result, "messages": messages}
