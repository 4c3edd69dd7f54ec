"""What a recorded exchange says, read without any of the gateway's code.

A `Reading` is the meaning of an answer in OpenAI's terms: choices, usage, error. `read_openai` reads OpenAI's and Groq's
wire and what the gateway answers; `read_anthropic` reads Anthropic's. Both take whole answers and streams. Not here: how
answers are played (`replay`), and requests (`requests_of`).
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CORPUS = Path(os.environ.get("PERPETUO_CORPUS") or HERE.parents[2] / "shared" / "corpus")
ENDPOINTS = {"openai": "chat", "groq": "chat", "anthropic": "messages"}
NO_CORPUS = f"skipped: no corpus at {CORPUS}"

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


@dataclass
class Call:
    """One tool call; `arguments` is JSON text, possibly cut short."""

    id: str | None = None
    name: str = ""
    arguments: str = ""

    def same(self, other: Call) -> bool:
        """Whether both mean the same: arguments by value, or by text when they are not JSON."""
        return (self.id, self.name) == (other.id, other.name) and loose(self.arguments) == loose(other.arguments)


@dataclass
class Choice:
    """One answer of a completion."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: list[Call] = field(default_factory=list)
    function: Call | None = None
    finish: str | None = None


@dataclass
class Usage:
    """Tokens, in OpenAI's convention."""

    prompt: int = 0
    completion: int = 0
    total: int = 0
    cached: int = 0
    reasoning: int = 0


@dataclass
class Reading:
    """What an answer means."""

    status: int
    choices: list[Choice] = field(default_factory=list)
    usage: Usage | None = None
    error: dict[str, Any] | None = None
    complete: bool = True
    chunks: list[dict[str, Any]] = field(default_factory=list, repr=False)
    body: Any = field(default=None, repr=False)

    def choice(self, index: int) -> Choice:
        while len(self.choices) <= index:
            self.choices.append(Choice())
        return self.choices[index]

    def facts(self) -> dict[str, Any]:
        """Only the meaning, for clients in other languages."""
        return {key: value for key, value in asdict(self).items() if key not in ("chunks", "body")}


def loose(text: str) -> Any:
    """JSON by value, or the text; no arguments at all are an empty object."""
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text


def events(text: str) -> list[tuple[str | None, str]]:
    """Server-sent events as (name, data); comments and empty events are left out."""
    found = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        name, data = None, []
        for line in block.split("\n"):
            label, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if label == "event":
                name = value
            elif label == "data":
                data.append(value)
        if data:
            found.append((name, "\n".join(data)))
    return found


# --- OpenAI's wire -----------------------------------------------------------------------------------------------------


def read_openai(status: int, text: str, stream: bool) -> Reading:
    """Reads a whole answer or a stream in OpenAI's form."""
    reading = Reading(status)
    if stream and status == 200:
        _read_openai_stream(reading, text)
        return reading
    reading.body = body = json.loads(text)
    reading.error = body.get("error")
    reading.usage = openai_usage(body.get("usage"))
    for entry in body.get("choices") or []:
        choice = reading.choice(entry.get("index", 0))
        message = entry.get("message") or {}
        _add_openai_delta(choice, message)
        choice.finish = entry.get("finish_reason")
    return reading


def _read_openai_stream(reading: Reading, text: str) -> None:
    reading.complete = False
    for _name, data in events(text):
        if data.strip() == "[DONE]":
            reading.complete = True
            break
        chunk = json.loads(data)
        reading.chunks.append(chunk)
        if chunk.get("error"):
            reading.error = chunk["error"]
            continue
        usage = chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage")
        reading.usage = openai_usage(usage) or reading.usage
        for entry in chunk.get("choices") or []:
            choice = reading.choice(entry.get("index", 0))
            _add_openai_delta(choice, entry.get("delta") or {})
            choice.finish = entry.get("finish_reason") or choice.finish


def _add_openai_delta(choice: Choice, delta: dict[str, Any]) -> None:
    choice.text += delta.get("content") or ""
    choice.reasoning += delta.get("reasoning_content") or delta.get("reasoning") or ""
    choice.refusal += delta.get("refusal") or ""
    for position, piece in enumerate(delta.get("tool_calls") or []):
        index = piece.get("index", position)
        while len(choice.calls) <= index:
            choice.calls.append(Call())
        _add_call(choice.calls[index], piece.get("id"), piece.get("function") or {})
    if delta.get("function_call"):
        choice.function = choice.function or Call()
        _add_call(choice.function, None, delta["function_call"])


def _add_call(call: Call, identity: str | None, function: dict[str, Any]) -> None:
    call.id = identity or call.id
    call.name += function.get("name") or ""
    call.arguments += function.get("arguments") or ""


