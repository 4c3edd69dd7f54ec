"""An answer handed back as part of the conversation, as agents do it.

The provider must get its own turn again, reasoning and signatures included: a tool loop continues only so. `given` reads the
turn from the recording, `taken` from the next request. Here are the wires that sign what they say; OpenAI's own and compatible
ones have nothing but texts and calls, which any request shows.
"""

from __future__ import annotations

import json
from typing import Any

from gateway import Workspace
from replay import Replay

from . import eventstream
from .reading import Reading, events
from .recording import Recording
from .result import Result
from .wires import HI, Wire

ANTHROPIC, GOOGLE, BEDROCK = "anthropic", "google", "bedrock"
DIALECTS = {
    "messages": ANTHROPIC,
    "generateContent": GOOGLE,
    "streamGenerateContent": GOOGLE,
    "converse": BEDROCK,
    "converse_stream": BEDROCK,
}


def check(result: Result, wire: Wire, replay: Replay, workspace: Workspace, reading: Reading) -> None:
    """Sends the answer back with results for its calls, and compares the turn that arrives with the one that was given."""
    dialect = DIALECTS.get(result.recording.endpoint)
    # A refusal has nothing to go on with.
    if dialect is None or not reading.choices or reading.choices[0].refusal:
        return
    message = message_of(reading)
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "ok"} for call in message.get("tool_calls") or []]
    messages = [HI[0], message, *results, {"role": "user", "content": "go on"}]
    replay.play(result.recording.id)
    body = {"model": wire.address(result.recording), "messages": messages, "stream": result.recording.stream}
    answer = workspace.post("/chat/completions", body)
    if answer.status != 200:
        result.fail("request", f"handed back: {answer.status} {answer.text}")
        return
    got = TAKEN[dialect](wire, json.loads(replay.seen[0]["body"]))
    wanted = GIVEN[dialect](wire, result.recording)
    ours, theirs = ([plain(block, message) for block in some] for some in (got, wanted))
    result.compare("request", "handed back", ours, theirs)


