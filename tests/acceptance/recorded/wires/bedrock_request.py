"""Bedrock's Converse in OpenAI's terms.

A turn that holds what OpenAI has no form for (server-side tools, citations, documents named as only Bedrock names them)
goes as `provider_specific_fields.converse_blocks`, which stands for the whole message. A cache point becomes a
`cache_control` on what stands before it.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from ..recording import Recording
from .base import HI, Sent

INFERENCE = {"maxTokens": "max_tokens", "temperature": "temperature", "topP": "top_p", "stopSequences": "stop"}
# Models that are held to no schema, as far as Bedrock's pages tell. A client that knows better says so in Bedrock's terms.
UNSTRUCTURED = ("anthropic.claude-3",)
MARK = {"type": "ephemeral"}
# Media types of documents whose format is not their name.
DOCUMENTS = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/markdown",
    "html": "text/html",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


class _NoForm(Exception):
    """A content that OpenAI's API has no form for."""


def request_of(recording: Recording, address: str) -> Sent:
    """The request whose answer the recording is, for the model of this address."""
    recorded = _with_base64(recording.request)
    expected = {name: value for name, value in recorded.items() if name != "modelId"}
    sent = Sent({"model": address, "messages": HI}, expected)
    # An error of a stream comes as a plain answer, but it was a stream that was asked for.
    if recording.endpoint == "converse_stream":
        sent.body.update(stream=True, stream_options={"include_usage": True})
    try:
        sent.body["messages"] = _messages(sent, recorded)
    except _NoForm as reason:
        return Sent(sent.body, None, lost=[str(reason)])
    for name, value in expected.items():
        if name not in ("messages", "system"):
            _parameter(sent, name, value)
    return sent


