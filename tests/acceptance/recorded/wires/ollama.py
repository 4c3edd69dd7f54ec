"""Ollama's own `/api/chat`: one JSON object, or one a line."""

from __future__ import annotations

import json
from typing import Any

from ..reading import Call, Reading, Usage
from ..recording import Recording
from . import ollama_request
from .base import Wire


class Ollama(Wire):
    """`/api/chat`."""

    requests = ollama_request

    def read(self, recording: Recording) -> Reading:
        reading = Reading(recording.status)
        pieces = [json.loads(line) for line in recording.text.splitlines() if line.strip()]
        choice = reading.choice(0)
        for piece in pieces:
            if piece.get("error"):
                reading.error = {"message": piece["error"]}
            message = piece.get("message") or {}
            choice.text += message.get("content") or ""
            choice.reasoning += message.get("thinking") or ""
            for call in message.get("tool_calls") or []:
                function = call["function"]
                choice.calls.append(Call(call.get("id"), function["name"], json.dumps(function.get("arguments") or {})))
        last = pieces[-1]
        reading.complete = bool(last.get("done"))
        choice.finish = _finish(last, bool(choice.calls))
        reading.usage = _usage(last)
        return reading


def _finish(last: dict[str, Any], called: bool) -> str | None:
    if not last.get("done"):
        return None
    return "length" if last.get("done_reason") == "length" else "tool_calls" if called else "stop"


def _usage(last: dict[str, Any]) -> Usage | None:
    if "eval_count" not in last and "prompt_eval_count" not in last:
        return None
    prompt, completion = last.get("prompt_eval_count") or 0, last.get("eval_count") or 0
    return Usage(prompt, completion, prompt + completion)


OLLAMA = Ollama()
