"""The gateway's answer against the reading of the recording, aspect by aspect.

Not here: errors (`failures`), and the request that the provider received (`wires.base`, called by `received`).
"""

from __future__ import annotations

import json
from typing import Any

from gateway import AWS_KEY, AWS_TOKEN, PROVIDER_KEYS, Answer

from . import failures, shape, sigv4, untouched
from .reading import Choice, Reading, Usage, loose
from .result import Result
from .wires import Wire, openai

# The header that carries the key, by provider; all others have a bearer token.
KEY_HEADERS = {"anthropic": "x-api-key", "azure": "api-key", "gemini": "x-goog-api-key"}


def answer_of(result: Result, wire: Wire, answer: Answer) -> None:
    """Everything that the client got."""
    recording = result.recording
    wanted = wire.read(recording)
    aws = {"bedrock": AWS_KEY["secret_access_key"], "bedrock's session": AWS_TOKEN["session_token"]}
    for provider, key in [*PROVIDER_KEYS.items(), *aws.items()]:
        if key in answer.text or any(key in text for text in answer.headers.values()):
            result.fail("shape", f"the answer holds the stored key of {provider}")
    if not answer.headers.get("x-request-id"):
        result.fail("shape", "the answer has no x-request-id")
    if failures.is_failure(wanted, answer):
        failures.judge(result, wire, wanted, answer)
    elif answer.status != 200:
        result.fail("shape", f"status {answer.status}: {answer.text[:300]}")
    else:
        head(result, wire, answer)
        (embeddings if wire.operation == "/embeddings" else completion)(result, wire, wanted, answer)


def head(result: Result, wire: Wire, answer: Answer) -> None:
    """The head of a success."""
    streams = bool(result.sent.body.get("stream"))
    kind = answer.headers.get("content-type", "").split(";")[0]
    result.compare("shape", "content-type", kind, "text/event-stream" if streams else "application/json")
    provider = wire.placement(result.recording).provider
    result.compare("shape", "x-perpetuo-provider", answer.headers.get("x-perpetuo-provider"), provider)
    if result.sent.expected is not None and not result.sent.lost:
        result.compare("request", "warnings about a request that is whole", answer.headers.get("x-perpetuo-warnings"), None)


# --- completions -------------------------------------------------------------------------------------------------------


def completion(result: Result, wire: Wire, wanted: Reading, answer: Answer) -> None:
    """A chat completion, whole or streamed."""
    streams = bool(result.sent.body.get("stream"))
    got = openai.read(answer.status, answer.text, streams)
    if streams and not (result.sent.body.get("stream_options") or {}).get("include_usage"):
        wanted = wire.without_usage_chunk(result.recording, wanted)
    meaning(result, got, wanted)
    if wire.cites:
        citations(result, got, wanted)
    shape.check(result, got, wanted, streams)
    if wire.forwarded:
        untouched.check(result, got, wanted)


def meaning(result: Result, got: Reading, wanted: Reading) -> None:
    """Text, reasoning, calls, finish, usage and the stream's end."""
    result.compare("shape", "complete", got.complete, wanted.complete)
    if wanted.error or got.error:
        message = (got.error or {}).get("message")
        result.compare("error", "error in the stream", message, (wanted.error or {}).get("message"))
    usage(result, got.usage, wanted.usage)
    result.compare("shape", "number of choices", len(got.choices), len(wanted.choices))
    for index, (ours, theirs) in enumerate(zip(got.choices, wanted.choices)):
        for name in ("text", "reasoning", "refusal"):
            result.compare("text", f"choice {index} {name}", getattr(ours, name), getattr(theirs, name))
        result.compare("finish", f"choice {index}", ours.finish, theirs.finish)
        calls(result, index, ours, theirs)


def citations(result: Result, got: Reading, wanted: Reading) -> None:
    """Web pages are annotations in OpenAI's form, all others stand beside them; none is lost, whatever its place."""
    for index, (ours, theirs) in enumerate(zip(got.choices, wanted.choices)):
        both = (sorted(choice.citations, key=str) for choice in (ours, theirs))
        result.compare("text", f"choice {index} citations", *both)