def _with_base64(value: Any) -> Any:
    """One SDK kept bytes as numbers, `{"type": "Buffer", "data": […]}` or `{"0": …, "1": …}`; on the wire they are base64."""
    if isinstance(value, list):
        return [_with_base64(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "Buffer" or (value and all(key.isdigit() for key in value)):
        numbers = value.get("data") or [value[str(index)] for index in range(len(value))]
        return base64.b64encode(bytes(numbers)).decode()
    return {name: _with_base64(inner) for name, inner in value.items()}


def _parameter(sent: Sent, name: str, value: Any) -> None:
    body = sent.body
    match name:
        case "inferenceConfig":
            body.update({INFERENCE[inner]: said for inner, said in value.items()})
        case "toolConfig":
            body["tools"] = _tools(sent, value["tools"])
            for word, named in (value.get("toolChoice") or {}).items():
                words = {"any": "required", "tool": {"type": "function", "function": named}}
                body["tool_choice"] = words.get(word, word)
        case "outputConfig" if set(value) == {"textFormat"} and not any(kind in body["model"] for kind in UNSTRUCTURED):
            form = value["textFormat"]["structure"]["jsonSchema"]
            schema = {**form, "schema": json.loads(form["schema"])}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        case "serviceTier":
            body["service_tier"] = value["type"]
        case "additionalModelRequestFields":
            _model_fields(sent, value)
        case _:
            body[name] = value
            sent.native.append(name)


def _model_fields(sent: Sent, fields: dict[str, Any]) -> None:
    """Fields of the model's own: some of them are parameters of the gateway, and the others go as the object they are in."""
    rest = dict(fields)
    for name in ("thinking", "output_config", "top_k"):
        if name in rest:
            sent.body[name] = rest.pop(name)
            sent.native.append(f"additionalModelRequestFields.{name}")
    if rest:
        sent.body["additionalModelRequestFields"] = rest
        sent.native.append("additionalModelRequestFields")


def _tools(sent: Sent, tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for tool in tools:
        if "cachePoint" in tool:
            made[-1]["cache_control"] = MARK
            sent.native.append("a cache point")
        elif "systemTool" in tool:
            made.append({"type": "system", "systemTool": tool["systemTool"]})
            sent.native.append("a tool that the provider runs itself")
        else:
            spec = dict(tool["toolSpec"])
            schema = spec.pop("inputSchema")["json"]
            made.append({"type": "function", "function": {**spec, "parameters": schema}})
    return made


# --- the conversation --------------------------------------------------------------------------------------------------


def _messages(sent: Sent, recorded: dict[str, Any]) -> list[dict[str, Any]]:
    if not isinstance(recorded.get("messages"), list):
        raise _NoForm("messages: not a list")
    messages = []
    if recorded.get("system"):
        messages.append({"role": "system", "content": _parts(sent, recorded["system"])})
    for turn in recorded["messages"]:
        blocks = turn["content"]
        if not isinstance(blocks, list):
            raise _NoForm("messages: content that is no list")
        try:
            turned = _user(sent, blocks) if turn["role"] == "user" else [_assistant(sent, blocks)]
        except _NoForm as reason:
            sent.native.append(str(reason))
            fields = {"converse_blocks": blocks}
            turned = [{"role": turn["role"], "content": None, "provider_specific_fields": fields}]
        messages += turned
    return messages


def _user(sent: Sent, blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for block in blocks:
        if "toolResult" in block:
            messages.append(_result(sent, block["toolResult"]))
        elif "cachePoint" in block and messages:
            messages[-1]["cache_control"] = MARK
            sent.native.append("a cache point")
        else:
            messages.append({"role": "user", "content": _parts(sent, [block])})
    return messages


def _result(sent: Sent, result: dict[str, Any]) -> dict[str, Any]:
    message = {"role": "tool", "tool_call_id": result["toolUseId"], "content": _parts(sent, result["content"])}
    return {**message, "is_error": True} if result.get("status") == "error" else message


def _assistant(sent: Sent, blocks: list[dict[str, Any]]) -> dict[str, Any]:
    thinking, texts, calls = [], [], []
    for block in blocks:
        name, inner = next(iter(block.items()))
        if name == "reasoningContent" and not texts and not calls:
            thinking.append(_thinking(inner))
        elif name == "toolUse":
            function = {"name": inner["name"], "arguments": json.dumps(inner["input"])}
            calls.append({"id": inner["toolUseId"], "type": "function", "function": function})
        elif name == "text" and not calls:
            texts.append(block)
        else:
            raise _NoForm(f"an assistant's {name} block")
    message: dict[str, Any] = {"role": "assistant", "content": _parts(sent, texts) or None}
    if calls:
        message["tool_calls"] = calls
    if thinking:
        message["thinking_blocks"] = thinking
    return message


def _thinking(content: dict[str, Any]) -> dict[str, Any]:
    """The block as the gateway hands it out: in Anthropic's form. Redacted bytes are a text there, if they are one."""
    if "redactedContent" in content:
        data = content["redactedContent"]
        try:
            return {"type": "redacted_thinking", "data": base64.b64decode(data, validate=True).decode()}
        except ValueError:
            return {"type": "redacted_thinking", "data": data, "encoding": "base64"}
    reasoning = content["reasoningText"]
    signed = {"signature": reasoning["signature"]} if "signature" in reasoning else {}
    return {"type": "thinking", "thinking": reasoning["text"], **signed}


def _parts(sent: Sent, blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for block in blocks:
        name, inner = next(iter(block.items()))
        if name == "cachePoint" and parts:
            parts[-1]["cache_control"] = MARK
            sent.native.append("a cache point")
        elif name == "text":
            parts.append({"type": "text", "text": inner})
        else:
            parts.append(_media(name, inner))
    return parts


def _media(name: str, inner: Any) -> dict[str, Any]:
    data = inner.get("source", {}).get("bytes") if isinstance(inner, dict) else None
    if name not in ("image", "video", "document") or data is None or "citations" in inner or "context" in inner:
        raise _NoForm(f"a {name} block")
    form = inner["format"]
    if name == "image":
        return {"type": "image_url", "image_url": {"url": f"data:image/{form};base64,{data}"}}
    if name == "video":
        return {"type": "file", "file": {"file_data": f"data:video/{form};base64,{data}"}}
    if form not in DOCUMENTS or not _is_document_name(inner["name"]):
        raise _NoForm("a document that is named as no file is")
    file = {"file_data": f"data:{DOCUMENTS[form]};base64,{data}", "filename": inner["name"]}
    return {"type": "file", "file": file}


def _is_document_name(name: str) -> bool:
    """What Bedrock allows; a recording whose secrets were removed may hold another."""
    return all(letter.isascii() and (letter.isalnum() or letter in " -()[]") for letter in name) and "  " not in name


# --- comparing ---------------------------------------------------------------------------------------------------------


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """The same meaning in one form: neighbours of one role merged, schemas read, nothing that says nothing."""
    result = {name: value for name, value in body.items() if value not in ({}, []) and name != "modelId"}
    if "inferenceConfig" in result:
        result["inferenceConfig"] = {name: value for name, value in result["inferenceConfig"].items() if value != []}
    form = result.get("outputConfig", {}).get("textFormat", {}).get("structure", {}).get("jsonSchema")
    if form and isinstance(form["schema"], str):
        read = {**form, "schema": closed(json.loads(form["schema"]))}
        result["outputConfig"] = {**result["outputConfig"], "textFormat": {"type": "json_schema", "jsonSchema": read}}
    if "toolConfig" in result:
        result["toolConfig"] = {**result["toolConfig"], "tools": [_normal_tool(tool) for tool in result["toolConfig"]["tools"]]}
    turns: list[dict[str, Any]] = []
    for turn in result.get("messages") or []:
        blocks = [_normal_block(block) for block in turn["content"]]
        if turns and turns[-1]["role"] == turn["role"]:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": turn["role"], "content": blocks})
    return {**result, "messages": turns}


def closed(schema: Any) -> Any:
    """A schema whose objects are closed where they don't say: schemas that a model is held to must be."""
    if isinstance(schema, list):
        return [closed(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(inner) for name, inner in schema.items()}
    return {"additionalProperties": False, **made} if made.get("type") == "object" else made


def _normal_tool(tool: dict[str, Any]) -> dict[str, Any]:
    if "toolSpec" not in tool:
        return tool
    defaults = {"description": "", "strict": False}
    return {"toolSpec": {name: value for name, value in tool["toolSpec"].items() if defaults.get(name, ...) != value}}


def _normal_block(block: dict[str, Any]) -> dict[str, Any]:
    """Without what one SDK adds to the objects that it keeps, and without the default of a result."""
    defaults = {"toolUse": ("type", "tool_use"), "toolResult": ("status", "success")}
    return {
        name: {key: value for key, value in inner.items() if (key, value) != defaults[name]} if name in defaults else inner
        for name, inner in block.items()
    }
