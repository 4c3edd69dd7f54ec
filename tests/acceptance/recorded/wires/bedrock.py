"""Amazon Bedrock's Converse and ConverseStream."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from gateway import AWS_KEY, AWS_TOKEN

from .. import eventstream
from ..reading import Call, Choice, Reading, Usage
from ..recording import Recording
from . import bedrock_request
from .base import Placement, Wire

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


class Bedrock(Wire):
    """Converse, with an API key or signed."""

    requests = bedrock_request
    cites = True

    def placement(self, recording: Recording) -> Placement:
        # Each recording in one of the three ways, always the same.
        ways = ({}, AWS_KEY, AWS_KEY | AWS_TOKEN)
        return Placement("bedrock", options=json.dumps(ways[int(recording.id[-1], 16) % 3]))

    def model(self, recording: Recording) -> str:
        return recording.path.removeprefix("/model/").rpartition("/")[0]

    def path(self, recording: Recording) -> str:
        return f"/model/{quote(self.model(recording), safe='')}/{recording.path.rpartition('/')[2]}"

    def hi(self, recording: Recording):
        sent = super().hi(recording)
        # An error of a stream comes as a plain answer, but it was a stream that was asked for.
        sent.body["stream"] = recording.endpoint == "converse_stream"
        return sent

    def read(self, recording: Recording) -> Reading:
        reading = Reading(recording.status)
        if recording.stream and recording.status == 200:
            return _read_stream(reading, eventstream.decode(recording.body))
        body = json.loads(recording.text)
        if recording.status != 200:
            reading.error = body
            return reading
        choice = reading.choice(0)
        for block in body["output"]["message"]["content"]:
            _add_block(choice, block)
        choice.finish = FINISH[body["stopReason"]]
        reading.usage = _usage(body["usage"])
        return reading


def _add_block(choice: Choice, block: dict[str, Any]) -> None:
    if "text" in block:
        choice.text += block["text"]
    elif "citationsContent" in block:
        choice.text += "".join(piece["text"] for piece in block["citationsContent"]["content"])
        choice.citations += map(_source, block["citationsContent"].get("citations") or [])
    elif "reasoningContent" in block:
        choice.reasoning += (block["reasoningContent"].get("reasoningText") or {}).get("text") or ""
    elif "toolUse" in block and block["toolUse"].get("type") != "server_tool_use":
        use = block["toolUse"]
        choice.calls.append(Call(use["toolUseId"], use["name"], json.dumps(use["input"])))


def _read_stream(reading: Reading, events: list[tuple[str, Any]]) -> Reading:
    """Complete with `messageStop`; the usage comes behind it."""
    reading.complete = False
    choice = reading.choice(0)
    calls: dict[int, Call] = {}
    for name, payload in events:
        match name:
            case "contentBlockStart":
                use = payload["start"].get("toolUse")
                if use and use.get("type") != "server_tool_use":
                    calls[payload["contentBlockIndex"]] = Call(use["toolUseId"], use["name"])
                    choice.calls.append(calls[payload["contentBlockIndex"]])
            case "contentBlockDelta":
                _add_delta(choice, calls.get(payload["contentBlockIndex"]), payload["delta"])
            case "messageStop":
                choice.finish = FINISH[payload["stopReason"]]
                reading.complete = True
            case "metadata":
                reading.usage = _usage(payload.get("usage"))
            case _ if name.endswith("Exception"):
                reading.error = payload
    return reading


def _add_delta(choice: Choice, call: Call | None, delta: dict[str, Any]) -> None:
    choice.text += delta.get("text") or ""
    choice.reasoning += (delta.get("reasoningContent") or {}).get("text") or ""
    if "citation" in delta:
        choice.citations.append(_source(delta["citation"]))
    if call and "toolUse" in delta:
        call.arguments += delta["toolUse"]["input"]


def _source(citation: dict[str, Any]) -> Any:
    """A web page's address, or the citation of any other source."""
    return ((citation.get("location") or {}).get("web") or {}).get("url") or citation


def _usage(usage: dict[str, Any] | None) -> Usage | None:
    """Bedrock's counts: `inputTokens` leaves out what was read from and written to a cache, `totalTokens` has all."""
    if not usage:
        return None
    cached, written = usage.get("cacheReadInputTokens") or 0, usage.get("cacheWriteInputTokens") or 0
    prompt, completion = usage["inputTokens"] + cached + written, usage["outputTokens"]
    return Usage(prompt, completion, prompt + completion, cached, 0, written)


BEDROCK = Bedrock()
