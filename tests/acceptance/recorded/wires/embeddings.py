"""Embeddings, in the forms of OpenAI and compatible providers, Cohere and Google. Vectors are compared as they stand."""

from __future__ import annotations

import json
from typing import Any

from ..reading import Reading, Usage
from ..recording import Recording
from . import cohere_request
from .base import Sent, Wire
from .gemini import Gemini, Vertex
from .mistral import Mistral
from .openai import Azure, OpenAi, error_of, usage_of


class Embeddings(Wire):
    """What all embeddings have in common."""

    operation = "/embeddings"

    def hi(self, recording: Recording) -> Sent:
        return Sent({"model": self.address(recording), "input": "hi"}, None)

    def read(self, recording: Recording) -> Reading:
        body = json.loads(recording.text)
        if recording.status != 200:
            return Reading(recording.status, error=self.error(body), body=body)
        return Reading(200, vectors=self.vectors(body), usage=self.usage(body), body=body)

    def error(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """What an error body says."""
        return error_of(body) or {"message": body.get("detail") or body.get("message")}

    def vectors(self, body: dict[str, Any]) -> list[Any]:
        """The vectors, in the order of the texts."""
        return [entry["embedding"] for entry in body["data"]]

    def usage(self, body: dict[str, Any]) -> Usage | None:
        """What it cost."""
        return usage_of(body.get("usage"))


class OpenAiEmbeddings(Embeddings, OpenAi):
    """OpenAI's form."""

    suffix = "/embeddings"


class VoyageEmbeddings(OpenAiEmbeddings):
    """Voyage has a total and no other count."""

    def usage(self, body: dict[str, Any]) -> Usage | None:
        total = body["usage"]["total_tokens"]
        return Usage(prompt=total, total=total)


class AzureEmbeddings(Embeddings, Azure):
    """OpenAI's form at the paths of deployments."""


class MistralEmbeddings(OpenAiEmbeddings, Mistral):
    """OpenAI's form with Mistral's errors."""


class CohereEmbeddings(Embeddings):
    """Both versions of `/embed` answer alike, once types are asked for."""

    requests = cohere_request

    def path(self, recording: Recording) -> str:
        return "/v2/embed"

    def vectors(self, body: dict[str, Any]) -> list[Any]:
        return body["embeddings"]["float"]

    def usage(self, body: dict[str, Any]) -> Usage | None:
        units = body["meta"]["billed_units"]
        tokens = units["input_tokens"] + (units.get("image_tokens") or 0)
        return Usage(prompt=tokens, total=tokens)


class GoogleEmbeddings(Embeddings):
    """All three forms of Google."""

    def vectors(self, body: dict[str, Any]) -> list[Any]:
        if "predictions" in body:
            return [entry["embeddings"]["values"] for entry in body["predictions"]]
        return [entry["values"] for entry in body.get("embeddings") or [body["embedding"]]]

    def usage(self, body: dict[str, Any]) -> Usage | None:
        counted = [entry["embeddings"]["statistics"]["token_count"] for entry in body.get("predictions") or []]
        tokens = sum(counted) or (body.get("usageMetadata") or {}).get("promptTokenCount")
        return Usage(prompt=tokens, total=tokens) if tokens else None


class GeminiEmbeddings(GoogleEmbeddings, Gemini):
    """`batchEmbedContents` at the Gemini API."""


class VertexEmbeddings(GoogleEmbeddings, Vertex):
    """`embedContent` and `predict` at Vertex AI."""


EMBEDDINGS = {
    "azure": AzureEmbeddings(),
    "cohere": CohereEmbeddings(),
    "mistral": MistralEmbeddings(),
    "gemini": GeminiEmbeddings(),
    "vertex": VertexEmbeddings(),
    "voyage": VoyageEmbeddings(),
}
OPENAI_EMBEDDINGS = OpenAiEmbeddings()
