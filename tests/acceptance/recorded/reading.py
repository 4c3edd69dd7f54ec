"""What an answer means, in OpenAI's terms: choices, usage, error. Every wire is read into a `Reading`.

Not here: how any wire is read (`wires`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Call:
    """One tool call; `arguments` is JSON text, possibly cut short, or any text for a custom tool. An id of None is one that
    the gateway must make."""

    id: str | None = None
    name: str = ""
    arguments: str = ""
    custom: bool = False

    def same(self, other: Call) -> bool:
        """Whether both mean the same: arguments by value, or by text when they are not JSON."""
        same_id = other.id is None or self.id == other.id
        return same_id and self.name == other.name and loose(self.arguments) == loose(other.arguments)


@dataclass
class Choice:
    """One answer of a completion. A citation is the address of a web page, or what the provider said of any other source."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: list[Call] = field(default_factory=list)
    function: Call | None = None
    finish: str | None = None
    citations: list[Any] = field(default_factory=list)


@dataclass
class Usage:
    """Tokens, in OpenAI's convention: `cached`, `written` and `audio_in` are part of `prompt`, `reasoning` and `audio_out`
    of `completion`."""

    prompt: int = 0
    completion: int = 0
    total: int = 0
    cached: int = 0
    reasoning: int = 0
    written: int = 0
    audio_in: int = 0
    audio_out: int = 0


@dataclass
class Reading:
    """What an answer means. `error` has at least `message`; `vectors` are those of embeddings; `others` counts tokens of other
    models, which are billed and in no client's usage."""

    status: int
    choices: list[Choice] = field(default_factory=list)
    usage: Usage | None = None
    others: int = field(default=0, repr=False)
    error: dict[str, Any] | None = None
    complete: bool = True
    vectors: list[Any] = field(default_factory=list, repr=False)
    chunks: list[dict[str, Any]] = field(default_factory=list, repr=False)
    body: Any = field(default=None, repr=False)

    def choice(self, index: int) -> Choice:
        while len(self.choices) <= index:
            self.choices.append(Choice())
        return self.choices[index]

    def facts(self) -> dict[str, Any]:
        """Only the meaning, for clients in other languages."""
        return {key: value for key, value in asdict(self).items() if key not in ("chunks", "body", "vectors", "others")}


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
