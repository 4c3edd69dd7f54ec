"""Anthropic's Messages API, also as Vertex AI serves it: answers, streams, and the requests (`anthropic_request`)."""

from __future__ import annotations

import json
from typing import Any

from ..reading import Call, Choice, Reading, Usage, events
from ..recording import Recording
from . import anthropic_request
from .base import Placement, Wire

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class Anthropic(Wire):
    """The API at Anthropic's own address, or anybody's who serves it there."""

    requests = anthropic_request
    cites = True

    def placement(self, recording: Recording) -> Placement:
        return Placement("anthropic", recording.path.partition("/v1/messages")[0])

    def path(self, recording: Recording) -> str:
        # What `?beta=true` asks for is asked for in a header.
        return recording.path.partition("?")[0]

    def read(self, recording: Recording) -> Reading:
        return read(recording.status, recording.text, recording.stream)


class VertexClaude(Anthropic):
    """The same API at Vertex AI, which has the model in the path and a version in the body."""

    def placement(self, recording: Recording) -> Placement:
        options = dict(zip(("project", "location"), recording.path.split("/")[3:6:2]))
        return Placement("vertex", "", json.dumps(options))

    def model(self, recording: Recording) -> str:
        # The recordings have no name here, and the gateway tells the API by it.
        return "claude-MODEL"

    def path(self, recording: Recording) -> str:
        # Of a stream only the whole message was kept, so it is asked for and played as one.
        return recording.path.replace(":streamRawPredict", ":rawPredict").replace("/MODEL", "/claude-MODEL")


# --- reading -----------------------------------------------------------------------------------------------------------


def read(status: int, text: str, stream: bool) -> Reading:
    """Reads a whole answer or a stream in Anthropic's form."""
    reading = Reading(status)
    if stream and status == 200:
        _read_stream(reading, text)
        return reading
    reading.body = body = json.loads(text)
    if body.get("type") == "error":
        reading.error = body["error"]
        return reading
    choice = reading.choice(0)
    for block in body["content"]:
        _add_block(choice, block)
    choice.finish = FINISH[body["stop_reason"]]
    reading.usage, reading.others = _usage(body["usage"]), _others(body["usage"])
    return reading


def _add_block(choice: Choice, block: dict[str, Any]) -> Call | None:
    """Adds a block, or the start of one; gives the call that later pieces belong to."""
    match block["type"]:
        case "text":
            choice.text += block.get("text") or ""
            choice.citations += [citation.get("url") or citation for citation in block.get("citations") or []]
        case "thinking":
            choice.reasoning += block.get("thinking") or ""
        case "tool_use":
            arguments = json.dumps(block["input"]) if block.get("input") else ""
            choice.calls.append(Call(block["id"], block["name"], arguments))
            return choice.calls[-1]
    return None


def _read_stream(reading: Reading, text: str) -> None:
    reading.complete = False
    choice = reading.choice(0)
    usage: dict[str, Any] = {}
    calls: dict[int, Call | None] = {}
    for _name, data in events(text):
        event = json.loads(data)
        match event["type"]:
            case "message_start":
                usage.update(event["message"]["usage"])
            case "content_block_start":
                calls[event["index"]] = _add_block(choice, event["content_block"])
            case "content_block_delta":
                _add_delta(choice, calls.get(event["index"]), event["delta"])
            case "message_delta":
                choice.finish = FINISH[event["delta"]["stop_reason"]]
                usage.update({key: value for key, value in event["usage"].items() if value is not None})
            case "message_stop":
                reading.complete = True
            case "error":
                reading.error = event["error"]
    reading.usage, reading.others = _usage(usage), _others(usage)


def _add_delta(choice: Choice, call: Call | None, delta: dict[str, Any]) -> None:
    match delta["type"]:
        case "text_delta":
            choice.text += delta["text"]
        case "citations_delta":
            choice.citations.append(delta["citation"].get("url") or delta["citation"])
        case "thinking_delta":
            choice.reasoning += delta["thinking"]
        case "input_json_delta" if call:
            call.arguments += delta["partial_json"]


def _others(usage: dict[str, Any]) -> int:
    """Tokens of the models that this one asked."""
    steps = [step for step in usage.get("iterations") or [] if step.get("type") != "message" and step.get("model")]
    return sum(_usage(step).total for step in steps)


def _usage(usage: dict[str, Any]) -> Usage:
    """Anthropic's usage object, whose `input_tokens` leave the cached ones out."""
    cached, written = usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0
    prompt, completion = (usage.get("input_tokens") or 0) + cached + written, usage.get("output_tokens") or 0
    reasoning = (usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0
    return Usage(prompt, completion, prompt + completion, cached, reasoning, written)


ANTHROPIC, VERTEX_CLAUDE = Anthropic(), VertexClaude()
