"""AWS's binary event stream: frames of headers and payload, each with two CRC-32 sums.

Both directions, for reading recorded bytes and for playing events of which only the decoded form was recorded. From the
documentation of the format, without any of the gateway's code.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

TEXT = 7


def encode(event: dict[str, Any]) -> bytes:
    """One frame of a recorded `{"event_type", "message_type", "payload"}`, or of `{name: payload}`."""
    name, kind, payload = _named(event)
    what = ":exception-type" if kind == "exception" else ":event-type"
    headers = b"".join(
        _header(*pair) for pair in ((what, name), (":content-type", "application/json"), (":message-type", kind))
    )
    data = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(data), len(headers))
    frame = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + data
    return frame + struct.pack(">I", zlib.crc32(frame))


def _named(event: dict[str, Any]) -> tuple[str, str, Any]:
    if "event_type" in event:
        return event["event_type"], event.get("message_type") or "event", event["payload"]
    ((name, payload),) = event.items()
    return name, "exception" if name.endswith("Exception") else "event", payload


def _header(name: str, value: str) -> bytes:
    return struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", TEXT, len(value)) + value.encode()


def decode(body: bytes) -> list[tuple[str, Any]]:
    """The events as (name, payload). Recorded frames are whole and right, so a wrong sum is an error here."""
    found, at = [], 0
    while at < len(body):
        length, headers_length = struct.unpack_from(">II", body, at)
        frame = body[at : at + length]
        if zlib.crc32(frame[:-4]) != struct.unpack(">I", frame[-4:])[0]:
            raise ValueError(f"a recorded frame at byte {at} has a wrong sum")
        headers = _headers(frame[12 : 12 + headers_length])
        name = headers.get(":event-type") or headers.get(":exception-type") or ""
        found.append((name, json.loads(frame[12 + headers_length : -4] or b"{}")))
        at += length
    return found


def _headers(block: bytes) -> dict[str, str]:
    """The headers; every one that Bedrock sends is a text."""
    found, at = {}, 0
    while at < len(block):
        size = block[at]
        name = block[at + 1 : at + 1 + size].decode()
        kind, length = struct.unpack_from(">BH", block, at + 1 + size)
        if kind != TEXT:
            raise ValueError(f"a header of type {kind}")
        at += 4 + size
        found[name] = block[at : at + length].decode()
        at += length
    return found
