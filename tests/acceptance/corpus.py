"""Every chat recording of OpenAI, Groq and Anthropic through a running gateway, over plain HTTP.

For each one the recorded answer is played by a provider of its own, a fitting request is sent to the gateway, and two
directions are compared: what the client gets with an independent reading of the recording, and what the provider gets
with the recorded request. Anthropic's answers are then handed back as part of the conversation, as agents do it: the
provider must get its own blocks again, reasoning and signatures included. Prints a table; exits with 1 if anything
differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from queue import Empty, Queue
from typing import Any

import expect
from expect import Choice, Reading, Recording
from gateway import PROVIDER_KEYS, Answer, Gateway, Stage, stage
from requests_of import HI, Sent, normal, request_of

WORKERS = 6
# How much of a request could be compared.
KINDS = {"whole": "whole", "native": "with Anthropic's own names", "part": "in part", "none": "not"}
PATHS = {"openai": "/v1/chat/completions", "groq": "/openai/v1/chat/completions", "anthropic": "/v1/messages"}
# The gateway sees for itself that nobody could answer these; nothing is spent on asking.
REFUSED_HERE = {"openai-chat-01eaa4efae92": "messages"}


@dataclass
class Result:
    """What one recording showed."""

    recording: Recording
    request: str = "whole"
    sent: Sent | None = None
    differences: list[str] = field(default_factory=list)

    def compare(self, what: str, got: Any, wanted: Any) -> None:
        """Notes a difference, shortened to where it begins."""
        if got != wanted:
            self.differences.append(f"{what}: expected {short(wanted)}, got {short(got)}")


def short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=vars)
    return text if len(text) <= 300 else f"{text[:300]}… ({len(text)} characters)"


# --- what the client gets ----------------------------------------------------------------------------------------------


def check_answer(result: Result, sent: Sent, answer: Answer) -> None:
    """The answer against the recording."""
    wanted = result.recording.reading()
    for name, key in PROVIDER_KEYS.items():
        if key in answer.text or any(key in text for text in answer.headers.values()):
            result.differences.append(f"the answer holds the stored key of {name}")
    if not answer.headers.get("x-request-id"):
        result.differences.append("the answer has no x-request-id")
    if wanted.status != 200:
        return check_error(result, wanted, answer)
    result.compare("status", answer.status, 200)
    if answer.status != 200:
        result.differences.append(answer.text[:300])
        return None
    streams = bool(sent.body.get("stream"))
    kind = answer.headers.get("content-type", "").split(";")[0]
    result.compare("content-type", kind, "text/event-stream" if streams else "application/json")
    result.compare("x-perpetuo-provider", answer.headers.get("x-perpetuo-provider"), result.recording.provider)
    got = expect.read_openai(answer.status, answer.text, streams)
    if streams and not (sent.body.get("stream_options") or {}).get("include_usage"):
        wanted = without_usage_chunk(result.recording)
    check_meaning(result, got, wanted)
    if result.recording.provider != "anthropic":
        check_untouched(result, got, wanted)
    else:
        check_shape(result, got, streams)
    return None


def check_meaning(result: Result, got: Reading, wanted: Reading) -> None:
    """Text, reasoning, calls, finish, usage and the stream's end."""
    result.compare("complete", got.complete, wanted.complete)
    result.compare("error in the stream", (got.error or {}).get("message"), (wanted.error or {}).get("message"))
    result.compare("usage", got.usage, wanted.usage)
    result.compare("number of choices", len(got.choices), len(wanted.choices))
    for index, (ours, theirs) in enumerate(zip(got.choices, wanted.choices)):
        for name in ("text", "reasoning", "refusal", "finish", "function"):
            result.compare(f"choice {index} {name}", getattr(ours, name), getattr(theirs, name))
        if not same_calls(ours, theirs):
            result.compare(f"choice {index} calls", [vars(c) for c in ours.calls], [vars(c) for c in theirs.calls])


def same_calls(ours: Choice, theirs: Choice) -> bool:
    return len(ours.calls) == len(theirs.calls) and all(a.same(b) for a, b in zip(ours.calls, theirs.calls))


def check_untouched(result: Result, got: Reading, wanted: Reading) -> None:
    """A provider that speaks OpenAI's API is passed on with every field it sent, known or not. Usage that came along with
    choices may stand in OpenAI's own usage chunk instead."""
    ours, theirs = (got.chunks, wanted.chunks) if wanted.body is None else ([got.body], [wanted.body])
    ours, theirs = ([value for value in values if not value.get("error")] for values in (ours, theirs))
    result.compare("number of chunks", len(ours), len(theirs))
    told = [value["usage"] for value in ours if value.get("usage") and not value.get("choices")]
    for index, (value, recorded) in enumerate(zip(ours, theirs)):
        if recorded.get("choices") and recorded.get("usage") in told and value.get("usage") is None:
            recorded = {**recorded, "usage": None}
        if lacking := lacks(value, recorded):
            result.differences.append(f"chunk {index} lacks {lacking}")