def calls(result: Result, index: int, ours: Choice, theirs: Choice) -> None:
    """The tool calls, where there are any; ids that the gateway makes are its own and all different."""
    if not (ours.calls or theirs.calls or ours.function or theirs.function):
        return
    same = len(ours.calls) == len(theirs.calls) and all(a.same(b) for a, b in zip(ours.calls, theirs.calls))
    wanted = ours.calls if same else theirs.calls
    result.compare("tools", f"choice {index}", list(map(vars, ours.calls)), list(map(vars, wanted)))
    result.compare("tools", f"choice {index} function", ours.function, theirs.function)
    if ours.finish != "tool_calls":
        return
    for call, theirs_call in zip(ours.calls, theirs.calls):
        if not call.arguments and isinstance(loose(theirs_call.arguments), dict):
            result.fail("tools", f"choice {index}: no arguments, not even an empty object")
    ids = [call.id for call in ours.calls]
    if not all(ids) or len(set(ids)) < len(ids):
        result.fail("tools", f"choice {index}: ids {ids}")


def usage(result: Result, got: Usage | None, wanted: Usage | None) -> None:
    """Exact to the token. A provider that counts nothing may be told of as nothing."""
    if wanted is None and (got is None or got == Usage()):
        return
    result.compare("usage", "usage", got and vars(got), wanted and vars(wanted))


def booked(result: Result, wire: Wire, row: dict[str, Any], answer: Answer) -> None:
    """The ledger's row of the request. Where the provider counted nothing, the gateway estimates, which is not judged."""
    result.compare("usage", "the request in the log", row["request_id"], answer.headers.get("x-request-id"))
    read = wire.read(result.recording)
    if (counted := read.usage) is not None:
        own = max(counted.total, counted.prompt + counted.completion)
        result.compare("usage", "booked tokens", row["tokens"], own + read.others)


# --- embeddings --------------------------------------------------------------------------------------------------------


def embeddings(result: Result, _wire: Wire, wanted: Reading, answer: Answer) -> None:
    """A list of vectors in OpenAI's form."""
    body = json.loads(answer.text)
    result.compare("text", "vectors", [entry["embedding"] for entry in body["data"]], wanted.vectors)
    result.compare("shape", "object", body.get("object"), "list")
    rows = [(entry.get("object"), entry.get("index")) for entry in body["data"]]
    result.compare("shape", "rows", rows, [("embedding", index) for index in range(len(wanted.vectors))])
    if not isinstance(body.get("model"), str) or not body["model"]:
        result.fail("shape", f"model: {body.get('model')}")
    usage(result, openai.usage_of(body.get("usage")), wanted.usage)


# --- what the provider gets --------------------------------------------------------------------------------------------


def received(result: Result, wire: Wire, exchange: dict[str, Any], key: str) -> None:
    """The received request against the recorded one. `key` is the client's own."""
    recording, headers = result.recording, exchange["headers"]
    placement = wire.placement(recording)
    result.compare("request", "method and path", f"{exchange['method']} {exchange['path']}", f"POST {wire.path(recording)}")
    if placement.is_signed:
        result.compare("request", "signature", sigv4.problem(exchange, json.loads(placement.options)), None)
    else:
        name = KEY_HEADERS.get(placement.provider, "authorization")
        prefix = "Bearer " if name == "authorization" else ""
        result.compare("request", name, headers.get(name), prefix + PROVIDER_KEYS[placement.provider])
    if placement.provider == "anthropic":
        result.compare("request", "anthropic-version", headers.get("anthropic-version"), "2023-06-01")
    if key in json.dumps(exchange):
        result.fail("request", "the virtual key went to the provider")
    result.compare("request", "accept-encoding", headers.get("accept-encoding", "identity"), "identity")
    if result.sent.expected is not None:
        wire.check_request(result, result.sent, exchange)

