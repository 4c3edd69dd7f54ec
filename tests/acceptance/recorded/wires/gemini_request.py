"""Google's generateContent in OpenAI's terms, and its embedding calls.

Google reads names in camel case and with underscores alike, so everything here works on the camel case of `plain`. A turn
that holds what OpenAI has no form for (code, signed texts in several pieces, media that a model made) goes as
`provider_specific_fields.content_parts`, which stands for the whole message.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ..recording import Recording
from .base import HI, Sent

# What the Gemini API takes for a signature that is not at hand ("Thought signatures", FAQ), as base64. The gateway says it
# for calls that have none where the model insists on one.
NO_SIGNATURE = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
# The client's own JSON, whose names are not Google's.
OWN_JSON = ("args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema")
# Parameters of `generationConfig` that OpenAI has, too.
GENERATION = {
    "maxOutputTokens": "max_completion_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "stopSequences": "stop",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "responseLogprobs": "logprobs",
    "logprobs": "top_logprobs",
    "candidateCount": "n",
}
SCHEMAS = ("responseJsonSchema", "responseSchema")


class _NoForm(Exception):
    """A content that OpenAI's API has no form for."""


def request_of(recording: Recording, address: str) -> Sent:
    """The request whose answer the recording is, for the model of this address."""
    body = plain(recording.request)
    if "contents" not in body:
        return _embeddings(body, address)
    sent = Sent({"model": address, "messages": HI}, dict(body))
    if recording.endpoint == "streamGenerateContent":
        sent.body.update(stream=True, stream_options={"include_usage": True})
    try:
        sent.body["messages"] = _Conversation(sent, recording.provider != "vertex").messages(body)
    except _NoForm as reason:
        return Sent(sent.body, None, lost=[str(reason)])
    for name, value in body.items():
        if name == "generationConfig":
            _generation(sent, value)
        elif name not in ("contents", "systemInstruction", "tools", "toolConfig", "model"):
            sent.body[name] = value
            sent.native.append(name)
    _tools(sent, body, validates="MODEL" not in address)
    return sent


def _generation(sent: Sent, config: dict[str, Any]) -> None:
    for name, value in config.items():
        if name in GENERATION:
            whole = int_of(value)
            sent.body[GENERATION[name]] = value if whole is None else whole
        elif name == "responseMimeType" and value == "application/json":
            sent.body["response_format"] = _answer_format(sent, config)
        elif name not in SCHEMAS or config.get("responseMimeType") != "application/json":
            sent.body[name] = value
            sent.native.append(f"generationConfig.{name}")


def int_of(value: Any) -> int | None:
    """A whole number, however it is written: `1` or `1.0`."""
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value == int(value) else None


def _answer_format(sent: Sent, config: dict[str, Any]) -> dict[str, Any]:
    name = next((name for name in SCHEMAS if name in config), None)
    if name is None:
        return {"type": "json_object"}
    # OpenAI's schema must have a name; Google's has a title instead.
    schema = config[name]
    titled = {"title": "answer", **schema}
    sent.expected["generationConfig"] = {**config, name: titled}
    return {"type": "json_schema", "json_schema": {"name": titled["title"], "schema": schema}}


def _tools(sent: Sent, body: dict[str, Any], validates: bool) -> None:
    config = body.get("toolConfig") or {}
    calling = config.get("functionCallingConfig") or {}
    mode, names = calling.get("mode"), calling.get("allowedFunctionNames") or []
    strict = mode == "VALIDATED" and not names and validates
    tools = [made for tool in body.get("tools") or [] for made in _tool(sent, tool, strict)]
    if tools:
        sent.body["tools"] = tools
    words = {"AUTO": "auto", "ANY": "required", "NONE": "none"}
    rest = {name: value for name, value in config.items() if name != "functionCallingConfig"}
    if mode == "ANY" and len(names) == 1:
        sent.body["tool_choice"] = {"type": "function", "function": {"name": names[0]}}
    elif mode in words and not names:
        sent.body["tool_choice"] = words[mode]
    elif mode and not strict:
        rest["functionCallingConfig"] = calling
    if rest:
        sent.body["tool_config"] = rest
        sent.native.append("toolConfig")


