"""Google's generateContent and streamGenerateContent, at the Gemini API and at Vertex AI."""

from __future__ import annotations

import json
import re
from typing import Any

from ..reading import Call, Choice, Reading, Usage, events
from ..recording import Recording
from . import gemini_request
from .base import Placement, Wire

# Reasons that are a filter's, by name; 1 and 2 are the numbers of STOP and MAX_TOKENS.
FILTERS = {
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "MODEL_ARMOR",
    "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
}  # fmt: skip
NUMBERS = {1: "STOP", 2: "MAX_TOKENS"}


class Gemini(Wire):
    """The Gemini API."""

    requests = gemini_request

    def model(self, recording: Recording) -> str:
        found = re.search(r"/models/([^:?]+)", recording.path)
        return found[1] if found else recording.model

    def placement(self, recording: Recording) -> Placement:
        return Placement("gemini")

    def path(self, recording: Recording) -> str:
        # A proxy's own path in front of Google's is no part of the API.
        return "/v1beta/models/" + _plain(recording.path.rpartition("/models/")[2])

    def read(self, recording: Recording) -> Reading:
        reading = Reading(recording.status)
        if recording.stream and recording.status == 200:
            return read(reading, [json.loads(data) for _name, data in events(recording.text)])
        body = json.loads(recording.text)
        body = body[0] if isinstance(body, list) else body
        reading.error = body.get("error")
        return reading if reading.error else read(reading, [body])


class Vertex(Gemini):
    """The same API at Vertex AI, under a project and a location."""

    def placement(self, recording: Recording) -> Placement:
        options = dict(zip(("project", "location"), recording.path.split("/")[3:6:2]))
        return Placement("vertex", "", json.dumps(options))

    def path(self, recording: Recording) -> str:
        # The version without preview features serves the same.
        return _plain(recording.path.replace("/v1beta1/", "/v1/"))


def _plain(path: str) -> str:
    """Without wishes of an SDK's own about the answer's JSON."""
    return path if path.endswith("?alt=sse") else path.partition("?")[0]


# --- reading -----------------------------------------------------------------------------------------------------------


def read(reading: Reading, answers: list[dict[str, Any]]) -> Reading:
    """Reads the pieces of a stream, or a whole answer as its only piece. It is complete with a finish reason."""
    finishes: dict[int, Any] = {}
    open_calls: dict[int, Call] = {}
    for answer in answers:
        if answer.get("error"):
            reading.error = answer["error"]
        for candidate in answer.get("candidates") or []:
            index = candidate.get("index") or 0
            for part in (candidate.get("content") or {}).get("parts") or []:
                _add_part(reading.choice(index), part, open_calls, index)
            finishes[index] = candidate.get("finishReason") or finishes.get(index)
            if finishes[index] in FILTERS:
                reading.choice(index).refusal += candidate.get("finishMessage") or ""
            reading.choice(index)
        if (answer.get("promptFeedback") or {}).get("blockReason"):
            finishes[0] = "SAFETY"
            reading.choice(0)
        reading.usage = _usage(answer.get("usageMetadata")) or reading.usage
    for index, reason in finishes.items():
        reading.choices[index].finish = _finish(reason, reading.choices[index])
    reading.complete = bool(finishes) and all(finishes.values())
    return reading


def _add_part(choice: Choice, part: dict[str, Any], open_calls: dict[int, Call], index: int) -> None:
    if "functionCall" in part:
        _add_call(choice, part["functionCall"], open_calls, index)
    elif part.get("thought"):
        choice.reasoning += part.get("text") or ""
    else:
        choice.text += part.get("text") or ""


def _add_call(choice: Choice, piece: dict[str, Any], open_calls: dict[int, Call], index: int) -> None:
    """A call, or a piece of one: arguments may come one by one, by their path."""
    call = open_calls.pop(index, None)
    if call is None:
        call = Call(piece.get("id"), piece.get("name") or "", json.dumps(piece.get("args") or {}))
        choice.calls.append(call)
    arguments = json.loads(call.arguments)
    for argument in piece.get("partialArgs") or []:
        name = argument["jsonPath"].removeprefix("$.")
        arguments[name] = arguments.get(name, "") + argument["stringValue"]
    call.arguments = json.dumps(arguments)
    if piece.get("willContinue"):
        open_calls[index] = call


def _finish(reason: Any, choice: Choice) -> str | None:
    """A reason in OpenAI's words. Google has none for calls, and reasons of failed generations are an end like any."""
    reason = NUMBERS.get(reason, reason)
    if reason is None:
        return None
    if reason == "MAX_TOKENS":
        return "length"
    if reason in FILTERS:
        return "content_filter"
    return "tool_calls" if choice.calls else "stop"


def _usage(usage: dict[str, Any] | None) -> Usage | None:
    """Google's counts: thoughts stand beside the candidates', and what its own tools read beside the prompt's."""
    if not usage or not any(usage.get(f"{name}TokenCount") for name in ("prompt", "candidates", "total")):
        return None
    count = {name: usage.get(f"{name}TokenCount") or 0 for name in ("prompt", "candidates", "thoughts", "toolUsePrompt")}
    prompt, completion = count["prompt"] + count["toolUsePrompt"], count["candidates"] + count["thoughts"]
    cached = usage.get("cachedContentTokenCount") or 0
    heard = _audio(usage.get("promptTokensDetails")) - _audio(usage.get("cacheTokensDetails"))
    spoken = _audio(usage.get("candidatesTokensDetails"))
    return Usage(prompt, completion, prompt + completion, cached, count["thoughts"], 0, max(heard, 0), spoken)


def _audio(details: list[dict[str, Any]] | None) -> int:
    return sum(entry.get("tokenCount") or 0 for entry in details or [] if entry.get("modality") == "AUDIO")


GEMINI, VERTEX = Gemini(), Vertex()
