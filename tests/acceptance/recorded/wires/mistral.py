"""Mistral's deviations from OpenAI's wire: content in typed chunks, and two shapes of errors of its own."""

from __future__ import annotations

import json
from typing import Any

from ..reading import Reading
from ..recording import Recording
from . import mistral_request, openai
from .openai import OpenAi


class Mistral(OpenAi):
    """`/v1/chat/completions` of Mistral."""

    requests = mistral_request
    # Typed chunks become texts, so what is forwarded is not what was recorded.
    forwarded = False

    def read(self, recording: Recording) -> Reading:
        if recording.status != 200:
            body = json.loads(recording.text)
            error = {"message": body["detail"]} if "detail" in body else body
            return Reading(recording.status, error=error, body=body)
        if not recording.stream:
            return openai.read(200, json.dumps(_plain(json.loads(recording.text))), False)
        lines = recording.text.split("\n")
        return openai.read(200, "\n".join(map(_plain_line, lines)), True)


def _plain_line(line: str) -> str:
    data = line.removeprefix("data: ")
    return line if data == line or data.strip() == "[DONE]" else f"data: {json.dumps(_plain(json.loads(data)))}"


def _plain(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer with texts where there were chunks, and OpenAI's names of the finish."""
    for choice in answer.get("choices") or []:
        message = choice.get("delta") or choice.get("message") or {}
        if isinstance(message.get("content"), list):
            chunks = message["content"]
            message["content"] = "".join(chunk.get("text") or "" for chunk in chunks if chunk["type"] == "text")
            references = [chunk for chunk in chunks if chunk["type"] == "reference"]
            message["provider_specific_fields"] = {"citations": references}
            thought = (inner for chunk in chunks if chunk["type"] == "thinking" for inner in chunk["thinking"])
            message["reasoning_content"] = "".join(inner.get("text") or "" for inner in thought)
        if choice.get("finish_reason") == "model_length":
            choice["finish_reason"] = "length"
    return answer


MISTRAL = Mistral()
