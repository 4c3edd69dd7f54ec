"""LangChain's ChatOpenAI against the gateway, for each provider."""

from __future__ import annotations

import json

import openai
import pytest
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI

import cells
import expect
from conftest import received
from expect import Choice, Reading
from gateway import Workspace
from recorded.failures import about_the_key
from staging import Stage

REFUSALS = {400: openai.BadRequestError, 401: openai.AuthenticationError, 404: openai.NotFoundError}


def chat(workspace: Workspace, model: str, **options) -> ChatOpenAI:
    options = {"max_retries": 0, "stream_usage": True, "use_responses_api": False, **options}
    return ChatOpenAI(model=model, base_url=workspace.base_url, api_key=workspace.key, **options)


def check(message: AIMessage, reading: Reading) -> None:
    """Text, calls, finish and usage as LangChain hands them to chains and agents."""
    choice: Choice = reading.choices[0]
    assert message.text == choice.text
    assert message.response_metadata["finish_reason"] == choice.finish
    # Groq's models also call with `null`, which LangChain files under the invalid calls.
    usable = [call for call in choice.calls if isinstance(expect.loose(call.arguments), dict)]
    # A call that came without an id has one of the gateway's.
    calls = [(call["name"], call["args"]) for call in message.tool_calls]
    assert calls == [(call.name, expect.loose(call.arguments)) for call in usable]
    assert all(got["id"] and call.id in (None, got["id"]) for got, call in zip(message.tool_calls, usable))
    assert [call["args"] for call in message.invalid_tool_calls] == ["null"] * (len(choice.calls) - len(usable))
    # LangChain adds up what the chunks say, so a provider that says it twice must be heard once.
    counted = message.usage_metadata
    assert counted["input_tokens"] == reading.usage.prompt
    assert counted["output_tokens"] == reading.usage.completion


def parameters(identity: str) -> tuple[str, list, list]:
    body = cells.request(identity)
    return body["model"], body["messages"], body.get("tools") or []


@pytest.mark.parametrize("identity", cells.ids("chat"))
def test_a_chat(on: Stage, identity: str) -> None:
    workspace = on.play(identity)
    model, messages, _ = parameters(identity)
    check(chat(workspace, model).invoke(messages), expect.reading(identity))


@pytest.mark.parametrize("identity", cells.ids("stream"))
def test_a_stream(on: Stage, identity: str) -> None:
    workspace = on.play(identity)
    model, messages, _ = parameters(identity)
    whole = None
    for chunk in chat(workspace, model).stream(messages):
        whole = chunk if whole is None else whole + chunk
    check(whole, expect.reading(identity))


@pytest.mark.parametrize("identity", cells.ids("tools"))
def test_tools(on: Stage, identity: str) -> None:
    workspace = on.play(identity)
    model, messages, tools = parameters(identity)
    check(chat(workspace, model).bind_tools(tools).invoke(messages), expect.reading(identity))


@pytest.mark.parametrize("identity", cells.ids("tools_stream"))
def test_streamed_tools(on: Stage, identity: str) -> None:
    workspace = on.play(identity)
    model, messages, tools = parameters(identity)
    whole = None
    for chunk in chat(workspace, model).bind_tools(tools).stream(messages):
        whole = chunk if whole is None else whole + chunk
    check(whole, expect.reading(identity))


@pytest.mark.parametrize("identity", cells.ids("structured"))
def test_structured_output(on: Stage, identity: str) -> None:
    workspace = on.play(identity)
    schema = {"title": "Answer", **cells.request(identity)["response_format"]["json_schema"]["schema"]}
    model, messages, _ = parameters(identity)
    structured = chat(workspace, model).with_structured_output(schema, method="json_schema", strict=True)
    assert structured.invoke(messages) == json.loads(expect.reading(identity).choices[0].text)


@pytest.mark.parametrize("identity", cells.ids("vision"))
def test_an_image_reaches_the_provider_in_its_own_form(on: Stage, identity: str) -> None:
    workspace = on.play(identity)
    model = cells.request(identity)["model"]
    message = chat(workspace, model).invoke([{"role": "user", "content": cells.LOOK}])
    check(message, expect.reading(identity))
    assert cells.saw_image(model.split("/")[0], json.loads(received(on)["body"]))


@pytest.mark.parametrize("identity", cells.ids("errors"))
def test_a_refusal_surfaces_as_openais_exception(on: Stage, identity: str) -> None:
    workspace = on.play(identity)
    recording = expect.load(identity)
    with pytest.raises(tuple(REFUSALS.values())) as raised:
        chat(workspace, cells.request(identity)["model"]).invoke("hi")
    assert raised.value.status_code == (401 if about_the_key(expect.reading(identity)) else recording.status)
    if raised.value.status_code == 401:
        assert raised.value.code == "provider_key_invalid"
    else:
        assert raised.value.body["message"] == expect.reading(identity).error["message"]


def test_an_upstream_that_hangs_ends_at_the_requests_own_deadline(on: Stage) -> None:
    on.replay.play({"hang": True})
    with pytest.raises(openai.InternalServerError) as raised:
        chat(on.workspace, "anthropic/slow", extra_body={"timeout": 1}).invoke("hi")
    assert (raised.value.status_code, raised.value.code) == (504, "deadline_exceeded")


@pytest.mark.parametrize("failure", cells.FAILURES)
def test_a_failing_provider_is_replaced_unseen(failing, failure: str) -> None:
    pair = failing(failure)
    _, second, identity = cells.FAILOVERS[failure]
    chunks = list(chat(pair.workspace, "team-model", include_response_headers=True).stream("hi"))
    assert "".join(chunk.text for chunk in chunks) == expect.reading(identity).choices[0].text
    headers = next(chunk.response_metadata["headers"] for chunk in chunks if "headers" in chunk.response_metadata)
    assert (headers["x-perpetuo-provider"], headers["x-perpetuo-attempts"]) == (second, "2")