def message_of(reading: Reading) -> dict[str, Any]:
    """The assistant's message, put together as agents do it when it came in a stream."""
    if reading.body is not None:
        return reading.body["choices"][0]["message"]
    choice = reading.choices[0]
    message: dict[str, Any] = {"role": "assistant", "content": choice.text}
    if choice.reasoning:
        message["reasoning_content"] = choice.reasoning
    calls = [{"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
             for call in choice.calls]  # fmt: skip
    for chunk in reading.chunks:
        for entry in chunk["choices"][:1]:
            _add_delta(message, calls, entry["delta"])
    return {**message, "tool_calls": calls} if calls else message


def _add_delta(message: dict[str, Any], calls: list[dict[str, Any]], delta: dict[str, Any]) -> None:
    """What agents keep of a delta beyond OpenAI's own members."""
    for name in ("thinking_blocks", "annotations"):
        if delta.get(name):
            message.setdefault(name, []).extend(delta[name])
    kept = message.setdefault("provider_specific_fields", {}) if delta.get("provider_specific_fields") else {}
    for name, value in (delta.get("provider_specific_fields") or {}).items():
        kept[name] = kept.get(name, []) + value if isinstance(value, list) else value
    for piece in delta.get("tool_calls") or []:
        if piece.get("extra_content"):
            calls[piece["index"]]["extra_content"] = piece["extra_content"]


def plain(block: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    """A block without what says nothing: `caller` of a plain call, and the citations of a text that is not given whole."""
    kept = dict(block)
    if kept.get("caller") == {"type": "direct"}:
        del kept["caller"]
    if "content_blocks" not in (message.get("provider_specific_fields") or {}):
        kept.pop("citations", None)
    return kept


# --- Anthropic ---------------------------------------------------------------------------------------------------------


def _anthropic_taken(wire: Wire, body: dict[str, Any]) -> list[dict[str, Any]]:
    turns = wire.normal(body)["messages"]
    return [block for turn in turns if turn["role"] == "assistant" for block in turn["content"]]


def _anthropic_given(wire: Wire, recording: Recording) -> list[dict[str, Any]]:
    return _anthropic_taken(wire, {"messages": [{"role": "assistant", "content": blocks_of(recording)}]})


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


# --- Google ------------------------------------------------------------------------------------------------------------


def _google_taken(_wire: Wire, body: dict[str, Any]) -> list[dict[str, Any]]:
    turns = [turn for turn in body["contents"] if turn.get("role") == "model"]
    return _merged([part for turn in turns for part in turn["parts"]])


def _google_given(_wire: Wire, recording: Recording) -> list[dict[str, Any]]:
    pieces = [json.loads(recording.text)] if not recording.stream else [json.loads(data) for _, data in events(recording.text)]
    candidates = [candidate for piece in pieces for candidate in piece.get("candidates") or []]
    return _merged([part for candidate in candidates for part in (candidate.get("content") or {}).get("parts") or []])


def _merged(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parts without ids of calls, which the gateway makes where Google gives none, and neighbouring texts joined: a stream
    has the signature of a text at any of its pieces."""
    merged: list[dict[str, Any]] = []
    for part in parts:
        part = dict(part)
        if "functionCall" in part:
            part["functionCall"] = {name: value for name, value in part["functionCall"].items() if name != "id"}
        if "text" in part and merged and "text" in merged[-1] and merged[-1].get("thought") == part.get("thought"):
            merged[-1] = {**merged[-1], **part, "text": merged[-1]["text"] + part["text"]}
        else:
            merged.append(part)
    return [part for part in merged if part != {"text": ""}]


# --- Bedrock -----------------------------------------------------------------------------------------------------------


def _bedrock_taken(_wire: Wire, body: dict[str, Any]) -> list[dict[str, Any]]:
    return _plain_blocks([block for turn in body["messages"] if turn["role"] == "assistant" for block in turn["content"]])


def _plain_blocks(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Reasoning first, where models that sign nothing may put it last; texts joined, whose citations the message has."""
    plain: list[dict[str, Any]] = []
    for block in sorted(blocks, key=lambda block: "reasoningContent" not in block):
        if "citationsContent" in block:
            block = {"text": "".join(piece["text"] for piece in block["citationsContent"]["content"])}
        if block.get("toolUse", {}).get("type") == "tool_use":
            block = {"toolUse": {name: value for name, value in block["toolUse"].items() if name != "type"}}
        if "text" in block and plain and "text" in plain[-1]:
            plain[-1] = {"text": plain[-1]["text"] + block["text"]}
        else:
            plain.append({name: value for name, value in block.items() if name != "type"})
    return plain


def _bedrock_given(_wire: Wire, recording: Recording) -> list[dict[str, Any]]:
    if not recording.stream:
        return _plain_blocks(json.loads(recording.text)["output"]["message"]["content"])
    blocks: dict[int, dict[str, Any]] = {}
    for name, payload in eventstream.decode(recording.body):
        block = blocks.setdefault(payload.get("contentBlockIndex", -1), {})
        if name == "contentBlockStart":
            block.update(payload["start"])
        elif name == "contentBlockDelta":
            _add_converse_delta(block, payload["delta"])
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"].get("input") or "{}")
    return _plain_blocks([block for index, block in sorted(blocks.items()) if index >= 0 and block])


def _add_converse_delta(block: dict[str, Any], delta: dict[str, Any]) -> None:
    if "text" in delta:
        block["text"] = block.get("text", "") + delta["text"]
    elif "toolResult" in delta:
        block["toolResult"].setdefault("content", []).extend(delta["toolResult"])
    elif "toolUse" in delta:
        block["toolUse"]["input"] = block["toolUse"].get("input", "") + delta["toolUse"]["input"]
    elif "redactedContent" in delta.get("reasoningContent", {}):
        block["reasoningContent"] = delta["reasoningContent"]
    elif "reasoningContent" in delta:
        inner = block.setdefault("reasoningContent", {}).setdefault("reasoningText", {})
        for name, piece in delta["reasoningContent"].items():
            inner[name] = inner.get(name, "") + piece


TAKEN = {ANTHROPIC: _anthropic_taken, GOOGLE: _google_taken, BEDROCK: _bedrock_taken}
GIVEN = {ANTHROPIC: _anthropic_given, GOOGLE: _google_given, BEDROCK: _bedrock_given}
