"""Anthropic's recorded requests in OpenAI's terms, and what must come out of the gateway for them.

Where OpenAI's API has no word, the members that the gateway takes under Anthropic's own names are used: `Sent.native` lists
them. What can't be said at all is in `Sent.lost`. `normal` brings two bodies that mean the same into the same form.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from ..recording import Recording
from .base import HI, Sent

# Parameters of Anthropic's API that the gateway takes by these names, because OpenAI's has no word for them.
NATIVE = ("cache_control", "container", "mcp_servers", "output_format", "service_tier", "thinking", "top_k")
# Blocks that come first in an answer, and go back as `thinking_blocks`.
THINKING = ("thinking", "redacted_thinking")
# Parameters that both have, by Anthropic's name and by OpenAI's.
COMMON = (("max_tokens", "max_tokens"), ("temperature", "temperature"), ("stop_sequences", "stop"))


# --- Anthropic's request in OpenAI's terms -----------------------------------------------------------------------------


class _NoForm(Exception):
    """A content that OpenAI's API has no form for."""


def request_of(recording: Recording, address: str) -> Sent:
    """The request whose answer the recording is, for the model of this address."""
    recorded = recording.request
    sent = Sent({"model": address, "messages": HI}, dict(recorded))
    for name in NATIVE:
        if name in recorded:
            sent.body[name] = recorded[name]
            sent.native.append(name)
    for name, ours in COMMON:
        if name in recorded:
            sent.body[ours] = recorded[name]
    if "temperature" in recorded:
        # OpenAI's goes to 2. The gateway brings it into Anthropic's range and says so in a warning.
        sent.expected["temperature"] = min(max(recorded["temperature"], 0.0), 1.0)
    if recorded.get("stream"):
        sent.body.update(stream=True, stream_options={"include_usage": True})
    _messages(sent, recorded["messages"])
    if "system" in recorded:
        sent.body["messages"] = [{"role": "system", "content": recorded["system"]}, *sent.body["messages"]]
    if recorded.get("tools"):
        _tools(sent, recorded["tools"])
    _tool_choice(sent, recorded.get("tool_choice"))
    _output(sent, recorded.get("output_config") or {})
    return sent


def _messages(sent: Sent, messages: list[Any]) -> None:
    if not all(isinstance(message, dict) for message in messages):
        _lose(sent, "messages", "messages: not objects")
    elif any(message["role"] == "system" for message in messages):
        _lose(sent, "messages", "messages: an instruction in the middle of the conversation")
    else:
        sent.body["messages"] = [turned for message in messages for turned in _message(sent, message)]


def _lose(sent: Sent, name: str, reason: str) -> None:
    sent.expected.pop(name, None)
    sent.lost.append(reason)


