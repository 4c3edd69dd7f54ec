"""openai-python against the gateway: what an app with `OpenAI(base_url=…)` sees, for each provider.

Every answer and chunk is judged by OpenAI's description and by the SDK's own types, taken strictly.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import struct
import time
from contextlib import ExitStack

import openai
import pytest
from openai.resources import Embeddings
from openai.resources.chat import Completions
from pydantic import create_model

import cells
import described
import expect
from conftest import received
from expect import Call, Choice, Usage
from gateway import PROVIDER_KEYS, Gateway, Workspace
from recorded.failures import about_the_key
from staging import Stage, stage

TYPES = {"string": str, "integer": int, "number": float}
KNOWN = set(inspect.signature(Completions.create).parameters)
KNOWN_EMBEDDINGS = set(inspect.signature(Embeddings.create).parameters)
REFUSALS = {400: openai.BadRequestError, 401: openai.AuthenticationError, 404: openai.NotFoundError}


def client(workspace: Workspace, **options) -> openai.OpenAI:
    return openai.OpenAI(base_url=workspace.base_url, api_key=workspace.key, **{"max_retries": 0, **options})


def arguments(identity: str, known: set[str] = KNOWN) -> dict:
    """The recorded request as keyword arguments; what the SDK does not know goes through `extra_body`."""
    body = cells.request(identity)
    extra = {name: body.pop(name) for name in list(body) if name not in known}
    return {**body, "extra_body": extra}


def usage(value) -> Usage:
    return expect.usage_of(value.model_dump())


def calls(message) -> list[Call]:
    return [Call(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or []]


def same_calls(ours: list[Call], theirs: list[Call]) -> bool:
    """Whether the calls are the recorded ones and, as apps parse them, their arguments are JSON."""
    assert all(isinstance(json.loads(call.arguments), (dict, type(None))) for call in ours)
    return len(ours) == len(theirs) and all(a.same(b) for a, b in zip(ours, theirs))


def wanted(identity: str) -> tuple[Choice, Usage]:
    reading = expect.reading(identity)
    return reading.choices[0], reading.usage


def sound(answer):
    """An answer that OpenAI's description and the SDK's own types, taken strictly, agree with."""
    assert described.violations(answer.to_dict(), "answer") == []
    type(answer).model_validate_json(json.dumps(answer.to_dict()), strict=True)
    return answer


def join(chunks) -> tuple[Choice, Usage | None]:
    """A stream put together as apps do it; its chunks are as sound as an answer."""
    choice, counted, chunks = Choice(), None, list(chunks)
    assert described.stream_violations([chunk.to_dict() for chunk in chunks]) == []
    for chunk in chunks:
        type(chunk).model_validate_json(json.dumps(chunk.to_dict()), strict=True)
    for chunk in chunks:
        counted = usage(chunk.usage) if chunk.usage else counted
        for entry in chunk.choices:
            choice.text += entry.delta.content or ""
            choice.finish = entry.finish_reason or choice.finish
            for piece in entry.delta.tool_calls or []:
                while len(choice.calls) <= piece.index:
                    choice.calls.append(Call())
                call = choice.calls[piece.index]
                call.id = piece.id or call.id
                call.name += piece.function.name or ""
                call.arguments += piece.function.arguments or ""
    return choice, counted


@pytest.mark.parametrize("identity", cells.ids("chat"))
def test_a_chat(on: Stage, identity: str) -> None:
    workspace = on.play(identity)
    answer = sound(client(workspace).chat.completions.create(**arguments(identity)))
    choice, counted = wanted(identity)
    message = answer.choices[0].message
    assert (message.content, answer.choices[0].finish_reason) == (choice.text, choice.finish)
    assert usage(answer.usage) == counted
    assert answer.object == "chat.completion" and message.role == "assistant"
    reasoning = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    assert (reasoning or "") == choice.reasoning


@pytest.mark.parametrize("identity", cells.ids("stream"))
def test_a_stream(on: Stage, identity: str) -> None:
    workspace = on.play(identity)
    joined, counted = join(client(workspace).chat.completions.create(**arguments(identity)))
    choice, recorded = wanted(identity)
    assert (joined.text, joined.finish, counted) == (choice.text, choice.finish, recorded)


@pytest.mark.parametrize("identity", cells.ids("stream"))
def test_a_stream_through_the_sdks_own_helper(on: Stage, identity: str) -> None:
    workspace = on.play(identity)
    body = {name: value for name, value in arguments(identity).items() if name != "stream"}
    with client(workspace).chat.completions.stream(**body) as stream:
        final = stream.get_final_completion()
    choice, counted = wanted(identity)
    assert (final.choices[0].message.content, final.choices[0].finish_reason) == (choice.text, choice.finish)
    assert usage(final.usage) == counted


@pytest.mark.parametrize("identity", cells.ids("tools"))
def test_tools(on: Stage, identity: str) -> None:
    workspace = on.play(identity)
    answer = sound(client(workspace).chat.completions.create(**arguments(identity)))
    choice, counted = wanted(identity)
    assert same_calls(calls(answer.choices[0].message), choice.calls)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert (answer.choices[0].message.content or "") == choice.text
    assert usage(answer.usage) == counted


@pytest.mark.parametrize("identity", cells.ids("tools_stream"))
def test_streamed_tools(on: Stage, identity: str) -> None:
    workspace = on.play(identity)
    joined, counted = join(client(workspace).chat.completions.create(**arguments(identity)))
    choice, recorded = wanted(identity)
    assert same_calls(joined.calls, choice.calls)
    assert (joined.finish, counted) == ("tool_calls", recorded)


@pytest.mark.parametrize("identity", cells.ids("structured"))
def test_structured_output_is_parsed_into_the_apps_own_type(on: Stage, identity: str) -> None:
    workspace = on.play(identity)
    body = arguments(identity)
    schema = body.pop("response_format")["json_schema"]["schema"]
    fields = {name: (TYPES[kind["type"]], ...) for name, kind in schema["properties"].items()}
    body.pop("stream", None)
    answer = client(workspace).chat.completions.parse(**body, response_format=create_model("Answer", **fields))
    choice, _ = wanted(identity)
    assert answer.choices[0].message.parsed.model_dump() == json.loads(choice.text)
    # Bedrock takes the schema as a text, in which quotes are escaped.
    assert all(f'"{name}"' in received(on)["body"].replace("\\", "") for name in schema["properties"])


@pytest.mark.parametrize("identity", cells.ids("vision"))
def test_an_image_reaches_the_provider_in_its_own_form(on: Stage, identity: str) -> None:
    workspace = on.play(identity)
    model, messages = cells.request(identity)["model"], [{"role": "user", "content": cells.LOOK}]
    answer = sound(client(workspace).chat.completions.create(model=model, messages=messages))
    assert answer.choices[0].message.content == wanted(identity)[0].text
    assert cells.saw_image(model.split("/")[0], json.loads(received(on)["body"]))


@pytest.mark.parametrize("identity", cells.ids("errors"))
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_refusal_is_the_sdks_own_exception(on: Stage, identity: str, stream: bool) -> None:
    workspace = on.play(identity)
    recording = expect.load(identity)
    model = cells.request(identity)["model"]
    with pytest.raises(tuple(REFUSALS.values())) as raised:
        messages = [{"role": "user", "content": "hi"}]
        client(workspace).chat.completions.create(model=model, messages=messages, stream=stream)
    error = raised.value
    said = expect.reading(identity).error["message"]
    assert error.status_code == (401 if about_the_key(expect.reading(identity)) else recording.status) and error.request_id
    if error.status_code == 401:
        assert error.code == "provider_key_invalid" and recording.provider in error.message
        assert said not in error.message and PROVIDER_KEYS[recording.provider] not in error.message
    else:
        assert error.body["message"] == said and set(error.body) >= {"message", "type", "param", "code"}


def test_an_upstream_that_hangs_ends_at_the_requests_own_deadline(on: Stage) -> None:
    on.replay.play({"hang": True})
    with pytest.raises(openai.InternalServerError) as raised:
        messages = [{"role": "user", "content": "hi"}]
        options = {"timeout": 1}
        client(on.workspace).chat.completions.create(model="openai/slow", messages=messages, extra_body=options)
    assert (raised.value.status_code, raised.value.code) == (504, "deadline_exceeded")
    assert "timeout" not in json.loads(received(on)["body"])


def test_a_client_that_gives_up_takes_its_upstream_request_along(on: Stage) -> None:
    on.replay.play({"hang": True})
    with pytest.raises(openai.APITimeoutError):
        messages = [{"role": "user", "content": "hi"}]
        client(on.workspace, timeout=1).chat.completions.create(model="openai/slow", messages=messages)
    assert on.replay.left.wait(timeout=10), "the gateway went on waiting for an answer that nobody wants"


@pytest.mark.parametrize("identity", ["openai-chat-6840fd7bff67", "anthropic-messages-7bc22d1cf548"])
def test_content_arrives_while_the_provider_still_writes_and_leaving_stops_it(on: Stage, identity: str) -> None:
    on.replay.play({"id": identity, "cut": len(expect.load(identity).text) * 2 // 3, "hang": True})
    with client(on.workspace).chat.completions.create(**arguments(identity)) as stream:
        pieces = (entry.delta.content for chunk in stream for entry in chunk.choices)
        first = next(piece for piece in pieces if piece)
    assert wanted(identity)[0].text.startswith(first)
    assert on.replay.left.wait(timeout=10), "the gateway went on reading an answer that nobody wants"


def test_a_rate_limit_says_when_to_come_back(failing) -> None:
    pair = failing("429")
    pair.second.play({"status": 429, "headers": {"retry-after": "11"}})
    with pytest.raises(openai.RateLimitError) as raised:
        client(pair.workspace).chat.completions.create(model="team-model", messages=[{"role": "user", "content": "hi"}])
    assert 1 <= int(raised.value.response.headers["retry-after"]) <= 11


@pytest.mark.parametrize("identity", ["openai-chat-6840fd7bff67", "anthropic-messages-7bc22d1cf548"])
def test_a_broken_stream_does_not_look_complete(on: Stage, identity: str) -> None:
    on.replay.play({"id": identity, "cut": len(expect.load(identity).text) * 2 // 3})
    with pytest.raises(openai.APIError) as raised:
        for chunk in client(on.workspace).chat.completions.create(**arguments(identity)):
            assert not any(choice.finish_reason for choice in chunk.choices)
    assert raised.value.code == "stream_truncated"


@pytest.mark.parametrize("failure", cells.FAILURES)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_failing_provider_is_replaced_unseen(failing, failure: str, stream: bool) -> None:
    pair = failing(failure)
    _, second, identity = cells.FAILOVERS[failure]
    completions = client(pair.workspace).chat.completions.with_raw_response
    messages = [{"role": "user", "content": "hi"}]
    if not stream:
        pair.second.play(cells.TABLE[second]["chat"][0])
        identity = cells.TABLE[second]["chat"][0]
    raw = completions.create(model="team-model", messages=messages, stream=stream)
    answer = raw.parse()
    text = join(answer)[0].text if stream else answer.choices[0].message.content
    assert text == wanted(identity)[0].text
    assert (raw.headers["x-perpetuo-provider"], raw.headers["x-perpetuo-attempts"]) == (second, "2")
    assert len(pair.first.seen) == len(pair.second.seen) == 1
    assert json.loads(pair.second.seen[0]["body"])["model"] == f"{second}-model"


@pytest.mark.parametrize("failure", cells.FAILURES)
def test_when_every_provider_fails_the_status_says_how(failing, failure: str) -> None:
    pair = failing(failure)
    pair.second.play(cells.FAILURES[failure])
    with pytest.raises(openai.APIStatusError) as raised:
        client(pair.workspace).chat.completions.create(model="team-model", messages=[{"role": "user", "content": "hi"}])
    assert raised.value.status_code == cells.EXPECTED_STATUS[failure]


def test_what_a_provider_cannot_take_is_said_and_in_strict_mode_refused(on: Stage) -> None:
    identity = cells.TABLE["anthropic"]["chat"][0]
    on.replay.play(identity, identity)
    body = {"model": "anthropic/claude-haiku-4-5", "messages": [{"role": "user", "content": "hi"}], "seed": 7}
    completions = client(on.workspace).chat.completions
    raw = completions.with_raw_response.create(**body, temperature=1.5)
    assert {"seed", "temperature"} <= set(raw.headers["x-perpetuo-warnings"].replace(" ", "").split(","))
    sent = json.loads(received(on)["body"])
    assert sent["temperature"] == 1.0 and "seed" not in sent
    with pytest.raises(openai.BadRequestError) as raised:
        completions.create(**body, extra_headers={"x-perpetuo-strict": "true"})
    assert "seed" in raised.value.message and len(on.replay.seen) == 1


def floats(vector: str | list[float]) -> bytes:
    """A vector as the bytes of its numbers, which base64 is already."""
    return base64.b64decode(vector) if isinstance(vector, str) else struct.pack(f"<{len(vector)}f", *vector)


@pytest.mark.parametrize("identity", cells.ids("embeddings"))
def test_embeddings_as_the_sdk_asks_for_them(on: Stage, identity: str) -> None:
    workspace = on.play(identity)
    answer = client(workspace).embeddings.create(**arguments(identity, KNOWN_EMBEDDINGS))
    reading = expect.reading(identity)
    assert [floats(entry.embedding) for entry in answer.data] == [floats(vector) for vector in reading.vectors]
    assert answer.usage.total_tokens == (reading.usage.total if reading.usage else 0)
    assert described.violations(answer.to_dict(), "embeddings") == []


def test_every_token_is_booked(gateway: Gateway) -> None:
    features = ("chat", "stream", "tools", "tools_stream")
    expected: dict[str, int] = {}
    tenants: dict[str, Workspace] = {}
    with ExitStack() as resources:
        mine = stage(gateway, "booked", resources)
        for identity in [identity for feature in features for identity in cells.ids(feature)]:
            tenant = mine.play(identity)
            answer = client(tenant).chat.completions.create(**arguments(identity))
            if isinstance(answer, openai.Stream):
                join(answer)
            tenants[tenant.id] = tenant
            used = wanted(identity)[1]
            expected[tenant.id] = expected.get(tenant.id, 0) + used.prompt + used.completion
        for name, tenant in tenants.items():
            booked = usage_once_booked(tenant, expected[name])
            tokens = {provider: entry["tokens"] for provider, entry in booked["by_provider"].items()}
            assert (booked["total_tokens"], sum(tokens.values())) == (expected[name], expected[name]), tokens


def usage_once_booked(workspace: Workspace, tokens: int) -> dict:
    """The usage, when the writer behind the requests has caught up, or as it is after ten seconds."""
    deadline = time.monotonic() + 10
    while True:
        booked = workspace.gateway.admin("GET", f"/workspaces/{workspace.id}/usage")
        if booked["total_tokens"] >= tokens or time.monotonic() > deadline:
            return booked
        time.sleep(0.02)


def test_models_are_listed_and_found(on: Stage) -> None:
    models = client(on.workspace).models
    listed = [model.id for model in models.list()]
    assert listed == [model.id for model in models.list()] and len(listed) == len(set(listed)) > 3
    assert models.retrieve(listed[0]).id == listed[0]
    with pytest.raises(openai.NotFoundError):
        models.retrieve("no-such-model")


def test_a_bad_key_is_the_apps_own_fault(on: Stage) -> None:
    stranger = openai.OpenAI(base_url=on.workspace.base_url, api_key="pk_unknown", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as raised:
        stranger.models.list()
    assert raised.value.code == "invalid_api_key"


def test_an_asynchronous_client_streams_too(on: Stage) -> None:
    identity = cells.TABLE["anthropic"]["stream"][0]
    workspace = on.play(identity)

    async def run() -> str:
        options = {"base_url": workspace.base_url, "api_key": workspace.key, "max_retries": 0}
        async with openai.AsyncOpenAI(**options) as asynchronous:
            stream = await asynchronous.chat.completions.create(**arguments(identity))
            return "".join([entry.delta.content or "" async for chunk in stream for entry in chunk.choices])

    assert asyncio.run(run()) == wanted(identity)[0].text