def _tool(sent: Sent, tool: dict[str, Any], strict: bool) -> list[dict[str, Any]]:
    made = []
    for name, value in tool.items():
        if name != "functionDeclarations":
            sent.native.append("a tool that the provider runs itself")
            made.append({"type": name, **value})
            continue
        for function in value:
            schema = function.get("parametersJsonSchema", function.get("parameters"))
            spec = {name: function[name] for name in ("name", "description") if name in function}
            spec.update({} if schema is None else {"parameters": schema})
            spec.update({"strict": True} if strict else {})
            for other in set(function) - {"name", "description", "parameters", "parametersJsonSchema"}:
                sent.lost.append(f"a function's {other}")
            made.append({"type": "function", "function": spec})
    return made


# --- the conversation --------------------------------------------------------------------------------------------------


@dataclass
class _Answer:
    """An earlier answer while it is put into OpenAI's order: thoughts, then text, then calls."""

    thoughts: list[str] = field(default_factory=list)
    texts: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    signature: str | None = None
    rank: int = 0
    is_plain: bool = True

    def at(self, rank: int) -> None:
        self.is_plain &= rank >= self.rank
        self.rank = rank


class _Conversation:
    """Contents as messages. Results name their functions, at OpenAI the ids of their calls: `open` are those without one.

    The ids are also put into the contents, because the gateway passes them on, or taken out of them: Vertex AI's API knows
    none.
    """

    def __init__(self, sent: Sent, has_ids: bool):
        self.sent, self.has_ids = sent, has_ids
        self.open: deque[tuple[str, str]] = deque()
        self.made = 0

    def messages(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        instruction = (body.get("systemInstruction") or {}).get("parts") or []
        messages = [{"role": "system", "content": part["text"]} for part in instruction]
        if not isinstance(body.get("contents"), list):
            raise _NoForm("contents: not a list")
        for turn in body["contents"]:
            parts = turn.get("parts") or []
            match turn.get("role") or "user":
                case "model":
                    messages.append(self._assistant(parts))
                case "user" | "function":
                    messages.extend(self._user(parts))
                case role:
                    raise _NoForm(f"contents: the role {role}")
        return messages

    def _assistant(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        answer = _Answer()
        for part in parts:
            self._said(answer, part)
        message: dict[str, Any] = {"role": "assistant", "content": answer.texts or None}
        if answer.thoughts:
            message["reasoning_content"] = "".join(answer.thoughts)
        if answer.calls:
            message["tool_calls"] = answer.calls
        if not answer.is_plain or len(answer.thoughts) > 1:
            message["provider_specific_fields"] = {"content_parts": parts}
            self.sent.native.append("an assistant's parts without a place at OpenAI")
        elif answer.signature:
            message["provider_specific_fields"] = {"thought_signature": answer.signature}
            self.sent.native.append("a signed text")
        return message

    def _said(self, answer: _Answer, part: dict[str, Any]) -> None:
        signature = part.get("thoughtSignature")
        if part.get("thought") and "text" in part and not signature:
            answer.at(0)
            answer.thoughts.append(part["text"])
        elif "functionCall" in part:
            answer.at(2)
            answer.calls.append(self._call(part["functionCall"], signature))
        elif "text" in part and not part.get("thought"):
            answer.at(1)
            answer.is_plain &= answer.signature is None
            answer.signature = signature
            answer.texts.append({"type": "text", "text": part["text"]})
        else:
            answer.is_plain = False

    def _call(self, call: dict[str, Any], signature: str | None) -> dict[str, Any]:
        self.made += 1
        identity = call.get("id") or f"made_{self.made}"
        self.open.append((identity, call["name"]))
        self._mark(call, identity)
        function = {"name": call["name"], "arguments": json.dumps(call.get("args") or {})}
        made = {"id": identity, "type": "function", "function": function}
        if signature:
            made["extra_content"] = {"google": {"thought_signature": signature}}
        return made

    def _mark(self, part: dict[str, Any], identity: str) -> None:
        part.pop("id", None)
        if self.has_ids:
            part["id"] = identity

    def _user(self, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        messages = []
        for part in parts:
            if "functionResponse" in part:
                messages.append(self._result(part["functionResponse"]))
            else:
                messages.append({"role": "user", "content": [_part(part)]})
        return messages

    def _result(self, response: dict[str, Any]) -> dict[str, Any]:
        by_id = [call for call in self.open if call[0] == response.get("id")]
        call = next(iter(by_id or [call for call in self.open if call[1] == response["name"]]), None)
        if call is None:
            raise _NoForm("a result without its call")
        self.open.remove(call)
        self._mark(response, call[0])
        content = [{"type": "text", "text": json.dumps(response["response"])}]
        content += [_part(part) for part in response.get("parts") or []]
        return {"role": "tool", "tool_call_id": call[0], "content": content}


def _part(part: dict[str, Any]) -> dict[str, Any]:
    extra = {name: part[name] for name in ("videoMetadata", "mediaResolution") if name in part}
    if "text" in part:
        return {"type": "text", "text": part["text"], **extra}
    if "fileData" in part:
        return {"type": "file", "file": {"file_id": part["fileData"]["fileUri"]}, **extra}
    if "inlineData" not in part:
        raise _NoForm(f"a user's {', '.join(sorted(part)) or 'empty'} part")
    mime, data = part["inlineData"]["mimeType"], part["inlineData"]["data"]
    kind, _, form = mime.partition("/")
    url = f"data:{mime};base64,{data}"
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": url}, **extra}
    if kind == "audio":
        form = "mp3" if form == "mpeg" else form
        return {"type": "input_audio", "input_audio": {"data": data, "format": form}, **extra}
    return {"type": "file", "file": {"file_data": url}, **extra}


# --- embeddings --------------------------------------------------------------------------------------------------------


def _embeddings(body: dict[str, Any], address: str) -> Sent:
    """For batchEmbedContents, predict and embedContent; `body` is a `plain` one."""
    asked = body.get("requests") or body.get("instances") or [body]
    texts = [one["content"] if isinstance(one["content"], str) else one["content"]["parts"][0]["text"] for one in asked]
    sent = Sent({"model": address, "input": texts}, body)
    options = {**asked[0], **(body.get("parameters") or {})}
    if "outputDimensionality" in options:
        sent.body["dimensions"] = int(options["outputDimensionality"])
    for name, ours in (("taskType", "task_type"), ("title", "title")):
        if name in options:
            sent.body[ours] = options[name]
            sent.native.append(name)
    return sent


# --- comparing ---------------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Google's JSON in one of its several spellings: names in camel case, members that say nothing gone."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {camel(name): inner for name, inner in value.items() if inner is not None and inner is not False and inner != []}
    return {name: inner if name in OWN_JSON else plain(inner) for name, inner in named.items()}


def camel(name: str) -> str:
    """`top_k` → `topK`; what is in camel case stays."""
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def normal(body: dict[str, Any]) -> dict[str, Any]:
    """The same meaning in one form: neighbours of one role merged, functions in one list whatever tool they stand in, schemas
    under the newer name, nothing that says nothing."""
    result = {name: value for name, value in plain(body).items() if value not in ([], {}) and name != "model"}
    if "systemInstruction" in result:
        result["systemInstruction"] = result["systemInstruction"].get("parts")
    config = dict(result.get("generationConfig") or {})
    if "responseSchema" in config:
        config["responseJsonSchema"] = config.pop("responseSchema")
    if config:
        result["generationConfig"] = config
    if "contents" in result:
        result["contents"] = _turns(result["contents"])
    _normal_tools(result)
    return result


def _turns(contents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for content in contents:
        role = content.get("role") or "user"
        parts = [_normal_part(part) for part in content.get("parts") or [] if part != {"text": ""}]
        if turns and turns[-1]["role"] == role:
            turns[-1]["parts"] += parts
        elif parts:
            turns.append({"role": role, "parts": parts})
    return turns


def _normal_part(part: dict[str, Any]) -> dict[str, Any]:
    """Without the signature that stands for none, and without the type of a file that has an address."""
    part = dict(part)
    if part.get("thoughtSignature") == NO_SIGNATURE:
        del part["thoughtSignature"]
    if "fileData" in part:
        part["fileData"] = {key: value for key, value in part["fileData"].items() if key != "mimeType"}
    return part


def _normal_tools(result: dict[str, Any]) -> None:
    functions, own = [], []
    for tool in result.pop("tools", []):
        for function in tool.get("functionDeclarations") or []:
            schema = function.get("parametersJsonSchema", function.get("parameters"))
            kept = {name: value for name, value in function.items() if name not in ("parameters", "parametersJsonSchema")}
            functions.append(kept if schema is None else {**kept, "parametersJsonSchema": schema})
        own += [{name: value} for name, value in tool.items() if name != "functionDeclarations"]
    if functions or own:
        result["tools"] = {"functions": functions, "own": own}
    config = dict(result.pop("toolConfig", {}))
    # Without functions there is nothing to choose.
    if not functions and config.get("functionCallingConfig") == {"mode": "AUTO"}:
        del config["functionCallingConfig"]
    if config:
        result["toolConfig"] = config