def _message(sent: Sent, message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    if isinstance(content, str):
        return [{"role": message["role"], "content": content}]
    try:
        return [_assistant(content)] if message["role"] == "assistant" else _user(content)
    except _NoForm as reason:
        sent.native.append(str(reason))
        return [{"role": message["role"], "provider_specific_fields": {"content_blocks": content}}]


def _assistant(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for block in blocks:
        kind = block["type"]
        if kind == "text" and "tool_calls" not in message:
            message["content"] = [*(message["content"] or []), _text(block)]
        elif kind == "tool_use":
            function = {"name": block["name"], "arguments": json.dumps(block["input"])}
            message.setdefault("tool_calls", []).append({"id": block["id"], "type": "function", "function": function})
        elif kind in THINKING and not message["content"] and "tool_calls" not in message:
            message.setdefault("thinking_blocks", []).append(block)
        else:
            raise _NoForm(f"an assistant's {kind} block")
    return message


def _user(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    results, parts = [], []
    for block in blocks:
        if block["type"] != "tool_result":
            parts.append(_part(block))
        elif parts:
            raise _NoForm("a tool result after other content")
        else:
            results.append(_tool_result(block))
    return results + ([{"role": "user", "content": parts}] if parts else [])


def _tool_result(block: dict[str, Any]) -> dict[str, Any]:
    content = block.get("content") or ""
    if not isinstance(content, str):
        content = [_part(part) for part in content]
    message = {"role": "tool", "tool_call_id": block["tool_use_id"], "content": content}
    return {**message, "is_error": True} if block.get("is_error") else message


def _text(block: dict[str, Any]) -> dict[str, Any]:
    kept = {name: block[name] for name in ("text", "cache_control") if name in block}
    return {"type": "text", **kept}


def _part(block: dict[str, Any]) -> dict[str, Any]:
    source = block.get("source") or {}
    extra = {name: block[name] for name in ("cache_control", "citations", "title") if block.get(name) is not None}
    match block["type"], source.get("type"):
        case "text", _:
            return _text(block)
        case "image", "url":
            return {"type": "image_url", "image_url": {"url": source["url"]}, **extra}
        case "image", "base64":
            return {"type": "image_url", "image_url": {"url": _data_url(source)}, **extra}
        case "document", "base64":
            return {"type": "file", "file": {"file_data": _data_url(source)}, **extra}
        case "document", "text":
            data = base64.b64encode(source["data"].encode()).decode()
            return {"type": "file", "file": {"file_data": _data_url({**source, "data": data})}, **extra}
        case "document", "file":
            return {"type": "file", "file": {"file_id": source["file_id"]}, **extra}
        case kind, inner:
            raise _NoForm(f"a user's {kind} block{f' ({inner})' if inner else ''}")


def _data_url(source: dict[str, Any]) -> str:
    return f"data:{source['media_type']};base64,{source['data']}"


def _tools(sent: Sent, tools: list[dict[str, Any]]) -> None:
    sent.body["tools"] = []
    for tool in tools:
        if tool.get("type", "custom") != "custom":
            sent.native.append("a tool that the provider runs itself")
            sent.body["tools"].append(tool)
            continue
        function = {"name": tool["name"], "parameters": tool["input_schema"]}
        function.update({name: tool[name] for name in ("description", "strict") if name in tool})
        extra = {name: tool[name] for name in ("defer_loading", "cache_control") if name in tool}
        sent.native.extend(f"a tool's {name}" for name in extra)
        sent.body["tools"].append({"type": "function", "function": function, **extra})
    sent.expected["tools"] = [_as_anthropic_wants(tool) for tool in tools]


def _as_anthropic_wants(tool: dict[str, Any]) -> dict[str, Any]:
    """OpenAI takes schemas without a type, and strict ones that only imply being closed; Anthropic refuses both."""
    schema = tool.get("input_schema")
    if not isinstance(schema, dict):
        return tool
    schema = {"type": "object", **schema}
    if tool.get("strict") and schema["type"] == "object":
        schema = {"additionalProperties": False, **schema}
    return {**tool, "input_schema": schema}


def _tool_choice(sent: Sent, choice: dict[str, Any] | None) -> None:
    if not choice or "tools" not in sent.body:
        sent.expected.pop("tool_choice", None)
        return
    words = {"auto": "auto", "any": "required", "none": "none"}
    named = {"type": "function", "function": {"name": choice.get("name")}}
    sent.body["tool_choice"] = words.get(choice["type"], named)
    if "disable_parallel_tool_use" in choice:
        sent.body["parallel_tool_calls"] = not choice["disable_parallel_tool_use"]


def _output(sent: Sent, config: dict[str, Any]) -> None:
    if "effort" in config:
        sent.body["output_config"] = {"effort": config["effort"]}
        sent.native.append("output_config.effort")
    if "format" in config:
        schema = config["format"]["schema"]
        # OpenAI's schema must have a name; Anthropic's has a title instead.
        named = {"title": "answer", **schema}
        form = {"name": named["title"], "schema": schema, "strict": True}
        sent.body["response_format"] = {"type": "json_schema", "json_schema": form}
        sent.expected["output_config"] = {**config, "format": {**config["format"], "schema": named}}


# --- comparing Anthropic's requests ------------------------------------------------------------------------------------


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """The same meaning in one form: block lists for texts, no defaults, neighbours of one role merged."""
    result = {name: value for name, value in body.items() if value is not None}
    if not result.get("stream"):
        result.pop("stream", None)
    if result.get("tool_choice") == {"type": "auto"}:
        del result["tool_choice"]
    if "system" in result:
        result["system"] = _blocks(result["system"])
    if "tools" in result:
        result["tools"] = [_normal_tool(tool) for tool in result["tools"]]
    if "output_config" in result:
        result["output_config"] = _normal_output(result["output_config"])
    merged: list[dict[str, Any]] = []
    for message in result.get("messages", []):
        blocks = _blocks(message["content"])
        if merged and merged[-1]["role"] == message["role"]:
            merged[-1]["content"] += blocks
        else:
            merged.append({"role": message["role"], "content": blocks})
    if merged:
        result["messages"] = merged
    return result


def _blocks(content: str | list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [_normal_block(block) for block in content]


def _normal_block(block: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in block.items() if value is not None and (name, value) != ("is_error", False)}
    if block.get("type") == "tool_result":
        kept["content"] = _blocks(block.get("content"))
    return kept


def _normal_tool(tool: dict[str, Any]) -> dict[str, Any]:
    defaults = {"description": "", "strict": False, "type": "custom"}
    return {name: value for name, value in tool.items() if value is not None and defaults.get(name, ...) != value}


def _normal_output(config: dict[str, Any]) -> dict[str, Any]:
    form = config.get("format") or {}
    return {**config, "format": {"type": "json_schema", **form}}
