"""OpenAI's chat completions, as OpenAI and everyone who is compatible with it speaks them; also what the gateway answers.

Compatible providers deviate in their usage: where they count cached tokens, reasoning and cache writes is in `usage`. Not
here: embeddings (`embeddings`), Mistral's typed content (`mistral`).
"""

from __future__ import annotations

import dataclasses
import json
from itertools import filterfalse
from typing import Any

from ..reading import Call, Choice, Reading, Usage, events
from ..recording import Recording
from . import openai_request
from .base import Placement, Sent, Wire

# The providers that Perpetuo knows by name and that speak this wire. All others are played as `custom`.
ROWS = {
    "openai", "azure", "mistral", "groq", "deepseek", "xai", "openrouter", "together", "fireworks", "perplexity", "cerebras",
    "moonshot", "alibaba", "zai", "huggingface", "nvidia", "sambanova", "vllm", "llamacpp", "lmstudio", "voyage",
}  # fmt: skip
# Everything that may stand for reasoning in a delta or a message; providers write some of them twice.
REASONING = ("reasoning_content", "reasoning")
# Where a citation belongs, in the words of the gateway.
PLACES = ("index", "start_index", "end_index")
# Ends by other names: Together's and Hugging Face's, Anthropic's through resellers, Z.AI's, Mistral's, and those of OpenAI's
# first vision models.
FINISH = {
    "eos": "stop", "eos_token": "stop", "stop_sequence": "stop", "end_turn": "stop", "tool_use": "tool_calls",
    "max_tokens": "length", "sensitive": "content_filter", "model_context_window_exceeded": "length", "model_length": "length",
}  # fmt: skip


class OpenAi(Wire):
    """The wire of OpenAI and of compatible providers."""

    requests = openai_request
    forwarded = True
    cites = True
    suffix = "/chat/completions"

    def placement(self, recording: Recording) -> Placement:
        provider = recording.provider if recording.provider in ROWS else "custom"
        return Placement(provider, recording.path.split("?")[0].removesuffix(self.suffix))

    def read(self, recording: Recording) -> Reading:
        reading = read(recording.status, recording.text, recording.stream)
        for choice in reading.choices:
            _in_openais_words(choice, whole=not recording.stream)
        # llama.cpp tells the usage of each choice when it ends.
        each = [usage_of(chunk["usage"]) for chunk in reading.chunks if chunk.get("choices") == [] and chunk.get("usage")]
        if recording.provider == "llamacpp" and len(reading.choices) > 1 and len(each) > 1:
            reading.usage = Usage(**{name: sum(getattr(one, name) for one in each) for name in vars(each[0])})
        # Some end a stream with the connection; it is complete when every choice has told why it ended.
        ended = bool(reading.choices) and all(choice.finish for choice in reading.choices)
        reading.complete = reading.error is None and (reading.complete or ended)
        return reading

    def without_usage_chunk(self, recording: Recording, _reading: Reading) -> Reading:
        blocks = recording.text.replace("\r\n", "\n").split("\n\n")
        kept = dataclasses.replace(recording, body="\n\n".join(filterfalse(_is_usage_chunk, blocks)).encode())
        return self.read(kept)

    def check_request(self, result: Any, sent: Sent, exchange: dict[str, Any]) -> None:
        super().check_request(result, sent, exchange)
        # What needs no change but the name of the model is forwarded as the bytes that the client wrote.
        same = {**sent.body, "model": sent.expected.get("model")}
        if self.forwarded and same == sent.expected:
            result.compare("request", "bytes", exchange["body"], json.dumps(same))


class Azure(OpenAi):
    """OpenAI's wire at the paths of deployments, whose names are the names of the models."""

    def placement(self, recording: Recording) -> Placement:
        _, dated, version = recording.path.partition("?api-version=")
        return Placement("azure", "", json.dumps({"api_version": version if dated else "v1"}))

    def model(self, recording: Recording) -> str:
        deployment = recording.path.split("/deployments/")[1:]
        return deployment[0].split("/")[0] if deployment else recording.model

    def path(self, recording: Recording) -> str:
        return recording.path.replace("//", "/")

    def request_of(self, recording: Recording) -> Sent:
        sent = super().request_of(recording)
        if sent.expected is not None:
            sent.expected["model"] = self.model(recording)
        return sent


def _is_usage_chunk(block: str) -> bool:
    _, found, data = block.partition("data: ")
    if not found or data.startswith("[DONE]"):
        return False
    chunk = json.loads(data)
    return chunk.get("choices") == [] and bool(chunk.get("usage"))


def _in_openais_words(choice: Choice, whole: bool) -> None:
    """What compatible providers say otherwise: ends, and calls without arguments."""
    choice.finish = FINISH.get(choice.finish or "", choice.finish) or None
    if whole and choice.finish is None:
        choice.finish = "tool_calls" if choice.calls else "stop"
    for call in choice.calls:
        call.arguments = "{}" if call.arguments in ("", "null") else call.arguments


