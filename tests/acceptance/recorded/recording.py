"""Recorded exchanges: loading them, and the bytes in which their answers are played.

Where only decoded events were recorded they get the plainest framing of their API. Not here: what the bytes mean (`wires`).
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from . import eventstream

HERE = Path(__file__).resolve().parent.parent
CORPUS = Path(os.environ.get("PERPETUO_CORPUS") or HERE.parents[2] / "shared" / "corpus")
NO_CORPUS = f"skipped: no corpus at {CORPUS}"

SSE, NDJSON, FRAMES, JSON = "text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream", "application/json"
# The framing of streams by endpoint; all others have server-sent events.
FRAMINGS = {"converse_stream": FRAMES, "ollama_chat": NDJSON}
# Endpoints whose server-sent events are not closed with `[DONE]`, and those whose events have names.
UNCLOSED = {"messages", "streamGenerateContent"}
NAMED = {"messages", "chat_v2"}


@dataclass
class Recording:
    """One recorded exchange."""

    id: str
    provider: str
    endpoint: str
    path: str
    fidelity: str
    status: int
    stream: bool
    headers: dict[str, str]
    request: dict[str, Any] | None
    named_model: str | None
    body: bytes
    features: list[str]

    @property
    def model(self) -> str:
        return (self.request or {}).get("model") or self.named_model or "recorded-model"

    @cached_property
    def text(self) -> str:
        """The body as text; of binary frames, nothing."""
        return "" if self.framing == FRAMES else self.body.decode("utf-8")

    @property
    def framing(self) -> str:
        """The content type of the body."""
        return FRAMINGS.get(self.endpoint, SSE) if self.stream and self.status == 200 else JSON


def load(identity: str) -> Recording:
    """One recording by its id, for example `openai-chat-012588aec3f8`."""
    provider = identity.split("-", 1)[0]
    return read(CORPUS / provider / f"{identity}.json")


def read(path: Path) -> Recording:
    """One recording by its file."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    events = raw.get("response_events")
    # Some SDKs kept nothing of a stream but the message that they put together.
    if events and len(events) == 1 and events[0].get("type") == "message":
        raw.update(stream=False, response_body=events[0], response_events=None)
    return Recording(
        id=raw["id"],
        provider=raw["provider"],
        endpoint=raw["endpoint"],
        path=raw.get("endpoint_url_path") or "",
        fidelity=raw["fidelity"],
        status=raw["response_status"],
        stream=bool(raw["stream"]),
        headers=raw.get("response_headers") or {},
        request=raw.get("request_body"),
        named_model=raw.get("model"),
        body=_body(raw),
        features=raw["features"],
    )


def _body(raw: dict[str, Any]) -> bytes:
    """The body as it is played."""
    if raw.get("response_base64"):
        return base64.b64decode(raw["response_base64"])
    if raw.get("response_text") is not None:
        return raw["response_text"].encode()
    if raw.get("response_body") is not None:
        return json.dumps(raw["response_body"], ensure_ascii=False).encode()
    events, endpoint = raw["response_events"], raw["endpoint"]
    match FRAMINGS.get(endpoint, SSE):
        case "application/vnd.amazon.eventstream":
            return b"".join(map(eventstream.encode, events))
        case "application/x-ndjson":
            return "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events).encode()
    return _sse(events, endpoint).encode()


def _sse(events: list[Any], endpoint: str) -> str:
    lines = []
    for event in events:
        name = f"event: {event['type']}\n" if endpoint in NAMED else ""
        lines.append(f"{name}data: {json.dumps(event, ensure_ascii=False)}\n\n")
    return "".join(lines) + ("" if endpoint in UNCLOSED else "data: [DONE]\n\n")


def everything() -> list[Recording]:
    """Every recording of the corpus, in the order of their ids."""
    return [read(path) for path in sorted(CORPUS.glob("*/*.json"))]
