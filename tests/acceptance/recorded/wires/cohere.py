"""Cohere's second chat API."""

from __future__ import annotations

import json
from typing import Any

from ..reading import Call, Choice, Reading, Usage, events
from ..recording import Recording
from . import cohere_request
from .base import Wire

FINISH = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls"}


class Cohere(Wire):
    """`/v2/chat`."""

    requests = cohere_request
    cites = True

    def read(self, recording: Recording) -> Reading:
        reading = Reading(recording.status)
        if recording.stream and recording.status == 200:
            return _read_stream(reading, recording.text)
        body = json.loads(recording.text)
        if recording.status != 200:
            reading.error = body
            return reading
        choice, message = reading.choice(0), body["message"]
        choice.reasoning += message.get("tool_plan") or ""
        for block in message.get("content") or []:
            choice.reasoning += block.get("thinking") or ""
            choice.text += block.get("text") or ""
        for citation in message.get("citations") or []:
            _cite(choice, citation)
        for call in message.get("tool_calls") or []:
            arguments = call["function"]["arguments"]
            choice.calls.append(Call(call["id"], call["function"]["name"], "{}" if arguments == "null" else arguments))
        _end(reading, choice, body["finish_reason"])
        reading.usage = _usage(body.get("usage"))
        return reading


def _end(reading: Reading, choice: Choice, reason: str) -> None:
    """The finish; `ERROR` is none but a failure with the status of a success."""
    if reason == "ERROR":
        reading.error = {}
        reading.complete = False
    else:
        choice.finish = FINISH[reason]


def _read_stream(reading: Reading, text: str) -> Reading:
    reading.complete = False
    choice = reading.choice(0)
    for name, data in events(text):
        if data == "[DONE]":
            break
        event = json.loads(data)
        delta = event.get("delta") or {}
        match event.get("type") or name:
            case "message-end":
                reading.complete = True
                _end(reading, choice, delta["finish_reason"])
                reading.usage = _usage(delta.get("usage"))
                reading.error = {"message": delta["error"]} if delta.get("error") else reading.error
            case _:
                _add_delta(choice, delta.get("message") or {})
    return reading


def _add_delta(choice: Choice, message: dict[str, Any]) -> None:
    """One delta; a start has the empty beginning of what follows."""
    choice.reasoning += message.get("tool_plan") or ""
    content = message.get("content") or {}
    if isinstance(content, dict):
        choice.reasoning += content.get("thinking") or ""
        choice.text += content.get("text") or ""
    if isinstance(message.get("citations"), dict):
        _cite(choice, message["citations"])
    call = message.get("tool_calls") or {}
    if call and call.get("id"):
        choice.calls.append(Call(call["id"], call["function"]["name"]))
    if call:
        choice.calls[-1].arguments += call["function"].get("arguments") or ""


def _cite(choice: Choice, citation: dict[str, Any]) -> None:
    """Web pages by their address, where all sources are some."""
    addresses = [(source.get("document") or {}).get("url") for source in citation.get("sources") or []]
    choice.citations += addresses if addresses and all(addresses) else [citation]


def _usage(usage: dict[str, Any] | None) -> Usage | None:
    """What is billed; what the model saw only where nothing is said of that."""
    counted = (usage or {}).get("billed_units") or (usage or {}).get("tokens")
    if not counted:
        return None
    prompt, completion = int(counted.get("input_tokens") or 0), int(counted.get("output_tokens") or 0)
    return Usage(prompt, completion, prompt + completion)


COHERE = Cohere()
