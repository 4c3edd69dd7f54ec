"""What a client must get when a provider fails, by status, inside a success, or by breaking off."""

from __future__ import annotations

import zlib

from gateway import Answer

from .reading import Reading
from .recording import Recording
from .result import Result
from .wires import Wire, openai

# The gateway's own codes for what a provider did.
CODES = {
    "rate_limit_exceeded", "provider_key_invalid", "provider_rejected", "provider_error", "provider_overloaded",
    "provider_unreachable", "provider_timeout", "provider_protocol_error", "stream_truncated", "model_not_found",
}  # fmt: skip


def is_failure(wanted: Reading, answer: Answer) -> bool:
    """Whether the client must get an error instead of an answer. Where something had come before the error, it may as well
    be an event of the stream, unless nothing was written yet."""
    said = any(choice.text or choice.reasoning or choice.calls for choice in wanted.choices)
    return wanted.status != 200 or (wanted.error is not None and (not said or answer.status != 200))


def client_status(status: int) -> int:
    """The status for the client: a provider's failure is a bad gateway, everything else is passed on."""
    return {503: 503, 529: 503, 504: 504, 408: 504}.get(status, 502 if status >= 500 else status)


def judge(result: Result, wire: Wire, wanted: Reading, answer: Answer) -> None:
    """A refusal: the provider's own status and words, except about its key."""
    provider = wire.placement(result.recording).provider
    error = answer.json().get("error") or {}
    result.compare("error", "keys", sorted({"message", "type", "param", "code"} - set(error)), [])
    result.compare("error", "x-perpetuo-provider", answer.headers.get("x-perpetuo-provider"), provider)
    words = (wanted.error or {}).get("message")
    if about_the_key(wanted):
        result.compare("error", "status", answer.status, 403 if wanted.status == 403 else 401)
        result.compare("error", "code", error.get("code"), "provider_key_invalid")
        if provider not in error.get("message", "") or (words and words in error["message"]):
            result.fail("error", f"message about the key: {error}")
        return
    if wanted.status != 200:
        result.compare("error", "status", answer.status, client_status(wanted.status))
    elif answer.status < 400:
        result.fail("error", f"status {answer.status}")
    if words:
        result.compare("error", "message", error.get("message"), words)
    wait = answer.headers.get("retry-after", "")
    if answer.status in (429, 503) and not wait.isdecimal():
        result.fail("error", f"retry-after: {wait!r}")
    code = (wanted.error or {}).get("code")
    if error.get("code") not in CODES | {str(code), (wanted.error or {}).get("status")}:
        result.fail("error", f"code: {error.get('code')}")
    if wire.forwarded:
        for name in ("type", "code", "param"):
            if isinstance((wanted.error or {}).get(name), str):
                result.compare("error", name, error.get(name), wanted.error[name])


def about_the_key(wanted: Reading) -> bool:
    """Google refuses a key with the status of a bad request."""
    details = (wanted.error or {}).get("details") or []
    reasons = {detail.get("reason") for detail in details if isinstance(detail, dict)}
    return wanted.status in (401, 403) or "API_KEY_INVALID" in reasons


def place_to_break(recording: Recording) -> int:
    """Where the connection closes: anywhere before the last third, in which ends and usage stand."""
    return zlib.crc32(recording.id.encode()) % (len(recording.body) * 2 // 3 + 1)


def broken_off(result: Result, answer: Answer, streams: bool) -> None:
    """A connection that closed in the middle: nothing may look complete."""
    if answer.status != 200:
        result.compare("shape", "broken off: status", answer.status >= 500, True)
        return
    if not streams:
        result.fail("shape", "broken off: a whole answer")
        return
    got = openai.read(200, answer.text, True)
    if got.complete or got.error is None or got.error.get("code") not in CODES:
        result.fail("shape", f"broken off: complete {got.complete}, error {got.error}")
