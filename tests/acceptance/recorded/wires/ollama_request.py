"""Ollama's own `/api/chat` in OpenAI's terms."""

from __future__ import annotations

import json
from typing import Any

from ..recording import Recording
from .base import Sent

# Members of `options` that OpenAI has, too; the gateway takes the others by their own names.
SAME = ("temperature", "top_p", "stop", "seed", "presence_penalty", "frequency_penalty")
OPTIONS = {"num_predict": "max_completion_tokens", **{name: name for name in SAME}}


def request_of(recording: Recording, address: str) -> Sent:
    """The request whose answer the recording is, for the model of this address."""
    recorded = recording.request
    sent = Sent({"model": address}, dict(recorded))
    for name, value in recorded.items():
        match name:
            case "model":
                pass
            case "messages":
                sent.body[name], sent.expected[name] = _Conversation().messages(value)
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
    """Messages in OpenAI's form. Results follow their calls in order, and OpenAI's results name them by an id.

    The gateway passes the ids on, which newer versions know, and names the function of a result.
    """

    def __init__(self) -> None:
        self.open: list[tuple[str, str]] = []
        self.made = 0

    def messages(self, messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The messages, and what must come out for them."""
        pairs = [self._message(message) for message in messages]
        return [made for made, _ in pairs], [expected for _, expected in pairs]

    def _message(self, message: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        made: dict[str, Any] = {"role": message["role"], "content": self._content(message)}
        expected = dict(message)
        if message["role"] == "tool":
            made["tool_call_id"], called = self.open.pop(0)
            expected.update(tool_call_id=made["tool_call_id"], tool_name=called)
        if message.get("thinking"):
            made["reasoning_content"] = message["thinking"]
        if message.get("tool_calls"):
            made["tool_calls"] = [self._call(call) for call in message["tool_calls"]]
            given = zip(message["tool_calls"], made["tool_calls"])
            expected["tool_calls"] = [{**call, "id": called["id"], "type": "function"} for call, called in given]
        return made, expected

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
        function = call["function"]
        self.open.append((identity, function["name"]))
        called = {"name": function["name"], "arguments": json.dumps(function.get("arguments") or {})}
        return {"id": identity, "type": "function", "function": called}


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """The same meaning in one form: nothing that says nothing."""
    result = {name: value for name, value in body.items() if value not in (None, "", {}, [])}
    messages = result.get("messages") or []
    kept = [{name: value for name, value in message.items() if value not in (None, [])} for message in messages]
    return {**result, "messages": kept}
