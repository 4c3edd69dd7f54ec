"""Anthropic's answers handed back as part of the conversation, as agents do it.

The provider must get its own blocks again, reasoning and signatures included.
"""

from __future__ import annotations

import json
from typing import Any

from gateway import Answer, Workspace

from .reading import Reading, events
from .recording import Recording
from .result import Result
from .wires import HI, Wire


def check(result: Result, wire: Wire, on: Any, workspace: Workspace, reading: Reading) -> None:
    """The answer as part of the next request: Anthropic must get the very blocks that it gave."""
    message = message_of(reading)
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "ok"} for call in message.get("tool_calls") or []]
    messages = [HI[0], message, *results, {"role": "user", "content": "go on"}]
    on.replay.play(result.recording.id)
    body = {"model": wire.address(result.recording), "messages": messages, "stream": result.recording.stream}
    answer = workspace.post("/chat/completions", body)
    if answer.status != 200:
        result.fail("request", f"handed back: {answer.status} {answer.text}")
        return
    turns = wire.normal(json.loads(on.replay.seen[0]["body"]))["messages"]
    got = [block for turn in turns if turn["role"] == "assistant" for block in turn["content"]]
    wanted = wire.normal({"messages": [{"role": "assistant", "content": blocks_of(result.recording)}]})["messages"]
    blocks = wanted[0]["content"] if wanted else []
    ours, theirs = ([plain(block, answer) for block in some] for some in (got, blocks))
    result.compare("request", "handed back", ours, theirs)


def message_of(reading: Reading) -> dict[str, Any]:
    """The assistant's message, put together as agents do it when it came in a stream."""
    if reading.body is not None:
        return reading.body["choices"][0]["message"]
    choice = reading.choices[0]
    message: dict[str, Any] = {"role": "assistant", "content": choice.text}
    for chunk in reading.chunks:
        for entry in chunk["choices"]:
            delta = entry["delta"]
            for name in ("thinking_blocks", "annotations"):
                if delta.get(name):
                    message.setdefault(name, []).extend(delta[name])
            if delta.get("provider_specific_fields"):
                message.setdefault("provider_specific_fields", {}).update(delta["provider_specific_fields"])
    if choice.calls:
        functions = [(call.id, {"name": call.name, "arguments": call.arguments}) for call in choice.calls]
        message["tool_calls"] = [{"id": name, "type": "function", "function": called} for name, called in functions]
    return message


def blocks_of(recording: Recording) -> list[dict[str, Any]]:
    """The content blocks of a recorded answer, streamed ones put together."""
    if not recording.stream:
        return json.loads(recording.text)["content"]
    blocks: dict[int, dict[str, Any]] = {}
    for _name, data in events(recording.text):
        event = json.loads(data)
        if event["type"] == "content_block_start":
            blocks[event["index"]] = event["content_block"]
        elif event["type"] == "content_block_delta":
            add_to_block(blocks[event["index"]], event["delta"])
    for block in blocks.values():
        if pieces := block.pop("pieces", ""):
            block["input"] = json.loads(pieces)
    return list(blocks.values())


def add_to_block(block: dict[str, Any], delta: dict[str, Any]) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = block.get("signature", "") + delta["signature"]
        case "input_json_delta":
            block["pieces"] = block.get("pieces", "") + delta["partial_json"]
        case "citations_delta":
            block["citations"] = [*(block.get("citations") or []), delta["citation"]]


def plain(block: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """A block without what says nothing (`caller` of a plain call), or is said to be left out (citations)."""
    kept = dict(block)
    if kept.get("caller") == {"type": "direct"}:
        del kept["caller"]
    if "annotations" in answer.headers.get("x-perpetuo-warnings", ""):
        kept.pop("citations", None)
    return kept