def lacks(value: Any, recorded: Any, path: str = "$") -> str | None:
    """The first place where the recorded JSON is not found again; more may be there."""
    if isinstance(recorded, dict) and isinstance(value, dict):
        missing = (f"{path}.{key}" for key in recorded if key not in value)
        inner = (lacks(value[key], recorded[key], f"{path}.{key}") for key in recorded if key in value)
        return next(missing, None) or next(filter(None, inner), None)
    if isinstance(recorded, list) and isinstance(value, list) and len(recorded) == len(value):
        inner = (lacks(*both, f"{path}[{index}]") for index, both in enumerate(zip(value, recorded)))
        return next(filter(None, inner), None)
    return None if value == recorded else f"{path}: expected {short(recorded)}, got {short(value)}"


def check_shape(result: Result, got: Reading, streams: bool) -> None:
    """Keys that OpenAI's schema requires, and one identity throughout a stream."""
    values = got.chunks if streams else [got.body]
    wanted = "chat.completion.chunk" if streams else "chat.completion"
    for value in values:
        result.compare("object", value.get("object"), wanted)
        for choice in value.get("choices", []):
            missing = {"index", "finish_reason", "delta" if streams else "message"} - set(choice)
            result.compare("missing keys of a choice", sorted(missing), [])
    for choice in got.choices:
        for call in choice.calls if choice.finish == "tool_calls" else []:
            result.compare("arguments are an object", isinstance(json.loads(call.arguments), dict), True)
    for name in ("id", "model", "created"):
        result.compare(f"different values of {name}", len({value.get(name) for value in values}), 1)


def without_usage_chunk(recording: Recording) -> Reading:
    """The reading for a client that did not ask for the usage chunk."""
    blocks = recording.text.replace("\r\n", "\n").split("\n\n")
    kept = [block for block in blocks if not is_usage_chunk(block)]
    return expect.read_openai(recording.status, "\n\n".join(kept), True)


def is_usage_chunk(block: str) -> bool:
    _, found, data = block.partition("data: ")
    if not found or data.startswith("[DONE]"):
        return False
    chunk = json.loads(data)
    return chunk.get("choices") == [] and bool(chunk.get("usage"))


def check_error(result: Result, wanted: Reading, answer: Answer) -> None:
    """A refusal: the provider's own status and words, except about its key."""
    result.compare("status", answer.status, wanted.status)
    error = answer.json()["error"]
    result.compare("keys of the error", sorted({"message", "type", "param", "code"} - set(error)), [])
    if wanted.status in (401, 403):
        result.compare("code", error["code"], "provider_key_invalid")
        if result.recording.provider not in error["message"] or wanted.error["message"] in error["message"]:
            result.differences.append(f"message about the key: {error['message']}")
        return
    result.compare("message", error["message"], wanted.error["message"])
    names = ("type",) if result.recording.provider == "anthropic" else ("type", "code", "param")
    for name in names:
        if wanted.error.get(name) is not None:
            result.compare(f"error {name}", error[name], wanted.error[name])


# --- what the provider gets --------------------------------------------------------------------------------------------


def check_request(result: Result, sent: Sent, exchange: dict[str, Any], key: str) -> None:
    """The received request against the recorded one."""
    provider = result.recording.provider
    result.compare("method and path", f"{exchange['method']} {exchange['path']}", f"POST {PATHS[provider]}")
    headers = exchange["headers"]
    if provider == "anthropic":
        result.compare("x-api-key", headers.get("x-api-key"), PROVIDER_KEYS[provider])
        result.compare("anthropic-version", headers.get("anthropic-version"), "2023-06-01")
    else:
        result.compare("authorization", headers.get("authorization"), f"Bearer {PROVIDER_KEYS[provider]}")
    if key in json.dumps(exchange):
        result.differences.append("the virtual key went to the provider")
    result.compare("accept-encoding", headers.get("accept-encoding", "identity"), "identity")
    if sent.expected is None:
        result.request = "none"
        return
    received, expected = json.loads(exchange["body"]), sent.expected
    if provider == "anthropic":
        received, expected = normal(received), normal(expected)
    if sent.native or sent.lost:
        result.request = "part" if sent.lost else "native"
    for name in sorted(set(received) | set(expected)):
        if not (sent.lost and name not in expected):
            result.compare(f"request {name}", received.get(name, "nothing"), expected.get(name, "nothing"))


# --- the answer handed back --------------------------------------------------------------------------------------------


