"""Requests that fit recordings: what an app would have sent to the gateway to get the recorded exchange.

For OpenAI and Groq that is the recorded body itself. Anthropic's bodies are put into OpenAI's terms as far as those go;
`Sent.lost` names what they can't say, and `Sent.expected` is the part of the recorded body that must come out of the
gateway again. `normal` brings two Anthropic bodies that mean the same into the same form.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from expect import Recording

HI = [{"role": "user", "content": "hi"}]
# Parameters of Anthropic's API that OpenAI's has no word for, or no word that says exactly the same.
NO_WORD = ("cache_control", "container", "mcp_servers", "service_tier", "thinking", "top_k", "output_format")


@dataclass
class Sent:
    """A request for the gateway, and what the provider must receive for it."""

    body: dict[str, Any]
    expected: dict[str, Any] | None
    lost: list[str] = field(default_factory=list)


def request_of(recording: Recording) -> Sent:
    """The request whose answer the recording is."""
    if recording.request is None:
        body = {"model": recording.model, "messages": HI, "stream": recording.stream}
        return Sent({**body, "model": f"{recording.provider}/{recording.model}"}, None, ["no request was recorded"])
    if recording.provider == "anthropic":
        return _from_anthropic(recording.request)
    expected = dict(recording.request)
    if expected.get("stream"):
        expected["stream_options"] = {**(expected.get("stream_options") or {}), "include_usage": True}
    return Sent({**recording.request, "model": f"{recording.provider}/{recording.model}"}, expected)


# --- Anthropic's request in OpenAI's terms -----------------------------------------------------------------------------


class _Inexpressible(Exception):
    """A part that OpenAI's API has no form for."""


def _from_anthropic(recorded: dict[str, Any]) -> Sent:
    sent = Sent({"model": f"anthropic/{recorded['model']}"}, dict(recorded))
    for name in NO_WORD:
        if name in recorded:
            _lose(sent, name, name)
    for name, convert in (("messages", _messages), ("tools", _tools), ("output_config", _output)):
        if name not in recorded:
            continue
        try:
            sent.body.update(convert(recorded[name]))
        except _Inexpressible as reason:
            _lose(sent, name, str(reason))
    sent.body.setdefault("messages", HI)
    if "system" in recorded:
        sent.body["messages"] = [{"role": "system", "content": recorded["system"]}, *sent.body["messages"]]
    _tool_choice(sent, recorded.get("tool_choice"))
    for name, ours in (("max_tokens", "max_tokens"), ("temperature", "temperature"), ("stop_sequences", "stop")):
        if name in recorded:
            sent.body[ours] = recorded[name]
    if recorded.get("stream"):
        sent.body.update(stream=True, stream_options={"include_usage": True})
    return sent


def _lose(sent: Sent, name: str, reason: str) -> None:
    sent.expected.pop(name, None)
    sent.lost.append(reason)


def _tool_choice(sent: Sent, choice: dict[str, Any] | None) -> None:
    if not choice or "tools" not in sent.body:
        sent.expected.pop("tool_choice", None)
        return
    words = {"auto": "auto", "any": "required", "none": "none"}
    named = {"type": "function", "function": {"name": choice.get("name")}}
    sent.body["tool_choice"] = words.get(choice["type"], named)
    if "disable_parallel_tool_use" in choice:
        sent.body["parallel_tool_calls"] = not choice["disable_parallel_tool_use"]


def _tools(tools: list[dict[str, Any]]) -> dict[str, Any]:
    functions = []
    for tool in tools:
        extra = set(tool) - {"name", "description", "input_schema", "strict", "type"}
        if tool.get("type", "custom") != "custom":
            raise _Inexpressible("tools: one that the provider runs itself")
        if extra:
            raise _Inexpressible(f"tools: {', '.join(sorted(extra))}")
        function = {"name": tool["name"], "parameters": tool["input_schema"]}
        function.update({name: tool[name] for name in ("description", "strict") if name in tool})
        functions.append({"type": "function", "function": function})
    return {"tools": functions}


def _output(config: dict[str, Any]) -> dict[str, Any]:
    if "effort" in config:
        raise _Inexpressible("output_config: effort")
    schema = {"name": "answer", "schema": config["format"]["schema"], "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _messages(messages: list[dict[str, Any]]) -> dict[str, Any]:
    converted = []
    for message in messages:
        if not isinstance(message, dict):
            raise _Inexpressible("messages: not an object")
        if message["role"] == "system":
            raise _Inexpressible("messages: a system message among the others")
        content = message["content"]
        if isinstance(content, str):
            converted.append({"role": message["role"], "content": content})
        elif message["role"] == "assistant":
            converted.append(_assistant(content))
        else:
            converted.extend(_user(content))
    return {"messages": converted}


def _assistant(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    texts, calls = [], []
    for block in blocks:
        match block["type"]:
            case "text" if not calls:
                texts.append(_text(block))
            case "tool_use":
                function = {"name": block["name"], "arguments": json.dumps(block["input"])}
                calls.append({"id": block["id"], "type": "function", "function": function})
            case "text":
                raise _Inexpressible("messages: text after a tool call")
            case kind:
                raise _Inexpressible(f"messages: an assistant's {kind}")
    message: dict[str, Any] = {"role": "assistant", "content": texts or None}
    if calls:
        message["tool_calls"] = calls
    return message


def _user(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    results, parts = [], []
    for block in blocks:
        if block["type"] != "tool_result":
            parts.append(_part(block))
            continue
        if parts:
            raise _Inexpressible("messages: a tool result after text")
        results.append(_tool_result(block))
    return results + ([{"role": "user", "content": parts}] if parts else [])


def _tool_result(block: dict[str, Any]) -> dict[str, Any]:
    if block.get("is_error"):
        raise _Inexpressible("messages: a tool result that is an error")
    content = block.get("content") or ""
    if not isinstance(content, str):
        kinds = {part["type"] for part in content} - {"text"}
        if kinds:
            raise _Inexpressible(f"messages: a tool result with {', '.join(sorted(kinds))}")
        content = [_text(part) for part in content]
    return {"role": "tool", "tool_call_id": block["tool_use_id"], "content": content}


def _text(block: dict[str, Any]) -> dict[str, Any]:
    kept = {name: block[name] for name in ("text", "cache_control") if name in block}
    return {"type": "text", **kept}


def _part(block: dict[str, Any]) -> dict[str, Any]:
    source = block.get("source") or {}
    match block["type"], source.get("type"):
        case "text", _:
            return _text(block)
        case "image", "url":
            return {"type": "image_url", "image_url": {"url": source["url"]}}
        case "image", "base64":
            return {"type": "image_url", "image_url": {"url": _data_url(source)}}
        case "document", "base64" if set(block) == {"type", "source"}:
            return {"type": "file", "file": {"file_data": _data_url(source)}}
        case kind, inner:
            raise _Inexpressible(f"messages: {kind}{f' ({inner})' if inner else ''}")


def _data_url(source: dict[str, Any]) -> str:
    return f"data:{source['media_type']};base64,{source['data']}"


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