# --- reading -----------------------------------------------------------------------------------------------------------


def read(status: int, text: str, stream: bool) -> Reading:
    """Reads a whole answer or a stream in OpenAI's form."""
    reading = Reading(status)
    if stream and status == 200:
        _read_stream(reading, text)
        return reading
    reading.body = body = json.loads(text)
    reading.error = error_of(body) if isinstance(body, (dict, list)) else None
    reading.usage = usage_of(body.get("usage")) if isinstance(body, dict) else None
    for entry in (body.get("choices") or []) if isinstance(body, dict) else []:
        choice = reading.choice(entry.get("index", 0))
        _add_delta(choice, entry.get("message") or {})
        choice.finish = entry.get("finish_reason") or (entry.get("finish_details") or {}).get("type")
    return reading


def error_of(body: Any) -> dict[str, Any] | None:
    """The error of a body in any of the shapes that compatible providers use."""
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error")
    if isinstance(error, str):
        return {**body, "message": error}
    if error is None and not body.get("choices") and not body.get("data"):
        return {**body, "message": body.get("message") or body.get("detail")}
    return error


def _read_stream(reading: Reading, text: str) -> None:
    reading.complete = False
    for _name, data in events(text):
        if data.strip() == "[DONE]":
            reading.complete = True
            break
        chunk = json.loads(data)
        reading.chunks.append(chunk)
        if chunk.get("error"):
            reading.error = error_of(chunk)
            continue
        usage = chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage")
        reading.usage = usage_of(usage) or reading.usage
        for entry in chunk.get("choices") or []:
            choice = reading.choice(entry.get("index", 0))
            _add_delta(choice, entry.get("delta") or {})
            choice.finish = entry.get("finish_reason") or choice.finish


def _add_delta(choice: Choice, delta: dict[str, Any]) -> None:
    choice.text += delta.get("content") or ""
    fields = delta.get("provider_specific_fields") or {}
    pages = (annotation.get("url_citation") or annotation for annotation in delta.get("annotations") or [])
    choice.citations += [page.get("url") or page for page in pages]
    kept = [*(fields.get("citations") or []), *(fields.get("annotations") or [])]
    choice.citations += [{name: citation[name] for name in citation if name not in PLACES} for citation in kept]
    choice.reasoning += next((delta[name] for name in REASONING if delta.get(name)), "")
    choice.refusal += delta.get("refusal") or ""
    for position, piece in enumerate(delta.get("tool_calls") or []):
        index = piece.get("index")
        index = position if index is None else index
        while len(choice.calls) <= index:
            choice.calls.append(Call())
        call, custom = choice.calls[index], piece.get("custom")
        call.custom = call.custom or custom is not None
        written = {"name": custom.get("name"), "arguments": custom.get("input")} if custom else {}
        _add_call(call, piece.get("id"), piece.get("function") or written)
    if delta.get("function_call"):
        choice.function = choice.function or Call()
        _add_call(choice.function, None, delta["function_call"])


def _add_call(call: Call, identity: str | None, function: dict[str, Any]) -> None:
    call.id = identity or call.id
    call.name += function.get("name") or ""
    arguments = function.get("arguments") or ""
    call.arguments += arguments if isinstance(arguments, str) else json.dumps(arguments)


def usage_of(usage: dict[str, Any] | None) -> Usage | None:
    """OpenAI's usage object, and where else compatible providers put the same counts."""
    if not usage:
        return None
    asked, answered = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    reasoning = answered.get("reasoning_tokens") or usage.get("reasoning_tokens") or 0
    heard = asked.get("audio_tokens") or 0
    # xAI counts reasoning beside the completion, Google's compatible address in the total alone, Mistral sound beside the
    # prompt; the total tells. Embeddings may have nothing but a total.
    beside = max(0, (usage.get("total_tokens") or 0) - prompt - completion)
    if not (prompt or completion or reasoning):
        prompt = beside
    elif beside == reasoning or not (reasoning or heard):
        completion, reasoning = completion + beside, reasoning or beside
    elif beside == heard:
        prompt += beside
    elsewhere = ("prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens", "num_cached_tokens")
    return Usage(
        prompt=prompt,
        completion=completion,
        total=prompt + completion,
        cached=asked.get("cached_tokens") or next((usage[name] for name in elsewhere if usage.get(name)), 0),
        reasoning=reasoning,
        written=asked.get("cache_write_tokens") or usage.get("cache_creation_input_tokens") or 0,
        audio_in=heard,
        audio_out=answered.get("audio_tokens") or 0,
    )


OPENAI, AZURE = OpenAi(), Azure()