def check_handed_back(result: Result, on: Stage, reading: Reading) -> None:
    """The answer as part of the next request: Anthropic must get the very blocks that it gave."""
    message = message_of(reading)
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "ok"} for call in message.get("tool_calls") or []]
    messages = [HI[0], message, *results, {"role": "user", "content": "go on"}]
    on.replay.play(result.recording.id)
    body = {"model": "anthropic/claude-sonnet-4-5", "messages": messages, "stream": result.recording.stream}
    answer = on.workspace.post("/chat/completions", body)
    if answer.status != 200:
        result.differences.append(f"handed back: {answer.status} {answer.text}")
        return
    turns = normal(json.loads(on.replay.seen[0]["body"]))["messages"]
    got = [block for turn in turns if turn["role"] == "assistant" for block in turn["content"]]
    wanted = normal({"messages": [{"role": "assistant", "content": blocks_of(result.recording)}]})["messages"]
    blocks = wanted[0]["content"] if wanted else []
    result.compare("handed back", [plain(block, answer) for block in got], [plain(block, answer) for block in blocks])


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
    for _name, data in expect.events(recording.text):
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


# --- running -----------------------------------------------------------------------------------------------------------


def exchange(on: Stage, recording: Recording) -> Result:
    """Plays one recording and compares both directions."""
    sent = request_of(recording)
    result = Result(recording, sent=sent)
    on.replay.play(recording.id)
    answer = on.workspace.post("/chat/completions", sent.body)
    seen = list(on.replay.seen)
    if recording.id in REFUSED_HERE:
        result.compare("status", answer.status, 400)
        result.compare("param", answer.json()["error"]["param"], REFUSED_HERE[recording.id])
        result.compare("requests to the provider", len(seen), 0)
        result.request = "none"
        sent.lost.append("the gateway refuses it without asking")
        return result
    result.compare("requests to the provider", len(seen), 1)
    for received in seen[:1]:
        check_request(result, sent, received, on.workspace.key)
    check_answer(result, sent, answer)
    if recording.provider == "anthropic" and answer.status == 200:
        check_handed_back(result, on, expect.read_openai(200, answer.text, recording.stream))
    return result


def work(on: Stage, todo: Queue[Recording], done: list[Result]) -> None:
    while True:
        try:
            recording = todo.get_nowait()
        except Empty:
            return
        try:
            done.append(exchange(on, recording))
        except Exception as cause:  # One recording's failure must not hide the others'.
            done.append(Result(recording, differences=[f"{type(cause).__name__}: {cause}"]))


def run(gateway: Gateway, recordings: list[Recording], seed: int, workers: int) -> list[Result]:
    """All recordings, each worker with a tenant and providers of its own."""
    todo: Queue[Recording] = Queue()
    for recording in recordings:
        todo.put(recording)
    done: list[Result] = []
    with ExitStack() as resources:
        stages = [stage(gateway, f"corpus {number}", resources, seed) for number in range(workers)]
        threads = [threading.Thread(target=work, args=(on, todo, done)) for on in stages]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return sorted(done, key=lambda result: result.recording.id)


def report(results: list[Result], seconds: float) -> None:
    """The differences, the reasons, and the table."""
    for result in results:
        for difference in result.differences:
            print(f"FAILED {result.recording.id}: {difference}")
    sent = [result.sent for result in results if result.sent]
    explain("said with Anthropic's own names, because OpenAI's API has no word for it", [one.native for one in sent])
    explain("requests that could not be compared, or not whole", [one.lost for one in sent])
    titles = "".join(f"{title:>12}" for title in ("recordings", "passed", "failed"))
    print(f"\n{'provider':12}{titles}   requests: {', '.join(KINDS.values())}")
    for provider in expect.ENDPOINTS:
        mine = [result for result in results if result.recording.provider == provider]
        failed = sum(bool(result.differences) for result in mine)
        kinds = Counter(result.request for result in mine)
        counts = "".join(f"{count:>12}" for count in (len(mine), len(mine) - failed, failed))
        print(f"{provider:12}{counts}             {', '.join(str(kinds[kind]) for kind in KINDS)}")
    print(f"{len(results)} recordings in {seconds:.1f} s")


def explain(title: str, reasons: list[list[str]]) -> None:
    """How many recordings had which reason."""
    counts = Counter(reason for some in reasons for reason in set(some))
    if counts:
        print(f"\n{title}:")
    for reason, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
        print(f"{count:6}  {reason}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="where streams are cut (default 1)")
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("ids", nargs="*", help="only these recordings")
    options = parser.parse_args()
    if not expect.CORPUS.is_dir():
        print(expect.NO_CORPUS)
        return 0
    recordings = [expect.load(name) for name in options.ids]
    recordings = recordings or [recording for provider in expect.ENDPOINTS for recording in expect.all_of(provider)]
    with Gateway() as gateway:
        started = time.monotonic()
        results = run(gateway, recordings, options.seed, options.workers)
        report(results, time.monotonic() - started)
    return 1 if any(result.differences for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