def openai_usage(usage: dict[str, Any] | None) -> Usage | None:
    """OpenAI's usage object."""
    if not usage:
        return None
    prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    return Usage(
        prompt=prompt,
        completion=completion,
        total=usage.get("total_tokens") or prompt + completion,
        cached=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        reasoning=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0,
    )


# --- Anthropic's wire --------------------------------------------------------------------------------------------------


def read_anthropic(status: int, text: str, stream: bool) -> Reading:
    """Reads a whole answer or a stream in Anthropic's form."""
    reading = Reading(status)
    if stream and status == 200:
        _read_anthropic_stream(reading, text)
        return reading
    reading.body = body = json.loads(text)
    if body.get("type") == "error":
        reading.error = body["error"]
        return reading
    choice = reading.choice(0)
    for block in body["content"]:
        _add_block(choice, block)
    choice.finish = FINISH[body["stop_reason"]]
    reading.usage = anthropic_usage(body["usage"])
    return reading


def _add_block(choice: Choice, block: dict[str, Any]) -> Call | None:
    """Adds a block, or the start of one; gives the call that later pieces belong to."""
    match block["type"]:
        case "text":
            choice.text += block.get("text") or ""
        case "thinking":
            choice.reasoning += block.get("thinking") or ""
        case "tool_use":
            arguments = json.dumps(block["input"]) if block.get("input") else ""
            choice.calls.append(Call(block["id"], block["name"], arguments))
            return choice.calls[-1]
    return None


def _read_anthropic_stream(reading: Reading, text: str) -> None:
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
                _add_anthropic_delta(choice, calls.get(event["index"]), event["delta"])
            case "message_delta":
                choice.finish = FINISH[event["delta"]["stop_reason"]]
                usage.update({key: value for key, value in event["usage"].items() if value is not None})
            case "message_stop":
                reading.complete = True
            case "error":
                reading.error = event["error"]
    reading.usage = anthropic_usage(usage)


def _add_anthropic_delta(choice: Choice, call: Call | None, delta: dict[str, Any]) -> None:
    match delta["type"]:
        case "text_delta":
            choice.text += delta["text"]
        case "thinking_delta":
            choice.reasoning += delta["thinking"]
        case "input_json_delta" if call:
            call.arguments += delta["partial_json"]


def anthropic_usage(usage: dict[str, Any]) -> Usage:
    """Anthropic's usage object, whose `input_tokens` leave the cached ones out."""
    cached = usage.get("cache_read_input_tokens") or 0
    prompt = (usage.get("input_tokens") or 0) + cached + (usage.get("cache_creation_input_tokens") or 0)
    completion = usage.get("output_tokens") or 0
    reasoning = (usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0
    return Usage(prompt=prompt, completion=completion, total=prompt + completion, cached=cached, reasoning=reasoning)


# --- recordings --------------------------------------------------------------------------------------------------------


@dataclass
class Recording:
    """One recorded exchange."""

    id: str
    provider: str
    fidelity: str
    status: int
    stream: bool
    headers: dict[str, str]
    request: dict[str, Any] | None
    text: str
    features: list[str]

    @property
    def model(self) -> str:
        return (self.request or {}).get("model") or "recorded-model"

    def reading(self) -> Reading:
        """What the provider said."""
        read = read_anthropic if self.provider == "anthropic" else read_openai
        return read(self.status, self.text, self.stream)


def load(identity: str) -> Recording:
    """One recording by its id, for example `openai-chat-012588aec3f8`."""
    provider = identity.split("-", 1)[0]
    raw = json.loads((CORPUS / provider / f"{identity}.json").read_text(encoding="utf-8"))
    return Recording(
        id=raw["id"],
        provider=raw["provider"],
        fidelity=raw["fidelity"],
        status=raw["response_status"],
        stream=bool(raw["stream"]),
        headers=raw.get("response_headers") or {},
        request=raw.get("request_body"),
        text=_body_text(raw),
        features=raw["features"],
    )


def _body_text(raw: dict[str, Any]) -> str:
    """The body as it is played; events without recorded framing get the plainest one."""
    if raw.get("response_text") is not None:
        return raw["response_text"]
    if raw.get("response_body") is not None:
        return json.dumps(raw["response_body"], ensure_ascii=False)
    lines = [f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in raw["response_events"]]
    return "".join(lines) + "data: [DONE]\n\n"


def all_of(provider: str) -> list[Recording]:
    """Every chat recording of a provider, in the order of their ids."""
    names = sorted((CORPUS / provider).glob(f"{provider}-{ENDPOINTS[provider]}-*.json"))
    return [load(path.stem) for path in names]
